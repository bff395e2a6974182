//! The messages of one commit that are known by themselves, since what they hold has no identity: what it asks the tables
//! for, and which of them are new (pure).

use super::messages::{TableKey, hour_of, key_of};
use crate::ledger::message_key::MessageKey;
use crate::ledger::record::Damaged;

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

/// One of them.
#[derive(Debug)]
struct AskedMessage {
    /// As it lies in the table.
    key: TableKey,
    message: MessageKey,
    known: Known,
}

/// Each message once, in the order in which they are locked.
#[derive(Debug, Default)]
pub(super) struct NewMessages {
    messages: Vec<AskedMessage>,
    /// Where the next one mostly lies: behind the one before, in what the tables answer, and in what came.
    next: usize,
}

impl NewMessages {
    /// The messages of a commit, in any order.
    pub(super) fn new(messages: Vec<MessageKey>) -> Self {
        let asked = |message| AskedMessage { key: key_of(&message), message, known: Known::Before };
        let mut messages: Vec<_> = messages.into_iter().map(asked).collect();
        // Batches are mostly in order, which a stable sort uses.
        messages.sort_by_key(|one| one.key);
        messages.dedup_by_key(|one| one.key);
        Self { messages, next: 0 }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Their keys, ascending.
    pub(super) fn keys(&self) -> Vec<&[u8]> {
        self.messages.iter().map(|one| one.key.as_bytes()).collect()
    }

    /// The hours that they belong to, in the same order.
    pub(super) fn hours(&self) -> Vec<i64> {
        self.messages.iter().map(|one| hour_of(&one.message)).collect()
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
        let is_next = self.messages.get(self.next).is_some_and(|one| one.message == *message);
        if !is_next {
            let key = key_of(message);
            self.next = self.messages.binary_search_by(|one| one.key.cmp(&key)).ok()?;
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
        let mut messages = NewMessages::new(vec![message(3), message(1), message(3), message(2)]);
        let keys: Vec<Vec<u8>> = messages.keys().into_iter().map(<[u8]>::to_vec).collect();
        assert!(keys.is_sorted() && keys.len() == 3);
        messages.set_new(&keys[0], MessageAge::InWindow).unwrap();
        messages.set_new(&keys[2], MessageAge::Outside).unwrap();
        assert_eq!(messages.set_new(&[7], MessageAge::InWindow), Err(Damaged));
        assert_eq!(messages.count(&message(1)), Some(MessageAge::InWindow));
        assert_eq!(messages.count(&message(2)), None);
        assert_eq!(messages.count(&message(3)), Some(MessageAge::Outside));
        assert_eq!([1, 2, 3, 4].map(|id| messages.count(&message(id))), [None; 4]);
    }
}
