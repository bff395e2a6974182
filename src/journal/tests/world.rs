//! An owner of a journal on the disk of `sim`: does random things, remembers what must be there, and compares after each
//! start.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::upkeep::Upkeep;
use super::sim::{Crash, SimDisk};
use super::*;

/// A group of payloads that wait for a commit, or whose commit failed.
type Group = Vec<Vec<u8>>;

/// What one owner of a journal does and knows.
pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) rng: StdRng,
    sync: SyncPolicy,
    boot: u128,
    from: Option<Position>,
    journal: Option<Journal>,
    /// The payloads of all frames that were committed, from 1 on.
    committed: Group,
    /// What was not, and may be there all the same.
    maybe: Vec<Group>,
    group: Group,
    /// Taken, and not run yet.
    upkeep: Option<Upkeep>,
    /// All below were on the disk when the journal ended.
    synced: u64,
    /// All below must come back.
    must: u64,
    /// Starts that have worked, frames that came back, and cuts that were told: so that a test knows it did something.
    pub(super) starts: u64,
    pub(super) frames: u64,
    pub(super) cuts: u64,
    pub(super) failures: u64,
}

impl World {
    pub(super) fn new(seed: u64, sync: SyncPolicy) -> Self {
        Self {
            disk: SimDisk::new(seed ^ 0x5eed),
            rng: StdRng::seed_from_u64(seed),
            sync,
            boot: 1,
            from: None,
            journal: None,
            committed: Vec::new(),
            maybe: Vec::new(),
            group: Vec::new(),
            upkeep: None,
            synced: 1,
            must: 1,
            starts: 0,
            frames: 0,
            cuts: 0,
            failures: 0,
        }
    }

    /// What a start is configured with.
    pub(super) fn config(&self) -> JournalConfig {
        JournalConfig { sync: self.sync, boot: Uuid::from_u128(self.boot), ..config() }
    }

    /// Starts the journal if it is not; `false`: the disk failed.
    pub(super) fn start(&mut self) -> bool {
        if self.journal.is_some() {
            return true;
        }
        let first = self.from.map_or(1, |from| from.number);
        let mut found: Group = Vec::new();
        let opened =
            Journal::open(self.disk.shared(), self.config(), self.from, |number, bytes| {
                assert_eq!(number, first + found.len() as u64, "not in order");
                found.push(bytes.to_vec());
                Ok(())
            });
        let (journal, cut) = match opened {
            Ok(opened) => opened,
            Err(JournalError::Io { .. }) => return false,
            Err(error) => panic!("refused: {error}"),
        };
        self.cuts += u64::from(cut.is_some());
        self.frames += found.len() as u64;
        self.starts += 1;
        self.compare(first, found);
        assert_eq!(journal.next(), self.committed.len() as u64 + 1);
        self.from.get_or_insert(journal.position(journal.next()));
        (self.synced, self.must) = (journal.next(), journal.next());
        self.journal = Some(journal);
        true
    }

    /// What came back is what was committed, or a part of it that may be lost; or more, which was not refused for good.
    fn compare(&mut self, first: u64, found: Group) {
        let next = first as usize + found.len();
        let must = self.must as usize;
        assert!(next >= must, "frames from {next} on are gone, all below {must} must be there");
        let before = first as usize - 1;
        let common = found.len().min(self.committed.len() - before);
        let (old, new) = found.split_at(common);
        assert!(old == &self.committed[before..before + common], "other frames than committed");
        let is_known = self.maybe.iter().any(|group| group.starts_with(new));
        assert!(new.is_empty() || is_known, "frames that nobody has appended");
        self.committed.truncate(before);
        self.committed.extend(found);
        self.maybe.clear();
    }

    /// The machine or the process ends.
    pub(super) fn crash(&mut self, crash: Crash) {
        let group = std::mem::take(&mut self.group);
        self.maybe.push(group);
        if let Some(journal) = self.journal.take() {
            self.must = self.committed.len() as u64 + 1;
            // What the journal believes must be true.
            self.synced = journal.synced.min(self.must);
        }
        if crash == Crash::Power && self.sync == SyncPolicy::Process {
            self.must = self.must.min(self.synced);
        }
        self.upkeep = None;
        self.disk.reboot(crash);
        if crash == Crash::Power {
            self.boot += 1;
        }
    }

    /// One thing, or nothing if the disk is dead.
    pub(super) fn act(&mut self) {
        match self.rng.random_range(0..100) {
            0..55 => self.append(),
            55..80 => self.commit(),
            80..86 => self.take_upkeep(),
            86..92 => self.run_upkeep(),
            92..96 => self.checkpoint(),
            96..98 => self.close(),
            _ => self.end(),
        }
    }

    fn refused<T>(&mut self, result: Result<T, JournalError>) -> Option<T> {
        self.failures += u64::from(result.is_err());
        match result {
            Ok(value) => return Some(value),
            Err(JournalError::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        None
    }

    pub(super) fn append(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let most = journal.config.payload_max();
        let bytes = match self.rng.random_range(0..40) {
            0 => most,
            1..4 => self.rng.random_range(1..=most),
            4..20 => 100,
            _ => self.rng.random_range(1..600),
        };
        let payload = vec![self.rng.random_range(1..=u8::MAX); bytes];
        let appended = journal.append(&payload);
        match self.refused(appended) {
            Some(number) => {
                self.group.push(payload);
                assert_eq!(number as usize, self.committed.len() + self.group.len());
            }
            None => {
                self.group.push(payload);
                self.maybe.push(std::mem::take(&mut self.group));
            }
        }
    }

    pub(super) fn commit(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let committed = journal.commit();
        let group = std::mem::take(&mut self.group);
        match self.refused(committed) {
            Some(()) => {
                self.maybe.clear();
                self.committed.extend(group);
            }
            None => self.maybe.push(group),
        }
    }

    pub(super) fn take_upkeep(&mut self) {
        let sync = if self.rng.random() { Sync::All } else { Sync::Closed };
        // One that was taken before is thrown away sometimes.
        self.upkeep = self.journal.as_mut().and_then(|journal| journal.upkeep(sync));
    }

    pub(super) fn run_upkeep(&mut self) {
        let (Some(journal), Some(upkeep)) = (&mut self.journal, self.upkeep.take()) else { return };
        let done = upkeep.run().and_then(|done| journal.upkept(done));
        self.refused(done);
    }

    /// The tables get what is committed, or a part of it, and the journal may forget that.
    pub(super) fn checkpoint(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let committed = self.committed.len() as u64 + 1;
        if let Some(upkeep) = journal.upkeep(Sync::All) {
            let done = upkeep.run().and_then(|done| journal.upkept(done));
            if self.refused(done).is_none() {
                return;
            }
        }
        let Some(journal) = &mut self.journal else { return };
        assert!(journal.synced >= committed, "all was to be synced");
        let first = self.from.map_or(1, |from| from.number);
        let number = self.rng.random_range(first..=committed);
        let position = journal.position(number);
        journal.release(position);
        self.from = Some(position);
    }

    fn close(&mut self) {
        if !self.group.is_empty() {
            self.commit();
        }
        let Some(mut journal) = self.journal.take() else { return };
        let closed = journal.close();
        if self.refused(closed).is_some() {
            assert!(journal.synced > self.committed.len() as u64);
            self.maybe.clear();
        }
        self.journal = Some(journal);
        self.end();
    }

    /// The owner ends without a word, and starts again.
    pub(super) fn end(&mut self) {
        if !self.disk.is_dead() {
            self.crash(Crash::Kill);
            self.start();
        }
    }
}
