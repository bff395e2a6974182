//! Reads a connection's commands and has them carried out, on its thread `broker-read`. Until the client is a
//! consumer it also writes the answers and the heartbeats: a producer costs one thread, and its answer no switch to
//! another.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::{
    CommandDecoder, CommandError, ErrorCode, Frame, HEARTBEAT, Inbound, MAGIC, Outbound,
};

use super::apply;
use super::core::ClientId;
use super::hub::Hub;
use super::outbox::ConsumerOutbox;
use super::session::{CheckedCommand, Session, asks, encode_error};
use super::socket::{Unread, finish, is_transient, read_some, write_within};
use super::writer::{ConsumerWriter, FLUSH_WAIT};
use crate::runtime::clock;

/// How long a connection may take to say `  V2`. nsqd waits for ever.
const MAGIC_WAIT: Duration = Duration::from_secs(10);

/// The read buffer of a connection that has not yet filled it: an IDENTIFY, a few small PUBs or 48 FINs. Most of a thousand
/// connections are idle.
const READ_SMALL: usize = 1 << 10;

/// How much larger a read buffer gets each time it is filled.
const READ_GROWTH: usize = 8;

/// The largest: an MPUB of 200 × 200 bytes in one read, or 3000 FINs.
const READ_LARGE: usize = 64 << 10;

/// Room for commands that is kept from one read to the next: that of a large one full of FINs.
const REQUESTS_KEPT: usize = READ_LARGE / 16;

/// How long, and how much, is read from a client after a fatal error: closing a socket with unread bytes
/// resets it, and the error frame may be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 8 << 20;

/// The stack of a reader: it parses IDENTIFY's JSON, at most 128 levels deep.
pub(super) const READER_STACK: usize = 512 << 10;

/// How a connection's reading came to its end.
pub(super) enum End {
    /// The client closed, the socket failed, or the broker stops.
    Closed,
    /// The client was silent for too long.
    Silent,
    /// Its bytes or its command deserve this frame.
    Fatal(CommandError),
    /// As `Fatal`, the frame already sent.
    ErrorSent,
}

/// How far commands were taken.
enum DecodedUpTo {
    /// The end of what was read.
    End,
    /// One that an authorization server may be asked about.
    Question,
}

/// A connection's reading side, and its writing side while it is no consumer.
pub(super) struct ConnectionReader {
    pub(super) hub: Arc<Hub>,
    pub(super) id: ClientId,
    /// The client's.
    address: SocketAddr,
    pub(super) stream: Arc<TcpStream>,
    /// What received bytes pass through, behind the magic.
    pub(super) inbound: Inbound,
    /// The same of those that are sent; the writer takes it.
    pub(super) outbound: Outbound,
    outbox: Arc<ConsumerOutbox>,
    pub(super) session: Session,
    decoder: CommandDecoder,
    /// Whether the client may send the command whose body is under way.
    is_head_checked: bool,
    /// The size of the decoder's buffer while no larger command is read.
    read_buffer: usize,
    writer: Option<ConsumerWriter>,
    /// Only while there is no writer.
    heartbeat_at: Option<Instant>,
    /// By when the command being read must be whole.
    read_by: Option<Instant>,
    /// The socket's read timeout as last set.
    read_timeout: Option<Duration>,
}

impl ConnectionReader {
    pub(super) fn new(
        hub: Arc<Hub>,
        id: ClientId,
        address: SocketAddr,
        stream: Arc<TcpStream>,
        outbox: Arc<ConsumerOutbox>,
    ) -> Box<Self> {
        let session = Session::new(id, address.ip(), Arc::clone(&hub.config));
        let decoder = CommandDecoder::new(READ_SMALL, hub.config.command_limits());
        Box::new(Self {
            hub,
            id,
            address,
            stream,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            outbox,
            session,
            decoder,
            is_head_checked: false,
            read_buffer: READ_SMALL,
            writer: None,
            heartbeat_at: None,
            read_by: None,
            read_timeout: None,
        })
    }

    /// Boxed, so that no copy of it lies on the stack of a thread of which there are thousands.
    pub(super) fn run(mut self: Box<Self>) {
        if let Some(end) = self.read_magic() {
            self.close(end);
        } else {
            let remote = self.address.to_string();
            log::debug!("broker: {remote} connected");
            self.hub.with_core(|core| core.connect(self.id, remote, clock::unix_ms()));
            let end = self.serve();
            // Before anything that may wait: what it holds goes to others at once.
            self.hub.disconnect(self.id);
            log::debug!("broker: {} disconnected", self.address);
            self.close(end);
        }
        // The peer's place is taken until this is received, so there is room.
        let _ = self.hub.ended.try_send(self.id);
    }

