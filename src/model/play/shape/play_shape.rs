//! Where in a body the fields of a play are (pure).

use crate::model::play::pointer::JsonPointer;

/// Where in a body the fields of a play are. By default as our own producer writes them: see [`PlayShape::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayShape {
    /// Where an array of plays is; the other pointers are relative to each of its elements. `None`: the body is one play, or
    /// an array of them.
    pub plays: Option<JsonPointer>,
    /// The video's id: a text or a whole number.
    pub video: JsonPointer,
    /// When it was played or put on the queue, as a number or a text; a play may do without.
    pub time: JsonPointer,
    /// What makes it this play and no other: a text or a whole number of 1 to 128 bytes. `None`, and of a play that has
    /// nothing there: its identity is what stands at `/producer` and `/seq`, if anything does.
    pub id: Option<JsonPointer>,
    /// The video's title; `None`: bodies have none.
    pub title: Option<JsonPointer>,
}

impl Default for PlayShape {
    fn default() -> Self {
        Self {
            plays: None,
            video: Self::default_video(),
            time: Self::default_time(),
            id: None,
            title: None,
        }
    }
}

impl PlayShape {
    /// The most plays that one message may hold; with more it is none.
    pub const PLAYS_MAX: usize = 10_000;

    /// Where the video's id is by default: `/video_id`.
    pub fn default_video() -> JsonPointer {
        JsonPointer::member("video_id")
    }

    /// Where the time is by default: `/enqueued_at`.
    pub fn default_time() -> JsonPointer {
        JsonPointer::member("enqueued_at")
    }
}
