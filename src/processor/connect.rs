//! How a processor comes to its channel: not beside another one, and not before an nsqd is there. Runs on the thread that
//! starts it; a second look, a moment later, on the thread `neighbours`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded, never};
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use nsq_protocol::{Consumer, ConsumerConfig};
use uuid::Uuid;

use crate::nsqd::neighbours::Neighbours;
use crate::nsqd::waiting::{NotThere, StartWait};

/// How long after it is connected it looks again: longer than the two seconds in which nsqd's whole seconds cannot tell
/// who came first, so that of two that start together each sees the other.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// A processor that has yet to be connected.
pub(super) struct Connecting {
    /// Which ledger it counts in, as others on the channel are told.
    pub(super) on_channel: Uuid,
    pub(super) consumer: ConsumerConfig,
    pub(super) wait: StartWait,
    pub(super) neighbours: Option<Neighbours>,
}

impl Connecting {
    /// Connects, once an nsqd is there; tells `waiting` why it is not, each time.
    pub(super) fn connect(
        &mut self,
        waiting: impl FnMut(&str) -> Result<()>,
    ) -> Result<Arc<Consumer>> {
        let (consumer, look) = self.wait.until_there(
            || {
                // Each time anew: while this one waited another may have come.
                let look = self.neighbours.as_ref().map(Neighbours::look);
                let refused = look.as_ref().map(|look| look.refuse_others(Some(&self.on_channel)));
                refused.unwrap_or(Ok(())).map_err(NotThere::AtAll)?;
                Ok((Consumer::start(self.consumer.clone())?, look))
            },
            waiting,
        )?;
        look.iter().for_each(|look| look.warn());
        Ok(Arc::new(consumer))
    }

    /// Looks once more, on a thread of its own, whether another processor has come meanwhile; the reason to make way for it
    /// comes on the channel.
    pub(super) fn look_again(self) -> Result<(Option<Crew<()>>, Receiver<Error>)> {
        let Self { on_channel, neighbours: Some(neighbours), .. } = self else {
            return Ok((None, never()));
        };
        let (yielded_tx, yielded) = bounded(1);
        let (source, stop) = stop_pair();
        // The channel stays open when the thread has nothing to say: its end would look like a reason.
        let open = yielded_tx.clone();
        let mut crew = Crew::new(move || drop((source, open)));
        crew.spawn("neighbours", move || look_later(&neighbours, &on_channel, &stop, &yielded_tx))?;
        Ok((Some(crew), yielded))
    }
}

fn look_later(
    neighbours: &Neighbours,
    on_channel: &Uuid,
    stop: &StopToken,
    yielded: &Sender<Error>,
) {
    if !stop.wait(LOOK_AGAIN)
        && let Some(reason) = neighbours.look().must_yield(on_channel)
    {
        // Full: never, there is one look.
        let _ = yielded.try_send(reason);
    }
}
