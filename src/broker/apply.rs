//! Carries out what a connection's commands ask for: in the core, and before that in the logs of topics on disk.
//!
//! Without topics on disk all of it is done under one lock of the core. With them what is published goes to the topic's log
//! first, and nobody holds the core meanwhile.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nsq_protocol::{ChannelName, ErrorCode, Frame, OK, TopicName};

use super::core::{ClientId, Core, Effects, LimitError, Missing, NewBatch};
use super::hub::{Hub, timestamp_ns};
use super::session::{CheckedCommand, Publish, Session, refuse};
use super::store::{LogBatch, LogTime, TopicLog, changes};

/// What [`Session::apply`] does, and what is to be done outside before the answers are sent.
pub(super) fn apply(
    hub: &Hub,
    session: &Session,
    requests: &mut Vec<CheckedCommand>,
    now: Instant,
    out: &mut Vec<u8>,
) -> (ControlFlow<()>, Effects) {
    match hub.logs() {
        None => apply_in_core(hub, session, requests, now, out),
        Some(_) => apply_with_logs(hub, session, requests, now, out),
    }
}

fn apply_in_core(
    hub: &Hub,
    session: &Session,
    requests: &mut Vec<CheckedCommand>,
    now: Instant,
    out: &mut Vec<u8>,
) -> (ControlFlow<()>, Effects) {
    hub.locked(|core| session.apply(requests, core, now, timestamp_ns(), out))
}

/// Never inlined: a broker without logs has no stack for it, in any of its thousands of readers.
#[inline(never)]
fn apply_with_logs(
    hub: &Hub,
    session: &Session,
    requests: &mut Vec<CheckedCommand>,
    now: Instant,
    out: &mut Vec<u8>,
) -> (ControlFlow<()>, Effects) {
    let in_core = |requests: &mut Vec<CheckedCommand>, out: &mut Vec<u8>| {
        apply_in_core(hub, session, requests, now, out)
    };
    let mut all = Effects::default();
    let mut plain = Vec::new();
    let mut requests = requests.drain(..).peekable();
    while let Some(request) = requests.next() {
        let failed = match request {
            CheckedCommand::Publish(first) if hub.logs_for(&first.topic).is_some() => {
                let (flow, effects) = in_core(&mut plain, out);
                all.absorb(effects);
                if flow.is_break() {
                    return (flow, all);
                }
                // A producer that does not wait for each answer: one write for all.
                let next = || match requests.next_if(|next| is_for(next, &first.topic)) {
                    Some(CheckedCommand::Publish(next)) => Some(*next),
                    _ => None,
                };
                let others: Vec<Publish> = std::iter::from_fn(next).collect();
                match publish_all(hub, session, *first, others, out) {
                    Ok(mut effects) => {
                        // Others wait for it, and the rest may take long. Its own messages come behind its answers.
                        let wakes_itself = effects.take_wake(session.id());
                        hub.carry_out(effects);
                        all.wake.extend(wakes_itself.then_some(session.id()));
                        None
                    }
                    Err(why) => Some(why),
                }
            }
            CheckedCommand::Subscribe(names) => {
                let made = hub.make_channel(&names.0, &names.1);
                plain.push(CheckedCommand::Subscribe(names));
                made.err().map(|why| (ErrorCode::SubFailed, format!("SUB {why}")))
            }
            other => {
                plain.push(other);
                None
            }
        };
        if let Some((code, text)) = failed {
            // Those before it are carried out, it is not.
            plain.retain(|request| !matches!(request, CheckedCommand::Subscribe(_)));
            let (_, effects) = in_core(&mut plain, out);
            all.absorb(effects);
            refuse(out, code, text);
            return (ControlFlow::Break(()), all);
        }
    }
    let (flow, effects) = in_core(&mut plain, out);
    all.absorb(effects);
    (flow, all)
}

fn is_for(request: &CheckedCommand, topic: &TopicName) -> bool {
    matches!(request, CheckedCommand::Publish(publish) if publish.topic == *topic)
}

/// Publishes to one topic, and appends an OK for each. What that entails outside is done before they are sent.
fn publish_all(
    hub: &Hub,
    session: &Session,
    first: Publish,
    others: Vec<Publish>,
    out: &mut Vec<u8>,
) -> Result<Effects, (ErrorCode, String)> {
    let Publish { topic, batch, delay, name, code } = first;
    let publisher = Some(session.id());
    let batches: Vec<LogBatch> = std::iter::once(LogBatch { publisher, batch, delay })
        .chain(others.into_iter().map(|one| {
            let Publish { batch, delay, .. } = one;
            LogBatch { publisher, batch, delay }
        }))
        .collect();
    let count = batches.len();
    let kept = hub.keep_messages(&topic, batches);
    let effects = kept.map_err(|why| (code, format!("{name} {why}")))?;
    (0..count).for_each(|_| Frame::Response(OK).encode(out));
    Ok(effects)
}

