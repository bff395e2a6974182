//! What a producer has published, or was about to (pure).

use std::ops::Range;

use crate::model::video_id::VideoId;
use uuid::Uuid;

/// What a producer has attempted, as its outbox tells.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// The producer.
    pub producer: Uuid,
    /// Under which ids it went on, each with the number of its first play; in order.
    pub later: Vec<(u64, Uuid)>,
    /// Its plays: those with a number below.
    pub plays: u64,
    /// Of them, nsqd has acknowledged those with a number below, at least.
    pub acknowledged: u64,
    /// Plays of each video.
    pub counts: Vec<(VideoId, u64)>,
}

impl Attempted {
    /// Each of its ids, with the numbers that plays of that id have.
    pub fn ids(&self) -> Vec<(Uuid, Range<u64>)> {
        let first = std::iter::once((0, self.producer));
        let begins: Vec<_> = first.chain(self.later.iter().copied()).collect();
        let ends = begins.iter().skip(1).map(|(first, _)| *first).chain([self.plays]);
        begins.iter().zip(ends).map(|((first, id), end)| (*id, *first..end)).collect()
    }
}
