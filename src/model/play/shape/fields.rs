//! Bodies of a shape of one's own: what was found in one becomes plays, or the reason why it is none (pure).

use super::super::body::{Play, PlayIdentity};
use super::super::body_play::{BodyPlay, NoPlay};
use super::super::ignored::{IgnoredFields, PlayField};
use super::super::play_id::SitePlayId;
use super::super::rejection::Rejection;
use super::super::value;
use super::play_shape::PlayShape;
use super::tree::{ShapeField, ShapeTree};
use super::walk::{FoundFields, ShapeWalk, WalkEnd, Walked};

/// Reads bodies of one shape, one after the other.
#[derive(Clone, Debug)]
pub(in super::super) struct CustomDecoder {
    shape: PlayShape,
    tree: ShapeTree,
}

impl CustomDecoder {
    pub(in super::super) fn new(shape: PlayShape) -> Self {
        let tree = ShapeTree::new(&shape);
        Self { shape, tree }
    }

    /// Reads a body: the one play that it is, or each element of its array for `each`, by index; then `None` is returned.
    ///
    /// # Errors
    /// [`Rejection`]: nothing of the body counts, whatever `each` was given before.
    pub(in super::super) fn decode<'a>(
        &self,
        body: &'a [u8],
        ignored: &mut IgnoredFields,
        mut each: impl FnMut(usize, Result<BodyPlay<'a>, NoPlay<'a>>),
    ) -> Result<Option<BodyPlay<'a>>, Rejection> {
        let walk = ShapeWalk::new(&self.tree, |index, element, found| {
            let play = self.play(found, ignored);
            each(index, play.map_err(|reason| NoPlay { element, reason }));
        });
        match walk.body(body) {
            Ok((Walked::Alone, found)) => self.play(&found, ignored).map(Some),
            Ok((Walked::Array(0), _)) => Err(Rejection::no_plays()),
            Ok((Walked::Array(_), _)) => Ok(None),
            Ok((Walked::NoArray, _)) => Err(self.no_array()),
            Err(end) => Err(self.reason(body, end)),
        }
    }

    fn play<'a>(
        &self,
        found: &FoundFields<'a>,
        ignored: &mut IgnoredFields,
    ) -> Result<BodyPlay<'a>, Rejection> {
        let video = &self.shape.video;
        let Some(raw) = found.of(ShapeField::Video) else {
            return Err(Rejection::new(format_args!("nothing is at {video:#}, --video-field")));
        };
        let video_id = value::video_id(raw).map_err(|why| {
            Rejection::of_value(&format!("what is at {video:#}, --video-field,"), raw, &why)
        })?;
        let id = self.id(found.of(ShapeField::Id))?;
        let enqueued_at_ns =
            ignored.read(PlayField::EnqueuedAt, found.of(ShapeField::Time), value::moment);
        let (identity, resent) = match id {
            Some(_) => (None, false),
            None => numbered(found, ignored),
        };
        let play = Play { video_id, enqueued_at_ns, identity, resent };
        Ok(BodyPlay { play, id, title: found.of(ShapeField::Title) })
    }

    /// Where it is missing or null the play has none.
    fn id(&self, raw: Option<&[u8]>) -> Result<Option<SitePlayId>, Rejection> {
        let (Some(raw), Some(pointer)) = (raw, &self.shape.id) else { return Ok(None) };
        if raw == b"null" {
            return Ok(None);
        }
        SitePlayId::read(raw).map(Some).map_err(|why| {
            Rejection::of_value(&format!("what is at {pointer:#}, --id-field,"), raw, &why)
        })
    }

    fn no_array(&self) -> Rejection {
        match &self.shape.plays {
            Some(plays) => Rejection::new(format_args!("no array is at {plays:#}, --plays-field")),
            None => Rejection::no_plays(),
        }
    }

    /// Why a body was not read to its end.
    #[cold]
    fn reason(&self, body: &[u8], end: WalkEnd) -> Rejection {
        match end {
            WalkEnd::TooMany => Rejection::too_many_plays(PlayShape::PLAYS_MAX),
            WalkEnd::Twice => {
                Rejection::new("a key on the way to a field stands twice in one object")
            }
            WalkEnd::Malformed => Rejection::of_json(body),
        }
    }
}

/// Which of its producer's plays it is, and whether that sends it again, where its body says so.
fn numbered(found: &FoundFields<'_>, ignored: &mut IgnoredFields) -> (Option<PlayIdentity>, bool) {
    let producer =
        ignored.read(PlayField::Producer, found.of(ShapeField::Producer), value::producer);
    let seq = ignored.read(PlayField::Seq, found.of(ShapeField::Seq), value::seq);
    let resent = ignored.read(PlayField::Resent, found.of(ShapeField::Resent), value::resent);
    let identity = producer.zip(seq).map(|(producer, seq)| PlayIdentity { producer, seq });
    (identity, resent.unwrap_or(false))
}
