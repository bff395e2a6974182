//! Why the shared ledger cannot do what it was asked (pure).

use anyhow::anyhow;

use crate::ledger::away::{LedgerAway, LedgerFenced};
use crate::ledger::record::{Damaged, RecordError};
use crate::postgres::PgError;

/// The database has lost commits that this processor was told are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shared ledger is older than this processor: it has its records up to {found}, and {known} were durable. A standby \
     that lagged behind was promoted, or an old backup was put back; synchronous_standby_names keeps a failover from that. \
     Bring the newer database back, or `playcounts process --accept-loss` goes on with what this one holds"
)]
pub struct LedgerBehind {
    /// The newest record that the database has.
    pub found: u64,
    /// The newest that was known to be durable.
    pub known: u64,
}

/// What is said of a table that cannot be right.
pub(super) const DOES_NOT_ADD_UP: &str =
    "the shared ledger's tables do not add up; bring back a backup of the database";

/// All of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The database's, which may go by itself or when somebody acts.
    #[error(transparent)]
    Database(#[from] PgError),
    #[error(transparent)]
    Fenced(#[from] LedgerFenced),
    #[error(transparent)]
    Behind(#[from] LedgerBehind),
    /// The tables say what cannot be.
    #[error("{DOES_NOT_ADD_UP}: {0}")]
    Damaged(String),
}

impl From<Damaged> for Trouble {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.to_string())
    }
}

impl From<RecordError> for Trouble {
    fn from(error: RecordError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Trouble {
    /// As the ledger's callers know it: what concerns the database is tried again.
    pub(super) fn while_counting(self) -> anyhow::Error {
        match self {
            Self::Database(error) => LedgerAway::new(error.to_string()).into(),
            other => other.at_start(),
        }
    }

    /// At a start nothing is tried again.
    pub(super) fn at_start(self) -> anyhow::Error {
        match self {
            Self::Database(error) => error.into(),
            Self::Fenced(fenced) => fenced.into(),
            Self::Behind(behind) => behind.into(),
            Self::Damaged(_) => anyhow!("{self}"),
        }
    }
}
