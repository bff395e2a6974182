//! The ledger: counts, who counted what, and what came that was no play.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use playcounts::ledger::{self, ArrivedPlay, Counters, DurableLedger, Ledger, NextUpkeep};
use playcounts::model::dashboard_index::DashboardIndex;
use playcounts::model::seq_set::SeqSet;
use playcounts::model::video::VideoCount;
use uuid::Uuid;

use super::{Part, State, copy};
use crate::ledger_support::{arrivals, hours, letter, open, play, upkeep};
use playcounts::model::video_id::VideoId;

/// Producers: more than a checkpoint takes at once, so that one can be in the middle of it.
const PRODUCERS: u64 = 150;

/// The dashboard that is published to.
const DASHBOARD: Uuid = Uuid::from_u128(0xda5b);

const FIRST: DashboardIndex = DashboardIndex::FIRST;

pub(super) struct LedgerPart;

/// What a ledger tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    processor: Uuid,
    counters: Counters,
    /// Plays and ms of the newest, by video.
    videos: BTreeMap<u128, (u64, u64)>,
    /// By video, what the dashboard has taken.
    published: BTreeMap<u128, u64>,
    producers: BTreeMap<u128, Vec<[u64; 2]>>,
    /// Number, message, body.
    letters: Vec<(i64, String, Vec<u8>)>,
    /// Of the next start.
    first_version: u64,
    /// Message IDs of what had no identity.
    messages: BTreeSet<u64>,
}

/// A ledger that is made, and what it must tell.
struct Model {
    ledger: DurableLedger,
    facts: Facts,
    next_seq: Vec<u64>,
    next_message: u64,
}

/// Ends a ledger and starts it again.
fn reopened(ledger: DurableLedger, directory: &Path) -> DurableLedger {
    drop(ledger);
    open(directory).unwrap()
}

impl Model {
    fn start(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let ledger = open(directory).unwrap();
        let facts =
            Facts { processor: ledger.processor(), first_version: 3 << 32, ..Facts::default() };
        Self { ledger, facts, next_seq: vec![0; PRODUCERS as usize], next_message: 1 }
    }

    fn message(&mut self) -> u64 {
        self.next_message += 1;
        self.next_message - 1
    }

    /// Counts `plays` plays, one of four without identity, a repeat and now and then a dead letter.
    fn commit(&mut self, plays: u64) {
        let (mut batch, mut rejected) = (Vec::new(), Vec::new());
        for index in 0..plays {
            let message = self.message();
            let video = u128::from(message * message % 97);
            let newest = self.facts.videos.entry(video).or_default();
            *newest = (newest.0 + 1, newest.1.max(message));
            self.facts.counters.counted += 1;
            if message.is_multiple_of(4) {
                self.facts.messages.insert(message);
                self.facts.counters.by_message += 1;
                batch.push(play(video, None, message));
                continue;
            }
            let producer = message % PRODUCERS;
            let seq = self.next_seq[producer as usize];
            // Every eighth number is never seen: there are gaps.
            self.next_seq[producer as usize] += if seq % 8 == 6 { 2 } else { 1 };
            let runs = self.facts.producers.entry(producer.into()).or_default();
            match runs.last_mut() {
                Some(run) if run[1] == seq => run[1] = seq + 1,
                _ => runs.push([seq, seq + 1]),
            }
            batch.push(play(video, Some((producer.into(), seq)), message));
            if index == 0 {
                self.facts.counters.duplicates += 1;
                batch.push(play(video, Some((producer.into(), seq)), message));
            }
        }
        if self.next_message.is_multiple_of(3) {
            let message = self.message();
            self.facts.messages.insert(message);
            self.facts.counters.rejected += 1;
            let letter = letter(message);
            let number = self.facts.counters.rejected as i64;
            self.facts.letters.push((number, letter.message.id().to_string(), letter.body.clone()));
            rejected.push(letter);
        }
        let committed = self.ledger.commit(&mut arrivals(batch, rejected)).unwrap();
        assert_eq!(committed.counters.counted, plays);
    }

