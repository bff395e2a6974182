//! Reads a message body: JSON of anyone's producer (pure). The fields that are ours are read, all others are checked and
//! passed over, in one go from the front to the end. What is wrong or unusual (an escape in a key, an id in escapes, a field
//! twice) is left to `reference`; what an optional field says that is not written as we write it, to `value`.

use uuid::Uuid;

use super::body::{Play, PlayIdentity};
use super::ignored::{IgnoredFields, PlayField};
use super::json::{self, Member};
use super::rejection::Rejection;
use super::value::{self, EARLIEST_NS, Unreadable};
use super::words;
use crate::model::video_id::VideoId;

impl Play {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`Rejection`] when it is no JSON object with a video id as `video_id`, or one of our fields stands there twice. What
    /// cannot be read of `enqueued_at`, `producer`, `seq` and `resent` is as if it were absent.
    pub fn decode(body: &[u8]) -> Result<Self, Rejection> {
        PlayDecoder::default().decode(body)
    }
}

/// Reads message bodies one after the other. Mostly they are of the same producer as those before, whose id is then not
/// parsed again.
#[derive(Clone, Debug, Default)]
pub struct PlayDecoder {
    /// A producer's id, as text and as it is.
    known: Option<([u8; 36], Uuid)>,
    ignored: IgnoredFields,
}

/// The fields as they stand in a body: the outer `Option` is whether it is there, an inner one whether it says something.
#[derive(Default)]
struct Fields<'a> {
    video_id: Option<VideoId>,
    enqueued_at: Option<Option<u64>>,
    producer: Option<Option<Uuid>>,
    seq: Option<Option<u64>>,
    resent: Option<Option<bool>>,
    /// By field: what stood there, where it could not be read.
    unread: [Option<&'a [u8]>; PlayField::ALL.len()],
}

impl PlayDecoder {
    /// Reads a message body as [`Play::decode`] does.
    ///
    /// # Errors
    /// See there.
    pub fn decode(&mut self, body: &[u8]) -> Result<Play, Rejection> {
        match self.scan(body) {
            Some(play) => Ok(play),
            None => Play::decode_by_serde(body).map(|(play, ignored)| {
                self.ignored.merge(ignored);
                play
            }),
        }
    }

    /// Of the plays that were read since the last call: the optional fields that could not be.
    pub fn take_ignored(&mut self) -> IgnoredFields {
        std::mem::take(&mut self.ignored)
    }

    /// `None` says nothing: a play or none.
    pub(super) fn scan(&mut self, body: &[u8]) -> Option<Play> {
        let mut fields = Fields::default();
        let mut member = json::first_member(json::expect(body, b'{')?)?;
        let behind = loop {
            match member {
                Member::Key(key) => member = json::next_member(self.field(key, &mut fields)?)?,
                Member::End(behind) => break behind,
            }
        };
        if json::token(behind).is_some() {
            return None;
        }
        let unread = fields.unread;
        let play = fields.into_play()?;
        if unread.iter().any(Option::is_some) {
            self.note(&unread);
        }
        Some(play)
    }

    #[inline(never)]
    fn note(&mut self, unread: &[Option<&[u8]>; PlayField::ALL.len()]) {
        for (field, raw) in PlayField::ALL.into_iter().zip(unread) {
            raw.iter().for_each(|raw| self.ignored.add(field, raw));
        }
    }

