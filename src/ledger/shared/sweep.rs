//! What a shared ledger needs where no commit waits for it: a sweep takes a processor's records into its videos; messages,
//! dead letters and full segments are given up. Blocks the thread that does it, on a connection of its own.
//!
//! A sweep writes facts: counts as of a record that is durable. So one that comes late, after somebody took the id over,
//! changes nothing that is newer.

use uuid::Uuid;

use super::link::all;
use super::messages::{AHEAD_HOURS, EMPTIED_AHEAD_HOURS, SHARED_WINDOW_HOURS, SLOTS};
use super::segments::{SEGMENT_PLAYS, SegmentBits, stripe_of};
use super::transaction::Own;
use super::trouble::{LedgerBehind, Trouble};
use crate::ledger::away::LedgerFenced;
use crate::ledger::checkpoint::SavedVideo;
use crate::ledger::counters::Counters;
use crate::ledger::letter::DEAD_LETTERS_MAX;
use crate::postgres::{Param, PgConnection};

const BEGIN: &str = "BEGIN";
const ASYNCHRONOUS: &str = "SET LOCAL synchronous_commit = off";
const COMMIT: &str = "COMMIT";

const READ_SELF: &str =
    "SELECT last_record FROM playcounts.processors WHERE id = $1 AND starts = $2";

const WRITE_VIDEOS: &str = "INSERT INTO playcounts.videos (processor, video, number, plays, last_played_at, as_of)
    SELECT $1, v.video, v.number, v.plays, v.last_played_at, $6
    FROM unnest($2::bytea[], $3::int8[], $4::int8[], $5::int8[]) AS v(video, number, plays, last_played_at)
    ON CONFLICT (processor, video) DO UPDATE
    SET plays = excluded.plays, last_played_at = excluded.last_played_at, as_of = excluded.as_of
    WHERE videos.as_of < excluded.as_of";

/// Records go only with the note of it: whoever takes the id over finds both or neither.
const WRITE_SWEPT: &str = "WITH swept AS (
        UPDATE playcounts.processors SET swept = $2, as_of = $4,
            counted = $5, by_message = $6, recovered = $7, duplicates = $8, conflicting = $9, rejected = $10
        WHERE id = $1 AND starts = $3 RETURNING id)
    DELETE FROM playcounts.records r USING swept WHERE r.processor = swept.id AND r.number <= $2";

const READ_HOURS: &str =
    "SELECT slot, hour, extract(epoch FROM now())::int8 / 3600 FROM playcounts.message_hours";

/// Tables that were made before plays had ids of their sites' have no such index, and few such rows.
const INDEX_OTHERS: &str = "DO $$ BEGIN
    IF to_regclass('playcounts.messages_other_kept_in') IS NULL THEN
        CREATE INDEX IF NOT EXISTS messages_other_kept_in ON playcounts.messages_other (kept_in);
    END IF; END $$";

const FORGET_OTHERS: &str = "WITH gone AS (
    DELETE FROM playcounts.messages WHERE slot = -1 AND key IN (
        SELECT key FROM playcounts.messages WHERE slot = -1
            AND kept_in < extract(epoch FROM now())::int8 / 3600 - $1 LIMIT 10000)
    RETURNING 1) SELECT count(*) >= 10000 FROM gone";

/// So many of those in a row: 200,000 in the 30 s between two, more than 6,000 a second for each processor.
const FORGET_TIMES: usize = 20;

const FORGET_LETTERS: &str = "DELETE FROM playcounts.dead_letters
    WHERE number <= (SELECT max(number) FROM playcounts.dead_letters) - $1";

const LOCK_STRIPE: &str = "SELECT id FROM playcounts.stripes WHERE id = $1 FOR NO KEY UPDATE";

const READ_WATERMARK: &str = "SELECT watermark FROM playcounts.producers WHERE producer = $1";

/// So many segments at once: a tenth of a second.
const READ_SEGMENTS: &str = "SELECT s.segment, s.bits FROM playcounts.seen s
    JOIN playcounts.producers p USING (producer)
    WHERE s.producer = $1 AND s.segment >= p.watermark / $2 ORDER BY s.segment LIMIT 1000";

const DELETE_SEGMENTS: &str = "DELETE FROM playcounts.seen WHERE producer = $1 AND segment < $2";

const WRITE_WATERMARK: &str = "UPDATE playcounts.producers SET watermark = $2 WHERE producer = $1";

/// A part of a sweep: rows to write in one transaction.
#[derive(Debug)]
pub(super) struct SweepSlice {
    /// The newest record that the rows include; it is durable.
    pub(super) as_of: u64,
    /// As of that record.
    pub(super) counters: Counters,
    pub(super) videos: Vec<SavedVideo>,
    /// On the last slice: the rows have all records up to this one now.
    pub(super) upto: Option<u64>,
}

