//! Server-sent events: one thread writes to every subscriber, none of which can hold it up.
//!
//! Sockets do not block here, and for a client that does not take an event only the newest one waits. So an
//! event must be a whole state, not a step from the one before. A stream costs one descriptor and no thread.
//! Runs on one thread, named by the owner; connections arrive from their own threads.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use parking_lot::Mutex;
use uuid::Uuid;

use super::response::Response;
use super::socket::Socket;
use crate::model::unix_time::UnixMs;
use crate::runtime::clock;

/// How many events a client that comes back can catch up on: at 4 a second, 8 s of a lost connection.
const RING: usize = 32;

/// The largest event; with [`RING`] it bounds what a returning client is sent at once (1 MiB).
const EVENT_MAX: usize = 32 * 1024;

/// New streams that wait for the broadcaster; it takes them all between two events.
const JOINING: usize = 64;

/// How long a connection's thread waits for a place among [`JOINING`].
const JOIN_WAIT: Duration = Duration::from_secs(1);

/// For how long it is remembered whose streams end: longer than one that was let in before takes to be among them.
const ENDED_FOR: Duration = Duration::from_secs(2 * JOIN_WAIT.as_secs());

/// How many of them at a time.
const ENDED_MAX: usize = 256;

/// How often a comment goes to quiet streams: it finds dead peers and keeps proxies from closing them.
const PING_EVERY: Duration = Duration::from_secs(15);

/// How long a client may take nothing at all before it is dropped.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How soon a socket that was full is tried again. std has no readiness wait for many sockets, and this
/// only runs while some client is behind.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The kernel's send buffer for one stream. Left alone it grows to megabytes for a client that never reads.
const SEND_BUFFER: usize = 32 * 1024;

/// Bytes read, and thrown away, from each client at a ping: a subscriber has nothing more to say.
const CHATTER_MAX: usize = 1024;

const PING: &[u8] = b": ping\n\n";

/// A hub of event streams. [`Handler::stream`](super::Handler::stream) names the hub a request subscribes to.
pub struct EventStream {
    shared: Arc<Subscribers>,
    joining: Sender<Subscriber>,
    // Holds one token at most: "look at the ring".
    wake: Sender<()>,
    broadcaster: Mutex<Option<Crew<()>>>,
}

struct Subscribers {
    max_clients: usize,
    clients: AtomicUsize,
    // The start: an id of an earlier run must not be taken for one of this run.
    epoch: UnixMs,
    ring: Mutex<Ring>,
    /// Whose streams end, and since when.
    ended: Mutex<VecDeque<(Uuid, Instant)>>,
}

#[derive(Default)]
struct Ring {
    // The number of the newest event; 0 before the first.
    newest: u64,
    events: VecDeque<(u64, Arc<[u8]>)>,
}

impl EventStream {
    /// Starts the broadcaster on a thread called `name`; at most `max_clients` streams at once.
    ///
    /// # Errors
    /// The operating system's, when it refuses another thread.
    pub fn start(name: &str, max_clients: usize) -> io::Result<Self> {
        let shared = Arc::new(Subscribers {
            max_clients,
            clients: AtomicUsize::new(0),
            epoch: clock::unix_ms(),
            ring: Mutex::default(),
            ended: Mutex::default(),
        });
        let (joining, joined) = bounded(JOINING);
        let (wake, woken) = bounded(1);
        let (source, stop) = stop_pair();
        let broadcaster = Broadcaster { shared: Arc::clone(&shared), clients: Vec::new(), sent: 0 };
        let mut crew = Crew::stopped_by(source);
        crew.spawn(name, move || broadcaster.run(&stop, &joined, &woken))?;
        Ok(Self { shared, joining, wake, broadcaster: Mutex::new(Some(crew)) })
    }

