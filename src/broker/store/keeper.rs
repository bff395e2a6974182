//! The threads `broker-keep` and `broker-load`.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};
use nsq_protocol::thread::StopToken;

use super::logs::TopicLogs;
use super::topic_log::{TopicLog, TopicState};
use crate::broker::core::{Core, LoadPlan, Moment, TopicChanges};
use crate::journal::Sync;
use crate::runtime::clock;

/// How often is told how far the channels are: what was finished since may be delivered again after a kill.
pub(super) const KEEP_EVERY: Duration = Duration::from_millis(100);

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
    loop {
        select! {
            recv(stop.channel()) -> _ => return,
            recv(work) -> _ => {}
            recv(crossbeam_channel::at(next_sync)) -> _ => {}
        }
        let now = Instant::now();
        for name in core.ask(Core::take_changed_topics) {
            if let Some(log) = logs.get(&name) {
                keep(core, &log, Sync::Closed);
            }
        }
        if now >= next_sync {
            next_sync = now + sync_timeout;
            for log in logs.all().iter().filter(|log| log.has_unsynced()) {
                keep(core, log, Sync::All);
            }
        }
        if stop.wait(KEEP_EVERY) {
            return;
        }
    }
}

/// Tells all logs everything.
pub(in crate::broker) fn keep_all(core: &impl CoreAccess, logs: &TopicLogs) {
    logs.all().iter().for_each(|log| keep(core, log, Sync::All));
}

/// Tells a log how far its topic is.
pub(super) fn keep(core: &impl CoreAccess, log: &TopicLog, sync: Sync) {
    // What is wrong is told by the disk's usage, once; the next one tries again.
    let _ = log.keep(&TopicOf { core, log }, sync);
}

/// A log's topic.
struct TopicOf<'a, C> {
    core: &'a C,
    log: &'a TopicLog,
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
    loop {
        select! {
            recv(stop.channel()) -> _ => return,
            recv(work) -> _ => {}
        }
        while let Some(plan) = core.ask(Core::next_load) {
            if !load(core, logs, &plan) && stop.wait(RETRY) {
                return;
            }
            if stop.is_stopped() {
                return;
            }
        }
    }
}

/// Reads for one channel; false: it could not.
fn load(core: &impl CoreAccess, logs: &TopicLogs, plan: &LoadPlan) -> bool {
    let Some(log) = logs.get(&plan.topic) else {
        core.ask(|core| core.load_failed(plan, false));
        return true;
    };
    match log.load(plan) {
        Ok(loaded) => {
            core.ask(|core| core.loaded(plan, loaded, moment()));
            true
        }
        Err(error) => {
            log::error!(
                "broker: topic {}: cannot read its messages, tried again in {RETRY:?}: {:#}",
                plan.topic,
                anyhow::Error::from(error)
            );
            core.ask(|core| core.load_failed(plan, true));
            false
        }
    }
}
