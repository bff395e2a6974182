//! The newest dead letters of all processors, a page at a time (pure).

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::reports::Live;
use crate::wire::ToldLetter;

/// A dead letter, and who rejected it.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct LetterShown {
    processor: Uuid,
    #[serde(flatten)]
    letter: ToldLetter,
}

/// The newest dead letters.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct LettersShown {
    /// Messages that the processors heard of have rejected since their starts.
    rejected: u64,
    /// Letters that they have told of: at most 20 each.
    matching: usize,
    /// Of these, the page that was asked for, newest first.
    letters: Vec<LetterShown>,
}

impl Live {
    /// The page of at most `limit` letters behind the newest `offset`.
    pub(in super::super) fn letters_page(&self, offset: usize, limit: usize) -> LettersShown {
        let told = self.consumptions().map(|(_, told)| told.rejected);
        let rejected = told.fold(0, u64::saturating_add);
        let of = |(id, letters): (&Uuid, &'_ [ToldLetter])| {
            letters.iter().map(|letter| (*id, letter.clone())).collect::<Vec<_>>()
        };
        let known = self.processors.iter().map(|(id, known)| (id, &*known.letters));
        let mut all: Vec<_> = known.flat_map(of).collect();
        let matching = all.len();
        // Those of one moment in the order in which they were told.
        all.reverse();
        all.sort_by_key(|(_, letter)| std::cmp::Reverse(letter.at));
        let page = all.into_iter().skip(offset).take(limit);
        let letters = page.map(|(processor, letter)| LetterShown { processor, letter }).collect();
        LettersShown { rejected, matching, letters }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::model::unix_time::UnixMs;
    use crate::wire::Consumption;

    #[test]
    fn pages_go_from_the_newest_to_the_oldest_of_all_processors() {
        let letter = |at: i64| ToldLetter {
            at: UnixMs(at),
            nsqd: String::new(),
            message_id: String::new(),
            reason: String::new(),
            size: 0,
            body: at.to_string(),
        };
        let mut live = Live::default();
        // Of one that has not reported nothing is kept.
        live.letters(Uuid::from_u128(3), vec![letter(9)]);
        for (id, ats) in [(1, [1, 4, 5]), (2, [2, 3, 6])] {
            let told = Consumption { rejected: 10, ..Consumption::default() };
            live.report(Uuid::from_u128(id), None, Some(told), Instant::now());
            live.letters(Uuid::from_u128(id), ats.map(letter).to_vec());
        }
        for (offset, limit, want) in
            [(0, 4, "6 5 4 3"), (4, 4, "2 1"), (6, 4, ""), (usize::MAX, 1, ""), (0, 0, "")]
        {
            let page = live.letters_page(offset, limit);
            assert_eq!((page.rejected, page.matching), (20, 6));
            let bodies: Vec<_> = page.letters.iter().map(|one| &*one.letter.body).collect();
            assert_eq!(bodies.join(" "), want);
        }
        // What a processor tells is all that it tells.
        live.letters(Uuid::from_u128(1), Vec::new());
        assert_eq!(live.letters_page(0, 9).matching, 3);
    }
}