    /// Sends `data` to every subscriber as an event called `name`. Never waits; an event that overtakes one
    /// not yet taken replaces it.
    pub fn publish(&self, name: &str, data: &str) {
        if data.len() > EVENT_MAX {
            log::warn!(
                "event {name} of {} bytes is over the {EVENT_MAX} limit and is not sent",
                data.len()
            );
            return;
        }
        let mut ring = self.shared.ring.lock();
        ring.newest += 1;
        let number = ring.newest;
        let mut event = format!("id: {}-{number}\nevent: {name}\n", self.shared.epoch.0);
        for line in data.lines() {
            event.push_str(&format!("data: {line}\n"));
        }
        event.push('\n');
        if ring.events.len() == RING {
            ring.events.pop_front();
        }
        ring.events.push_back((number, event.into_bytes().into()));
        drop(ring);
        // Full means that the broadcaster has yet to look: it will see this event too.
        let _ = self.wake.try_send(());
    }

    /// Closes the streams of that owner, and one that is just opening. Never waits.
    pub fn end_of(&self, owner: Uuid) {
        let mut ended = self.shared.ended.lock();
        if ended.len() == ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back((owner, Instant::now()));
        drop(ended);
        let _ = self.wake.try_send(());
    }

    /// How many streams are open.
    pub fn clients(&self) -> usize {
        self.shared.clients.load(Ordering::Relaxed)
    }

    /// Closes every stream and joins the broadcaster. Later calls do nothing.
    pub fn shutdown(&self) {
        if let Some(crew) = self.broadcaster.lock().take() {
            crew.stop();
        }
    }

