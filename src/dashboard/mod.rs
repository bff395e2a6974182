//! The dashboard: takes counts over HTTP, keeps them in a journal and in SQLite, shows them live. Here it is started and
//! stopped.
//!
//! `router` has the table of calls, `calls` what each answers, `app` what they share, `guard` who may call, `query` and
//! `body` how a request is read, `openapi` the document of all this, `assets` the page. `store` holds the counts and their
//! history, `live` what processors report and the charts' points, `nsqds` what the nsqds tell, `alarms` what of it is wrong.
//! Threads: the HTTP server's
//! (`dash-…`), `dash-store` which commits updates, `dash-checkpoint` which writes the tables, `dash-events` which feeds the
//! pages, `dash-queue-N` which ask the nsqds, `dash-sampler`, and `dash-webhook` which tells of alarms.

mod alarms;
mod answer;
mod app;
mod assets;
mod body;
mod calls;
mod embed;
mod findings;
mod guard;
mod guesses;
mod gzip;
mod kept;
mod live;
mod metrics;
mod nsqds;
mod openapi;
mod operation;
mod query;
mod refused_writes;
mod reset;
mod router;
mod sampler;
mod sign_in;
mod store;
mod tokens;
mod webhook;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::Receiver;
use nsq_protocol::thread::{Crew, stop_pair};

use crate::http::{EventStream, Handler, OwnNames, Server, ServerConfig, ServerTls, TlsFiles};
use crate::journal::JournalOwner;
use crate::model::counts::Totals;
use crate::model::video_id::VideoId;
use crate::runtime::clock::unix_ms;
use crate::runtime::links::LinkSource;
use crate::storage::data_dir::{DASHBOARD, DataDir, Lock};
use alarms::Alarms;
use app::{App, AppParts};
use embed::Embed;
use guard::Guard;
use store::Store;
use webhook::Webhook;

pub use live::{RunFigure, RunOutcome};
pub use nsqds::WatchedQueue;
pub use store::{ExaminedCounts, Keep};
pub use webhook::WebhookConfig;

/// Requests handled at one time, and connections to read the database with. Most wait for one commit that
/// they share, so more of them than cores make larger groups.
const WORKERS: usize = 8;

/// The largest body: 20 counts are under 3 KiB; the rest is room for a long rejection.
const BODY_MAX: usize = 1024 * 1024;

/// Event streams open at one time: a thousand pages and some that are just closing.
const STREAMS_MAX: usize = 1_100;

/// How a dashboard is set up.
pub struct DashboardConfig {
    /// `host:port` to listen on; not a loopback address only with a `write_token`.
    pub http_address: String,
    /// Where `dashboard.sqlite3` and `dashboard.journal` lie; made if missing.
    pub data_dir: PathBuf,
    /// What writes must carry as `Authorization: Bearer`; `None`: anyone on this machine may write.
    pub write_token: Option<String>,
    /// What reads must carry as `Authorization: Bearer`, unless they carry the write token, or somebody has signed in with one of
    /// them; `None`: all may read.
    pub read_token: Option<String>,
    /// Shown on the page as the run's configuration: an array of `{"name":…,"value":…}`.
    pub configuration: serde_json::Value,
    /// Of a simulation: start from an empty database, and throw away what an earlier one has left, but nothing else.
    pub clean: bool,
    /// How long history is kept.
    pub keep: Keep,
    /// Whose topics and channels are shown, and may be touched with the write token.
    pub watched: Option<WatchedQueue>,
    /// Names that requests may be for, besides localhost and the addresses it listens on.
    pub allowed_hosts: Vec<String>,
    /// Where videos are, `http` or `https`, with `{id}` in place of the percent-encoded id; the page links there.
    pub video_url: Option<String>,
    /// After so long without a counted play there is an alarm, even if nothing waits; `None`: only while messages wait.
    pub idle_alert: Option<Duration>,
    /// Whom to tell which alarms begin and end.
    pub webhook: Option<WebhookConfig>,
    /// Sites that may show figures in frames, such as `https://blog.example.org`; empty: none.
    pub embed: Vec<String>,
    /// Serve HTTPS with that certificate, and no plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// A running dashboard; dropping it stops it.
pub struct Dashboard {
    // Stopped in this order: see `stop`.
    watch: Option<Crew<()>>,
    sampler: Option<Crew<()>>,
    webhook: Option<Arc<Webhook>>,
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
            read_token,
            configuration,
            clean,
            keep,
            watched,
            allowed_hosts,
            video_url,
            idle_alert,
            webhook,
            embed,
            tls,
        } = config;
        let tls = tls.map(load_certificate).transpose()?;
        let (write, read) = (write_token.as_deref(), read_token.as_deref());
        let bound = check_exposure(&http_address, write)?;
        check_read_token(read, write)?;
        let directory = DataDir::open(&data_dir)?;
        let lock = directory.lock(DASHBOARD)?;
        let store = open_store(&directory, clean, keep)?;
        let events = EventStream::start("dash-events", streams_max())?;
        let (changed, woken) = crossbeam_channel::bounded(1);
        let names = OwnNames::new(bound, allowed_hosts);
        let guard = Guard::new(write, read, names, scheme(tls.is_some()));
        let parts = AppParts {
            store,
            events,
            guard,
            configuration,
            video_url,
            document: document(),
            watched,
            alarms: Alarms::new(directory.path(), idle_alert),
            is_simulation: clean,
            tls: tls.clone(),
            embed: Embed::new(&embed),
            changed,
        };
        let app = Arc::new(App::new(parts));
        sampler::remember(&app);
        let server = server_config(http_address, data_dir, tls);
        let server = Server::start(server, Arc::clone(&app) as Arc<dyn Handler>)?;
        let local_addr = server.local_addr();
        let page = url(local_addr, app.tls.is_some());
        let webhook = webhook.map(|config| Webhook::start(config, page)).transpose()?.map(Arc::new);
        Ok(Self {
            watch: Some(app.watch.start()?),
            sampler: Some(start_sampler(&app, webhook.clone(), woken)?),
            webhook,
            local_addr,
            server: Some(server),
            app,
            _lock: lock,
        })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where a browser on this machine finds the page: `http://127.0.0.1:8000`, or the same at `https://`.
    pub fn url(&self) -> String {
        url(self.local_addr, self.app.tls.is_some())
    }

