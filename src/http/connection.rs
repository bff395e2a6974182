//! One connection: reads a whole vetted request, has it answered, and reads the next, unless either side wants to close.
//! Runs on the connection's own thread.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nsq_protocol::thread::StopToken;

use super::chunks::ChunkedBody;
use super::handler::Handler;
use super::head::{self, BodyEnd, HEAD_MAX, Head};
use super::open::OpenConnection;
use super::pool::{Failure, Pool};
use super::response::Download;
use super::server_tls::ServerTls;
use super::socket::{Beginning, Socket};
use super::stream::{Reader, write_all};
use super::target::{Refusal, bad};

/// Bytes of request bodies held in memory at one time, over all connections.
const BODIES_MAX: usize = 64 * 1024 * 1024;

/// The slowest rate at which a body may arrive, once [`Limits::body_grace`] is over: a phone on a bad line.
const BODY_FLOOR: u64 = 16 * 1024;

/// How long a client may take for its whole answer.
const WRITE_TOTAL: Duration = Duration::from_secs(60);

/// How long a client may take for a whole download: a million rows on a line of 1 Mbit/s.
const DOWNLOAD_TOTAL: Duration = Duration::from_secs(600);

/// What a client hears that speaks plain HTTP to a port of TLS; `wire/client.rs` knows these words.
const PLAIN_ON_HTTPS: &str = "this port speaks HTTPS: give its address as https://";

/// Deadlines for reading a request. The defaults suit every client known; tests shorten them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accepted to the end of a handshake of TLS; 10 s.
    pub handshake_wait: Duration,
    /// From there, or from accepted, to the first byte of the first request, and from the first byte of each to the end of
    /// its head; 5 s.
    pub head_wait: Duration,
    /// For the body, on top of its length at the slowest rate of 16 KiB/s; 5 s.
    pub body_grace: Duration,
    /// From an answer to the first byte of the next request, where the connection stays open; 15 s.
    pub next_wait: Duration,
}

/// What the connections of one server share.
pub(super) struct Service {
    /// The server's name, for what is logged.
    pub(super) name: &'static str,
    pub(super) limits: Limits,
    /// The largest body, in bytes.
    pub(super) max_body: usize,
    pub(super) handler: Arc<dyn Handler>,
    /// Absent: it speaks plain HTTP.
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) pool: Pool,
    /// Bytes of [`BODIES_MAX`] that are in use.
    pub(super) body_bytes: AtomicUsize,
    pub(super) stopped: StopToken,
}

impl Service {
    /// Serves one connection, from its first byte to its close.
    pub(super) fn serve(&self, open: &OpenConnection, peer: SocketAddr) -> io::Result<()> {
        let tcp = &open.socket;
        // Best effort: it only makes answers quicker.
        let _ = tcp.set_nodelay(true);
        let Some(socket) = self.open(tcp)? else { return Ok(()) };
        let socket = &Arc::new(socket);
        let mut reader = Reader { socket, bytes: Vec::new() };
        let mut wait = self.limits.head_wait;
        loop {
            // A browser opens connections ahead of need, and keeps those that it had: one that stays unused is closed
            // without a word, and sooner where its place is needed.
            let deadline = Instant::now() + wait;
            if reader.bytes.is_empty() && !matches!(reader.read(deadline, HEAD_MAX)?, Some(1..)) {
                return Ok(());
            }
            open.set_idle(false);
            if !self.serve_one(&mut reader, peer)? {
                return Ok(());
            }
            open.set_idle(true);
            wait = self.limits.next_wait;
        }
    }

    /// The connection, ready for requests; `None` of one that is over: its client sent nothing, or speaks no TLS.
    fn open(&self, tcp: &Arc<TcpStream>) -> io::Result<Option<Socket>> {
        let Some(tls) = &self.tls else { return Ok(Some(Socket::plain(Arc::clone(tcp)))) };
        let deadline = Instant::now() + self.limits.handshake_wait;
        match Socket::beginning(tcp, deadline)? {
            Beginning::Nothing => return Ok(None),
            Beginning::Tls => {}
            Beginning::Plain => {
                let socket = Arc::new(Socket::plain(Arc::clone(tcp)));
                close_behind(&socket, &self.handler.refuse(400, PLAIN_ON_HTTPS).to_wire())?;
                Reader { socket: &socket, bytes: Vec::new() }.linger();
                return Ok(None);
            }
        }
        let socket = Socket::encrypted(Arc::clone(tcp), tls.session().map_err(io::Error::other)?);
        socket.handshake(deadline)?;
        Ok(Some(socket))
    }

