//! `backup`: copies what the parts keep in a data directory. Runs on the main thread.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::output::print;
use crate::command::shared::values;
use crate::storage::data_dir::{DASHBOARD, PROCESSOR, PRODUCER};
use crate::storage::directory;
use crate::{dashboard, ledger, producer};

/// Who may look into a backup: its owner.
const DIRECTORY_MODE: u32 = 0o700;

/// The end of the name of one that is a file, of the dashboard alone.
const FILE_END: &str = ".sqlite3";

/// writes a copy of ledger, outbox and dashboard to a new directory, also while they run: what is there is
/// whole, and `restore` puts it back; an --output that ends in .sqlite3 is a file with the dashboard alone
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "backup", help_triggers("-h", "--help", "help"))]
pub(super) struct BackupArgs {
    /// the directory to make, or the file; it must not exist
    #[argh(option)]
    output: String,
    /// directory of the parts to copy [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
}

/// What can be copied of a data directory.
pub(super) struct CopiedPart {
    /// What `check` calls it.
    pub(super) name: &'static str,
    /// Whose lock is held by who writes it.
    pub(super) role: &'static str,
    /// Its file there, and in a backup.
    pub(super) file: &'static str,
    /// Its journal there. A backup has none.
    pub(super) journal: &'static str,
    /// Copies what is in a directory to a new file; `None`: there is none.
    pub(super) copy: fn(&Path, &Path) -> Result<Option<()>>,
}

/// In the order in which they are copied: an outbox has forgotten no play that the ledger does not have then, and the
/// dashboard knows of none.
pub(super) const PARTS: [CopiedPart; 3] = [
    CopiedPart {
        name: "outbox",
        role: PRODUCER,
        file: "outbox.sqlite3",
        journal: "outbox.journal",
        copy: producer::copy_outbox,
    },
    CopiedPart {
        name: "dashboard",
        role: DASHBOARD,
        file: "dashboard.sqlite3",
        journal: "dashboard.journal",
        copy: dashboard::backup,
    },
    CopiedPart {
        name: "ledger",
        role: PROCESSOR,
        file: "ledger.sqlite3",
        journal: "ledger.journal",
        copy: ledger::copy,
    },
];

/// Copies, and says what and where to.
pub(super) fn run(args: &BackupArgs) -> Result<()> {
    let BackupArgs { output, data_dir } = args;
    let (from, to) = (Path::new(data_dir), Path::new(output));
    if output.ends_with(FILE_END) {
        if dashboard::backup(from, to)?.is_none() {
            bail!("no dashboard has kept counts in {data_dir}; give --data-dir another directory");
        }
        return print(format_args!("wrote {output}"));
    }
    DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .create(to)
        .with_context(|| format!("cannot make {output}, which must not exist yet"))?;
    let copied = copy_parts(from, to);
    if copied.as_ref().map_or(true, Vec::is_empty) {
        // It is ours, and no backup.
        let _ = fs::remove_dir_all(to);
    }
    let copied = copied?;
    if copied.is_empty() {
        bail!("no part has kept anything in {data_dir}; give --data-dir another directory");
    }
    copied.iter().try_for_each(|part| print(format_args!("wrote {}", to.join(part.file).display())))
}

/// Copies every part that there is; which.
fn copy_parts(from: &Path, to: &Path) -> Result<Vec<&'static CopiedPart>> {
    let mut copied = Vec::new();
    for part in &PARTS {
        if (part.copy)(from, &to.join(part.file))?.is_some() {
            copied.push(part);
        }
    }
    directory::sync(to)?;
    Ok(copied)
}
