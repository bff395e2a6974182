//! Who reads the channel besides one processor, as the nsqds' statistics tell (pure).

use super::diagnosis::{Finding, Severity};
use super::state::WatchedNsqd;
use super::watch::Watch;
use uuid::Uuid;

use crate::nsqd::consumers::{ChannelConsumers, SeenProcessor};

/// The code of the finding that two ledgers count one channel.
pub(crate) const TWO_LEDGERS: &str = "two-ledgers";

/// What to do about it.
pub(crate) const TWO_LEDGERS_WAY_OUT: &str = "Stop one of them; what it has counted stays. A spare processor must use the same --data-dir, with --standby.";

impl Watch {
    /// Two processors with different ledgers on the channel of one nsqd; the first that is found. `share` says of two whether
    /// they count in one shared ledger.
    pub(crate) fn two_ledgers(&self, share: impl Fn(&Uuid, &Uuid) -> bool) -> Option<Finding> {
        let queue = self.queue.as_ref()?;
        let state = self.state.lock();
        let found = |nsqd: &WatchedNsqd| {
            let channel = nsqd.answering()?.stats.channel(&queue.topic, &queue.channel)?;
            let mut consumers = ChannelConsumers::default();
            consumers.add(channel);
            let seen = consumers.processors;
            let beside = |one: &'_ SeenProcessor| {
                let other = seen.iter().find(|other| {
                    other.ledger != one.ledger && !share(&one.ledger, &other.ledger)
                })?;
                Some((one.clone(), other.clone()))
            };
            let (one, other) = seen.iter().find_map(beside)?;
            Some(Finding {
                code: TWO_LEDGERS,
                severity: Severity::Error,
                text: format!(
                    "{} processors with different ledgers read channel {}/{} of nsqd {}: {} from {} and {} from {}. A play \
                     that is published again may be counted by both.",
                    seen.len(),
                    queue.topic,
                    queue.channel,
                    nsqd.peer.address,
                    one.ledger,
                    one.remote_address,
                    other.ledger,
                    other.remote_address,
                ),
                way_out: TWO_LEDGERS_WAY_OUT,
            })
        };
        state.nsqds().find_map(found)
    }
}