    /// The certificate that it serves HTTPS with; `None`: it serves plain HTTP.
    pub fn certificate(&self) -> Option<&Arc<ServerTls>> {
        self.app.tls.as_ref()
    }

    /// Which nsqds and nsqlookupds that it asks, and which processors that report to it, are there, whether it refuses writes,
    /// and whether its webhook takes alarms; for as long as it runs.
    pub fn links(&self) -> LinkSource {
        let (app, webhook) = (Arc::downgrade(&self.app), self.webhook.clone());
        Box::new(move || {
            let app = app.upgrade()?;
            let mut links = app.watch.links();
            let now = Instant::now();
            links.extend(app.live.lock().links(now));
            links.extend(app.refused_writes.lock().link(now));
            links.extend(webhook.as_ref().map(|webhook| webhook.link()));
            Some(links)
        })
    }

    /// The simulation that it belongs to has ended so: from now on it shows that.
    pub fn run_ended(&self, outcome: RunOutcome) {
        self.app.live.lock().run_ended(outcome);
        self.app.notify_changed();
    }

    /// The sums over all videos, after the newest commit.
    pub fn totals(&self) -> Totals {
        self.app.store.totals()
    }

    /// Every (video, plays), ordered by id.
    pub fn counts(&self) -> Vec<(VideoId, u64)> {
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
        if let Some(sampler) = self.sampler.take() {
            sampler.stop();
        }
        if let Some(askers) = self.watch.take() {
            askers.stop();
        }
        if let Some(webhook) = self.webhook.take() {
            webhook.shutdown();
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

/// Every (video, plays) in a data directory, tables and journal together, with or without a running dashboard; `None` where
/// none has run.
///
/// # Errors
/// The files cannot be read, are damaged, or of an older version.
pub fn read_counts(data_dir: &Path) -> Result<Option<Vec<(VideoId, u64)>>> {
    store::read_counts(data_dir)
}

/// Looks at the counts in a data directory as a start would, and changes nothing: every (video, plays), and what a crash has
/// left unfinished. No dashboard must use it; `None` where none has run.
///
/// # Errors
/// The files are damaged, or of another version.
pub fn examine(data_dir: &Path) -> Result<Option<ExaminedCounts>> {
    store::examine(data_dir)
}

/// Writes a copy of all that the dashboard in a data directory has committed to the new file `to`, also while it runs;
/// `None` where there is none. The copy is a database by itself, of another id.
///
/// # Errors
/// As [`read_counts`]; or the file exists, or cannot be written.
pub fn backup(data_dir: &Path, to: &Path) -> Result<Option<()>> {
    store::backup(data_dir, to)
}

/// Goes on with what is left of damaged files in a data directory; what was done, in lines. The caller holds its dashboard
/// lock.
///
/// # Errors
/// What is left is no dashboard, with the way out.
pub fn accept_loss(data_dir: &Path) -> Result<Vec<String>> {
    store::accept_loss(data_dir)
}

/// Refuses a data directory with counts that a simulation may not throw away.
///
/// # Errors
/// They are a dashboard's, or it cannot be told; with the way out.
pub fn check_disposable(data_dir: &Path) -> Result<()> {
    store::check_disposable(data_dir)
}

/// Forgets every count in a data directory; where there are titles, or videos that are not shown, those stay, else the files
/// go.
///
/// # Errors
/// A dashboard runs on it: it must be asked by `DELETE /api/counts`, or stopped.
pub fn clear(data_dir: &Path) -> Result<()> {
    if !data_dir.exists() {
        return Ok(());
    }
    let directory = DataDir::open(data_dir)?;
    let _lock = directory.lock(DASHBOARD)?;
    reset::reset(directory.path())
}

fn open_store(directory: &DataDir, is_simulation: bool, keep: Keep) -> Result<Store> {
    let owner = if is_simulation { JournalOwner::Simulation } else { JournalOwner::Part };
    if is_simulation {
        store::check_disposable(directory.path())?;
        store::remove(directory.path())?;
    }
    Store::open(directory.path(), owner, WORKERS, keep)
}

fn start_sampler(
    app: &Arc<App>,
    webhook: Option<Arc<Webhook>>,
    woken: Receiver<()>,
) -> Result<Crew<()>> {
    let (stop, stopped) = stop_pair();
    let mut sampler = Crew::stopped_by(stop);
    let app = Arc::clone(app);
    sampler.spawn("dash-sampler", move || {
        sampler::run(&app, webhook.as_deref(), &woken, &stopped);
    })?;
    Ok(sampler)
}

/// The OpenAPI document, ready to be sent.
fn document() -> assets::File {
    let document = openapi::document(router::ROUTES).to_string().into_bytes();
    assets::File::new(operation::JSON, document)
}

fn server_config(address: String, data_dir: PathBuf, tls: Option<Arc<ServerTls>>) -> ServerConfig {
    let mut server = ServerConfig::new(address, "dash");
    server.workers = WORKERS;
    server.max_body = BODY_MAX;
    server.data_dir = Some(data_dir);
    server.tls = tls;
    server
}

/// Where a browser on this machine finds what listens there.
fn url(mut address: SocketAddr, is_encrypted: bool) -> String {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    format!("{}{address}", scheme(is_encrypted))
}

fn scheme(is_encrypted: bool) -> &'static str {
    if is_encrypted { "https://" } else { "http://" }
}

/// Reads a certificate, and says what is not right about it.
fn load_certificate(files: TlsFiles) -> Result<Arc<ServerTls>> {
    let tls = ServerTls::load(files).map_err(anyhow::Error::msg)?;
    for trouble in tls.troubles(unix_ms()).into_iter().chain(tls.warnings()) {
        log::warn!("{trouble}");
    }
    Ok(Arc::new(tls))
}

/// Resolves the address; refuses to let a network write without a token.
fn check_exposure(address: &str, token: Option<&str>) -> Result<Vec<std::net::IpAddr>> {
    let full =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let resolved: Vec<_> = full
        .to_socket_addrs()
        .with_context(|| {
            format!("{address:?} is not an address to listen on; give --http-address a host:port")
        })?
        .map(|address| address.ip())
        .collect();
    match token {
        None if !resolved.iter().all(std::net::IpAddr::is_loopback) => bail!(
            "anyone who reaches {address} could change the counts; give --write-token, or a loopback --http-address"
        ),
        Some(token) if !is_token(token) => {
            bail!("the write token must be printable ASCII without spaces, and not empty")
        }
        _ => Ok(resolved),
    }
}

fn check_read_token(read: Option<&str>, write: Option<&str>) -> Result<()> {
    match read {
        Some(token) if !is_token(token) => {
            bail!("the read token must be printable ASCII without spaces, and not empty")
        }
        Some(_) if read == write => bail!(
            "the read token is the write token: whoever may look could change the counts; give another --read-token"
        ),
        _ => Ok(()),
    }
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
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
