//! `check`: looks at the files of a data directory, says what is whole and what is lost, and how to go on. Runs on the
//! main thread.

use std::path::Path;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::output::{OutputFormat, print, print_json};
use crate::command::shared::values;
use crate::journal::Cut;
use crate::model::attempted::Attempted;
use crate::model::words::{grouped, many};
use crate::storage::data_dir::{self, DASHBOARD, DataDir, PROCESSOR, PRODUCER};
use crate::storage::part_check::{PLACES_MAX, PartCheck};
use crate::storage::sqlite;
use crate::storage::way_out::way_out;
use crate::{dashboard, ledger, producer};

/// looks at the files of ledger, outbox and dashboard: what is whole, what is lost, how to go on; changes
/// nothing, and works beside their owners, too; exit status 1 when something is damaged
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub(super) struct CheckArgs {
    /// directory whose files to look at [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// go on with what is left of a damaged ledger or dashboard, for ever, and put a damaged outbox aside: what is
    /// behind the damage is not counted any more; nothing is thrown away; not while their owners run
    #[argh(switch)]
    accept_loss: bool,
    /// print one JSON object for each part, each on a line
    #[argh(switch)]
    json: bool,
}

/// Looks, says what was found, and fails when something is damaged.
pub(super) fn run(args: &CheckArgs) -> Result<()> {
    let CheckArgs { data_dir, accept_loss, json } = args;
    let directory = Path::new(data_dir);
    if !directory.is_dir() {
        bail!("there is no data directory {data_dir}; give --data-dir the one of the part");
    }
    let format = OutputFormat::from_switch(*json);
    if *accept_loss {
        accept(directory)?;
    }
    let found = look(directory)?;
    for check in &found {
        match format {
            OutputFormat::Json => print_json(check)?,
            OutputFormat::Text => print(format_args!("{check}"))?,
        }
    }
    if found.is_empty() && !accept_loss {
        bail!("no part has kept anything in {data_dir}; give --data-dir another directory");
    }
    let damaged: Vec<_> =
        found.iter().filter(|check| !check.is_whole()).map(|check| check.part).collect();
    if !damaged.is_empty() {
        bail!("damaged: {}", damaged.join(", "));
    }
    Ok(())
}

/// What is found of each part that a directory has.
pub(super) fn look(directory: &Path) -> Result<Vec<PartCheck>> {
    let found = [ledger::check(directory)?, check_outbox(directory), check_dashboard(directory)];
    Ok(found.into_iter().flatten().collect())
}

/// Goes on with what is left of every part that is damaged, and says what was done.
fn accept(directory: &Path) -> Result<()> {
    let data_dir = DataDir::open(directory)?;
    // Whoever uses a part is in the way; who holds it himself would be looked at as a user.
    for part in look(directory)? {
        drop(data_dir.lock(role(part.part))?);
    }
    let damaged: Vec<_> = look(directory)?.into_iter().filter(|part| !part.is_whole()).collect();
    if damaged.is_empty() {
        match ledger::exists(directory) {
            true => bail!("the ledger is whole: there is no loss to accept"),
            false => {
                bail!("nothing in {} is damaged: there is no loss to accept", directory.display())
            }
        }
    }
    for check in damaged {
        log::warn!("{check}");
        let _lock = data_dir.lock(role(check.part))?;
        let done = match check.part {
            OUTBOX => producer::accept_outbox_loss(directory),
            DASHBOARD => dashboard::accept_loss(directory),
            _ => ledger::accept_loss(directory),
        }?;
        done.iter().try_for_each(|line| print(format_args!("{}: {line}", check.part)))?;
    }
    Ok(())
}

/// What `check` calls an outbox. A dashboard it calls by its role.
const OUTBOX: &str = "outbox";

/// Who writes the files of a part.
fn role(part: &str) -> &'static str {
    match part {
        OUTBOX => PRODUCER,
        DASHBOARD => DASHBOARD,
        _ => PROCESSOR,
    }
}

/// The outbox of `produce`.
fn check_outbox(directory: &Path) -> Option<PartCheck> {
    let user = data_dir::user(directory, PRODUCER);
    let found = match &user {
        Some(_) => producer::read_outbox(directory).map(|found| found.map(|found| (found, None))),
        None => producer::examine_outbox(directory),
    };
    let found = found.map(|found| {
        found.map(|(Attempted { plays, acknowledged, .. }, cut)| {
            let (plays, taken) = (many(plays, "play"), grouped(acknowledged));
            (format!("{plays}, of which nsqd has taken {taken} at least"), cut)
        })
    });
    let way_out = "bring back a backup; or `playcounts check --accept-loss` puts the files aside: plays of it that are in no ledger are not published again then";
    of_sqlite(OUTBOX, &directory.join("outbox.sqlite3"), user, found, way_out)
}

/// The counts and the history of the dashboard.
fn check_dashboard(directory: &Path) -> Option<PartCheck> {
    let user = data_dir::user(directory, DASHBOARD);
    let found = match &user {
        Some(_) => dashboard::read_counts(directory).map(|found| found.map(|found| (found, None))),
        None => dashboard::examine(directory),
    };
    let found = found.map(|found| {
        found.map(|(counts, cut)| {
            let plays: u64 = counts.iter().map(|(_, plays)| plays).sum();
            let (plays, videos) = (many(plays, "play"), many(counts.len() as u64, "video"));
            (format!("{plays} of {videos}"), cut)
        })
    });
    let way_out = "bring back a backup; or `playcounts check --accept-loss` goes on with the rows that are whole; or `playcounts reset` throws it away: processors tell a new one every count again, and the history is lost";
    of_sqlite(DASHBOARD, &directory.join("dashboard.sqlite3"), user, found, way_out)
}

/// What is said of a part: what it holds, and what a start would cut off; or why it cannot be read.
fn of_sqlite(
    part: &'static str,
    file: &Path,
    user: Option<String>,
    found: Result<Option<(String, Option<Cut>)>>,
    when_damaged: &str,
) -> Option<PartCheck> {
    let mut check = PartCheck::new(part);
    let mut said = when_damaged;
    match found {
        Ok(None) => return None,
        Ok(Some((holds, cut))) => {
            check.holds = Some(holds);
            check.notes.extend(cut.map(|cut| format!("the next start says, and goes on: {cut}")));
        }
        Err(error) => {
            check.add_damage(format!("{error:#}"));
            said = way_out(&error, when_damaged);
        }
    }
    match sqlite::quick_check_file(file, PLACES_MAX) {
        Ok(lines) => {
            lines.iter().for_each(|line| check.add_damage(format!("{}: {line}", file.display())))
        }
        // It has been said already: it could not be read.
        Err(error) if check.is_whole() => {
            check.add_damage(format!("{}: {error:#}", file.display()));
            said = way_out(&error, when_damaged);
        }
        Err(_) => {}
    }
    check
        .notes
        .extend(user.map(|user| format!("{user}: what it writes at this moment is not looked at")));
    check.way_out = (!check.is_whole()).then(|| said.to_owned());
    Some(check)
}
