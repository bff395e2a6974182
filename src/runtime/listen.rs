//! Listening sockets: bound with room for a burst, and woken when their owner stops.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Connections that the kernel completes ahead of `accept`: a thousand pages that reconnect at once, or
/// bench_channels, which opens thousands.
const BACKLOG: i32 = 1024;

/// How long the connection that wakes `accept` may take: it goes to this very process.
const WAKE_WAIT: Duration = Duration::from_secs(1);

/// The addresses that `host:port` names; port 0 is a free one, and `:port` means every IPv4 address, as nsqd has it.
///
/// # Errors
/// The operating system's, for a text that names none.
pub fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let full =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    Ok(full.to_socket_addrs()?.collect())
}

/// Listens on the first of `addresses` that can be bound.
///
/// # Errors
/// The operating system's, of the last; the caller adds what to do.
pub fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    // std sets SO_REUSEADDR: a restart does not wait for the old connections' TIME_WAIT.
    let listener = TcpListener::bind(addresses)?;
    // A second `listen` only widens the queue that std sets to 128.
    socket2::SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

/// Makes a blocked `accept` return. The owner has made known before that it stops: what `accept` returns then is not
/// to be served.
pub fn wake(listener: &TcpListener) {
    // Ends a blocked `accept` on Linux; elsewhere it needs a caller.
    if socket2::SockRef::from(listener).shutdown(Shutdown::Both).is_ok() {
        return;
    }
    let called = listener
        .local_addr()
        .and_then(|bound| TcpStream::connect_timeout(&reachable(bound), WAKE_WAIT));
    if let Err(error) = called {
        log::debug!("cannot wake accept: {error}");
    }
}

/// Where a caller on this machine reaches `bound`.
fn reachable(mut bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() {
        bound.set_ip(if bound.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_at_loopback() {
        for (bound, want) in [
            ("0.0.0.0:7", "127.0.0.1:7"),
            ("[::]:7", "[::1]:7"),
            ("10.1.2.3:7", "10.1.2.3:7"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()), want.parse().unwrap());
        }
    }

    #[test]
    fn a_port_alone_is_every_address() {
        let listener = bind(&resolve(":0").unwrap()).unwrap();
        assert!(listener.local_addr().unwrap().ip().is_unspecified());
    }
}
