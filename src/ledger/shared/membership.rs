//! Which processor counts under which id of the shared ledger: its row, its epoch and its lease, by the database's clock.
//! Blocks the thread that asks.
//!
//! Who raises an id's epoch has it: that waits for a commit of the one before, and after it none of theirs finds its row.

use uuid::Uuid;

use super::transaction::Own;
use super::trouble::{LedgerBehind, Trouble};
use crate::ledger::away::LedgerFenced;
use crate::ledger::counters::Counters;
use crate::postgres::{Param, PgConnection, PgError, PgRow};

/// A start, before it has loaded, and a takeover: longer than a lease, because until then nobody renews it.
macro_rules! raise {
    ($where:literal) => {
        concat!(
            "UPDATE playcounts.processors SET epoch = epoch + 1, starts = starts + 1, holder = $1,
                lease_until = now() + interval '30 s', published_by = NULL, published_until = NULL
             WHERE ",
            $where,
            " RETURNING id, epoch, starts, last_record, swept, as_of,
                counted, by_message, recovered, duplicates, conflicting, rejected"
        )
    };
}

/// A lease that is given back has run out so long ago, so that its row tells how its processor has ended: no other has.
macro_rules! given_back {
    () => {
        "now() - interval '876000 h'"
    };
}
pub(super) use given_back;

/// That of [`given_back`], in ms.
const GIVEN_BACK_MS: i64 = 876_000 * 3_600_000;

/// The same data directory again; or any, where the lease has run out.
const RAISE_OWN: &str = raise!("id = $2 AND (holder = $1 OR lease_until < now())");

/// One whose lease ran out. Not just after the server's start, when all leases have run out and their processors are back in
/// a moment.
const ADOPT: &str = raise!(
    "id = (SELECT id FROM playcounts.processors
        WHERE lease_until < now() - interval '5 s' AND pg_postmaster_start_time() < now() - interval '15 s'
        ORDER BY lease_until LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
     AND lease_until < now() - interval '5 s'"
);

/// One that is gone, whose counts the dashboards `$2` have not been told all of, and that nobody publishes for.
const FIND_UNTOLD: &str = "SELECT p.id FROM playcounts.processors p
    WHERE p.id <> $1 AND p.last_record > 0 AND p.lease_until < now() - interval '5 s'
        AND pg_postmaster_start_time() < now() - interval '15 s'
        AND (p.published_until IS NULL OR p.published_until < now())
        AND EXISTS (SELECT FROM unnest($2::uuid[]) AS d(dashboard) WHERE NOT EXISTS (
            SELECT FROM playcounts.told t
            WHERE t.processor = p.id AND t.dashboard = d.dashboard AND t.upto >= p.last_record))
        AND NOT EXISTS (SELECT FROM unnest($3::uuid[], $4::int8[]) AS e(id, last_record)
            WHERE e.id = p.id AND e.last_record = p.last_record)
    ORDER BY p.lease_until LIMIT 1";

const TAKE_OVER: &str = "UPDATE playcounts.processors SET epoch = epoch + 1, starts = starts + 1,
        published_by = $1, published_until = now() + interval '30 s'
    WHERE id = $2 AND lease_until < now() - interval '5 s'
        AND (published_until IS NULL OR published_until < now())
    RETURNING id, epoch, starts, last_record, swept, as_of,
        counted, by_message, recovered, duplicates, conflicting, rejected";

const RENEW_PUBLISHING: &str =
    "UPDATE playcounts.processors SET published_until = now() + interval '10 s'
    WHERE id = $1 AND starts = $2 RETURNING last_record";

const END_PUBLISHING: &str =
    "UPDATE playcounts.processors SET published_by = NULL, published_until = NULL
    WHERE id = $1 AND starts = $2";

const WRITE_TOLD: &str = "INSERT INTO playcounts.told (processor, dashboard, upto) VALUES ($1, $2, $3)
    ON CONFLICT (processor, dashboard) DO UPDATE SET upto = excluded.upto WHERE told.upto < excluded.upto";

const READ_TOLD: &str = "SELECT dashboard FROM playcounts.told WHERE processor = $1 AND upto >= $2";

