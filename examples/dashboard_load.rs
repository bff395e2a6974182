//! How a dashboard fares with a million videos: time to store a full publish, answers while counts flow, memory.
//!
//! `scripts/dashboard-load [VIDEOS [SECONDS]]`. Starts the release binary's `dashboard` in a directory of its own, tells it all
//! videos as a processor does (messages of 20 counts), then 2,000 counts a second while it asks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use playcounts::model::unix_time::UnixMs;
use playcounts::model::video::VideoCount;
use playcounts::wire::CountsUpdate;
use playcounts::wire::client::DashboardClient;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use uuid::Uuid;

/// Counts a second, and for how many seconds unless it is said.
const COUNTS_PER_SECOND: u32 = 2_000;
const SECONDS: u32 = 20;

/// More than what is told between two publishes.
const PLAYS: u64 = 2_000_000;

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
    let update = CountsUpdate { processor, version, counts, consumption: None };
    dashboard.post("/api/counts", &update).map(drop)
}

/// Spread over all ids, as random ones are.
fn video(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Prints how the times, in ms, are spread.
#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn show(name: &str, mut times: Vec<f64>) {
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| times[(times.len().saturating_sub(1) as f64 * part) as usize];
    println!(
        "{name:<46} p50 {:>7.2} ms, p99 {:>7.2} ms, longest {:>7.2} ms, of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Tells [`COUNTS_PER_SECOND`] of random videos until `stop`; how long each message took, in ms. `round` grows.
fn flow(client: &DashboardClient, videos: u64, round: u64, stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(round);
    let began = Instant::now();
    let mut times = Vec::new();
    for sent in 0.. {
        let due = began + Duration::from_secs(1) * sent * 20 / COUNTS_PER_SECOND;
        let _ = crossbeam_channel::at(due).recv();
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let numbers: std::collections::BTreeSet<u64> =
            (0..20).map(|_| rng.random_range(0..videos)).collect();
        let version = round * videos + 1 + u64::from(sent);
        let plays = round * PLAYS + u64::from(sent);
        let sent_at = Instant::now();
        tell(client, version, numbers.into_iter().map(|number| (number, plays)))?;
        times.push(sent_at.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Kills the dashboard and starts it again: what waits for a checkpoint is checkpointed at once. Meanwhile it is told counts;
/// says what was written, too.
#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn measure_checkpoint(
    killed: Dashboard,
    (binary, directory): (&str, &std::path::Path),
    videos: u64,
    (round, seconds): (u64, u32),
) -> Result<Dashboard> {
    let began = Instant::now();
    drop(killed);
    let dashboard = Dashboard::start(binary, directory)?;
    println!("{:<46} {:>8.2} s", "started again after kill -9", began.elapsed().as_secs_f64());
    let written = || -> Result<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", dashboard.child.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.context("no write_bytes")?.parse()?)
    };
    let (stop, before) = (AtomicBool::new(false), written()?);
    let times = std::thread::scope(|scope| {
        let flowing = scope.spawn(|| flow(&dashboard.client(), videos, round, &stop));
        let _ = crossbeam_channel::after(Duration::from_secs(1) * seconds).recv();
        stop.store(true, Ordering::Relaxed);
        flowing.join().map_err(|_| anyhow::anyhow!("the flow of counts panicked"))?
    })?;
    show("POST of 20 while all these are checkpointed", times);
    println!("{:<46} {:>8} MB written", "  meanwhile", (written()? - before) / 1_000_000);
    Ok(dashboard)
}

#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let binary = args.next().context("usage: dashboard_load BINARY [VIDEOS]")?;
    let videos: u64 = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let seconds: u32 = args.next().map_or(Ok(SECONDS), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let mut dashboard = Dashboard::start(&binary, directory.path())?;
    println!("{:<46} {:>8} MiB", "memory, empty", dashboard.memory_mib()?);
    for (round, tellers) in (1..).zip(TELLERS) {
        let began = Instant::now();
        std::thread::scope(|scope| {
            let tell_part = |teller: u64| -> Result<()> {
                let client = dashboard.client();
                for first in (teller * 20..videos).step_by(20 * tellers as usize) {
                    let counts = (first..(first + 20).min(videos))
                        .map(|number| (number, PLAYS * 2 * (round - 1) + number % 1000));
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
        let stats: Value = {
            let answer = dashboard.ask("GET", "/api/stats", b"")?;
            let at = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no body")?;
            serde_json::from_slice(&answer[at + 4..])?
        };
        let want: u64 = (0..videos).map(|number| PLAYS * 2 * (round - 1) + number % 1000).sum();
        if stats["total_plays"] != want || stats["total_videos"] != videos {
            bail!(
                "the dashboard has {} plays of {} videos, not {want}",
                stats["total_plays"],
                stats["total_videos"]
            );
        }
        let files = (binary.as_str(), directory.path());
        dashboard = measure_checkpoint(dashboard, files, videos, (round * 2 - 1, seconds))?;
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flowing = scope.spawn(|| flow(&dashboard.client(), videos, 4, &stop));
        let result = (|| -> Result<()> {
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
                let until = Instant::now() + Duration::from_secs(1) * seconds / 7;
                while Instant::now() < until {
                    let began = Instant::now();
                    dashboard.ask("GET", &path, b"")?;
                    times.push(began.elapsed().as_secs_f64() * 1000.0);
                    let _ = crossbeam_channel::after(PAUSE).recv();
                }
                show(name, times);
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
        })();
        stop.store(true, Ordering::Relaxed);
        let times = flowing.join().map_err(|_| anyhow::anyhow!("the flow of counts panicked"))?;
        show("POST /api/counts of 20 meanwhile", times?);
        result
    })?;
    println!("{:<46} {:>8} MiB", "memory at the end", dashboard.memory_mib()?);
    for name in ["dashboard.sqlite3", "dashboard.sqlite3-wal"] {
        let size = std::fs::metadata(directory.path().join(name)).map_or(0, |file| file.len());
        println!("{name:<46} {:>8} MB", size / 1_000_000);
    }
    let journal = std::fs::read_dir(directory.path().join("dashboard.journal"));
    let sizes = journal.into_iter().flatten().flatten().flat_map(|file| file.metadata());
    let size: u64 = sizes.map(|file| file.len()).sum();
    println!("{:<46} {:>8} MB", "dashboard.journal", size / 1_000_000);
    let began = Instant::now();
    drop(dashboard);
    let dashboard = Dashboard::start(&binary, directory.path())?;
    println!("{:<46} {:>8.2} s", "started again after kill -9", began.elapsed().as_secs_f64());
    println!("{:<46} {:>8} MiB", "memory", dashboard.memory_mib()?);
    Ok(())
}
