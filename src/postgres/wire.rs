//! One socket to one server, what lies between it and the messages, and every wait on it. The only file here that
//! touches a socket. Runs on the thread that calls.
//!
//! The socket never blocks: writing and reading take turns, so that two sides that both send much do not wait for each
//! other for ever, and `poll` waits for whichever can go on.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::answers::MAX_ANSWER;
use super::error::PgError;

/// What is read at once, bytes.
const READ: usize = 64 << 10;

/// What must have moved within a limit on waiting, bytes: a server that trickles is given up, a slow link is not.
const CHUNK: usize = 64 << 10;

/// One message, bytes: a whole answer may be one row.
const MAX_MESSAGE: usize = MAX_ANSWER / 4;

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
        Self { server, socket, input, output, write_failed: None }
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
        loop {
            while let Some((message, size)) = self.message()? {
                if take(&message, size, &mut self.output)? == WireNext::Done {
                    return self.rest();
                }
            }
            let moved = self.receive()? + self.send();
            patience.moved(moved);
            if moved == 0 {
                self.wait(&patience)?;
            }
        }
    }

    /// Tells the server that the connection ends, if it takes that at once.
    pub(super) fn terminate(&mut self) {
        if self.output.is_empty() && self.write_failed.is_none() {
            postgres_protocol::message::frontend::terminate(&mut self.output);
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

    /// The next message that is there as a whole.
    fn message(&mut self) -> Result<Option<(Message, usize)>, PgError> {
        let nonsense = |_| PgError::protocol(&self.server, "it sends what is no message");
        let Some(header) = Header::parse(&self.input).map_err(nonsense)? else { return Ok(None) };
        let size = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
        if size > MAX_MESSAGE {
            let what = format!("it sends a message of more than {} MiB", MAX_MESSAGE >> 20);
            return Err(PgError::protocol(&self.server, &what));
        }
        if self.input.len() < size {
            return Ok(None);
        }
        Ok(Message::parse(&mut self.input).map_err(nonsense)?.map(|message| (message, size)))
    }

    /// Reads what is there.
    fn receive(&mut self) -> Result<usize, PgError> {
        let start = self.input.len();
        self.input.resize(start + READ, 0);
        let got = retried(|| self.socket.read(&mut self.input[start..]));
        self.input.truncate(start + got.as_ref().ok().copied().flatten().unwrap_or(0));
        match got {
            Ok(Some(0)) => Err(self.gone("it closed the connection")),
            Ok(count) => Ok(count.unwrap_or(0)),
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }

    fn gone(&self, how: &str) -> PgError {
        match &self.write_failed {
            Some(error) => PgError::away(&self.server, format!("{how} ({error})")),
            None => PgError::away(&self.server, how),
        }
    }

    /// Sends what the system takes. An error shows when the server's last words are read.
    fn send(&mut self) -> usize {
        let mut sent = 0;
        while !self.output.is_empty() {
            match retried(|| self.socket.write(&self.output)) {
                Ok(None | Some(0)) => break,
                Ok(Some(count)) => {
                    self.output.advance(count);
                    sent += count;
                }
                Err(error) => {
                    self.output.clear();
                    self.write_failed = Some(error);
                }
            }
        }
        sent
    }

    fn wait(&self, patience: &Patience) -> Result<(), PgError> {
        let left = patience.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let waited = patience.limit.as_secs_f32();
            return Err(PgError::away(&self.server, format!("no answer within {waited} s")));
        }
        let mut wanted = PollFlags::IN;
        if !self.output.is_empty() {
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
    limit: Duration,
    until: Instant,
    /// Bytes since `until` was set; `None` where nothing moves it.
    moved: Option<usize>,
}

impl Patience {
    fn new(limit: WireLimit) -> Self {
        let now = Instant::now();
        match limit {
            WireLimit::Until(until) => {
                Self { limit: until.saturating_duration_since(now), until, moved: None }
            }
            WireLimit::Silence(limit) => Self { limit, until: now + limit, moved: Some(0) },
        }
    }

    fn moved(&mut self, count: usize) {
        let Some(moved) = &mut self.moved else { return };
        *moved += count;
        if *moved >= CHUNK {
            (*moved, self.until) = (0, Instant::now() + self.limit);
        }
    }
}
