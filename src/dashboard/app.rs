//! What all requests share: the store, what processors report, what is known of the nsqds, and the streams of events.
//! Calls are free functions over it, in `calls`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use serde_json::Value;

use super::alarms::Alarms;
use super::answer::CallError;
use super::assets::File;
use super::embed::Embed;
use super::guard::Guard;
use super::kept::KeptSums;
use super::live::Live;
use super::nsqds::{Watch, WatchedQueue};
use super::refused_writes::RefusedWrites;
use super::store::{Period, PlaysBetween, Scale, Store, Top, TopOrder};
use crate::http::{EventStream, Request, ServerTls};
use crate::model::unix_time::UnixMs;
use crate::runtime::clock::unix_ms;

/// Everything that requests share.
pub(super) struct App {
    pub(super) store: Arc<Store>,
    pub(super) events: EventStream,
    pub(super) live: Mutex<Live>,
    /// The newest lists of the most played videos, by scale, period, order and number of rows.
    pub(super) tops: KeptSums<(Scale, Period, TopOrder, usize), Top>,
    /// The newest sums of plays, by the moments between which they are.
    pub(super) plays: KeptSums<Vec<UnixMs>, PlaysBetween>,
    pub(super) watch: Arc<Watch>,
    pub(super) alarms: Alarms,
    /// Whether it belongs to a simulation, whose processor may start when its queue is filled.
    pub(super) is_simulation: bool,
    /// Downloads in progress.
    pub(super) downloads: Arc<AtomicUsize>,
    pub(super) guard: Guard,
    /// Shown as the run's configuration.
    pub(super) configuration: Value,
    /// Where videos are, with `{id}` in place of the id.
    pub(super) video_url: Option<String>,
    /// When the dashboard was started.
    pub(super) started_at: UnixMs,
    /// The OpenAPI document.
    pub(super) document: File,
    /// What other sites may show in frames; absent: nothing.
    pub(super) embed: Option<Embed>,
    /// What it serves HTTPS with; absent: it serves plain HTTP.
    pub(super) tls: Option<Arc<ServerTls>>,
    /// Messages with counts accepted since the start.
    pub(super) updates: AtomicU64,
    /// Writes refused since the start.
    pub(super) refused: AtomicU64,
    /// Of these, those that nobody who may write has sent.
    pub(super) refused_writes: Mutex<RefusedWrites>,
    // Holds one token at most: "counts have changed".
    changed: Sender<()>,
}

/// What an [`App`] is made of.
pub(super) struct AppParts {
    pub(super) store: Store,
    pub(super) events: EventStream,
    pub(super) guard: Guard,
    pub(super) configuration: Value,
    pub(super) video_url: Option<String>,
    pub(super) document: File,
    pub(super) watched: Option<WatchedQueue>,
    pub(super) alarms: Alarms,
    pub(super) is_simulation: bool,
    pub(super) embed: Option<Embed>,
    pub(super) tls: Option<Arc<ServerTls>>,
    /// Takes a token when counts have changed; holds one.
    pub(super) changed: Sender<()>,
}

impl App {
    pub(super) fn new(parts: AppParts) -> Self {
        let AppParts {
            store,
            events,
            guard,
            configuration,
            video_url,
            document,
            watched,
            alarms,
            is_simulation,
            embed,
            tls,
            changed,
        } = parts;
        Self {
            store: Arc::new(store),
            events,
            live: Mutex::default(),
            tops: KeptSums::default(),
            plays: KeptSums::default(),
            watch: Arc::new(Watch::new(watched)),
            alarms,
            is_simulation,
            downloads: Arc::default(),
            guard,
            configuration,
            video_url,
            started_at: unix_ms(),
            document,
            embed,
            tls,
            updates: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refused_writes: Mutex::default(),
            changed,
        }
    }

    /// Tells the sampler that counts have changed.
    pub(super) fn notify_changed(&self) {
        // Full: the sampler has yet to look, and will see this change too.
        let _ = self.changed.try_send(());
    }

    /// Refuses a write at `path`, a row's of the table of calls, by whom the guard does not let.
    pub(super) fn check_write(&self, request: &Request, path: &str) -> Result<(), CallError> {
        self.guard.check_write(request).inspect_err(|error| {
            let call = format!("{} {path}", request.method);
            let from = request.peer.map(|peer| peer.ip());
            self.refused_writes.lock().add(&call, from, error.reason(), Instant::now());
        })
    }

    /// Forgets the sums that are kept: which videos are shown has changed, or how they are called.
    pub(super) fn forget_sums(&self) {
        self.tops.forget();
        self.plays.forget();
    }

    /// Counts one more refused write.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}
