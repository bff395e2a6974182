//! The outbox on disk: every batch and what is forgotten is one frame of a journal, `outbox.journal` in the data directory
//! of `produce`, committed by the thread that publishes; `tables` has what a checkpoint has moved out of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nsq_protocol::thread::{Crew, stop_pair};
use parking_lot::Mutex;
use uuid::Uuid;

use super::batch::PlayBatch;
use super::contents::OutboxContents;
use super::entry::{encode_forgotten, encode_kept};
use super::spans::ProducerSpans;
use super::tables::{
    self, CANNOT_WRITE, OutboxTables, OutboxTablesReader, RunIdentity, StoredOutbox,
};
use super::upkeep::{OutboxLimits, OutboxUpkeep, SharedJournal};
use crate::journal::{
    self, Cut, FsDisk, Journal, JournalConfig, JournalKind, JournalOwner, OnDamage, SyncPolicy,
};
use crate::model::attempted::Attempted;
use crate::model::config::Durability;
use crate::storage::boot::boot_id;
use crate::storage::data_dir::{DataDir, Lock, PRODUCER};
use crate::storage::failpoint;

/// The journal's directory in the data directory.
pub(super) const JOURNAL: &str = "outbox.journal";

/// How often a reader begins again because a checkpoint came between: they are minutes apart.
pub(super) const READS: usize = 5;

/// An outbox on disk, owned by this process.
pub struct DiskOutbox {
    shared: Arc<Mutex<SharedJournal>>,
    /// A frame that is being made.
    payload: Vec<u8>,
    /// Whose plays these are, and under which numbers they are published.
    pub(in crate::producer) producers: ProducerSpans,
    pub(in crate::producer) videos: Vec<Uuid>,
    /// Plays of each video so far.
    pub(in crate::producer) counts: Vec<u64>,
    /// The number of the next play.
    pub(in crate::producer) next: u64,
    /// nsqd has acknowledged every play with a number below.
    pub(in crate::producer) acknowledged: u64,
    /// What is held.
    pub(in crate::producer) batches: VecDeque<PlayBatch>,
    // Ended before the lock is given back.
    upkeep: Crew<()>,
    _lock: Lock,
}

impl DiskOutbox {
    /// Opens the outbox in a directory and reads it; makes it if there is none. What a crash has left unfinished is said in
    /// the log. Its thread, `outbox`, ends with it.
    ///
    /// # Errors
    /// One line with the way out: another producer has it, it is of another run, or it cannot be used.
    pub fn open(directory: &DataDir, run: &RunIdentity, durability: Durability) -> Result<Self> {
        Self::open_with(directory, run, durability, OutboxLimits::DEFAULT)
    }

    fn open_with(
        directory: &DataDir,
        run: &RunIdentity,
        durability: Durability,
        limits: OutboxLimits,
    ) -> Result<Self> {
        let lock = directory.lock(PRODUCER)?;
        let directory = directory.path();
        let (mut tables, StoredOutbox { mut contents, life, position }) =
            OutboxTables::open(directory, run)?;
        let path = path(directory);
        let cannot_use = || cannot_use(&path);
        let disk = FsDisk::open(&path).with_context(cannot_use)?;
        let config = config(life, durability, limits.segment_bytes);
        let mut changes = contents.unchanged();
        let opened =
            Journal::open(Arc::clone(&disk), config, position, |_, payload| changes.apply(payload));
        let (journal, cut) = opened.with_context(cannot_use)?;
        if let Some(cut) = cut {
            log::warn!("{}: {cut}", path.display());
        }
        let position = match position {
            Some(position) => position,
            None => {
                failpoint::hit("outbox-before-position");
                let position = journal.position(journal.next());
                tables.begin_journal(position)?;
                position
            }
        };
        let unchanged = contents.unchanged();
        contents.take(changes).with_context(cannot_use)?;
        let shared = SharedJournal { journal, has_failed: false, failure: None };
        let shared = Arc::new(Mutex::new(shared));
        let upkeep =
            OutboxUpkeep { shared: Arc::clone(&shared), disk, tables, limits, position, unchanged };
        let (stop, stopped) = stop_pair();
        let mut crew = Crew::stopped_by(stop);
        crew.spawn("outbox", move || upkeep.run(&stopped))?;
        let (counts, payload) = (contents.counts(), Vec::new());
        let OutboxContents { producers, videos, next, acknowledged, batches, .. } = contents;
        Ok(Self {
            shared,
            payload,
            producers,
            videos,
            counts,
            next,
            acknowledged,
            batches,
            upkeep: crew,
            _lock: lock,
        })
    }

    /// Whose plays these are, and under which numbers they are published.
    pub fn producers(&self) -> &ProducerSpans {
        &self.producers
    }

    /// Keeps a batch: to be called before it is published. nsqd has acknowledged all plays below `acknowledged`.
    ///
    /// # Errors
    /// It cannot be written, or what was written before cannot be looked after.
    pub(in crate::producer) fn keep(&mut self, batch: &PlayBatch, acknowledged: u64) -> Result<()> {
        self.payload.clear();
        encode_kept(batch, acknowledged, &mut self.payload);
        self.put()
    }

