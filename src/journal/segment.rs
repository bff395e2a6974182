//! A segment's file: its names, how one is made ready, and its mark.

use std::sync::Arc;

use uuid::Uuid;

use super::config::JournalConfig;
use super::disk::{Disk, DiskFile, write_all};
use super::error::JournalError;
use super::frame::{FRAME_LEN, FRAMES_AT, Frame, MARK_AT, MARK_LEN, Mark, SegmentHead};

/// Files that are kept to be used again. One is enough while a checkpoint gives back as many as were filled.
const SPARES_MAX: usize = 2;

/// What ends the name of a segment.
const SUFFIX: &str = ".segment";

/// What begins the name of a file that is kept to be used again.
const SPARE: &str = "spare-";

/// A segment that is open.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) seed: u32,
}

/// A segment that has an end and is not known to be on the disk.
#[derive(Clone)]
pub(super) struct ClosedSegment {
    pub(super) segment: Segment,
    /// The offset behind its end.
    pub(super) end: u64,
    /// The number of the next segment's first frame.
    pub(super) next: u64,
}

impl Segment {
    /// Opens a segment that has this head.
    pub(super) fn open(disk: &dyn Disk, head: &SegmentHead) -> Result<Self, JournalError> {
        let name = segment_name(head.segment);
        let file = disk.open(&name).map_err(JournalError::io(&name, "opened"))?;
        Ok(Self { name, number: head.segment, file, seed: head.seed() })
    }

    /// Writes the mark.
    pub(super) fn write_mark(&self, mark: Mark) -> Result<(), JournalError> {
        let bytes: [u8; MARK_LEN] = mark.encode(self.seed);
        write_all(&*self.file, &bytes, MARK_AT as u64)
            .map_err(JournalError::io(&self.name, "written"))
    }

    /// Writes the end behind the last frame: what follows is in the next segment, which must be there.
    pub(super) fn write_end(
        &self,
        offset: u64,
        next: u64,
        synced_below: u64,
    ) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(2 * FRAME_LEN);
        Frame { number: next, synced_below, payload: &[] }.encode(self.seed, &mut bytes);
        bytes.extend_from_slice(&[0; FRAME_LEN]);
        write_all(&*self.file, &bytes, offset).map_err(JournalError::io(&self.name, "written"))
    }

    /// Returns when all that was written is on the disk.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync().map_err(JournalError::io(&self.name, "written to the disk"))
    }
}

/// The name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:010}{SUFFIX}")
}

/// The number of the segment with that name; `None`: it is none.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Makes the segment with that number ready to be written: from a spare file, or a new one. When this returns, its head
/// is on the disk, so that one that is damaged later is never taken for one that was being made.
pub(super) fn prepare(
    disk: &dyn Disk,
    config: &JournalConfig,
    number: u64,
) -> Result<Segment, JournalError> {
    let head = config.head(number, Uuid::new_v4());
    let (spare, file) = spare_file(disk, config)?;
    let mut page = vec![0; FRAMES_AT + FRAME_LEN];
    let bytes = head.encode();
    page[..bytes.len()].copy_from_slice(&bytes);
    page[MARK_AT..MARK_AT + MARK_LEN].copy_from_slice(&Mark::Empty.encode(head.seed()));
    let name = segment_name(number);
    write_all(&*file, &page, 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&spare, &name))
        .and_then(|()| disk.sync_names())
        .map_err(JournalError::io(&name, "made"))?;
    Ok(Segment { name, number, file, seed: head.seed() })
}

/// A file to make a segment of, under the name of a spare one.
fn spare_file(
    disk: &dyn Disk,
    config: &JournalConfig,
) -> Result<(String, Arc<dyn DiskFile>), JournalError> {
    let names = spares(disk)?;
    for name in &names {
        let file = disk.open(name).map_err(JournalError::io(name, "opened"))?;
        if file.size().map_err(JournalError::io(name, "read"))? == config.segment_bytes {
            return Ok((name.clone(), file));
        }
        // The start or another size of segment was cut short here.
        disk.remove(name).map_err(JournalError::io(name, "removed"))?;
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

/// Gives up a segment that nobody needs: its file is kept to be used again, or removed.
pub(super) fn give_up(disk: &dyn Disk, number: u64) -> Result<(), JournalError> {
    let (name, kept) = (segment_name(number), spares(disk)?);
    let free = (0..SPARES_MAX).map(|place| format!("{SPARE}{place}"));
    let result = match free.into_iter().find(|spare| !kept.contains(spare)) {
        Some(spare) => disk.rename(&name, &spare),
        None => disk.remove(&name),
    };
    result.map_err(JournalError::io(&name, "removed"))
}
