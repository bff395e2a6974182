//! The messages of one commit that are known by themselves, since what they hold has no identity: what it asks the tables
//! for, and which of them are new (pure).
//!
//! Nearly all of them are new. So where nothing says that one may have come before, the tables are not asked: all are taken for
//! new and written as that, and the table's key refuses them if one was not. Then the whole commit is made again, and asks.

use super::messages::{TableKey, hour_of, is_in_window, key_of, slot_of};
use crate::ledger::message_key::MessageKey;
use crate::ledger::record::Damaged;
use crate::postgres::{CopyRows, CopyValue};

/// What is known of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was kept before.
    Before,
    /// It was not, and is to be counted.
    New(MessageAge),
    /// It was not, and is counted.
    Counted,
}

/// Whether a message lies in the window in which it is surely remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageAge {
    /// It does.
    InWindow,
    /// Of another hour: it may have been counted and forgotten.
    Outside,
}

/// Whether the tables are asked which messages are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskTables {
    /// They are.
    Always,
    /// Not where nothing says that one of them may have come before.
    IfNeeded,
}

/// One of them.
#[derive(Debug)]
struct AskedMessage {
    /// As it lies in the table.
    key: TableKey,
    hour: i64,
    known: Known,
}

/// Bytes of a message among the rows of a COPY: three lengths, and the values of three columns.
const COPIED_BYTES: usize = 2 + 3 * 4 + 2 + 4 + 16;

/// Each message once, in the order in which they are locked.
#[derive(Debug)]
pub(super) struct NewMessages {
    messages: Vec<AskedMessage>,
    ask: AskTables,
    /// The hour in which all of them were taken for new.
    taken_at: Option<i64>,
    /// Where the next one mostly lies: behind the one before, in what the tables answer, and in what came.
    next: usize,
}

