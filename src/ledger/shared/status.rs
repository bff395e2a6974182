//! What a shared ledger holds, and how its processors are. Blocks the thread that asks.

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;
use uuid::Uuid;

use super::link::{ROLLBACK, connect};
use super::membership::LeaseState;
use super::schema;
use crate::model::words::{grouped, lasting, many};
use crate::postgres::{PgConfig, PgConnection, PgError};

/// The most processors that are told; the others are only counted.
const PROCESSORS_MAX: i64 = 1_000;

/// All of one moment: a sweep may be under way.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const READ_PROCESSORS: &str = "SELECT p.id, p.epoch, p.last_record, p.swept, p.counted, p.rejected,
        (extract(epoch FROM p.lease_until - now()) * 1000)::int8,
        CASE WHEN p.published_until > now() THEN p.published_by END,
        p.last_record - (SELECT min(coalesce(t.upto, 0))
            FROM (SELECT DISTINCT dashboard FROM playcounts.told) AS d
            LEFT JOIN playcounts.told t ON t.dashboard = d.dashboard AND t.processor = p.id)
    FROM playcounts.processors p ORDER BY p.lease_until DESC, p.id LIMIT $1";

const READ_COUNTS: &str = "SELECT (SELECT count(*) FROM playcounts.processors),
    (SELECT count(*) FROM playcounts.producers), (SELECT count(*) FROM playcounts.seen),
    (SELECT count(*) FROM playcounts.records), (SELECT count(*) FROM playcounts.dead_letters),
    (SELECT count(DISTINCT video) FROM playcounts.videos)";

/// The partitions of messages are told as one.
const READ_TABLES: &str =
    "SELECT CASE WHEN c.relname LIKE 'messages%' THEN 'messages' ELSE c.relname::text END AS name,
        sum(pg_total_relation_size(c.oid))::int8 AS bytes
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'playcounts' AND c.relkind = 'r' AND c.relname NOT LIKE 'message\\_hours'
    GROUP BY name ORDER BY bytes DESC, name";

/// A shared ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedStatus {
    /// Which it is: drawn when it was made.
    pub life: Uuid,
    /// Where it is, as `host:port`.
    pub server: String,
    /// Its processors, those whose leases last longest first; at most 1,000.
    pub processors: Vec<SharedProcessor>,
    /// Processors that are left out.
    pub left_out: u64,
    /// Producers of which plays are counted.
    pub producers: u64,
    /// Rows of 1,024 plays of a producer that are not all counted, or lie behind such a row.
    pub segments: u64,
    /// Records that no sweep has taken into the videos.
    pub records: u64,
    /// Videos with a row: those that were played since the last sweep only may have none.
    pub videos: u64,
    /// Bodies that were no play.
    pub dead_letters: u64,
    /// Its tables, the largest first.
    pub tables: Vec<SharedTable>,
}

/// A processor of a shared ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedProcessor {
    /// Its id.
    pub id: Uuid,
    /// How often it was taken over.
    pub epoch: u64,
    /// How much of its lease is left, in ms, by the database's clock; below 0: since when it has run out, or was given back.
    pub lease_ms_left: i64,
    /// It was stopped in order, and has given its lease back.
    pub was_stopped: bool,
    /// Who publishes what it has counted in its place.
    pub published_by: Option<Uuid>,
    /// The number of its newest commit.
    pub last_record: u64,
    /// Of its commits, those that are not in the videos yet.
    pub unswept: u64,
    /// Of its commits, those that not every dashboard is noted to know, among all that ever were; absent: no dashboard is
    /// known. Of one that runs that is noted when it ends.
    pub untold: Option<u64>,
    /// Plays that it has counted, as of its last sweep.
    pub plays: u64,
    /// Bodies that were no play, as of its last sweep.
    pub rejected: u64,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedTable {
    /// Its name.
    pub name: String,
    /// Its bytes with its indexes.
    pub bytes: u64,
}

/// Asks for all of it. Changes nothing.
///
/// # Errors
/// One line with the way out: the database is away or refuses, has no shared ledger, or one of a newer version.
pub fn shared_status(config: &PgConfig) -> Result<SharedStatus> {
    let mut connection = connect(config)?;
    let Some(life) = schema::read(&mut connection)? else {
        bail!(
            "there is no shared ledger in the database at {}; `playcounts ledger init` makes one",
            connection.server()
        );
    };
    let server = connection.server().to_owned();
    connection.query(BEGIN, &[])?;
    let processors = read_processors(&mut connection)?;
    let counts = connection.query(READ_COUNTS, &[])?;
    let counts = counts.first()?;
    let number = |column| counts.int(column).map(i64::cast_unsigned);
    let status = SharedStatus {
        life,
        server,
        left_out: number(0)?.saturating_sub(processors.len() as u64),
        processors,
        producers: number(1)?,
        segments: number(2)?,
        records: number(3)?,
        dead_letters: number(4)?,
        videos: number(5)?,
        tables: read_tables(&mut connection)?,
    };
    connection.query(ROLLBACK, &[])?;
    Ok(status)
}

