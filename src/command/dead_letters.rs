//! `dead-letters`: lists the bodies that were no play. Runs on the main thread.

use std::path::Path;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::output::{OutputFormat, note, print_report};
use crate::command::shared::values;
use crate::ledger::{self, DEAD_LETTERS_MAX};
use crate::model::words::many;

/// lists the bodies that were no play, which a processor keeps in its ledger: the newest 10000
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dead-letters", help_triggers("-h", "--help", "help"))]
pub(super) struct DeadLettersArgs {
    /// directory of the ledger [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// print each with its body as one JSON object a line: "body" as text, or "body_base64"
    #[argh(switch)]
    json: bool,
}

/// Prints each as it is read, so that memory holds one.
pub(super) fn run(args: &DeadLettersArgs) -> Result<()> {
    let DeadLettersArgs { data_dir, json } = args;
    let format = OutputFormat::from_switch(*json);
    let mut kept = 0_u64;
    let found = ledger::dead_letters(Path::new(data_dir), |letter| {
        kept += 1;
        print_report(format, &letter)
    })?;
    if !found {
        bail!("no processor has kept a ledger in {data_dir}; give --data-dir the one of `process`");
    }
    note(format_args!("{}; the newest {DEAD_LETTERS_MAX} are kept", many(kept, "dead letter")));
    Ok(())
}
