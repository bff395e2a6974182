//! How a dashboard fares with a million videos: time to store a full publish, answers while counts flow, posts while it
//! makes a checkpoint of all of them, memory.
//!
//! `scripts/dashboard-load [VIDEOS]`. Starts the release binary's `dashboard` in a directory of its own, tells it all
//! videos as a processor does (messages of 20 counts), then 2,000 counts a second while it asks, and for a while more
//! while nobody asks. `scripts/bench` reads the lines of that while.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use playcounts::model::unix_time::UnixMs;
use playcounts::model::video::VideoCount;
use playcounts::model::video_id::VideoId;
use playcounts::wire::CountsUpdate;
use playcounts::wire::client::DashboardClient;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use uuid::Uuid;

/// Counts a second, and for how long while it asks.
const COUNTS_PER_SECOND: u32 = 2_000;
const SECONDS: u64 = 20;

/// How long counts flow alone: the checkpoint that a start makes of what it has found in the journal begins and ends in it.
const ALONE: Duration = Duration::from_secs(75);

/// A checkpoint takes a few of them: the worst such part is one with a checkpoint in it.
const PART: Duration = Duration::from_secs(5);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// How many tell a publish at one time: one processor after the other message, then four.
const TELLERS: [u64; 2] = [1, 4];

struct Dashboard {
    child: Child,
    address: String,
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dashboard {
    fn start(binary: &str, directory: &std::path::Path) -> Result<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(binary)
            .args(["dashboard", "--http-address", &free, "--data-dir"])
            .arg(directory)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {binary}"))?;
        let dashboard = Self { child, address: free };
        let deadline = Instant::now() + Duration::from_secs(60);
        while dashboard.ask("GET", "/healthz", b"").is_err() {
            if Instant::now() > deadline {
                bail!("the dashboard does not answer");
            }
            std::thread::yield_now();
        }
        Ok(dashboard)
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut socket = TcpStream::connect(&self.address)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        socket.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            bail!("{path}: {}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
        }
        Ok(answer)
    }

    fn client(&self) -> DashboardClient {
        DashboardClient::new(&format!("http://{}", self.address), None)
    }

    fn memory_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
    }
}

/// Tells the dashboard as a processor does.
fn tell(
    dashboard: &DashboardClient,
    version: u64,
    counts: impl Iterator<Item = (u64, u64)>,
) -> Result<()> {
    let counts = counts
        .map(|(number, plays)| VideoCount {
            video_id: video(number),
            plays,
            last_played_at: Some(UnixMs(1_700_000_000_000 + plays as i64)),
        })
        .collect();
    let processor = Uuid::from_u128(1);
    let update = CountsUpdate {
        processor,
        version,
        counts,
        titles: Vec::new(),
        consumption: None,
        ledger: None,
    };
    dashboard.post("/api/counts", &update).map(drop)
}

/// Spread over all ids, as random ones are.
fn video(number: u64) -> VideoId {
    VideoId::from_u128(
        u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
    )
}

/// Asks all that a page and an export ask, for `SECONDS`, and prints how long it took.
#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn ask_all(dashboard: &Dashboard) -> Result<()> {
    for (name, path) in [
        ("GET /api/counts", "/api/counts".to_owned()),
        (
            "  sort=updated_at&offset=500000&limit=100",
            "/api/counts?sort=-updated_at&offset=500000&limit=100".to_owned(),
        ),
        ("  search=7 by plays", "/api/counts?search=7".to_owned()),
        ("  search=7c3 by plays", "/api/counts?search=7c3".to_owned()),
        ("GET /api/counts/<id>", format!("/api/counts/{}", video(5))),
        ("  its hours of 90 days", format!("/api/counts/{}/series?scale=hour", video(5))),
        ("GET /", "/".to_owned()),
    ] {
        let mut times = Vec::new();
        let until = Instant::now() + Duration::from_secs(SECONDS) / 7;
        while Instant::now() < until {
            let began = Instant::now();
            dashboard.ask("GET", &path, b"")?;
            times.push(began.elapsed());
            let _ = crossbeam_channel::after(PAUSE).recv();
        }
        print_times(name, times.into_iter());
    }
    let began = Instant::now();
    dashboard.ask("GET", "/api/top", b"")?;
    println!(
        "{:<46} {:>8.2} s",
        "GET /api/top of 30 minutes, not cached",
        began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    let export = dashboard.ask("GET", "/api/export/counts.csv", b"")?;
    println!(
        "{:<46} {:>8.2} s, {} MB",
        "GET /api/export/counts.csv",
        began.elapsed().as_secs_f64(),
        export.len() / 1_000_000
    );
    Ok(())
}

/// The flow of counts of random videos.
struct Posts<'a> {
    dashboard: &'a Dashboard,
    videos: u64,
    /// Messages so far.
    sent: u64,
    rng: StdRng,
}

/// When a message was due, since the flow began, and how long it took once it was sent.
struct Post {
    due: Duration,
    took: Duration,
}

impl Post {
    fn part(&self) -> u128 {
        self.due.as_nanos() / PART.as_nanos()
    }
}

