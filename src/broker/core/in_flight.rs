//! What a channel's consumers hold: runs as they were delivered, with a bit for each message that is not answered
//! (pure).
//!
//! A message in flight costs a bit and a part of its run, and a FIN one search among the runs. With an entry for each
//! message, each would have a reference to its batch of its own, and the threads that deliver and those that read
//! FINs would pass the count of these references to and fro.
//!
//! No two runs overlap: a message that comes back, or gets a deadline of its own, splits the run that it lay in.

use std::collections::BTreeMap;
use std::time::Instant;

use super::batch::MessageRun;

/// The most messages of one held run: its bits.
const HELD_MAX: u32 = u64::BITS;

/// Why FIN, REQ or TOUCH did nothing; the texts are nsqd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InFlightError {
    #[error("ID not in flight")]
    NotInFlight,
    #[error("client does not own message")]
    NotOwner,
}

/// One run that a consumer holds, or what is left of it.
#[derive(Clone, Debug)]
struct HeldRun {
    /// At most [`HELD_MAX`] messages, their attempts counting this delivery.
    run: MessageRun,
    /// Bit n: the n-th message is not answered. Never 0.
    open: u64,
    owner: u64,
    delivered: Instant,
    deadline: Instant,
}

impl HeldRun {
    /// What is left of `len` messages from the n-th on; `None` if nothing is.
    fn slice(&self, n: u32, len: u32) -> Option<Self> {
        let bits = u64::MAX.checked_shr(HELD_MAX - len).unwrap_or(0);
        let open = self.open.checked_shr(n).unwrap_or(0) & bits;
        (open != 0).then(|| Self { run: self.run.slice(n, len), open, ..*self })
    }

    /// The messages that are not answered, as runs.
    fn left(&self) -> impl Iterator<Item = MessageRun> {
        let mut n = 0;
        std::iter::from_fn(move || {
            let open = self.open.checked_shr(n).filter(|open| *open != 0)?;
            let from = n + open.trailing_zeros();
            let len = (self.open >> from).trailing_ones();
            n = from + len;
            Some(self.run.slice(from, len))
        })
    }
}

/// The messages in flight of one channel.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// By the ID of the first message.
    held: BTreeMap<u64, HeldRun>,
    messages: usize,
}

impl InFlight {
    /// How many messages.
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    /// In how many runs.
    pub(super) fn runs(&self) -> usize {
        self.held.len()
    }

    /// `owner` holds `run` from now on. Calls `timed` with what [`InFlight::expire`] must be told at `deadline`.
    pub(super) fn hold(
        &mut self,
        run: &MessageRun,
        owner: u64,
        now: Instant,
        deadline: Instant,
        mut timed: impl FnMut(u64),
    ) {
        self.messages += run.left as usize;
        let mut rest = run.clone();
        while rest.left > 0 {
            let run = rest.split_front(HELD_MAX);
            let open = u64::MAX >> (HELD_MAX - run.left);
            timed(run.next_id);
            let held = HeldRun { run, open, owner, delivered: now, deadline };
            self.held.insert(held.run.next_id, held);
        }
    }

    /// The run that holds the message `id` for `owner`, and which of its messages that is.
    fn find(&mut self, owner: u64, id: u64) -> Result<(&mut HeldRun, u32), InFlightError> {
        let (first, held) =
            self.held.range_mut(..=id).next_back().ok_or(InFlightError::NotInFlight)?;
        let n = u32::try_from(id - first).unwrap_or(HELD_MAX);
        match held.open.checked_shr(n).unwrap_or(0) & 1 {
            0 => Err(InFlightError::NotInFlight),
            _ if held.owner != owner => Err(InFlightError::NotOwner),
            _ => Ok((held, n)),
        }
    }

    /// The message `id` is done, if `owner` holds it.
    pub(super) fn finish(&mut self, owner: u64, id: u64) -> Result<(), InFlightError> {
        let (held, n) = self.find(owner, id)?;
        held.open &= !(1 << n);
        if held.open == 0 {
            let first = held.run.next_id;
            self.held.remove(&first);
        }
        self.messages -= 1;
        Ok(())
    }

    /// Takes the message `id` out of flight, if `owner` holds it.
    pub(super) fn take(&mut self, owner: u64, id: u64) -> Result<MessageRun, InFlightError> {
        let (held, n) = self.find(owner, id)?;
        let (first, run) = (held.run.next_id, held.run.slice(n, 1));
        if let Some(held) = self.held.remove(&first) {
            for part in [held.slice(0, n), held.slice(n + 1, held.run.left - n - 1)] {
                self.held.extend(part.map(|part| (part.run.next_id, part)));
            }
        }
        self.messages -= 1;
        Ok(run)
    }

