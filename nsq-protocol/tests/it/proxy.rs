//! A TCP proxy in this process that spoils connections in a seeded, repeatable way.
//!
//! Two threads for each connection, one for each direction, and one that accepts; all are joined on drop. What a
//! connection suffers depends on the seed, its number and the direction alone; when it comes does not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};

/// What is read at once: a few frames.
const CHUNK: usize = 4 << 10;

/// What a proxy does to its connections.
#[derive(Clone, Debug)]
pub(crate) enum Toxic {
    /// Nothing.
    Clean,
    /// Each chunk comes late, by up to this.
    Delay(Duration),
    /// One byte for each write.
    Slice,
    /// Bytes per second.
    Rate(u64),
    /// After so many bytes one way, an orderly end for both sides, most likely in the middle of a frame.
    Cut(Range<u64>),
    /// After so many bytes one way, a reset for both sides.
    Reset(Range<u64>),
    /// After so many bytes one way, what comes either way is thrown away: the peer is gone without a word.
    /// Connections after the first are clean.
    Swallow(Range<u64>),
    /// After so many bytes one way, nothing is taken any more either way. Connections after the first are clean.
    Stall(Range<u64>),
}

/// What moves a direction's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// From the client to nsqd.
    Up = 0,
    /// From nsqd to the client.
    Down = 1,
}

const FLOWS: u8 = 0;
const SWALLOWED: u8 = 1;
const STALLED: u8 = 2;
const RESET: u8 = 3;

/// A running proxy.
pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<StopSource>,
    accept: Option<OwnedThread<()>>,
}

struct Shared {
    target: SocketAddr,
    toxic: Toxic,
    seed: u64,
    accepted: AtomicU64,
    pairs: Mutex<Vec<Weak<Pair>>>,
}

/// One connection: the client's socket and nsqd's.
struct Pair {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    /// Of each [`Way`].
    states: [AtomicU8; 2],
}

impl Pair {
    fn set(&self, state: u8) {
        self.states.iter().for_each(|of| of.store(state, Ordering::SeqCst));
    }

    /// An orderly end for both sides.
    fn cut(&self) {
        for stream in [&self.client, &self.server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// A reset for both sides, once the two threads let go of the sockets.
    fn reset(&self) {
        self.set(RESET);
        for stream in [&self.client, &self.server] {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            // Wakes the threads and sends nothing.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

impl Proxy {
    pub(crate) fn start(target: SocketAddr, toxic: Toxic, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert_ne!(addr, target, "the proxy would be its own peer");
        let accepted = AtomicU64::new(0);
        let shared = Arc::new(Shared { target, toxic, seed, accepted, pairs: Mutex::default() });
        let (stop, token) = stop_pair();
        let accept = OwnedThread::spawn("proxy", {
            let shared = shared.clone();
            move || shared.accept(&listener, &token)
        });
        Self { addr, shared, stop: Some(stop), accept: Some(accept.unwrap()) }
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// What comes this way on the connections that are there now is thrown away.
    pub(crate) fn swallow(&self, way: Way) {
        self.each(|pair| pair.states[way as usize].store(SWALLOWED, Ordering::SeqCst));
    }

    /// Nothing is taken either way any more on the connections that are there now.
    pub(crate) fn stall(&self) {
        self.each(|pair| pair.set(STALLED));
    }

    /// Resets the connections that are there now.
    pub(crate) fn reset(&self) {
        self.each(Pair::reset);
    }

    fn each(&self, act: impl Fn(&Pair)) {
        let pairs = self.shared.pairs.lock().unwrap();
        pairs.iter().filter_map(Weak::upgrade).for_each(|pair| act(&pair));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = TcpStream::connect(self.addr);
        drop(self.accept.take());
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener, stop: &StopToken) {
        let mut pumps: Vec<OwnedThread<()>> = Vec::new();
        loop {
            let client = listener.accept();
            if stop.is_stopped() {
                break;
            }
            pumps.retain(|pump| !pump.is_finished());
            let Ok((client, _)) = client else { continue };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            // Nobody behind the proxy: the client sees its connection close.
            let Ok(server) = TcpStream::connect(self.target) else { continue };
            [&client, &server].into_iter().for_each(|of| of.set_nodelay(true).unwrap());
            let pair = Arc::new(Pair { number, client, server, states: Default::default() });
            self.pairs.lock().unwrap().push(Arc::downgrade(&pair));
            for way in [Way::Up, Way::Down] {
                let (shared, pair, stop) = (self.clone(), pair.clone(), stop.clone());
                let pump = OwnedThread::spawn("proxy-pump", move || {
                    shared.pump(&pair, way, &stop);
                });
                pumps.push(pump.unwrap());
            }
        }
        self.pairs.lock().unwrap().iter().filter_map(Weak::upgrade).for_each(|pair| pair.cut());
    }

    /// Moves one direction's bytes until its end.
    fn pump(&self, pair: &Pair, way: Way, stop: &StopToken) {
        let (mut from, mut to) = match way {
            Way::Up => (&pair.client, &pair.server),
            Way::Down => (&pair.server, &pair.client),
        };
        let mut random = Random(self.seed ^ (pair.number << 1 | way as u64).wrapping_mul(0x9e37));
        let mut left = match &self.toxic {
            Toxic::Cut(range) | Toxic::Reset(range) => random.within(range),
            Toxic::Swallow(range) | Toxic::Stall(range) if pair.number == 0 => random.within(range),
            _ => u64::MAX,
        };
        let mut chunk = [0; CHUNK];
        loop {
            let count = from.read(&mut chunk).unwrap_or(0);
            let state = pair.states[way as usize].load(Ordering::SeqCst);
            if state == STALLED {
                stop.wait(Duration::MAX);
            }
            if count == 0 || state == STALLED || state == RESET {
                if state == FLOWS {
                    let _ = to.shutdown(Shutdown::Write);
                }
                return;
            }
            if state == SWALLOWED {
                continue;
            }
            let wait = match &self.toxic {
                Toxic::Delay(longest) => longest.mul_f64(random.unit()),
                Toxic::Rate(bytes) => Duration::from_secs_f64(count as f64 / *bytes as f64),
                _ => Duration::ZERO,
            };
            if !wait.is_zero() && stop.wait(wait) {
                return;
            }
            let passed = chunk[..count.min(usize::try_from(left).unwrap())].iter();
            left -= passed.len() as u64;
            let slice = if matches!(self.toxic, Toxic::Slice) { 1 } else { CHUNK };
            if passed.as_slice().chunks(slice).any(|part| to.write_all(part).is_err()) {
                // The other direction learns it by itself, as it would without us.
                let _ = from.shutdown(Shutdown::Read);
                return;
            }
            if left == 0 {
                match &self.toxic {
                    Toxic::Cut(_) => return pair.cut(),
                    Toxic::Reset(_) => return pair.reset(),
                    Toxic::Stall(_) => pair.set(STALLED),
                    _ => pair.set(SWALLOWED),
                }
            }
        }
    }
}

/// A small generator (SplitMix64), the same everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64
    }
}
