//! `POST /api/dead-letters`: a processor tells its newest dead letters (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::{Invalid, is_moment};
use crate::model::unix_time::UnixMs;

/// The most dead letters that a processor tells: its newest.
pub const LETTERS_MAX: usize = 20;

/// The most that is told of a body or of a reason, in characters.
pub const LETTER_TEXT_MAX: usize = 1_024;

/// The longest address or id in a letter, in characters.
const LETTER_NAME_MAX: usize = 300;

/// The body of `POST /api/dead-letters`: all that the processor tells, in place of what it told before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LettersUpdate {
    /// Who rejected them.
    pub processor: Uuid,
    /// The newest since its start, oldest first.
    #[schemars(length(max = LETTERS_MAX))]
    pub letters: Vec<ToldLetter>,
}

/// A message that was no play, as far as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldLetter {
    /// When it was rejected.
    pub at: UnixMs,
    /// The address of the nsqd it came from.
    pub nsqd: String,
    /// Its message's ID there.
    pub message_id: String,
    /// Why it is no play, cut to 1,024 characters. May quote what a stranger sent.
    pub reason: String,
    /// Bytes of the whole body.
    pub size: u64,
    /// The body as text, cut to 1,024 characters; what is not UTF-8 is replaced. It is what a stranger sent.
    pub body: String,
}

impl LettersUpdate {
    /// Refuses what no processor tells.
    ///
    /// # Errors
    /// There are too many, or one is of no time.
    pub fn check(&self) -> Result<(), Invalid> {
        let count = self.letters.len();
        if count > LETTERS_MAX {
            return Err(Invalid::new(format!(
                "{count} letters: at most {LETTERS_MAX} may be told at once"
            )));
        }
        if let Some(letter) = self.letters.iter().find(|letter| !is_moment(letter.at)) {
            let at = letter.at.0;
            return Err(Invalid::new(format!("at must be ms since the Unix epoch, not {at}")));
        }
        Ok(())
    }
}

impl ToldLetter {
    /// Cuts its texts to what is told of them.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let texts = [
            (&mut self.nsqd, LETTER_NAME_MAX),
            (&mut self.message_id, LETTER_NAME_MAX),
            (&mut self.reason, LETTER_TEXT_MAX),
            (&mut self.body, LETTER_TEXT_MAX),
        ];
        for (text, most) in texts {
            if let Some((end, _)) = text.char_indices().nth(most) {
                text.truncate(end);
                text.shrink_to_fit();
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> ToldLetter {
        ToldLetter {
            at: UnixMs(1_790_000_000_000),
            nsqd: "a:4150".to_owned(),
            message_id: "0123456789abcdef".to_owned(),
            reason: "no JSON".to_owned(),
            size: 1,
            body: "x".to_owned(),
        }
    }

    #[test]
    fn what_no_processor_tells_is_refused() {
        let update = |count: usize, at| LettersUpdate {
            processor: Uuid::from_u128(1),
            letters: vec![ToldLetter { at: UnixMs(at), ..letter() }; count],
        };
        for (count, at, reason) in [
            (0, 0, None),
            (LETTERS_MAX, 1, None),
            (LETTERS_MAX + 1, 1, Some("21 letters: at most 20 may be told at once")),
            (1, -1, Some("at must be ms since the Unix epoch, not -1")),
            (1, i64::MAX, Some("at must be ms since the Unix epoch, not 9223372036854775807")),
        ] {
            let found = update(count, at).check().err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), reason);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "é".repeat(LETTER_TEXT_MAX + 1);
        let cut = ToldLetter { body: long.clone(), nsqd: long, ..letter() }.cut();
        assert_eq!(cut.body.chars().count(), LETTER_TEXT_MAX);
        assert_eq!(cut.nsqd.chars().count(), LETTER_NAME_MAX);
        assert_eq!(letter().cut(), letter());
    }
}
