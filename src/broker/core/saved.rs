//! What is kept of a topic besides its messages, so that a start goes on where the last one ended (pure).
//!
//! Message IDs of a topic only grow, in the order of its log. So of a channel there is to say: up to where its messages
//! were all handed out once, and which of those are not done; and of those behind, which went ahead of the others. What is not
//! done for long is there with its body, so that the log need not go back that far.

use nsq_protocol::{ChannelName, TopicName};

/// Messages one behind the other that are not where a start would take them to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// The ID of the first. Where it is no message's, it is the next one that is meant.
    pub(crate) first: u64,
    /// How many IDs, at least 1.
    pub(crate) count: u64,
    /// Deliveries so far.
    pub(crate) attempts: u16,
    /// When they are to be delivered, in milliseconds since the Unix epoch; 0: at once.
    pub(crate) due_ms: u64,
    /// They are finished, or the topic was emptied of them. Else they are to be delivered.
    pub(crate) is_done: bool,
}

/// How far the consumers of a channel are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedChannel {
    /// Nobody gets anything.
    pub(crate) is_paused: bool,
    /// Messages with a lower ID were handed out once, and are finished but for the exceptions.
    pub(crate) below: u64,
    /// Messages from this ID on are not the channel's, or not yet.
    pub(crate) until: u64,
    /// Messages that are not finished.
    pub(crate) depth: u64,
    /// By their IDs, none twice.
    pub(crate) exceptions: Vec<Exception>,
}

impl SavedChannel {
    /// The lowest ID that may be needed again, but for messages that are elsewhere, too.
    pub(crate) fn oldest(&self, is_elsewhere: impl Fn(u64) -> bool) -> u64 {
        let live = self.exceptions.iter().filter(|exception| !exception.is_done);
        let mut ids = live.flat_map(|exception| exception.first..exception.first + exception.count);
        ids.find(|id| !is_elsewhere(*id)).map_or(self.below, |id| id.min(self.below))
    }

    /// Takes out the message with that ID; `None`: it is finished, or was not handed out yet.
    pub(super) fn take_left(&mut self, id: u64) -> Option<Exception> {
        let behind = self.exceptions.partition_point(|exception| exception.first <= id);
        let at = behind.checked_sub(1)?;
        let found = self.exceptions[at];
        let end = found.first + found.count;
        if id >= end || found.is_done {
            return None;
        }
        let before = Exception { count: id - found.first, ..found };
        let after = Exception { first: id + 1, count: end - id - 1, ..found };
        let rest = [before, after].into_iter().filter(|part| part.count > 0);
        self.exceptions.splice(at..=at, rest);
        self.depth = self.depth.saturating_sub(1);
        Some(Exception { first: id, count: 1, ..found })
    }

    /// Tells of at most `max` exceptions, at least 2: some that are finished may come again then.
    pub(crate) fn coarsen(&mut self, max: usize) {
        if self.exceptions.len() <= max {
            return;
        }
        let live = self.exceptions.iter().filter(|exception| !exception.is_done);
        let handed_out: Vec<Exception> =
            live.filter(|exception| exception.first < self.below).copied().collect();
        let each = handed_out.len().div_ceil(max.max(1)).max(1);
        let merge = |group: &[Exception]| {
            let (first, last) = (*group.first()?, group.last()?);
            let end = (last.first + last.count).min(self.below);
            let due_ms = group.iter().map(|exception| exception.due_ms).min()?;
            Some(Exception { count: end - first.first, due_ms, ..first })
        };
        self.exceptions = handed_out.chunks(each).filter_map(merge).collect();
    }
}

/// A topic with its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedTopic {
    pub(crate) name: TopicName,
    /// Messages stay in the topic.
    pub(crate) is_paused: bool,
    /// There are ephemeral channels, which nobody is told of: messages do not wait for the first one.
    pub(crate) has_ephemeral: bool,
    /// The next message's ID is at least this.
    pub(crate) tail: u64,
    /// From which message on they wait in the topic, for its first channel or for the end of a pause.
    pub(crate) waiting_from: u64,
    /// How many wait.
    pub(crate) waiting: u64,
    /// By their names.
    pub(crate) channels: Vec<(ChannelName, SavedChannel)>,
    /// By their IDs.
    pub(crate) stragglers: Vec<SavedStraggler>,
}

/// A message that a channel has not finished, and that need not be in the log any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedStraggler {
    pub(crate) id: u64,
    /// When it was published.
    pub(crate) timestamp_ns: i64,
    pub(crate) body: Vec<u8>,
}

impl SavedTopic {
    /// A topic in which nothing has happened.
    pub(crate) fn new(name: TopicName) -> Self {
        Self {
            name,
            is_paused: false,
            has_ephemeral: false,
            tail: 0,
            waiting_from: 0,
            waiting: 0,
            channels: Vec::new(),
            stragglers: Vec::new(),
        }
    }

    /// Takes over what the log says of a channel.
    pub(crate) fn set_channel(&mut self, name: &ChannelName, channel: SavedChannel) {
        if let Some((_, old)) = self.channels.iter_mut().find(|(found, _)| found == name) {
            *old = channel;
        }
    }

    /// Messages came in.
    pub(crate) fn publish(&mut self, first: u64, count: u64) {
        let has_channels = !self.channels.is_empty() || self.has_ephemeral;
        self.tail = first + count;
        if self.is_paused || !has_channels {
            if self.waiting == 0 {
                self.waiting_from = first;
            }
            self.waiting += count;
            return;
        }
        for (_, channel) in &mut self.channels {
            channel.until = self.tail;
            channel.depth += count;
        }
    }

    /// The lowest ID that somebody may need again.
    #[cfg(test)]
    pub(crate) fn oldest(&self) -> u64 {
        let waiting = if self.waiting > 0 { self.waiting_from } else { self.tail };
        let is_elsewhere = |id| self.stragglers.iter().any(|straggler| straggler.id == id);
        let channels = self.channels.iter().map(|(_, channel)| channel.oldest(is_elsewhere));
        channels.fold(waiting, u64::min)
    }
}
