//! What one play, or what is none, is in the body of a message (pure).

use super::body::Play;
use super::play_id::SitePlayId;
use super::rejection::Rejection;

/// A play as it stands in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPlay<'a> {
    /// The play.
    pub play: Play,
    /// What its site calls it, where [`PlayShape::id`](super::PlayShape::id) says where that is. It has no other identity then.
    pub id: Option<SitePlayId>,
    /// The JSON of its video's title, for [`read_title`](super::read_title), where [`PlayShape::title`](super::PlayShape::title) points to one.
    pub title: Option<&'a [u8]>,
}

/// An element of an array that is no play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlay<'a> {
    /// Its JSON.
    pub element: &'a [u8],
    /// Why it is none.
    pub reason: Rejection,
}

impl From<Play> for BodyPlay<'_> {
    fn from(play: Play) -> Self {
        Self { play, id: None, title: None }
    }
}
