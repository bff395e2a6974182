//! The pointers of a shape as one tree, so that a body is read once for all of them (pure).

use super::play_shape::PlayShape;
use crate::model::play::pointer::JsonPointer;

/// A field of a play in a body of any shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShapeField {
    Video,
    Time,
    Id,
    Title,
    Producer,
    Seq,
    Resent,
}

impl ShapeField {
    /// How many there are.
    pub(super) const COUNT: usize = 7;
}

/// What is looked for in a value.
#[derive(Clone, Debug, Default)]
pub(super) struct ShapeNode {
    /// The fields that it is.
    pub(super) fields: Vec<ShapeField>,
    /// It is the array of plays.
    pub(super) is_plays: bool,
    /// What of it is looked into: at most one for each field.
    pub(super) members: Vec<ShapeMember>,
}

/// A member of an object, or an element of an array, that is looked into.
#[derive(Clone, Debug)]
pub(super) struct ShapeMember {
    pub(super) key: String,
    /// Which element of an array it is, where the key is a number without zeros in front.
    pub(super) index: Option<usize>,
    pub(super) node: ShapeNode,
}

/// What is looked for in a body.
#[derive(Clone, Debug)]
pub(super) struct ShapeTree {
    /// In a body that is no array: one play, or the way to an array of them.
    pub(super) body: ShapeNode,
    /// In each play of an array.
    pub(super) element: ShapeNode,
    /// Whether a body that is no array must have one somewhere.
    pub(super) has_plays: bool,
}

impl ShapeTree {
    pub(super) fn new(shape: &PlayShape) -> Self {
        let PlayShape { plays, video, time, id, title } = shape;
        let mut element = ShapeNode::default();
        element.add(video, ShapeField::Video);
        element.add(time, ShapeField::Time);
        // Of a play that has an id these are not read; but whoever has none may have them.
        id.iter().for_each(|id| element.add(id, ShapeField::Id));
        element.add(&JsonPointer::member("producer"), ShapeField::Producer);
        element.add(&JsonPointer::member("seq"), ShapeField::Seq);
        element.add(&JsonPointer::member("resent"), ShapeField::Resent);
        title.iter().for_each(|title| element.add(title, ShapeField::Title));
        let body = match plays {
            None => element.clone(),
            Some(plays) => {
                let mut body = ShapeNode::default();
                body.at(plays).is_plays = true;
                body
            }
        };
        Self { body, element, has_plays: plays.is_some() }
    }
}

impl ShapeNode {
    fn add(&mut self, pointer: &JsonPointer, field: ShapeField) {
        self.at(pointer).fields.push(field);
    }

    /// The node that a pointer leads to; it is made.
    fn at(&mut self, pointer: &JsonPointer) -> &mut Self {
        pointer.tokens().fold(self, |node, token| {
            let members = &mut node.members;
            let known = members.iter().position(|member| member.key == token);
            let at = known.unwrap_or_else(|| {
                let index = token.parse().ok().filter(|index: &usize| index.to_string() == token);
                members.push(ShapeMember { key: token.to_owned(), index, node: Self::default() });
                members.len() - 1
            });
            &mut members[at].node
        })
    }
}
