//! The listening socket: accepts, caps connections, reads one whole vetted request from each, has it
//! answered, and closes; or reads the next, from a client that posts. Says nothing of routes.
//!
//! `<name>-accept` accepts and owns one `<name>-conn` thread for each connection; both are joined by
//! [`Server::shutdown`].

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::{Never, OwnedThread, StopSource, StopToken, stop_pair};
use parking_lot::Mutex;

use super::backend::{Backend, Failure};
use super::head::{self, HEAD_MAX, Head, Refusal};
use super::{Download, Handler, Response};

/// The longest [`ServerConfig::name`]: `-accept` and `-conn` are added to it.
const NAME_MAX: usize = 8;

/// Connections that the kernel completes ahead of `accept`: a thousand pages that reconnect at once.
const BACKLOG: i32 = 1024;

/// The stack of a connection's thread. It parses and copies; handlers run elsewhere.
const STACK: usize = 256 * 1024;

/// How long `accept` pauses after an error, which is mostly "no descriptor left" and would come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of request bodies held in memory at one time, over all connections.
const BODIES_MAX: usize = 64 * 1024 * 1024;

/// The slowest rate at which a body may arrive, once [`Limits::body_grace`] is over: a phone on a bad line.
const BODY_FLOOR: u64 = 16 * 1024;

/// How long a client may take nothing of its answer.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// How long a client may take for its whole answer.
const WRITE_TOTAL: Duration = Duration::from_secs(60);

/// How long a client may take for a whole download: a million rows on a line of 1 Mbit/s.
const DOWNLOAD_TOTAL: Duration = Duration::from_secs(600);

/// How long, and how much, is read from a client after its answer: closing a socket with unread bytes
/// resets it, and the answer may be lost with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// How long answers in progress may take when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Deadlines for reading a request. The defaults suit every client known; tests shorten them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accepted to the end of the head; 5 s.
    pub head_wait: Duration,
    /// For the body, on top of its length at the slowest rate of 16 KiB/s; 5 s.
    pub body_grace: Duration,
    /// From an answer to the first byte of the next request, where the connection stays open; 15 s.
    pub next_wait: Duration,
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `host:port`; port 0 takes a free one, an empty host means every address.
    pub address: String,
    /// The prefix of its threads' names, at most 8 bytes.
    pub name: &'static str,
    /// How many requests are handled at one time; 8.
    pub workers: usize,
    /// The largest body, in bytes; 1 MiB.
    pub max_body: usize,
    /// How many connections at one time, event streams not counted; 256.
    pub max_connections: usize,
    /// Deadlines.
    pub limits: Limits,
}

impl ServerConfig {
    /// The defaults for `address`.
    pub fn new(address: impl Into<String>, name: &'static str) -> Self {
        let limits = Limits {
            head_wait: Duration::from_secs(5),
            body_grace: Duration::from_secs(5),
            next_wait: Duration::from_secs(15),
        };
        Self {
            address: address.into(),
            name,
            workers: 8,
            max_body: 1024 * 1024,
            max_connections: 256,
            limits,
        }
    }
}

/// A running server; dropping it stops it.
pub struct Server {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    stop: StopSource,
    listener: Arc<TcpListener>,
    accept: OwnedThread<Vec<OwnedThread<()>>>,
    // Disconnects when the last connection's thread ends.
    idle: Receiver<Never>,
}

struct Shared {
    config: ServerConfig,
    routes: Arc<dyn Handler>,
    backend: Backend,
    // Every connection that a thread is at, to wake it when the server stops.
    open: Mutex<HashMap<u64, Arc<TcpStream>>>,
    body_bytes: AtomicUsize,
    stopped: StopToken,
}

impl Server {
    /// Binds and serves `routes`.
    ///
    /// # Errors
    /// One line that names the address and the way out, when it cannot be bound.
    pub fn start(config: ServerConfig, routes: Arc<dyn Handler>) -> Result<Self> {
        debug_assert!(config.name.len() <= NAME_MAX, "{} is too long", config.name);
        let listener = Arc::new(bind(&config.address)?);
        let local_addr = listener.local_addr()?;
        let backend = Backend::start(config.name, config.workers.max(1), Arc::clone(&routes))?;
        let name = config.name;
        let (stop, stopped) = stop_pair();
        let shared = Arc::new(Shared {
            config,
            routes,
            backend,
            open: Mutex::default(),
            body_bytes: AtomicUsize::new(0),
            stopped,
        });
        let (busy, idle) = bounded(0);
        let accept = {
            let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
            OwnedThread::spawn(&format!("{name}-accept"), move || {
                accept_all(&shared, &listener, &busy)
            })?
        };
        Ok(Self { local_addr, shared, running: Some(Running { stop, listener, accept, idle }) })
    }