    /// The dashboard takes the counts of every second video; the tables have that with the next checkpoint.
    fn publish(&mut self) {
        let halves = self.facts.videos.iter().step_by(2);
        let counts: Vec<VideoCount> = halves
            .map(|(video, (plays, _))| VideoCount {
                video_id: VideoId::from_u128(*video),
                plays: *plays,
                last_played_at: None,
            })
            .collect();
        self.ledger.published(FIRST, &counts);
        self.facts.published.extend(
            counts.iter().map(|count| (count.video_id.guid().unwrap().as_u128(), count.plays)),
        );
    }
}

impl Part for LedgerPart {
    type Facts = Facts;
    type Opened = DurableLedger;
    const FILES: &'static [&'static str] = &["ledger.sqlite3"];

    fn build(directory: &Path, image: &Path, state: State) -> Vec<Facts> {
        let mut model = Model::start(directory);
        assert!(model.ledger.publishes_to(FIRST, DASHBOARD).unwrap());
        for commit in 0..40 {
            model.commit(1 + commit % 23);
        }
        model.publish();
        while upkeep(&mut model.ledger, hours(1)) == NextUpkeep::Soon {}
        model.ledger.close().unwrap();
        model.ledger = reopened(model.ledger, directory);
        // Longer records, over several segments.
        for commit in 0..30 {
            model.commit(40 + commit % 17);
        }
        match state {
            State::Closed => {
                model.publish();
                model.ledger.close().unwrap();
                drop(model.ledger);
                copy(directory, image);
                return vec![model.facts];
            }
            State::Sealed => {
                model.publish();
                while upkeep(&mut model.ledger, hours(2)) == NextUpkeep::Soon {}
                model.commit(5);
                // Nothing comes any more, and nothing is due.
                (0..4).for_each(|_| _ = upkeep(&mut model.ledger, Instant::now()));
            }
            // Half of a checkpoint; before it all is brought to the disk, and sealed. What such a half says of counts that
            // were published may be lost with it: they are published again, which changes nothing.
            State::Killed => {
                assert_eq!(upkeep(&mut model.ledger, hours(2)), NextUpkeep::Soon);
            }
        }
        let mut history = vec![model.facts.clone()];
        if state == State::Killed {
            for commit in 0..9 {
                model.commit(1 + commit * 7);
                history.push(model.facts.clone());
            }
        }
        copy(directory, image);
        history
    }

    fn read(image: &Path) -> Result<Facts, String> {
        let found = ledger::read(image).map_err(|error| format!("{error:#}"))?;
        let Some(found) = found else { return Err("there is no ledger.sqlite3".into()) };
        let mut facts = Facts {
            processor: found.processor,
            counters: found.counters,
            letters: letters(image)?,
            ..Facts::default()
        };
        for video in &found.videos {
            let id = video.video_id.guid().unwrap().as_u128();
            facts.videos.insert(id, (video.plays, video.last_played_at));
            facts.published.extend((video.published > 0).then_some((id, video.published)));
        }
        let runs = |set: &SeqSet| set.runs().map(|run| [run.start, run.end]).collect();
        facts.producers =
            found.producers.iter().map(|(id, set)| (id.as_u128(), runs(set))).collect();
        Ok(facts)
    }

    fn without_what_readers_do_not_see(facts: &Facts) -> Facts {
        Facts { first_version: 0, messages: BTreeSet::new(), ..facts.clone() }
    }

    fn open(image: &Path) -> Result<(DurableLedger, Facts, Option<String>), String> {
        // Another start than one on nothing: that would be a new ledger.
        let is_new = !image.join("ledger.sqlite3").exists();
        let mut ledger = open(image).map_err(|error| format!("{error:#}"))?;
        assert!(!is_new, "a new ledger is begun beside an old journal");
        let cut = ledger.cut().map(ToString::to_string);
        let mut facts = Self::read(image)?;
        assert_eq!(ledger.counters(), facts.counters);
        assert_eq!(ledger.processor(), facts.processor);
        facts.first_version = ledger.first_version();
        if facts.counters.counted > 0 {
            assert!(!ledger.publishes_to(FIRST, DASHBOARD).unwrap(), "the dashboard is another");
        }
        // Which messages are known shows when they come again: all up to the highest are asked for, in a copy.
        let highest = facts.videos.values().map(|(_, newest)| *newest).max().unwrap_or(0);
        facts.messages = known_messages(image, highest + 1)?;
        Ok((ledger, facts, cut))
    }

    fn check_goes_on(mut opened: DurableLedger, facts: &Facts, image: &Path) -> Result<(), String> {
        let mut wanted = facts.clone();
        let repeats: Vec<_> =
            facts.messages.iter().map(|message| play(3, None, *message)).collect();
        let mut batch = repeats;
        batch.push(play(1_000_000, Some((7_777, 3)), 1_000_000));
        batch.push(play(1_000_001, None, 1_000_001));
        wanted.counters.duplicates += facts.messages.len() as u64;
        wanted.counters.counted += 2;
        wanted.counters.by_message += 1;
        wanted.videos.insert(1_000_000, (1, 1_000_000));
        wanted.videos.insert(1_000_001, (1, 1_000_001));
        wanted.producers.insert(7_777, vec![[3, 4]]);
        // Every row is found again and written over.
        let mut more = Vec::new();
        for (seq, (video, (plays, newest))) in (0..).zip(&mut wanted.videos) {
            more.push(play(*video, Some((8_888, seq)), 2_000_000));
            (*plays, *newest) = (*plays + 1, 2_000_000);
        }
        for (seq, (producer, runs)) in (5_000..).zip(&mut wanted.producers) {
            more.push(play(1_000_000, Some((*producer, seq)), 2_000_000));
            runs.push([seq, seq + 1]);
        }
        let producers = wanted.producers.len() as u64;
        wanted.videos.get_mut(&1_000_000).unwrap().0 += producers;
        wanted.counters.counted += more.len() as u64;
        wanted.producers.insert(8_888, vec![[0, more.len() as u64 - producers]]);
        batch.extend(more);
        opened.commit(&mut arrivals(batch, Vec::new())).unwrap();
        opened.close().unwrap();
        drop(opened);
        let again = Self::read(image).unwrap();
        let wanted = Self::without_what_readers_do_not_see(&wanted);
        assert_eq!(again, wanted, "after it went on");
        Ok(())
    }
}

