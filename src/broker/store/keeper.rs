//! The threads `broker-keep` and `broker-load`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, never, select};
use nsq_protocol::TopicName;
use nsq_protocol::thread::StopToken;

use super::logs::TopicLogs;
use super::pace::KEEP_EVERY;
use super::topic_log::{TopicLog, TopicState};
use crate::broker::core::{Core, LimitError, LoadPlan, Moment, TopicChanges};
use crate::journal::{JournalError, Sync};
use crate::runtime::clock;

/// How long after a read that failed it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Whoever can ask the core.
pub(in crate::broker) trait CoreAccess {
    /// Does something with the core under its lock, and behind it what that entails outside.
    fn ask<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R;
}

/// Both clocks now.
pub(in crate::broker) fn moment() -> Moment {
    Moment { now: Instant::now(), unix_ms: u64::try_from(clock::unix_ms().0).unwrap_or(0) }
}

/// What of a topic is to be kept.
pub(in crate::broker) fn changes(
    core: &impl CoreAccess,
    log: &TopicLog,
    is_whole: bool,
) -> Option<TopicChanges> {
    core.ask(|core| core.take_changes(log.name(), is_whole, moment()))
}

/// Tells the logs how far the channels are, and gets all to the disk after each `sync_timeout`, until the stop. `work` has a
/// token when there is something.
pub(in crate::broker) fn keep_loop(
    core: &impl CoreAccess,
    logs: &TopicLogs,
    sync_timeout: Duration,
    work: &Receiver<()>,
    stop: &StopToken,
) {
    let mut next_sync = Instant::now() + sync_timeout;
    // Topics of which there is something to tell that they do not tell as often.
    let mut untold: Vec<TopicName> = Vec::new();
    loop {
        let wake = if untold.is_empty() { next_sync } else { Instant::now() };
        select! {
            recv(stop.channel()) -> _ => return,
            recv(work) -> _ => {}
            recv(at(wake)) -> _ => {}
        }
        let now = Instant::now();
        untold.extend(core.ask(Core::take_changed_topics));
        // One that was told below, and has changed since, is there twice.
        untold.sort_unstable();
        untold.dedup();
        untold.retain(|name| {
            let Some(log) = logs.get(name) else { return false };
            let _ = keep(core, &log, Sync::Closed);
            log.has_untold()
        });
        if now >= next_sync {
            next_sync = now + sync_timeout;
            for log in logs.all().iter().filter(|log| log.is_to_be_kept()) {
                let _ = keep(core, log, Sync::All);
            }
        }
        if stop.wait(KEEP_EVERY) {
            return;
        }
    }
}

/// Tells all logs everything.
pub(in crate::broker) fn keep_all(core: &impl CoreAccess, logs: &TopicLogs) {
    logs.all().iter().for_each(|log| drop(keep(core, log, Sync::All)));
}

/// Tells a log how far its topic is.
///
/// # Errors
/// As [`TopicLog::keep`]. The disk's usage tells what is wrong, once, and the next one tries again.
pub(super) fn keep(core: &impl CoreAccess, log: &TopicLog, sync: Sync) -> Result<(), LimitError> {
    log.keep(&TopicOf { core, log }, sync, Instant::now())
}

/// A log's topic.
pub(super) struct TopicOf<'a, C> {
    pub(super) core: &'a C,
    pub(super) log: &'a TopicLog,
}

impl<C: CoreAccess> TopicState for TopicOf<'_, C> {
    fn changes(&self, is_whole: bool) -> Option<TopicChanges> {
        changes(self.core, self.log, is_whole)
    }

    fn oldest(&self) -> Option<u64> {
        self.core.ask(|core| core.oldest(self.log.name()))
    }

    fn note_stragglers(&self, below: u64, max_bytes: usize) -> bool {
        self.core.ask(|core| core.note_stragglers(self.log.name(), below, max_bytes))
    }

    fn stragglers_told(&self) {
        self.core.ask(|core| core.stragglers_told(self.log.name()));
    }
}

/// Reads back for the channels that want it until the stop. `work` has a token when there are some.
pub(in crate::broker) fn load_loop(
    core: &impl CoreAccess,
    logs: &TopicLogs,
    work: &Receiver<()>,
    stop: &StopToken,
) {
    let mut failed = FailedLoads::default();
    loop {
        select! {
            recv(stop.channel()) -> _ => return,
            recv(work) -> _ => {}
            recv(failed.retry()) -> _ => {}
        }
        failed.try_again(core);
        while let Some(plan) = core.ask(Core::next_load) {
            load(core, logs, plan, &mut failed);
            if stop.is_stopped() {
                return;
            }
            failed.try_again(core);
        }
        failed.note_starved(core);
    }
}

/// Reads for one channel.
fn load(core: &impl CoreAccess, logs: &TopicLogs, plan: LoadPlan, failed: &mut FailedLoads) {
    let Some(log) = logs.get(&plan.topic) else {
        failed.topics.remove(&plan.topic);
        return core.ask(|core| core.load_failed(&plan, false));
    };
    match log.load(&plan) {
        Ok(loaded) => {
            core.ask(|core| core.loaded(&plan, loaded, moment()));
            if failed.topics.remove(&plan.topic) {
                log::info!("broker: topic {}: its messages can be read again", plan.topic);
            }
        }
        Err(error) => failed.add(plan, error),
    }
}

/// What could not be read. Its channels wait to be read for once more; the thread does not, so that the others go on.
#[derive(Default)]
struct FailedLoads {
    plans: Vec<LoadPlan>,
    /// When they are tried again; `None`: there are none.
    retry_at: Option<Instant>,
    /// Topics of which it was said that they cannot be read.
    topics: HashSet<TopicName>,
}

impl FailedLoads {
    fn add(&mut self, plan: LoadPlan, error: JournalError) {
        if self.topics.insert(plan.topic) {
            log::error!(
                "broker: topic {}: cannot read its messages, tried again every {RETRY:?}: {:#}",
                plan.topic,
                anyhow::Error::from(error)
            );
        }
        self.try_later();
        self.plans.push(plan);
    }

    /// Has them read again, if it is time.
    fn try_again(&mut self, core: &impl CoreAccess) {
        if self.retry_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        let plans = std::mem::take(&mut self.plans);
        core.ask(|core| {
            plans.iter().for_each(|plan| core.load_failed(plan, true));
            core.feed_starved();
        });
    }

    /// Has channels fed later that get nothing now, if there are any.
    fn note_starved(&mut self, core: &impl CoreAccess) {
        if core.ask(|core| core.has_starved()) {
            self.try_later();
        }
    }

    fn try_later(&mut self) {
        self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
    }

    /// Fires when it is time.
    fn retry(&self) -> Receiver<Instant> {
        self.retry_at.map_or_else(never, at)
    }
}
