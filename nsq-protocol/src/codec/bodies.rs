//! The message bodies of an MPUB, as they lie in its body on the wire (pure).

use std::ops::Range;

use crate::codec::command_error::{CommandError, CommandLimits};
use crate::codec::error_code::ErrorCode;

/// The bodies of an MPUB: as many as announced, none empty.
///
/// # Example
/// ```
/// use nsq_protocol::{Bodies, CommandLimits};
///
/// let body = b"\0\0\0\x02\0\0\0\x03one\0\0\0\x03two";
/// let bodies = Bodies::decode(body, &CommandLimits::default())?;
/// assert_eq!(bodies.iter().collect::<Vec<_>>(), [b"one", b"two"]);
/// # Ok::<(), nsq_protocol::CommandError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bodies<'a> {
    count: u32,
    /// `[ size | body … ]*`, checked when built.
    wire: &'a [u8],
}

impl<'a> Bodies<'a> {
    /// Of an MPUB whose body has not come.
    pub(super) const NONE: Self = Self { count: 0, wire: b"" };

    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The same, as an MPUB's body begins with it.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the MPUB's body, sizes and count included.
    pub(crate) fn body_size(&self) -> usize {
        4 + self.wire.len()
    }

    /// Whether there is none; not so in a decoded MPUB.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bodies in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.ranges().map({
            let wire = self.wire;
            move |range| &wire[range]
        })
    }

    /// Where in [`Bodies::wire`] each body lies, for a receiver that keeps the buffer instead of copies.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let wire = self.wire;
        let mut at = 0;
        (0..self.count).map(move |_| {
            let size = wire[at..].first_chunk::<4>().expect("checked when built");
            let range = at + 4..at + 4 + u32::from_be_bytes(*size) as usize;
            at = range.end;
            range
        })
    }

    /// The bodies in as many parts as it takes for each to be an MPUB body of at most `max_body_size` bytes, count
    /// and sizes included, with at most `max_count` bodies. One body that is too large is a part of its own.
    pub(crate) fn parts(self, max_body_size: usize, max_count: usize) -> Vec<Bodies<'a>> {
        let mut parts = Vec::new();
        let (mut start, mut count) = (0, 0);
        for body in self.ranges() {
            if count > 0 && (count >= max_count || 4 + body.end - start > max_body_size) {
                let end = body.start - 4;
                parts.push(Bodies { count: count as u32, wire: &self.wire[start..end] });
                (start, count) = (end, 0);
            }
            count += 1;
        }
        parts.push(Bodies { count: count as u32, wire: &self.wire[start..] });
        parts
    }

    /// The sizes and bodies as they go over the wire, without the count in front.
    pub fn wire(&self) -> &'a [u8] {
        self.wire
    }

    /// Reads an MPUB's body by its count and sizes, as nsqd does: what lies behind the last message is not looked at.
    ///
    /// # Errors
    /// [`CommandError`] with nsqd's text.
    pub fn decode(body: &'a [u8], limits: &CommandLimits) -> Result<Self, CommandError> {
        let mut walk = BodiesWalk::default();
        match walk.go_on(body, limits)? {
            None => Ok(walk.bodies(body)),
            Some(_) => Err(walk.cut_short(body.len())),
        }
    }
}

/// How far the body of an MPUB that still arrives has been read: none of it is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BodiesWalk {
    /// Messages announced; 0 until that is read.
    count: u32,
    /// Messages that are there whole.
    whole: u32,
    /// Where, in the MPUB's body, the next one's size lies.
    at: usize,
}

impl BodiesWalk {
    /// Goes on in `body`, an MPUB's body as far as it has come. `Some` bytes of it are needed to get further; `None`
    /// when all messages are there.
    pub(super) fn go_on(
        &mut self,
        body: &[u8],
        limits: &CommandLimits,
    ) -> Result<Option<usize>, CommandError> {
        if self.count == 0 {
            let Some(count) = body.first_chunk::<4>() else { return Ok(Some(4)) };
            let count = i32::from_be_bytes(*count);
            // Four bytes of size and one of body, at least.
            if count <= 0 || count as usize > (limits.max_body_size.max(4) - 4) / 5 {
                return Err(bad_body(format!("MPUB invalid message count {count}")));
            }
            (self.count, self.at) = (count as u32, 4);
        }
        while self.whole < self.count {
            let Some(size) = body[self.at..].first_chunk::<4>() else {
                return Ok(Some(self.at + 4));
            };
            let size = i32::from_be_bytes(*size);
            if size <= 0 {
                let text = format!("MPUB invalid message({}) body size {size}", self.whole);
                return Err(bad_message(text));
            }
            let (size, max) = (size as usize, limits.max_msg_size);
            if size > max {
                return Err(bad_message(format!("MPUB message too big {size} > {max}")));
            }
            let end = self.at + 4 + size;
            // nsqd lets the sum be any number of times as large.
            if end > limits.max_body_size {
                return Err(bad_body(format!(
                    "MPUB body too big {end} > {}",
                    limits.max_body_size
                )));
            }
            if end > body.len() {
                return Ok(Some(end));
            }
            self.at = end;
            self.whole += 1;
        }
        Ok(None)
    }