    /// Gives the message `id` another deadline, if `owner` holds it: `deadline` of when it was delivered. It must be
    /// told to [`InFlight::expire`], too.
    pub(super) fn touch(
        &mut self,
        owner: u64,
        id: u64,
        deadline: impl FnOnce(Instant) -> Instant,
    ) -> Result<Instant, InFlightError> {
        let (held, _) = self.find(owner, id)?;
        let (delivered, deadline) = (held.delivered, deadline(held.delivered));
        if held.run.left == 1 {
            held.deadline = deadline;
        } else {
            let run = self.take(owner, id)?;
            self.held.insert(id, HeldRun { run, open: 1, owner, delivered, deadline });
            self.messages += 1;
        }
        Ok(deadline)
    }

    /// The runs that were delivered in one whose first message was `first`, and have this deadline. They need not lie
    /// in one any more.
    fn due(&self, first: u64, deadline: Instant) -> impl Iterator<Item = u64> {
        let delivered = self.held.range(first..first.saturating_add(u64::from(HELD_MAX)));
        delivered.filter(move |(_, held)| held.deadline == deadline).map(|(first, _)| *first)
    }

    /// Whether [`InFlight::expire`] would find something.
    pub(super) fn is_due(&self, first: u64, deadline: Instant) -> bool {
        self.due(first, deadline).next().is_some()
    }

    /// The deadline of what was delivered from the message `first` on has passed: takes at most `max` messages that
    /// still have this deadline out of flight, and tells each run's owner and what it had not answered. Returns from
    /// which message on there are more, if there are.
    pub(super) fn expire(
        &mut self,
        first: u64,
        deadline: Instant,
        max: usize,
        mut each: impl FnMut(u64, MessageRun),
    ) -> Option<u64> {
        let due: Vec<u64> = self.due(first, deadline).collect();
        let mut left = max;
        for first in due {
            if left == 0 {
                return Some(first);
            }
            let rest = self.split(first, left);
            left -= self.remove(first, &mut each);
            if rest.is_some() {
                return rest;
            }
        }
        None
    }

    /// Leaves only the next `count` messages in the run that begins at `first`, at least one; returns where the others
    /// are a run of their own, if there are others.
    fn split(&mut self, first: u64, count: usize) -> Option<u64> {
        let held = self.held.get(&first).filter(|held| held.open.count_ones() as usize > count)?;
        // Without its lowest bits, `count` of them, what begins at the next one stays.
        let rest = (0..count).fold(held.open, |open, _| open & (open - 1));
        let n = rest.trailing_zeros();
        for part in [held.slice(0, n), held.slice(n, held.run.left - n)] {
            self.held.extend(part.map(|part| (part.run.next_id, part)));
        }
        Some(first + u64::from(n))
    }

    /// Calls `each` with what is not answered: a first ID, how many messages, and their deliveries so far.
    pub(super) fn left(&self, mut each: impl FnMut(u64, u32, u16)) {
        for held in self.held.values() {
            let mut n = 0;
            while let Some(open) = held.open.checked_shr(n).filter(|open| *open != 0) {
                let from = n + open.trailing_zeros();
                let len = (held.open >> from).trailing_ones();
                each(held.run.next_id + u64::from(from), len, held.run.attempts);
                n = from + len;
            }
        }
    }

    /// What is not answered, of the runs that begin below that ID.
    pub(super) fn runs_below(&self, below: u64) -> impl Iterator<Item = MessageRun> {
        self.held.range(..below).flat_map(|(_, held)| held.left())
    }

    /// Takes all that `owner` holds out of flight, in the order of publication.
    pub(super) fn release(&mut self, owner: u64, mut each: impl FnMut(MessageRun)) {
        let owned = self.held.iter().filter(|(_, held)| held.owner == owner);
        let owned: Vec<u64> = owned.map(|(first, _)| *first).collect();
        for first in owned {
            self.remove(first, &mut |_, run| each(run));
        }
    }

