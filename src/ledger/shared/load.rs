//! How a start comes by what a processor has counted in the shared ledger: its videos' rows, then the records that are
//! newer. Blocks the thread that asks.
//!
//! All is read in one snapshot: a sweep of the one before may still be under way, and moves plays from records to rows.

use super::membership::Membership;
use super::trouble::Trouble;
use crate::ledger::checkpoint::SavedVideo;
use crate::ledger::record::{Damaged, Record};
use crate::ledger::video_counts::VideoCounts;
use crate::model::video_id::VideoId;
use crate::postgres::{Param, PgConnection, PgRow};
use crate::runtime::clock::unix_ms;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const COMMIT: &str = "COMMIT";

/// A few milliseconds, and 1 MB.
const READ_VIDEOS: &str =
    "SELECT number, video, plays, last_played_at, as_of FROM playcounts.videos
    WHERE processor = $1 AND video > $2 ORDER BY video LIMIT 10000";

/// A record of 10,000 plays of as many new videos has 230 KB; most have some hundred bytes.
const READ_RECORDS: &str = "SELECT number, record FROM playcounts.records
    WHERE processor = $1 AND number > $2 ORDER BY number LIMIT 100";

/// What a processor has counted up to its newest record, as its row told when its epoch was raised.
///
/// # Errors
/// The database's; or the tables do not add up.
pub(super) fn load(
    connection: &mut PgConnection,
    member: &Membership,
) -> Result<VideoCounts, Trouble> {
    let id = Param::Uuid(member.own.id);
    connection.query(BEGIN, &[])?;
    let mut loader = SharedLoader::new(member);
    let mut after = Vec::new();
    loop {
        let rows = connection.query(READ_VIDEOS, &[id, Param::Bytes(&after)])?;
        for row in rows.iter() {
            loader.video(&row)?;
            row.bytes(1)?.clone_into(&mut after);
        }
        if rows.is_empty() {
            break;
        }
    }
    loop {
        let after = Param::Int(loader.newest.cast_signed());
        let rows = connection.query(READ_RECORDS, &[id, after])?;
        for row in rows.iter() {
            loader.record(row.int(0)?.cast_unsigned(), &Record::decode(row.bytes(1)?)?)?;
        }
        if rows.is_empty() {
            break;
        }
    }
    connection.query(COMMIT, &[])?;
    loader.finish(member)
}

struct SharedLoader {
    counts: VideoCounts,
    /// By number: as of which record each video's row stands; 0 where there is none.
    rows_as_of: Vec<u64>,
    counters_as_of: u64,
    /// The newest record that was read, or that is swept.
    newest: u64,
}

impl SharedLoader {
    fn new(member: &Membership) -> Self {
        Self {
            counts: VideoCounts::with_counters(member.counters),
            rows_as_of: Vec::new(),
            counters_as_of: member.counters_as_of,
            newest: member.swept,
        }
    }

    fn video(&mut self, row: &PgRow<'_>) -> Result<(), Trouble> {
        let number = u32::try_from(row.int(0)?).map_err(|_| Damaged)?;
        let bytes = row.bytes(1)?;
        let id = VideoId::from_bytes(bytes).ok_or_else(|| {
            Trouble::Damaged(format!("a video has an id of {} bytes that is none", bytes.len()))
        })?;
        let (plays, last_played_at) = (row.int(2)?.cast_unsigned(), row.int(3)?.cast_unsigned());
        self.place(number, id)?;
        self.counts.load_video(&SavedVideo { number, id, plays, published: 0, last_played_at });
        self.rows_as_of[number as usize] = row.int(4)?.cast_unsigned();
        Ok(())
    }

    fn record(&mut self, number: u64, record: &Record) -> Result<(), Trouble> {
        if number != self.newest + 1 {
            return Err(Trouble::Damaged(format!("record {} is missing", self.newest + 1)));
        }
        self.newest = number;
        if record.first_video as usize > self.counts.len() {
            return Err(Damaged.into());
        }
        for (number, id) in (record.first_video..).zip(&record.new_videos) {
            self.place(number, *id)?;
        }
        for delta in &record.deltas {
            if number > *self.rows_as_of.get(delta.number as usize).ok_or(Damaged)? {
                self.counts.load_delta(delta)?;
            }
        }
        if number > self.counters_as_of {
            self.counts.load_counters(&record.counters);
        }
        Ok(())
    }

    fn place(&mut self, number: u32, id: VideoId) -> Result<(), Damaged> {
        if !self.counts.place(number, id) {
            return Err(Damaged);
        }
        self.rows_as_of.resize(self.rows_as_of.len().max(number as usize + 1), 0);
        Ok(())
    }

    fn finish(mut self, member: &Membership) -> Result<VideoCounts, Trouble> {
        let Membership { own, last_record, .. } = member;
        if self.newest != *last_record {
            let newest = self.newest;
            return Err(Trouble::Damaged(format!(
                "processor {} has records up to {newest}, not {last_record}",
                own.id
            )));
        }
        let (plays, counted) = (self.counts.plays(), self.counts.counters().counted);
        if plays != Some(counted) {
            let plays = plays.map_or("what cannot be".to_owned(), |plays| plays.to_string());
            return Err(Trouble::Damaged(format!(
                "the videos of processor {} have {plays} plays, not {counted}",
                own.id
            )));
        }
        self.counts.forget_future(unix_ms());
        Ok(self.counts)
    }
}
