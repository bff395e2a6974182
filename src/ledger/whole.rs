//! All that a ledger in files holds, as another ledger takes it over. Runs on the thread of the command `ledger import`.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use uuid::Uuid;

use super::checkpoint::SavedVideo;
use super::counters::Counters;
use super::dead_letters::KeptLetters;
use super::durable::DurableLedger;
use super::ledger_trait::Ledger;
use super::message_key::MessageKey;
use super::owner::LedgerConfig;
use super::producer_rows::each_producer_row;
use super::record::decode_messages;
use super::snapshot::read_with;
use crate::journal::SyncPolicy;

/// What it holds, but its dead letters.
pub(super) struct WholeLedger {
    /// Whose counts these are.
    pub(super) processor: Uuid,
    /// How often it was started.
    pub(super) starts: u64,
    /// By outcome.
    pub(super) counters: Counters,
    /// Every video, by number.
    pub(super) videos: Vec<SavedVideo>,
    /// The counted plays of each producer, as runs that ascend and do not touch.
    pub(super) producers: Vec<(Uuid, Vec<Range<u64>>)>,
    /// Messages that plays without an identity came in, in no order; some may come twice.
    pub(super) messages: Vec<MessageKey>,
}

/// Starts and ends the ledger of a data directory, so that it is looked at, mended and taken over from older versions as at
/// each start, and reads it; of the dead letters one part after the other, because there may be more than memory holds. The caller holds the directory's processor lock.
///
/// # Errors
/// As [`DurableLedger::open`]: there is none, it is a simulation's, of another machine, damaged.
pub(super) fn read_whole(config: &LedgerConfig) -> Result<Option<(WholeLedger, KeptLetters)>> {
    let directory = &config.directory;
    if !super::exists(directory) {
        return Ok(None);
    }
    DurableLedger::open(config, SyncPolicy::Power)?.close()?;
    Ok(read(directory)?.zip(KeptLetters::open(directory)?))
}

fn read(directory: &Path) -> Result<Option<WholeLedger>> {
    read_with(directory, |connection, row, mut loaded| {
        let state = &mut loaded.state;
        let in_memory = state.producers().iter();
        let mut producers: Vec<_> =
            in_memory.map(|(id, set)| (*id, set.runs().collect::<Vec<_>>())).collect();
        each_producer_row(connection, |(id, runs)| {
            // What is in memory has its row, and what the journal says besides.
            if state.producers().get(&id).is_none() {
                producers.push((id, runs));
            }
            Ok(())
        })?;
        let mut messages = Vec::new();
        let mut kept = connection.prepare("SELECT keys FROM messages")?;
        let mut kept = kept.query([])?;
        while let Some(row) = kept.next()? {
            messages.extend(decode_messages(&row.get::<_, Vec<u8>>(0)?)?);
        }
        // What the journal has besides is what a checkpoint would write.
        state.begin_checkpoint();
        while let Some(slice) = state.next_slice(usize::MAX) {
            if let Some(end) = slice.end.filter(|end| !end.messages.is_empty()) {
                messages.extend(decode_messages(&end.messages.encode())?);
            }
        }
        let videos = (0..state.counts.len() as u32).map(|number| state.counts.saved(number));
        Ok(WholeLedger {
            processor: row.processor,
            starts: row.starts,
            counters: state.counts.counters(),
            videos: videos.collect(),
            producers,
            messages,
        })
    })
}
