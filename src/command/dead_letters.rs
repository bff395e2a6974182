//! `dead-letters`: lists the bodies that were no play, or counts what is a play of them now. Runs on the main thread.

mod each;
mod reading;
mod retry;
mod retry_report;

use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;

use self::each::each_letter;
use crate::command::shared::ledger_choice::{FILES, LedgerChoice};
use crate::command::shared::output::{OutputFormat, note, print_report};
use crate::command::shared::values;
use crate::ledger::DEAD_LETTERS_MAX;
use crate::model::words::{grouped, many};

/// lists the bodies that were no play, which a processor keeps in its ledger: the newest 100000; `dead-letters retry` counts
/// what is a play of them now
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dead-letters", help_triggers("-h", "--help", "help"))]
pub(super) struct DeadLettersArgs {
    /// where the counts are kept: files in --data-dir, or postgres://user@host:port/database, which any number of
    /// processors on one channel share; others see a password in it in ps, but not PGPASSWORD or PGPASSFILE
    /// [default: files]
    #[argh(option, default = "FILES.into()")]
    ledger: String,
    /// directory of the ledger [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// print each with its body as one JSON object a line: "body" as text, or "body_base64"
    #[argh(switch)]
    json: bool,
    #[argh(subcommand)]
    command: Option<DeadLettersCommand>,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum DeadLettersCommand {
    Retry(retry::RetryArgs),
}

/// Prints each as it is read, so that memory holds few; or has them looked at again, until `stop`.
pub(super) fn run(args: &DeadLettersArgs, stop: &StopToken) -> Result<()> {
    let DeadLettersArgs { ledger, data_dir, json, command } = args;
    if let Some(DeadLettersCommand::Retry(args)) = command {
        return retry::run(args, stop);
    }
    let format = OutputFormat::from_switch(*json);
    let mut kept = 0_u64;
    each_letter(&LedgerChoice::parse(ledger)?, data_dir, |letter| {
        kept += 1;
        print_report(format, &letter)
    })?;
    let most = grouped(DEAD_LETTERS_MAX.unsigned_abs());
    note(format_args!("{}; the newest {most} are kept", many(kept, "dead letter")));
    Ok(())
}
