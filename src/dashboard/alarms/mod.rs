//! Alarms: findings of the diagnosis that have lasted, each with a name and since when.
//!
//! The diagnosis says what is so at this moment; an alarm begins when a finding has lasted for some seconds, and ends when it has
//! been gone for some. So there is one truth, and a moment's trouble wakes nobody. Once a second the thread `dash-sampler` has
//! [`Alarms::look_at_disk`] and [`Alarms::remember`] note what is to be known of the past, and gives all findings to
//! [`Alarms::observe`], which returns what has begun and ended since: whoever tells others of it is called there. What holds
//! now is [`Alarms::current`].

mod list;
mod progress;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::nsqds::{Finding, Severity};
use crate::model::unix_time::UnixMs;
use crate::nsqd::depth::QueueDepth;
use crate::wire::Consumption;
use list::AlarmList;
pub(super) use list::{Alarm, AlarmChanges};
use progress::PastProgress;

/// Less room than this on the disk of the dashboard's directory is an alarm, in bytes: its journal, a checkpoint of some 100,000
/// changed videos and a copy for a backup still fit, and there is time to make room.
const DISK_LOW: u64 = 256 * 1024 * 1024;

/// The alarms of a dashboard.
pub(super) struct Alarms {
    list: Mutex<AlarmList>,
    progress: Mutex<PastProgress>,
    data_dir: PathBuf,
    /// Bytes left on its disk at the last look; `None`: nobody can tell.
    room: Mutex<Option<u64>>,
}

impl Alarms {
    /// Of a dashboard that keeps its files in that directory. `idle_alert`: after so long without a counted play there is an
    /// alarm even if nothing waits.
    pub(super) fn new(data_dir: &Path, idle_alert: Option<Duration>) -> Self {
        Self {
            list: Mutex::default(),
            progress: Mutex::new(PastProgress::new(idle_alert, Instant::now())),
            data_dir: data_dir.to_owned(),
            room: Mutex::new(None),
        }
    }

    /// What holds now, the worst first, at most [`list::SHOWN_MAX`].
    pub(super) fn current(&self) -> Vec<Alarm> {
        self.list.lock().current()
    }

    /// Notes how much room the disk has. It may take long where the disk does: no lock is held that calls need.
    pub(super) fn look_at_disk(&self) {
        let room = free_bytes(&self.data_dir);
        *self.room.lock() = room;
    }

    /// Notes what each known processor said last, and where the messages are.
    pub(super) fn remember<'a>(
        &self,
        processors: impl Iterator<Item = (&'a Uuid, &'a Consumption)>,
        queue: Option<QueueDepth>,
        now: Instant,
    ) {
        self.progress.lock().observe(processors, queue, now);
    }

    /// What the past tells: that nothing is counted, that plays are rejected, that the disk fills.
    pub(super) fn past(&self, now: Instant) -> Vec<Finding> {
        let mut found = self.progress.lock().findings(now);
        found.extend(self.room.lock().and_then(disk_low));
        found
    }

    /// Takes all that is found `now`, which is `at` by the clock; returns which alarms have begun and ended since the last time.
    pub(super) fn observe(&self, found: &[Finding], now: Instant, at: UnixMs) -> AlarmChanges {
        self.list.lock().observe(found, now, at)
    }
}

/// Bytes that are left on the disk of `directory`; `None` where the system does not say.
fn free_bytes(directory: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(directory).ok()?;
    told.f_bavail.checked_mul(told.f_frsize)
}

/// That so little room is left, if it is little.
fn disk_low(bytes: u64) -> Option<Finding> {
    (bytes < DISK_LOW).then(|| Finding {
        code: "disk-low",
        severity: Severity::Warning,
        text: format!("The disk of the dashboard's directory has only {} MB left.", bytes / 1_000_000),
        way_out: "Make room, or move --data-dir to a larger disk. Without room counts cannot be stored; then processors wait.",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_and_a_disk_tells_its_room() {
        assert_eq!(disk_low(DISK_LOW), None);
        let told = disk_low(99_999_999).unwrap();
        assert_eq!(
            (told.code, &*told.text),
            ("disk-low", "The disk of the dashboard's directory has only 99 MB left.")
        );
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/no such place")), None);
    }
}
