//! Event streams of a dashboard with many who listen and some who never read; `scripts/streams` measures them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use playcounts::http::{EventStream, Handler, Request, Response, Server, ServerConfig};
use serde_json::Value;

use crate::dashboard_support::{start, update, video};
use crate::timing::DEADLINE;
use playcounts::model::video_id::VideoId;

/// A dashboard in a process of its own, killed at the end.
pub(crate) struct ChildDashboard {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl ChildDashboard {
    /// `$PLAYCOUNTS`, or this build's binary, after `limits`, lines of the shell such as `ulimit -n 96`.
    pub(crate) fn start(data: &Path, limits: &str) -> Self {
        Self::start_at(data, limits, "127.0.0.1:0")
    }

    /// The same where one was before.
    pub(crate) fn start_at(data: &Path, limits: &str, address: &str) -> Self {
        let binary = std::env::var_os("PLAYCOUNTS")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_playcounts").into());
        let script = format!(
            "{limits}\nexec \"$0\" dashboard --http-address {address} --log-level off --data-dir \"$1\""
        );
        let mut child = Command::new("bash")
            .arg("-c")
            .arg(script)
            .arg(binary)
            .arg(data)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the dashboard ended").unwrap();
            if let Some((_, rest)) = line.split_once("http://") {
                let end = rest.find(|found: char| !found.is_ascii_digit() && !".:".contains(found));
                break rest[..end.unwrap_or(rest.len())].parse().unwrap();
            }
        };
        Self { child, address }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its resident memory in KiB.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for ChildDashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn subscribe(address: SocketAddr, lines: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let wire =
        format!("GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
    socket.write_all(wire.as_bytes()).unwrap();
    socket
}

/// So many streams, each with its head read; opened a few at a time, as each is a connection until it is handed over.
fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    while streams.len() < count {
        let batch: Vec<_> =
            (0..(count - streams.len()).min(200)).map(|_| subscribe(address, "")).collect();
        for mut socket in batch {
            read_until(&mut socket, &mut String::new(), "retry: 2000\n\n");
            streams.push(socket);
        }
    }
    streams
}

#[track_caller]
pub(crate) fn read_until(socket: &mut TcpStream, seen: &mut String, wanted: &str) {
    let mut chunk = [0; 8192];
    while !seen.contains(wanted) {
        let count = socket.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "the stream ended after {seen:?}");
        seen.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
}

/// Streams that are read, by one thread.
struct Readers {
    streams: Vec<(TcpStream, Vec<u8>)>,
}

impl Readers {
    fn new(streams: Vec<TcpStream>) -> Self {
        let streams = streams
            .into_iter()
            .map(|socket| {
                socket.set_nonblocking(true).unwrap();
                (socket, Vec::new())
            })
            .collect();
        Self { streams }
    }

