//! Which plays are counted already (pure).

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::message_key::MessageKey;
use super::message_parts::{MessageVerdicts, PartOf};
use super::message_window::{MessageBudget, MessageWindow, MessageWindowSize};
use super::producers::{Added, ProducerLimits, Producers};
use crate::model::play::{Play, PlayIdentity};
use crate::model::seq_set::SeqSet;

/// Of how many of the newest plays the video and the time are remembered, to tell a repeat from another play of the same
/// number. 512 KiB.
const VIDEO_WINDOW: usize = 1 << 16;

/// What is known of a play that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not counted before.
    New,
    /// Nor was it, as far as the newest message IDs tell: it has no identity, or one of a producer whose numbers have
    /// too many holes.
    NewByMessage,
    /// It was: the same producer and number, or the same message.
    Duplicate,
    /// Its producer and number were counted before, and nothing tells that it was this play: that one is not among the
    /// newest, or it was of another time.
    UnprovenDuplicate,
    /// Its producer and number were counted before, for another video: the first stands.
    Conflicting,
}

/// What [`Dedupe`] has learned since it was last asked: what the ledger writes down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// Numbers of plays by producer: runs, disjoint and ascending.
    pub producers: Vec<(Uuid, Vec<Range<u64>>)>,
    /// Messages whose plays had no identity, in the order they came.
    pub messages: Vec<MessageKey>,
}

/// The plays that are counted, by identity: exact, without a time window. For plays without one, the newest messages.
#[derive(Debug)]
pub struct Dedupe {
    /// Those in memory are exact; for the others the table must be asked first.
    pub(super) producers: Producers,
    /// What came of producers whose numbers have too many holes.
    crowded: Option<CrowdedProducer>,
    messages: MessageWindow,
    fresh_messages: Vec<MessageKey>,
    memory: PlayMemory,
}

/// What the newest plays told, to tell a repeat from another play of the same number.
#[derive(Debug)]
pub(super) struct PlayMemory {
    /// Each play at the place its identity's hash gives: the rest of that hash, and what it told.
    videos: Box<[(u32, u32)]>,
    hasher: RandomState,
}

impl Default for PlayMemory {
    fn default() -> Self {
        Self { videos: vec![(0, 0); VIDEO_WINDOW].into(), hasher: RandomState::default() }
    }
}

/// Plays that are known by their messages only, although they have an identity: the numbers of their producers have more
/// than [`RUNS_MAX`](crate::model::seq_set::RUNS_MAX) holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrowdedProducer {
    /// Whose the newest of them is.
    pub producer: Uuid,
    /// How many were counted since the start, over all such producers.
    pub plays: u64,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self::with_limits(ProducerLimits::DEFAULT, MessageWindow::new(MessageBudget::default()))
    }
}

impl Dedupe {
    /// Nothing is counted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is counted; so much memory for messages.
    pub(super) fn with_budget(messages: MessageBudget) -> Self {
        Self::with_limits(ProducerLimits::DEFAULT, MessageWindow::new(messages))
    }

    fn with_limits(producers: ProducerLimits, messages: MessageWindow) -> Self {
        Self {
            producers: Producers::new(producers),
            crowded: None,
            messages,
            fresh_messages: Vec::new(),
            memory: PlayMemory::default(),
        }
    }

    /// Remembers a play, which came with that message, and brought nothing else.
    pub fn insert(&mut self, play: &Play, message: MessageKey) -> Seen {
        self.insert_part(play, message, PartOf::Alone, &mut MessageVerdicts::default())
    }

    /// Remembers a play, which came with that message; `verdicts` are those of its batch.
    pub(super) fn insert_part(
        &mut self,
        play: &Play,
        message: MessageKey,
        part: PartOf,
        verdicts: &mut MessageVerdicts<bool>,
    ) -> Seen {
        self.insert_or(play, |dedupe| verdicts.of(part, || dedupe.insert_message(message)))
    }

    /// Remembers a play of a dead letter that goes with the same commit; `message` is what it is known by where it has no
    /// (producer, seq). `None`: that is the letter, whose message is remembered already, and which can go once only.
    pub(super) fn insert_retried(&mut self, play: &Play, message: Option<MessageKey>) -> Seen {
        self.insert_or(play, |dedupe| message.is_none_or(|key| dedupe.insert_message(key)))
    }

