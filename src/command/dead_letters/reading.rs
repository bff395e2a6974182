//! What a dead letter holds by the options that are given now (pure).

use crate::ledger::{
    LETTERS_OF_MESSAGE, LetterRest, LetterVerdict, MessageKey, RetriedPlay, SavedDeadLetter,
    append_element, array_of, has_room,
};
use crate::model::play::{BodyDecoder, BodyPart, BodyPlay, NoPlay, PlayShape};
use crate::model::time_window::TimeWindow;

/// Why a letter stays of which too little is kept.
const IS_CUT: &str = "only the start of its body was kept";

/// Reads bodies of letters.
pub(super) struct LetterReader {
    decoder: BodyDecoder,
    /// Which times of plays are believed, as of when their letters were kept.
    window: TimeWindow,
}

/// What was read of one letter so far.
struct ReadLetter {
    window: TimeWindow,
    /// When it was kept, in ms since the Unix epoch.
    kept_at: i64,
    plays: Vec<RetriedPlay>,
    rest: Vec<LetterRest>,
}

impl LetterReader {
    /// Of bodies of that shape.
    pub(super) fn new(shape: &PlayShape, window: TimeWindow) -> Self {
        Self { decoder: BodyDecoder::new(shape), window }
    }

    /// What becomes of a letter.
    pub(super) fn judge(&mut self, letter: &SavedDeadLetter) -> LetterVerdict {
        if !letter.is_whole() {
            return LetterVerdict::Stays(IS_CUT.to_owned());
        }
        let (plays, rest) = (Vec::new(), Vec::new());
        let mut read = ReadLetter { window: self.window, kept_at: letter.at.0, plays, rest };
        let decoded = self.decoder.decode(&letter.body, |part| match part {
            BodyPart::Alone(play) | BodyPart::Element(play) => read.play(&play),
            BodyPart::NoPlay(no_play) => read.no_play(&no_play),
        });
        match decoded {
            Err(reason) => LetterVerdict::Stays(reason.as_str().to_owned()),
            Ok(()) if read.plays.is_empty() => {
                let first = read.rest.into_iter().next();
                LetterVerdict::Stays(first.map_or_else(String::new, |rest| rest.reason))
            }
            Ok(()) => LetterVerdict::Goes { plays: read.plays, rest: read.rest },
        }
    }
}

impl ReadLetter {
    fn play(&mut self, body: &BodyPlay<'_>) {
        // When it was kept stands for when nsqd took it, which is not: they are moments apart.
        let kept_ns = self.kept_at.saturating_mul(1_000_000);
        let now_ns = u64::try_from(kept_ns).unwrap_or(0);
        let times = self.window.times(body.play.enqueued_at_ns, kept_ns, now_ns);
        let played_at_ns = times.played_at_ns;
        let message = body.id.as_ref().map(MessageKey::of_site_play);
        self.plays.push(RetriedPlay { play: body.play, played_at_ns, message });
    }

