//! `verify`: checks the last run from its files. Runs on the main thread.

use std::path::Path;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::output::{OutputFormat, print, print_json, status};
use crate::command::shared::run_files::RunFiles;
use crate::command::shared::values;

/// checks the last run from its files: all messages consumed, the processor's and the dashboard's counts
/// correct
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "verify", help_triggers("-h", "--help", "help"))]
pub(super) struct VerifyArgs {
    /// directory of the run's files [default: playcounts-run, where a run has left some, else playcounts-data]
    #[argh(option)]
    data_dir: Option<String>,
    /// print the result as one JSON object on one line, and nothing else on stdout
    #[argh(switch)]
    json: bool,
}

/// Checks, prints each check, and fails when one does not hold, or none was made.
pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let data_dir = args.data_dir.as_deref().unwrap_or_else(|| last_run());
    if !Path::new(data_dir).is_dir() {
        bail!(
            "nothing to verify: there is no data directory {data_dir}; give --data-dir the one of the run"
        );
    }
    status("verify", format_args!("checks what the last run has left in {data_dir}"));
    let verification = RunFiles::new(data_dir).verify()?;
    match OutputFormat::from_switch(args.json) {
        OutputFormat::Json => print_json(&verification)?,
        OutputFormat::Text => {
            verification.checks.iter().try_for_each(|check| print(format_args!("{check}")))?;
        }
    }
    if let Some(check) = verification.first_failure() {
        bail!("the last run does not add up: {check}");
    }
    match (verification.passed(), verification.checks.len()) {
        (0, _) => bail!(
            "nothing to verify: no run has left its files in {data_dir}; give --data-dir the one of the run"
        ),
        (passed, all) if passed < all => {
            status("verify", format_args!("{passed} of {all} checks were made, and they hold"));
        }
        _ => {}
    }
    Ok(())
}

/// Where the last run was: that of `run`, if it has left something, else the parts'.
fn last_run() -> &'static str {
    let has_files = |dir: &&str| RunFiles::new(*dir).exist();
    [values::RUN_DIR, values::DATA_DIR].into_iter().find(has_files).unwrap_or(values::RUN_DIR)
}
