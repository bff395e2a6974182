//! One TCP socket to one nsqd: how it is opened, its options, its limits on waiting. The only file that touches sockets.
//!
//! ```text
//! socket -- ReadHalf ---> decrypt ---> decompress ---> frames       each step only where it was agreed: see layers
//! socket <-- WriteHalf -- encrypt <--- compress <----- commands
//! ```
//!
//! Runs on the thread that connects, then each half on its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

#[cfg(any(feature = "snappy", feature = "deflate"))]
use crate::codec::compression::Compression;
use crate::error::Error;
use crate::io::config::ConnectionConfig;
use crate::io::layers::{self, Inbound, Outbound};
use crate::io::resolve::resolve;
use crate::io::tls;
use crate::io::tls_config::TlsConfig;

/// What the peer must take within the write timeout: a peer that trickles is given up, a slow link is not.
const WRITE_CHUNK: usize = 64 << 10;

/// Ends whatever another thread is waiting for on the socket, also while it is still connecting.
#[derive(Clone, Debug)]
pub(crate) struct Closer(Arc<Socket>);

impl Closer {
    /// Of a socket that was never connected.
    #[cfg(feature = "test-util")]
    pub(super) fn of_nothing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
        Self(Arc::new(socket.expect("a file descriptor")))
    }

    pub(crate) fn shutdown(&self) {
        // An error means that there is nothing left to shut down.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Sends commands without waiting, where nothing lies between them and the socket.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(dead_code, reason = "nothing is sent")
)]
pub(crate) struct Direct(Arc<Socket>);

impl Direct {
    pub(crate) fn new(socket: Arc<Socket>) -> Self {
        Self(socket)
    }

    /// Sends what the socket takes at once; how many bytes that is. An error is left for the writer to meet.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        allow(unused_variables, reason = "nothing is sent")
    )]
    pub(crate) fn send(&self, bytes: &[u8]) -> usize {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.0.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).unwrap_or(0);
        // There is no such flag everywhere; the writer sends all of it.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return 0;
    }
}

/// A connected socket before its halves go to their threads.
pub(crate) struct Transport {
    addr: Arc<str>,
    socket: Arc<Socket>,
    inbound: Inbound,
    outbound: Outbound,
}

/// The receiving half.
pub(crate) struct ReadHalf {
    addr: Arc<str>,
    socket: Arc<Socket>,
    inbound: Inbound,
    limit: Duration,
}

/// The sending half.
pub(crate) struct WriteHalf {
    addr: Arc<str>,
    socket: Arc<Socket>,
    outbound: Outbound,
    limit: Duration,
}

impl Transport {
    /// Connects to the first IP address behind `addr` that answers.
    ///
    /// `watch` is told of each socket before it connects, so that another thread can end the wait; false from it
    /// means that it is too late to begin.
    pub(crate) fn dial(
        addr: &Arc<str>,
        config: &ConnectionConfig,
        watch: &dyn Fn(Closer) -> bool,
    ) -> Result<Self, Error> {
        let unresolved =
            |source: io::Error| Error::Resolve { addr: addr.to_string(), source: Arc::new(source) };
        let ips = resolve(addr, config.connect_timeout).map_err(unresolved)?;
        let deadline = Instant::now() + config.connect_timeout;
        let mut last = None;
        for (index, ip) in ips.iter().enumerate() {
            // What time is left is shared by the addresses left, so that a dead first one leaves some.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (ips.len() - index) as u32;
            if share.is_zero() {
                break;
            }
            match connect(*ip, share, config, watch) {
                Ok(Some(socket)) => {
                    let (inbound, outbound) = Default::default();
                    return Ok(Self { addr: addr.clone(), socket, inbound, outbound });
                }
                Ok(None) => return Err(Error::Stopped),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(source) => {
                Err(Error::Connect { addr: addr.to_string(), source: Arc::new(source) })
            }
            None => Err(unresolved(io::Error::new(io::ErrorKind::NotFound, "no IP address"))),
        }
    }

    pub(crate) fn addr(&self) -> &Arc<str> {
        &self.addr
    }

    /// Reads what there is, at least one byte, until `deadline`; `doing` and `limit` name it in the error.
    pub(crate) fn read(
        &mut self,
        buf: &mut [u8],
        doing: &'static str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<usize, Error> {
        let Self { addr, socket, inbound, .. } = self;
        loop {
            let fetch = |buf: &mut [u8]| read_until(addr, socket, buf, doing, deadline, limit);
            let count = inbound.read(addr, buf, fetch)?;
            if count > 0 {
                return Ok(count);
            }
            inbound.take_flush();
            let left = deadline.saturating_duration_since(Instant::now());
            self.outbound.write(addr, b"", |bytes| write_all(addr, socket, bytes, left))?;
        }
    }

    /// Writes all of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Error> {
        let Self { addr, socket, outbound, .. } = self;
        outbound.write(addr, bytes, |bytes| write_all(addr, socket, bytes, limit))
    }

    /// Does the TLS handshake until `deadline`; what follows is encrypted.
    pub(crate) fn start_tls(
        &mut self,
        config: &TlsConfig,
        deadline: Instant,
        limit: Duration,
    ) -> Result<(), Error> {
        const DOING: &str = "the TLS handshake with";
        let Self { addr, socket, inbound, outbound } = self;
        let session = tls::session(config, addr)?;
        let fetch = |buf: &mut [u8]| read_until(addr, socket, buf, DOING, deadline, limit);
        let emit = |bytes: &[u8]| {
            let left = deadline.saturating_duration_since(Instant::now());
            write_all(addr, socket, bytes, left)
        };
        layers::start_tls(inbound, outbound, session, fetch, emit)
    }

