//! What the threads that write are asked to do, and how they answer.

use std::sync::Arc;

use crossbeam_channel::Sender;
use uuid::Uuid;

use super::actions::LoggedAction;
use super::points::MinutePoint;
use crate::model::video_id::VideoId;
use crate::wire::{
    ConfirmedUpdate, CorrectionChange, CountsUpdate, ImportUpdate, LedgerClaim, VideoTexts,
    VisibilityChange,
};

/// One thing to commit to the journal.
pub(super) enum Job {
    /// Merge a processor's counts.
    Counts(Box<CountsUpdate>),
    /// Merge what a processor has counted of producers' plays.
    Confirmed(ConfirmedUpdate),
    /// Compare a processor's ledger with what is known of it.
    Claim(ClaimJob),
    /// Change the catalog.
    Catalog(CatalogWrite),
    /// Forget every count and processor.
    Clear,
    /// Commit a frame that changes nothing: is the journal well again?
    Probe,
}

/// A change of the catalog, as it is asked for.
pub(crate) enum CatalogWrite {
    /// Set what videos are known by.
    Texts(Vec<(VideoId, VideoTexts)>),
    /// Show a video, or do not.
    Visibility(VideoId, VisibilityChange),
    /// Correct a video's counts.
    Correction(VideoId, CorrectionChange),
    /// Take counts of an older program.
    Import(ImportUpdate),
    /// Take an import back.
    TakeBack(Uuid),
}

/// A ledger to compare.
pub(super) struct ClaimJob {
    /// What the processor says.
    pub(super) claim: LedgerClaim,
    /// Has room for one: what is known of it, where that is more than it holds and nothing was done.
    pub(super) refused: Sender<u64>,
}

/// One thing to write to the tables, where nobody waits but its caller.
pub(super) enum Task {
    /// Keep a minute of the charts.
    Point(MinutePoint),
    /// Add a line to the action log.
    Action(LoggedAction),
    /// Write without changing anything, and checkpoint if that has failed: are the tables well again?
    Probe,
    /// Write a whole checkpoint.
    #[cfg(test)]
    Checkpoint,
    /// Say so, and do nothing else until the other end is gone.
    #[cfg(test)]
    Hold(Sender<()>, crossbeam_channel::Receiver<nsq_protocol::thread::Never>),
}

/// What came of a task: done, or why not.
pub(crate) type Reply = Result<(), Arc<str>>;

/// Why a job was not done.
#[derive(PartialEq, Clone, Debug)]
pub(crate) enum NotStored {
    /// The counts do not fit to those that are there: the same again is refused again.
    Refused(Arc<str>),
    /// It could not be written, or not in time.
    Failed(Arc<str>),
}

impl From<&str> for NotStored {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.into())
    }
}

impl From<NotStored> for Arc<str> {
    fn from(not_stored: NotStored) -> Self {
        match not_stored {
            NotStored::Refused(reason) | NotStored::Failed(reason) => reason,
        }
    }
}

/// What came of a job: which database has it, or why none.
pub(crate) type Stored = Result<Uuid, NotStored>;

/// A job, and where its caller waits.
pub(super) type Posted = (Job, Sender<Stored>);

/// A task, and where its caller waits.
pub(super) type PostedTask = (Task, Sender<Reply>);