const MAKE: &str = "INSERT INTO playcounts.processors (id, holder, epoch, starts, lease_until)
    VALUES ($2, $1, 1, 1, now() + interval '30 s')
    RETURNING id, epoch, starts, last_record, swept, as_of,
        counted, by_message, recovered, duplicates, conflicting, rejected";

/// By its start, not by its epoch: the answer to an earlier try may have been lost.
const RECLAIM: &str =
    "UPDATE playcounts.processors SET epoch = epoch + 1, lease_until = now() + interval '10 s'
    WHERE id = $1 AND starts = $2 RETURNING epoch, last_record";

/// No commit waits for its fsync.
const RENEW: &str = "UPDATE playcounts.processors SET lease_until = now() + interval '10 s'
    WHERE id = $1 AND starts = $2 RETURNING last_record";

const GIVE_BACK: &str = concat!(
    "UPDATE playcounts.processors SET lease_until = ",
    given_back!(),
    " WHERE id = $1 AND starts = $2"
);

/// How a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseState {
    /// How much of it is left, in ms; below 0: since when it has run out, or was given back.
    pub(super) ms_left: i64,
    /// Its processor was stopped in order.
    pub(super) was_given_back: bool,
}

impl LeaseState {
    /// Of how much is left by its row, in ms.
    pub(super) fn new(ms_left: i64) -> Self {
        // The database's clock may have been turned back meanwhile.
        match ms_left < -GIVEN_BACK_MS / 2 {
            true => Self { ms_left: (ms_left + GIVEN_BACK_MS).min(-1), was_given_back: true },
            false => Self { ms_left, was_given_back: false },
        }
    }
}

/// A row of `processors`, as its new holder finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) own: Own,
    pub(super) last_record: u64,
    /// Records up to this one are in the videos.
    pub(super) swept: u64,
    /// As of a record from there on.
    pub(super) counters: Counters,
    pub(super) counters_as_of: u64,
}

impl Membership {
    fn read(row: &PgRow<'_>) -> Result<Self, PgError> {
        let number = |column| row.int(column).map(i64::cast_unsigned);
        let mut fields = [0; 6];
        for (column, field) in (6..).zip(&mut fields) {
            *field = number(column)?;
        }
        Ok(Self {
            own: Own { id: row.uuid(0)?, epoch: row.int(1)?, starts: row.int(2)? },
            last_record: number(3)?,
            swept: number(4)?,
            counters_as_of: number(5)?,
            counters: Counters::from_fields(fields),
        })
    }
}

/// Takes an id for a data directory: the one it had, unless another one has that now; else one whose lease has run out; else
/// a new one.
///
/// # Errors
/// The database's.
pub(super) fn join(
    connection: &mut PgConnection,
    holder: Uuid,
    remembered: Option<Uuid>,
) -> Result<Membership, Trouble> {
    if let Some(id) = remembered {
        let rows = connection.query(RAISE_OWN, &[Param::Uuid(holder), Param::Uuid(id)])?;
        if let Some(row) = rows.get(0) {
            return Ok(Membership::read(&row)?);
        }
    }
    let rows = connection.query(ADOPT, &[Param::Uuid(holder)])?;
    if let Some(row) = rows.get(0) {
        return Ok(Membership::read(&row)?);
    }
    let params = [Param::Uuid(holder), Param::Uuid(Uuid::new_v4())];
    Ok(Membership::read(&connection.query(MAKE, &params)?.first()?)?)
}

/// After a connection broke: raises the own epoch, which waits for the transaction that was under way, and returns the
/// newest record. All that was committed before is durable then.
///
/// # Errors
/// Fenced; behind, with `known` records; or the database's.
pub(super) fn reclaim(
    connection: &mut PgConnection,
    own: &mut Own,
    known: u64,
) -> Result<u64, Trouble> {
    let rows = connection.query(RECLAIM, &[Param::Uuid(own.id), Param::Int(own.starts)])?;
    let row = rows.get(0).ok_or(LedgerFenced)?;
    own.epoch = row.int(0)?;
    let found = row.int(1)?.cast_unsigned();
    if found < known {
        return Err(LedgerBehind { found, known }.into());
    }
    Ok(found)
}