    /// Reads a request and answers it; whether the connection stays open for the next.
    fn serve_one(&self, reader: &mut Reader<'_>, peer: SocketAddr) -> io::Result<bool> {
        let socket = reader.socket;
        let (head, body) = match self.take_request(reader, peer)? {
            Taken::Refused(refusal) => {
                let answer = self.handler.refuse(refusal.status, refusal.reason).to_wire();
                close_behind(socket, &answer)?;
                // The request has not been read to its end.
                reader.linger();
                return Ok(false);
            }
            Taken::Request(head, body) => (head, body),
        };
        let is_get = head.request.method == "GET";
        if is_get && let Some(events) = self.handler.stream(&head.request) {
            let owner = self.handler.stream_owner(&head.request);
            if events.join(Arc::clone(socket), head.request.header("last-event-id"), owner) {
                return Ok(false);
            }
            let full = self.handler.refuse(503, "too many event streams; try again");
            close_behind(socket, &full.with_header("Retry-After", "5").to_wire())?;
        } else if is_get && let Some(download) = self.handler.download(&head.request) {
            send_pieces(socket, download, head.takes_chunks)?;
            return Ok(false);
        } else {
            let (answer, keeps_alive) = self.answer(&head, &body.bytes);
            if keeps_alive {
                write_all(socket, &answer, Instant::now() + WRITE_TOTAL)?;
                return Ok(true);
            }
            close_behind(socket, &answer)?;
        }
        if reader.has_more() {
            reader.linger();
        }
        Ok(false)
    }

    /// Reads one request. An `Err` is the socket's: there is nobody to answer.
    fn take_request(&self, reader: &mut Reader<'_>, peer: SocketAddr) -> io::Result<Taken<'_>> {
        let mut head = match self.take_head(reader)? {
            Ok(head) => head,
            Err(refusal) => return Ok(Taken::Refused(refusal)),
        };
        head.request.peer = Some(peer);
        Ok(match self.take_body(reader, &head)? {
            Ok(body) => Taken::Request(Box::new(head), body),
            Err(refusal) => Taken::Refused(refusal),
        })
    }

    /// Reads a head that has begun.
    fn take_head(&self, reader: &mut Reader<'_>) -> io::Result<Result<Head, Refusal>> {
        let deadline = Instant::now() + self.limits.head_wait;
        let mut seen = 0;
        let end = loop {
            match head::find_end(&reader.bytes, seen) {
                Ok(Some(end)) => break end,
                Ok(None) => seen = reader.bytes.len(),
                Err(refusal) => return Ok(Err(refusal)),
            }
            match reader.read(deadline, HEAD_MAX - seen)? {
                Some(1..) => {}
                Some(0) => return Ok(Err(bad("the request head ends half-way"))),
                None => return Ok(Err(Refusal::new(408, "the request head took too long"))),
            }
        };
        Ok(head::parse(&reader.bytes[..end], self.handler.text_paths()).inspect(|_| {
            reader.bytes.drain(..end);
        }))
    }

    fn take_body(
        &self,
        reader: &mut Reader<'_>,
        head: &Head,
    ) -> io::Result<Result<RequestBody<'_>, Refusal>> {
        // Nobody knows how long one in chunks becomes: its share grows with it.
        let length = match head.body {
            BodyEnd::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyEnd::LastChunk => HEAD_MAX.min(self.max_body),
        };
        if length > self.max_body {
            return Ok(Err(Refusal::new(413, "the body is over the limit")));
        }
        let mut share = Share { total: &self.body_bytes, bytes: 0 };
        if !share.grow_to(length, self.most_bodies()) {
            return Ok(Err(too_many()));
        }
        if head.expects_continue && reader.bytes.len() < length {
            let deadline = Instant::now() + WRITE_TOTAL;
            write_all(reader.socket, b"HTTP/1.1 100 Continue\r\n\r\n", deadline)?;
        }
        let bytes = match head.body {
            BodyEnd::Length(_) => self.take_length(reader, length)?,
            BodyEnd::LastChunk => self.take_chunks(reader, &mut share)?,
        };
        Ok(bytes.map(|bytes| RequestBody { bytes, _share: share }))
    }

