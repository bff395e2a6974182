//! What consumers say of the messages they hold: FIN, REQ and TOUCH (pure).

use std::time::{Duration, Instant};

use nsq_protocol::MessageId;

use super::channel::defer;
use super::client::subscribed;
use super::cost::settle;
use super::deadlines::Deadline;
use super::ids::ClientId;
use super::in_flight::InFlightError;
use super::queue::Deferred;
use super::state::Core;
use super::wake::update_ready_state;

impl Core {
    /// FINs: the messages are done. Calls `failed` with each that the client did not hold.
    pub(crate) fn finish(
        &mut self,
        id: ClientId,
        mut messages: impl Iterator<Item = MessageId>,
        mut failed: impl FnMut(MessageId, InFlightError),
    ) {
        let Some((subscription, channel)) = subscribed(&mut self.clients, &mut self.channels, id)
        else {
            return messages.for_each(|message| failed(message, InFlightError::NotInFlight));
        };
        let before = channel.cost();
        let in_flight = channel.in_flight.len();
        for message in &mut messages {
            let done = number(message).and_then(|number| channel.in_flight.finish(id, number));
            done.unwrap_or_else(|why| failed(message, why));
        }
        settle(&mut self.cost, before, channel.cost());
        let done = (in_flight - channel.in_flight.len()) as u32;
        subscription.finish_count += u64::from(done);
        subscription.in_flight = subscription.in_flight.saturating_sub(done);
        update_ready_state(id, subscription, channel, &mut self.effects);
    }

    /// REQ: deliver the message again after `delay`.
    pub(crate) fn requeue(
        &mut self,
        id: ClientId,
        message: MessageId,
        delay: Duration,
        now: Instant,
    ) -> Result<(), InFlightError> {
        let (subscription, channel) = subscribed(&mut self.clients, &mut self.channels, id)
            .ok_or(InFlightError::NotInFlight)?;
        let key = subscription.channel;
        let before = channel.cost();
        let run = channel.in_flight.take(id, number(message)?)?;
        channel.requeue_count += 1;
        subscription.requeue_count += 1;
        subscription.in_flight = subscription.in_flight.saturating_sub(1);
        if delay.is_zero() {
            channel.queue.push(run);
        } else {
            let deferred = Deferred { run, due: now + delay };
            defer(&mut self.deadlines, key, channel, deferred);
        }
        settle(&mut self.cost, before, channel.cost());
        update_ready_state(id, subscription, channel, &mut self.effects);
        self.wake_idle(key);
        Ok(())
    }

    /// TOUCH: the message's timeout starts again, up to `max_msg_timeout` after its delivery.
    pub(crate) fn touch(
        &mut self,
        id: ClientId,
        message: MessageId,
        now: Instant,
    ) -> Result<(), InFlightError> {
        let message = number(message)?;
        let timeout =
            self.clients.get(&id).map_or(Duration::ZERO, |client| client.identity.msg_timeout);
        let (subscription, channel) = subscribed(&mut self.clients, &mut self.channels, id)
            .ok_or(InFlightError::NotInFlight)?;
        let before = channel.cost();
        let longest = self.config.max_msg_timeout;
        let touch = |delivered| (now + timeout).min(delivered + longest);
        let at = channel.in_flight.touch(id, message, touch)?;
        settle(&mut self.cost, before, channel.cost());
        self.deadlines.push(Deadline { at, channel: subscription.channel, id: message });
        self.prune();
        Ok(())
    }
}

/// The number of a message. An ID that is no number is none of ours.
fn number(message: MessageId) -> Result<u64, InFlightError> {
    message.to_u64().ok_or(InFlightError::NotInFlight)
}