/// Renews the lease; returns the newest record.
///
/// # Errors
/// Fenced, or the database's.
pub(super) fn renew(connection: &mut PgConnection, own: &Own) -> Result<u64, Trouble> {
    let rows = connection.query(RENEW, &[Param::Uuid(own.id), Param::Int(own.starts)])?;
    let row = rows.get(0).ok_or(LedgerFenced)?;
    Ok(row.int(0)?.cast_unsigned())
}

/// Gives the lease back: the id may be adopted at once.
///
/// # Errors
/// The database's.
pub(super) fn give_back(connection: &mut PgConnection, own: &Own) -> Result<(), Trouble> {
    connection.query(GIVE_BACK, &[Param::Uuid(own.id), Param::Int(own.starts)])?;
    Ok(())
}

/// Takes over to publish the counts of a processor that is gone and of which one of these dashboards does not know all;
/// `except` those that have these newest records.
///
/// # Errors
/// The database's.
pub(super) fn take_over(
    connection: &mut PgConnection,
    own: &Own,
    dashboards: &[Uuid],
    except: &[(Uuid, u64)],
) -> Result<Option<Membership>, Trouble> {
    let (ids, records): (Vec<Uuid>, Vec<i64>) =
        except.iter().map(|(id, last)| (*id, last.cast_signed())).unzip();
    let params =
        [Param::Uuid(own.id), Param::Uuids(dashboards), Param::Uuids(&ids), Param::Ints(&records)];
    let found = connection.query(FIND_UNTOLD, &params)?;
    let Some(row) = found.get(0) else { return Ok(None) };
    let params = [Param::Uuid(own.id), Param::Uuid(row.uuid(0)?)];
    let taken = connection.query(TAKE_OVER, &params)?;
    Ok(taken.get(0).map(|row| Membership::read(&row)).transpose()?)
}

/// Says that the counts of a processor that is gone are still being published.
///
/// # Errors
/// Fenced: it is back, or adopted; or the database's.
pub(super) fn renew_publishing(connection: &mut PgConnection, dead: &Own) -> Result<(), Trouble> {
    let rows =
        connection.query(RENEW_PUBLISHING, &[Param::Uuid(dead.id), Param::Int(dead.starts)])?;
    rows.get(0).map(drop).ok_or_else(|| LedgerFenced.into())
}

/// Says that they are published no more.
///
/// # Errors
/// The database's.
pub(super) fn end_publishing(connection: &mut PgConnection, dead: &Own) -> Result<(), Trouble> {
    connection.query(END_PUBLISHING, &[Param::Uuid(dead.id), Param::Int(dead.starts)])?;
    Ok(())
}

/// Notes that a dashboard has been told all counts of a processor up to a record.
///
/// # Errors
/// The database's.
pub(super) fn write_told(
    connection: &mut PgConnection,
    processor: Uuid,
    dashboard: Uuid,
    upto: u64,
) -> Result<(), Trouble> {
    let params = [Param::Uuid(processor), Param::Uuid(dashboard), Param::Int(upto.cast_signed())];
    connection.query(WRITE_TOLD, &params)?;
    Ok(())
}

/// The dashboards that have been told all counts of a processor up to a record.
///
/// # Errors
/// The database's.
pub(super) fn read_told(
    connection: &mut PgConnection,
    processor: Uuid,
    upto: u64,
) -> Result<Vec<Uuid>, Trouble> {
    let rows =
        connection.query(READ_TOLD, &[Param::Uuid(processor), Param::Int(upto.cast_signed())])?;
    Ok(rows.iter().map(|row| row.uuid(0)).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_tells_whether_it_was_given_back() {
        for (row, ms_left, was_given_back) in [
            (9_000, 9_000, false),
            (-7_200_000, -7_200_000, false),
            (-GIVEN_BACK_MS - 5_000, -5_000, true),
            (-GIVEN_BACK_MS, -1, true),
            (-GIVEN_BACK_MS + 60_000, -1, true),
        ] {
            assert_eq!(LeaseState::new(row), LeaseState { ms_left, was_given_back });
        }
    }
}
