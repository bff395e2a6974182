//! Who consumes a channel, as nsqd's statistics tell: which processors call themselves what, and who comes first (pure).

use nsq_protocol::{ChannelStats, ClientStats, ConnectionConfig};
use uuid::Uuid;

/// What stands before the id in a user agent.
const LEDGER: &str = "ledger ";

/// So much later, in nsqd's whole seconds, is later for sure: two moments of one second may seem one apart.
const LATER_S: i64 = 2;

/// The user agent of a processor whose consumer was configured with `given`: it names the ledger, so that others can tell
/// a second processor from one that is the same. As NSQ has it `name/version`, with a comment.
pub(crate) fn user_agent(given: &str, ledger: &Uuid) -> String {
    if given == ConnectionConfig::new().get_user_agent() {
        let version = env!("CARGO_PKG_VERSION");
        return format!("playcounts/{version} ({given}; {LEDGER}{ledger})");
    }
    format!("{given} ({LEDGER}{ledger})")
}

/// The ledger that a user agent names; `None` of a program that is no processor.
pub(crate) fn ledger_of(user_agent: &str) -> Option<Uuid> {
    let (_, behind) = user_agent.rsplit_once(LEDGER)?;
    Uuid::try_parse(behind.split(')').next()?).ok()
}

/// A processor, as one or several nsqds see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenProcessor {
    /// Its ledger.
    pub(crate) ledger: Uuid,
    /// Where it is connected from, its oldest connection.
    pub(crate) remote_address: String,
    /// When that was made, in seconds since the Unix epoch, by nsqd's clock.
    pub(crate) since: i64,
}

/// Who consumes one channel, over all nsqds that were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelConsumers {
    /// Each processor once.
    pub(crate) processors: Vec<SeenProcessor>,
    /// Others, as `user agent at address`: each takes messages away.
    pub(crate) foreign: Vec<String>,
}

impl ChannelConsumers {
    /// Adds those that one nsqd tells of.
    pub(crate) fn add(&mut self, channel: &ChannelStats) {
        // One that closes takes nothing more.
        const CLOSING: i64 = 4;
        for client in channel.clients.iter().filter(|client| client.state != CLOSING) {
            let ClientStats { user_agent, remote_address, connect_ts, .. } = client;
            let Some(ledger) = ledger_of(user_agent) else {
                self.foreign.push(format!("{user_agent:?} at {remote_address}"));
                continue;
            };
            let seen = SeenProcessor {
                ledger,
                remote_address: remote_address.clone(),
                since: *connect_ts,
            };
            match self.processors.iter_mut().find(|known| known.ledger == ledger) {
                Some(known) if known.since > seen.since => *known = seen,
                Some(_) => {}
                None => self.processors.push(seen),
            }
        }
    }

    /// Another processor beside that of `own`, if it must make way for it: whoever came first stays, and of two that came
    /// at the same time the one with the lower id. Both ends decide alike.
    pub(crate) fn must_yield_to(&self, own: &Uuid) -> Option<&SeenProcessor> {
        let since = self.processors.iter().find(|known| known.ledger == *own);
        // Not seen yet: it has come last.
        let since = since.map_or(i64::MAX, |known| known.since);
        self.processors.iter().filter(|known| known.ledger != *own).find(|other| {
            let later = since.saturating_sub(other.since);
            later >= LATER_S || later > -LATER_S && *own > other.ledger
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_names_the_ledger() {
        let id = Uuid::from_u128(7);
        let own = ConnectionConfig::new();
        let given = own.get_user_agent();
        let agent = user_agent(given, &id);
        assert!(agent.starts_with("playcounts/") && agent.contains(given), "{agent}");
        assert!(agent.len() < 100, "nsqadmin and the dashboard cut it: {agent}");
        assert_eq!(ledger_of(&agent), Some(id));
        assert_eq!(ledger_of(&user_agent("mine/1 (ledger x)", &id)), Some(id));
        for foreign in ["", "go-nsq/1.1.0", "a (ledger )", "a (ledger 7)", given] {
            assert_eq!(ledger_of(foreign), None, "{foreign}");
        }
    }

    fn channel(clients: &[(Option<u128>, i64)]) -> ChannelStats {
        let mut channel = ChannelStats::default();
        for (ledger, since) in clients {
            let mut client = ClientStats::default();
            client.user_agent = match ledger {
                Some(ledger) => user_agent("p", &Uuid::from_u128(*ledger)),
                None => "go-nsq/1".to_owned(),
            };
            (client.connect_ts, client.state) = (*since, 3);
            channel.clients.push(client);
        }
        channel
    }

    #[test]
    fn of_two_exactly_one_makes_way() {
        for (one, other, first_stays) in
            [(10, 10, true), (10, 11, true), (11, 10, true), (12, 10, false), (10, 12, true)]
        {
            let mut seen = ChannelConsumers::default();
            seen.add(&channel(&[(Some(1), one), (Some(2), other), (None, 0)]));
            let yields = |id| seen.must_yield_to(&Uuid::from_u128(id)).is_some();
            assert_eq!((!yields(1), !yields(2)), (first_stays, !first_stays), "{one} {other}");
            assert_eq!(seen.foreign, ["\"go-nsq/1\" at "]);
        }
    }

    #[test]
    fn one_that_is_not_seen_yet_makes_way_and_the_same_ledger_is_no_other() {
        let mut seen = ChannelConsumers::default();
        // A dead connection of its own, and what closes.
        seen.add(&channel(&[(Some(1), 10), (Some(1), 90)]));
        let mut closing = channel(&[(Some(3), 1)]);
        closing.clients[0].state = 4;
        seen.add(&closing);
        assert_eq!(seen.processors.len(), 1);
        assert_eq!(seen.must_yield_to(&Uuid::from_u128(1)), None);
        assert_eq!(seen.must_yield_to(&Uuid::from_u128(0)).unwrap().since, 10);
    }
}
