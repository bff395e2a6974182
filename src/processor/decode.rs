//! A worker thread: takes batches of messages, decodes the plays and has them committed.

use std::time::Instant;

use nsq_protocol::{Batch, Batches};

use super::commit::{Committer, Decoded};
use super::notes::BodyNotes;
use crate::ledger::{Arrivals, ArrivedPlay, DeadLetter, MessageKey};
use crate::model::play::{PlayDecoder, Rejection};
use crate::model::time_window::TimeWindow;
use crate::runtime::clock::unix_ns;
use crate::storage::failpoint;

/// Works until the consumer has stopped. Times of plays are believed within the window.
pub(super) fn run(batches: &Batches, committer: &Committer, window: TimeWindow) {
    while let Some(batch) = batches.recv() {
        let received_at = Instant::now();
        failpoint::hit("worker-after-receive");
        let (arrivals, notes) = decode(&batch, window);
        committer.note(notes);
        committer.put(Decoded { batch, arrivals, received_at });
    }
}

fn decode(batch: &Batch, window: TimeWindow) -> (Arrivals, BodyNotes) {
    let mut arrivals = Arrivals { plays: Vec::with_capacity(batch.len()), rejected: Vec::new() };
    let (mut decoder, mut notes) = (PlayDecoder::default(), BodyNotes::default());
    // One for all: a batch is decoded in less than a millisecond.
    let now_ns = unix_ns();
    for message in batch.iter() {
        let key = MessageKey::new(message.id, message.timestamp_ns);
        let decoded = match message.is_whole() {
            true => decoder.decode(message.body),
            false => Err(Rejection::too_large(message.full_len())),
        };
        match decoded {
            Ok(play) => {
                let times = window.times(play.enqueued_at_ns, message.timestamp_ns, now_ns);
                notes.add(&times);
                arrivals.plays.push(ArrivedPlay {
                    play,
                    message: key,
                    attempts: message.attempts,
                    played_at_ns: times.played_at_ns,
                    waited_from_ns: times.waited_from_ns,
                });
            }
            Err(reason) => {
                log::info!("a message body is not a play: {reason}");
                arrivals.rejected.push(DeadLetter {
                    nsqd: batch.nsqd().to_owned(),
                    message: key,
                    reason,
                    size: message.full_len(),
                    body: message.body.to_owned(),
                });
            }
        }
    }
    notes.ignored = decoder.into_ignored();
    (arrivals, notes)
}
