//! The sockets of the broker: accepts, reads commands, writes answers and messages, keeps the deadlines.
//! What any of it means is `session`'s and `core`'s business.
//!
//! Threads: `broker-accept`; `broker-timer`, which also joins connections that have ended; for each connection
//! `broker-read`, and once it is a consumer `broker-write`. Until then the reader writes the answers and the
//! heartbeats itself: a producer costs one thread, and its answer no switch to another.
//!
//! Locks: `core`, `peers` and each outbox's are leaves, none is taken while another is held, and none is held
//! across a socket call.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use nsq_protocol::thread::{OwnedThread, StopToken};
use nsq_protocol::{
    CommandDecoder, CommandError, ErrorCode, Frame, HEARTBEAT, MAGIC, MessageId, MessageRef,
};
use parking_lot::{Condvar, Mutex};

use super::config::BrokerConfig;
use super::core::{ClientId, Core, Effects, NumberMap};
use super::session::{Session, encode_error};

/// How long a connection may take to say `  V2`. nsqd waits for ever.
const MAGIC_WAIT: Duration = Duration::from_secs(10);

/// How long `accept` pauses after an error, which is mostly "no descriptor left" and would come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel completes ahead of `accept`: bench_channels opens thousands at once.
const BACKLOG: i32 = 1024;

/// The read buffer of a connection that has not yet filled it: most of a thousand connections are idle.
const READ_SMALL: usize = 4 << 10;

/// The read buffer of one that has: an MPUB of 200 × 200 bytes in one read, or 3000 FINs.
const READ_LARGE: usize = 64 << 10;

/// Bytes of messages taken from the core at a time, and so written at a time: beyond it a system call for
/// each byte gets no cheaper, and the core is locked for longer.
const PULL_BYTES: usize = 128 << 10;

/// Answers that wait for a consumer's writer, in bytes; with more, its commands are not read.
const OUTBOX_MAX: usize = 64 << 10;

/// A write buffer larger than this is given back: one large message must not stay for the connection's life.
const WRITE_KEEP: usize = 2 * PULL_BYTES;

/// How long the last answers may take to go out once the client has gone or been refused.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// How long, and how much, is read from a client after a fatal error: closing a socket with unread bytes
/// resets it, and the error frame may be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 8 << 20;

/// How long a refused connection may take for its error frame: the accept thread waits for it.
const REFUSE_WAIT: Duration = Duration::from_millis(100);

/// The stacks of a connection's threads. The reader parses IDENTIFY's JSON, at most 128 levels deep.
const READER_STACK: usize = 512 << 10;
const WRITER_STACK: usize = 256 << 10;

/// Messages timed out under one lock: a few hundred microseconds.
const TICK_MAX: usize = 2048;

/// After how long without a byte the kernel asks whether the peer is still there. For connections without
/// heartbeats it is the only sign of life.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A send buffer of the kernel: a reader that never reads holds no more of our memory. Linux doubles it.
const SEND_BUFFER: usize = 256 << 10;

/// What the threads share.
pub(super) struct Hub {
    pub(super) config: Arc<BrokerConfig>,
    core: Mutex<Core>,
    peers: Mutex<NumberMap<Peer>>,
    /// Holds one token at most: "the next deadline is sooner".
    sooner: Sender<()>,
    /// Connections that have ended; room for all there can be.
    ended: Sender<ClientId>,
    pub(super) stop: StopToken,
}

struct Peer {
    stream: Arc<TcpStream>,
    outbox: Arc<Outbox>,
    /// Joined when the peer is dropped.
    _thread: OwnedThread<()>,
}

/// The receiving ends of what [`Hub`] holds, for the timer.
pub(super) struct TimerInbox {
    sooner: Receiver<()>,
    ended: Receiver<ClientId>,
}

