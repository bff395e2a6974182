//! Name resolution with a limit on the wait: the system's resolver has none that a program can set, and nothing
//! can interrupt it.
//!
//! Each name that is no IP address is looked up on a thread of its own, `nsq-resolve`. One whose answer comes too
//! late is the one kind of thread here that is left behind instead of joined: it ends when the system's resolver
//! lets it. [`MAX_RESOLVING`] bounds how many there can be.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::thread::OwnedThread;

/// Names being resolved in this process at one time: as many as connections are made at once, and then some. A
/// resolver that hangs costs that many small stacks, not one more for each attempt.
const MAX_RESOLVING: usize = 128;

/// Stack of a resolving thread, bytes: the system's resolver with its NSS modules is happy with far less.
const STACK: usize = 256 << 10;

/// Threads that are resolving now.
static RESOLVING: AtomicUsize = AtomicUsize::new(0);

/// Counts one resolving thread while it lives.
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let free = |count| (count < MAX_RESOLVING).then_some(count + 1);
        RESOLVING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_ok().then_some(Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        RESOLVING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The IP addresses behind `addr`, `host:port`, perhaps none; waits at most `limit`.
pub fn resolve(addr: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = addr.parse() {
        return Ok(vec![ip]);
    }
    let name = addr.to_owned();
    resolve_with(limit, move || Ok(name.to_socket_addrs()?.collect()))
}

fn resolve_with(
    limit: Duration,
    lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    let late = |what: String| io::Error::new(io::ErrorKind::TimedOut, what);
    let Some(slot) = Slot::take() else {
        return Err(late(format!("{MAX_RESOLVING} names are being resolved already")));
    };
    // One slot for the one answer, so that a thread that was left behind can end.
    let (answer, answers) = bounded(1);
    let thread = OwnedThread::spawn_with_stack("nsq-resolve", STACK, move || {
        let _slot = slot;
        let _ = answer.send(lookup());
    })?;
    match answers.recv_timeout(limit) {
        Ok(found) => {
            thread.join();
            found
        }
        Err(RecvTimeoutError::Timeout) => {
            thread.leave_behind();
            Err(late(format!("the name's resolution took longer than {limit:?}")))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("the resolving thread ended without an answer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_address_needs_no_resolver_and_a_hanging_one_is_left_behind() {
        let second = Duration::from_secs(20);
        assert_eq!(resolve("127.0.0.1:7", second).unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(resolve("[::1]:7", second).unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(resolve("127.0.0.1", second).is_err());
        let (hang, hanging) = bounded::<()>(0);
        let error = resolve_with(Duration::from_millis(10), move || {
            let _ = hanging.recv();
            Ok(Vec::new())
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(RESOLVING.load(Ordering::Relaxed) >= 1);
        drop(hang);
    }
}
