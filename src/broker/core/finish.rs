//! What consumers say of the messages they hold: FIN, REQ and TOUCH (pure).

use std::time::{Duration, Instant};

use nsq_protocol::MessageId;

use super::channel::{Channel, defer};
use super::client::subscribed;
use super::cost::settle;
use super::deadlines::Deadline;
use super::ids::ClientId;
use super::in_flight::InFlightError;
use super::latency::Latencies;
use super::queue::Deferred;
use super::state::Core;
use super::wake::update_ready_state;

impl Core {
    /// FINs: the messages are done, at `timestamp_ns` since the Unix epoch. Calls `failed` with each that the client did not
    /// hold.
    pub(crate) fn finish(
        &mut self,
        id: ClientId,
        timestamp_ns: i64,
        mut messages: impl Iterator<Item = MessageId>,
        mut failed: impl FnMut(MessageId, InFlightError),
    ) {
        let Some((subscription, channel)) = subscribed(&mut self.clients, &mut self.channels, id)
        else {
            return messages.for_each(|message| failed(message, InFlightError::NotInFlight));
        };
        let before = channel.cost();
        let in_flight = channel.in_flight.len();
        let is_measured = !self.config.e2e_processing_latency_percentiles.is_empty();
        for message in &mut messages {
            let done = number(message).and_then(|number| {
                channel.in_flight.finish(id, number)?;
                if let Some(backlog) = &mut channel.backlog {
                    backlog.finished(number);
                }
                if is_measured {
                    let window = self.config.e2e_processing_latency_window_time;
                    channel.measure(number, window, timestamp_ns);
                }
                Ok(())
            });
            done.unwrap_or_else(|why| failed(message, why));
        }
        settle(&mut self.cost, before, channel.cost());
        let done = (in_flight - channel.in_flight.len()) as u32;
        subscription.finish_count += u64::from(done);
        subscription.in_flight = subscription.in_flight.saturating_sub(done);
        update_ready_state(id, subscription, channel, &mut self.effects);
        let key = subscription.channel;
        self.changed(key);
        self.want_load(key);
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
        self.changed(key);
        self.wake_idle(key);
        self.want_load(key);
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

impl Channel {
    /// The message of that number is done at `now`. Its number is the time of its publication, give or
    /// take its place in an MPUB.
    pub(super) fn measure(&mut self, number: u64, window: Duration, now: i64) {
        let new = || Box::new(Latencies::new(window, now));
        let published = i64::try_from(number).unwrap_or(i64::MAX);
        self.latencies.get_or_insert_with(new).record(published, now);
    }
}

/// The number of a message. An ID that is no number is none of ours.
fn number(message: MessageId) -> Result<u64, InFlightError> {
    message.to_u64().ok_or(InFlightError::NotInFlight)
}