    /// Takes what the run that begins at `first` still has out of flight; returns how many messages these are.
    fn remove(&mut self, first: u64, each: &mut impl FnMut(u64, MessageRun)) -> usize {
        let Some(held) = self.held.remove(&first) else { return 0 };
        let count = held.open.count_ones() as usize;
        self.messages -= count;
        held.left().for_each(|run| each(held.owner, run));
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::core::batch::NewBatch;
    use nsq_protocol::BodiesBuf;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Duration;

    /// Messages 0, 1, … of one batch, each with its number as its body.
    fn messages(count: u32) -> MessageRun {
        let mut bodies = BodiesBuf::new();
        (0..count).for_each(|id| bodies.push(&vec![b'x'; 1 + id as usize % 7]));
        NewBatch::many(bodies.as_bodies()).number(0, 1, &Arc::default())
    }

    #[derive(Clone, Debug)]
    enum InFlightStep {
        Hold { owner: u64, count: u32 },
        Finish(u64),
        Take(u64),
        Touch(u64),
        Expire(usize, usize),
        Release(u64),
    }

    fn step() -> impl Strategy<Value = InFlightStep> {
        prop_oneof![
            (0..3u64, 1..150u32).prop_map(|(owner, count)| InFlightStep::Hold { owner, count }),
            (0..600u64).prop_map(InFlightStep::Finish),
            (0..600u64).prop_map(InFlightStep::Take),
            (0..600u64).prop_map(InFlightStep::Touch),
            (0..20usize, 1..200usize).prop_map(|(nth, max)| InFlightStep::Expire(nth, max)),
            (0..3u64).prop_map(InFlightStep::Release),
        ]
    }

    proptest! {
        /// Against an entry for each message: who holds it, and until when.
        #[test]
        fn flight_is_a_map_of_messages(steps in prop::collection::vec(step(), 1..120)) {
            let start = Instant::now();
            let mut in_flight = InFlight::default();
            let mut model = BTreeMap::<u64, (u64, Instant)>::new();
            let mut timed = Vec::new();
            let mut waiting = vec![messages(600)];
            let came_back = |run: &MessageRun| run.messages().map(|(id, body)| (id, body.len())).collect::<Vec<_>>();
            for (tick, step) in steps.into_iter().enumerate() {
                let now = start + Duration::from_millis(tick as u64);
                let mut back = Vec::new();
                let mut wanted = Vec::new();
                match step {
                    InFlightStep::Hold { owner, count } => {
                        let Some(mut run) = waiting.pop() else { continue };
                        let held = run.split_front(count);
                        if run.left > 0 {
                            waiting.push(run);
                        }
                        let deadline = now + Duration::from_secs(1);
                        in_flight.hold(&held, owner, now, deadline, |first| timed.push((first, deadline)));
                        model.extend(held.messages().map(|(id, _)| (id, (owner, deadline))));
                    }
                    InFlightStep::Finish(id) => {
                        let owner = model.get(&id).map_or(0, |(owner, _)| *owner);
                        if model.contains_key(&id) {
                            prop_assert_eq!(in_flight.finish(owner + 1, id), Err(InFlightError::NotOwner));
                        }
                        let wanted = model.remove(&id).map(|_| ()).ok_or(InFlightError::NotInFlight);
                        prop_assert_eq!(in_flight.finish(owner, id), wanted);
                    }
                    InFlightStep::Take(id) => {
                        let owner = model.get(&id).map_or(0, |(owner, _)| *owner);
                        match in_flight.take(owner, id) {
                            Ok(run) => back.push(run),
                            Err(why) => prop_assert_eq!(why, InFlightError::NotInFlight),
                        }
                        wanted.extend(model.remove(&id).map(|_| id));
                    }
                    InFlightStep::Touch(id) => {
                        let owner = model.get(&id).map_or(0, |(owner, _)| *owner);
                        let deadline = now + Duration::from_secs(2);
                        let touched = in_flight.touch(owner, id, |_| deadline);
                        prop_assert_eq!(touched.is_ok(), model.contains_key(&id));
                        if touched.is_ok() {
                            timed.push((id, deadline));
                            model.insert(id, (owner, deadline));
                        }
                    }
                    InFlightStep::Expire(nth, max) => {
                        if nth >= timed.len() {
                            continue;
                        }
                        let (first, deadline) = timed.swap_remove(nth);
                        let due = in_flight.is_due(first, deadline);
                        let rest = in_flight.expire(first, deadline, max, |_, run| back.push(run));
                        prop_assert_eq!(due, !back.is_empty());
                        // The rest may begin in a run that has a deadline of its own, beyond what `first` stands for.
                        prop_assert_eq!(rest.is_some(), in_flight.is_due(rest.unwrap_or(first), deadline));
                        timed.extend(rest.map(|first| (first, deadline)));
                        let ids = back.iter().flat_map(MessageRun::messages).map(|(id, _)| id);
                        for id in ids.collect::<Vec<_>>() {
                            prop_assert_eq!(model.remove(&id).map(|(_, at)| at), Some(deadline));
                            wanted.push(id);
                        }
                        prop_assert!(wanted.len() <= max && (rest.is_none() || wanted.len() == max));
                    }
                    InFlightStep::Release(owner) => {
                        in_flight.release(owner, |run| back.push(run));
                        wanted.extend(model.iter().filter(|(_, (found, _))| *found == owner).map(|(id, _)| *id));
                        model.retain(|_, (found, _)| *found != owner);
                    }
                }
                // What comes back has its own body, and waits again.
                let found: Vec<_> = back.iter().flat_map(came_back).collect();
                prop_assert_eq!(found, wanted.iter().map(|id| (*id, 1 + *id as usize % 7)).collect::<Vec<_>>());
                waiting.extend(back);
                prop_assert_eq!(in_flight.len(), model.len());
                prop_assert!(in_flight.runs() <= model.len());
            }
            // Every deadline is known: when all have passed nothing is left.
            for (first, deadline) in timed {
                let rest = in_flight.expire(first, deadline, usize::MAX, |_, run| waiting.push(run));
                prop_assert_eq!(rest, None);
            }
            prop_assert_eq!((in_flight.len(), in_flight.runs()), (0, 0));
        }
    }
}