/// Writes a slice of a sweep in one transaction; with the last one the records go that all rows have.
///
/// # Errors
/// Fenced, behind, or the database's: the slice is not written.
pub(super) fn write_slice(
    connection: &mut PgConnection,
    own: &Own,
    slice: &SweepSlice,
) -> Result<(), Trouble> {
    let me = Param::Uuid(own.id);
    let ids: Vec<_> = slice.videos.iter().map(|video| video.id.to_bytes()).collect();
    let ids: Vec<&[u8]> = ids.iter().map(AsRef::as_ref).collect();
    let numbers: Vec<_> = slice.videos.iter().map(|video| i64::from(video.number)).collect();
    let plays: Vec<_> = slice.videos.iter().map(|video| video.plays.cast_signed()).collect();
    let times: Vec<_> =
        slice.videos.iter().map(|video| video.last_played_at.cast_signed()).collect();
    let as_of = Param::Int(slice.as_of.cast_signed());
    // First whether the slice is of a ledger that is still this one.
    let found = connection.query(READ_SELF, &[me, Param::Int(own.starts)])?;
    let found = found.get(0).ok_or(LedgerFenced)?.int(0)?.cast_unsigned();
    if found < slice.as_of {
        return Err(LedgerBehind { found, known: slice.as_of }.into());
    }
    connection.statement(BEGIN, &[])?;
    connection.statement(ASYNCHRONOUS, &[])?;
    let params = [
        me,
        Param::ByteArrays(&ids),
        Param::Ints(&numbers),
        Param::Ints(&plays),
        Param::Ints(&times),
        as_of,
    ];
    connection.statement(WRITE_VIDEOS, &params)?;
    if let Some(upto) = slice.upto {
        let (upto, starts) = (Param::Int(upto.cast_signed()), Param::Int(own.starts));
        let [a, b, c, d, e, f] =
            slice.counters.fields().map(|field| Param::Int(field.cast_signed()));
        connection.statement(WRITE_SWEPT, &[me, upto, starts, as_of, a, b, c, d, e, f])?;
    }
    connection.statement(COMMIT, &[])?;
    connection.sync();
    all(connection.exchange())?;
    Ok(())
}

/// Empties the partitions of hours that come, and forgets what is older than the window, and the oldest dead letters.
///
/// # Errors
/// The database's.
pub(super) fn forget_old(connection: &mut PgConnection) -> Result<(), Trouble> {
    for row in connection.query(READ_HOURS, &[])?.iter() {
        let (slot, emptied_for, now) = (row.int(0)?, row.int(1)?, row.int(2)?);
        // Not those that messages may be in, now or in the hour that comes meanwhile.
        let ahead = now + AHEAD_HOURS + 2..=now + EMPTIED_AHEAD_HOURS;
        if let Some(hour) = ahead.into_iter().find(|hour| hour % SLOTS == slot)
            && emptied_for < hour
        {
            connection.script(&format!(
                "DO $$ BEGIN
                    UPDATE playcounts.message_hours SET hour = {hour} WHERE slot = {slot} AND hour < {hour};
                    IF FOUND THEN TRUNCATE playcounts.messages_{slot}; END IF;
                END $$"
            ))?;
        }
    }
    connection.script(INDEX_OTHERS)?;
    for _ in 0..FORGET_TIMES {
        let rows = connection.query(FORGET_OTHERS, &[Param::Int(SHARED_WINDOW_HOURS)])?;
        if !rows.first()?.bool(0)? {
            break;
        }
    }
    connection.query(FORGET_LETTERS, &[Param::Int(DEAD_LETTERS_MAX)])?;
    Ok(())
}

/// Moves a producer's watermark over the segments that are full, and deletes those: where a hole was filled that others lay
/// behind. Whether there may be more.
///
/// # Errors
/// The database's.
pub(super) fn fold_producer(
    connection: &mut PgConnection,
    producer: Uuid,
) -> Result<FoldedProducer, Trouble> {
    let id = Param::Uuid(producer);
    connection.statement(BEGIN, &[])?;
    connection.statement(ASYNCHRONOUS, &[])?;
    connection.statement(LOCK_STRIPE, &[Param::Int(stripe_of(&producer))])?;
    connection.statement(READ_WATERMARK, &[id])?;
    connection.statement(READ_SEGMENTS, &[id, Param::Int(SEGMENT_PLAYS.cast_signed())])?;
    connection.sync();
    let answers = all(connection.exchange())?;
    let mut rows = answers.iter().flatten().skip(3);
    let watermark = rows.next().and_then(|rows| rows.get(0)).map(|row| row.int(0)).transpose()?;
    let before = watermark.unwrap_or(0) / SEGMENT_PLAYS.cast_signed();
    let (mut segment, mut is_last) = (before, true);
    for row in rows.next().into_iter().flat_map(|rows| rows.iter()) {
        is_last = row.int(0)? != segment || !SegmentBits::from_bytes(row.bytes(1)?)?.is_full();
        if is_last {
            break;
        }
        segment += 1;
    }
    if segment > before {
        let watermark = Param::Int(segment * SEGMENT_PLAYS.cast_signed());
        connection.statement(DELETE_SEGMENTS, &[id, Param::Int(segment)])?;
        connection.statement(WRITE_WATERMARK, &[id, watermark])?;
    }
    connection.statement(COMMIT, &[])?;
    connection.sync();
    all(connection.exchange())?;
    Ok(if is_last { FoldedProducer::All } else { FoldedProducer::Some })
}

/// How far a producer was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldedProducer {
    /// There is no more.
    All,
    /// As many segments as are taken at once.
    Some,
}