/// The dead letters as a reader sees them.
fn letters(image: &Path) -> Result<Vec<(i64, String, Vec<u8>)>, String> {
    let mut letters = Vec::new();
    let found = ledger::dead_letters(image, |letter| {
        letters.push((letter.number, letter.message_id, letter.body));
        Ok(())
    });
    found.map_err(|error| format!("{error:#}"))?;
    Ok(letters)
}

/// Which of the messages below `end` are known to the ledger that lies there, without identity.
fn known_messages(image: &Path, end: u64) -> Result<BTreeSet<u64>, String> {
    let aside = image.with_extension("asked");
    copy(image, &aside);
    let mut ledger = open(&aside).map_err(|error| format!("{error:#}"))?;
    let mut known: BTreeSet<u64> = (1..=end).collect();
    // Few at once: a record must fit into a segment.
    for first in (1..=end).step_by(200) {
        let plays =
            (first..end.min(first + 199) + 1).map(|message| play(5, None, message)).collect();
        let mut arrivals = arrivals(plays, Vec::new());
        ledger.commit(&mut arrivals).unwrap();
        for ArrivedPlay { play, .. } in &arrivals[0].plays {
            known.remove(&(play.enqueued_at_ns.unwrap_or(0) / 1_000_000));
        }
    }
    Ok(known)
}