    /// The messages in `body`, in which all have been found.
    pub(super) fn bodies(self, body: &[u8]) -> Bodies<'_> {
        Bodies { count: self.count, wire: &body[4..self.at] }
    }

    /// Bytes of the MPUB's body that hold the messages found.
    pub(super) fn end(self) -> usize {
        self.at
    }

    /// What nsqd says when nothing follows the `len` bytes that the walk has seen.
    fn cut_short(self, len: usize) -> CommandError {
        if self.count == 0 {
            bad_body("MPUB failed to read message count".into())
        } else if len < self.at + 4 {
            bad_message(format!("MPUB failed to read message({}) body size", self.whole))
        } else {
            bad_message("MPUB failed to read message body".into())
        }
    }
}

fn bad_body(text: String) -> CommandError {
    CommandError::new(ErrorCode::BadBody, text)
}

fn bad_message(text: String) -> CommandError {
    CommandError::new(ErrorCode::BadMessage, text)
}

/// Message bodies written one behind the other, as an MPUB wants them.
///
/// One buffer, no allocation for each body; [`BodiesBuf::clear`] keeps it for the next batch.
///
/// # Example
/// ```
/// let mut bodies = nsq_protocol::BodiesBuf::new();
/// bodies.push(b"one");
/// bodies.push_with(|out| out.extend_from_slice(b"two"));
/// assert_eq!(bodies.len(), 2);
/// assert_eq!(bodies.as_bodies().iter().collect::<Vec<_>>(), [b"one", b"two"]);
///
/// let lines: nsq_protocol::BodiesBuf = "one\ntwo".lines().collect();
/// assert_eq!(lines.as_bodies(), bodies.as_bodies());
/// ```
#[derive(Clone, Debug, Default)]
pub struct BodiesBuf {
    count: u32,
    wire: Vec<u8>,
    /// Where [`BodiesBuf::push_with`] has a body written; kept for the next one.
    body: Vec<u8>,
}

impl BodiesBuf {
    /// No body yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a copy of `body`. An empty body is left out: nsqd refuses it, and with it the whole MPUB.
    ///
    /// # Panics
    /// With a body of 4 GiB or more, whose size has no room on the wire.
    pub fn push(&mut self, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        let size = u32::try_from(body.len()).expect("a body below 4 GiB");
        self.wire.extend_from_slice(&size.to_be_bytes());
        self.wire.extend_from_slice(body);
        self.count += 1;
    }

    /// Appends what `write` leaves in the buffer that it is given, which is empty at first. Nothing is no body.
    ///
    /// # Panics
    /// As [`BodiesBuf::push`].
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        // Not behind the other bodies, which are none of its business.
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        write(&mut body);
        self.push(&body);
        self.body = body;
    }

    /// The bodies, to put into a [`crate::Command::Mpub`].
    pub fn as_bodies(&self) -> Bodies<'_> {
        Bodies { count: self.count, wire: &self.wire }
    }

    /// How many bodies.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the MPUB's body so far, sizes and count included: nsqd allows 5 MiB by default.
    pub fn body_size(&self) -> usize {
        self.as_bodies().body_size()
    }

    /// Forgets the bodies and keeps the buffer.
    pub fn clear(&mut self) {
        self.count = 0;
        self.wire.clear();
    }
}

impl<B: AsRef<[u8]>> Extend<B> for BodiesBuf {
    fn extend<I: IntoIterator<Item = B>>(&mut self, bodies: I) {
        bodies.into_iter().for_each(|body| self.push(body.as_ref()));
    }
}

impl<B: AsRef<[u8]>> FromIterator<B> for BodiesBuf {
    fn from_iter<I: IntoIterator<Item = B>>(bodies: I) -> Self {
        let mut all = Self::new();
        all.extend(bodies);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_writes_a_body_cannot_reach_the_others() {
        let mut bodies = BodiesBuf::new();
        bodies.push(b"one");
        let writers: [fn(&mut Vec<u8>); 6] = [
            |out| out.clear(),
            |out| out.truncate(1),
            |out| *out = Vec::new(),
            |out| *out = b"two".to_vec(),
            |out| drop(out.drain(..)),
            |out| out.splice(..0, *b"three").for_each(drop),
        ];
        writers.into_iter().for_each(|write| bodies.push_with(write));
        assert_eq!(bodies.len(), 3);
        let wire = bodies.as_bodies();
        assert_eq!(wire.iter().collect::<Vec<_>>(), [&b"one"[..], b"two", b"three"]);
        assert_eq!(wire.wire(), b"\0\0\0\x03one\0\0\0\x03two\0\0\0\x05three");
    }
}