    /// Elements that are no plays stay together, as arrays of which all is kept; of those behind the last array only their sizes.
    fn no_play(&mut self, no_play: &NoPlay<'_>) {
        let NoPlay { element, reason } = no_play;
        let is_last = self.rest.len() >= LETTERS_OF_MESSAGE;
        if let Some(last) = self.rest.last_mut()
            && (is_last || has_room(&last.body, element))
        {
            append_element(&mut last.size, &mut last.body, element);
            return;
        }
        let (size, body) = array_of(element);
        self.rest.push(LetterRest { reason: reason.as_str().to_owned(), size, body });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::ledger::BODY_MAX;
    use crate::model::unix_time::UnixMs;

    fn letter(body: &[u8]) -> SavedDeadLetter {
        SavedDeadLetter {
            number: 1,
            at: UnixMs(1_790_000_000_000),
            nsqd: String::new(),
            message_id: String::new(),
            reason: String::new(),
            size: body.len() as i64,
            body: body.to_owned(),
        }
    }

    fn judged(body: &[u8]) -> LetterVerdict {
        let mut reader = LetterReader::new(&PlayShape::default(), TimeWindow::default());
        reader.judge(&letter(body))
    }

    #[test]
    fn a_play_was_played_when_it_says_or_when_its_letter_was_kept() {
        let played =
            |fields: &str| match judged(format!(r#"{{"video_id":"a"{fields}}}"#).as_bytes()) {
                LetterVerdict::Goes { plays, rest } if rest.is_empty() => {
                    plays.iter().map(|play| play.played_at_ns / 1_000_000).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            };
        assert_eq!(played(""), [1_790_000_000_000]);
        assert_eq!(played(r#","enqueued_at":1789999990000"#), [1_789_999_990_000]);
        // Of another year, as seen from then.
        assert_eq!(played(r#","enqueued_at":1690000000000"#), [1_790_000_000_000]);
    }

    #[test]
    fn what_is_no_play_of_an_array_stays_as_one() {
        let LetterVerdict::Goes { plays, rest } =
            judged(br#"[{"video_id":"a"}, 5,{"video_id":"b"},{"video_id":""}]"#)
        else {
            panic!("it has plays");
        };
        assert_eq!(plays.len(), 2);
        let [rest] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!(rest.body, br#"[5,{"video_id":""}]"#);
        assert!(rest.reason.starts_with("element 1: "), "{rest:?}");
        // Looked at again it stays as it is.
        assert!(
            matches!(judged(&rest.body), LetterVerdict::Stays(reason) if reason.starts_with("element 0"))
        );
        // Many are kept in several, each whole.
        let many = vec![format!(r#"{{"no":"{}"}}"#, "x".repeat(3_000)); 30].join(",");
        let LetterVerdict::Goes { rest, .. } =
            judged(format!(r#"[{{"video_id":"a"}},{many}]"#).as_bytes())
        else {
            panic!("it has a play");
        };
        assert!(rest.iter().all(|rest| rest.body.len() <= BODY_MAX && rest.body.ends_with(b"]")));
        let kept: usize = rest.iter().map(|rest| rest.body.len() - 1).sum();
        assert_eq!((rest.len(), kept), (6, many.len() + 1));
    }

    /// What is gzip'd holds far more than is kept of it.
    #[test]
    fn a_letter_becomes_a_hundred_at_most_and_the_last_has_all_sizes() {
        let element = format!(r#"{{"no":"{}"}}"#, "x".repeat(10_000));
        let body = format!(r#"[{{"video_id":"a"}},{}]"#, vec![element.as_str(); 1_000].join(","));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(body.as_bytes()).unwrap();
        let LetterVerdict::Goes { plays, rest } = judged(&gzip.finish().unwrap()) else {
            panic!("it has a play");
        };
        assert_eq!((plays.len(), rest.len()), (1, LETTERS_OF_MESSAGE));
        assert!(rest.iter().all(|rest| rest.body.len() == element.len() + 2), "{rest:?}");
        let (last, others) = rest.split_last().unwrap();
        assert!(others.iter().all(|rest| rest.size == rest.body.len()));
        assert_eq!(last.size, 901 * (element.len() + 1) + 1);
    }

    #[test]
    fn a_site_s_own_id_is_what_its_play_is_known_by() {
        let pointer = |text: &str| text.parse().unwrap();
        let shape = PlayShape {
            plays: Some(pointer("/plays")),
            video: pointer("/video/hash"),
            id: Some(pointer("/id")),
            ..PlayShape::default()
        };
        let mut reader = LetterReader::new(&shape, TimeWindow::default());
        let mut known_by = |body: &[u8]| match reader.judge(&letter(body)) {
            LetterVerdict::Goes { plays, .. } => plays.iter().map(|play| play.message).collect(),
            LetterVerdict::Stays(reason) => panic!("{reason}"),
        };
        let one: Vec<_> =
            known_by(br#"{"plays":[{"video":{"hash":"a"},"id":7},{"video":{"hash":"a"},"id":8}]}"#);
        assert!(one[0].is_some() && one[0] != one[1], "{one:?}");
        // As an element that was kept alone.
        assert_eq!(known_by(br#"[{"video":{"hash":"b"},"id":"7"}]"#), one[..1]);
    }

    #[test]
    fn what_is_cut_or_no_play_stays_with_its_reason() {
        let mut reader = LetterReader::new(&PlayShape::default(), TimeWindow::default());
        let cut = SavedDeadLetter { size: 1 << 20, ..letter(br#"{"video_id":"a"}"#) };
        assert_eq!(reader.judge(&cut), LetterVerdict::Stays(IS_CUT.to_owned()));
        assert!(matches!(judged(b"{"), LetterVerdict::Stays(reason) if !reason.is_empty()));
        assert!(matches!(judged(b"[]"), LetterVerdict::Stays(reason) if !reason.is_empty()));
    }
}
