//! What the thread that writes shares with those who read.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::index::Index;
use super::pending::PendingHistory;

/// The counts in memory, and how the store is. Locks are held for arithmetic, but `pending`.
#[derive(Default)]
pub(super) struct StoreState {
    /// Which database this is: another one after each reset.
    pub(super) id: Mutex<Uuid>,
    /// Every count.
    pub(super) index: RwLock<Index>,
    /// Locked by the writer while it commits what it takes out, and by a reader while its snapshot begins: so that
    /// no play is in both, or in neither.
    pub(super) pending: RwLock<PendingHistory>,
    /// Grows with each commit that changed something.
    pub(super) revision: AtomicU64,
    /// Why the newest transaction failed, until one succeeds.
    pub(super) commit_failure: Mutex<Option<Arc<str>>>,
    /// The same of the newest checkpoint.
    pub(super) checkpoint_failure: Mutex<Option<Arc<str>>>,
}

impl StoreState {
    /// Whether the newest transaction, or the newest checkpoint, failed.
    pub(super) fn has_failed(&self) -> bool {
        self.commit_failure.lock().is_some() || self.checkpoint_failure.lock().is_some()
    }
}