    /// Hands a connection over; false if there are too many already.
    pub(super) fn join(
        &self,
        socket: Arc<Socket>,
        last_id: Option<&str>,
        owner: Option<Uuid>,
    ) -> bool {
        let shared = &self.shared;
        let room = |open| (open < shared.max_clients).then_some(open + 1);
        if shared.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        let client = Subscriber::new(Arc::clone(shared), socket, last_id, owner);
        client.is_some_and(|client| self.joining.send_timeout(client, JOIN_WAIT).is_ok())
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Subscribers {
    /// What a new client is sent: all it missed if that is known, or else the newest event.
    fn greeting(&self, last_id: Option<&str>) -> (Vec<u8>, u64) {
        let known = last_id.and_then(|id| {
            let (epoch, number) = id.split_once('-')?;
            (epoch.parse() == Ok(self.epoch.0)).then(|| number.parse::<u64>().ok())?
        });
        let ring = self.ring.lock();
        let oldest = ring.events.front().map_or(0, |(number, _)| *number);
        let after = match known {
            Some(number) if number + 1 >= oldest && number <= ring.newest => number,
            _ => ring.newest.saturating_sub(1),
        };
        let mut bytes = head();
        for (_, event) in ring.events.iter().filter(|(number, _)| *number > after) {
            bytes.extend_from_slice(event);
        }
        (bytes, ring.newest)
    }
}

/// The answer's head and, for the browser, how many ms to wait before it connects again.
fn head() -> Vec<u8> {
    let answer = Response::new(200, "text/event-stream; charset=utf-8", "")
        .with_header("Cache-Control", "no-store")
        .with_header("X-Accel-Buffering", "no");
    (answer.head_to_wire() + "Connection: close\r\n\r\nretry: 2000\n\n").into_bytes()
}

/// One subscriber; dropping it closes the connection and gives its place back.
struct Subscriber {
    shared: Arc<Subscribers>,
    socket: Arc<Socket>,
    // What is being written, and how far it got: an event that was begun must be finished.
    current: Arc<[u8]>,
    written: usize,
    // The newest event that waits behind it.
    next: Option<Arc<[u8]>>,
    // The newest event it has or is about to get.
    latest: u64,
    stalled_since: Option<Instant>,
    owner: Option<Uuid>,
}

impl Subscriber {
    fn new(
        shared: Arc<Subscribers>,
        socket: Arc<Socket>,
        last_id: Option<&str>,
        owner: Option<Uuid>,
    ) -> Option<Self> {
        let (greeting, latest) = shared.greeting(last_id);
        let client = Self {
            shared,
            socket,
            current: greeting.into(),
            written: 0,
            next: None,
            latest,
            stalled_since: None,
            owner,
        };
        // Best effort: without it the stream works and costs more memory.
        let _ = socket2::SockRef::from(&*client.socket.tcp).set_send_buffer_size(SEND_BUFFER);
        client.socket.tcp.set_nonblocking(true).is_ok().then_some(client)
    }

    fn is_behind(&self) -> bool {
        self.written < self.current.len() || self.socket.has_unsent()
    }

    fn offer(&mut self, event: &Arc<[u8]>) {
        if self.is_behind() {
            self.next = Some(Arc::clone(event));
        } else {
            self.current = Arc::clone(event);
            self.written = 0;
        }
    }

    /// Writes what the socket takes; false if the client is gone or has stalled for too long.
    fn flush(&mut self, now: Instant) -> bool {
        loop {
            let rest = &self.current[self.written..];
            // Behind the last byte what TLS has not sent yet.
            let sent = if rest.is_empty() {
                self.socket.flush().map(|()| 0)
            } else {
                self.socket.write(rest)
            };
            match sent {
                Ok(0) if rest.is_empty() => {
                    self.stalled_since = None;
                    let Some(next) = self.next.take() else { return true };
                    (self.current, self.written) = (next, 0);
                }
                Ok(0) => return false,
                Ok(count) => {
                    self.written += count;
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = *self.stalled_since.get_or_insert(now);
                    return now.duration_since(since) < STALL_MAX;
                }
                Err(_) => return false,
            }
        }
    }

    fn has_left(&self) -> bool {
        match self.socket.read(&mut [0; CHATTER_MAX]) {
            Ok(count) => count == 0,
            Err(error) => {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // The connection's thread may still hold the socket for a moment: close it for both.
        let _ = self.socket.tcp.shutdown(Shutdown::Both);
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Broadcaster {
    shared: Arc<Subscribers>,
    clients: Vec<Subscriber>,
    // The newest event that was offered to all.
    sent: u64,
}

impl Broadcaster {
    fn run(mut self, stop: &StopToken, joined: &Receiver<Subscriber>, woken: &Receiver<()>) {
        let ping: Arc<[u8]> = PING.into();
        let mut next_ping = Instant::now() + PING_EVERY;
        loop {
            let behind = self.clients.iter().any(Subscriber::is_behind);
            let until_ping = next_ping.saturating_duration_since(Instant::now());
            let wait = if behind { until_ping.min(RETRY_EVERY) } else { until_ping };
            select! {
                recv(stop.channel()) -> _ => return,
                recv(joined) -> client => match client {
                    Ok(client) => self.clients.push(client),
                    Err(_) => return,
                },
                recv(woken) -> token => if token.is_err() { return },
                recv(after(wait)) -> _ => {}
            }
            self.clients.extend(joined.try_iter());
            self.offer_fresh();
            let now = Instant::now();
            self.end_owned(now);
            if now >= next_ping {
                next_ping = now + PING_EVERY;
                self.clients.retain(|client| !client.has_left());
                for client in self.clients.iter_mut().filter(|client| !client.is_behind()) {
                    client.offer(&ping);
                }
            }
            self.clients.retain_mut(|client| client.flush(now));
        }
    }

    fn end_owned(&mut self, now: Instant) {
        let mut ended = self.shared.ended.lock();
        ended.retain(|(_, since)| now.duration_since(*since) < ENDED_FOR);
        if !ended.is_empty() {
            let has_ended = |owner: Uuid| ended.iter().any(|(ended, _)| *ended == owner);
            self.clients.retain(|client| !client.owner.is_some_and(has_ended));
        }
    }

    fn offer_fresh(&mut self) {
        let fresh: Vec<_> = {
            let ring = self.shared.ring.lock();
            ring.events.iter().filter(|(number, _)| *number > self.sent).cloned().collect()
        };
        if let Some((number, _)) = fresh.last() {
            self.sent = *number;
        }
        for client in &mut self.clients {
            // One that joined between the publication and now has it in its greeting.
            for (number, event) in &fresh {
                if *number > client.latest {
                    client.offer(event);
                    client.latest = *number;
                }
            }
        }
    }
}
