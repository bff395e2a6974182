//! What `GET /api/queue` shows of what the nsqds and nsqlookupds said.

use std::time::Instant;

use serde_json::{Value, json};

use super::figures;
use super::state::{WatchedLookupd, WatchedNsqd};
use super::watch::Watch;

/// The longest name of a host that is shown, in characters.
const NAME_MAX: usize = 255;

impl Watch {
    /// The answer of `GET /api/queue`: nsqd's own fields, with rates, and the sums over all nsqds.
    pub(crate) fn show(&self) -> Value {
        let state = self.state.lock();
        let now = Instant::now();
        let nsqds: Vec<_> = state
            .nsqds()
            .map(|nsqd| {
                let names = |lookupd: &&WatchedLookupd| lookupd.names(&nsqd.peer.address, now);
                let found_by = state.lookupds.iter().filter(names);
                let mut shown = nsqd.show();
                shown["found_by"] = found_by.map(|lookupd| lookupd.peer.address.as_str()).collect();
                shown
            })
            .collect();
        let told = state.nsqds().filter_map(WatchedNsqd::answering);
        let totals = figures::totals(told.map(|heard| (&heard.stats, &heard.rates)));
        let lookupds: Vec<_> = state.lookupds.iter().map(WatchedLookupd::show).collect();
        let names = self.queue.as_ref().map(|queue| (queue.topic.as_str(), queue.channel.as_str()));
        json!({
            "topic": names.map(|(topic, _)| topic),
            "channel": names.map(|(_, channel)| channel),
            "nsqds": nsqds,
            "left_out": state.left_out(),
            "lookupds": lookupds,
            "totals": totals,
        })
    }
}

/// A name that an nsqd tells of itself, without what nobody would read.
fn cut(name: &str) -> Value {
    name.chars().take(NAME_MAX).collect::<String>().into()
}

impl WatchedNsqd {
    fn show(&self) -> Value {
        let mut shown = json!({ "address": self.peer.address, "error": self.peer.error });
        if let Some((info, _)) = &self.info {
            shown["tcp_port"] = info.tcp_port.into();
            shown["broadcast_address"] = cut(&info.broadcast_address);
            shown["hostname"] = cut(&info.hostname);
        }
        let Some(heard) = &self.heard else { return shown };
        let topics: Vec<_> = heard
            .stats
            .topics
            .iter()
            .map(|topic| {
                let mut value = json!(topic);
                value["rate_in"] = heard.rates.of(&topic.topic_name, None).rate_in.into();
                for (index, channel) in topic.channels.iter().enumerate() {
                    let rate = heard.rates.of(&topic.topic_name, Some(&channel.channel_name));
                    value["channels"][index]["rate_in"] = rate.rate_in.into();
                    value["channels"][index]["rate_out"] = rate.rate_out.into();
                }
                value
            })
            .collect();
        shown["heard_at"] = json!(heard.at_ms);
        shown["version"] = json!(heard.stats.version);
        shown["health"] = json!(heard.stats.health);
        shown["start_time"] = heard.stats.start_time.into();
        shown["topics"] = topics.into();
        shown
    }
}

impl WatchedLookupd {
    fn show(&self) -> Value {
        json!({
            "address": self.peer.address,
            "answering": self.heard.is_some() && self.peer.error.is_none(),
            "error": self.peer.error,
            "heard_at": self.heard.map(|(_, at_ms)| at_ms),
            "nsqds": self.heard.map(|_| self.named),
        })
    }
}
