//! The outbox on disk: every batch and what is forgotten is one frame of a journal, `outbox.journal` in the data directory
//! of `produce`, committed by the thread that publishes; `tables` has what a checkpoint has moved out of it.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nsq_protocol::thread::{Crew, stop_pair};
use parking_lot::Mutex;
use uuid::Uuid;

use super::batch::PlayBatch;
use super::contents::OutboxContents;
use super::entry::{encode_forgotten, encode_kept, encode_renamed};
use super::spans::ProducerSpans;
use super::tables::{
    self, CANNOT_WRITE, FILE, OutboxTables, OutboxTablesReader, RunIdentity, StoredOutbox,
};
use super::upkeep::{OutboxLimits, OutboxUpkeep, SharedJournal};
use crate::journal::{
    self, Cut, FsDisk, Journal, JournalConfig, JournalKind, JournalOwner, OnDamage, SyncPolicy,
};
use crate::model::attempted::Attempted;
use crate::model::config::Durability;
use crate::model::video_id::VideoId;
use crate::model::words::{many, of_number};
use crate::storage::boot::boot_id;
use crate::storage::data_dir::{DataDir, Lock, PRODUCER};
use crate::storage::{aside, directory, failpoint, sqlite};

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
    pub(in crate::producer) videos: Vec<VideoId>,
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
        let shared =
            SharedJournal { journal, files: tables.in_place()?, has_failed: false, failure: None };
        let shared = Arc::new(Mutex::new(shared));
        let upkeep =
            OutboxUpkeep { shared: Arc::clone(&shared), disk, tables, limits, position, unchanged };
        let (stop, stopped) = stop_pair();
        let mut crew = Crew::stopped_by(stop);
        crew.spawn("outbox", move || upkeep.run(&stopped))?;
        let (counts, payload) = (contents.counts(), Vec::new());
        let producers = contents.producers();
        let OutboxContents { videos, next, acknowledged, batches, .. } = contents;
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

    /// Goes on under another id from play `first` on, which is the next; nothing must be held.
    ///
    /// # Errors
    /// As [`DiskOutbox::keep`].
    pub(in crate::producer) fn rename(&mut self, first: u64, producer: Uuid) -> Result<()> {
        self.payload.clear();
        encode_renamed(first, producer, &mut self.payload);
        self.put()?;
        self.producers.begin(producer, first);
        self.producers.forget(first);
        Ok(())
    }

    /// Commits the frame.
    fn put(&mut self) -> Result<()> {
        let mut shared = self.shared.lock();
        shared.check_failed()?;
        let done = shared
            .check_in_place()
            .and_then(|()| shared.journal.put(&self.payload).map(drop).context(CANNOT_WRITE));
        if let Err(error) = done {
            shared.has_failed = true;
            shared.failure = Some(error);
        }
        shared.check_failed()
    }

    /// Looks whether the thread goes on.
    ///
    /// # Errors
    /// Why it has ended.
    pub(in crate::producer) fn check(&self) -> Result<()> {
        self.shared.lock().check_failed()
    }

    /// Ends the thread, which moves all that is left into the tables.
    ///
    /// # Errors
    /// What it could not write. All of it is in the journal.
    pub(in crate::producer) fn close(self) -> Result<()> {
        let Self { shared, upkeep, .. } = self;
        upkeep.stop();
        shared.lock().check_failed()
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
        match read {
            // All from the position on, wherever it may be now.
            Ok(()) => return Ok(Some(attempted(&contents))),
            // Segments are given up only after the position has moved.
            Err(error) if tables.position()? == position => {
                return Err(error.context(cannot_use(&path)));
            }
            Err(_) => {}
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
    tables.check_structure()?;
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
    let OutboxContents { producer, next, acknowledged, ref videos, ref later, .. } = *contents;
    let counts = videos.iter().copied().zip(contents.counts()).filter(|(_, plays)| *plays > 0);
    let (later, counts) = (later.clone(), counts.collect());
    Attempted { producer, later, plays: next, acknowledged, counts }
}

/// What a damaged outbox is moved to, before a number.
const DROPPED: &str = "outbox.dropped";

/// Gives a damaged outbox up, where somebody has decided so: its files go to the new directory `outbox.dropped-1`. It cannot
/// be gone on with: who does not know which numbers were given out gives one out twice. What was done, in lines. The caller
/// holds the directory's producer lock.
///
/// # Errors
/// The operating system's.
pub fn accept_loss(directory: &Path) -> Result<Vec<String>> {
    let held = held(directory);
    let aside = aside::free_name(directory, DROPPED)?;
    DirBuilder::new().mode(0o700).create(&aside)?;
    let cannot = || format!("cannot put the outbox aside, in {}", aside.display());
    // The tables last: a journal without them is refused, and they without it.
    let tables = sqlite::all_files(&directory.join(FILE)).into_iter().rev();
    for file in [directory.join(JOURNAL)].into_iter().chain(tables) {
        match fs::rename(&file, aside.join(file.file_name().unwrap_or_default())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(cannot);
            }
            _ => {}
        }
    }
    directory::sync(&aside).with_context(cannot)?;
    directory::sync(directory).with_context(cannot)?;
    let lost = match held {
        Ok(held) => {
            let (plays, were) = (many(held, "play"), of_number(held, "was", "were"));
            let are = of_number(held, "is", "are");
            format!("{plays} that {were} not known to be counted {are} not published again")
        }
        Err(error) => format!(
            "how many plays were not known to be counted cannot be told ({error:#}); they are not published again"
        ),
    };
    let more = "the next `produce` begins a new outbox, as another producer".to_owned();
    Ok(vec![format!("its files are in {} now", aside.display()), lost, more])
}

/// How many plays are in a damaged outbox, as far as it can be read.
fn held(directory: &Path) -> Result<u64> {
    let tables = OutboxTablesReader::open(directory)?;
    let stored = tables.map(|mut tables| tables.read()).transpose()?;
    let Some(StoredOutbox { contents, life, position }) = stored else { bail!("it has no tables") };
    let mut changes = contents.unchanged();
    if let Some(disk) = FsDisk::open_reader(&path(directory)) {
        let config = JournalConfig {
            on_damage: OnDamage::Cut,
            ..config(life, Durability::Process, OutboxLimits::DEFAULT.segment_bytes)
        };
        journal::examine(&*disk, &config, position, |_, payload| changes.apply(payload))?;
    }
    Ok(changes.next - changes.below)
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
