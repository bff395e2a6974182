//! Finds work that hangs. A thread that does work which must come to an end says when it begins; the thread `watchdog`
//! tells the service manager that the process lives for as long as none of that work takes far too long.
//!
//! Nothing that waits for somebody else is such work: for an nsqd, a dashboard, a database that is away, a browser.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use parking_lot::Mutex;

use super::notify;

/// The work of this process, whatever parts run in it: the service manager ends all of it or nothing.
static OF_PROCESS: WorkList = WorkList(Mutex::new(Vec::new()));

/// Work of one kind that must come to an end. One thread at a time does it.
#[derive(Debug)]
pub(crate) struct Work {
    name: &'static str,
    begun: Mutex<Option<Instant>>,
}

/// The work is being done; dropped, it has come to its end.
#[derive(Debug)]
#[must_use = "dropped at once, it watches nothing"]
pub(crate) struct WorkBegun<'a>(&'a Work);

impl Work {
    /// Work that the watchdog of this process looks at for as long as it is kept. `name` ends the sentence
    /// `This hangs: …`.
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        OF_PROCESS.work(name)
    }

    /// It begins now.
    pub(crate) fn begin(&self) -> WorkBegun<'_> {
        *self.begun.lock() = Some(Instant::now());
        WorkBegun(self)
    }
}

impl Drop for WorkBegun<'_> {
    fn drop(&mut self) {
        *self.0.begun.lock() = None;
    }
}

/// Work that is looked at. One entry for each kind of a part that runs: a handful.
#[derive(Debug, Default)]
struct WorkList(Mutex<Vec<Weak<Work>>>);

impl WorkList {
    fn work(&self, name: &'static str) -> Arc<Work> {
        let work = Arc::new(Work { name, begun: Mutex::new(None) });
        let mut all = self.0.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&work));
        work
    }

    /// What has been going on for `limit` and longer.
    fn hangs(&self, limit: Duration) -> Option<&'static str> {
        let all = self.0.lock();
        all.iter().filter_map(Weak::upgrade).find_map(|work| {
            let hangs = work.begun.lock().is_some_and(|begun| begun.elapsed() >= limit);
            hangs.then_some(work.name)
        })
    }
}

/// Starts the thread that tells the service manager that this process lives; `None` where it does not want to hear it.
///
/// # Errors
/// The operating system refuses the thread.
pub(crate) fn start() -> io::Result<Option<Crew<()>>> {
    let Some(limit) = notify::watchdog_limit() else { return Ok(None) };
    let (source, stop) = stop_pair();
    let mut crew = Crew::stopped_by(source);
    crew.spawn("watchdog", move || watch(&OF_PROCESS, limit, &stop))?;
    Ok(Some(crew))
}

/// Says so four times in each `limit`, until stopped. What takes half of it hangs: it is ended after a limit to two.
fn watch(works: &WorkList, limit: Duration, stop: &StopToken) {
    let mut hung = None;
    loop {
        let hangs = works.hangs(limit / 2);
        match hangs {
            None => notify::alive(),
            Some(what) if hung != hangs => {
                log::error!(
                    "This hangs: {what}. The service manager ends this process unless that ends by itself"
                );
            }
            Some(_) => {}
        }
        hung = hangs;
        if stop.wait(limit / 4) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_hangs_that_does_not_come_to_its_end() {
        let works = WorkList::default();
        let (one, other) = (works.work("one"), works.work("other"));
        assert_eq!(works.hangs(Duration::ZERO), None);
        drop(one.begin());
        let begun = other.begin();
        assert_eq!(works.hangs(Duration::from_secs(3600)), None);
        assert_eq!(works.hangs(Duration::ZERO), Some("other"));
        drop(begun);
        assert_eq!(works.hangs(Duration::ZERO), None);
        let _begun = one.begin();
        drop(other);
        assert_eq!(works.hangs(Duration::ZERO), Some("one"));
    }

    /// What is gone with its part is not looked at any more.
    #[test]
    fn work_goes_with_who_keeps_it() {
        let works = WorkList::default();
        drop(works.work("gone"));
        let _kept = works.work("kept");
        assert_eq!(works.0.lock().len(), 1);
    }
}
