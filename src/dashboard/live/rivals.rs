//! Processors that must not run at one time: two with one id, and two with different ledgers on one channel; those that share
//! a ledger may (pure).

use std::net::IpAddr;
use std::time::Instant;

use uuid::Uuid;

use super::reports::{KnownProcessor, Live};
use crate::dashboard::nsqds::{Finding, Severity, TWO_LEDGERS, TWO_LEDGERS_WAY_OUT};
use crate::wire::ConnectionFigures;

impl Live {
    /// Two processes of one processor that report by turns.
    pub(in super::super) fn clones(&self, now: Instant) -> Option<Finding> {
        let both = |(id, known): (&Uuid, &KnownProcessor)| Some((*id, known.starts.both(now)?));
        let (id, hosts) = self.processors.iter().find_map(both)?;
        let [one, other] = hosts.map(host);
        Some(Finding {
            code: "cloned-processor",
            severity: Severity::Error,
            text: format!(
                "Two processes report as processor {id} at the same time, from {one} and from {other}: its data directory \
                 was copied. The dashboard keeps the higher count of each video, so plays are missing."
            ),
            way_out: "Stop one of them, and give it an empty --data-dir before it starts again.",
        })
    }

    /// Two processors with different ledgers that read one channel of one nsqd, as they say themselves.
    pub(in super::super) fn two_ledgers(&self, now: Instant) -> Option<Finding> {
        let alive: Vec<_> =
            self.processors.iter().filter(|(_, known)| known.is_alive(now)).collect();
        let pairs = alive
            .iter()
            .enumerate()
            .flat_map(|(index, one)| alive[index + 1..].iter().map(move |other| (one, other)));
        let found = |((id, one), (other_id, other)): (
            &(&Uuid, &KnownProcessor),
            &(&Uuid, &KnownProcessor),
        )| {
            if self.share_ledger(id, other_id) {
                return None;
            }
            let nsqd = one.shared_nsqd(other)?;
            let channel = one.channel().map(|(topic, channel)| format!("{topic}/{channel}"))?;
            let (from, other_from) = (host(one.starts.from()), host(other.starts.from()));
            Some(Finding {
                code: TWO_LEDGERS,
                severity: Severity::Error,
                text: format!(
                    "Two processors with different ledgers read channel {channel} of nsqd {nsqd}: {id} from {from} and \
                     {other_id} from {other_from}. A play that is published again may be counted by both."
                ),
                way_out: TWO_LEDGERS_WAY_OUT,
            })
        };
        pairs.into_iter().find_map(found)
    }
}

impl KnownProcessor {
    /// Topic and channel, where it tells them.
    fn channel(&self) -> Option<(&str, &str)> {
        let consumer = self.consumer.as_deref()?;
        Some((consumer.topic.as_deref()?, consumer.channel.as_deref()?))
    }

    /// An nsqd whose channel both read, having been heard by turns: one that has taken another's place is not beside it.
    fn shared_nsqd(&self, other: &Self) -> Option<&str> {
        let beside = self.heard > other.starts.began()? && other.heard > self.starts.began()?;
        if !beside || self.channel()? != other.channel()? {
            return None;
        }
        let same_host = self.starts.from() == other.starts.from();
        let is_shared = |nsqd: &&ConnectionFigures| {
            // Each host has a loopback of its own.
            let is_one = same_host || !is_loopback(&nsqd.nsqd);
            is_one && other.connected().any(|theirs| theirs.nsqd == nsqd.nsqd)
        };
        self.connected().find(is_shared).map(|nsqd| &*nsqd.nsqd)
    }

    /// The nsqds that it is connected to.
    fn connected(&self) -> impl Iterator<Item = &ConnectionFigures> {
        let connections = self.consumer.iter().flat_map(|consumer| &consumer.connections);
        connections.filter(|nsqd| nsqd.connected)
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

fn host(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "an unknown address".to_owned(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::{ConsumerFigures, Consumption};

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn tell(live: &mut Live, id: u128, instance: u128, from: u8, nsqd: &str, now: Instant) {
        let connection = ConnectionFigures {
            nsqd: nsqd.to_owned(),
            connected: true,
            rdy: 1,
            pause: None,
            in_flight: 0,
            reconnects: 0,
            oversized: 0,
            last_error: None,
        };
        let consumer = ConsumerFigures {
            connections: vec![connection],
            topic: Some("plays".to_owned()),
            channel: Some("processor".to_owned()),
            ..ConsumerFigures::default()
        };
        let told = Consumption { consumer: Some(Box::new(consumer)), ..Consumption::default() };
        live.report(Uuid::from_u128(id), None, Some(told), now);
        live.started(Uuid::from_u128(id), Some(Uuid::from_u128(instance)), ip(from), now);
    }

    #[test]
    fn a_clone_is_one_that_comes_back_again_and_again() {
        let mut live = Live::default();
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        // A restart, and a last message of the process before that comes late.
        for (second, instance) in [(0, 1), (1, 1), (2, 2), (3, 1), (4, 2), (5, 2), (6, 2)] {
            tell(&mut live, 7, instance, instance as u8, "a:1", at(second));
            assert_eq!(live.clones(at(second)), None, "{second}");
        }
        tell(&mut live, 7, 1, 1, "a:1", at(7));
        let found = live.clones(at(7)).unwrap();
        assert!(found.text.contains("from 10.0.0.2 and from 10.0.0.1"), "{}", found.text);
        // The other one has stopped.
        for second in 8..20 {
            tell(&mut live, 7, 1, 1, "a:1", at(second));
        }
        assert_eq!(live.clones(at(20)), None);
        assert_eq!(live.two_ledgers(at(20)), None);
    }

    #[test]
    fn two_ledgers_are_beside_each_other_at_one_nsqd_and_not_one_behind_the_other() {
        let start = Instant::now();
        let check = |nsqds: [&str; 2], from: [u8; 2], seconds: &[(u32, usize)], want: bool| {
            let mut live = Live::default();
            let mut last = start;
            for (second, which) in seconds {
                last = start + SECOND * *second;
                let id = 1 + *which as u128;
                tell(&mut live, id, id, from[*which], nsqds[*which], last);
            }
            let found = live.two_ledgers(last);
            assert_eq!(found.is_some(), want, "{nsqds:?} {from:?} {seconds:?}: {found:?}");
        };
        let by_turns = &[(0, 0), (1, 1), (2, 0), (3, 1)];
        check(["a:1", "a:1"], [1, 2], by_turns, true);
        check(["a:1", "b:1"], [1, 2], by_turns, false);
        check(["a:1", "a:1"], [1, 2], &[(0, 0), (1, 0), (2, 1), (3, 1)], false);
        check(["a:1", "a:1"], [1, 2], &[(0, 0), (1, 1), (2, 0), (13, 1)], false);
        // Each host has an nsqd of its own.
        check(["127.0.0.1:4150", "127.0.0.1:4150"], [1, 2], by_turns, false);
        check(["localhost:4150", "localhost:4150"], [1, 1], by_turns, true);
    }
}
