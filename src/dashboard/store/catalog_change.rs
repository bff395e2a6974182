//! The payload of a journal's frame that changes the catalog (pure). `change` has the other kinds.
//!
//! ```text
//! kind (1 byte)  at (8 bytes, ms since the Unix epoch)
//!   8 titles:     of plays: how many, and of each: id, title
//!   9 texts:      by hand: how many, and of each: id, title, url; an empty text: none
//!  10 visibility: id, 0 shown, 1 hidden, 2 deleted (1 byte), reason; empty: none
//!  11 correction: id, plays (8 bytes), reason
//!  12 import:     its id, what its counts are kept under (16 bytes each), when it began (8 bytes), name, how many counts, and
//!                 of each: id, plays
//!  13 taken back: the import's id, what its counts were kept under (16 bytes each)
//! ```
//!
//! Ids and texts are their length and their bytes; lengths and numbers are LEB128 varints but where it says otherwise, those
//! little-endian. Numbers of bytes are signed.

use uuid::Uuid;

use super::catalog::{Import, VisibilitySet};
use super::payload::Rest;
use crate::model::unix_time::UnixMs;
use crate::model::varint::put;
use crate::model::video_id::VideoId;
use crate::wire::{Correction, ImportedCount, VideoTexts, VideoTitle, Visibility};

const TITLES: u8 = 8;
const TEXTS: u8 = 9;
const VISIBILITY: u8 = 10;
const CORRECTION: u8 = 11;
const IMPORT: u8 = 12;
const TAKEN_BACK: u8 = 13;

/// The kinds that are read here.
pub(super) const KINDS: std::ops::RangeInclusive<u8> = TITLES..=TAKEN_BACK;

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CatalogChange {
    /// Plays say titles.
    Titles(Vec<VideoTitle>),
    /// Somebody has set what videos are known by.
    Texts(Vec<(VideoId, VideoTexts)>),
    /// A video is shown, or not.
    Visibility(VideoId, VisibilitySet),
    /// A video's counts are corrected.
    Correction(VideoId, Correction),
    /// Counts of an older program.
    Import { id: Uuid, import: Import, counts: Vec<ImportedCount> },
    /// An import is taken back, whose counts were kept under `key`.
    TakenBack { id: Uuid, key: Uuid },
}

/// A change that came at `at`, as a payload.
pub(super) fn encode(at: UnixMs, change: &CatalogChange) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let kind = match change {
        CatalogChange::Titles(_) => TITLES,
        CatalogChange::Texts(_) => TEXTS,
        CatalogChange::Visibility(..) => VISIBILITY,
        CatalogChange::Correction(..) => CORRECTION,
        CatalogChange::Import { .. } => IMPORT,
        CatalogChange::TakenBack { .. } => TAKEN_BACK,
    };
    out.push(kind);
    out.extend_from_slice(&at.0.to_le_bytes());
    match change {
        CatalogChange::Titles(titles) => {
            put(&mut out, titles.len() as u64);
            for VideoTitle { video_id, title } in titles {
                put_bytes(&mut out, &video_id.to_bytes());
                put_bytes(&mut out, title.as_bytes());
            }
        }
        CatalogChange::Texts(videos) => {
            put(&mut out, videos.len() as u64);
            for (id, VideoTexts { title, url }) in videos {
                put_bytes(&mut out, &id.to_bytes());
                put_bytes(&mut out, title.as_deref().unwrap_or_default().as_bytes());
                put_bytes(&mut out, url.as_deref().unwrap_or_default().as_bytes());
            }
        }
        CatalogChange::Visibility(id, VisibilitySet { visibility, reason, .. }) => {
            put_bytes(&mut out, &id.to_bytes());
            out.push(visibility_number(*visibility));
            put_bytes(&mut out, reason.as_deref().unwrap_or_default().as_bytes());
        }
        CatalogChange::Correction(id, Correction { plays, reason, .. }) => {
            put_bytes(&mut out, &id.to_bytes());
            out.extend_from_slice(&plays.to_le_bytes());
            put_bytes(&mut out, reason.as_bytes());
        }
        CatalogChange::Import { id, import: Import { key, name, at }, counts } => {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
            put_bytes(&mut out, name.as_bytes());
            put(&mut out, counts.len() as u64);
            for ImportedCount { video_id, plays } in counts {
                put_bytes(&mut out, &video_id.to_bytes());
                put(&mut out, *plays);
            }
        }
        CatalogChange::TakenBack { id, key } => {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(key.as_bytes());
        }
    }
    out
}

