//! The rows of the table `producers`: looked up by the thread that commits, for producers that are not in memory; on a
//! connection of their own, so that no checkpoint is waited for.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::record::decode_runs;
use super::state::{LedgerState, confirmed_of};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::seq_set::SeqSet;
use crate::wire::{CONFIRMED_RUNS_MAX, Confirmed, ProducerConfirmed};

/// A producer's counted plays, as a row has them.
pub(super) type ProducerRow = (Uuid, Vec<Range<u64>>);

/// The table, to read.
pub(super) struct ProducerRows(Connection);

impl ProducerRows {
    /// Over a connection that nobody else has.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        // Inner pages of a table of some million rows: then a row costs one page.
        connection.execute_batch("PRAGMA cache_size = -16384;")?;
        Ok(Self(connection))
    }

    /// Brings those of these producers into memory that may be in the table only. Without that none of their plays
    /// may be counted.
    ///
    /// # Errors
    /// SQLite's; or a row is damaged.
    pub(super) fn fetch(
        &self,
        state: &mut LedgerState,
        ids: impl Iterator<Item = Uuid>,
    ) -> Result<()> {
        if !state.has_saved_producers() {
            return Ok(());
        }
        let mut last = None;
        for id in ids {
            // Plays of one producer come together.
            if last.replace(id) != Some(id) && state.may_be_saved(&id) {
                let runs = producer_row(&self.0, &id).context(CANNOT_READ)?;
                state.fetched_producer(id, runs.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// What a dashboard is told of a producer's counted plays.
    ///
    /// # Errors
    /// As [`ProducerRows::fetch`].
    pub(super) fn confirmed(
        &self,
        state: &LedgerState,
        dashboard: DashboardIndex,
        id: &Uuid,
    ) -> Result<Confirmed> {
        if !state.may_be_saved(id) {
            return Ok(state.confirmed(dashboard, id));
        }
        let runs = producer_row(&self.0, id).context(CANNOT_READ)?;
        let known = state.unreported.known(dashboard, id);
        Ok(runs.map_or_else(Confirmed::default, |runs| confirmed_of(&set_of(runs), known)))
    }

    /// A dashboard has been told that of a producer, and knows of all plays below `watermark`. Whether more is to be told at
    /// once.
    ///
    /// # Errors
    /// As [`ProducerRows::fetch`].
    pub(super) fn reported(
        &self,
        state: &mut LedgerState,
        dashboard: DashboardIndex,
        told: &ProducerConfirmed,
        watermark: u64,
    ) -> Result<bool> {
        let ProducerConfirmed { producer, confirmed } = told;
        let known = state.unreported.known(dashboard, producer);
        if confirmed.above.len() < CONFIRMED_RUNS_MAX && known == 0 {
            // All of it was told: nothing needs to be looked up.
            return Ok(false);
        }
        if !state.may_be_saved(producer) {
            return Ok(state.reported(dashboard, producer, watermark));
        }
        let runs = producer_row(&self.0, producer).context(CANNOT_READ)?.unwrap_or_default();
        Ok(state.unreported.of(dashboard).reported(*producer, &set_of(runs), watermark))
    }

    /// At most `limit` producers of whose plays more are counted than a dashboard was told.
    ///
    /// # Errors
    /// As [`ProducerRows::fetch`]; then they come again.
    pub(super) fn take_unreported(
        &self,
        state: &mut LedgerState,
        dashboard: DashboardIndex,
        limit: usize,
    ) -> Result<Vec<ProducerConfirmed>> {
        let ids = state.unreported.of(dashboard).take(limit);
        let tell = |producer: &Uuid| {
            let confirmed = self.confirmed(state, dashboard, producer)?;
            anyhow::Ok(ProducerConfirmed { producer: *producer, confirmed })
        };
        let told_lately = ids.iter().map(tell).collect::<Result<Vec<_>>>();
        let mut all = match told_lately {
            Ok(all) => all,
            Err(error) => {
                ids.into_iter().for_each(|id| state.unreported.of(dashboard).add(id));
                return Err(error);
            }
        };
        let more = limit - all.len();
        if more > 0
            && let Some(from) = state.unreported.of(dashboard).from()
        {
            let rows = producer_rows(&self.0, &from, more).context(CANNOT_READ)?;
            let last = rows.last().map(|(id, _)| *id).filter(|_| rows.len() == more);
            state.unreported.of(dashboard).told_up_to(last);
            all.extend(rows.into_iter().map(|(producer, runs)| {
                // What is in memory is newer.
                let confirmed = match state.knows_producer(&producer) {
                    true => state.confirmed(dashboard, &producer),
                    false => confirmed_of(&set_of(runs), 0),
                };
                ProducerConfirmed { producer, confirmed }
            }));
        }
        Ok(all)
    }
}

/// What stands before an error of a look-up.
const CANNOT_READ: &str = "the ledger's producers cannot be looked up";

fn set_of(runs: Vec<Range<u64>>) -> SeqSet {
    let mut set = SeqSet::new();
    runs.into_iter().for_each(|run| set.insert_run(run));
    set
}

/// A producer's counted plays; `None` of one without a row.
///
/// # Errors
/// The row does not fit its check; or SQLite's.
pub(super) fn producer_row(connection: &Connection, id: &Uuid) -> Result<Option<Vec<Range<u64>>>> {
    let row = connection
        .prepare_cached(
            "SELECT producer, counted, row_check = row_check(producer, counted) FROM producers WHERE producer = ?1",
        )?
        .query_row([id], |row| Ok(read_row(row)))
        .optional()?;
    Ok(row.transpose()?.map(|(_, runs)| runs))
}

/// At most `limit` rows from an id on, in the order of the ids.
///
/// # Errors
/// As [`producer_row`].
fn producer_rows(connection: &Connection, from: &Uuid, limit: usize) -> Result<Vec<ProducerRow>> {
    connection
        .prepare_cached(
            "SELECT producer, counted, row_check = row_check(producer, counted) FROM producers
             WHERE producer >= ?1 ORDER BY producer LIMIT ?2",
        )?
        .query_map((from, limit as i64), |row| Ok(read_row(row)))?
        .map(|row| row?)
        .collect()
}

/// Reads every row, one at a time.
///
/// # Errors
/// As [`producer_row`]; and what `each` says.
pub(super) fn each_producer_row(
    connection: &Connection,
    mut each: impl FnMut(ProducerRow) -> Result<()>,
) -> Result<()> {
    let mut producers = connection.prepare(
        "SELECT producer, counted, row_check = row_check(producer, counted) FROM producers",
    )?;
    let mut rows = producers.query([])?;
    while let Some(row) = rows.next()? {
        each(read_row(row)?)?;
    }
    Ok(())
}

fn read_row(row: &Row<'_>) -> Result<ProducerRow> {
    if !row.get::<_, bool>(2)? {
        bail!("a row of the table producers does not fit its check");
    }
    Ok((row.get(0)?, decode_runs(&row.get::<_, Vec<u8>>(1)?)?))
}