    /// Reads the magic; `Some` if the connection ends here.
    #[inline(never)]
    fn read_magic(&mut self) -> Option<End> {
        let deadline = Instant::now() + MAGIC_WAIT;
        let mut magic = [0; MAGIC.len()];
        let mut have = 0;
        while have < magic.len() {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Some(End::Silent);
            }
            if self.limit_reads(Some(wait), Duration::ZERO).is_err() {
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

    fn serve(&mut self) -> End {
        if self.restart_timers(Instant::now()).is_err() {
            return End::Closed;
        }
        let mut requests = Vec::new();
        let mut out = Vec::new();
        let mut has_more = false;
        loop {
            if !has_more && let Err(end) = self.fill() {
                return end;
            }
            let heartbeat = self.session.heartbeat();
            let decoded = self.decode(&mut requests);
            has_more = matches!(decoded, Ok(DecodedUpTo::Question));
            let any = decoded.is_err() || !requests.is_empty();
            let now = Instant::now();
            if self.session.heartbeat() != heartbeat && self.restart_timers(now).is_err() {
                return End::Closed;
            }
            self.hub.prepare(requests.iter().filter_map(CheckedCommand::topic));
            let (applied, mut effects) =
                apply::apply(&self.hub, &self.session, &mut requests, now, &mut out);
            // Before the answers: a client that does not read them holds nobody else up. But its own messages come behind them.
            let wakes_itself = effects.take_wake(self.id);
            self.hub.carry_out(effects);
            if self.answer(&out).is_err() {
                return End::Closed;
            }
            if wakes_itself {
                self.outbox.wake();
            }
            out.clear();
            out.shrink_to(READ_LARGE);
            requests.shrink_to(REQUESTS_KEPT);
            if any {
                // From now on, and not from when it was read: a disk or an nsqlookupd may have been waited for.
                self.extend_read_by(Instant::now());
            }
            match (applied, decoded) {
                (ControlFlow::Break(()), _) => return End::ErrorSent,
                (_, Err(error)) => return End::Fatal(error),
                _ => {}
            }
            if let Some(upgrade) = self.session.take_upgrade()
                && let Err(end) = self.upgrade(upgrade)
            {
                return end;
            }
        }
    }

    /// Takes the whole commands of what was read; the error is that of the first which cannot be. Never inlined, nor are
    /// `fill` and `read_magic`: what they need of the stack is free again when the commands are carried out, and a page of it
    /// is 4 KiB for each connection.
    #[inline(never)]
    fn decode(&mut self, requests: &mut Vec<CheckedCommand>) -> Result<DecodedUpTo, CommandError> {
        let may_ask = self.session.may_ask();
        loop {
            // It may take seconds for each server: what came before is done and answered first.
            if may_ask && !requests.is_empty() && self.next_asks() {
                return Ok(DecodedUpTo::Question);
            }
            let request = match self.decoder.next_command() {
                Ok(Some(command)) => {
                    self.is_head_checked = false;
                    self.session.read(command)?
                }
                Ok(None) => return self.check_head(false).map(|()| DecodedUpTo::End),
                Err(error) => {
                    self.check_head(true)?;
                    return Err(error);
                }
            };
            let is_identify = matches!(request, CheckedCommand::Identify(_));
            requests.push(request);
            if is_identify && self.session.wants_upgrade() {
                let early = self.decoder.pending();
                if early == 0 {
                    return Ok(DecodedUpTo::End);
                }
                // nsqd loses them. Taken as what comes encrypted they could be anybody's.
                requests.pop();
                let text = format!(
                    "IDENTIFY failed {early} bytes came before the upgrade: wait for its answer"
                );
                return Err(CommandError::new(ErrorCode::IdentifyFailed, text));
            }
        }
    }

    /// Whether the next command is one that an authorization server is asked about.
    #[inline(never)]
    fn next_asks(&self) -> bool {
        self.decoder.head().is_some_and(|head| asks(&head.command))
    }

    /// Checks once whether the client may send the command whose body is under way, or `is_bad`: else anybody could have thousands
    /// of them kept.
    #[inline(never)]
    fn check_head(&mut self, is_bad: bool) -> Result<(), CommandError> {
        if self.is_head_checked || !self.session.is_guarded() {
            return Ok(());
        }
        // With its size, which may be what is wrong with it: how the stream is cut decides nothing.
        let Some(head) = self.decoder.head().filter(|head| head.body_size.is_some()) else {
            return Ok(());
        };
        self.is_head_checked = true;
        let began = Instant::now();
        let checked = self.session.check_head(&head, is_bad);
        // An authorization server may have been waited for, which is not the client's time.
        self.read_by = self.read_by.map(|by| by + began.elapsed());
        checked
    }

    /// Starts all clocks for the client's heartbeat interval.
    pub(super) fn restart_timers(&mut self, now: Instant) -> io::Result<()> {
        let interval = self.session.heartbeat();
        self.heartbeat_at = interval.map(|interval| now + interval);
        self.extend_read_by(now);
        self.stream.set_write_timeout(interval)
    }

    /// From now on the next command has twice the heartbeat interval to arrive.
    fn extend_read_by(&mut self, now: Instant) {
        self.read_by = self.session.heartbeat().map(|interval| now + 2 * interval);
    }

    /// Waits for bytes; sends heartbeats meanwhile, unless a writer does.
    #[inline(never)]
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
            self.limit_reads(wait, slack).map_err(|_| End::Closed)?;
            let space = self.decoder.space();
            let room = space.len();
            match read_some(&self.stream, &mut self.inbound, space, until) {
                Ok(0) => self.flush().map_err(|_| End::Closed)?,
                Ok(count) => {
                    self.decoder.advance(count);
                    if count == room && self.read_buffer < READ_LARGE {
                        self.read_buffer = (self.read_buffer * READ_GROWTH).min(READ_LARGE);
                        self.decoder.set_at_rest(self.read_buffer);
                    }
                    return Ok(());
                }
                Err(Unread::Wait) => {}
                Err(Unread::Closed) => {
                    return Err(self.decoder.cut_short().map_or(End::Closed, End::Fatal));
                }
                Err(Unread::Damaged(error)) => return Err(End::Fatal(error)),
                Err(Unread::Failed) => return Err(End::Closed),
            }
        }
    }