    /// The address it listens on, with the port the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, lets answers in progress go out for up to 3 s, closes the rest, joins every thread.
    ///
    /// Event streams belong to their [`EventStream`](super::EventStream), which its owner stops.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(Running { stop, listener, accept, idle }) = self.running.take() else { return };
        drop(stop);
        // Ends a blocked `accept` on Linux; elsewhere it needs a caller.
        if socket2::SockRef::from(&*listener).shutdown(Shutdown::Both).is_err() {
            let _ = TcpStream::connect_timeout(&reachable(self.local_addr), STOP_GRACE);
        }
        let threads = accept.join();
        // Those that wait for a request, or linger, see the end of it; an answer still goes out.
        for socket in self.shared.open.lock().values() {
            let _ = socket.shutdown(Shutdown::Read);
        }
        let _ = idle.recv_timeout(STOP_GRACE);
        for socket in self.shared.open.lock().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        threads.into_iter().for_each(OwnedThread::join);
        self.shared.backend.shutdown();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(address: &str) -> Result<TcpListener> {
    let full =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let listener = TcpListener::bind(&full).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use; stop that process or give --http-address another port")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!(
                "{address} may not be bound by this user; give --http-address a port from 1024 up"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("{address} is no address of this machine; give --http-address one that is")
        }
        _ => anyhow!("cannot listen on {address:?}: {error}; give --http-address a host:port"),
    })?;
    // A second `listen` only widens the queue that std sets to 128.
    socket2::SockRef::from(&listener).listen(BACKLOG).context("cannot widen the accept queue")?;
    Ok(listener)
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

/// Accepts until stopped, whatever `accept` says; returns the threads of connections still open.
fn accept_all(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    busy: &Sender<Never>,
) -> Vec<OwnedThread<()>> {
    let mut threads: Vec<OwnedThread<()>> = Vec::new();
    let mut failing = false;
    for id in 0.. {
        let accepted = listener.accept();
        if shared.stopped.is_stopped() {
            break;
        }
        // Dropping the finished ones joins them.
        threads.retain(|thread| !thread.is_finished());
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Once for each run of failures: it may come 20 times a second.
                if !failing {
                    log::warn!("{}: cannot accept a connection: {error}", shared.config.name);
                }
                failing = true;
                if shared.stopped.wait(ACCEPT_PAUSE) {
                    break;
                }
                continue;
            }
        };
        failing = false;
        let socket = Arc::new(socket);
        if threads.len() >= shared.config.max_connections {
            turn_away(shared, &socket);
            continue;
        }
        shared.open.lock().insert(id, Arc::clone(&socket));
        let body = {
            let (shared, socket, busy) = (Arc::clone(shared), Arc::clone(&socket), busy.clone());
            move || {
                let _registered = Registered { shared: &shared, id };
                let _busy = busy;
                // Its peer went away or broke the rules: nobody is left to tell.
                if let Err(error) = serve(&shared, &socket, peer) {
                    log::debug!("{}: {peer}: {error}", shared.config.name);
                }
            }
        };
        match OwnedThread::spawn_with_stack(&format!("{}-conn", shared.config.name), STACK, body) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                log::warn!("{}: no thread for a connection: {error}", shared.config.name);
                shared.open.lock().remove(&id);
                turn_away(shared, &socket);
            }
        }
    }
    threads
}

/// Takes a connection out of the registry, also when its thread panics.
struct Registered<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.open.lock().remove(&self.id);
    }
}

/// Answers 503 on the accept thread, which must not wait for anybody.
fn turn_away(shared: &Shared, socket: &TcpStream) {
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    // What has arrived is taken, so that closing does not reset the answer away.
    let _ = (&*socket).read(&mut [0; CHUNK]);
    let answer = shared
        .routes
        .refuse(503, "too many connections; try again")
        .with_header("Retry-After", "1");
    let _ = (&*socket).write(&on_the_wire(&answer));
    let _ = socket.shutdown(Shutdown::Write);
}

/// One connection, from its first byte to its close.
fn serve(shared: &Shared, socket: &Arc<TcpStream>, peer: SocketAddr) -> io::Result<()> {
    // Best effort: it only makes answers quicker.
    let _ = socket.set_nodelay(true);
    let mut reader = Reader { socket, bytes: Vec::new() };
    while serve_one(shared, &mut reader, peer)? {
        let deadline = Instant::now() + shared.config.limits.next_wait;
        if reader.bytes.is_empty() && !matches!(reader.read(deadline, HEAD_MAX)?, Some(1..)) {
            break;
        }
    }
    Ok(())
}

