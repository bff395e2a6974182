//! How a segment is made ready, from a file that is kept or a new one, and given up.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::config::JournalConfig;
use super::disk::{Disk, DiskFile, write_all};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, MARK_AT, MARK_LEN, Mark};
use super::segment::{Segment, segment_name};

/// Files that are kept to be used again. One is enough while a checkpoint gives back as many as were filled.
const SPARES_MAX: usize = 2;

/// What begins the name of a file that is kept to be used again.
const SPARE: &str = "spare-";

/// The segment behind the present one. Whoever makes it ready or gives up another holds the lock: the owner waits for an
/// [`Upkeep`](super::Upkeep) that is at it, and would have to do the same itself.
pub(super) struct NextSegment(Mutex<NextInner>);

/// See [`NextSegment`].
pub(super) struct NextInner {
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    number: u64,
    ready: Option<Segment>,
}

impl NextSegment {
    /// The one with that number, not ready.
    pub(super) fn new(disk: Arc<dyn Disk>, config: JournalConfig, number: u64) -> Self {
        Self(Mutex::new(NextInner { disk, config, number, ready: None }))
    }

    /// Whether it is ready, or somebody is at it.
    pub(super) fn is_ready(&self) -> bool {
        self.0.try_lock().is_none_or(|inner| inner.ready.is_some())
    }

    /// For the time of a change.
    pub(super) fn lock(&self) -> MutexGuard<'_, NextInner> {
        self.0.lock()
    }
}

impl NextInner {
    /// Makes it ready, if it is not.
    pub(super) fn make_ready(&mut self) -> Result<&Segment, JournalError> {
        let ready = match self.ready.take() {
            Some(ready) => ready,
            None => prepare(&*self.disk, &self.config, self.number)?,
        };
        Ok(self.ready.insert(ready))
    }

    /// It has become the present one, and the next one is another.
    pub(super) fn advance(&mut self) {
        self.ready = None;
        self.number += 1;
    }

    /// In place of the segments `first` to the present one there are new ones, the last first, so that those that are
    /// left follow each other at every moment; the one behind `first` is the next one. Returns `first`.
    pub(super) fn replace(&mut self, first: u64) -> Result<Segment, JournalError> {
        let mut fresh = match first == self.number {
            true => self.make_ready()?.clone(),
            false => prepare(&*self.disk, &self.config, self.number - 1)?,
        };
        for number in (first..self.number.saturating_sub(1)).rev() {
            fresh = prepare(&*self.disk, &self.config, number)?;
        }
        if first + 1 != self.number {
            (self.number, self.ready) = (first + 1, None);
        }
        Ok(fresh)
    }

    /// Gives up a segment.
    pub(super) fn give_up(&mut self, number: u64) -> Result<(), JournalError> {
        give_up(&*self.disk, number)
    }
}

/// Makes the segment with that number ready to be written: from a spare file, or a new one. When this returns, its head
/// is on the disk, so that one that is damaged later is never taken for one that was being made. One that is there is
/// replaced at once: it was made ready by an earlier start, or is of no use any more.
pub(super) fn prepare(
    disk: &dyn Disk,
    config: &JournalConfig,
    number: u64,
) -> Result<Segment, JournalError> {
    let head = config.head(number, Uuid::new_v4());
    let (spare, file) = spare_file(disk, config)?;
    let segment = Segment::new(&head, file);
    let mut page = vec![0; FRAMES_AT + FRAME_LEN];
    let bytes = head.encode();
    page[..bytes.len()].copy_from_slice(&bytes);
    page[MARK_AT..MARK_AT + MARK_LEN].copy_from_slice(&Mark::Empty.encode(head.seed()));
    write_all(&*segment.file, &page, 0)
        .and_then(|()| segment.file.sync())
        .and_then(|()| disk.rename(&spare, &segment.name))
        .and_then(|()| disk.sync_names())
        .map_err(JournalError::io(&segment.name, "made"))?;
    Ok(segment)
}

/// A file to make a segment of, under the name of a spare one.
fn spare_file(
    disk: &dyn Disk,
    config: &JournalConfig,
) -> Result<(String, Arc<dyn DiskFile>), JournalError> {
    for name in spares(disk)? {
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        if file.size().map_err(JournalError::io(&name, "read"))? == config.segment_bytes {
            // That it is no segment must be on the disk before it is written to.
            disk.sync_names().map_err(JournalError::io(&name, "kept"))?;
            return Ok((name, file));
        }
        // The start or another size of segment was cut short here.
        disk.remove(&name).map_err(JournalError::io(&name, "removed"))?;
    }
    let name = format!("{SPARE}0");
    let file = disk.create(&name, config.segment_bytes, config.zeros());
    Ok((name.clone(), file.map_err(JournalError::io(&name, "made"))?))
}

/// The names of the files that are kept.
fn spares(disk: &dyn Disk) -> Result<Vec<String>, JournalError> {
    let mut names = disk.list().map_err(JournalError::io("the journal's directory", "read"))?;
    names.retain(|name| name.starts_with(SPARE));
    names.sort_unstable();
    Ok(names)
}

/// Gives up a segment that nobody needs: its file is kept to be used again, or removed. One that is not there has been
/// given up before.
pub(super) fn give_up(disk: &dyn Disk, number: u64) -> Result<(), JournalError> {
    let (name, kept) = (segment_name(number), spares(disk)?);
    let free = (0..SPARES_MAX).map(|place| format!("{SPARE}{place}"));
    let result = match free.into_iter().find(|spare| !kept.contains(spare)) {
        Some(spare) => disk.rename(&name, &spare),
        None => disk.remove(&name),
    };
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(JournalError::io(&name, "removed")),
    }
}
