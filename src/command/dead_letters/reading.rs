//! What a dead letter holds by the options that are given now (pure).

use crate::ledger::{LetterVerdict, RetriedPlay, SavedDeadLetter};
use crate::model::play::PlayDecoder;
use crate::model::time_window::TimeWindow;

/// Why a letter stays of which too little is kept.
const IS_CUT: &str = "only the start of its body was kept";

/// Reads bodies of letters.
pub(super) struct LetterReader {
    decoder: PlayDecoder,
    /// Which times of plays are believed, as of when their letters were kept.
    window: TimeWindow,
}

impl LetterReader {
    /// By these options.
    pub(super) fn new(window: TimeWindow) -> Self {
        Self { decoder: PlayDecoder::default(), window }
    }

    /// What becomes of a letter.
    pub(super) fn judge(&mut self, letter: &SavedDeadLetter) -> LetterVerdict {
        if !letter.is_whole() {
            return LetterVerdict::Stays(IS_CUT.to_owned());
        }
        match self.decoder.decode(&letter.body) {
            Ok(play) => {
                // When it was kept stands for when nsqd took it, which is not: they are moments apart.
                let kept_ns = letter.at.0.saturating_mul(1_000_000);
                let now_ns = u64::try_from(kept_ns).unwrap_or(0);
                let times = self.window.times(play.enqueued_at_ns, kept_ns, now_ns);
                let played_at_ns = times.played_at_ns;
                let plays = vec![RetriedPlay { play, played_at_ns, message: None }];
                LetterVerdict::Goes { plays, rest: Vec::new() }
            }
            Err(reason) => LetterVerdict::Stays(reason.as_str().to_owned()),
        }
    }
}
