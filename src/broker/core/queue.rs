//! What waits: runs in their order, and messages whose time has not come (pure).

use std::collections::VecDeque;
use std::time::Instant;

use super::batch::MessageRun;

/// What one run costs in a queue: 32 bytes, doubled when the queue has just grown.
const RUN_OVERHEAD: usize = 64;

/// An empty queue or map with more room than this gives it back.
const KEEP_ROOM: usize = 4096;

/// Runs that wait, first in, first out.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    runs: VecDeque<MessageRun>,
    depth: usize,
}

impl RunQueue {
    pub(super) fn push(&mut self, run: MessageRun) {
        self.depth += run.left as usize;
        self.runs.push_back(run);
    }

    /// How many messages.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// The first run; never an empty one.
    pub(super) fn front(&mut self) -> Option<&mut MessageRun> {
        self.runs.front_mut()
    }

    /// Takes out the last run.
    pub(super) fn take_back(&mut self) -> Option<MessageRun> {
        let run = self.runs.pop_back()?;
        self.depth -= run.left as usize;
        Some(run)
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &MessageRun> {
        self.runs.iter()
    }

    /// Says that `count` messages were taken from the first run.
    pub(super) fn taken(&mut self, count: usize) {
        self.depth -= count;
        if self.runs.front().is_some_and(|run| run.left == 0) {
            self.runs.pop_front();
            if self.runs.is_empty() && self.runs.capacity() > KEEP_ROOM {
                self.runs = VecDeque::new();
            }
        }
    }

    pub(super) fn cost(&self) -> usize {
        self.runs.len() * RUN_OVERHEAD
    }
}

/// A message whose time has not come.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) run: MessageRun,
    pub(super) due: Instant,
}
