//! What a producer has published, or was about to (pure).

use uuid::Uuid;

/// What a producer has attempted, as its outbox tells.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// The producer.
    pub producer: Uuid,
    /// Its plays: those with a number below.
    pub plays: u64,
    /// Of them, nsqd has acknowledged those with a number below, at least.
    pub acknowledged: u64,
    /// Plays of each video.
    pub counts: Vec<(Uuid, u64)>,
}
