//! Which held messages are to be touched, and when, so that nsqd does not give them up (pure).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::codec::message::MessageId;

/// The messages of one connection that are held, by batch. Bounded by what is in flight.
#[derive(Debug)]
pub(crate) struct Touches {
    /// nsqd's msg-timeout for this connection.
    timeout: Duration,
    /// How far touches can stretch it.
    max: Duration,
    batches: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    ids: Vec<MessageId>,
    came: Instant,
    /// `None` once touching would not stretch the time any further.
    due: Option<Instant>,
}

impl Touches {
    pub(crate) fn new(timeout: Duration, max: Duration) -> Self {
        Self { timeout, max, batches: BTreeMap::new() }
    }

    /// Half of the timeout leaves the other half for what delays a touch.
    fn after(&self, touched: Instant, came: Instant) -> Option<Instant> {
        (touched + self.timeout < came + self.max).then(|| touched + self.timeout / 2)
    }

    /// Messages came, as batch `number`.
    pub(crate) fn add(&mut self, number: u64, ids: Vec<MessageId>, now: Instant) {
        self.batches.insert(number, Held { ids, came: now, due: self.after(now, now) });
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Messages of batch `number` are answered.
    pub(crate) fn remove(&mut self, number: u64, answered: impl Iterator<Item = MessageId>) {
        let Some(held) = self.batches.get_mut(&number) else { return };
        for id in answered {
            if let Some(at) = held.ids.iter().position(|held| *held == id) {
                held.ids.swap_remove(at);
            }
        }
        if held.ids.is_empty() {
            self.batches.remove(&number);
        }
    }

    /// Hands the messages to touch now to `touch`, and says when to ask again.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        mut touch: impl FnMut(&[MessageId]),
    ) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let numbers: Vec<u64> = self.batches.keys().copied().collect();
        for number in numbers {
            let Some(held) = self.batches.get(&number) else { continue };
            let mut due = held.due;
            if due.is_some_and(|due| due <= now) {
                touch(&held.ids);
                due = self.after(now, held.came);
            }
            if let Some(held) = self.batches.get_mut(&number) {
                held.due = due;
            }
            next = next.into_iter().chain(due).min();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(touches: &mut Touches, now: Instant) -> (Vec<MessageId>, Option<Instant>) {
        let mut ids = Vec::new();
        let next = touches.due(now, |due| ids.extend_from_slice(due));
        (ids, next)
    }

    #[test]
    fn messages_are_touched_at_half_time_until_touching_is_in_vain() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut touches = Touches::new(10 * second, 22 * second);
        let ids: Vec<_> = (1..=3).map(MessageId::from_u64).collect();
        touches.add(1, ids.clone(), start);
        assert_eq!(due(&mut touches, start + 4 * second), (vec![], Some(start + 5 * second)));
        assert_eq!(due(&mut touches, start + 5 * second), (ids, Some(start + 10 * second)));
        touches.remove(1, [MessageId::from_u64(1), MessageId::from_u64(9)].into_iter());
        // One came later: both are touched when they are due, each on its own time.
        touches.add(2, vec![MessageId::from_u64(4)], start + 6 * second);
        let (ids, next) = due(&mut touches, start + 11 * second);
        assert_eq!((ids.len(), next), (3, Some(start + 16 * second)));
        // 12 s after it came, its touch reaches to the 22 s that nsqd allows at most.
        let (ids, next) = due(&mut touches, start + 16 * second);
        assert_eq!((ids.len(), next), (3, Some(start + 21 * second)));
        let (ids, next) = due(&mut touches, start + 21 * second);
        assert_eq!((ids.len(), next), (1, None));
        assert_eq!(due(&mut touches, start + 40 * second), (vec![], None));
        touches.remove(1, (2..=3).map(MessageId::from_u64));
        touches.remove(2, std::iter::once(MessageId::from_u64(4)));
        assert!(touches.is_empty());
    }

    #[test]
    fn a_timeout_that_is_the_longest_already_is_not_stretched() {
        let (minute, start) = (Duration::from_secs(60), Instant::now());
        let mut touches = Touches::new(minute, minute);
        touches.add(1, vec![MessageId::from_u64(1)], start);
        assert_eq!(due(&mut touches, start), (vec![], None));
    }
}