impl NewMessages {
    /// The messages of a commit, in any order.
    pub(super) fn new(messages: Vec<MessageKey>, ask: AskTables) -> Self {
        let count = messages.len();
        let asked = |message: MessageKey| AskedMessage {
            key: key_of(&message),
            hour: hour_of(&message),
            known: Known::Before,
        };
        let mut messages: Vec<_> = messages.into_iter().map(asked).collect();
        // Batches are mostly in order, which a stable sort uses.
        messages.sort_by_key(|one| one.key);
        messages.dedup_by_key(|one| one.key);
        // A COPY writes one partition after the other: were that not the order of the keys, two commits could wait for each
        // other.
        let by_hour = messages.is_sorted_by_key(|one| one.hour);
        let ask = if by_hour && messages.len() == count { ask } else { AskTables::Always };
        Self { messages, ask, taken_at: None, next: 0 }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the tables are to be asked, whatever the database's clock says.
    pub(super) fn must_ask(&self) -> bool {
        !self.is_empty() && self.ask == AskTables::Always
    }

    /// Takes all of them for new, where the database's clock is in that hour; false, and nothing is done, where the tables must
    /// be asked: of those outside the window it is told whether they may have been forgotten.
    pub(super) fn take_for_new(&mut self, hour: i64) -> bool {
        let is_inside = self.messages.iter().all(|one| is_in_window(one.hour, hour));
        let may_take = is_inside && !self.must_ask();
        if may_take {
            self.taken_at = Some(hour);
        }
        may_take
    }

    /// Those that were taken for new, as rows of slot, hour and key; `None` where the tables have been asked.
    pub(super) fn taken(&self) -> Option<CopyRows> {
        let taken_at = self.taken_at.filter(|_| !self.is_empty())?;
        let mut rows = CopyRows::with_capacity(self.messages.len() * COPIED_BYTES);
        let kept_in = CopyValue::Int4(taken_at as i32);
        for one in &self.messages {
            let slot = CopyValue::Int2(slot_of(one.hour));
            rows.push([slot, kept_in, CopyValue::Bytes(one.key.as_bytes())]);
        }
        Some(rows)
    }

    /// Their keys, ascending.
    pub(super) fn keys(&self) -> Vec<&[u8]> {
        self.messages.iter().map(|one| one.key.as_bytes()).collect()
    }

    /// The hours that they belong to, in the same order.
    pub(super) fn hours(&self) -> Vec<i64> {
        self.messages.iter().map(|one| one.hour).collect()
    }

    /// The tables did not have the message of that key.
    ///
    /// # Errors
    /// [`Damaged`]: nobody asked.
    pub(super) fn set_new(&mut self, key: &[u8], age: MessageAge) -> Result<(), Damaged> {
        let is_next = self.messages.get(self.next).is_some_and(|one| one.key.as_bytes() == key);
        if !is_next {
            let found = self.messages.binary_search_by(|one| one.key.as_bytes().cmp(key));
            self.next = found.map_err(|_| Damaged)?;
        }
        self.messages[self.next].known = Known::New(age);
        self.next += 1;
        Ok(())
    }

    /// Whether a message is new, and where it lies; from then on it is not.
    pub(super) fn count(&mut self, message: &MessageKey) -> Option<MessageAge> {
        if self.taken_at.is_some() {
            // Each came once.
            return Some(MessageAge::InWindow);
        }
        let key = key_of(message);
        let is_next = self.messages.get(self.next).is_some_and(|one| one.key == key);
        if !is_next {
            self.next = self.messages.binary_search_by_key(&key, |one| one.key).ok()?;
        }
        let known = &mut self.messages[self.next].known;
        self.next += 1;
        match *known {
            Known::New(age) => {
                *known = Known::Counted;
                Some(age)
            }
            Known::Before | Known::Counted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use nsq_protocol::MessageId;

    use super::*;

    #[test]
    fn each_is_new_once_where_the_tables_did_not_have_it() {
        let message = |id| MessageKey::new(MessageId::from_u64(id), 7 * id as i64);
        let came = vec![message(3), message(1), message(3), message(2)];
        let mut messages = NewMessages::new(came, AskTables::IfNeeded);
        let keys: Vec<Vec<u8>> = messages.keys().into_iter().map(<[u8]>::to_vec).collect();
        assert!(keys.is_sorted() && keys.len() == 3);
        // One came twice.
        assert!(messages.must_ask() && !messages.take_for_new(0) && messages.taken().is_none());
        messages.set_new(&keys[0], MessageAge::InWindow).unwrap();
        messages.set_new(&keys[2], MessageAge::Outside).unwrap();
        assert_eq!(messages.set_new(&[7], MessageAge::InWindow), Err(Damaged));
        assert_eq!(messages.count(&message(1)), Some(MessageAge::InWindow));
        assert_eq!(messages.count(&message(2)), None);
        assert_eq!(messages.count(&message(3)), Some(MessageAge::Outside));
        assert_eq!([1, 2, 3, 4].map(|id| messages.count(&message(id))), [None; 4]);
    }

    #[test]
    fn those_of_the_window_are_taken_for_new_unless_something_speaks_against_it() {
        const HOUR: i64 = 3_600_000_000_000;
        let of_hour = |id, hour| MessageKey::new(MessageId::from_u64(id), hour * HOUR);
        let taken_at = |now, ask, all: &[MessageKey]| {
            let mut messages = NewMessages::new(all.to_vec(), ask);
            let is_taken = messages.take_for_new(now);
            assert_eq!(messages.taken().is_some(), is_taken && !all.is_empty());
            (messages.must_ask(), is_taken)
        };
        let all = [of_hour(2, 101), of_hour(1, 100)];
        for now in [99, 100, 148] {
            assert_eq!(taken_at(now, AskTables::IfNeeded, &all), (false, true), "{now}");
        }
        for now in [98, 149] {
            assert_eq!(taken_at(now, AskTables::IfNeeded, &all), (false, false), "{now}");
        }
        assert_eq!(taken_at(100, AskTables::Always, &all), (true, false));
        assert_eq!(taken_at(100, AskTables::Always, &[]), (false, true));
        let against = [of_hour(1, 101), of_hour(2, 100)];
        assert_eq!(taken_at(100, AskTables::IfNeeded, &against), (true, false));
        let mut messages = NewMessages::new(all.to_vec(), AskTables::IfNeeded);
        assert!(messages.take_for_new(100));
        assert_eq!(all.map(|one| messages.count(&one)), [Some(MessageAge::InWindow); 2]);
        let mut rows = CopyRows::with_capacity(0);
        for (slot, key) in [(100 - 64, &all[1]), (101 - 64, &all[0])] {
            let key = key_of(key);
            rows.push([
                CopyValue::Int2(slot),
                CopyValue::Int4(100),
                CopyValue::Bytes(key.as_bytes()),
            ]);
        }
        assert_eq!(messages.taken(), Some(rows));
    }
}
