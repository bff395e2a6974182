//! Reads a body from the front to the end and notes where the fields of its shape stand (pure). What nobody asks for is
//! checked and passed over.

use super::super::json::{self, Member};
use super::play_shape::PlayShape;
use super::tree::{ShapeField, ShapeNode, ShapeTree};

/// Where the fields of one play stand, as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FoundFields<'a>([Option<&'a [u8]>; ShapeField::COUNT]);

impl<'a> FoundFields<'a> {
    pub(super) fn of(&self, field: ShapeField) -> Option<&'a [u8]> {
        self.0[field as usize]
    }
}

/// What was read of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// One play, perhaps without fields.
    Alone,
    /// So many plays.
    Array(usize),
    /// No array is where the plays should be.
    NoArray,
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// It is no JSON, or deeper than is read.
    #[default]
    Malformed,
    /// A key on the way to a field stands twice in one object.
    Twice,
    /// More plays than one message may hold.
    TooMany,
}

/// Reads one body; `each` takes the plays of an array: index, JSON, what was found.
pub(super) struct ShapeWalk<'a, 's, F> {
    tree: &'s ShapeTree,
    found: FoundFields<'a>,
    each: F,
    /// The plays of the array, once it was found.
    elements: Option<usize>,
    end: WalkEnd,
}

impl<'a, 's, F: FnMut(usize, &'a [u8], &FoundFields<'a>)> ShapeWalk<'a, 's, F> {
    pub(super) fn new(tree: &'s ShapeTree, each: F) -> Self {
        let (found, end) = (FoundFields::default(), WalkEnd::default());
        Self { tree, found, each, elements: None, end }
    }

    /// Reads all of a body.
    pub(super) fn body(mut self, body: &'a [u8]) -> Result<(Walked, FoundFields<'a>), WalkEnd> {
        let (tree, first) = (self.tree, json::token(body));
        let behind = match first {
            Some((b'[', _)) => self.plays(body),
            _ => self.value(&tree.body, body),
        };
        match behind {
            Some(behind) if json::token(behind).is_none() => {}
            _ => return Err(self.end),
        }
        let walked = match self.elements {
            Some(elements) => Walked::Array(elements),
            None if tree.has_plays => Walked::NoArray,
            None => Walked::Alone,
        };
        Ok((walked, self.found))
    }

    /// The value that stands next, in which `node` is looked for.
    #[inline]
    fn value(&mut self, node: &ShapeNode, rest: &'a [u8]) -> Option<&'a [u8]> {
        let (first, behind_first) = json::token(rest)?;
        let behind = match first {
            b'[' if node.is_plays => self.plays(rest)?,
            b'{' if !node.members.is_empty() => self.object(node, behind_first)?,
            b'[' if !node.members.is_empty() => self.array(node, behind_first)?,
            _ => json::skip_value(rest)?,
        };
        if !node.fields.is_empty() {
            let raw = json::between(rest, behind_first, behind);
            node.fields.iter().for_each(|field| self.found.0[*field as usize] = Some(raw));
        }
        Some(behind)
    }

    fn object(&mut self, node: &ShapeNode, rest: &'a [u8]) -> Option<&'a [u8]> {
        let mut seen = 0_u32;
        let mut member = json::first_member(rest)?;
        loop {
            let key = match member {
                Member::Key(key) => key,
                Member::End(behind) => return Some(behind),
            };
            let (at, behind) = match json::plain_string(key) {
                Some((text, behind)) => (place(node, text), behind),
                None => escaped_place(node, key)?,
            };
            let value = json::expect(behind, b':')?;
            let behind = match at {
                None => json::skip_value(value)?,
                Some(at) => {
                    let bit = 1 << at;
                    if seen & bit != 0 {
                        self.end = WalkEnd::Twice;
                        return None;
                    }
                    seen |= bit;
                    self.value(&node.members[at].node, value)?
                }
            };
            member = json::next_member(behind)?;
        }
    }

    fn array(&mut self, node: &ShapeNode, rest: &'a [u8]) -> Option<&'a [u8]> {
        json::elements(rest, |index, rest| {
            match node.members.iter().find(|member| member.index == Some(index)) {
                Some(member) => self.value(&member.node, rest),
                None => json::skip_value(rest),
            }
        })
    }

    /// The array of plays, which stands next.
    fn plays(&mut self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let tree = self.tree;
        let mut count = 0;
        let behind = json::elements(json::expect(rest, b'[')?, |index, rest| {
            if index >= PlayShape::PLAYS_MAX {
                self.end = WalkEnd::TooMany;
                return None;
            }
            count = index + 1;
            self.found = FoundFields::default();
            let behind = self.value(&tree.element, rest)?;
            let (_, behind_first) = json::token(rest)?;
            (self.each)(index, json::between(rest, behind_first, behind), &self.found);
            Some(behind)
        })?;
        self.elements = Some(count);
        Some(behind)
    }
}

/// Which of a node's members has this key.
#[inline]
fn place(node: &ShapeNode, key: &[u8]) -> Option<usize> {
    node.members.iter().position(|member| member.key.as_bytes() == key)
}

/// The same for a key with escapes, whose opening quote is read; and the bytes behind it.
#[inline(never)]
fn escaped_place<'a>(node: &ShapeNode, key: &'a [u8]) -> Option<(Option<usize>, &'a [u8])> {
    let behind = json::skip_string(key)?;
    let inner = &key[..key.len() - behind.len() - 1];
    let quoted = [b"\"", inner, b"\""].concat();
    // Half of a surrogate pair is in no pointer.
    let text = serde_json::from_slice::<String>(&quoted).ok();
    Some((text.and_then(|text| place(node, text.as_bytes())), behind))
}