    /// Remembers a play by its identity; where it has none, or one that is not remembered, `is_new` says whether it is new.
    fn insert_or(&mut self, play: &Play, is_new: impl FnOnce(&mut Self) -> bool) -> Seen {
        let added = play.identity.map(|identity| (identity, self.producers.add(identity)));
        match added {
            Some((identity, added @ (Added::New | Added::Known))) => {
                self.memory.compare(added == Added::New, identity, play)
            }
            _ if !is_new(self) => Seen::Duplicate,
            crowded => {
                if let Some((PlayIdentity { producer, .. }, _)) = crowded {
                    let plays = self.crowded.map_or(0, |crowded| crowded.plays) + 1;
                    self.crowded = Some(CrowdedProducer { producer, plays });
                }
                Seen::NewByMessage
            }
        }
    }

    /// Remembers a message whose play has no identity, or that holds no play; false if it was remembered.
    pub fn insert_message(&mut self, message: MessageKey) -> bool {
        let fresh = self.messages.insert(message);
        if fresh {
            self.fresh_messages.push(message);
        }
        fresh
    }

    /// What was learned since the last call.
    pub fn take_learned(&mut self) -> Learned {
        let producers = self.producers.take_fresh();
        // The next commit is seldom much larger.
        let room = Vec::with_capacity(self.fresh_messages.len());
        Learned { producers, messages: std::mem::replace(&mut self.fresh_messages, room) }
    }

    /// Learns again what was written down: as [`Dedupe::insert`], but nothing of it is new.
    pub fn learn(&mut self, producer: Uuid, runs: impl IntoIterator<Item = Range<u64>>) {
        self.producers.learn(producer, runs);
    }

    /// Learns a message again.
    pub fn learn_message(&mut self, message: MessageKey) {
        self.messages.insert(message);
    }

    /// How large the window of messages is.
    pub(super) fn message_window(&self) -> MessageWindowSize {
        self.messages.size()
    }

    /// The plays of a producer that are counted; `None` of one that is not in memory.
    pub fn counted(&self, producer: &Uuid) -> Option<&SeqSet> {
        self.producers.get(producer)
    }

    /// What came of producers whose numbers have too many holes, if anything has.
    pub fn crowded(&self) -> Option<CrowdedProducer> {
        self.crowded
    }
}

impl PlayMemory {
    /// Remembers what a fresh play told; holds a repeat against it.
    pub(super) fn compare(&mut self, fresh: bool, identity: PlayIdentity, play: &Play) -> Seen {
        let hash = self.hasher.hash_one((identity.producer.as_u128(), identity.seq));
        // The rest of the hash; 24 bits of the video above 8 of the time.
        let video = (self.hasher.hash_one(play.video_id) as u32) << 8;
        let time = self.hasher.hash_one(play.enqueued_at_ns) as u8;
        let entry = ((hash >> 32) as u32, video | u32::from(time));
        let place = &mut self.videos[hash as usize % VIDEO_WINDOW];
        if fresh {
            *place = entry;
            return Seen::New;
        }
        match *place {
            (rest, _) if rest != entry.0 => Seen::UnprovenDuplicate,
            (_, told) if told & !0xff != video => Seen::Conflicting,
            (_, told) if told != entry.1 => Seen::UnprovenDuplicate,
            _ => Seen::Duplicate,
        }
    }
}

#[cfg(test)]
mod tests {
    use nsq_protocol::MessageId;

    use super::*;
    use crate::model::seq_set::RUNS_MAX;
    use crate::model::video_id::VideoId;

    fn message(id: u64) -> MessageKey {
        MessageKey::new(MessageId::from_u64(id), 1)
    }

