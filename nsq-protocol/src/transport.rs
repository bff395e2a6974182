//! One TCP socket to one nsqd: how it is opened, its options, its limits on waiting. The only file that touches
//! sockets; TLS and compression will wrap the two halves here.
//!
//! Runs on the thread that connects, then each half on its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::ConnectionConfig;
use crate::error::Error;
use crate::resolve::resolve;

/// What the peer must take within the write timeout: a peer that trickles is given up, a slow link is not.
const WRITE_CHUNK: usize = 64 << 10;

/// Ends whatever another thread is waiting for on the socket, also while it is still connecting.
#[derive(Clone, Debug)]
pub(crate) struct Closer(Arc<Socket>);

impl Closer {
    pub(crate) fn shutdown(&self) {
        // An error means that there is nothing left to shut down.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A connected socket before its halves go to their threads.
#[derive(Debug)]
pub(crate) struct Transport {
    addr: Arc<str>,
    socket: Arc<Socket>,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    addr: Arc<str>,
    socket: Arc<Socket>,
    limit: Duration,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    addr: Arc<str>,
    socket: Arc<Socket>,
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
                Ok(Some(socket)) => return Ok(Self { addr: addr.clone(), socket }),
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
        &self,
        buf: &mut [u8],
        doing: &'static str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<usize, Error> {
        let late = || Error::Timeout { addr: self.addr.to_string(), doing, limit };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        let failed = |source| io_error(&self.addr, "reading from", source);
        self.socket.set_read_timeout(Some(left)).map_err(failed)?;
        match read_some(&self.socket, buf) {
            Ok(0) => Err(Error::Closed { addr: self.addr.to_string() }),
            Ok(count) => Ok(count),
            Err(error) if is_timeout(&error) => Err(late()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes all of `bytes`.
    pub(crate) fn write(&self, bytes: &[u8], limit: Duration) -> Result<(), Error> {
        write_all(&self.addr, &self.socket, bytes, limit)
    }

    /// The two halves, each with its limit on one wait, and what ends their waits.
    pub(crate) fn split(
        self,
        read_limit: Duration,
        write_limit: Duration,
    ) -> Result<(ReadHalf, WriteHalf, Closer), Error> {
        let Self { addr, socket } = self;
        let failed = |source| io_error(&addr, "reading from", source);
        socket.set_read_timeout(Some(read_limit)).map_err(failed)?;
        Ok((
            ReadHalf { addr: addr.clone(), socket: socket.clone(), limit: read_limit },
            WriteHalf { addr: addr.clone(), socket: socket.clone(), limit: write_limit },
            Closer(socket),
        ))
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
    /// Reads what there is, at least one byte.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        match read_some(&self.socket, buf) {
            Ok(0) => Err(Error::Closed { addr: self.addr.to_string() }),
            Ok(count) => Ok(count),
            Err(error) if is_timeout(&error) => Err(Error::Timeout {
                addr: self.addr.to_string(),
                doing: "waiting for a heartbeat from",
                limit: self.limit,
            }),
            Err(error) => Err(io_error(&self.addr, "reading from", error)),
        }
    }
}

impl WriteHalf {
    /// Writes all of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        write_all(&self.addr, &self.socket, bytes, self.limit)
    }

    /// Says that no more will come. The peer still reads all that was written: closing the whole socket with
    /// unread messages in it would make the system throw the last FINs away.
    pub(crate) fn finish(&mut self) {
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
