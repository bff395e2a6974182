//! Where the messages of a connection come from, and all that their answers change: the session, its link, and the
//! flow of the whole consumer. Runs on the workers' threads. Answering never waits for the network.

use std::sync::Arc;
use std::time::Duration;

use crate::client::consumer::flow_control::FlowControl;
use crate::client::consumer::link::Link;
use crate::client::consumer::session::{Answer, Answered, Session};
use crate::codec::command::Command;
use crate::codec::message::MessageId;

/// One connection with its surroundings. The batches that came on it share it.
pub(crate) struct Origin {
    pub(crate) session: Arc<Session>,
    pub(crate) link: Arc<Link>,
    pub(crate) flow: Arc<FlowControl>,
    /// Delay of a message whose handler panicked.
    pub(crate) panic_requeue_delay: Duration,
}

/// Which batch of a session a message came in, and when.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    /// Of the session's batches.
    pub(crate) batch: u64,
    /// Of the consumer's backoff.
    pub(crate) epoch: u64,
}

impl Origin {
    /// FIN or REQ for each of `ids`, which came with that stamp; false when the connection is gone.
    pub(crate) fn answer(
        &self,
        stamp: Stamp,
        ids: impl ExactSizeIterator<Item = MessageId> + Clone,
        answer: Answer,
    ) -> bool {
        let count = ids.len() as u64;
        self.flow.leaving(count);
        let answered = Answered { batch: stamp.batch, count, ids: ids.clone(), answer };
        let is_sent = self.session.answer(answered, |out| {
            ids.for_each(|id| match answer {
                Answer::Finish => Command::Fin(id).encode(out),
                Answer::Requeue { delay_ms, .. } => Command::Req(id, delay_ms).encode(out),
            });
        });
        // Behind the answer, or a stop could find nothing held and close the outbox in between. Sequentially
        // consistent, as is the flag that is looked at next: either we see the flag, or its setter sees our count.
        self.link.release(count);
        self.flow.answered(stamp.epoch, answer);
        is_sent
    }

    /// What becomes of a message that is dropped unanswered: only one whose handler panics has failed.
    pub(crate) fn answer_to_dropped(&self) -> Answer {
        if std::thread::panicking() {
            Answer::failed(self.panic_requeue_delay)
        } else {
            Answer::given_back(Duration::ZERO)
        }
    }

    /// TOUCH for each of `ids`.
    pub(crate) fn touch(&self, ids: impl ExactSizeIterator<Item = MessageId>) {
        self.session.touch(ids.len() as u64, |out| {
            ids.for_each(|id| Command::Touch(id).encode(out));
        });
    }
}