impl Hub {
    /// A hub without connections.
    pub(super) fn new(config: Arc<BrokerConfig>, stop: StopToken) -> (Self, TimerInbox) {
        let (sooner_tx, sooner) = bounded(1);
        let (ended_tx, ended) = bounded(config.max_connections.max(1));
        let core = Mutex::new(Core::new((*config).clone(), wall_ns() / 1_000_000_000));
        let peers = Mutex::new(NumberMap::default());
        (
            Self { config, core, peers, sooner: sooner_tx, ended: ended_tx, stop },
            TimerInbox { sooner, ended },
        )
    }

    /// Does something with the core under its lock, and behind it what that entails outside.
    pub(super) fn with_core<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R {
        let (result, effects) = self.locked(work);
        self.carry_out(effects);
        result
    }

    fn locked<R>(&self, work: impl FnOnce(&mut Core) -> R) -> (R, Effects) {
        let mut core = self.core.lock();
        let result = work(&mut core);
        (result, core.take_effects())
    }

    fn carry_out(&self, effects: Effects) {
        if effects.sooner {
            // Full: the timer has yet to look, and will see this deadline too.
            let _ = self.sooner.try_send(());
        }
        if !effects.wake.is_empty() {
            let outboxes: Vec<Arc<Outbox>> = {
                let peers = self.peers.lock();
                let peers = effects.wake.iter().filter_map(|id| peers.get(id));
                peers.map(|peer| Arc::clone(&peer.outbox)).collect()
            };
            outboxes.iter().for_each(|outbox| outbox.wake());
        }
        if !effects.close.is_empty() {
            let streams: Vec<Arc<TcpStream>> = {
                let peers = self.peers.lock();
                let peers = effects.close.iter().filter_map(|id| peers.get(id));
                peers.map(|peer| Arc::clone(&peer.stream)).collect()
            };
            for stream in streams {
                // Already closed is fine.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        drop(effects.garbage);
    }

    /// Ends and joins all connections. The accept thread must have been joined.
    pub(super) fn close_all(&self) {
        let peers = std::mem::take(&mut *self.peers.lock());
        for peer in peers.values() {
            let _ = peer.stream.shutdown(Shutdown::Both);
        }
    }
}

/// The wall clock, in ns since the Unix epoch.
pub(super) fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Listens on `address`.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the hub's stop; the owner wakes it with a connection.
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
    if hub.peers.lock().len() >= max {
        refuse(&stream, max);
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let stream = Arc::new(stream);
    let outbox = Arc::new(Outbox::default());
    let reader = Reader::new(Arc::clone(hub), id, Arc::clone(&stream), Arc::clone(&outbox));
    // Held until the peer is entered, so that its end cannot be reported before.
    let mut peers = hub.peers.lock();
    let body = move || reader.run(address);
    let thread = OwnedThread::spawn_with_stack("broker-read", READER_STACK, body)?;
    peers.insert(id, Peer { stream, outbox, _thread: thread });
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

/// Times messages out, delivers deferred ones, and joins connections that have ended, until the hub's stop.
pub(super) fn timer_loop(hub: &Hub, inbox: &TimerInbox) {
    loop {
        let (again, next) = hub.with_core(|core| {
            let again = core.tick(Instant::now(), TICK_MAX);
            (again, core.next_deadline())
        });
        let alarm = match next {
            _ if again => crossbeam_channel::at(Instant::now()),
            Some(next) => crossbeam_channel::at(next),
            None => never(),
        };
        select! {
            recv(hub.stop.channel()) -> _ => return,
            recv(inbox.sooner) -> _ => {}
            recv(inbox.ended) -> id => {
                let peer = id.ok().and_then(|id| hub.peers.lock().remove(&id));
                // Joins, at once: reporting was the last thing it did.
                drop(peer);
            }
            recv(alarm) -> _ => {}
        }
    }
}

/// What waits for a consumer's writer.
#[derive(Default)]
struct Outbox {
    state: Mutex<OutboxState>,
    /// There is something for the writer.
    work: Condvar,
    /// There is room, or the writer has ended.
    room: Condvar,
}

#[derive(Default)]
struct OutboxState {
    frames: Vec<u8>,
    /// The core has messages for this consumer.
    wake: bool,
    /// Write what is here, then end.
    closing: bool,
    /// The writer has ended; nothing more goes out.
    ended: bool,
}

impl Outbox {
    fn wake(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.wake, true) {
            self.work.notify_one();
        }
    }

    /// Adds answers; waits while too many wait already. False: the writer has ended.
    fn push(&self, frames: &[u8]) -> bool {
        let mut state = self.state.lock();
        while state.frames.len() >= OUTBOX_MAX && !state.ended {
            self.room.wait(&mut state);
        }
        state.frames.extend_from_slice(frames);
        self.work.notify_one();
        !state.ended
    }

    /// Asks the writer to end and gives it `wait`; false if it still writes then.
    fn close(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        state.closing = true;
        self.work.notify_one();
        while !state.ended {
            if self.room.wait_until(&mut state, deadline).timed_out() {
                return state.ended;
            }
        }
        true
    }
}

/// How a connection's reading came to its end.
enum End {
    /// The client closed, the socket failed, or the broker stops.
    Closed,
    /// The client was silent for too long.
    Silent,
    /// Its bytes or its command deserve this frame.
    Fatal(CommandError),
    /// As `Fatal`, the frame already sent.
    Told,
}

/// A connection's reading side, and its writing side while it is no consumer.
struct Reader {
    hub: Arc<Hub>,
    id: ClientId,
    stream: Arc<TcpStream>,
    outbox: Arc<Outbox>,
    session: Session,
    decoder: CommandDecoder,
    decoder_is_large: bool,
    writer: Option<OwnedThread<()>>,
    /// Only while there is no writer.
    heartbeat_at: Option<Instant>,
    /// By when the command being read must be whole.
    read_by: Option<Instant>,
    /// The socket's read timeout as last set.
    armed: Option<Duration>,
}

impl Reader {
    fn new(hub: Arc<Hub>, id: ClientId, stream: Arc<TcpStream>, outbox: Arc<Outbox>) -> Self {
        let session = Session::new(id, Arc::clone(&hub.config));
        let decoder = CommandDecoder::new(READ_SMALL, hub.config.command_limits());
        Self {
            hub,
            id,
            stream,
            outbox,
            session,
            decoder,
            decoder_is_large: false,
            writer: None,
            heartbeat_at: None,
            read_by: None,
            armed: None,
        }
    }

    fn run(mut self, address: SocketAddr) {
        if let Some(end) = self.magic() {
            self.part(end);
        } else {
            let remote = address.to_string();
            log::debug!("broker: {remote} connected");
            self.hub.with_core(|core| core.connect(self.id, remote, wall_ns() / 1_000_000_000));
            let end = self.converse();
            // Before anything that may wait: what it holds goes to others at once.
            self.hub.with_core(|core| core.disconnect(self.id));
            log::debug!("broker: {address} disconnected");
            self.part(end);
        }
        // The peer's place is taken until this is received, so there is room.
        let _ = self.hub.ended.try_send(self.id);
    }

    /// Reads the magic; `Some` if the connection ends here.
    fn magic(&mut self) -> Option<End> {
        let deadline = Instant::now() + MAGIC_WAIT;
        let mut magic = [0; MAGIC.len()];
        let mut have = 0;
        while have < magic.len() {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Some(End::Silent);
            }
            if self.arm(Some(wait), Duration::ZERO).is_err() {
                return Some(End::Closed);
            }
            match (&*self.stream).read(&mut magic[have..]) {
                Ok(0) => return Some(End::Closed),
                Ok(count) => have += count,
                Err(error) if is_transient(&error) => {}
                Err(_) => return Some(End::Closed),
            }
        }
        (magic != *MAGIC).then(|| End::Fatal(CommandError::new(ErrorCode::BadProtocol, "")))
    }

    fn converse(&mut self) -> End {
        if self.keep_time(Instant::now()).is_err() {
            return End::Closed;
        }
        let mut requests = Vec::new();
        let mut out = Vec::new();
        loop {
            if let Err(end) = self.fill() {
                return end;
            }
            let heartbeat = self.session.heartbeat();
            let mut bad = None;
            let mut any = false;
            loop {
                let request = match self.decoder.next_command() {
                    Ok(Some(command)) => self.session.read(command),
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                any = true;
                match request {
                    Ok(request) => requests.push(request),
                    Err(error) => {
                        bad = Some(error);
                        break;
                    }
                }
            }
            let now = Instant::now();
            if self.session.heartbeat() != heartbeat && self.keep_time(now).is_err() {
                return End::Closed;
            }
            if any {
                self.rearm(now);
            }
            let (applied, effects) = self
                .hub
                .locked(|core| self.session.apply(&mut requests, core, now, wall_ns(), &mut out));
            // The answers first: a message must not overtake the OK of the SUB.
            let sent = self.answer(&out);
            self.hub.carry_out(effects);
            out.clear();
            if sent.is_err() {
                return End::Closed;
            }
            match (applied, bad) {
                (ControlFlow::Break(()), _) => return End::Told,
                (_, Some(error)) => return End::Fatal(error),
                _ => {}
            }
        }
    }

    /// Starts all clocks for the client's heartbeat interval.
    fn keep_time(&mut self, now: Instant) -> io::Result<()> {
        let interval = self.session.heartbeat();
        self.heartbeat_at = interval.map(|interval| now + interval);
        self.rearm(now);
        self.stream.set_write_timeout(interval)
    }

    /// From now on the next command has twice the heartbeat interval to arrive.
    fn rearm(&mut self, now: Instant) {
        self.read_by = self.session.heartbeat().map(|interval| now + 2 * interval);
    }

    /// Waits for bytes; sends heartbeats meanwhile, unless a writer does.
    fn fill(&mut self) -> Result<(), End> {
        loop {
            let now = Instant::now();
            let slack = self.session.heartbeat().unwrap_or_default() / 16;
            if self.read_by.is_some_and(|by| now >= by) {
                return Err(self.decoder.cut_short().map_or(End::Silent, End::Fatal));
            }
            let heartbeat_at = self.heartbeat_at.filter(|_| self.writer.is_none());
            if let (Some(at), Some(interval)) = (heartbeat_at, self.session.heartbeat())
                && now >= at
            {
                self.heartbeat_at = Some(now + interval);
                let mut out = Vec::new();
                Frame::Response(HEARTBEAT).encode(&mut out);
                self.answer(&out).map_err(|_| End::Closed)?;
                continue;
            }
            let until = [self.read_by, heartbeat_at].into_iter().flatten().min();
            let wait = until.map(|until| until.saturating_duration_since(now));
            self.arm(wait, slack).map_err(|_| End::Closed)?;
            let space = self.decoder.space();
            let room = space.len();
            match (&*self.stream).read(space) {
                Ok(0) => return Err(self.decoder.cut_short().map_or(End::Closed, End::Fatal)),
                Ok(count) => {
                    self.decoder.advance(count);
                    if count == room && !self.decoder_is_large {
                        self.decoder_is_large = true;
                        self.decoder.set_at_rest(READ_LARGE);
                    }
                    return Ok(());
                }
                Err(error) if is_transient(&error) => {}
                Err(_) => return Err(End::Closed),
            }
        }
    }

    /// Makes the next read end after `wait`, or up to `slack` later. Setting the timeout is a system call,
    /// so one that will do is left as it is; too short a one only wakes the loop once for nothing.
    fn arm(&mut self, wait: Option<Duration>, slack: Duration) -> io::Result<()> {
        let will_do = match (self.armed, wait) {
            (None, None) => true,
            (Some(armed), Some(wait)) => armed <= wait + slack && armed >= wait / 2,
            _ => false,
        };
        if !will_do {
            // A timeout of zero would mean none.
            self.stream.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
            self.armed = wait;
        }
        Ok(())
    }

    /// Sends answers: through the writer if there is one, else itself. Starts the writer once the connection
    /// is a consumer.
    fn answer(&mut self, out: &[u8]) -> io::Result<()> {
        if self.writer.is_none()
            && self.session.is_subscribed()
            && let Some(interval) = self.session.heartbeat()
        {
            self.outbox.push(out);
            let (hub, id) = (Arc::clone(&self.hub), self.id);
            let (stream, outbox) = (Arc::clone(&self.stream), Arc::clone(&self.outbox));
            let heartbeat_at = self.heartbeat_at.unwrap_or_else(|| Instant::now() + interval);
            let body = move || {
                let result = write_loop(&hub, id, &stream, &outbox, interval, heartbeat_at);
                if result.is_err() {
                    // Ends the reader too.
                    let _ = stream.shutdown(Shutdown::Both);
                }
                outbox.state.lock().ended = true;
                outbox.room.notify_all();
            };
            let thread = OwnedThread::spawn_with_stack("broker-write", WRITER_STACK, body);
            if thread.is_err() {
                self.outbox.state.lock().ended = true;
            }
            self.writer = Some(thread?);
            return Ok(());
        }
        if out.is_empty() {
            return Ok(());
        }
        if self.writer.is_some() {
            let sent = self.outbox.push(out);
            return if sent { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) };
        }
        write_within(&self.stream, out, self.session.heartbeat())
    }

    /// Sends what is left to send and closes.
    fn part(&mut self, end: End) {
        let told = match end {
            End::Closed | End::Silent => false,
            End::Told => true,
            End::Fatal(error) => {
                log::info!("broker: closing a connection: {error}");
                let mut out = Vec::new();
                encode_error(&error, &mut out);
                if self.writer.is_some() {
                    self.outbox.push(&out)
                } else {
                    self.stream.set_write_timeout(Some(FLUSH_WAIT)).is_ok()
                        && write_within(&self.stream, &out, Some(FLUSH_WAIT)).is_ok()
                }
            }
        };
        if self.writer.is_some() && !self.outbox.close(FLUSH_WAIT) {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        // Its socket is closed or it has ended already.
        drop(self.writer.take());
        let _ = self.stream.shutdown(Shutdown::Write);
        if told {
            self.linger();
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Reads and drops what the client still sends, so that closing does not take the error frame back.
    fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        let mut scrap = [0; READ_SMALL];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() || self.arm(Some(wait), Duration::ZERO).is_err() {
                return;
            }
            match (&*self.stream).read(&mut scrap) {
                Ok(0) => return,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if is_transient(&error) => {}
                Err(_) => return,
            }
        }
    }
}

/// Writes answers, messages and heartbeats of one consumer until the outbox closes or the socket fails.
fn write_loop(
    hub: &Hub,
    id: ClientId,
    stream: &TcpStream,
    outbox: &Outbox,
    interval: Duration,
    mut heartbeat_at: Instant,
) -> io::Result<()> {
    let mut out = Vec::new();
    let mut runs = Vec::new();
    // There may be messages before the first wake.
    let mut more = true;
    loop {
        let closing = {
            let mut state = outbox.state.lock();
            while !(more || state.wake || state.closing || !state.frames.is_empty()) {
                if outbox.work.wait_until(&mut state, heartbeat_at).timed_out() {
                    break;
                }
            }
            state.wake = false;
            out.append(&mut state.frames);
            outbox.room.notify_one();
            state.closing
        };
        let now = Instant::now();
        if now >= heartbeat_at {
            Frame::Response(HEARTBEAT).encode(&mut out);
            heartbeat_at = now + interval;
        }
        more = !closing && hub.with_core(|core| core.pull(id, now, PULL_BYTES, &mut runs));
        for run in runs.drain(..) {
            for (number, body) in run.messages() {
                let message = MessageRef {
                    timestamp_ns: run.batch.timestamp_ns,
                    attempts: run.attempts,
                    id: MessageId::from_u64(number),
                    body,
                };
                Frame::Message(message).encode(&mut out);
            }
        }
        if !out.is_empty() {
            write_within(stream, &out, Some(interval))?;
            out.clear();
            out.shrink_to(WRITE_KEEP);
        }
        if closing {
            return stream.shutdown(Shutdown::Write);
        }
    }
}

/// Writes all of `bytes`, within `limit` if there is one. The socket's write timeout must be `limit` too; it is
/// set once, not for each write.
fn write_within(
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
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
