//! What the broker refuses because it has no room, and the sentences that say so (pure).

use nsq_protocol::TopicName;

use super::channel::Channel;
use super::ids::NumberMap;
use super::topic::Topic;

/// Why something was not taken. Behind the text's colon comes what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    #[error("memory limit: {used} of {max} bytes are queued; consume or raise --max-memory")]
    Memory { used: usize, max: usize },
    #[error(
        "queue limit: {depth} of {max} messages wait in {place}; consume or raise --mem-queue-size"
    )]
    Queue { place: String, depth: usize, max: usize },
    #[error("topic limit: there are {0}; delete some or raise --max-topics")]
    Topics(usize),
    #[error("channel limit: there are {0}; delete some or raise --max-channels")]
    Channels(usize),
    /// nsqd's text.
    #[error("failed consumers for {place} exceeds limit of {max}")]
    Consumers { place: String, max: usize },
}

/// Refuses what `--mem-queue-size` leaves no room for.
pub(super) fn check_depths(
    topic: &TopicName,
    state: &Topic,
    channels: &NumberMap<Channel>,
    count: usize,
    max: usize,
) -> Result<(), LimitError> {
    let check = |depth: usize, place: &dyn Fn() -> String| {
        if depth + count <= max {
            Ok(())
        } else {
            Err(LimitError::Queue { place: place(), depth, max })
        }
    };
    if state.channels.is_empty() || state.paused {
        if topic.is_ephemeral() {
            return Ok(());
        }
        return check(state.queue.depth() + state.deferred.len(), &|| format!("topic {topic}"));
    }
    let channels = state.channels.values().filter_map(|key| channels.get(key));
    for channel in channels.filter(|channel| !channel.name.is_ephemeral()) {
        let depth = channel.queue.depth() + channel.deferred.len();
        check(depth, &|| format!("channel {topic}:{}", channel.name))?;
    }
    Ok(())
}
