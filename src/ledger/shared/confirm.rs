//! Which plays of producers are counted for good, as the shared ledger tells it: by whichever processor. Blocks the thread
//! that asks.
//!
//! What is read is made durable before it is told: it may be of a commit that is not flushed yet.

use uuid::Uuid;

use super::link::{FLUSH, all};
use super::segments::{SEGMENT_PLAYS, SegmentBits, joined};
use super::trouble::Trouble;
use crate::ledger::record::Damaged;
use crate::postgres::{Param, PgConnection};
use crate::wire::{CONFIRMED_RUNS_MAX, Confirmed, ProducerConfirmed};

const READ_WATERMARKS: &str = "SELECT w.at, p.watermark
    FROM unnest($1::uuid[]) WITH ORDINALITY AS w(producer, at) JOIN playcounts.producers p USING (producer)";

/// The lowest segments of each: most runs that are told lie in few.
const READ_LOWEST: &str = "SELECT w.at, s.segment, s.bits
    FROM unnest($1::uuid[]) WITH ORDINALITY AS w(producer, at) CROSS JOIN LATERAL (
        SELECT segment, bits FROM playcounts.seen WHERE seen.producer = w.producer ORDER BY segment LIMIT 128) AS s
    ORDER BY w.at, s.segment";

const WALK: &str =
    "SELECT producer FROM playcounts.producers WHERE producer >= $1 ORDER BY producer LIMIT $2";

/// What is counted of a producer, and whether it has full segments that its watermark has not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadProducer {
    pub(super) told: ProducerConfirmed,
    pub(super) can_fold: bool,
}

/// What is counted of some producers, durably.
///
/// # Errors
/// The database's, or its tables are damaged.
pub(super) fn read(
    connection: &mut PgConnection,
    producers: &[Uuid],
) -> Result<Vec<ReadProducer>, Trouble> {
    connection.statement(READ_WATERMARKS, &[Param::Uuids(producers)])?;
    connection.statement(READ_LOWEST, &[Param::Uuids(producers)])?;
    connection.sync();
    connection.statement(FLUSH, &[])?;
    connection.sync();
    let answers = all(connection.exchange())?;
    let mut rows = answers.iter().flatten();
    let mut watermarks = vec![0; producers.len()];
    for row in rows.next().into_iter().flat_map(|rows| rows.iter()) {
        let watermark = row.int(1)?.cast_unsigned();
        *place(&mut watermarks, row.int(0)?)? = watermark;
    }
    let mut segments = vec![Vec::new(); producers.len()];
    for row in rows.next().into_iter().flat_map(|rows| rows.iter()) {
        let segment = (row.int(1)?.cast_unsigned(), SegmentBits::from_bytes(row.bytes(2)?)?);
        place(&mut segments, row.int(0)?)?.push(segment);
    }
    let all = producers.iter().zip(watermarks).zip(segments);
    Ok(all.map(|((id, watermark), segments)| confirmed(*id, watermark, &segments)).collect())
}

/// The next producers of all, from an id on.
///
/// # Errors
/// The database's.
pub(super) fn walk(
    connection: &mut PgConnection,
    from: Uuid,
    limit: usize,
) -> Result<Vec<Uuid>, Trouble> {
    let rows = connection.query(WALK, &[Param::Uuid(from), Param::Int(limit as i64)])?;
    Ok(rows.iter().map(|row| row.uuid(0)).collect::<Result<_, _>>()?)
}

fn place<T>(all: &mut [T], ordinality: i64) -> Result<&mut T, Damaged> {
    let at = usize::try_from(ordinality - 1).map_err(|_| Damaged)?;
    all.get_mut(at).ok_or(Damaged)
}

/// What a producer's rows say: its watermark, and its lowest segments ascending.
fn confirmed(producer: Uuid, below: u64, segments: &[(u64, SegmentBits)]) -> ReadProducer {
    let can_fold = segments
        .first()
        .is_some_and(|(segment, bits)| segment * SEGMENT_PLAYS == below && bits.is_full());
    let runs = segments.iter().flat_map(|(segment, bits)| bits.runs(*segment));
    let mut watermark = below;
    let mut above = Vec::new();
    for run in joined(below, runs) {
        if run.start <= watermark {
            watermark = watermark.max(run.end);
        } else if above.len() < CONFIRMED_RUNS_MAX {
            above.push([run.start, run.end]);
        } else {
            break;
        }
    }
    let confirmed = Confirmed { watermark, above };
    ReadProducer { told: ProducerConfirmed { producer, confirmed }, can_fold }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(seqs: impl Iterator<Item = u64>) -> SegmentBits {
        let mut bits = SegmentBits::EMPTY;
        seqs.for_each(|seq| assert!(bits.insert(seq)));
        bits
    }

    #[test]
    fn watermark_and_runs_go_over_the_ends_of_segments() {
        let full = bits(0..1024);
        let segments =
            [(2, full.clone()), (3, bits((0..5).chain(7..9).chain(1000..1024))), (4, full)];
        let read = confirmed(Uuid::nil(), 2048, &segments);
        let want = Confirmed { watermark: 3 * 1024 + 5, above: vec![[3079, 3081], [4072, 5120]] };
        assert_eq!((read.told.confirmed, read.can_fold), (want, true));
        // What is late: a segment that was deleted since.
        let read = confirmed(Uuid::nil(), 4096, &segments);
        assert_eq!(read.told.confirmed, Confirmed { watermark: 5120, above: vec![] });
        assert!(!read.can_fold);
        let holes = [(0, bits((1..300).step_by(2)))];
        let read = confirmed(Uuid::nil(), 0, &holes);
        let Confirmed { watermark, above } = read.told.confirmed;
        assert_eq!((watermark, above.len(), above[63]), (0, CONFIRMED_RUNS_MAX, [127, 128]));
    }
}
