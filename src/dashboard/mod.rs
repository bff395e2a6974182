//! The dashboard: takes counts over HTTP, keeps them in SQLite, shows them live.
//!
//! `store` holds the counts and their history, `live` what processors report and the charts' points, `routes` and
//! `periods` say what each call answers, `guard` who may call, `assets` the page. Threads: the HTTP server's (`dash-…`), `dash-store`
//! which writes, `dash-events` which feeds the pages, `dash-queue-N` which ask the nsqds, and `dash-sampler` here.

mod assets;
mod guard;
mod live;
mod metrics;
mod nsqds;
mod periods;
mod routes;
mod store;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{after, select};
use nsq_protocol::thread::{Crew, OwnedThread, StopSource, StopToken, stop_pair};
use uuid::Uuid;

use crate::http::{EventStream, Handler, Server, ServerConfig};
use crate::storage::data_dir::{DataDir, Lock};
use routes::App;
use store::Store;

pub use nsqds::WatchedQueue;
pub use store::{Keep, Totals};

/// The lock that a running dashboard holds on its data directory.
const ROLE: &str = "dashboard";

/// Requests handled at one time, and connections to read the database with. Most wait for one commit that
/// they share, so more of them than cores make larger groups.
const WORKERS: usize = 8;

/// The largest body: 20 counts are under 3 KiB; the rest is room for a long rejection.
const BODY_MAX: usize = 1024 * 1024;

/// Event streams open at one time: a thousand pages and some that are just closing.
const STREAMS_MAX: usize = 1_100;

/// How often a point is recorded, with the queue's depth.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// The least time between two events: four a second look live, more would only cost.
const EVENT_EVERY: Duration = Duration::from_millis(250);

/// How a dashboard is set up.
pub struct DashboardConfig {
    /// `host:port` to listen on; not a loopback address only with a `write_token`.
    pub http_address: String,
    /// Where `dashboard.sqlite3` lies; made if missing.
    pub data_dir: PathBuf,
    /// What writes must carry as `Authorization: Bearer`; `None`: anyone on this machine may write.
    pub write_token: Option<String>,
    /// Shown on the page as the run's configuration: an array of `{"name":…,"value":…}`.
    pub configuration: serde_json::Value,
    /// Start from an empty database.
    pub clean: bool,
    /// How long history is kept.
    pub keep: Keep,
    /// Whose topics and channels are shown, and may be touched with the write token.
    pub watched: Option<WatchedQueue>,
    /// Names that requests may be for, besides localhost and the addresses it listens on.
    pub allowed_hosts: Vec<String>,
}

/// A running dashboard; dropping it stops it.
pub struct Dashboard {
    // Stopped in this order: see `stop`.
    watch: Option<Crew<()>>,
    sampler: Option<(StopSource, OwnedThread<()>)>,
    server: Option<Server>,
    app: Arc<App>,
    local_addr: SocketAddr,
    _lock: Lock,
}

impl Dashboard {
    /// Takes the data directory, opens the store and serves.
    ///
    /// # Errors
    /// One line with the way out: the directory or the address is in use or may not be used, the address is
    /// not loopback and there is no token, the database is of a newer version or broken.
    pub fn start(config: DashboardConfig) -> Result<Self> {
        let DashboardConfig {
            http_address,
            data_dir,
            write_token,
            configuration,
            clean,
            keep,
            watched,
            allowed_hosts,
        } = config;
        let bound = check_exposure(&http_address, write_token.as_deref())?;
        let directory = DataDir::open(&data_dir)?;
        let lock = directory.lock(ROLE)?;
        if clean {
            store::remove(directory.path())?;
        }
        let store = Arc::new(Store::open(directory.path(), WORKERS, keep)?);
        let events = EventStream::start("dash-events", streams_max())?;
        let (changed, woken) = crossbeam_channel::bounded(1);
        let guard = guard::Guard { token: write_token, bound, allowed: allowed_hosts };
        let app = Arc::new(App::new(store, events, guard, configuration, watched, changed));
        let mut server = ServerConfig::new(http_address, "dash");
        server.workers = WORKERS;
        server.max_body = BODY_MAX;
        let server = Server::start(server, Arc::clone(&app) as Arc<dyn Handler>)?;
        let local_addr = server.local_addr();
        let watch = app.watch.start()?;
        let (stop, stopped) = stop_pair();
        let sampler = {
            let app = Arc::clone(&app);
            OwnedThread::spawn("dash-sampler", move || sample(&app, &woken, &stopped))?
        };
        Ok(Self {
            watch: Some(watch),
            sampler: Some((stop, sampler)),
            server: Some(server),
            app,
            local_addr,
            _lock: lock,
        })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where a browser on this machine finds the page: `http://127.0.0.1:8000`.
    pub fn url(&self) -> String {
        let mut address = self.local_addr;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            address.set_ip(loopback);
        }
        format!("http://{address}")
    }

    /// The sums over all videos, after the newest commit.
    pub fn totals(&self) -> Totals {
        self.app.store.totals()
    }

