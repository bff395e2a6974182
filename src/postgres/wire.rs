//! One socket to one server, what lies between it and the messages, and every wait on it. The only file here that
//! touches a socket. Runs on the thread that calls.
//!
//! The socket never blocks: writing and reading take turns, so that two sides that both send much do not wait for each
//! other for ever, and `poll` waits for whichever can go on.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::answers::next_message;
use super::error::{PgError, PgErrorKind};
use super::tls::PgTls;

/// What is read at once, bytes.
const READ: usize = 64 << 10;

/// What must have moved within a limit on waiting, bytes: a server that trickles is given up, a slow link is not.
const CHUNK: usize = 64 << 10;

/// What an empty buffer keeps, bytes.
const AT_REST: usize = 1 << 20;

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum WireLimit {
    /// Until then, whatever moves.
    Until(Instant),
    /// For that long without [`CHUNK`] bytes moving.
    Silence(Duration),
}

/// Whether to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireNext {
    /// With the next message.
    More,
    /// That was the last.
    Done,
}

/// A connected socket.
pub(super) struct Wire {
    server: Arc<str>,
    socket: Socket,
    tls: Option<PgTls>,
    /// What is read without TLS comes here first: room at the end of `input` would have to be cleared for each read.
    piece: Box<[u8]>,
    input: BytesMut,
    /// What is to be sent.
    pub(super) output: BytesMut,
    /// The system takes no more; what the server said of it may still be there to be read.
    write_failed: Option<io::Error>,
}

