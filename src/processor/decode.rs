//! A worker thread: takes batches of messages, decodes the plays and has them committed.

use std::time::Instant;

use nsq_protocol::{Batch, Batches};

use super::commit::{Committer, Decoded};
use crate::ledger::{Arrivals, DeadLetter, MessageKey};
use crate::model::play::{PlayDecoder, Rejection};
use crate::storage::failpoint;

/// Works until the consumer has stopped.
pub(super) fn run(batches: &Batches, committer: &Committer) {
    while let Some(batch) = batches.recv() {
        let received_at = Instant::now();
        failpoint::hit("worker-after-receive");
        let arrivals = decode(&batch);
        committer.put(Decoded { batch, arrivals, received_at });
    }
}

fn decode(batch: &Batch) -> Arrivals {
    let mut arrivals = Arrivals { plays: Vec::with_capacity(batch.len()), rejected: Vec::new() };
    let mut decoder = PlayDecoder::default();
    for message in batch.iter() {
        let key = MessageKey::new(message.id, message.timestamp_ns);
        let decoded = match message.is_whole() {
            true => decoder.decode(message.body),
            false => Err(Rejection::too_large(message.full_len())),
        };
        match decoded {
            Ok(play) => arrivals.plays.push((play, key)),
            Err(reason) => {
                log::info!("a message body is no play: {reason}");
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
    arrivals
}
