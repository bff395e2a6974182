//! What the writer is asked to do, and how it answers.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::actions::LoggedAction;
use super::points::MinutePoint;
use crate::wire::{ConfirmedUpdate, CountsUpdate};

/// One thing to commit.
pub(super) enum Job {
    /// Merge a processor's counts.
    Counts(CountsUpdate),
    /// Merge what a processor has counted of producers' plays.
    Confirmed(ConfirmedUpdate),
    /// Keep a minute of the charts.
    Point(MinutePoint),
    /// Add a line to the action log.
    Action(LoggedAction),
    /// Forget every count and processor.
    Clear,
    /// Write without changing anything, and checkpoint if that has failed: is the store well again?
    Probe,
}

/// What came of it: committed, or why not.
pub(crate) type Reply = Result<(), Arc<str>>;

/// A job, and where its caller waits.
pub(super) type Posted = (Job, Sender<Reply>);
