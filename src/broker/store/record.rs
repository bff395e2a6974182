//! What a frame of a topic's log says (pure). Numbers are varints but for the sizes of bodies.
//!
//! ```text
//! 1 | first ID | timestamp, ns, zigzag | due, ms, 0: at once | count | size, u32 big-endian | body | size | body …
//! 2 | name | flags | tail | waiting from | waiting | n | n × (segment, first ID) | n | n × (name, channel) | n | n × straggler
//! 3 | name | channel
//!     straggler: ID | timestamp | size, varint | body
//!     channel: flags | below | until | depth | n | n × (gap, count, attempts × 2 + done, due)
//! ```
//!
//! 1 is a PUB or an MPUB; 2 all of the topic, and 3 one of its channels, as it was when the frame was written.

use nsq_protocol::{ChannelName, TopicName};

use crate::broker::core::{Exception, SavedChannel, SavedStraggler, SavedTopic};
use crate::model::varint::{put, take, unzigzag, zigzag};

const MESSAGES: u8 = 1;
const TOPIC: u8 = 2;
const CHANNEL: u8 = 3;

/// Bytes that the head of messages takes at most.
#[cfg(test)]
pub(super) const MESSAGES_HEAD: usize = 1 + 10 + 10 + 10 + 5;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicRecord<'a> {
    Messages(Messages<'a>),
    /// With the segments that are kept, the oldest first: number and the ID of the first message in it.
    Topic(SavedTopic, Vec<(u64, u64)>),
    Channel(ChannelName, SavedChannel),
}

/// What a PUB or an MPUB has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Messages<'a> {
    pub(super) first: u64,
    pub(super) timestamp_ns: i64,
    /// In milliseconds since the Unix epoch; 0: at once.
    pub(super) due_ms: u64,
    /// At least 1.
    pub(super) count: u32,
    /// As they lie in memory: each behind its size.
    pub(super) bodies: &'a [u8],
}

impl Messages<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(MESSAGES);
        put(out, self.first);
        put(out, zigzag(self.timestamp_ns));
        put(out, self.due_ms);
        put(out, self.count.into());
        out.extend_from_slice(self.bodies);
    }

    /// Whether the bodies are as many as is said, and fill what is there.
    pub(super) fn is_whole(&self) -> bool {
        let mut rest = self.bodies;
        for _ in 0..self.count {
            let Some((size, behind)) = rest.split_first_chunk::<4>() else { return false };
            let Some(behind) = behind.get(u32::from_be_bytes(*size) as usize..) else {
                return false;
            };
            rest = behind;
        }
        self.count > 0 && rest.is_empty()
    }
}

/// Appends what is to be known of a topic.
pub(super) fn encode_topic(topic: &SavedTopic, segments: &[(u64, u64)], out: &mut Vec<u8>) {
    out.push(TOPIC);
    put_text(out, topic.name.as_str());
    put(out, u64::from(topic.is_paused) | u64::from(topic.has_ephemeral) << 1);
    for number in [topic.tail, topic.waiting_from, topic.waiting, segments.len() as u64] {
        put(out, number);
    }
    for (segment, first) in segments {
        put(out, *segment);
        put(out, *first);
    }
    put(out, topic.channels.len() as u64);
    for (name, channel) in &topic.channels {
        put_text(out, name.as_str());
        put_channel(out, channel);
    }
    put(out, topic.stragglers.len() as u64);
    for SavedStraggler { id, timestamp_ns, body } in &topic.stragglers {
        put(out, *id);
        put(out, zigzag(*timestamp_ns));
        put_bytes(out, body);
    }
}

/// Appends what is to be known of a channel.
pub(super) fn encode_channel(name: &ChannelName, channel: &SavedChannel, out: &mut Vec<u8>) {
    out.push(CHANNEL);
    put_text(out, name.as_str());
    put_channel(out, channel);
}

impl<'a> TopicRecord<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decode(payload: &'a [u8]) -> Result<Self, String> {
        Self::decode_some(payload).ok_or_else(|| "it is no record of a topic's log".into())
    }

    fn decode_some(payload: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = payload.split_first()?;
        let rest = &mut rest;
        let record = match *kind {
            MESSAGES => {
                let (first, timestamp) = (take(rest)?, take(rest)?);
                let (due_ms, count) = (take(rest)?, take(rest)?);
                let count = u32::try_from(count).ok()?;
                // So that no sum of IDs is beyond what they have.
                first.checked_add(count.into())?;
                let timestamp_ns = unzigzag(timestamp);
                let bodies = std::mem::take(rest);
                Self::Messages(Messages { first, timestamp_ns, due_ms, count, bodies })
            }
            TOPIC => {
                let (topic, segments) = take_topic(rest)?;
                Self::Topic(topic, segments)
            }
            CHANNEL => {
                let name = ChannelName::new(take_text(rest)?).ok()?;
                Self::Channel(name, take_channel(rest)?)
            }
            _ => return None,
        };
        rest.is_empty().then_some(record)
    }
}

fn take_topic(rest: &mut &[u8]) -> Option<(SavedTopic, Vec<(u64, u64)>)> {
    let name = TopicName::new(take_text(rest)?).ok()?;
    let flags = take(rest)?;
    let (tail, waiting_from, waiting) = (take(rest)?, take(rest)?, take(rest)?);
    let mut segments = Vec::new();
    for _ in 0..take(rest)? {
        segments.push((take(rest)?, take(rest)?));
    }
    let mut channels = Vec::new();
    for _ in 0..take(rest)? {
        channels.push((ChannelName::new(take_text(rest)?).ok()?, take_channel(rest)?));
    }
    let mut stragglers = Vec::new();
    // The first logs ended here.
    let count = if rest.is_empty() { 0 } else { take(rest)? };
    for _ in 0..count {
        let (id, timestamp_ns) = (take(rest)?, unzigzag(take(rest)?));
        id.checked_add(1)?;
        stragglers.push(SavedStraggler { id, timestamp_ns, body: take_bytes(rest)?.to_vec() });
    }
    let topic = SavedTopic {
        name,
        is_paused: flags & 1 != 0,
        has_ephemeral: flags & 2 != 0,
        tail,
        waiting_from,
        waiting,
        channels,
        stragglers,
    };
    Some((topic, segments))
}

