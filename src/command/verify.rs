//! `verify`: checks the last run from its files. Runs on the main thread.

use std::path::Path;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::output::{OutputFormat, print, print_json};
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::values;

/// checks the last run from its files: all messages consumed, the processor's and the dashboard's counts
/// correct
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "verify", help_triggers("-h", "--help", "help"))]
pub(super) struct VerifyArgs {
    /// directory of the run's files [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// print the result as one JSON object, as the last line
    #[argh(switch)]
    json: bool,
}

/// Checks, prints each check, and fails when one does not hold.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let VerifyArgs { data_dir, json } = args;
    if !Path::new(data_dir).is_dir() {
        bail!("there is no data directory {data_dir}; give --data-dir the one of the run");
    }
    let verification = RunFiles::new(data_dir).verify()?;
    match OutputFormat::from_switch(*json) {
        OutputFormat::Json => print_json(&verification)?,
        OutputFormat::Text => {
            verification.checks.iter().try_for_each(|check| print(format_args!("{check}")))?;
        }
    }
    if let Some(check) = verification.first_failure() {
        bail!("the last run does not add up: {check}");
    }
    Ok(())
}