impl Hub {
    /// Publishes a batch by HTTP.
    ///
    /// # Errors
    /// There is no room for it, or it cannot be kept.
    pub(super) fn publish(
        &self,
        topic: &TopicName,
        batch: NewBatch,
        delay: Duration,
    ) -> Result<(), LimitError> {
        if self.logs_for(topic).is_some() {
            let batches = vec![LogBatch { publisher: None, batch, delay }];
            self.carry_out(self.keep_messages(topic, batches)?);
            return Ok(());
        }
        self.with_core(|core| {
            core.publish(None, topic, batch, delay, Instant::now(), timestamp_ns())
        })
    }

    /// Writes batches to the topic's log, and hands them to its channels; maybe those of others, too.
    fn keep_messages(
        &self,
        topic: &TopicName,
        batches: Vec<LogBatch>,
    ) -> Result<Effects, LimitError> {
        let time = || LogTime { now: Instant::now(), unix_ns: timestamp_ns() };
        let Some(log) = self.log_of(topic)? else { return Err(LimitError::Gone) };
        let mut all = Effects::default();
        let done = log.publish(batches, time, |kept, is_due| {
            let publish_all = |core: &mut Core| {
                kept.into_iter().for_each(|one| core.publish_kept(topic, one));
                if is_due {
                    core.keep_soon(topic);
                }
            };
            all.absorb(self.locked(publish_all).1);
        });
        match done {
            Ok(()) => Ok(all),
            Err(why) => {
                self.carry_out(all);
                Err(why)
            }
        }
    }

    /// The log of a topic, made if it is missing; `None`: it has none.
    fn log_of(&self, topic: &TopicName) -> Result<Option<std::sync::Arc<TopicLog>>, LimitError> {
        let Some(logs) = self.logs_for(topic) else { return Ok(None) };
        if let Some(log) = logs.get(topic) {
            return Ok(Some(log));
        }
        let log = logs.get_or_make(topic, || self.with_core(|core| core.create_topic(topic)))?;
        log.change(|| (), || changes(self, &log, true)).1?;
        Ok(Some(log))
    }

    /// Makes a topic unless it is there.
    ///
    /// # Errors
    /// There are too many, or it cannot be kept.
    pub(super) fn make_topic(&self, topic: &TopicName) -> Result<(), LimitError> {
        match self.log_of(topic)? {
            Some(_) => Ok(()),
            None => self.with_core(|core| core.create_topic(topic)),
        }
    }

    /// Makes a channel, and its topic, unless they are there.
    ///
    /// # Errors
    /// There are too many, or it cannot be kept.
    pub(super) fn make_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<(), LimitError> {
        self.make_topic(topic)?;
        if self.with_core(|core| core.has_channel(topic, channel)) {
            return Ok(());
        }
        let made = self.change(topic, |core| core.create_channel(topic, channel, Instant::now()));
        if made.is_err() && channel.is_ephemeral() {
            // Nobody's going would ever delete it, and messages would not wait for the topic's first channel.
            self.with_core(|core| core.delete_unread(topic, channel));
        }
        made?.map(drop)
    }

    /// Changes something of a topic, and keeps it.
    ///
    /// # Errors
    /// It is changed, and cannot be kept.
    pub(super) fn change<R>(
        &self,
        topic: &TopicName,
        change: impl FnOnce(&mut Core) -> R,
    ) -> Result<R, LimitError> {
        let Some(log) = self.logs_for(topic).and_then(|logs| logs.get(topic)) else {
            return Ok(self.with_core(change));
        };
        let (done, kept) = log.change(|| self.with_core(change), || changes(self, &log, true));
        kept.map(|()| done)
    }

    /// A connection is gone. With it an ephemeral channel may go, and what is published next may wait for another one: that is kept
    /// at once.
    pub(super) fn disconnect(&self, id: ClientId) {
        let topic = self.with_core(|core| {
            let topic = core.ephemeral_channel_of(id);
            if topic.is_none() {
                core.disconnect(id);
            }
            topic
        });
        // What is wrong with the disk is told by its usage.
        let _ = topic.map(|topic| self.change(&topic, |core| core.disconnect(id)));
    }

    /// Deletes a topic with all that is kept of it.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub(super) fn delete_topic(
        &self,
        topic: &TopicName,
    ) -> Result<Result<(), Missing>, LimitError> {
        let delete = || self.with_core(|core| core.delete_topic(topic));
        match self.logs_for(topic) {
            Some(logs) => logs.delete(topic, delete),
            None => Ok(delete()),
        }
    }
}
