//! What is in memory, and how a change goes into it: the same way when it has just come, when a start plays it again, and
//! when somebody reads the files beside their owner (pure).

use foldhash::{HashMap, HashMapExt};
use uuid::Uuid;

use super::catalog_change::CatalogChange;
use super::change::{self, Change};
use super::confirmed::ConfirmedProducers;
use super::index::Index;
use super::ledgers::{ForgottenCounts, Ledgers};
use super::pending::{ClearedTables, PendingHistory};
use crate::model::unix_time::UnixMs;
use crate::model::video::VideoCount;
use crate::wire::ImportedCount;

/// Each processor's number, by what its counts are kept under (see `ledgers`): which row of the tables is its own.
#[derive(Debug)]
pub(super) struct ProcessorNumbers {
    numbers: HashMap<Uuid, u32>,
    next: u32,
}

impl Default for ProcessorNumbers {
    fn default() -> Self {
        Self { numbers: HashMap::new(), next: 1 }
    }
}

impl ProcessorNumbers {
    /// Those of the tables.
    pub(super) fn load(rows: impl Iterator<Item = (u32, Uuid)>) -> Self {
        let mut loaded = Self::default();
        for (number, id) in rows {
            loaded.next = loaded.next.max(number.saturating_add(1));
            loaded.numbers.insert(id, number);
        }
        loaded
    }

    /// Each, with what it stands for.
    pub(super) fn all(&self) -> impl Iterator<Item = (Uuid, u32)> {
        self.numbers.iter().map(|(key, number)| (*key, *number))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// A processor's number; `None` of one that is new.
    pub(super) fn get(&self, id: &Uuid) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// Whether a processor has that number.
    pub(super) fn has(&self, number: u32) -> bool {
        number > 0 && number < self.next
    }

    /// A processor's number. One that is new gets the next, which the tables must learn.
    fn of(&mut self, id: Uuid, pending: &mut PendingHistory) -> u32 {
        let next = &mut self.next;
        *self.numbers.entry(id).or_insert_with(|| {
            let number = *next;
            *next += 1;
            pending.add_processor(number, id);
            number
        })
    }
}

/// Everything, as one that no other thread sees.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Which database it is.
    pub(super) id: Uuid,
    pub(super) index: Index,
    pub(super) pending: PendingHistory,
    pub(super) processors: ProcessorNumbers,
    pub(super) confirmed: ConfirmedProducers,
    pub(super) ledgers: Ledgers,
}

impl Memory {
    /// Forgets counts of which the tables say that they are forgotten, and which they still have: they get that in parts, and the
    /// change that said so may be lost with the machine's power.
    pub(super) fn forget_what_is_left(&mut self) {
        let Self { index, pending, processors, ledgers, .. } = self;
        let known = |key| Some((key, processors.get(key)?));
        let (keys, numbers): (Vec<_>, Vec<_>) = ledgers.forgotten().filter_map(known).unzip();
        // Of most of them nothing is left.
        for (key, _) in keys.iter().zip(index.sums_of(&numbers)).filter(|(_, sums)| sums.plays > 0)
        {
            forget_counts(index, pending, processors, key, UnixMs(0));
        }
        index.take_back(ledgers.taken_back().filter_map(|key| processors.get(key)));
    }

    /// Plays a frame of the journal.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn replay(&mut self, number: u64, payload: &[u8]) -> Result<(), String> {
        match change::decode(payload)? {
            Change::Counts { at, processor, held, counts } => {
                let Self { index, pending, processors, ledgers, .. } = self;
                // The tables know already what a later change says.
                if !ledgers.is_forgotten(&processor) {
                    ledgers.hold(processor, held);
                    apply_counts(index, pending, processors, processor, &counts, at);
                }
            }
            Change::Confirmed { at, processor, held, producers } => {
                if !self.ledgers.is_forgotten(&processor) {
                    self.ledgers.hold(processor, held);
                }
                self.confirmed.apply(&producers, at);
            }
            Change::Claimed { at, claimed } => {
                self.ledgers.claim(&claimed);
                if let Some(ForgottenCounts { key, id }) = claimed.forget {
                    let Self { index, pending, processors, .. } = self;
                    forget_counts(index, pending, processors, &key, at);
                    self.confirmed.forget_all();
                    self.id = id;
                }
            }
            Change::Cleared { id } => {
                let mut pending = std::mem::take(&mut self.pending);
                pending.clear(ClearedTables { id, next: number + 1 });
                self.index.reset();
                let index = std::mem::take(&mut self.index);
                *self = Self { id, index, pending, ..Self::default() };
            }
            Change::Catalog { at, change } => {
                let Self { index, pending, processors, ledgers, .. } = self;
                apply_catalog(index, pending, processors, ledgers, &change, at);
            }
            Change::Nothing => {}
        }
        Ok(())
    }
}

/// Takes a processor's counts in, and notes what they have grown by; whether any is news.
pub(super) fn apply_counts(
    index: &mut Index,
    pending: &mut PendingHistory,
    processors: &mut ProcessorNumbers,
    processor: Uuid,
    counts: &[VideoCount],
    at: UnixMs,
) -> bool {
    let number = processors.of(processor, pending);
    index.number_processors([(processor, number)]);
    let mut has_changed = false;
    for count in counts {
        if let Some(delta) = index.apply(number, count, at) {
            pending.add(count.video_id, delta, at);
            index.add_told(delta);
            has_changed = true;
        }
    }
    has_changed
}

/// Forgets what is kept under `key`: each of its counts is 0 from now on. What history tells of them stays.
pub(super) fn forget_counts(
    index: &mut Index,
    pending: &mut PendingHistory,
    processors: &ProcessorNumbers,
    key: &Uuid,
    at: UnixMs,
) {
    let Some(number) = processors.get(key) else { return };
    for video in index.forget(number) {
        // It has changed, by no play.
        pending.add(video, 0, at);
    }
}

/// Takes a change of the catalog in.
pub(super) fn apply_catalog(
    index: &mut Index,
    pending: &mut PendingHistory,
    processors: &mut ProcessorNumbers,
    ledgers: &mut Ledgers,
    change: &CatalogChange,
    at: UnixMs,
) {
    match change {
        CatalogChange::Titles(titles) => {
            for told in titles {
                index.set_by_play(told.video_id, &told.title);
            }
        }
        CatalogChange::Texts(videos) => {
            for (id, texts) in videos {
                index.set_by_hand(*id, texts);
            }
        }
        CatalogChange::Visibility(id, set) => {
            index.change(*id, |catalog| catalog.set_visibility(*id, set.clone()));
        }
        CatalogChange::Correction(id, correction) => {
            index.change(*id, |catalog| catalog.correct(*id, correction.clone()));
        }
        // The tables know already that it was taken back.
        CatalogChange::Import { import, .. } if ledgers.is_forgotten(&import.key) => {}
        CatalogChange::Import { id, import, counts } => {
            index.catalog_mut().add_import(*id, import.clone());
            let number = processors.of(import.key, pending);
            index.catalog_mut().set_number(import.key, number);
            for ImportedCount { video_id, plays } in counts {
                let count = VideoCount { video_id: *video_id, plays: *plays, last_played_at: None };
                if index.apply(number, &count, at).is_some() {
                    // It has changed; its plays are of no minute.
                    pending.add(*video_id, 0, at);
                }
            }
        }
        CatalogChange::TakenBack { id, key } => {
            index.catalog_mut().remove_import(id, key);
            ledgers.take_back(*key);
            index.take_back(processors.get(key));
            forget_counts(index, pending, processors, key, at);
        }
    }
}
