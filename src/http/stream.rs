//! Reading and writing a connection by a deadline. Runs on the thread of the connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket::Socket;

/// Bytes read at once.
pub(super) const CHUNK: usize = 16 * 1024;

/// How long a client may take nothing of its answer.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// How long, and how much, is read from a client after its answer: closing a socket with unread bytes
/// resets it, and the answer may be lost with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// A connection's reading side and what has been read ahead.
pub(super) struct Reader<'a> {
    pub(super) socket: &'a Arc<Socket>,
    pub(super) bytes: Vec<u8>,
}

impl Reader<'_> {
    /// Appends what comes next, at most `most` bytes. `Some(0)` is the end, `None` the deadline.
    pub(super) fn read(&mut self, deadline: Instant, most: usize) -> io::Result<Option<usize>> {
        let mut chunk = [0; CHUNK];
        let most = most.min(CHUNK);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.tcp.set_read_timeout(Some(left))?;
            match self.socket.read(&mut chunk[..most]) {
                Ok(count) => {
                    self.bytes.extend_from_slice(&chunk[..count]);
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the client sent more than its one request.
    pub(super) fn has_more(&self) -> bool {
        !self.bytes.is_empty()
            || (self.socket.tcp.set_nonblocking(true).is_ok()
                && matches!(self.socket.tcp.peek(&mut [0]), Ok(1))
                && self.socket.tcp.set_nonblocking(false).is_ok())
    }

    /// Reads on and throws away until the client closes or a limit is reached.
    pub(super) fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        let mut taken = 0;
        while taken < LINGER_BYTES {
            self.bytes.clear();
            match self.read(deadline, CHUNK) {
                Ok(Some(count)) if count > 0 => taken += count,
                _ => return,
            }
        }
    }
}

/// Writes all of `bytes` before `deadline`, and never stalled for [`WRITE_STALL`].
pub(super) fn write_all(socket: &Socket, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).min(WRITE_STALL);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.tcp.set_write_timeout(Some(left))?;
        let written =
            if bytes.is_empty() { socket.flush().map(|()| 0) } else { socket.write(bytes) };
        match written {
            Ok(0) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