/// Reads a request and answers it; whether the connection stays open for the next.
fn serve_one(shared: &Shared, reader: &mut Reader<'_>, peer: SocketAddr) -> io::Result<bool> {
    let socket = reader.socket;
    let (answer, complete) = match take_request(shared, reader, peer)? {
        Taken::Nothing => return Ok(false),
        Taken::Request(head, body, _share) => {
            if head.request.method == "GET"
                && let Some(hub) = shared.routes.stream(&head.request)
            {
                if hub.join(Arc::clone(socket), head.request.header("last-event-id")) {
                    return Ok(false);
                }
                let full = shared.routes.refuse(503, "too many event streams; try again");
                (on_the_wire(&full.with_header("Retry-After", "5")), true)
            } else if head.request.method == "GET"
                && let Some(download) = shared.routes.download(&head.request)
            {
                send_pieces(socket, download, head.takes_chunks)?;
                return Ok(false);
            } else {
                let (answer, keeps_alive) = answer(shared, &head, &body);
                if keeps_alive {
                    write_all(socket, &answer, Instant::now() + WRITE_TOTAL)?;
                    return Ok(true);
                }
                (answer, true)
            }
        }
        Taken::Refused(refusal) => {
            (on_the_wire(&shared.routes.refuse(refusal.status, refusal.reason)), false)
        }
    };
    write_all(socket, &answer, Instant::now() + WRITE_TOTAL)?;
    socket.shutdown(Shutdown::Write)?;
    if !complete || reader.has_more() {
        reader.linger();
    }
    Ok(false)
}

enum Taken<'a> {
    /// The client sent nothing at all.
    Nothing,
    /// A whole request; its share of [`BODIES_MAX`] is given back when it is dropped.
    Request(Box<Head>, Vec<u8>, Share<'a>),
    Refused(Refusal),
}

/// A part of [`BODIES_MAX`].
struct Share<'a> {
    total: &'a AtomicUsize,
    bytes: usize,
}

impl<'a> Share<'a> {
    fn take(total: &'a AtomicUsize, bytes: usize, max: usize) -> Option<Self> {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= max);
        total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self { total, bytes })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads one request. An `Err` is the socket's: there is nobody to answer.
fn take_request<'a>(
    shared: &'a Shared,
    reader: &mut Reader<'_>,
    peer: SocketAddr,
) -> io::Result<Taken<'a>> {
    let config = &shared.config;
    let deadline = Instant::now() + config.limits.head_wait;
    let mut seen = 0;
    let end = loop {
        match head::find_end(&reader.bytes, seen) {
            Ok(Some(end)) => break end,
            Ok(None) => seen = reader.bytes.len(),
            Err(refusal) => return Ok(Taken::Refused(refusal)),
        }
        match reader.read(deadline, HEAD_MAX - seen)? {
            Some(0) if seen == 0 => return Ok(Taken::Nothing),
            Some(0) => {
                return Ok(Taken::Refused(Refusal {
                    status: 400,
                    reason: "the request head ends half-way",
                }));
            }
            Some(_) => {}
            // A browser opens connections ahead of need; one that stays unused is closed without a word.
            None if seen == 0 => return Ok(Taken::Nothing),
            None => {
                return Ok(Taken::Refused(Refusal {
                    status: 408,
                    reason: "the request head took too long",
                }));
            }
        }
    };
    let mut head = match head::parse(&reader.bytes[..end]) {
        Ok(head) => head,
        Err(refusal) => return Ok(Taken::Refused(refusal)),
    };
    head.request.peer = Some(peer);
    reader.bytes.drain(..end);

    let length = match usize::try_from(head.content_length) {
        Ok(length) if length <= config.max_body => length,
        _ => {
            return Ok(Taken::Refused(Refusal {
                status: 413,
                reason: "the body is over the limit",
            }));
        }
    };
    let Some(share) = Share::take(&shared.body_bytes, length, BODIES_MAX.max(4 * config.max_body))
    else {
        return Ok(Taken::Refused(Refusal {
            status: 503,
            reason: "too many large requests at one time",
        }));
    };
    if head.expects_continue && reader.bytes.len() < length {
        let deadline = Instant::now() + WRITE_TOTAL;
        write_all(reader.socket, b"HTTP/1.1 100 Continue\r\n\r\n", deadline)?;
    }
    let began = Instant::now();
    while reader.bytes.len() < length {
        let have = reader.bytes.len();
        // The floor is on the average, so a short pause on a good line costs nothing.
        let earned = Duration::from_millis(have as u64 * 1000 / BODY_FLOOR);
        match reader.read(began + config.limits.body_grace + earned, length - have)? {
            Some(0) => {
                return Ok(Taken::Refused(Refusal {
                    status: 400,
                    reason: "the body ends half-way",
                }));
            }
            Some(_) => {}
            None => {
                return Ok(Taken::Refused(Refusal {
                    status: 408,
                    reason: "the body came too slowly",
                }));
            }
        }
    }
    let rest = reader.bytes.split_off(length);
    let body = std::mem::replace(&mut reader.bytes, rest);
    Ok(Taken::Request(Box::new(head), body, share))
}