    /// Takes what has come and tells each whole event; waits a moment when there was nothing.
    fn scan(&mut self, mut on_event: impl FnMut(usize, &str)) {
        let mut chunk = [0; 65_536];
        let mut came = false;
        for (index, (socket, pending)) in self.streams.iter_mut().enumerate() {
            match socket.read(&mut chunk) {
                Ok(0) => panic!("a stream that reads was ended"),
                Ok(count) => pending.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            }
            came = true;
            while let Some(end) = pending.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = pending.drain(..end + 2).collect();
                on_event(index, std::str::from_utf8(&event).unwrap());
            }
        }
        if !came {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Hub(EventStream);

impl Handler for Hub {
    fn handle(&self, _request: &Request) -> Response {
        Response::text(200, "")
    }

    fn stream(&self, _request: &Request) -> Option<&EventStream> {
        Some(&self.0)
    }
}

fn hub() -> (Server, Arc<Hub>) {
    let hub = Arc::new(Hub(EventStream::start("hub-events", 200).unwrap()));
    let server = Server::start(ServerConfig::new("127.0.0.1:0", "hub"), Arc::clone(&hub) as _);
    (server.unwrap(), hub)
}

#[test]
fn a_stream_that_was_away_for_too_long_gets_the_whole_present() {
    let (server, hub) = hub();
    hub.0.publish("stats", "first");
    let mut seen = String::new();
    read_until(&mut subscribe(server.local_addr(), ""), &mut seen, "data: first\n\n");
    let id = seen.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let resume = |wanted: &str| {
        let mut seen = String::new();
        let line = format!("Last-Event-ID: {id}\r\n");
        read_until(&mut subscribe(server.local_addr(), &line), &mut seen, wanted);
        seen.matches("data: ").count()
    };
    (2..=10).for_each(|number| hub.0.publish("stats", &format!("<{number}>")));
    assert_eq!(resume("<10>\n\n"), 9, "all that was missed");
    (11..=40).for_each(|number| hub.0.publish("stats", &format!("<{number}>")));
    assert_eq!(resume("<40>\n\n"), 1, "the newest, which is a whole state");
    hub.0.shutdown();
    server.shutdown();
}

#[test]
fn those_that_never_read_are_dropped_and_nobody_waits() {
    let (server, hub) = hub();
    let mut streams = open(server.local_addr(), 100);
    let silent = streams.split_off(95);
    let mut readers = Readers::new(streams);
    let filler = "x".repeat(30_000);
    let mut newest = [0_u64; 95];
    let (mut number, mut longest) = (0, Duration::ZERO);
    let deadline = Instant::now() + 2 * DEADLINE;
    // Their buffers fill; 10 s after they have taken anything they are dropped.
    while hub.0.clients() > 95 {
        assert!(Instant::now() < deadline, "{} streams", hub.0.clients());
        number += 1;
        let began = Instant::now();
        hub.0.publish("stats", &format!("{number} {filler}"));
        longest = longest.max(began.elapsed());
        let next = Instant::now() + Duration::from_millis(50);
        while Instant::now() < next {
            readers.scan(|index, event| newest[index] = newest[index].max(numbered(event)));
        }
    }
    // One that waited for them would take 10 s.
    assert!(longest < Duration::from_secs(5), "a publication took {longest:?}");
    // Those who read have all of it, to the last.
    while newest.iter().any(|seen| *seen < number) {
        assert!(Instant::now() < deadline, "{newest:?}, not {number}");
        readers.scan(|index, event| newest[index] = newest[index].max(numbered(event)));
    }
    assert_eq!(hub.0.clients(), 95);
    drop(silent);
    hub.0.shutdown();
    server.shutdown();
}

/// The number that an event's data starts with; 0 for what has none.
fn numbered(event: &str) -> u64 {
    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
    data.and_then(|data| data.split(' ').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_hundred_pages_see_the_counts_while_five_never_read() {
    let running = start();
    let address = running.dashboard.local_addr();
    let mut streams = open(address, 100);
    let silent = streams.split_off(95);
    for version in 1..=50 {
        let counts: Vec<_> = (1..=20).map(|first| (video(first), version * 1_000)).collect();
        running.tell(version, &counts);
    }
    for mut socket in streams {
        read_until(&mut socket, &mut String::new(), "\"total_plays\":1000000");
    }
    let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
    assert!(metrics.contains("playcounts_dashboard_event_streams "), "{metrics}");
    drop(silent);
}

#[test]
fn a_client_that_reconnects_in_a_loop_takes_no_place() {
    let running = start();
    for _ in 0..300 {
        let mut socket = subscribe(running.dashboard.local_addr(), "");
        read_until(&mut socket, &mut String::new(), "retry: 2000\n\n");
    }
    let deadline = Instant::now() + DEADLINE;
    // The events of each second find them gone.
    loop {
        let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
        if metrics.contains("\nplaycounts_dashboard_event_streams 0\n") {
            break;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3
}

fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Posts 100 messages of 20 counts a second; what each took, in ms.
fn publish(address: SocketAddr, stop: &AtomicBool) -> Vec<f64> {
    let mut took = Vec::new();
    let began = Instant::now();
    for version in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // 5,000 videos, 20 after 20 of them.
        let first = u128::from(version * 20 % 5_000);
        let counts: Vec<_> =
            (first..first + 20).map(|id| (VideoId::from_u128(id + 1), version)).collect();
        let body = update(version, &counts).to_string();
        let asked = Instant::now();
        let mut socket = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            socket,
            "POST /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        let due = began + Duration::from_millis(10 * version);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    took
}

/// What the streams have got.
#[derive(Default)]
struct Deliveries {
    /// Of each event: when it was made, how many have it, and when the last of them got it.
    events: BTreeMap<String, (f64, usize, f64)>,
    /// From the making of an event to one who got it, in ms.
    took: Vec<f64>,
}

impl Deliveries {
    fn note(&mut self, event: &str) {
        let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) else {
            return;
        };
        let now = now_ms();
        let known = self.events.entry(id.to_owned()).or_insert_with(|| {
            let json = event.lines().find_map(|line| line.strip_prefix("data: "));
            let json: Value = serde_json::from_str(json.unwrap()).unwrap();
            (json["stats"]["time"].as_f64().unwrap(), 0, 0.0)
        });
        known.1 += 1;
        known.2 = now;
        self.took.push(now - known.0);
    }

    /// Prints how long it took to reach all of so many readers, and each; how many events have reached all.
    #[allow(clippy::print_stdout, reason = "it is what it is for")]
    fn report(&mut self, reading: usize) -> usize {
        let mut to_all: Vec<f64> = self
            .events
            .values()
            .filter(|(_, count, _)| *count == reading)
            .map(|(made, _, last)| last - made)
            .collect();
        println!(
            "events: {}, of which {} reached all {reading} readers; one event to all: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.events.len(),
            to_all.len(),
            percentile(&mut to_all, 0.5),
            percentile(&mut to_all, 0.99),
            percentile(&mut to_all, 1.0),
        );
        println!(
            "deliveries: {}; p50 {:.1} ms, p99 {:.1} ms",
            self.took.len(),
            percentile(&mut self.took, 0.5),
            percentile(&mut self.took, 0.99)
        );
        to_all.len()
    }
}

#[test]
#[ignore = "measures: scripts/streams runs it"]
fn measure() {
    let (all, silent) = (setting("STREAMS", 1_000), setting("SILENT", 50));
    let seconds = setting("SECONDS", 30) as u64;
    let data = tempfile::tempdir().unwrap();
    let dashboard = ChildDashboard::start(data.path(), "");
    let address = dashboard.address;
    let alone = dashboard.resident();
    let mut streams = open(address, all);
    let unread = streams.split_off(all - silent);
    let reading = streams.len();
    let opened = dashboard.resident();
    let mut readers = Readers::new(streams);
    let stop = AtomicBool::new(false);
    let mut seen = Deliveries::default();
    let mut most = opened;
    let mut posts = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(address, &stop));
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut next_look = Instant::now();
        while Instant::now() < end {
            readers.scan(|_, event| seen.note(event));
            if Instant::now() >= next_look {
                next_look += Duration::from_secs(1);
                most = most.max(dashboard.resident());
            }
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    });
    println!(
        "{all} streams, {silent} never reading, {} counts in {seconds} s ({} posts)",
        posts.len() * 20,
        posts.len()
    );
    let reached_all = seen.report(reading);
    println!(
        "a post of 20 counts: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        percentile(&mut posts, 0.5),
        percentile(&mut posts, 0.99),
        percentile(&mut posts, 1.0)
    );
    println!(
        "VmRSS of the dashboard: {alone} KiB alone, {opened} KiB with the streams, {most} KiB at most"
    );
    assert!(reached_all > 10 && posts.len() > 100);
    drop(unread);
}
