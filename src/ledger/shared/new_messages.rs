//! The messages of one commit that are known by themselves, since what they hold has no identity: what it asks the tables
//! for, and which of them are new (pure).

use std::collections::HashMap;

use super::messages::{hour_of, key_of};
use crate::ledger::message_key::MessageKey;
use crate::ledger::record::Damaged;

/// One of them.
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

/// Each message once, in the order in which they are locked.
#[derive(Debug, Default)]
pub(super) struct NewMessages {
    messages: Vec<MessageKey>,
    /// As they lie in the table; the same places.
    keys: Vec<Vec<u8>>,
    known: Vec<Known>,
    places: HashMap<Vec<u8>, usize>,
}

impl NewMessages {
    /// The messages of a commit, in any order.
    pub(super) fn new(mut messages: Vec<MessageKey>) -> Self {
        messages.sort_by_cached_key(key_of);
        messages.dedup();
        let keys: Vec<_> = messages.iter().map(key_of).collect();
        let places = keys.iter().cloned().zip(0..).collect();
        let known = vec![Known::Before; messages.len()];
        Self { messages, keys, known, places }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Their keys, ascending.
    pub(super) fn keys(&self) -> Vec<&[u8]> {
        self.keys.iter().map(Vec::as_slice).collect()
    }

    /// The hours that they belong to, in the same order.
    pub(super) fn hours(&self) -> Vec<i64> {
        self.messages.iter().map(hour_of).collect()
    }

    /// The tables did not have the message of that key.
    ///
    /// # Errors
    /// [`Damaged`]: nobody asked.
    pub(super) fn set_new(&mut self, key: &[u8], age: MessageAge) -> Result<(), Damaged> {
        let place = *self.places.get(key).ok_or(Damaged)?;
        self.known[place] = Known::New(age);
        Ok(())
    }

    /// Whether a message is new, and where it lies; from then on it is not.
    pub(super) fn count(&mut self, message: &MessageKey) -> Option<MessageAge> {
        let place = *self.places.get(&key_of(message))?;
        match std::mem::replace(&mut self.known[place], Known::Counted) {
            Known::New(age) => Some(age),
            before => {
                self.known[place] = before;
                None
            }
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
