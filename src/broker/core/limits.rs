//! What the broker refuses because it has no room, and the sentences that say so (pure).

/// Why something was not taken. Behind the text's colon comes what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    #[error("memory limit: {used} of {max} bytes are queued; consume or raise --max-memory")]
    Memory { used: usize, max: usize },
    /// What the broker keeps.
    #[error("disk limit: {used} of {max} bytes are taken; consume or raise --max-disk")]
    DiskLimit { used: u64, max: u64 },
    /// The topic was deleted at this moment.
    #[error("the topic is being deleted; try again")]
    Gone,
    /// The system's reason.
    #[error("cannot be kept: {0}")]
    Disk(String),
    #[error("topic limit: there are {0}; delete some or raise --max-topics")]
    Topics(usize),
    #[error("channel limit: there are {0}; delete some or raise --max-channels")]
    Channels(usize),
    /// nsqd's text.
    #[error("failed consumers for {place} exceeds limit of {max}")]
    Consumers { place: String, max: usize },
}