fn put_channel(out: &mut Vec<u8>, channel: &SavedChannel) {
    let SavedChannel { is_paused, below, until, depth, exceptions } = channel;
    put(out, u64::from(*is_paused));
    for number in [*below, *until, *depth, exceptions.len() as u64] {
        put(out, number);
    }
    let mut last = 0;
    for exception in exceptions {
        put(out, exception.first.wrapping_sub(last));
        put(out, exception.count);
        put(out, u64::from(exception.attempts) << 1 | u64::from(exception.is_done));
        put(out, exception.due_ms);
        last = exception.first;
    }
}

fn take_channel(rest: &mut &[u8]) -> Option<SavedChannel> {
    let is_paused = take(rest)? != 0;
    let (below, until, depth) = (take(rest)?, take(rest)?, take(rest)?);
    let mut exceptions = Vec::new();
    let mut last = 0u64;
    for _ in 0..take(rest)? {
        let first = last.checked_add(take(rest)?)?;
        let (count, told, due_ms) = (take(rest)?, take(rest)?, take(rest)?);
        first.checked_add(count)?;
        let attempts = u16::try_from(told >> 1).ok()?;
        exceptions.push(Exception { first, count, attempts, due_ms, is_done: told & 1 != 0 });
        last = first;
    }
    Some(SavedChannel { is_paused, below, until, depth, exceptions })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).ok()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take(rest)?).ok()?;
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn channel() -> impl Strategy<Value = SavedChannel> {
        let exception = (1..1000u64, 1..100u64, any::<u16>(), 0..3u64, any::<bool>());
        (any::<bool>(), any::<[u64; 3]>(), vec(exception, 0..20)).prop_map(
            |(is_paused, [below, until, depth], gaps)| {
                let mut first = 0;
                let exceptions = gaps.into_iter().map(|(gap, count, attempts, due_ms, is_done)| {
                    first += gap;
                    Exception { first, count, attempts, due_ms, is_done }
                });
                SavedChannel { is_paused, below, until, depth, exceptions: exceptions.collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            first in 0..u64::MAX / 2, timestamp_ns in any::<i64>(), due_ms in any::<u64>(), count in 1..9u32,
            channels in vec(channel(), 0..4), numbers in any::<[u64; 3]>(), flags in any::<[bool; 2]>(),
            segments in vec(any::<(u64, u64)>(), 0..9),
            stragglers in vec((0..u64::MAX, any::<i64>(), vec(any::<u8>(), 0..50)), 0..4),
        ) {
            let mut bodies = Vec::new();
            for nth in 0..count {
                bodies.extend_from_slice(&nth.to_be_bytes());
                bodies.extend(std::iter::repeat_n(b'x', nth as usize));
            }
            let messages = Messages { first, timestamp_ns, due_ms, count, bodies: &bodies };
            let mut out = Vec::new();
            messages.encode(&mut out);
            prop_assert!(out.len() <= MESSAGES_HEAD + bodies.len() && messages.is_whole());
            prop_assert_eq!(TopicRecord::decode(&out), Ok(TopicRecord::Messages(messages)));
            let cut = Messages { bodies: &bodies[..bodies.len() - 1], ..messages };
            prop_assert!(!cut.is_whole());

            let name = |nth| ChannelName::new(&format!("channel-{nth}")).unwrap();
            for (nth, channel) in channels.iter().enumerate() {
                let mut out = Vec::new();
                encode_channel(&name(nth), channel, &mut out);
                prop_assert_eq!(TopicRecord::decode(&out), Ok(TopicRecord::Channel(name(nth), channel.clone())));
            }
            let [tail, waiting_from, waiting] = numbers;
            let channels = channels.into_iter().enumerate().map(|(nth, channel)| (name(nth), channel)).collect();
            let topic = SavedTopic {
                name: TopicName::new("plays.of-a_site").unwrap(),
                is_paused: flags[0], has_ephemeral: flags[1], tail, waiting_from, waiting, channels,
                stragglers: stragglers.into_iter()
                    .map(|(id, timestamp_ns, body)| SavedStraggler { id, timestamp_ns, body }).collect(),
            };
            // The first logs ended here.
            let mut first_logs = Vec::new();
            let without = SavedTopic { stragglers: Vec::new(), ..topic.clone() };
            encode_topic(&without, &segments, &mut first_logs);
            first_logs.pop();
            prop_assert_eq!(TopicRecord::decode(&first_logs), Ok(TopicRecord::Topic(without, segments.clone())));
            let mut out = Vec::new();
            encode_topic(&topic, &segments, &mut out);
            prop_assert_eq!(TopicRecord::decode(&out), Ok(TopicRecord::Topic(topic, segments)));
            for cut in (0..out.len()).filter(|cut| *cut != first_logs.len()) {
                prop_assert!(TopicRecord::decode(&out[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(kind in 0..5u8, mut bytes in vec(any::<u8>(), 0..200)) {
            bytes.insert(0, kind);
            if let Ok(TopicRecord::Messages(messages)) = TopicRecord::decode(&bytes) {
                messages.is_whole();
            }
        }
    }
}
