//! Faults of what lies on disk: an older copy comes back, a directory goes away, a broker moves with its disk.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::parts::Parts;
use crate::schedule::Part;
use crate::{start_again, wait};

/// How long a part may take to notice that its files are gone: a second, and far more.
const NOTICE_LIMIT: Duration = Duration::from_secs(20);

/// Where the files of a part are kept meanwhile.
fn aside(parts: &Parts, part: Part) -> PathBuf {
    parts.directory(part).with_extension("aside")
}

fn backup_of(parts: &Parts, part: Part) -> Result<PathBuf> {
    let backup = parts.directory(part).with_extension("backup");
    if backup.exists() {
        fs::remove_dir_all(&backup)?;
    }
    parts.copy("backup", &parts.directory(part), &backup)?;
    Ok(backup)
}

/// Waits until more is shown than at first, so that a copy from before is older.
fn more_is_counted(parts: &mut Parts) -> Result<()> {
    let before = parts.total();
    wait("more plays are shown", || {
        parts.check_producer()?;
        Ok(before.is_some() && parts.total() > before)
    })
}

/// The dashboard's backup takes the place of what it has: it is told everything again.
pub(crate) fn older_dashboard(parts: &mut Parts) -> Result<Instant> {
    let backup = backup_of(parts, Part::Dashboard(0))?;
    more_is_counted(parts)?;
    parts.kill(Part::Dashboard(0))?;
    fs::remove_dir_all(parts.directory(Part::Dashboard(0)))?;
    parts.copy("restore", &backup, &parts.directory(Part::Dashboard(0)))?;
    start_again(parts, Part::Dashboard(0), None)
}

/// The ledger's backup takes its place: the processor must see that the dashboard knows more, and count nothing. Then the
/// newest ledger comes back.
pub(crate) fn older_ledger(parts: &mut Parts) -> Result<Instant> {
    let backup = backup_of(parts, Part::Processor(0))?;
    more_is_counted(parts)?;
    parts.kill(Part::Processor(0))?;
    let (ledger, newest) = (parts.directory(Part::Processor(0)), aside(parts, Part::Processor(0)));
    fs::rename(&ledger, &newest)?;
    parts.copy("restore", &backup, &ledger)?;
    parts.start(Part::Processor(0), None)?;
    let ended = parts.wait(Part::Processor(0), NOTICE_LIMIT)?;
    let said = parts.last_words(Part::Processor(0));
    if ended.and_then(|status| status.code()) != Some(1) || !said.contains("--accept-loss") {
        bail!("an older ledger is not refused but {ended:?}:\n{said}");
    }
    fs::remove_dir_all(&ledger)?;
    fs::rename(&newest, &ledger)?;
    start_again(parts, Part::Processor(0), None)
}

/// A part's directory gets another name: the part must end, or be red, and what it did meanwhile is in the directory.
pub(crate) fn take_away(parts: &mut Parts, part: Part) -> Result<Instant> {
    let (directory, kept) = (parts.directory(part), aside(parts, part));
    fs::rename(&directory, &kept)?;
    let deadline = Instant::now() + NOTICE_LIMIT;
    let mut ended = None;
    while ended.is_none() && !(part == Part::Dashboard(0) && parts.is_red()) {
        if Instant::now() > deadline {
            bail!("the {} has not noticed:\n{}", part.name(), parts.last_words(part));
        }
        ended = parts.wait(part, Duration::from_millis(50))?;
    }
    // A producer may have been done before.
    if part != Part::Producer && ended.is_some_and(|status| status.success()) {
        bail!("the {} has ended well:\n{}", part.name(), parts.last_words(part));
    }
    parts.kill(part)?;
    if directory.exists() {
        fs::remove_dir_all(&directory).context("what it has made anew")?;
    }
    fs::rename(&kept, &directory)?;
    start_again(parts, part, None)
}

/// The broker stops and comes back with its disk under another address, which processor and producer are told.
pub(crate) fn move_broker(parts: &mut Parts, in_order: bool) -> Result<Instant> {
    if in_order {
        parts.signal(Part::Broker, Signal::TERM)?;
        parts.wait(Part::Broker, NOTICE_LIMIT)?;
    }
    parts.kill(Part::Broker)?;
    parts.move_broker()?;
    let started = start_again(parts, Part::Broker, None)?;
    wait("the broker answers", || Ok(std::net::TcpStream::connect(parts.broker()).is_ok()))?;
    for part in crate::processors(parts).into_iter().chain([Part::Producer]) {
        parts.kill(part)?;
        start_again(parts, part, None)?;
    }
    Ok(started)
}
