//! Which plays are counted already (pure).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::message_key::MessageKey;
use super::message_window::{MessageBudget, MessageWindow, MessageWindowSize};
use crate::model::play::{Play, PlayIdentity};
use crate::model::seq_set::SeqSet;

/// Producers whose plays are told apart by their identity. Each start of a producer is one; a stranger who draws a new
/// id for every play must not fill the memory.
const MAX_PRODUCERS: usize = 100_000;

/// Of how many of the newest plays the video and the time are remembered, to tell a repeat from another play of the same
/// number. 512 KiB.
const VIDEO_WINDOW: usize = 1 << 16;

/// What is known of a play that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not counted before.
    New,
    /// Nor was it, as far as the newest message IDs tell: it has no identity.
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
    max_producers: usize,
    producers: HashMap<Uuid, Producer, RandomState>,
    /// Those with something `fresh`.
    touched: Vec<Uuid>,
    messages: MessageWindow,
    fresh_messages: Vec<MessageKey>,
    /// For the newest plays, each at the place its identity's hash gives: the rest of that hash, and what it told.
    videos: Box<[(u32, u32)]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Producer {
    counted: SeqSet,
    /// What was added since [`Dedupe::take_learned`]: runs in the order they came.
    fresh: Vec<Range<u64>>,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self::with_limits(MAX_PRODUCERS, MessageWindow::new(MessageBudget::default()))
    }
}

impl Dedupe {
    /// Nothing is counted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is counted; so much memory for messages.
    pub(super) fn with_budget(messages: MessageBudget) -> Self {
        Self::with_limits(MAX_PRODUCERS, MessageWindow::new(messages))
    }

    fn with_limits(max_producers: usize, messages: MessageWindow) -> Self {
        Self {
            max_producers,
            producers: HashMap::default(),
            touched: Vec::new(),
            messages,
            fresh_messages: Vec::new(),
            videos: vec![(0, 0); VIDEO_WINDOW].into(),
            hasher: RandomState::default(),
        }
    }

    /// Remembers a play, which came with that message.
    pub fn insert(&mut self, play: &Play, message: MessageKey) -> Seen {
        let Some(identity) = self.usable(play) else {
            let fresh = self.insert_message(message);
            return if fresh { Seen::NewByMessage } else { Seen::Duplicate };
        };
        let producer = self.producers.entry(identity.producer).or_default();
        let fresh = producer.counted.insert(identity.seq);
        if fresh {
            if producer.fresh.is_empty() {
                self.touched.push(identity.producer);
            }
            match producer.fresh.last_mut() {
                Some(run) if run.end == identity.seq => run.end += 1,
                _ => producer.fresh.push(identity.seq..identity.seq + 1),
            }
        }
        self.compare(fresh, identity, play)
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
        let runs = |producers: &mut HashMap<Uuid, Producer, RandomState>, id: &Uuid| {
            let mut runs =
                producers.get_mut(id).map(|producer| std::mem::take(&mut producer.fresh))?;
            runs.sort_unstable_by_key(|run| run.start);
            runs.dedup_by(|run, before| {
                let touches = run.start == before.end;
                before.end = if touches { run.end } else { before.end };
                touches
            });
            Some(runs)
        };
        let producers = self
            .touched
            .drain(..)
            .filter_map(|id| runs(&mut self.producers, &id).map(|runs| (id, runs)))
            .collect();
        // The next commit is seldom much larger.
        let room = Vec::with_capacity(self.fresh_messages.len());
        Learned { producers, messages: std::mem::replace(&mut self.fresh_messages, room) }
    }

    /// Learns again what was written down: as [`Dedupe::insert`], but nothing of it is new.
    pub fn learn(&mut self, producer: Uuid, runs: impl IntoIterator<Item = Range<u64>>) {
        let counted = &mut self.producers.entry(producer).or_default().counted;
        runs.into_iter().for_each(|run| counted.insert_run(run));
    }

    /// Learns a message again.
    pub fn learn_message(&mut self, message: MessageKey) {
        self.messages.insert(message);
    }

    /// How large the window of messages is.
    pub(super) fn message_window(&self) -> MessageWindowSize {
        self.messages.size()
    }

    /// The plays of a producer that are counted; `None` of one that is not known.
    pub fn counted(&self, producer: &Uuid) -> Option<&SeqSet> {
        self.producers.get(producer).map(|producer| &producer.counted)
    }

    /// Every producer that is known.
    pub fn producers(&self) -> impl Iterator<Item = (&Uuid, &SeqSet)> {
        self.producers.iter().map(|(id, producer)| (id, &producer.counted))
    }

    /// The identity, if its producer is known or may still become so.
    fn usable(&self, play: &Play) -> Option<PlayIdentity> {
        play.identity.filter(|identity| {
            self.producers.len() < self.max_producers
                || self.producers.contains_key(&identity.producer)
        })
    }

    /// Remembers what a fresh play told; holds a repeat against it.
    fn compare(&mut self, fresh: bool, identity: PlayIdentity, play: &Play) -> Seen {
        let hash = self.hasher.hash_one((identity.producer.as_u128(), identity.seq));
        let video = play.video_id.as_u128();
        // The rest of the hash; 24 bits of the video above 8 of the time.
        let video = (video as u32 ^ (video >> 64) as u32) << 8;
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
        let mut again = (0..100).map(|seq| dedupe.insert(&play(7, Some((1, seq))), message(seq)));
        assert!(again.all(|seen| seen == Seen::UnprovenDuplicate || seen == Seen::Duplicate));
        assert_eq!(dedupe.insert(&at(1), message(4)), Seen::UnprovenDuplicate);
    }

    #[test]
    fn without_an_identity_the_newest_messages_count_once() {
        let window = 1000;
        let mut dedupe = Dedupe::with_limits(10, MessageWindow::of(window as usize, usize::MAX));
        let mut insert = |id| dedupe.insert(&play(7, None), message(id));
        assert!((0..window).all(|id| insert(id) == Seen::NewByMessage));
        assert_eq!(insert(0), Seen::Duplicate);
        assert!((window..2 * window).all(|id| insert(id) == Seen::NewByMessage));
        assert_eq!(insert(window), Seen::Duplicate);
        assert!(dedupe.message_window().messages <= 2 * window);
        assert_eq!(dedupe.take_learned().messages.len() as u64, 2 * window);
    }

    #[test]
    fn strangers_with_ever_new_ids_do_not_fill_the_memory() {
        let mut dedupe = Dedupe::with_limits(100, MessageWindow::of(1000, usize::MAX));
        for producer in 0..200 {
            let play = play(7, Some((producer.into(), 0)));
            let new = if producer < 100 { Seen::New } else { Seen::NewByMessage };
            assert_eq!(dedupe.insert(&play, message(producer)), new);
            assert_eq!(dedupe.insert(&play, message(producer)), Seen::Duplicate);
        }
        assert_eq!(dedupe.producers.len(), 100);
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
