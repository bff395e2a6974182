//! Messages whose plays have no identity, as the shared ledger keeps them: by the hour in which nsqd took them (pure).
//!
//! The hours share 64 partitions in turn. Of an hour that lies in the window its partition has all messages; they stay for
//! 56 hours at least, until the partition is emptied for another hour. Messages of all other hours are together in one
//! more, each for as long as the window after it came.

use std::cmp::Ordering;

use crate::ledger::message_key::MessageKey;

/// Hours that a message is surely remembered: one that nsqd delivers again later than that counts again.
pub const SHARED_WINDOW_HOURS: i64 = 48;

/// Hours that nsqd's clock may be ahead of the database's.
pub(super) const AHEAD_HOURS: i64 = 2;

/// Hours ahead that a partition is emptied: the time that all processors may be away before messages come in an hour whose
/// partition still has those of its last turn, which does no harm.
pub(super) const EMPTIED_AHEAD_HOURS: i64 = 8;

/// Partitions, and hours of a turn: more than the window with what is ahead of it.
pub(super) const SLOTS: i64 = 64;

const _: () = assert!(SHARED_WINDOW_HOURS + EMPTIED_AHEAD_HOURS + AHEAD_HOURS < SLOTS);

const NS_PER_HOUR: i64 = 3_600_000_000_000;

/// Stands for the hour of a message that says none: far from every window.
const NO_HOUR: i64 = -1_000_000;

/// The hour that a message belongs to, since the Unix epoch.
pub(super) fn hour_of(message: &MessageKey) -> i64 {
    message.timestamp_ns().map_or(NO_HOUR, |ns| ns.div_euclid(NS_PER_HOUR))
}

/// Whether a message of `hour` lies in the window, where the database's clock is in the hour `now`: then it has a partition of
/// its own hour, which [`slot_of`] tells. As `INSERT_MESSAGES` has it, which must agree.
pub(super) fn is_in_window(hour: i64, now: i64) -> bool {
    (-SHARED_WINDOW_HOURS..=AHEAD_HOURS).contains(&hour.saturating_sub(now))
}

/// The partition of an hour.
pub(super) fn slot_of(hour: i64) -> i16 {
    hour.rem_euclid(SLOTS) as i16
}

/// A key as it lies in the table, whose order is that of the locks: ID and time, 16 bytes for nsqd's, 24 for one that is no
/// number. Written in tables: the same for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableKey {
    /// Zeros behind its end, so that the order is that of its bytes.
    bytes: [u8; 24],
    len: u8,
}

impl TableKey {
    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The bytes as numbers: they compare faster, and alike.
    fn words(&self) -> [u64; 3] {
        let word = |at: usize| {
            let bytes = self.bytes[at..].first_chunk::<8>();
            bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        [word(0), word(8), word(16)]
    }

    fn push(&mut self, bytes: &[u8]) {
        let len = usize::from(self.len);
        self.bytes[len..len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl Ord for TableKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.words().cmp(&other.words()).then(self.len.cmp(&other.len))
    }
}

impl PartialOrd for TableKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The key of a message.
pub(super) fn key_of(message: &MessageKey) -> TableKey {
    let mut key = TableKey { bytes: [0; 24], len: 0 };
    match message.id().to_u64() {
        Some(number) => key.push(&number.to_be_bytes()),
        None => key.push(&message.id().0),
    }
    if let Some(ns) = message.timestamp_ns() {
        key.push(&ns.to_be_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use nsq_protocol::MessageId;

    use super::*;

    #[test]
    fn keys_tell_messages_apart() {
        let number = MessageId::from_u64(7);
        let text = MessageId(*b"no number at all");
        let keys = [
            MessageKey::new(number, 5),
            MessageKey::new(number, 6),
            MessageKey::new(MessageId::from_u64(8), 5),
            MessageKey::new(text, 5),
            MessageKey::undated(number),
            MessageKey::undated(text),
        ];
        let stored: std::collections::HashSet<_> = keys.iter().map(key_of).collect();
        assert_eq!(stored.len(), keys.len());
        assert_eq!(key_of(&keys[0]).as_bytes(), [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(key_of(&keys[3]).as_bytes().len(), 24);
    }

    #[test]
    fn keys_are_in_the_order_of_their_bytes() {
        let ids = [MessageId::from_u64(0), MessageId::from_u64(u64::MAX), MessageId([0; 16])];
        let mut keys: Vec<_> = ids
            .iter()
            .flat_map(|id| [MessageKey::new(*id, 0), MessageKey::undated(*id)])
            .map(|key| key_of(&key))
            .collect();
        keys.sort();
        assert!(keys.is_sorted_by(|one, other| one.as_bytes() <= other.as_bytes()), "{keys:?}");
    }

    #[test]
    fn an_hour_is_one_of_the_unix_epoch() {
        let hour = |ns| hour_of(&MessageKey::new(MessageId::from_u64(1), ns));
        assert_eq!((hour(0), hour(NS_PER_HOUR - 1), hour(NS_PER_HOUR), hour(-1)), (0, 0, 1, -1));
        assert_eq!(hour_of(&MessageKey::undated(MessageId::from_u64(1))), NO_HOUR);
    }
}