    /// Forgets batches that are counted for good: all up to the last of `gone`.
    ///
    /// # Errors
    /// As [`DiskOutbox::keep`].
    pub(in crate::producer) fn forget(&mut self, gone: &[PlayBatch]) -> Result<()> {
        let Some(last) = gone.last() else { return Ok(()) };
        self.payload.clear();
        encode_forgotten(last.end(), &mut self.payload);
        self.put()
    }

    /// Commits the frame.
    fn put(&mut self) -> Result<()> {
        let mut shared = self.shared.lock();
        let done = shared.journal.put(&self.payload);
        shared.has_failed |= done.is_err();
        done.context(CANNOT_WRITE)?;
        shared.failure.take().map_or(Ok(()), Err)
    }

    /// Ends the thread, which moves all that is left into the tables.
    ///
    /// # Errors
    /// What it could not write. All of it is in the journal.
    pub(in crate::producer) fn close(self) -> Result<()> {
        let Self { shared, upkeep, .. } = self;
        upkeep.stop();
        let failure = shared.lock().failure.take();
        failure.map_or(Ok(()), Err)
    }
}

fn config(life: Uuid, durability: Durability, segment_bytes: u64) -> JournalConfig {
    JournalConfig {
        kind: JournalKind::Outbox,
        owner: JournalOwner::Part,
        life,
        boot: boot_id(),
        sync: match durability {
            Durability::None | Durability::Process => SyncPolicy::Process,
            Durability::Power => SyncPolicy::Power,
        },
        segment_bytes,
        on_damage: OnDamage::Refuse,
    }
}

/// What stands before the journal's own error.
pub(super) fn cannot_use(journal: &Path) -> String {
    format!("cannot use the producer's outbox, {}", journal.display())
}

/// Whether a data directory has an outbox.
pub fn exists(directory: &Path) -> bool {
    tables::exist(directory) || path(directory).exists()
}

/// What the outbox in a data directory tells, also while its producer runs; `None` where there is none.
///
/// # Errors
/// As [`DiskOutbox::open`].
pub fn read(directory: &Path) -> Result<Option<Attempted>> {
    let Some(mut tables) = OutboxTablesReader::open(directory)? else { return Ok(None) };
    let path = path(directory);
    for _ in 0..READS {
        let StoredOutbox { mut contents, life, position } = tables.read()?;
        let read = match (position, FsDisk::open_reader(&path)) {
            (None, None) => Ok(()),
            // Tables that have lost their WAL know of no journal. One that holds frames knows better.
            (None, Some(disk)) => {
                let config = config(life, Durability::Process, OutboxLimits::DEFAULT.segment_bytes);
                journal::examine(&*disk, &config, None, |_, _| Ok(())).map(drop).map_err(Into::into)
            }
            (Some(_), None) => bail!("{}: it is missing", cannot_use(&path)),
            (Some(position), Some(disk)) => {
                let mut changes = contents.unchanged();
                let apply = |_, payload: &[u8]| changes.apply(payload);
                let read = journal::read(&*disk, position, apply);
                read.map_err(anyhow::Error::from).and_then(|_| contents.take(changes))
            }
        };
        // Segments are given up only after the position has moved.
        if tables.position()? == position {
            read.with_context(|| cannot_use(&path))?;
            return Ok(Some(attempted(&contents)));
        }
    }
    bail!("{}: it is written faster than it is read", cannot_use(&path))
}

/// Looks at the outbox in a data directory as a start would, and changes nothing: what it tells, and what a crash has left
/// unfinished. Nobody must use it; `None` where there is none.
///
/// # Errors
/// As [`DiskOutbox::open`].
pub fn examine(directory: &Path) -> Result<Option<(Attempted, Option<Cut>)>> {
    let Some(mut tables) = OutboxTablesReader::open(directory)? else { return Ok(None) };
    let StoredOutbox { mut contents, life, position } = tables.read()?;
    let path = path(directory);
    let cannot_use = || cannot_use(&path);
    let mut cut = None;
    if let Some(disk) = FsDisk::open_reader(&path) {
        let config = config(life, Durability::Process, OutboxLimits::DEFAULT.segment_bytes);
        let mut changes = contents.unchanged();
        let found =
            journal::examine(&*disk, &config, position, |_, payload| changes.apply(payload));
        (_, cut) = found.with_context(cannot_use)?;
        contents.take(changes).with_context(cannot_use)?;
    } else if position.is_some() {
        bail!("{}: it is missing", cannot_use());
    }
    Ok(Some((attempted(&contents), cut)))
}

fn attempted(contents: &OutboxContents) -> Attempted {
    let OutboxContents { ref producers, next, acknowledged, ref videos, .. } = *contents;
    let counts = videos.iter().copied().zip(contents.counts()).filter(|(_, plays)| *plays > 0);
    Attempted { producer: producers.present(), plays: next, acknowledged, counts: counts.collect() }
}

/// Throws the outbox of a data directory away.
///
/// # Errors
/// When a producer uses it, or it cannot be removed.
pub fn remove(directory: &DataDir) -> Result<()> {
    let _lock = directory.lock(PRODUCER)?;
    // The tables first: a journal without them is refused, and one of other tables, too.
    tables::remove(directory.path())?;
    journal::remove(&path(directory.path()))
}

fn path(directory: &Path) -> PathBuf {
    directory.join(JOURNAL)
}

#[cfg(test)]
mod tests;
