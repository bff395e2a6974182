//! What a part depends on, and whether each of it is there now: told by the threads that use it, or asked of those that
//! know; whoever watches says what changes. Holds no thread and no clock.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use uuid::Uuid;

/// Something that a part depends on, or that works for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartLink {
    /// What a start waits for.
    Start,
    /// The ledger that a processor counts in.
    Ledger,
    /// An nsqd, by its address.
    Nsqd(String),
    /// An nsqlookupd, by its address.
    Lookupd(String),
    /// A dashboard that a processor publishes to, by its URL.
    Dashboard(String),
    /// A dashboard that a producer asks which plays are counted, by its URL.
    Confirmations(String),
    /// That some nsqd takes what a producer publishes.
    Publishing,
    /// That a producer's outbox has room.
    Outbox,
    /// Those who write to a dashboard: away while it refuses somebody.
    Writers,
    /// Whom a dashboard tells of alarms, by scheme and host of its URL.
    Webhook(String),
    /// A processor that reports to a dashboard.
    Processor(Uuid),
}

/// How one of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Why it is not there; `None` while it is.
    pub away: Option<String>,
    /// How often it went away so far: it can have been away between two looks.
    pub losses: u64,
    /// Whether it is worth a line when it is seen for the first time: nobody has named it before.
    pub is_news: bool,
}

/// How all of somebody's links are; `None` when it has ended, and is not to be asked again.
pub type LinkSource = Box<dyn Fn() -> Option<Vec<(PartLink, LinkState)>> + Send>;

/// All links of a part.
#[derive(Default)]
pub struct Links {
    told: Mutex<BTreeMap<PartLink, LinkState>>,
    sources: Mutex<Vec<LinkSource>>,
}

impl Links {
    /// It is there.
    pub fn there(&self, link: PartLink) {
        self.told.lock().entry(link).or_default().away = None;
    }

    /// It is not, for that reason.
    pub fn away(&self, link: PartLink, reason: &str) {
        let mut told = self.told.lock();
        let state = told.entry(link).or_default();
        match &mut state.away {
            Some(known) if known == reason => {}
            Some(known) => reason.clone_into(known),
            None => {
                state.losses += 1;
                state.away = Some(reason.to_owned());
            }
        }
    }

    /// From now on `source` is asked as well, for as long as it answers.
    pub fn ask(&self, source: LinkSource) {
        self.sources.lock().push(source);
    }

    /// How each of them is now.
    pub fn states(&self) -> BTreeMap<PartLink, LinkState> {
        let mut states = self.told.lock().clone();
        self.sources.lock().retain(|source| {
            let answer = source();
            let goes_on = answer.is_some();
            states.extend(answer.into_iter().flatten());
            goes_on
        });
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_and_sources_end() {
        let links = Links::default();
        links.there(PartLink::Ledger);
        links.away(PartLink::Ledger, "gone");
        links.away(PartLink::Ledger, "still gone");
        links.there(PartLink::Ledger);
        links.away(PartLink::Ledger, "again");
        let nsqd = PartLink::Nsqd("a:1".to_owned());
        let answers = Mutex::new(vec![None, Some(vec![(nsqd.clone(), LinkState::default())])]);
        links.ask(Box::new(move || answers.lock().pop().flatten()));
        let states = links.states();
        let LinkState { away, losses, .. } = &states[&PartLink::Ledger];
        assert_eq!((away.as_deref(), *losses), (Some("again"), 2));
        assert!(states.contains_key(&nsqd));
        assert!(!links.states().contains_key(&nsqd));
        assert!(links.sources.lock().is_empty());
    }
}
