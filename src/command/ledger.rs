//! `ledger`: makes a shared ledger, tells what is in it, and takes a ledger in files over. Runs on the main thread.

use std::path::Path;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::ledger_choice::LedgerChoice;
use crate::command::shared::output::{OutputFormat, print, print_json, print_report};
use crate::command::shared::values;
use crate::ledger::{
    ImportConfig, Imported, LedgerConfig, MessageBudget, SharedSchema, import_files, init_shared,
    shared_status,
};
use crate::model::words::{grouped, many, of_number};
use crate::postgres::PgConfig;
use crate::storage::data_dir::{DataDir, PROCESSOR};

/// makes a shared ledger in PostgreSQL, tells what is in it, or takes a ledger in files over
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "ledger", help_triggers("-h", "--help", "help"))]
pub(super) struct LedgerArgs {
    #[argh(subcommand)]
    /// what to do
    command: LedgerCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum LedgerCommand {
    Init(InitArgs),
    Status(StatusArgs),
    Import(ImportArgs),
}

/// makes the tables of a shared ledger, or says that they are there; `process` does so, too
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "init", help_triggers("-h", "--help", "help"))]
struct InitArgs {
    /// the database, as postgres://user@host:port/database; others see a password in it in ps, but not PGPASSWORD or
    /// PGPASSFILE
    #[argh(option)]
    ledger: String,
}

/// tells the processors of a shared ledger with their leases, what waits to be swept or told, and the sizes of its tables
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help", "help"))]
struct StatusArgs {
    /// the database, as postgres://user@host:port/database; others see a password in it in ps, but not PGPASSWORD or
    /// PGPASSFILE
    #[argh(option)]
    ledger: String,
    /// print all of it as one JSON object
    #[argh(switch)]
    json: bool,
}

/// takes a ledger in files, whose processor does not run, over into a shared one, as one processor of it, which counts on
/// with this --data-dir; the files get other names
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "import", help_triggers("-h", "--help", "help"))]
struct ImportArgs {
    /// the database, as postgres://user@host:port/database; others see a password in it in ps, but not PGPASSWORD or
    /// PGPASSFILE
    #[argh(option)]
    ledger: String,
    /// directory of the ledger in files [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// take a ledger in files that was made on another machine, whose processor will never run again
    #[argh(switch)]
    adopt_ledger: bool,
    /// print what was taken over as one JSON object
    #[argh(switch)]
    json: bool,
}

/// Does it, and says what was done.
pub(super) fn run(args: &LedgerArgs) -> Result<()> {
    match &args.command {
        LedgerCommand::Init(args) => init(args),
        LedgerCommand::Status(args) => status(args),
        LedgerCommand::Import(args) => import(args),
    }
}

fn init(args: &InitArgs) -> Result<()> {
    let SharedSchema { life, was_made } = init_shared(&database(&args.ledger)?)?;
    match was_made {
        true => print(format_args!("made the shared ledger {life}")),
        false => print(format_args!("the shared ledger {life} is there; nothing was changed")),
    }
}

fn status(args: &StatusArgs) -> Result<()> {
    let status = shared_status(&database(&args.ledger)?)?;
    print_report(OutputFormat::from_switch(args.json), &status)
}

fn import(args: &ImportArgs) -> Result<()> {
    let ImportArgs { ledger, data_dir, adopt_ledger, json } = args;
    let database = database(ledger)?;
    if !Path::new(data_dir).is_dir() {
        bail!("there is no data directory {data_dir}; give --data-dir the one of `process`");
    }
    let opened = DataDir::open(data_dir)?;
    let _lock = opened.lock(PROCESSOR)?;
    let files = LedgerConfig {
        directory: opened.path().to_owned(),
        simulation: false,
        adopt: *adopt_ledger,
        message_budget: MessageBudget::default(),
    };
    let imported = import_files(&ImportConfig { database, files })?;
    if *json {
        return print_json(&imported);
    }
    let Imported { processor, ledger, plays, videos, producers, messages, dead_letters, .. } =
        &imported;
    if imported.was_written {
        print(format_args!("an earlier try had written it all"))?;
    }
    print(format_args!(
        "took over {} of {}, {}, {} and {} into the shared ledger {ledger}, as processor {processor}; `playcounts process` \
         goes on with this --ledger and --data-dir",
        many(*plays, "play"),
        many(*videos, "video"),
        many(*producers, "producer"),
        many(*messages, "message"),
        many(*dead_letters, "dead letter")
    ))?;
    if imported.counted_twice > 0 {
        let twice = imported.counted_twice;
        print(format_args!(
            "{} of the plays {} in the shared ledger, too: counted twice",
            grouped(twice),
            of_number(twice, "was", "were")
        ))?;
    }
    if imported.undated > 0 {
        let undated = imported.undated;
        print(format_args!(
            "{} of an older version {} no time: the shared ledger would count what nsqd delivers again once more",
            many(undated, "message"),
            of_number(undated, "tells", "tell")
        ))?;
    }
    imported.aside.iter().try_for_each(|file| print(format_args!("the old ledger is {file} now")))
}

/// The database that `--ledger` names.
fn database(ledger: &str) -> Result<PgConfig> {
    match LedgerChoice::parse(ledger)? {
        LedgerChoice::Postgres(config) => Ok(config),
        LedgerChoice::Files => {
            bail!("--ledger must be the URL of a database, postgres://user@host:port/database")
        }
    }
}
