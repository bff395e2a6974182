//! What is logged, by any crate of this process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::timing::DEADLINE;

/// Lines of the log that contain a text, each with its level in front: kept from [`Logged::watch`] until it is dropped.
pub(crate) struct Logged {
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    text: String,
    lines: Mutex<Vec<String>>,
    came: Condvar,
}

static WATCHED: Mutex<Vec<Arc<Seen>>> = Mutex::new(Vec::new());

struct Log;

/// A test that failed under the lock has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        for seen in lock(&WATCHED).iter().filter(|seen| line.contains(&seen.text)) {
            lock(&seen.lines).push(line.clone());
            seen.came.notify_all();
        }
    }

    fn flush(&self) {}
}

impl Logged {
    pub(crate) fn watch(text: &str) -> Self {
        // Another test of this process may have been first.
        if log::set_logger(&Log).is_ok() {
            // Not `Trace`: formatting every read of ureq makes other tests of this process too slow.
            log::set_max_level(log::LevelFilter::Debug);
        }
        let seen = Arc::new(Seen { text: text.to_owned(), ..Seen::default() });
        lock(&WATCHED).push(seen.clone());
        Self { seen }
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.seen.lines).clone()
    }

    /// The first line, which is waited for.
    #[track_caller]
    pub(crate) fn first(&self) -> String {
        let lines = lock(&self.seen.lines);
        let (lines, _) =
            self.seen.came.wait_timeout_while(lines, DEADLINE, |lines| lines.is_empty()).unwrap();
        lines.first().unwrap_or_else(|| panic!("no line with {:?}", self.seen.text)).clone()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        lock(&WATCHED).retain(|seen| !Arc::ptr_eq(seen, &self.seen));
    }
}
