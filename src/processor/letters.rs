//! The newest dead letters of a processor, as dashboards are told of them: kept by the commit, posted by each publisher.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::ledger::DeadLetter;
use crate::model::unix_time::UnixMs;
use crate::wire::client::{DashboardClient, RefusedCall};
use crate::wire::{LETTER_TEXT_MAX, LETTERS_MAX, LettersUpdate, ToldLetter};

/// Where letters are told.
const PATH: &str = "/api/dead-letters";

/// They are told again so long after they were told: a dashboard that was started anew has forgotten them.
const AGAIN: Duration = Duration::from_secs(30);

/// The most bytes of a body that are looked at: a character has 4 at most.
const BODY_BYTES: usize = 4 * LETTER_TEXT_MAX;

/// The newest since the start: about 25 KB, and 85 KB at most.
#[derive(Debug, Default)]
pub(super) struct NewestLetters {
    kept: VecDeque<ToldLetter>,
    /// How many there ever were.
    number: u64,
}

impl NewestLetters {
    /// Adds those of a commit of that moment, oldest first.
    pub(super) fn add<'a>(
        &mut self,
        letters: impl DoubleEndedIterator<Item = &'a DeadLetter>,
        at: UnixMs,
    ) {
        let mut newest = VecDeque::new();
        for letter in letters.rev() {
            self.number += 1;
            if newest.len() < LETTERS_MAX {
                newest.push_front(told(letter, at));
            }
        }
        self.kept.extend(newest);
        self.kept.drain(..self.kept.len().saturating_sub(LETTERS_MAX));
    }

    /// All that are kept, oldest first, where there are others than at `number`; and the number now.
    pub(super) fn since(&self, number: u64) -> Option<(u64, Vec<ToldLetter>)> {
        (self.number != number).then(|| (self.number, self.kept.iter().cloned().collect()))
    }
}

fn told(letter: &DeadLetter, at: UnixMs) -> ToldLetter {
    let DeadLetter { nsqd, message, reason, size, body, .. } = letter;
    let start = &body[..body.len().min(BODY_BYTES)];
    let letter = ToldLetter {
        at,
        nsqd: nsqd.clone(),
        message_id: message.id().to_string(),
        reason: reason.to_string(),
        size: *size as u64,
        body: String::from_utf8_lossy(start).into_owned(),
    };
    letter.cut()
}

/// Tells one dashboard of them.
#[derive(Debug, Default)]
pub(super) struct LettersPost {
    /// Of what it was told last.
    number: u64,
    told_at: Option<Instant>,
}

impl LettersPost {
    /// What it must be told that was so far since; 0 for all, because it may have forgotten.
    pub(super) fn known(&self) -> u64 {
        let is_fresh = self.told_at.is_some_and(|at| at.elapsed() < AGAIN);
        if is_fresh { self.number } else { 0 }
    }

    /// Tells it. What fails is told again with the next report; an older dashboard, which has no such call, a while later.
    pub(super) fn post(
        &mut self,
        dashboard: &DashboardClient,
        processor: Uuid,
        (number, letters): (u64, Vec<ToldLetter>),
    ) {
        let posted = dashboard.post(PATH, &LettersUpdate { processor, letters });
        let is_unknown = |error: &anyhow::Error| {
            error.downcast_ref::<RefusedCall>().is_some_and(RefusedCall::is_unknown)
        };
        match posted {
            Err(error) if !is_unknown(&error) => {
                log::debug!("dead letters are not told: {error:#}");
                self.told_at = None;
            }
            _ => (self.number, self.told_at) = (number, Some(Instant::now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use nsq_protocol::MessageId;

    use super::*;
    use crate::ledger::{MessageKey, PartOf};
    use crate::model::play::Play;

    fn letter(body: &[u8]) -> DeadLetter {
        DeadLetter {
            nsqd: "a:4150".to_owned(),
            message: MessageKey::new(MessageId(*b"0123456789abcdef"), 1),
            part_of: PartOf::Alone,
            reason: Play::decode(b"{}").unwrap_err(),
            size: body.len(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn the_newest_are_kept() {
        let mut newest = NewestLetters::default();
        assert_eq!(newest.since(0), None);
        let bodies = |newest: &NewestLetters, number| {
            newest.since(number).map(|(number, letters)| {
                (number, letters.into_iter().map(|letter| letter.body).collect::<Vec<_>>())
            })
        };
        let first = [letter(b"a"), letter(b"b")];
        newest.add(first.iter(), UnixMs(5));
        assert_eq!(bodies(&newest, 0), Some((2, vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(bodies(&newest, 2), None);
        let many: Vec<_> = (0..30).map(|n| letter(format!("{n}").as_bytes())).collect();
        newest.add(many[..25].iter(), UnixMs(6));
        newest.add(many[25..].iter(), UnixMs(7));
        let (number, kept) = bodies(&newest, 2).unwrap();
        assert_eq!((number, kept.len()), (32, LETTERS_MAX));
        assert_eq!((&*kept[0], &*kept[19]), ("10", "29"));
    }

    #[test]
    fn a_letter_is_told_as_text() {
        let told = told(&letter(&[b'x', 0xff, b'y']), UnixMs(9));
        let want = ("x\u{fffd}y", 3, "0123456789abcdef", UnixMs(9));
        assert_eq!((&*told.body, told.size, &*told.message_id, told.at), want);
        assert_eq!(told.reason, Play::decode(b"{}").unwrap_err().to_string());
        let long = "é".repeat(20_000);
        let told = super::told(&letter(long.as_bytes()), UnixMs(9));
        assert_eq!((told.body, told.size), ("é".repeat(LETTER_TEXT_MAX), 40_000));
    }
}
