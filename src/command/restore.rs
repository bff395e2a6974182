//! `restore`: puts a backup back. Runs on the main thread.
//!
//! A part is copied beside its place, and then gets its name: a kill leaves it whole or not there.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};

use super::backup::{CopiedPart, PARTS};
use super::check;
use crate::command::shared::output::print;
use crate::command::shared::values;
use crate::storage::data_dir::{DataDir, Lock};
use crate::storage::failpoint;
use crate::storage::sqlite_copy::put_in_place;

/// puts ledger, outbox and dashboard back from a backup, after a look at all of it; what is there already is
/// never replaced
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "restore", help_triggers("-h", "--help", "help"))]
pub(super) struct RestoreArgs {
    /// the directory that `backup` has made
    #[argh(option)]
    from: String,
    /// directory to put the parts in; it may have others [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
}

/// Looks at the backup, puts its parts back, and says what each holds.
pub(super) fn run(args: &RestoreArgs) -> Result<()> {
    let RestoreArgs { from, data_dir } = args;
    let source = Path::new(from);
    if !source.is_dir() {
        bail!(
            "{from} is not a directory that `backup` has made; a dashboard's single file goes into an empty data directory as dashboard.sqlite3"
        );
    }
    let found = check::look(source)?;
    if let Some(damaged) = found.iter().find(|part| !part.is_whole()) {
        bail!(
            "{from} was not restored: its {} is damaged: {}",
            damaged.part,
            damaged.damage.join("; ").replace('\n', " ")
        );
    }
    let parts: Vec<&CopiedPart> = PARTS
        .iter()
        .filter(|part| found.iter().any(|found| found.part == part.name && found.holds.is_some()))
        .collect();
    if parts.is_empty() {
        bail!(
            "{from} holds neither ledger nor outbox nor dashboard; give --from another directory"
        );
    }
    let directory = DataDir::open(data_dir)?;
    let locks = parts.iter().map(|part| lock(&directory, part)).collect::<Result<Vec<Lock>>>()?;
    let copies = parts.iter().map(|part| copy(source, directory.path(), part));
    let copies = copies.collect::<Result<Vec<PathBuf>>>()?;
    for (part, copy) in parts.iter().zip(&copies) {
        failpoint::hit("restore-before-place");
        put_in_place(&copy.join(part.file), &directory.path().join(part.file))?;
        fs::remove_dir(copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    drop(locks);
    found.iter().try_for_each(|part| {
        let holds = part.holds.as_deref().unwrap_or("nothing");
        print(format_args!("{}: put back in {data_dir}: {holds}", part.part))
    })
}

/// Takes a part's place, which must be free.
fn lock(directory: &DataDir, part: &CopiedPart) -> Result<Lock> {
    let lock = directory.lock(part.role)?;
    let CopiedPart { name, file, journal, .. } = part;
    let taken = ["", "-wal", "-journal"].map(|end| format!("{file}{end}"));
    let taken = taken.into_iter().chain([(*journal).to_owned()]);
    let mut taken = taken.map(|name| directory.path().join(name));
    // A WAL or a journal that is left would be taken for the copy's.
    if let Some(path) = taken.find(|path| path.symlink_metadata().is_ok()) {
        bail!(
            "{} is in the way of the {name} of the backup; give --data-dir another directory, or move it aside",
            path.display()
        );
    }
    Ok(lock)
}

/// Copies a part beside its place, into a directory of its own; which.
fn copy(from: &Path, to: &Path, part: &CopiedPart) -> Result<PathBuf> {
    let beside = to.join(format!(".restore-{}", part.name));
    // What a kill has left; whoever makes it holds the part's lock.
    if beside.is_dir() {
        fs::remove_dir_all(&beside)
            .with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    let made = DirBuilder::new().mode(0o700).create(&beside).map_err(anyhow::Error::from);
    let copied = made.and_then(|()| (part.copy)(from, &beside.join(part.file)));
    if !matches!(copied, Ok(Some(()))) {
        // It is ours, and no copy.
        let _ = fs::remove_dir_all(&beside);
    }
    copied?.with_context(|| format!("the {} has vanished from {}", part.name, from.display()))?;
    Ok(beside)
}
