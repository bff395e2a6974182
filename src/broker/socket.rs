//! Writing to a client's socket within a limit.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Writes all of `bytes`, within `limit` if there is one. The socket's write timeout must be `limit` too; it is
/// set once, not for each write.
pub(super) fn write_within(
    mut stream: &TcpStream,
    mut bytes: &[u8],
    limit: Option<Duration>,
) -> io::Result<()> {
    let deadline = limit.map(|limit| Instant::now() + limit);
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