    /// Has sent what reading made TLS say.
    fn flush(&mut self) -> io::Result<()> {
        self.inbound.take_flush();
        if self.writer.is_some() {
            self.outbox.wake();
            return Ok(());
        }
        write_within(&self.stream, &mut self.outbound, b"", self.session.heartbeat())
    }

    /// Makes the next read end after `wait`, or up to `slack` later. Setting the timeout is a system call,
    /// so one that will do is left as it is; too short a one only wakes the loop once for nothing.
    fn limit_reads(&mut self, wait: Option<Duration>, slack: Duration) -> io::Result<()> {
        let will_do = match (self.read_timeout, wait) {
            (None, None) => true,
            (Some(read_timeout), Some(wait)) => {
                read_timeout <= wait + slack && read_timeout >= wait / 2
            }
            _ => false,
        };
        if will_do { Ok(()) } else { self.set_read_timeout(wait) }
    }

    pub(super) fn set_read_timeout(&mut self, wait: Option<Duration>) -> io::Result<()> {
        // A timeout of zero would mean none.
        self.stream.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
        self.read_timeout = wait;
        Ok(())
    }

    /// Sends answers: through the writer if there is one, else itself. Starts the writer once the connection
    /// is a consumer.
    pub(super) fn answer(&mut self, out: &[u8]) -> io::Result<()> {
        if self.writer.is_none()
            && self.session.is_subscribed()
            && let Some(interval) = self.session.heartbeat()
        {
            self.outbox.push(out);
            let heartbeat_at = self.heartbeat_at.unwrap_or_else(|| Instant::now() + interval);
            self.writer = Some(ConsumerWriter::start(
                &self.hub,
                self.id,
                &self.stream,
                std::mem::take(&mut self.outbound),
                &self.outbox,
                (interval, heartbeat_at),
            )?);
            return Ok(());
        }
        if out.is_empty() {
            return Ok(());
        }
        if self.writer.is_some() {
            let sent = self.outbox.push(out);
            return if sent { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) };
        }
        write_within(&self.stream, &mut self.outbound, out, self.session.heartbeat())
    }

    /// Sends what is left to send and closes.
    fn close(&mut self, end: End) {
        let error_sent = match end {
            End::Closed | End::Silent => false,
            End::ErrorSent => true,
            End::Fatal(error) => {
                log::info!("broker: closing a connection: {error}");
                let mut out = Vec::new();
                encode_error(&error, &mut out);
                if self.writer.is_some() {
                    self.outbox.push(&out)
                } else {
                    self.stream.set_write_timeout(Some(FLUSH_WAIT)).is_ok()
                        && write_within(&self.stream, &mut self.outbound, &out, Some(FLUSH_WAIT))
                            .is_ok()
                }
            }
        };
        drop(self.writer.take());
        let _ = finish(&self.stream, &mut self.outbound, FLUSH_WAIT);
        if error_sent {
            self.linger();
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Reads and drops what the client still sends, so that closing does not take the error frame back.
    fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        let mut scrap = vec![0; READ_LARGE];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() || self.limit_reads(Some(wait), Duration::ZERO).is_err() {
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
