//! A link between two machines, when both are this one: a TCP proxy in this process that can be cut, and delays.
//!
//! One thread accepts; each connection has, for each direction, one that reads and one that writes when the time of the
//! bytes has come. While a link is cut it takes no bytes and gives none, as a network that is down does: connections stay, and
//! go on when it is mended. All threads are joined on drop.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// Chunks on their way one way: 16 MiB at most, more than a millisecond of any link here.
const UNDER_WAY: usize = 256;

/// A running link.
pub(crate) struct Link {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<StopSource>,
    accept: Option<OwnedThread<()>>,
}

struct Shared {
    target: SocketAddr,
    /// One way.
    latency: Duration,
    state: Mutex<State>,
    changed: Condvar,
    sockets: Mutex<Vec<Weak<[TcpStream; 2]>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Up,
    Cut,
    Ended,
}

/// Bytes and the time at which they arrive; none of them is the end of the stream.
type Chunk = (Instant, Vec<u8>);

impl Link {
    /// A link on `ip` to `target`, each round trip `delay` longer than without.
    pub(crate) fn start(ip: std::net::IpAddr, target: SocketAddr, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            latency: delay / 2,
            state: Mutex::new(State::Up),
            changed: Condvar::new(),
            sockets: Mutex::default(),
        });
        let (stop, token) = stop_pair();
        let accept = OwnedThread::spawn("link", {
            let shared = shared.clone();
            move || shared.accept(&listener, &token)
        })?;
        Ok(Self { addr, shared, stop: Some(stop), accept: Some(accept) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn is_cut(&self) -> bool {
        *self.shared.state.lock().unwrap() == State::Cut
    }

    pub(crate) fn cut(&self) {
        self.shared.set(State::Cut);
    }

    pub(crate) fn mend(&self) {
        self.shared.set(State::Up);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.set(State::Ended);
        drop(self.stop.take());
        let _ = TcpStream::connect(self.addr);
        drop(self.accept.take());
    }
}

impl Shared {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    /// Waits until the link is up; false when it has ended.
    fn is_up(&self) -> bool {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| *state == State::Cut).unwrap();
        *state == State::Up
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, stop: &StopToken) {
        let mut pumps: Vec<OwnedThread<()>> = Vec::new();
        loop {
            let client = listener.accept();
            if stop.is_stopped() {
                break;
            }
            pumps.retain(|pump| !pump.is_finished());
            let Ok((client, _)) = client else { continue };
            let shared = self.clone();
            let pump = OwnedThread::spawn("link-connect", move || shared.carry(client));
            pumps.extend(pump.ok());
        }
        for sockets in self.sockets.lock().unwrap().iter().filter_map(Weak::upgrade) {
            sockets.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
        }
    }

    /// One connection, until both directions have ended.
    fn carry(self: &Arc<Self>, client: TcpStream) {
        if !self.is_up() {
            return;
        }
        // Nobody behind the link: the client sees its connection close.
        let Ok(server) = TcpStream::connect(self.target) else { return };
        let sockets = Arc::new([client, server]);
        sockets.iter().for_each(|socket| drop(socket.set_nodelay(true)));
        let mut known = self.sockets.lock().unwrap();
        known.retain(|of| of.strong_count() > 0);
        known.push(Arc::downgrade(&sockets));
        drop(known);
        // The link may have ended before it knew of this one.
        if *self.state.lock().unwrap() == State::Ended {
            return;
        }
        let mut threads = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let (give, take) = bounded(UNDER_WAY);
            let (shared, of) = (self.clone(), sockets.clone());
            threads.push(OwnedThread::spawn("link-read", move || shared.read(&of[from], &give)));
            let (shared, of) = (self.clone(), sockets.clone());
            threads.push(OwnedThread::spawn("link-write", move || {
                if shared.write(&of[to], &take).is_err() {
                    // The reader learns it as a peer would.
                    let _ = of[from].shutdown(Shutdown::Read);
                }
            }));
        }
        if threads.iter().any(Result::is_err) {
            sockets.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
        }
    }

    fn read(&self, mut from: &TcpStream, give: &Sender<Chunk>) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let chunk = (Instant::now() + self.latency, buffer[..count].to_vec());
            if give.send(chunk).is_err() || count == 0 {
                return;
            }
        }
    }

    fn write(&self, mut to: &TcpStream, take: &Receiver<Chunk>) -> std::io::Result<()> {
        for (due, chunk) in take {
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            if !self.is_up() {
                return Ok(());
            }
            if chunk.is_empty() {
                return to.shutdown(Shutdown::Write);
            }
            to.write_all(&chunk)?;
        }
        Ok(())
    }
}