    fn take_length(
        &self,
        reader: &mut Reader<'_>,
        length: usize,
    ) -> io::Result<Result<Vec<u8>, Refusal>> {
        let began = Instant::now();
        while reader.bytes.len() < length {
            let have = reader.bytes.len();
            if let Err(refusal) = self.read_body(reader, began, have, length - have)? {
                return Ok(Err(refusal));
            }
        }
        let rest = reader.bytes.split_off(length);
        Ok(Ok(std::mem::replace(&mut reader.bytes, rest)))
    }

    fn take_chunks(
        &self,
        reader: &mut Reader<'_>,
        share: &mut Share<'_>,
    ) -> io::Result<Result<Vec<u8>, Refusal>> {
        let (mut body, began) = (ChunkedBody::new(self.max_body), Instant::now());
        loop {
            match body.take(&mut reader.bytes) {
                Ok(true) => return Ok(Ok(body.into_bytes())),
                Ok(false) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
            if !share.grow_to(body.len() + HEAD_MAX, self.most_bodies()) {
                return Ok(Err(too_many()));
            }
            if let Err(refusal) = self.read_body(reader, began, body.len(), HEAD_MAX)? {
                return Ok(Err(refusal));
            }
        }
    }

    /// What bodies may take together.
    fn most_bodies(&self) -> usize {
        BODIES_MAX.max(4 * self.max_body)
    }

    /// Reads at most `most` bytes of a body that has `have` since it `began`.
    fn read_body(
        &self,
        reader: &mut Reader<'_>,
        began: Instant,
        have: usize,
        most: usize,
    ) -> io::Result<Result<(), Refusal>> {
        // The floor is on the average, so a short pause on a good line costs nothing.
        let earned = Duration::from_millis(have as u64 * 1000 / BODY_FLOOR);
        Ok(match reader.read(began + self.limits.body_grace + earned, most)? {
            Some(1..) => Ok(()),
            Some(0) => Err(bad("the body ends half-way")),
            None => Err(Refusal::new(408, "the body came too slowly")),
        })
    }

    /// Has a worker answer, and adds what tiny_http cannot be made to send; whether it says that the connection stays
    /// open.
    fn answer(&self, head: &Head, body: &[u8]) -> (Vec<u8>, bool) {
        let may_wait = self.handler.may_wait(&head.request);
        let failed = match self.pool.answer(&head::serialise(head, body), may_wait) {
            Ok(answer) => match answer.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => {
                    let (status_line, rest) = answer.split_at(end + 2);
                    let is_broken = status_line.starts_with(b"HTTP/1.1 5");
                    let keeps_alive = head.keeps_alive && !is_broken && !self.stopped.is_stopped();
                    let connection: &[u8] = if keeps_alive {
                        b"Connection: keep-alive\r\n"
                    } else {
                        b"Connection: close\r\n"
                    };
                    return ([status_line, connection, rest].concat(), keeps_alive);
                }
                None => self.handler.refuse(500, "internal error"),
            },
            Err(Failure::Busy) => self.handler.refuse(503, "too many requests wait; try again"),
            Err(Failure::Broken(error)) => {
                log::error!("{}: a request got no answer: {error}", self.name);
                self.handler.refuse(503, "the server is out of resources; try again")
            }
        };
        (failed.with_header("Retry-After", "1").to_wire(), false)
    }
}

enum Taken<'a> {
    Request(Box<Head>, RequestBody<'a>),
    Refused(Refusal),
}

/// A whole body; its share of [`BODIES_MAX`] is given back when it is dropped.
struct RequestBody<'a> {
    bytes: Vec<u8>,
    _share: Share<'a>,
}

/// A part of [`BODIES_MAX`].
struct Share<'a> {
    total: &'a AtomicUsize,
    bytes: usize,
}

impl Share<'_> {
    /// Makes it at least `bytes`, where all together stay within `max`; whether they do.
    fn grow_to(&mut self, bytes: usize, max: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = |held: usize| held.checked_add(more).filter(|sum| *sum <= max);
        let fitted = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.bytes += if fitted { more } else { 0 };
        fitted
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn too_many() -> Refusal {
    Refusal::new(503, "too many large requests at one time")
}

/// Sends the last answer of a connection.
fn close_behind(socket: &Socket, answer: &[u8]) -> io::Result<()> {
    write_all(socket, answer, Instant::now() + WRITE_TOTAL)?;
    socket.end()
}

/// Sends a download: in chunks, whose end tells that it is whole; to HTTP/1.0 up to the close.
fn send_pieces(socket: &Socket, download: Download, chunked: bool) -> io::Result<()> {
    let deadline = Instant::now() + DOWNLOAD_TOTAL;
    let mut head = download.head.head_to_wire();
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
    socket.end()
}
