//! When the handlers' failures stop the flow of messages, and how it comes back (pure).
//!
//! ```text
//!          failure                    time is up
//!   Open ----------> Shut (RDY 0) ----------------> Probe (RDY 1 on one connection)
//!    ^                ^                               |  |
//!    |                +--------- failure -------------+  |
//!    +--------------------------- success ---------------+
//! ```
//!
//! Each period has its own number, the *epoch*, and each message carries the one in which it came. Only messages of
//! the present epoch decide: a late success of a message from before does not end a backoff, and a late failure does
//! not deepen it.
//!
//! A probe that succeeds opens the flow at once. What go-nsq does, to step down level by level and to wait again at
//! each, keeps a consumer that has recovered waiting for as long as it was broken. Instead the level is remembered
//! for as long as the last wait was: a failure within that time goes on from it.

use std::time::{Duration, Instant};

use crate::flow::retry;

/// What may flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Everything.
    Open,
    /// Nothing.
    Shut,
    /// One message on one connection.
    Probe,
}

/// The state of a consumer's backoff.
#[derive(Debug)]
pub(crate) struct FailureBackoff {
    /// Whether failures count at all.
    enabled: bool,
    gate: Gate,
    epoch: u64,
    level: u32,
    delays: retry::Backoff,
    last_delay: Duration,
    /// While shut: the end. While open: until when a failure goes on from the last level.
    until: Option<Instant>,
}

impl FailureBackoff {
    /// With the first wait and the longest one; a longest one of zero means that there is no backoff.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self {
            enabled: !max.is_zero(),
            gate: Gate::Open,
            epoch: 0,
            level: 0,
            delays: retry::Backoff::new(min, max),
            last_delay: Duration::ZERO,
            until: None,
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    /// The number to put on messages that come now.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many failures in a row; 0 while all is well.
    pub(crate) fn level(&self, now: Instant) -> u32 {
        if self.gate == Gate::Open && self.until.is_none_or(|until| until <= now) {
            return 0;
        }
        self.level
    }

    /// When the flow is probed, while it is shut.
    pub(crate) fn shut_until(&self) -> Option<Instant> {
        self.until.filter(|_| self.gate == Gate::Shut)
    }

    /// A message that came in `epoch` failed. True if the gate is another now.
    pub(crate) fn failure(&mut self, epoch: u64, now: Instant, random: u64) -> bool {
        if !self.enabled || epoch != self.epoch || self.gate == Gate::Shut {
            return false;
        }
        if self.level(now) == 0 {
            self.delays.reset();
            self.level = 0;
        }
        self.level += 1;
        self.last_delay = self.delays.next_delay(random);
        self.until = Some(now + self.last_delay);
        self.enter(Gate::Shut);
        true
    }

    /// A message that came in `epoch` was finished. True if the gate is another now.
    pub(crate) fn success(&mut self, epoch: u64, now: Instant) -> bool {
        if self.gate != Gate::Probe || epoch != self.epoch {
            return false;
        }
        // The same epoch: should the next message fail, it counts.
        self.gate = Gate::Open;
        self.until = Some(now + self.last_delay);
        true
    }

    /// Time has passed. True if the gate is another now.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let over = self.shut_until().is_some_and(|until| until <= now);
        if over {
            self.until = None;
            self.enter(Gate::Probe);
        }
        over
    }

    fn enter(&mut self, gate: Gate) {
        self.gate = gate;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A backoff of 1 s to 8 s without jitter, and the moment it began.
    fn backoff() -> (FailureBackoff, Instant) {
        (FailureBackoff::new(SECOND, 8 * SECOND), Instant::now())
    }

    fn fail(backoff: &mut FailureBackoff, now: Instant) -> bool {
        backoff.failure(backoff.epoch(), now, u64::MAX)
    }

    #[test]
    fn a_failure_shuts_then_probes_then_opens() {
        let (mut backoff, start) = backoff();
        assert!(fail(&mut backoff, start));
        assert_eq!((backoff.gate(), backoff.level(start)), (Gate::Shut, 1));
        assert_eq!(backoff.shut_until(), Some(start + SECOND));
        assert!(!backoff.tick(start + SECOND - Duration::from_nanos(1)));
        assert!(backoff.tick(start + SECOND));
        assert_eq!((backoff.gate(), backoff.shut_until()), (Gate::Probe, None));
        assert!(backoff.success(backoff.epoch(), start + SECOND));
        assert_eq!(backoff.gate(), Gate::Open);
    }

    #[test]
    fn failed_probes_double_the_wait_up_to_its_limit() {
        let (mut backoff, mut now) = backoff();
        for (level, wait) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8)] {
            assert!(fail(&mut backoff, now));
            assert_eq!(backoff.level(now), level);
            assert_eq!(backoff.shut_until(), Some(now + wait * SECOND));
            now += wait * SECOND;
            assert!(backoff.tick(now));
        }
    }

    #[test]
    fn answers_of_the_period_before_decide_nothing() {
        let (mut backoff, start) = backoff();
        let before = backoff.epoch();
        assert!(fail(&mut backoff, start));
        // Shut: neither end deepens nor ends it, also not one that came after it shut.
        assert!(!backoff.failure(before, start, 0) && !backoff.success(before, start));
        assert!(!fail(&mut backoff, start) && !backoff.success(backoff.epoch(), start));
        let shut = backoff.epoch();
        assert!(backoff.tick(start + SECOND));
        for epoch in [before, shut] {
            assert!(!backoff.failure(epoch, start + SECOND, 0));
            assert!(!backoff.success(epoch, start + SECOND));
        }
        assert_eq!((backoff.gate(), backoff.level(start)), (Gate::Probe, 1));
        // Open again: a late failure of the old period is still an old one.
        assert!(backoff.success(backoff.epoch(), start + SECOND));
        assert!(!backoff.failure(before, start + SECOND, 0));
        assert!(fail(&mut backoff, start + SECOND));
    }

    #[test]
    fn a_relapse_goes_on_from_the_last_level_and_a_later_failure_does_not() {
        let (mut backoff, start) = backoff();
        assert!(fail(&mut backoff, start));
        assert!(backoff.tick(start + SECOND));
        assert!(backoff.success(backoff.epoch(), start + SECOND));
        let relapse = start + 2 * SECOND - Duration::from_nanos(1);
        assert_eq!(backoff.level(relapse), 1);
        assert!(fail(&mut backoff, relapse));
        assert_eq!((backoff.level(relapse), backoff.shut_until()), (2, Some(relapse + 2 * SECOND)));
        let probe = relapse + 2 * SECOND;
        assert!(backoff.tick(probe) && backoff.success(backoff.epoch(), probe));
        let healthy = probe + 2 * SECOND;
        assert_eq!(backoff.level(healthy), 0);
        assert!(fail(&mut backoff, healthy));
        assert_eq!((backoff.level(healthy), backoff.shut_until()), (1, Some(healthy + SECOND)));
    }

    #[test]
    fn a_longest_wait_of_zero_turns_it_off() {
        let mut backoff = FailureBackoff::new(SECOND, Duration::ZERO);
        assert!(!backoff.failure(0, Instant::now(), 0));
        assert_eq!(backoff.gate(), Gate::Open);
    }
}
