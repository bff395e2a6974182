//! Reading from a client's socket and writing to it within a limit, through what was agreed on with it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use nsq_protocol::{CommandError, Error, ErrorCode, Inbound, Outbound, chain};

/// How errors of [`Inbound`] and [`Outbound`] call who is at the other end; they reach the client itself.
pub(super) const PEER: &str = "the client";

/// Why nothing was read.
pub(super) enum Unread {
    /// A timeout or a signal, or it takes too long: look at the clock and go on.
    Wait,
    /// The client sends no more.
    Closed,
    /// The socket failed.
    Failed,
    /// What came is not what was agreed on.
    Damaged(CommandError),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        match error {
            Error::Closed { .. } => Self::Closed,
            Error::Decompress { source, .. } => {
                Self::Damaged(CommandError::new(ErrorCode::Invalid, source.to_string()))
            }
            Error::Tls { source, .. } => {
                Self::Damaged(CommandError::new(ErrorCode::Invalid, format!("TLS: {source}")))
            }
            error => {
                log::info!("broker: closing a connection: {}", chain(&error));
                Self::Failed
            }
        }
    }
}

/// Reads what there is, at least one byte, or 0 where something must be sent first, be it nothing: see
/// [`Inbound::take_flush`]. Waits for the first bytes as long as the socket's read timeout is, and for those behind until
/// `until` is past.
pub(super) fn read_some(
    stream: &TcpStream,
    inbound: &mut Inbound,
    space: &mut [u8],
    until: Option<Instant>,
) -> Result<usize, Unread> {
    let mut is_first = true;
    inbound.read(PEER, space, |buffer| {
        // Bytes that make no command yet can come one by one for ever.
        if !std::mem::take(&mut is_first) && until.is_some_and(|until| Instant::now() >= until) {
            return Err(Unread::Wait);
        }
        read_once(stream, buffer)
    })
}

fn read_once(mut stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, Unread> {
    match stream.read(buffer) {
        Ok(0) => Err(Unread::Closed),
        Ok(count) => Ok(count),
        Err(error) if is_transient(&error) => Err(Unread::Wait),
        Err(_) => Err(Unread::Failed),
    }
}

/// Reads what there is, at least one byte, before `deadline`; changes the socket's read timeout.
pub(super) fn read_before(
    stream: &TcpStream,
    buffer: &mut [u8],
    deadline: Instant,
) -> Result<usize, Unread> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // One of zero would mean none.
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(Unread::Wait);
        }
        match read_once(stream, buffer) {
            Err(Unread::Wait) => {}
            read => return read,
        }
    }
}

/// Writes all of `bytes`, within `limit` if there is one, and what TLS has to say for itself. The socket's write timeout
/// must be `limit` too; it is set once, not for each write.
pub(super) fn write_within(
    stream: &TcpStream,
    outbound: &mut Outbound,
    bytes: &[u8],
    limit: Option<Duration>,
) -> io::Result<()> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    outbound
        .write(PEER, bytes, |piece| write_until(stream, piece, deadline).map_err(Unwritten))
        .map_err(|Unwritten(error)| error)
}

/// Tells the client that nothing more comes, within `limit`.
pub(super) fn finish(
    stream: &TcpStream,
    outbound: &mut Outbound,
    limit: Duration,
) -> io::Result<()> {
    if outbound.is_encrypted() {
        stream.set_write_timeout(Some(limit))?;
        let deadline = Some(Instant::now() + limit);
        // A client that does not take it is about to see the end of the stream.
        let _ = outbound.finish(|piece| write_until(stream, piece, deadline).map_err(Unwritten));
    }
    stream.shutdown(Shutdown::Write)
}

/// Why something was not written.
struct Unwritten(io::Error);

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Self(io::Error::other(error))
    }
}

/// Writes all of `bytes` before `deadline`.
pub(super) fn write_until(
    mut stream: &TcpStream,
    mut bytes: &[u8],
    deadline: Option<Instant>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        // A peer that takes a byte now and then is as slow as one that takes none.
        if !bytes.is_empty() && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

/// A timeout or a signal: look at the clock and go on.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
