//! Who counts in a shared ledger, for a processor's report: as of the last time that the database answered. Blocks the thread of
//! the upkeep.

use uuid::Uuid;

use super::membership::LeaseState;
use super::trouble::Trouble;
use crate::postgres::{Param, PgConnection};
use crate::wire::{LEDGER_PROCESSORS_MAX, LedgerProcessor};

/// The one that asks first, then those whose leases last longest.
const READ: &str = "SELECT p.id, p.epoch, p.last_record, p.counted,
        (extract(epoch FROM p.lease_until - now()) * 1000)::int8,
        CASE WHEN p.published_until > now() THEN p.published_by END,
        p.last_record - (SELECT min(coalesce(t.upto, 0)) FROM unnest($2::uuid[]) AS d(dashboard)
            LEFT JOIN playcounts.told t ON t.dashboard = d.dashboard AND t.processor = p.id),
        (SELECT count(*) FROM playcounts.processors)
    FROM playcounts.processors p ORDER BY p.id <> $1, p.lease_until DESC, p.id LIMIT $3";

/// The processors of a ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct LedgerMembers {
    /// As many as a report tells of.
    pub(super) each: Vec<LedgerProcessor>,
    /// The others.
    pub(super) left_out: u64,
}

/// All of them, as the processor `me` tells it, which publishes to these dashboards.
///
/// # Errors
/// The database's.
pub(super) fn read_members(
    connection: &mut PgConnection,
    me: Uuid,
    dashboards: &[Uuid],
) -> Result<LedgerMembers, Trouble> {
    let most = Param::Int(LEDGER_PROCESSORS_MAX as i64);
    let rows = connection.query(READ, &[Param::Uuid(me), Param::Uuids(dashboards), most])?;
    let mut members = LedgerMembers::default();
    for row in rows.iter() {
        let number = |column| row.int(column).map(|number| number.max(0).cast_unsigned());
        let (id, lease_ms_left) = (row.uuid(0)?, LeaseState::new(row.int(4)?).ms_left);
        members.each.push(LedgerProcessor {
            id,
            lease_ms_left,
            epoch: number(1)?,
            is_me: id == me,
            is_alive: lease_ms_left > 0,
            published_by: row.uuid_opt(5)?,
            last_record: number(2)?,
            plays: number(3)?,
            untold: row.int_opt(6)?.map(|untold| untold.max(0).cast_unsigned()),
        });
        members.left_out = number(7)?.saturating_sub(rows.len() as u64);
    }
    Ok(members)
}