impl Wire {
    /// `socket` is connected and does not block.
    pub(super) fn new(server: Arc<str>, socket: Socket) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let piece = vec![0; READ].into();
        Self { server, socket, tls: None, piece, input, output, write_failed: None }
    }

    /// Where it leads, for messages.
    pub(super) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Sends the output and hands each message with its size to `take`, until that says that it was the last.
    ///
    /// # Errors
    /// Those of `take`; the connection broke; the server is silent for too long, or makes no sense.
    pub(super) fn run(
        &mut self,
        limit: WireLimit,
        mut take: impl FnMut(&Message, usize, &mut BytesMut) -> Result<WireNext, PgError>,
    ) -> Result<(), PgError> {
        let mut patience = Patience::new(limit);
        let mut is_asked = self.output.is_empty();
        loop {
            while let Some((message, size)) = self.message()? {
                if take(&message, size, &mut self.output)? == WireNext::Done {
                    return self.rest();
                }
            }
            if !is_asked {
                is_asked = true;
                // A read before that would find nothing.
                patience.moved(self.send());
                self.wait(&patience, 0)?;
            }
            let moved = self.receive()? + self.send();
            patience.moved(moved);
            self.wait(&patience, moved)?;
        }
    }

    /// Asks whether the server does TLS: `S` or `N`, or what else it says. What follows is not read yet, so that nothing
    /// that came in clear is taken for encrypted.
    pub(super) fn ask_for_tls(&mut self, deadline: Instant) -> Result<u8, PgError> {
        let patience = Patience::new(WireLimit::Until(deadline));
        frontend::ssl_request(&mut self.output);
        let mut answer = [0];
        loop {
            self.send();
            match retried(|| self.socket.read(&mut answer)) {
                Ok(Some(1)) => break,
                Ok(None) => self.wait(&patience, 0)?,
                Ok(_) => return Err(self.gone("it closed the connection")),
                Err(error) => return Err(self.gone(&error.to_string())),
            }
        }
        if !matches!(answer, [b'S' | b'N']) {
            // The beginning of a message that says why.
            self.input.extend_from_slice(&answer);
        }
        Ok(answer[0])
    }

    /// Does the TLS handshake; what follows is encrypted.
    pub(super) fn start_tls(&mut self, tls: PgTls, deadline: Instant) -> Result<(), PgError> {
        let patience = Patience::new(WireLimit::Until(deadline));
        self.tls = Some(tls);
        loop {
            let moved = self.send() + self.receive()?;
            if !self.tls.as_ref().is_some_and(PgTls::is_handshaking) {
                return Ok(());
            }
            self.wait(&patience, moved)?;
        }
    }

    /// Tells the server that the connection ends, if it takes that at once.
    pub(super) fn terminate(&mut self) {
        if self.output.is_empty() && self.write_failed.is_none() {
            frontend::terminate(&mut self.output);
            self.send();
        }
    }

    /// After the last message of an answer.
    fn rest(&mut self) -> Result<(), PgError> {
        if !self.output.is_empty() {
            return Err(PgError::protocol(&self.server, "it answers what it was not asked yet"));
        }
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > AT_REST {
                *buffer = BytesMut::new();
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<Option<(Message, usize)>, PgError> {
        next_message(&self.server, &mut self.input)
    }

    /// Reads what is there: how many bytes moved.
    fn receive(&mut self) -> Result<usize, PgError> {
        let Self { socket, tls, piece, input, .. } = self;
        let got = retried(|| match tls {
            Some(tls) => tls.receive(socket, input),
            None => {
                (&*socket).read(piece).inspect(|count| input.extend_from_slice(&piece[..*count]))
            }
        });
        match got {
            Ok(Some(0)) => Err(self.gone("it closed the connection")),
            Ok(count) => Ok(count.unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // A certificate is not mended by another try; what breaks later is.
                let is_new = self.tls.as_ref().is_some_and(PgTls::is_handshaking);
                let kind = if is_new { PgErrorKind::Refused } else { PgErrorKind::Away };
                Err(PgError::own(kind, &self.server, error.to_string()))
            }
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }

    fn gone(&self, how: &str) -> PgError {
        match &self.write_failed {
            Some(error) => PgError::away(&self.server, format!("{how} ({error})")),
            None => PgError::away(&self.server, how),
        }
    }

    /// Sends what the system takes: how many bytes moved. An error shows when the server's last words are read.
    fn send(&mut self) -> usize {
        let mut sent = 0;
        while self.wants_write() {
            let Self { socket, tls, output, .. } = self;
            let gone = retried(|| match tls {
                Some(tls) => tls.send(socket, output),
                None => (&*socket).write(output).inspect(|count| output.advance(*count)),
            });
            match gone {
                Ok(None | Some(0)) => break,
                Ok(Some(count)) => sent += count,
                Err(error) => {
                    self.output.clear();
                    self.write_failed = Some(error);
                }
            }
        }
        sent
    }

    fn wants_write(&self) -> bool {
        let has_output =
            !self.output.is_empty() || self.tls.as_ref().is_some_and(PgTls::wants_write);
        has_output && self.write_failed.is_none()
    }

    /// Waits until more can move, if nothing has; the limit holds for a server that trickles, too.
    fn wait(&self, patience: &Patience, moved: usize) -> Result<(), PgError> {
        let left = patience.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let how = match patience.limit {
                Some(limit) => {
                    format!("no answer within {} s (answer_timeout)", limit.as_secs_f32())
                }
                None => "no answer within the connect_timeout".to_owned(),
            };
            return Err(PgError::away(&self.server, how));
        }
        if moved > 0 {
            return Ok(());
        }
        let mut wanted = PollFlags::IN;
        if self.wants_write() {
            wanted |= PollFlags::OUT;
        }
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.socket, wanted)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }
}

/// `None` where it would have to wait.
fn retried(mut io: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match io() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// When a wait ends.
struct Patience {
    /// By how much bytes that move put it off, if they do.
    limit: Option<Duration>,
    until: Instant,
    /// Bytes since `until` was set.
    moved: usize,
}

impl Patience {
    fn new(limit: WireLimit) -> Self {
        match limit {
            WireLimit::Until(until) => Self { limit: None, until, moved: 0 },
            WireLimit::Silence(limit) => {
                Self { limit: Some(limit), until: Instant::now() + limit, moved: 0 }
            }
        }
    }

    fn moved(&mut self, count: usize) {
        self.moved += count;
        if let (Some(limit), CHUNK..) = (self.limit, self.moved) {
            (self.moved, self.until) = (0, Instant::now() + limit);
        }
    }
}
