//! How `process` opens its ledger. Runs on the main thread.

#[cfg(feature = "postgres")]
use std::time::{Duration, Instant};

use anyhow::Result;
use nsq_protocol::thread::StopToken;

use super::config::{PART, ProcessConfig};
use crate::command::shared::ledger_choice::LedgerChoice;
use crate::command::shared::output::status;
use crate::ledger::{self, Ledger, LedgerConfig};
#[cfg(feature = "postgres")]
use crate::ledger::{BehindPolicy, PostgresLedger, PostgresLedgerConfig};
use crate::model::words::many;
#[cfg(feature = "postgres")]
use crate::postgres::{PgConfig, PgError, PgErrorKind};
#[cfg(feature = "postgres")]
use crate::processor::OnLoss;
use crate::runtime::links;
#[cfg(feature = "postgres")]
use crate::runtime::notify;

/// How long between two tries to open a shared ledger whose database is away.
#[cfg(feature = "postgres")]
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// Opens it; `None`: stopped while its database was away.
pub(super) fn open_ledger(
    config: &ProcessConfig,
    links: &links::Links,
    stop: &StopToken,
) -> Result<Option<Box<dyn Ledger>>> {
    let ledger: Box<dyn Ledger> = match &config.ledger {
        LedgerChoice::Files => {
            let files = LedgerConfig {
                directory: config.data_dir.clone(),
                simulation: false,
                adopt: config.adopt,
                message_budget: config.message_budget,
            };
            ledger::open(&files, config.durability)?
        }
        #[cfg(feature = "postgres")]
        LedgerChoice::Postgres(database) => match open_shared(config, database, links, stop)? {
            Some(ledger) => Box::new(ledger),
            None => return Ok(None),
        },
    };
    #[cfg(not(feature = "postgres"))]
    let _ = (links, stop);
    let before = ledger.counters();
    if before.counted > 0 {
        let (plays, videos) = (before.counted, ledger.videos().len() as u64);
        let (plays, videos) = (many(plays, "play"), many(videos, "video"));
        status(
            PART,
            format_args!("the ledger holds {plays} of {videos}; counting goes on from there"),
        );
    }
    Ok(Some(ledger))
}

/// As long as the database is away it is tried again, as nsqd is.
#[cfg(feature = "postgres")]
fn open_shared(
    config: &ProcessConfig,
    database: &PgConfig,
    links: &links::Links,
    stop: &StopToken,
) -> Result<Option<PostgresLedger>> {
    let on_behind = match config.on_loss {
        OnLoss::Refuse => BehindPolicy::Refuse,
        OnLoss::Accept => BehindPolicy::Accept,
    };
    let directory = config.data_dir.clone();
    let shared = PostgresLedgerConfig { database: database.clone(), directory, on_behind };
    let began = Instant::now();
    loop {
        let error = match PostgresLedger::open(&shared) {
            Ok(ledger) => {
                links.there(links::PartLink::Ledger);
                return Ok(Some(ledger));
            }
            Err(error) => error,
        };
        let is_away = |error: &PgError| error.kind() != PgErrorKind::Refused;
        let timeout = config.connect_timeout;
        if !error.downcast_ref::<PgError>().is_some_and(is_away)
            || timeout.is_some_and(|timeout| began.elapsed() > timeout)
        {
            return Err(error.context("the shared ledger cannot be opened"));
        }
        links.away(links::PartLink::Ledger, &format!("{error:#}"));
        // The service manager need not wait, too.
        notify::ready();
        if stop.wait(DATABASE_RETRY) {
            return Ok(None);
        }
    }
}
