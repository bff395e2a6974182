//! What tells a message from all others, for plays without an identity (pure).

use nsq_protocol::MessageId;

use crate::model::play::SitePlayId;

/// A message, wherever it is delivered from: its ID and when it was published. nsqd keeps both in a redelivery, a requeue
/// and a restart, under whatever address it comes back; two nsqds that use one ID did not publish in the same ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    id: MessageId,
    /// `UNDATED`, or in ns since the Unix epoch.
    timestamp_ns: i64,
}

/// Stands for no timestamp; the lowest, so that it sorts before all others.
const UNDATED: i64 = i64::MIN;

impl MessageKey {
    /// The key of a message as it lies in its frame. `timestamp_ns` is nsqd's, in ns since the Unix epoch; `i64::MIN`,
    /// which no clock tells, is taken for the next.
    pub fn new(id: MessageId, timestamp_ns: i64) -> Self {
        Self { id, timestamp_ns: timestamp_ns.max(UNDATED + 1) }
    }

    /// A message of which only the ID is known: it stands for all of that ID.
    pub(super) fn undated(id: MessageId) -> Self {
        Self { id, timestamp_ns: UNDATED }
    }

    /// A play that its site has given an id: it is known by that, whatever message brings it, as messages are.
    pub fn of_site_play(id: &SitePlayId) -> Self {
        let mut bytes = [SITE_PLAY; 16];
        bytes[..15].copy_from_slice(id.as_bytes());
        Self { id: MessageId(bytes), timestamp_ns: SITE_PLAY_NS }
    }

    /// Whether it is that of a play, by the id that its site has given it.
    pub(super) fn is_site_play(&self) -> bool {
        self.timestamp_ns == SITE_PLAY_NS && self.id.0[15] == SITE_PLAY
    }

    /// The message's ID.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// When nsqd took it, in ns since the Unix epoch; `None`: it stands for all messages of its ID.
    pub fn timestamp_ns(&self) -> Option<i64> {
        (self.timestamp_ns != UNDATED).then_some(self.timestamp_ns)
    }
}

/// The last byte of a site's play: no ID of nsqd has it, which are all of ASCII. Written in ledgers: the same for ever.
const SITE_PLAY: u8 = 0xff;

/// And its time, the same of all: a copy of a play may tell another one.
const SITE_PLAY_NS: i64 = 0;

/// How an ID's number tells when it was made: what a timestamp costs is its distance from that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IdClock {
    /// nsqd's: 42 bits of time, in ticks of 2^20 ns; 10 of the node; 12 that count within a tick.
    #[default]
    Nsqd,
    /// The embedded broker's: the ns themselves.
    Broker,
}

impl IdClock {
    /// nsqd counts its ticks from here, in ticks since the Unix epoch.
    const NSQD_EPOCH: i64 = 1_288_834_974_288;

    /// When an ID of this number was made, in ns since the Unix epoch. Any number is one of an ID.
    pub(super) fn time_ns(self, id: u64) -> i64 {
        match self {
            Self::Nsqd => ((id >> 22) as i64 + Self::NSQD_EPOCH) << 20,
            Self::Broker => id as i64,
        }
    }

    /// The clock that tells a timestamp best; nsqd's where there is none.
    pub(super) fn of(id: u64, timestamp_ns: Option<i64>) -> Self {
        let Some(timestamp_ns) = timestamp_ns else { return Self::Nsqd };
        let distance = |clock: Self| clock.time_ns(id).abs_diff(timestamp_ns);
        if distance(Self::Broker) < distance(Self::Nsqd) { Self::Broker } else { Self::Nsqd }
    }

    /// A number for an ID that grows with time for each node, where the ID itself does so for each nsqd only while no
    /// other is there.
    pub(super) fn rank(self, id: u64) -> u64 {
        match self {
            Self::Nsqd => (id >> 12 & 0x3ff) << 54 | id >> 22 << 12 | id & 0xfff,
            Self::Broker => id,
        }
    }

    /// The ID of that [`IdClock::rank`].
    pub(super) fn id(self, rank: u64) -> u64 {
        match self {
            Self::Nsqd => rank >> 12 << 22 | rank >> 54 << 12 | rank & 0xfff,
            Self::Broker => rank,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_play_of_a_site_is_no_message() {
        let key = MessageKey::of_site_play(&SitePlayId::of(b"play-1"));
        assert!(key.is_site_play() && key.id().to_u64().is_none());
        assert_eq!(key, MessageKey::of_site_play(&SitePlayId::of(b"play-1")));
        assert_ne!(key, MessageKey::of_site_play(&SitePlayId::of(b"play-2")));
        let of_nsqd = [MessageId::from_u64(u64::MAX), MessageId(*b"no number at all")];
        assert!(of_nsqd.iter().all(|id| !MessageKey::new(*id, 0).is_site_play()));
    }

    proptest! {
        #[test]
        fn a_rank_tells_its_id(id in any::<u64>()) {
            for clock in [IdClock::Nsqd, IdClock::Broker] {
                prop_assert_eq!(clock.id(clock.rank(id)), id);
            }
        }
    }
}