    /// Reads a field from its key's opening quote on, and gives the bytes behind its value.
    #[inline(always)]
    fn field<'a>(&mut self, key: &'a [u8], fields: &mut Fields<'a>) -> Option<&'a [u8]> {
        let unread = &mut fields.unread;
        let (twice, behind) = match key.first()? {
            b'v' if let Some(behind) = key.strip_prefix(b"video_id\"") => {
                let (video_id, behind) = video_id(json::expect(behind, b':')?)?;
                (fields.video_id.replace(video_id).is_some(), behind)
            }
            b'e' if let Some(behind) = key.strip_prefix(b"enqueued_at\"") => {
                let value = json::expect(behind, b':')?;
                let (ns, behind) = match json::number(value) {
                    Some((ns, behind)) if ns >= EARLIEST_NS && json::is_end(behind) => {
                        (Some(ns), behind)
                    }
                    _ => {
                        unusual(value, value::moment, &mut unread[PlayField::EnqueuedAt as usize])?
                    }
                };
                (fields.enqueued_at.replace(ns).is_some(), behind)
            }
            b'p' if let Some(behind) = key.strip_prefix(b"producer\"") => {
                let value = json::expect(behind, b':')?;
                let (id, behind) = match json::expect(value, b'"')
                    .and_then(|text| self.producer(text))
                {
                    Some((id, behind)) => (Some(id), behind),
                    None => {
                        unusual(value, value::producer, &mut unread[PlayField::Producer as usize])?
                    }
                };
                (fields.producer.replace(id).is_some(), behind)
            }
            b's' if let Some(behind) = key.strip_prefix(b"seq\"") => {
                let value = json::expect(behind, b':')?;
                let (seq, behind) = match json::number(value) {
                    Some((seq, behind)) if seq <= PlayIdentity::MAX_SEQ && json::is_end(behind) => {
                        (Some(seq), behind)
                    }
                    _ => unusual(value, value::seq, &mut unread[PlayField::Seq as usize])?,
                };
                (fields.seq.replace(seq).is_some(), behind)
            }
            b'r' if let Some(behind) = key.strip_prefix(b"resent\"") => {
                let value = json::expect(behind, b':')?;
                let unread = &mut unread[PlayField::Resent as usize];
                let (resent, behind) = unusual(value, value::resent, unread)?;
                (fields.resent.replace(resent).is_some(), behind)
            }
            _ => (false, json::skip_value(json::skip_key(key)?)?),
        };
        (!twice).then_some(behind)
    }

    /// A producer's id, its opening quote read.
    #[inline(always)]
    fn producer<'a>(&mut self, rest: &'a [u8]) -> Option<(Uuid, &'a [u8])> {
        if let Some((text, [b'"', behind @ ..])) = rest.split_first_chunk() {
            if let Some((known, producer)) = &self.known
                && known == text
            {
                return Some((*producer, behind));
            }
            if let Some(producer) = words::uuid(text) {
                self.known = Some((*text, producer));
                return Some((producer, behind));
            }
        }
        other_uuid(rest)
    }
}

impl Fields<'_> {
    #[inline(always)]
    fn into_play(self) -> Option<Play> {
        let (producer, seq) = (self.producer.flatten(), self.seq.flatten());
        Some(Play {
            video_id: self.video_id?,
            enqueued_at_ns: self.enqueued_at.flatten(),
            identity: producer.zip(seq).map(|(producer, seq)| PlayIdentity { producer, seq }),
            resent: self.resent.flatten().unwrap_or(false),
        })
    }
}

/// Reads the value that stands next with `read`, however it is written; what cannot be read is left in `unread`.
#[inline(never)]
fn unusual<'a, T>(
    rest: &'a [u8],
    read: fn(&[u8]) -> Result<Option<T>, Unreadable>,
    unread: &mut Option<&'a [u8]>,
) -> Option<(Option<T>, &'a [u8])> {
    let (raw, behind) = json::raw_value(rest)?;
    let value = read(raw).unwrap_or_else(|Unreadable| {
        *unread = Some(raw);
        None
    });
    Some((value, behind))
}

/// A video id: mostly a GUID of digits and hyphens.
#[inline(always)]
fn video_id(value: &[u8]) -> Option<(VideoId, &[u8])> {
    if let Some(text) = json::expect(value, b'"')
        && let Some((text, [b'"', behind @ ..])) = text.split_first_chunk()
        && let Some(uuid) = words::uuid(text)
    {
        return Some((uuid.into(), behind));
    }
    other_video_id(value)
}

#[inline(never)]
fn other_video_id(value: &[u8]) -> Option<(VideoId, &[u8])> {
    let (raw, behind) = json::raw_value(value)?;
    // What has an escape costs an allocation there.
    Some((value::video_id(raw).ok()?, behind))
}

#[inline(never)]
fn other_uuid(rest: &[u8]) -> Option<(Uuid, &[u8])> {
    let (text, behind) = json::plain_string(rest)?;
    Some((Uuid::try_parse_ascii(text).ok()?, behind))
}