impl Posts<'_> {
    /// Tells 20 counts a message until `stop` says so of the time since the beginning.
    fn flow(&mut self, stop: impl Fn(Duration) -> bool) -> Result<Vec<Post>> {
        let client = self.dashboard.client();
        let began = Instant::now();
        let mut posts = Vec::new();
        for number in 0.. {
            let due = Duration::from_secs(1) * number * 20 / COUNTS_PER_SECOND;
            let _ = crossbeam_channel::at(began + due).recv();
            if stop(began.elapsed()) {
                break;
            }
            let numbers: std::collections::BTreeSet<u64> =
                (0..20).map(|_| self.rng.random_range(0..self.videos)).collect();
            self.sent += 1;
            let (version, plays) = (self.videos + self.sent, 2_000 + self.sent);
            let sent_at = Instant::now();
            tell(&client, version, numbers.into_iter().map(|number| (number, plays)))?;
            posts.push(Post { due, took: sent_at.elapsed() });
        }
        Ok(posts)
    }
}

fn p99(posts: &[Post]) -> Duration {
    at(&sorted(posts.iter().map(|post| post.took)), 0.99)
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

fn at(sorted: &[Duration], part: f64) -> Duration {
    sorted.get((sorted.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or_default()
}

#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn print_times(name: &str, times: impl Iterator<Item = Duration>) {
    let times = sorted(times);
    let ms = |part| at(&times, part).as_secs_f64() * 1000.0;
    println!(
        "{name:<46} p50 {:>7.2} ms, p99 {:>7.2} ms, longest {:>7.2} ms, of {}",
        ms(0.5),
        ms(0.99),
        ms(1.0),
        times.len()
    );
}

#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let binary = args.next().context("usage: dashboard_load BINARY [VIDEOS]")?;
    let videos: u64 = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let dashboard = Dashboard::start(&binary, directory.path())?;
    println!("{:<46} {:>8} MiB", "memory, empty", dashboard.memory_mib()?);
    for (round, tellers) in (1..).zip(TELLERS) {
        let began = Instant::now();
        std::thread::scope(|scope| {
            let tell_part = |teller: u64| -> Result<()> {
                let client = dashboard.client();
                for first in (teller * 20..videos).step_by(20 * tellers as usize) {
                    let counts = (first..(first + 20).min(videos))
                        .map(|number| (number, round * 10 + number % 1000));
                    tell(&client, first + 1, counts)?;
                }
                Ok(())
            };
            let threads: Vec<_> =
                (0..tellers).map(|teller| scope.spawn(move || tell_part(teller))).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(told) => told,
                Err(_) => bail!("a teller panicked"),
            })
        })?;
        let what = if round == 1 { "new" } else { "changed" };
        let name = format!("{videos} {what} videos stored, {tellers} at a time");
        println!("{name:<46} {:>8.1} s", began.elapsed().as_secs_f64());
        println!("{:<46} {:>8} MiB", "memory", dashboard.memory_mib()?);
    }
    let stats: Value = {
        let answer = dashboard.ask("GET", "/api/stats", b"")?;
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no body")?;
        serde_json::from_slice(&answer[at + 4..])?
    };
    let want: u64 = (0..videos).map(|number| 20 + number % 1000).sum();
    if stats["total_plays"] != want || stats["total_videos"] != videos {
        bail!(
            "the dashboard has {} plays of {} videos, not {want}",
            stats["total_plays"],
            stats["total_videos"]
        );
    }

    let mut posts = Posts { dashboard: &dashboard, videos, sent: 0, rng: StdRng::seed_from_u64(7) };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flowing = scope.spawn(|| posts.flow(|_| stop.load(Ordering::Relaxed)));
        let asked = ask_all(&dashboard);
        stop.store(true, Ordering::Relaxed);
        let times =
            flowing.join().map_err(|_| anyhow::anyhow!("the flow of counts panicked"))??;
        print_times("POST /api/counts meanwhile", times.iter().map(|post| post.took));
        asked
    })?;
    let sent = posts.sent;
    let began = Instant::now();
    drop(dashboard);
    let dashboard = Dashboard::start(&binary, directory.path())?;
    println!("{:<46} {:>8.2} s", "started again after kill -9", began.elapsed().as_secs_f64());
    println!("{:<46} {:>8} MiB", "memory", dashboard.memory_mib()?);
    let mut posts = Posts { dashboard: &dashboard, videos, sent, rng: StdRng::seed_from_u64(8) };
    let alone = posts.flow(|since| since >= ALONE)?;
    print_times("POST /api/counts, alone", alone.iter().map(|post| post.took));
    let worst = alone.chunk_by(|a, b| a.part() == b.part()).max_by_key(|part| p99(part));
    let worst = worst.context("no post")?.iter().map(|post| post.took);
    print_times("POST /api/counts, alone, its worst 5 s", worst);
    println!("{:<46} {:>8} MiB", "memory at the end", dashboard.memory_mib()?);
    for name in ["dashboard.sqlite3", "dashboard.sqlite3-wal"] {
        let size = std::fs::metadata(directory.path().join(name)).map_or(0, |file| file.len());
        println!("{name:<46} {:>8} MB", size / 1_000_000);
    }
    Ok(())
}