    fn play(video: u128, identity: Option<(u128, u64)>) -> Play {
        let identity = identity
            .map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq });
        Play { video_id: VideoId::from_u128(video), enqueued_at_ns: None, identity, resent: false }
    }

    #[test]
    fn an_identity_counts_once_whatever_message_brings_it() {
        let mut dedupe = Dedupe::new();
        for (producer, seq, id, seen) in [
            (1, 0, 1, Seen::New),
            (1, 0, 2, Seen::Duplicate),
            (1, 1, 1, Seen::New),
            (2, 0, 1, Seen::New),
        ] {
            assert_eq!(dedupe.insert(&play(7, Some((producer, seq))), message(id)), seen);
        }
        let counted = dedupe.counted(&Uuid::from_u128(1)).unwrap();
        assert_eq!(counted.watermark(), 2);
        assert!(dedupe.take_learned().messages.is_empty());
    }

    #[test]
    fn of_two_videos_with_one_identity_the_first_counts() {
        let mut dedupe = Dedupe::new();
        assert_eq!(dedupe.insert(&play(7, Some((1, 0))), message(1)), Seen::New);
        assert_eq!(dedupe.insert(&play(8, Some((1, 0))), message(2)), Seen::Conflicting);
        assert_eq!(dedupe.insert(&play(7, Some((1, 0))), message(3)), Seen::Duplicate);
    }

    /// A copy tells the same; what tells another time, or was counted long ago, may be another play.
    #[test]
    fn a_copy_is_told_from_a_number_that_was_given_twice() {
        let mut dedupe = Dedupe::new();
        let at = |ns| Play { enqueued_at_ns: Some(ns), ..play(7, Some((1, 0))) };
        assert_eq!(dedupe.insert(&at(1), message(1)), Seen::New);
        assert_eq!(dedupe.insert(&at(1), message(2)), Seen::Duplicate);
        // Of another time: one in 256 is taken for a copy.
        let unproven = |ns| dedupe.insert(&at(ns), message(3)) == Seen::UnprovenDuplicate;
        assert!((2..1002).map(unproven).filter(|unproven| *unproven).count() > 950);
        for seq in 1..2 * VIDEO_WINDOW as u64 {
            dedupe.insert(&play(7, Some((1, seq))), message(seq));
        }
        // Of each 7 that were counted so long ago 6 have lost their place.
        let again = (1..101).map(|seq| dedupe.insert(&play(7, Some((1, seq))), message(seq)));
        let (unproven, others): (Vec<_>, Vec<_>) =
            again.partition(|seen| *seen == Seen::UnprovenDuplicate);
        assert!(unproven.len() > 50, "{}", unproven.len());
        assert!(others.iter().all(|seen| *seen == Seen::Duplicate), "{others:?}");
    }

    #[test]
    fn without_an_identity_the_newest_messages_count_once() {
        let window = 1000;
        let messages = MessageWindow::of(window as usize, usize::MAX);
        let mut dedupe = Dedupe::with_limits(ProducerLimits::DEFAULT, messages);
        let mut insert = |id| dedupe.insert(&play(7, None), message(id));
        assert!((0..window).all(|id| insert(id) == Seen::NewByMessage));
        assert_eq!(insert(0), Seen::Duplicate);
        assert!((window..2 * window).all(|id| insert(id) == Seen::NewByMessage));
        assert_eq!(insert(window), Seen::Duplicate);
        assert!(dedupe.message_window().messages <= 2 * window);
        assert_eq!(dedupe.take_learned().messages.len() as u64, 2 * window);
    }

    /// Numbers at random: their plays are known by their messages, and that is said.
    #[test]
    fn a_producer_with_too_many_holes_is_told() {
        let mut dedupe = Dedupe::new();
        let numbers = || (0..u64::MAX).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
        let by_message = numbers().position(|seq| {
            dedupe.insert(&play(7, Some((1, seq))), message(seq)) == Seen::NewByMessage
        });
        let by_message = by_message.unwrap();
        assert!(by_message >= RUNS_MAX);
        let seqs = [numbers().nth(by_message).unwrap(), numbers().nth(5).unwrap()];
        // One that was known by its number is known in whatever message. Its video may be forgotten by now.
        for (seq, in_message) in [(seqs[0], seqs[0]), (seqs[1], seqs[1]), (seqs[1], 1)] {
            let again = dedupe.insert(&play(7, Some((1, seq))), message(in_message));
            assert!(matches!(again, Seen::Duplicate | Seen::UnprovenDuplicate), "{again:?}");
        }
        let crowded = CrowdedProducer { producer: Uuid::from_u128(1), plays: 1 };
        assert_eq!(dedupe.crowded(), Some(crowded));
        assert_eq!(dedupe.insert(&play(7, Some((2, 0))), message(1)), Seen::New);
        assert_eq!(dedupe.take_learned().messages, [message(seqs[0])]);
        // So are those of dead letters.
        let hole = numbers().nth(by_message + 1).unwrap();
        let retried = dedupe.insert_retried(&play(7, Some((1, hole))), None);
        assert_eq!((retried, dedupe.crowded().unwrap().plays), (Seen::NewByMessage, 2));
    }

    #[test]
    fn what_is_learned_is_said_once_in_order() {
        let mut dedupe = Dedupe::new();
        for seq in [5, 6, 0, 1, 9, 2, 7, 6] {
            dedupe.insert(&play(7, Some((1, seq))), message(seq));
        }
        let producer = Uuid::from_u128(1);
        let learned = dedupe.take_learned();
        assert_eq!(learned.producers, [(producer, vec![0..3, 5..8, 9..10])]);
        assert_eq!(dedupe.take_learned(), Learned::default());
        let mut other = Dedupe::new();
        learned.producers.into_iter().for_each(|(id, runs)| other.learn(id, runs));
        assert_eq!(other.counted(&producer), dedupe.counted(&producer));
        assert_eq!(other.take_learned(), Learned::default());
    }
}
