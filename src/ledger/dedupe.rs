//! Which plays are counted already (pure).

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::message_key::MessageKey;
use super::message_window::MessageWindow;
use super::producers::{Added, ProducerLimits, Producers};
use crate::model::play::{Play, PlayIdentity};
use crate::model::seq_set::SeqSet;

/// Messages that are remembered for plays without an identity; at least that many, at most twice as many: about 20 MB.
pub(super) const MESSAGE_WINDOW: usize = 1 << 20;

/// Of how many of the newest plays the video is remembered, to tell a repeat from another play of the same number.
/// 512 KiB.
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
    /// For the newest plays, each at the place its identity's hash gives: the rest of that hash, and the video's.
    videos: Box<[(u32, u32)]>,
    hasher: RandomState,
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
        Self::with_limits(ProducerLimits::DEFAULT, MESSAGE_WINDOW)
    }
}

impl Dedupe {
    /// Nothing is counted.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_limits(producers: ProducerLimits, message_window: usize) -> Self {
        Self {
            producers: Producers::new(producers),
            crowded: None,
            messages: MessageWindow::new(message_window),
            fresh_messages: Vec::new(),
            videos: vec![(0, 0); VIDEO_WINDOW].into(),
            hasher: RandomState::default(),
        }
    }

    /// Remembers a play, which came with that message.
    pub fn insert(&mut self, play: &Play, message: MessageKey) -> Seen {
        let Some(identity) = play.identity else { return self.insert_by_message(message) };
        match self.producers.add(identity) {
            Added::Crowded => {
                let seen = self.insert_by_message(message);
                if seen == Seen::NewByMessage {
                    let plays = self.crowded.map_or(0, |crowded| crowded.plays) + 1;
                    self.crowded = Some(CrowdedProducer { producer: identity.producer, plays });
                }
                seen
            }
            added => self.compare_video(added == Added::New, identity, play.video_id),
        }
    }

    fn insert_by_message(&mut self, message: MessageKey) -> Seen {
        if self.insert_message(message) { Seen::NewByMessage } else { Seen::Duplicate }
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
        Learned { producers, messages: std::mem::take(&mut self.fresh_messages) }
    }

    /// Learns again what was written down: as [`Dedupe::insert`], but nothing of it is new.
    pub fn learn(&mut self, producer: Uuid, runs: impl IntoIterator<Item = Range<u64>>) {
        self.producers.learn(producer, runs);
    }

    /// Learns a message again.
    pub fn learn_message(&mut self, message: MessageKey) {
        self.messages.insert(message);
    }

    /// The plays of a producer that are counted; `None` of one that is not in memory.
    pub fn counted(&self, producer: &Uuid) -> Option<&SeqSet> {
        self.producers.get(producer)
    }

    /// What came of producers whose numbers have too many holes, if anything has.
    pub fn crowded(&self) -> Option<CrowdedProducer> {
        self.crowded
    }

    /// Remembers the video of a fresh play; holds a repeat against it.
    fn compare_video(&mut self, fresh: bool, identity: PlayIdentity, video: Uuid) -> Seen {
        let hash = self.hasher.hash_one((identity.producer.as_u128(), identity.seq));
        let entry = ((hash >> 32) as u32, video.as_u128() as u32 ^ (video.as_u128() >> 64) as u32);
        let place = &mut self.videos[hash as usize % VIDEO_WINDOW];
        if fresh {
            *place = entry;
            return Seen::New;
        }
        if place.0 == entry.0 && place.1 != entry.1 { Seen::Conflicting } else { Seen::Duplicate }
    }
}

#[cfg(test)]
mod tests {
    use nsq_protocol::MessageId;

    use super::*;
    use crate::model::seq_set::RUNS_MAX;

    fn message(id: u64) -> MessageKey {
        MessageKey::new(MessageId::from_u64(id), 1)
    }

    fn play(video: u128, identity: Option<(u128, u64)>) -> Play {
        let identity = identity
            .map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq });
        Play { video_id: Uuid::from_u128(video), enqueued_at_ns: None, identity, resent: false }
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

    #[test]
    fn without_an_identity_the_newest_messages_count_once() {
        let window = 1000;
        let mut dedupe = Dedupe::with_limits(ProducerLimits::DEFAULT, window as usize);
        let mut insert = |id| dedupe.insert(&play(7, None), message(id));
        assert!((0..window).all(|id| insert(id) == Seen::NewByMessage));
        assert_eq!(insert(0), Seen::Duplicate);
        assert!((window..2 * window).all(|id| insert(id) == Seen::NewByMessage));
        assert_eq!(insert(window), Seen::Duplicate);
        assert!(dedupe.messages.len() <= 2 * window as usize);
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
        for seq in seqs {
            assert_eq!(dedupe.insert(&play(7, Some((1, seq))), message(seq)), Seen::Duplicate);
        }
        // One that was known by its number is known in whatever message.
        assert_eq!(dedupe.insert(&play(7, Some((1, seqs[1]))), message(1)), Seen::Duplicate);
        let crowded = CrowdedProducer { producer: Uuid::from_u128(1), plays: 1 };
        assert_eq!(dedupe.crowded(), Some(crowded));
        assert_eq!(dedupe.insert(&play(7, Some((2, 0))), message(1)), Seen::New);
        assert_eq!(dedupe.take_learned().messages, [message(seqs[0])]);
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
