//! Which videos a search wants (pure).

use std::ops::Range;

use super::rank::Ranking;
use crate::model::video_id::VideoId;

/// What people type: the start of an id, or words of a title, of whose last one the start is enough. A video that fits
/// either is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Search {
    ids: IdSearch,
    words: String,
}

impl Search {
    /// A search for that text.
    pub(crate) fn new(text: &str) -> Self {
        Self { ids: IdSearch::new(text), words: text.to_owned() }
    }

    pub(super) fn ids(&self) -> &IdSearch {
        &self.ids
    }

    pub(super) fn words(&self) -> &str {
        &self.words
    }
}

/// The videos whose ids start so, as they are shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IdSearch {
    // One or two; none starts with another.
    starts: Vec<String>,
}

impl IdSearch {
    /// A search for what people type: the start of a text as it is; and that of a GUID in any case, with hyphens or without,
    /// or a whole one in any spelling.
    fn new(text: &str) -> Self {
        let guid = guid_start(text).filter(|guid| guid != text);
        let starts = guid.into_iter().chain([text.to_owned()]).collect();
        Self { starts }
    }

    /// Whether a video is wanted.
    pub(super) fn wants(&self, id: &VideoId) -> bool {
        id.with_text(|text| self.starts.iter().any(|start| text.starts_with(start)))
    }

    /// The ranks of the wanted ones in the order of ids: ascending, disjoint.
    pub(super) fn ranks(&self, by_id: &Ranking) -> Vec<Range<usize>> {
        let mut ranks: Vec<_> = self.starts.iter().map(|start| ranks(by_id, start)).collect();
        ranks.sort_by_key(|ranks| ranks.start);
        ranks
    }
}

fn ranks(by_id: &Ranking, start: &str) -> Range<usize> {
    let first = by_id.below(|(_, id)| id.cmp_text(start).is_lt());
    let behind = by_id.below(|(_, id)| id.cmp_text(start).is_lt() || id.starts_with(start));
    first..behind
}

/// How the GUIDs are shown that a text is the start of; `None`: it is the start of none.
fn guid_start(text: &str) -> Option<String> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if let Some(guid) = VideoId::find_guid(text) {
        return Some(guid.hyphenated().to_string());
    }
    let has_hyphens = text.contains('-');
    let mut shown = String::new();
    for (index, character) in text.char_indices() {
        if has_hyphens && HYPHENS.contains(&index) {
            (character == '-').then_some(())?;
            shown.push(character);
            continue;
        }
        character.is_ascii_hexdigit().then_some(())?;
        if HYPHENS.contains(&shown.len()) {
            shown.push('-');
        }
        shown.push(character.to_ascii_lowercase());
    }
    (shown.len() <= uuid::fmt::Hyphenated::LENGTH).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "3fa85f64-5717-4562-b3fc-2c963f66afa6";

    #[test]
    fn the_start_of_a_guid_may_be_spelled_in_any_way() {
        for (text, start) in [
            ("3Fa", Some("3fa")),
            (GUID, Some(GUID)),
            ("3fa85f6457174562b3fc2c963f66afa6", Some(GUID)),
            ("{3fa85f64-5717-4562-b3fc-2c963f66afa6}", Some(GUID)),
            ("urn:uuid:3fa85f64-5717-4562-b3fc-2c963f66afa6", Some(GUID)),
            ("3FA85F64-5717-4562-B3FC-2C963F66AFA6", Some(GUID)),
            ("3fa85f6457", Some("3fa85f64-57")),
            ("3fa85f64-57", Some("3fa85f64-57")),
            ("3fa85f64-", Some("3fa85f64-")),
            ("3f-a", None),
            ("x", None),
            ("3fa85f64--", None),
            ("3fa85f645717-", None),
            ("\u{e9}", None),
            ("%", None),
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6a", None),
        ] {
            assert_eq!(guid_start(text).as_deref(), start, "{text}");
        }
    }

    #[test]
    fn texts_and_guids_are_found_by_their_start() {
        let ids: Vec<VideoId> = [GUID, "3FA9", "3fa", "3fa85f6457", "3fb", "abc", "abcd", "ABC"]
            .map(|text| text.parse().unwrap())
            .into();
        let by_id = Ranking::of(ids.iter().map(|id| (0, *id)).collect());
        for (text, found) in [
            ("3fa", &["3fa", GUID, "3fa85f6457"][..]),
            ("3FA", &["3FA9", "3fa", GUID, "3fa85f6457"]),
            ("3fa85f6457", &[GUID, "3fa85f6457"]),
            ("abc", &["abc", "abcd"]),
            ("A", &["ABC", "abc", "abcd"]),
            ("x", &[]),
        ] {
            let search = IdSearch::new(text);
            let ranks = search.ranks(&by_id);
            let by_rank: Vec<_> = ranks
                .iter()
                .flat_map(|ranks| by_id.upwards(ranks.start).take(ranks.len()))
                .map(|(_, id)| id.to_string())
                .collect();
            assert_eq!(by_rank, found, "{text}");
            let wanted = ids.iter().filter(|id| search.wants(id)).count();
            assert_eq!(wanted, found.len(), "{text}");
        }
    }
}