fn read_processors(connection: &mut PgConnection) -> Result<Vec<SharedProcessor>, PgError> {
    let rows = connection.query(READ_PROCESSORS, &[crate::postgres::Param::Int(PROCESSORS_MAX)])?;
    let processor = |row: crate::postgres::PgRow<'_>| {
        let number = |column| row.int(column).map(i64::cast_unsigned);
        let last_record = number(2)?;
        let lease = LeaseState::new(row.int(6)?);
        Ok(SharedProcessor {
            id: row.uuid(0)?,
            epoch: number(1)?,
            last_record,
            unswept: last_record.saturating_sub(number(3)?),
            plays: number(4)?,
            rejected: number(5)?,
            lease_ms_left: lease.ms_left,
            was_stopped: lease.was_given_back,
            published_by: row.uuid_opt(7)?,
            untold: row.int_opt(8)?.map(|untold| untold.max(0).cast_unsigned()),
        })
    };
    rows.iter().map(processor).collect()
}

fn read_tables(connection: &mut PgConnection) -> Result<Vec<SharedTable>, PgError> {
    let rows = connection.query(READ_TABLES, &[])?;
    let tables = rows.iter().map(|row| {
        Ok(SharedTable { name: row.text(0)?.to_owned(), bytes: row.int(1)?.cast_unsigned() })
    });
    tables.collect()
}

/// Lines for people.
impl fmt::Display for SharedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { life, server, processors, left_out, .. } = self;
        writeln!(f, "ledger {life} at {server}")?;
        for processor in processors {
            writeln!(f, "{processor}")?;
        }
        if *left_out > 0 {
            writeln!(f, "{} more", many(*left_out, "processor"))?;
        }
        writeln!(
            f,
            "{}, {} of their plays; {}; {} not swept; {}",
            many(self.producers, "producer"),
            many(self.segments, "row"),
            many(self.videos, "video"),
            many(self.records, "commit"),
            many(self.dead_letters, "dead letter")
        )?;
        let tables: Vec<_> = self.tables.iter().map(SharedTable::to_string).collect();
        write!(f, "bytes: {}", tables.join(", "))
    }
}

impl fmt::Display for SharedProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = lasting(self.lease_ms_left.unsigned_abs());
        write!(f, "processor {}: ", self.id)?;
        match (self.lease_ms_left > 0, self.was_stopped) {
            (true, _) => write!(f, "lease {time}")?,
            (false, true) => write!(f, "stopped in order {time} ago")?,
            (false, false) => write!(f, "lease ran out {time} ago")?,
        }
        if let Some(by) = self.published_by {
            write!(f, ", published by {by}")?;
        }
        let (plays, commits) = (many(self.plays, "play"), many(self.last_record, "commit"));
        write!(f, "; {plays}, {commits}, {} not swept", grouped(self.unswept))?;
        match self.untold {
            Some(untold) => write!(f, ", {} not told; epoch {}", grouped(untold), self.epoch),
            None => write!(f, "; epoch {}", self.epoch),
        }
    }
}

impl fmt::Display for SharedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(lease_ms_left: i64, was_stopped: bool) -> SharedProcessor {
        SharedProcessor {
            id: Uuid::from_u128(1),
            epoch: 1,
            lease_ms_left,
            was_stopped,
            published_by: None,
            last_record: 1,
            unswept: 0,
            untold: None,
            plays: 1,
            rejected: 0,
        }
    }

    #[test]
    fn one_is_not_many_and_a_stop_is_no_lease_that_ran_out() {
        let status = SharedStatus {
            life: Uuid::from_u128(2),
            server: "db:5432".to_owned(),
            processors: vec![
                processor(8_300, false),
                processor(-3_612_000, false),
                processor(-125_000, true),
            ],
            left_out: 1,
            producers: 1,
            segments: 1,
            records: 1,
            videos: 1,
            dead_letters: 1,
            tables: Vec::new(),
        };
        let text = status.to_string();
        for line in [
            "1: lease 8.3 s; 1 play, 1 commit, 0 not swept; epoch 1\n",
            "1: lease ran out 1 h ago; ",
            "1: stopped in order 2 min 5 s ago; ",
            "\n1 processor more\n",
            "\n1 producer, 1 row of their plays; 1 video; 1 commit not swept; 1 dead letter\n",
        ] {
            assert!(text.contains(line), "{text}\ndoes not say {line:?}");
        }
    }
}
