//! `backup`: copies the dashboard's database. Runs on the main thread.

use std::path::Path;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::output::print;
use crate::command::shared::values::{self, LogLevel};
use crate::dashboard;

/// writes a copy of the dashboard's database to a new file, also while the dashboard runs; to restore it, put it in an
/// empty data directory as dashboard.sqlite3
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "backup", help_triggers("-h", "--help", "help"))]
pub(super) struct BackupArgs {
    /// the file to write; it must not exist
    #[argh(option)]
    output: String,
    /// directory of the counts [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub(super) log_level: LogLevel,
}

/// Copies, and says where to.
pub(super) fn run(args: &BackupArgs) -> Result<()> {
    let BackupArgs { output, data_dir, .. } = args;
    if !dashboard::backup(Path::new(data_dir), Path::new(output))? {
        bail!("no dashboard has kept counts in {data_dir}; give --data-dir another directory");
    }
    print(format_args!("wrote {output}"))
}
