//! The newest answers that are sums over long times, kept as long as finding them again would cost too much. Runs on the
//! threads of the calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use super::answer::CallError;

/// How long an answer is good at least: a page asks every few seconds.
const FRESH: Duration = Duration::from_secs(2);

/// And how many times as long as it took to find: at most a tenth of a core goes into such answers.
const FRESH_FACTOR: u32 = 10;

/// How long a call waits for another one's answer, with one of the server's workers.
const WAIT: Duration = Duration::from_secs(2);

/// Answers that are kept.
const KEPT: usize = 16;

/// The newest answers, each by what it answers.
pub(super) struct KeptSums<K, V> {
    known: Mutex<Vec<(K, Arc<V>, Instant)>>,
    // One is found at a time.
    finding: Mutex<()>,
}

impl<K, V> Default for KeptSums<K, V> {
    fn default() -> Self {
        Self { known: Mutex::default(), finding: Mutex::default() }
    }
}

impl<K: PartialEq, V> KeptSums<K, V> {
    fn known(&self, key: &K, now: Instant) -> Option<Arc<V>> {
        let known = self.known.lock();
        let (_, answer, _) = known.iter().find(|(other, _, until)| other == key && now < *until)?;
        Some(Arc::clone(answer))
    }

    /// Forgets what is kept: titles have changed, or which videos are shown.
    pub(super) fn forget(&self) {
        self.known.lock().clear();
    }

    /// The answer to `key`; found if it is not known.
    ///
    /// # Errors
    /// Another one takes long, or the store cannot be read.
    pub(super) fn get(
        &self,
        key: K,
        find: impl FnOnce(&K) -> Result<V>,
    ) -> Result<Arc<V>, CallError> {
        if let Some(answer) = self.known(&key, Instant::now()) {
            return Ok(answer);
        }
        let busy = || CallError::unavailable("another long sum is being found; ask again");
        let _finding = self.finding.try_lock_for(WAIT).ok_or_else(busy)?;
        let began = Instant::now();
        // Perhaps it was this one.
        if let Some(answer) = self.known(&key, began) {
            return Ok(answer);
        }
        let answer = Arc::new(find(&key).map_err(|error| CallError::unreadable(&error))?);
        let until = Instant::now() + (began.elapsed() * FRESH_FACTOR).max(FRESH);
        let mut known = self.known.lock();
        known.retain(|(other, _, until)| *other != key && began < *until);
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push((key, Arc::clone(&answer), until));
        Ok(answer)
    }
}
