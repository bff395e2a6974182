//! A connection's bytes, in clear or over TLS. Runs on whichever thread has the connection: its own, or that of the events.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConnection;

/// How a TLS client begins: a handshake record.
const HANDSHAKE: u8 = 0x16;

/// Bytes that are encrypted at once: a record of TLS. What is encrypted and not yet sent is not more than a few of these.
const RECORD: usize = 16 * 1024;

/// A connection, encrypted or not. Its timeouts, and whether it blocks, are those of `tcp`.
pub(super) struct Socket {
    pub(super) tcp: Arc<TcpStream>,
    /// Whoever has the connection is the only one to take the lock.
    tls: Option<Mutex<Box<ServerConnection>>>,
}

/// How a connection to a port of TLS begins.
#[derive(Debug, PartialEq)]
pub(super) enum Beginning {
    /// With a handshake.
    Tls,
    /// With something else, such as plain HTTP.
    Plain,
    /// Not at all: it was closed, or nothing came in time.
    Nothing,
}

impl Socket {
    /// In clear.
    pub(super) fn plain(tcp: Arc<TcpStream>) -> Self {
        Self { tcp, tls: None }
    }

    /// Over TLS: [`Socket::handshake`] comes before all else.
    pub(super) fn encrypted(tcp: Arc<TcpStream>, session: ServerConnection) -> Self {
        Self { tcp, tls: Some(Mutex::new(Box::new(session))) }
    }

    /// What a client begins with, without taking it.
    pub(super) fn beginning(tcp: &TcpStream, deadline: Instant) -> io::Result<Beginning> {
        tcp.set_read_timeout(Some(left(deadline)?))?;
        let mut first = [0];
        Ok(match tcp.peek(&mut first) {
            Ok(0) => Beginning::Nothing,
            Ok(_) if first[0] == HANDSHAKE => Beginning::Tls,
            Ok(_) => Beginning::Plain,
            Err(error) if is_wait(&error) => Beginning::Nothing,
            Err(error) => return Err(error),
        })
    }

    /// Agrees with the client on keys, however slowly it sends its part, until `deadline`.
    pub(super) fn handshake(&self, deadline: Instant) -> io::Result<()> {
        let Some(session) = &self.tls else { return Ok(()) };
        let mut session = session.lock();
        while session.is_handshaking() {
            let left = left(deadline)?;
            self.tcp.set_read_timeout(Some(left))?;
            self.tcp.set_write_timeout(Some(left))?;
            match self.take(&mut session) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is, as [`Read::read`] does; 0 at the end. Over TLS it may return `WouldBlock` also where it blocks:
    /// what came holds nothing to read yet.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &self.tls else { return (&*self.tcp).read(buffer) };
        let mut session = session.lock();
        match decrypted(&mut session, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        match self.take(&mut session)? {
            0 => Ok(0),
            _ => decrypted(&mut session, buffer),
        }
    }

    /// Writes some of `bytes`, as [`Write::write`] does. Over TLS they may be encrypted and not sent: see [`Socket::flush`].
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &self.tls else { return (&*self.tcp).write(bytes) };
        let mut session = session.lock();
        // First what is left of the last time: nothing piles up.
        self.send(&mut session)?;
        let count = session.writer().write(&bytes[..bytes.len().min(RECORD)])?;
        match self.send(&mut session) {
            // It is taken, and goes out with the next call.
            Err(error) if is_wait(&error) => Ok(count),
            sent => sent.map(|()| count),
        }
    }

    /// Sends what [`Socket::write`] has taken and not sent.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |session| self.send(&mut session.lock()))
    }

    /// Whether there is something for [`Socket::flush`] to do.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.lock().wants_write())
    }

    /// Tells the client that nothing more comes.
    pub(super) fn end(&self) -> io::Result<()> {
        if let Some(session) = &self.tls {
            let mut session = session.lock();
            session.send_close_notify();
            // Who does not take it sees the end of the connection.
            let _ = self.send(&mut session);
        }
        self.tcp.shutdown(Shutdown::Write)
    }

    /// Takes encrypted bytes, and sends what TLS itself has to answer; 0 at the end.
    fn take(&self, session: &mut ServerConnection) -> io::Result<usize> {
        let count = session.read_tls(&mut &*self.tcp)?;
        if let Err(error) = session.process_new_packets() {
            // The alert tells the client why; one that does not pass is no loss.
            let _ = self.send(session);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.send(session)?;
        Ok(count)
    }

    fn send(&self, session: &mut ServerConnection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut &*self.tcp)?;
        }
        Ok(())
    }
}

/// What was decrypted and not read yet. The end of a connection counts as an end also where the client did not announce it:
/// a request tells its own length.
fn decrypted(session: &mut ServerConnection, buffer: &mut [u8]) -> io::Result<usize> {
    match session.reader().read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Whether nothing is wrong but that it takes longer.
fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