/// Reads what [`encode`] wrote; `None`: it did not write that.
pub(super) fn decode(payload: &[u8]) -> Option<(UnixMs, CatalogChange)> {
    let (kind, rest) = payload.split_first()?;
    let mut rest = Rest(rest);
    let at = UnixMs(rest.signed()?);
    let change = match *kind {
        TITLES => {
            let title = |rest: &mut Rest<'_>| {
                Some(VideoTitle { video_id: rest.video()?, title: rest.text()? })
            };
            CatalogChange::Titles(rest.many(title)?)
        }
        TEXTS => {
            let texts = |rest: &mut Rest<'_>| {
                let (id, title, url) = (rest.video()?, rest.some_text()?, rest.some_text()?);
                Some((id, VideoTexts { title, url }))
            };
            CatalogChange::Texts(rest.many(texts)?)
        }
        VISIBILITY => {
            let (id, number) = (rest.video()?, rest.take(1)?[0]);
            let visibility = visibility_of(number)?;
            let set = VisibilitySet { visibility, reason: rest.some_text()?, at };
            CatalogChange::Visibility(id, set)
        }
        CORRECTION => {
            let (id, plays, reason) = (rest.video()?, rest.signed()?, rest.text()?);
            CatalogChange::Correction(id, Correction { plays, reason, at })
        }
        IMPORT => {
            let (id, key, at) = (rest.id()?, rest.id()?, UnixMs(rest.signed()?));
            let import = Import { key, name: rest.text()?, at };
            let count = |rest: &mut Rest<'_>| {
                Some(ImportedCount { video_id: rest.video()?, plays: rest.number()? })
            };
            CatalogChange::Import { id, import, counts: rest.many(count)? }
        }
        TAKEN_BACK => CatalogChange::TakenBack { id: rest.id()?, key: rest.id()? },
        _ => return None,
    };
    rest.0.is_empty().then_some((at, change))
}

/// As frames and tables have it.
pub(super) fn visibility_number(visibility: Visibility) -> u8 {
    match visibility {
        Visibility::Shown => 0,
        Visibility::Hidden => 1,
        Visibility::Deleted => 2,
    }
}

/// The reverse of [`visibility_number`].
pub(super) fn visibility_of(number: u8) -> Option<Visibility> {
    let all = [Visibility::Shown, Visibility::Hidden, Visibility::Deleted];
    all.get(usize::from(number)).copied()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

impl<'a> Rest<'a> {
    fn signed(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }

    fn video(&mut self) -> Option<VideoId> {
        VideoId::from_bytes(self.bytes()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn some_text(&mut self) -> Option<Option<String>> {
        Some(Some(self.text()?).filter(|text| !text.is_empty()))
    }

    fn many<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let many = self.number()?;
        let mut all = Vec::new();
        for _ in 0..many {
            all.push(one(self)?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changes(
        at: UnixMs,
        id: u128,
        texts: &[(String, Option<String>, u64)],
        plays: i64,
    ) -> Vec<CatalogChange> {
        let uuid = Uuid::from_u128(id);
        let video = |text: &str| VideoId::parse(text).unwrap_or(VideoId::from_u128(id));
        let reason = texts.first().map(|(_, reason, _)| reason.clone());
        let visibility = [Visibility::Shown, Visibility::Hidden, Visibility::Deleted];
        let set = VisibilitySet {
            visibility: visibility[(id % 3) as usize],
            reason: reason.clone().flatten(),
            at,
        };
        let reason = reason.flatten().unwrap_or_default();
        let import = Import { key: uuid, name: reason.clone(), at: UnixMs(plays) };
        vec![
            CatalogChange::Titles(
                texts
                    .iter()
                    .map(|(title, ..)| VideoTitle { video_id: video(title), title: title.clone() })
                    .collect(),
            ),
            CatalogChange::Texts(
                texts
                    .iter()
                    .map(|(title, url, _)| {
                        let title = Some(title.clone()).filter(|title| !title.is_empty());
                        (VideoId::from_u128(id), VideoTexts { title, url: url.clone() })
                    })
                    .collect(),
            ),
            CatalogChange::Visibility(VideoId::from_u128(id), set),
            CatalogChange::Correction(video(&reason), Correction { plays, reason, at }),
            CatalogChange::Import {
                id: uuid,
                import,
                counts: texts
                    .iter()
                    .map(|(id, _, plays)| ImportedCount { video_id: video(id), plays: *plays })
                    .collect(),
            },
            CatalogChange::TakenBack { id: uuid, key: Uuid::from_u128(id ^ 1) },
        ]
    }

    proptest! {
        #[test]
        fn what_was_told_comes_back(
            at: i64, id: u128, plays: i64,
            texts in prop::collection::vec((".{0,40}", prop::option::of(".{1,20}"), any::<u64>()), 0..9),
        ) {
            for change in changes(UnixMs(at), id, &texts, plays) {
                let bytes = encode(UnixMs(at), &change);
                prop_assert!(KINDS.contains(&bytes[0]));
                prop_assert_eq!(decode(&bytes), Some((UnixMs(at), change)));
                // What is cut, or longer, is none.
                for len in 0..bytes.len() {
                    prop_assert_eq!(decode(&bytes[..len]), None);
                }
                prop_assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
            }
        }

        #[test]
        fn no_bytes_are_taken_for_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..16) {
            let _ = decode(&[&[kind][..], &bytes].concat());
        }
    }
}