    /// Every (video, plays), ordered by id.
    pub fn counts(&self) -> Vec<(Uuid, u64)> {
        self.app.store.counts()
    }

    /// Stops serving and closes the database; bounded, every thread is joined.
    ///
    /// # Errors
    /// The reason why the newest update could not be stored, if so.
    pub fn shutdown(mut self) -> Result<()> {
        let health = self.app.store.health();
        self.stop();
        health.map_err(|reason| anyhow::anyhow!("{reason}"))
    }

    fn stop(&mut self) {
        // 1. No more events.
        if let Some((stop, sampler)) = self.sampler.take() {
            drop(stop);
            sampler.join();
        }
        if let Some(askers) = self.watch.take() {
            askers.stop();
        }
        self.app.events.shutdown();
        // 2. No more requests; those in progress still have the store.
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
        // 3. The store, whose file is whole after it.
        self.app.store.shutdown();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Every (video, plays) in a data directory, without a running dashboard; `None` where none has run.
///
/// # Errors
/// The database cannot be read.
pub fn read_counts(data_dir: &Path) -> Result<Option<Vec<(Uuid, u64)>>> {
    store::read_counts(data_dir)
}

/// Writes a copy of the dashboard's database in a data directory to the new file `to`, also while it runs; whether
/// there is one.
///
/// # Errors
/// The database cannot be read, or the file exists or cannot be written.
pub fn backup(data_dir: &Path, to: &Path) -> Result<bool> {
    Ok(store::backup(data_dir, to)?.is_some())
}

/// Empties the dashboard's database in a data directory.
///
/// # Errors
/// A dashboard runs on it: it must be asked by `DELETE /api/counts`, or stopped.
pub fn clear(data_dir: &Path) -> Result<()> {
    if !data_dir.exists() {
        return Ok(());
    }
    let directory = DataDir::open(data_dir)?;
    let _lock = directory.lock(ROLE)?;
    store::remove(directory.path())
}

/// Resolves the address; refuses to let a network write without a token.
fn check_exposure(address: &str, token: Option<&str>) -> Result<Vec<std::net::IpAddr>> {
    let full =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let resolved: Vec<_> = full
        .to_socket_addrs()
        .with_context(|| {
            format!("{address:?} is no address to listen on; give --http-address a host:port")
        })?
        .map(|address| address.ip())
        .collect();
    match token {
        None if !resolved.iter().all(std::net::IpAddr::is_loopback) => bail!(
            "anyone who reaches {address} could change the counts; give --write-token, or a loopback --http-address"
        ),
        Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            bail!("the write token must be printable ASCII without spaces, and not empty")
        }
        _ => Ok(resolved),
    }
}

/// [`STREAMS_MAX`], or half of the descriptors this process may have: streams keep theirs for hours, and must
/// leave enough for requests and the database.
fn streams_max() -> usize {
    // Linux tells here; elsewhere the limits are not known without unsafe code.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(descriptors) = soft_limit(&limits) else { return STREAMS_MAX };
    let most = STREAMS_MAX.min(descriptors / 2);
    if most < STREAMS_MAX {
        log::warn!(
            "only {most} pages can listen at one time; raise `ulimit -n` from {descriptors} for {STREAMS_MAX}"
        );
    }
    most
}

/// The soft limit in the line `Max open files  1024  524288  files`; `None` if there is none.
fn soft_limit(limits: &str) -> Option<usize> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Once a second a point; an event with each, and between them when counts have changed.
fn sample(app: &App, changed: &crossbeam_channel::Receiver<()>, stop: &StopToken) {
    let mut next_point = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next_point {
            if let Some(found) = app.watch.depth() {
                app.live.lock().set_queue(found);
            }
            let plays = app.store.totals().plays;
            let ended = app.live.lock().sample(store::now_ms(), Instant::now(), plays);
            keep_minute(app, ended);
            // A write that took long shifts the points; it does not make them come in a rush.
            next_point = (next_point + SAMPLE_EVERY).max(Instant::now());
        }
        app.publish();
        let quiet_until = now + EVENT_EVERY;
        // First the pause, in which changes gather, then whichever comes first.
        if stop.wait_until(quiet_until.min(next_point)) {
            break;
        }
        select! {
            recv(stop.channel()) -> _ => break,
            recv(changed) -> _ => {}
            recv(after(next_point.saturating_duration_since(Instant::now()))) -> _ => {}
        }
    }
    let last = app.live.lock().last_minute(app.store.totals().plays);
    keep_minute(app, last);
}

/// Keeps a minute of the charts. One that cannot be kept is missing from them; health tells why.
fn keep_minute(app: &App, ended: Option<store::MinutePoint>) {
    if let Some(point) = ended
        && let Err(reason) = app.store.add_point(point)
    {
        log::warn!("a minute of the charts is lost: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_found() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax processes  7  8  processes\nMax open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(soft_limit(""), None);
    }
}
