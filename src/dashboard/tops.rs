//! The newest lists of the most played videos, kept as long as finding them again would cost too much. Runs on the threads
//! of the calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::answer::CallError;
use super::store::{Period, Scale, Store, Top};

/// How long a list is good at least: a page asks every few seconds.
const FRESH: Duration = Duration::from_secs(2);

/// And how many times as long as it took to find: at most a tenth of a core goes into these lists.
const FRESH_FACTOR: u32 = 10;

/// How long a call waits for another one's list, with one of the server's workers.
const WAIT: Duration = Duration::from_secs(2);

/// Lists that are kept.
const KEPT: usize = 16;

/// Which list: the scale and period it is summed from, and its rows.
type Key = (Scale, Period, usize);

/// The newest lists.
#[derive(Default)]
pub(super) struct Tops {
    known: Mutex<Vec<(Key, Arc<Top>, Instant)>>,
    // One is found at a time.
    finding: Mutex<()>,
}

impl Tops {
    fn known(&self, key: &Key, now: Instant) -> Option<Arc<Top>> {
        let known = self.known.lock();
        let (_, top, _) = known.iter().find(|(other, _, until)| other == key && now < *until)?;
        Some(Arc::clone(top))
    }

    /// Forgets what is kept: titles have changed, or which videos are shown.
    pub(super) fn forget(&self) {
        self.known.lock().clear();
    }

    /// The list of that scale, period and number of rows; found if it is not known.
    ///
    /// # Errors
    /// Another list takes long, or the store cannot be read.
    pub(super) fn get(&self, store: &Store, key: Key) -> Result<Arc<Top>, CallError> {
        if let Some(top) = self.known(&key, Instant::now()) {
            return Ok(top);
        }
        let busy = || CallError::unavailable("another top list is being found; ask again");
        let _finding = self.finding.try_lock_for(WAIT).ok_or_else(busy)?;
        let began = Instant::now();
        // Perhaps it was this one.
        if let Some(top) = self.known(&key, began) {
            return Ok(top);
        }
        let (scale, period, limit) = key;
        let found = store.top(scale, period, limit);
        let top = Arc::new(found.map_err(|error| CallError::unreadable(&error))?);
        let until = Instant::now() + (began.elapsed() * FRESH_FACTOR).max(FRESH);
        let mut known = self.known.lock();
        known.retain(|(other, _, until)| *other != key && began < *until);
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push((key, Arc::clone(&top), until));
        Ok(top)
    }
}