    /// What follows is compressed, each way.
    #[cfg(any(feature = "snappy", feature = "deflate"))]
    pub(crate) fn start_compression(&mut self, compression: Compression) {
        layers::start_compression(&mut self.inbound, &mut self.outbound, compression);
    }

    /// A way past the writer's thread; `None` where what is sent is encrypted or compressed.
    pub(crate) fn direct(&self) -> Option<Direct> {
        self.outbound.is_plain().then(|| Direct::new(self.socket.clone()))
    }

    /// The two halves, each with its limit on one wait, and what ends their waits.
    pub(crate) fn split(
        self,
        read_limit: Duration,
        write_limit: Duration,
    ) -> Result<(ReadHalf, WriteHalf, Closer), Error> {
        let Self { addr, socket, inbound, outbound } = self;
        let failed = |source| io_error(&addr, "reading from", source);
        socket.set_read_timeout(Some(read_limit)).map_err(failed)?;
        let (reader, writer) = (socket.clone(), socket.clone());
        Ok((
            ReadHalf { addr: addr.clone(), socket: reader, inbound, limit: read_limit },
            WriteHalf { addr, socket: writer, outbound, limit: write_limit },
            Closer(socket),
        ))
    }
}

fn read_until(
    addr: &str,
    socket: &Socket,
    buf: &mut [u8],
    doing: &'static str,
    deadline: Instant,
    limit: Duration,
) -> Result<usize, Error> {
    let late = || Error::Timeout { addr: addr.to_owned(), doing, limit };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    let failed = |source| io_error(addr, "reading from", source);
    socket.set_read_timeout(Some(left)).map_err(failed)?;
    match read_some(socket, buf) {
        Ok(0) => Err(Error::Closed { addr: addr.to_owned() }),
        Ok(count) => Ok(count),
        Err(error) if is_timeout(&error) => Err(late()),
        Err(error) => Err(failed(error)),
    }
}

fn connect(
    ip: SocketAddr,
    limit: Duration,
    config: &ConnectionConfig,
    watch: &dyn Fn(Closer) -> bool,
) -> io::Result<Option<Arc<Socket>>> {
    let socket = Arc::new(Socket::new(Domain::for_address(ip), Type::STREAM, Some(Protocol::TCP))?);
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(config.tcp_keepalive).with_interval(config.tcp_keepalive / 3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(config.tcp_user_timeout))?;
    socket.set_write_timeout(Some(config.write_timeout))?;
    if !watch(Closer(socket.clone())) {
        return Ok(None);
    }
    socket.connect_timeout(&SockAddr::from(ip), limit)?;
    // With nobody listening on a port of the ephemeral range, Linux can connect a socket to itself, which would
    // also keep nsqd from coming back to its port.
    let own = socket.local_addr()?.as_socket();
    if own.is_some() && own == socket.peer_addr()?.as_socket() {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    }
    Ok(Some(socket))
}

impl ReadHalf {
    /// Reads what there is: at least one byte, or 0 when [`ReadHalf::take_flush`] must be asked.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let Self { addr, socket, inbound, limit } = self;
        inbound.read(addr, buf, |buf| match read_some(socket, buf) {
            Ok(0) => Err(Error::Closed { addr: addr.to_string() }),
            Ok(count) => Ok(count),
            Err(error) if is_timeout(&error) => Err(Error::Timeout {
                addr: addr.to_string(),
                doing: "waiting for a heartbeat from",
                limit: *limit,
            }),
            Err(error) => Err(io_error(addr, "reading from", error)),
        })
    }

    /// Whether what was read calls for a [`WriteHalf::write`], be it of nothing; once.
    pub(crate) fn take_flush(&mut self) -> bool {
        self.inbound.take_flush()
    }
}

impl WriteHalf {
    /// Writes all of `bytes`, and what TLS has to say for itself.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Self { addr, socket, outbound, limit } = self;
        outbound.write(addr, bytes, |bytes| write_all(addr, socket, bytes, *limit))
    }

    /// Says that no more will come. The peer still reads all that was written: closing the whole socket with
    /// unread messages in it would make the system throw the last FINs away.
    pub(crate) fn finish(&mut self) {
        let Self { addr, socket, outbound, limit } = self;
        // A peer that does not take it is about to see the end of the stream.
        let _ = outbound.finish(|bytes| write_all(addr, socket, bytes, *limit));
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn read_some(mut socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn write_all(
    addr: &str,
    mut socket: &Socket,
    mut bytes: &[u8],
    limit: Duration,
) -> Result<(), Error> {
    let late = || Error::Timeout { addr: addr.to_owned(), doing: "writing to", limit };
    let (mut since, mut written) = (Instant::now(), 0);
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(0) => return Err(Error::Closed { addr: addr.to_owned() }),
            Ok(count) => {
                bytes = &bytes[count..];
                written += count;
                if written >= WRITE_CHUNK {
                    (since, written) = (Instant::now(), 0);
                } else if !bytes.is_empty() && since.elapsed() > limit {
                    return Err(late());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(late()),
            Err(error) => return Err(io_error(addr, "writing to", error)),
        }
    }
    Ok(())
}

/// The two kinds that systems report an elapsed socket timeout with.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn io_error(addr: &str, doing: &'static str, source: io::Error) -> Error {
    Error::Io { addr: addr.to_owned(), doing, source: Arc::new(source) }
}
