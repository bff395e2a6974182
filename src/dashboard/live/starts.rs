//! Which processes of one processor have reported, and from where (pure).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// A processor that has not reported for so long may be gone.
pub(super) const ALIVE: Duration = Duration::from_secs(10);

/// The most starts of one processor that are kept apart; the one silent for longest goes first.
const STARTS: usize = 4;

/// So often a start that was replaced must come back before it is believed to be alive: a last message of a process that
/// was killed can overtake the first one of the next, and that is two.
const RETURNS: u32 = 3;

/// The starts of one processor that were heard lately, the newest last.
#[derive(Debug, Default)]
pub(super) struct Starts {
    heard: Vec<Start>,
    /// How often one that another had replaced came back, while there were several.
    returns: u32,
}

#[derive(Debug)]
struct Start {
    instance: Option<Uuid>,
    from: Option<IpAddr>,
    first: Instant,
    last: Instant,
}

impl Starts {
    /// A start has reported from that address.
    pub(super) fn hear(&mut self, instance: Option<Uuid>, from: Option<IpAddr>, now: Instant) {
        self.heard.retain(|start| now.saturating_duration_since(start.last) < ALIVE);
        if self.heard.len() < 2 {
            self.returns = 0;
        }
        let index = self.heard.iter().position(|start| start.instance == instance);
        let first = match index {
            Some(index) => {
                self.returns += u32::from(index + 1 < self.heard.len());
                self.heard.remove(index).first
            }
            None => now,
        };
        if self.heard.len() == STARTS {
            self.heard.remove(0);
        }
        self.heard.push(Start { instance, from, first, last: now });
    }

    /// Where its two newest starts report from, if both are alive.
    pub(super) fn both(&self, now: Instant) -> Option<[Option<IpAddr>; 2]> {
        let [.., one, other] = &self.heard[..] else { return None };
        let alive = now.saturating_duration_since(one.last) < ALIVE;
        (alive && self.returns >= RETURNS).then_some([one.from, other.from])
    }

    /// Where the newest reports from.
    pub(super) fn from(&self) -> Option<IpAddr> {
        self.heard.last().and_then(|start| start.from)
    }

    /// When the newest was heard first.
    pub(super) fn began(&self) -> Option<Instant> {
        self.heard.last().map(|start| start.first)
    }
}
