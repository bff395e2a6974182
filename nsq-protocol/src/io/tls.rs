//! One TLS session of an NSQ connection: its encryption, without IO.
//!
//! A session is shared by the reader and the writer thread. Its lock is held to encrypt or decrypt in memory,
//! never over a socket call, so that a reader that waits for the peer cannot keep the writer waiting. Only the
//! writer takes encrypted bytes out, so their order on the wire is the order in which they were made; what the
//! reader makes the session say (an alert, a refused renegotiation) is left there and the writer woken.

use std::io::{self, Read, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::Connection;

use crate::error::Error;
use crate::io::tls_config::TlsConfig;
use crate::io::tls_fault::TlsFault;

/// Encrypted bytes that are read at once and kept until they are decrypted: two records of TLS and some.
const INPUT: usize = 40 << 10;

/// What an emptied buffer of encrypted bytes keeps: one piece of [`crate::io::transport`] and its overhead.
const OUTPUT_AT_REST: usize = 128 << 10;

/// A session to begin with the nsqd at `addr`, `host:port`.
///
/// # Errors
/// [`Error::Config`] for a fault in the files, or a host that no certificate can name.
pub(crate) fn session(config: &TlsConfig, addr: &str) -> Result<(TlsReader, TlsWriter), Error> {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    Ok(both_sides(config.connection(host)?.into(), addr))
}

/// The two sides of a session that is about to begin with the peer at `addr`.
pub fn both_sides(mut session: Connection, addr: &str) -> (TlsReader, TlsWriter) {
    // The writer takes out at once what it puts in, a piece at a time.
    session.set_buffer_limit(None);
    let session = Arc::new(Mutex::new(session));
    let addr: Arc<str> = addr.into();
    let reader = TlsReader {
        addr: addr.clone(),
        session: session.clone(),
        input: vec![0; INPUT],
        start: 0,
        end: 0,
        flush: false,
    };
    (reader, TlsWriter { addr, session, output: Vec::new() })
}

fn tls_error(addr: &str, source: rustls::Error) -> Error {
    let hint = TlsFault::of(&source).hint();
    let source = Arc::new(io::Error::new(io::ErrorKind::InvalidData, source));
    Error::Tls { addr: addr.to_owned(), hint, source }
}

/// What decrypting gave.
pub(crate) enum Decrypted {
    /// That many bytes, at least one.
    Bytes(usize),
    /// Nothing yet: more encrypted bytes are needed.
    Starved,
    /// The peer said that it sends no more.
    Closed,
}

/// The receiving side of a session.
pub struct TlsReader {
    addr: Arc<str>,
    session: Arc<Mutex<Connection>>,
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What came made the session say something that the writer has yet to pass on.
    flush: bool,
}

impl TlsReader {
    /// Where the next encrypted bytes belong, once [`TlsReader::read`] is starved.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        // Starved means that the session took all there was.
        (self.start, self.end) = (0, 0);
        &mut self.input
    }

    /// Says that `count` bytes were written to the front of [`TlsReader::space`].
    pub(crate) fn advance(&mut self, count: usize) {
        self.end += count;
    }

    /// Decrypts what there is, into `out`, which is not empty. Takes no more of the input than fills it.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<Decrypted, Error> {
        let failed = |addr: &str, error| Error::Tls {
            addr: addr.to_owned(),
            hint: "",
            source: Arc::new(error),
        };
        let mut session = self.session.lock();
        loop {
            match session.reader().read(out) {
                Ok(0) => return Ok(Decrypted::Closed),
                Ok(count) => return Ok(Decrypted::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&self.addr, error)),
            }
            if self.start == self.end {
                return Ok(Decrypted::Starved);
            }
            let mut input = &self.input[self.start..self.end];
            // Without decrypted bytes waiting, which was just seen, the session always takes some.
            let count = session.read_tls(&mut input).map_err(|error| failed(&self.addr, error))?;
            self.start += count;
            session.process_new_packets().map_err(|error| tls_error(&self.addr, error))?;
            self.flush |= session.wants_write();
        }
    }

    /// During the handshake: as [`TlsReader::read`], but for handshake messages. True when it is complete.
    pub(crate) fn shake_hands(&mut self) -> Result<bool, Error> {
        let mut session = self.session.lock();
        while session.is_handshaking() && self.start < self.end && !session.wants_write() {
            let mut input = &self.input[self.start..self.end];
            let count = session.read_tls(&mut input).map_err(|error| Error::Tls {
                addr: self.addr.to_string(),
                hint: "",
                source: Arc::new(error),
            })?;
            if count == 0 {
                // It was closed, in order, in the middle of the handshake.
                return Err(Error::Closed { addr: self.addr.to_string() });
            }
            self.start += count;
            session.process_new_packets().map_err(|error| tls_error(&self.addr, error))?;
        }
        Ok(!session.is_handshaking())
    }

    /// Whether encrypted bytes are there that neither call has taken yet.
    pub(crate) fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// Whether the writer must be woken.
    pub(crate) fn wants_flush(&self) -> bool {
        self.flush
    }

    /// As [`TlsReader::wants_flush`], which is false from then on.
    pub(crate) fn take_flush(&mut self) -> bool {
        std::mem::take(&mut self.flush)
    }
}

/// The sending side of a session.
pub struct TlsWriter {
    addr: Arc<str>,
    session: Arc<Mutex<Connection>>,
    output: Vec<u8>,
}

impl TlsWriter {
    /// Encrypts `bytes` behind whatever the session itself has to say; perhaps nothing.
    pub(crate) fn encrypt(&mut self, bytes: &[u8]) -> Result<&[u8], Error> {
        let failed =
            |source| Error::Tls { addr: self.addr.to_string(), hint: "", source: Arc::new(source) };
        self.output.clear();
        self.output.shrink_to(OUTPUT_AT_REST);
        let mut session = self.session.lock();
        session.writer().write_all(bytes).map_err(failed)?;
        while session.wants_write() {
            session.write_tls(&mut self.output).map_err(failed)?;
        }
        Ok(&self.output)
    }

    pub(crate) fn with_session<R>(&self, ask: impl FnOnce(&Connection) -> R) -> R {
        ask(&self.session.lock())
    }

    /// The last words: that no more will come.
    pub(crate) fn close(&mut self) -> Result<&[u8], Error> {
        self.session.lock().send_close_notify();
        self.encrypt(b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        let session = |addr| session(&TlsConfig::new(), addr).map(drop);
        for addr in ["127.0.0.1:4150", "[::1]:4150", "nsqd.example:4150"] {
            session(addr).unwrap();
        }
        let error = session("a b:4150").unwrap_err().to_string();
        assert_eq!(error, r#""a b" can be in no certificate: set the TLS server name"#);
    }
}
