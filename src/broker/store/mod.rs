//! Topics on disk, with `--data-path`: a journal for each topic keeps its messages until every channel has finished them.
//!
//! A message is in its topic's log before it is acknowledged. What is finished is told every [`pace::KEEP_EVERY`], not for each
//! message: after a kill what was finished since then is delivered again. What memory has no room for is read back when its
//! turn comes.
//!
//! Threads: `broker-keep` tells how far channels are, syncs, and gives up what nobody needs; `broker-load` reads back.

mod group;
mod keeper;
mod logs;
mod open;
mod pace;
mod read_back;
mod record;
mod sizes;
mod topic_log;
mod usage;

#[cfg(test)]
mod crash_tests;

pub(super) use keeper::{CoreAccess, changes, keep_all, keep_loop, load_loop, moment};
pub(super) use logs::TopicLogs;
pub(super) use topic_log::{LogBatch, LogTime, TopicLog};
