//! Listens, accepts and admits connections, on the thread `broker-accept`.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{CommandError, ErrorCode};

use super::core::ClientId;
use super::hub::{Connection, Hub};
use super::outbox::ConsumerOutbox;
use super::reader::{ConnectionReader, READER_STACK};
use super::session::encode_error;

/// How long `accept` pauses after an error, which is mostly "no descriptor left" and would come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel completes ahead of `accept`: bench_channels opens thousands at once.
const BACKLOG: i32 = 1024;

/// How long a refused connection may take for its error frame: the accept thread waits for it.
const REFUSE_WAIT: Duration = Duration::from_millis(100);

/// After how long without a byte the kernel asks whether the client is still there. For connections without
/// heartbeats it is the only sign of life.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A send buffer of the kernel: a reader that never reads holds no more of our memory. Linux doubles it.
const SEND_BUFFER: usize = 256 << 10;

/// How long the connection that wakes `accept` may take: it goes to this very process.
const WAKE_WAIT: Duration = Duration::from_secs(1);

/// Listens on what the option `flag` names.
pub(super) fn bind(address: &str, flag: &str) -> Result<TcpListener> {
    // nsqd's form for every address.
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.into() };
    let resolved = full
        .to_socket_addrs()
        .with_context(|| format!("{address} is no address to listen on; give {flag} host:port"))?
        .next()
        .ok_or_else(|| anyhow!("{address} has no address to listen on; give {flag} host:port"))?;
    listen(resolved).with_context(|| {
        format!("cannot listen on {address}; stop what holds it or give another {flag}, port 0 takes a free one")
    })
}

/// Listens on `address`.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a blocked `accept` return, for good: nothing is accepted afterwards.
pub(super) fn wake(listener: &TcpListener) {
    // Linux needs no more than this, also where no descriptor is left for a connection.
    if socket2::SockRef::from(listener).shutdown(Shutdown::Both).is_ok() {
        return;
    }
    let called = listener
        .local_addr()
        .and_then(|address| TcpStream::connect_timeout(&reachable(address), WAKE_WAIT));
    if let Err(error) = called {
        log::debug!("broker: cannot wake accept: {error}");
    }
}

/// Where this process reaches what is bound to `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    SocketAddr::new(ip, address.port())
}

/// Accepts until the hub's stop; the owner wakes it with [`wake`].
pub(super) fn accept_loop(hub: &Arc<Hub>, listener: &TcpListener) {
    let mut next_id = 1;
    let mut failing = false;
    loop {
        let accepted = listener.accept();
        if hub.stop.is_stopped() {
            return;
        }
        let admitted = accepted.and_then(|(stream, address)| {
            next_id += 1;
            admit(hub, next_id, stream, address)
        });
        match admitted {
            Ok(()) => failing = false,
            Err(error) => {
                // Once for a row of failures: without a descriptor left they come by the thousand.
                if !std::mem::replace(&mut failing, true) {
                    log::error!(
                        "broker: cannot take a connection: {error}; raise `ulimit -n` if it is that"
                    );
                }
                if hub.stop.wait(ACCEPT_PAUSE) {
                    return;
                }
            }
        }
    }
}

fn admit(hub: &Arc<Hub>, id: ClientId, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
    let max = hub.config.max_connections;
    if hub.connections.lock().len() >= max {
        refuse(&stream, max);
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let stream = Arc::new(stream);
    let outbox = Arc::new(ConsumerOutbox::default());
    let reader =
        ConnectionReader::new(Arc::clone(hub), id, Arc::clone(&stream), Arc::clone(&outbox));
    // Held until the connection is entered, so that its end cannot be reported before.
    let mut connections = hub.connections.lock();
    let body = move || reader.run(address);
    let thread = OwnedThread::spawn_with_stack("broker-read", READER_STACK, body)?;
    connections.insert(id, Connection { stream, outbox, _thread: thread });
    Ok(())
}

fn refuse(mut stream: &TcpStream, max: usize) {
    let text =
        format!("connection limit: {max} of {max} are open; close some or raise --max-connections");
    let mut out = Vec::new();
    encode_error(&CommandError::new(ErrorCode::Invalid, text), &mut out);
    // It is closed either way.
    let _ = stream.set_write_timeout(Some(REFUSE_WAIT));
    let _ = stream.write_all(&out);
    let _ = stream.shutdown(Shutdown::Write);
}