/// A connection's reading side and what has been read ahead.
struct Reader<'a> {
    socket: &'a Arc<TcpStream>,
    bytes: Vec<u8>,
}

impl Reader<'_> {
    /// Appends what comes next, at most `most` bytes. `Some(0)` is the end, `None` the deadline.
    fn read(&mut self, deadline: Instant, most: usize) -> io::Result<Option<usize>> {
        let mut chunk = [0; CHUNK];
        let most = most.min(CHUNK);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match (&**self.socket).read(&mut chunk[..most]) {
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
    fn has_more(&self) -> bool {
        !self.bytes.is_empty()
            || (self.socket.set_nonblocking(true).is_ok()
                && matches!(self.socket.peek(&mut [0]), Ok(1))
                && self.socket.set_nonblocking(false).is_ok())
    }

    /// Reads on and throws away until the client closes or a limit is reached.
    fn linger(&mut self) {
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

/// Has the backend answer, and adds what tiny_http cannot be made to send; whether it says that the connection stays
/// open. Only who may write is worth a thread that waits for more.
fn answer(shared: &Shared, head: &Head, body: &[u8]) -> (Vec<u8>, bool) {
    let failed = match shared.backend.answer(&head::serialise(head, body)) {
        Ok(answer) => match answer.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => {
                let (status_line, rest) = answer.split_at(end + 2);
                let is_success = status_line.starts_with(b"HTTP/1.1 2");
                let keeps_alive = head.keeps_alive && is_success && !shared.stopped.is_stopped();
                let connection: &[u8] = if keeps_alive {
                    b"Connection: keep-alive\r\n"
                } else {
                    b"Connection: close\r\n"
                };
                return ([status_line, connection, rest].concat(), keeps_alive);
            }
            None => shared.routes.refuse(500, "internal error"),
        },
        Err(Failure::Busy) => shared.routes.refuse(503, "too many requests wait; try again"),
        Err(Failure::Broken(error)) => {
            log::error!("{}: a request got no answer: {error}", shared.config.name);
            shared.routes.refuse(503, "the server is out of resources; try again")
        }
    };
    (on_the_wire(&failed.with_header("Retry-After", "1")), false)
}

/// An answer that the front gives by itself.
fn on_the_wire(response: &Response) -> Vec<u8> {
    let reason = match response.status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let mut wire = format!("HTTP/1.1 {} {reason}\r\nServer: playcounts\r\n", response.status);
    for (name, value) in response.safe_headers() {
        wire.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", response.body.len()));
    let mut wire = wire.into_bytes();
    wire.extend_from_slice(&response.body);
    wire
}

/// Sends a download: in chunks, whose end tells that it is whole; to HTTP/1.0 up to the close.
fn send_pieces(socket: &TcpStream, download: Download, chunked: bool) -> io::Result<()> {
    let deadline = Instant::now() + DOWNLOAD_TOTAL;
    let mut head = format!("HTTP/1.1 {} OK\r\nServer: playcounts\r\n", download.head.status);
    for (name, value) in download.head.safe_headers() {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    write_all(socket, head.as_bytes(), deadline)?;
    for piece in download.pieces.filter(|piece| !piece.is_empty()) {
        if chunked {
            let size = format!("{:x}\r\n", piece.len());
            write_all(socket, &[size.as_bytes(), &piece, b"\r\n"].concat(), deadline)?;
        } else {
            write_all(socket, &piece, deadline)?;
        }
    }
    if chunked {
        write_all(socket, b"0\r\n\r\n", deadline)?;
    }
    socket.shutdown(Shutdown::Write)
}

/// Writes all of `bytes` before `deadline`, and never stalled for [`WRITE_STALL`].
fn write_all(socket: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now()).min(WRITE_STALL);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        match (&*socket).write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
