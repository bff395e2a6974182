//! Reads a message body: JSON of anyone's producer (pure). The fields that are ours are read, all others are checked and
//! passed over, in one go from the front to the end. What is wrong or unusual (an escape in a key, a UUID in escapes, a field
//! twice) is left to `reference`.

use uuid::Uuid;

use super::body::{Play, PlayIdentity};
use super::json::{self, Member};
use super::rejection::Rejection;
use super::words;

impl Play {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`Rejection`] when it is no JSON object with a UUID as `video_id`, or when `enqueued_at`, `producer`, `seq` or
    /// `resent` is there and of the wrong type.
    pub fn decode(body: &[u8]) -> Result<Self, Rejection> {
        PlayDecoder::default().decode(body)
    }
}

/// Reads message bodies one after the other. Mostly they are of the same producer as those before, whose id is then not
/// parsed again.
#[derive(Debug, Default)]
pub struct PlayDecoder {
    /// A producer's id, as text and as it is.
    known: Option<([u8; 36], Uuid)>,
}

/// The fields as they stand in a body: the outer `Option` is whether it is there, an inner one whether it is not `null`.
#[derive(Default)]
struct Fields {
    video_id: Option<Uuid>,
    enqueued_at: Option<Option<u64>>,
    producer: Option<Option<Uuid>>,
    seq: Option<Option<u64>>,
    resent: Option<bool>,
}

impl PlayDecoder {
    /// Reads a message body as [`Play::decode`] does.
    ///
    /// # Errors
    /// See there.
    pub fn decode(&mut self, body: &[u8]) -> Result<Play, Rejection> {
        match self.scan(body) {
            Some(play) => Ok(play),
            None => Play::decode_by_serde(body),
        }
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
        match json::token(behind) {
            None => fields.into_play(),
            Some(_) => None,
        }
    }

    /// Reads a field from its key's opening quote on, and gives the bytes behind its value.
    #[inline(always)]
    fn field<'a>(&mut self, key: &'a [u8], fields: &mut Fields) -> Option<&'a [u8]> {
        let (twice, behind) = match key.first()? {
            b'v' if let Some(behind) = key.strip_prefix(b"video_id\"") => {
                let (video_id, behind) = uuid(json::expect(json::expect(behind, b':')?, b'"')?)?;
                (fields.video_id.replace(video_id).is_some(), behind)
            }
            b'e' if let Some(behind) = key.strip_prefix(b"enqueued_at\"") => {
                let (number, behind) = or_null(json::expect(behind, b':')?, json::number)?;
                (fields.enqueued_at.replace(number).is_some(), behind)
            }
            b'p' if let Some(behind) = key.strip_prefix(b"producer\"") => {
                let (id, behind) = or_null(json::expect(behind, b':')?, |value| {
                    self.producer(json::expect(value, b'"')?)
                })?;
                (fields.producer.replace(id).is_some(), behind)
            }
            b's' if let Some(behind) = key.strip_prefix(b"seq\"") => {
                let (number, behind) = or_null(json::expect(behind, b':')?, json::number)?;
                (fields.seq.replace(number).is_some(), behind)
            }
            b'r' if let Some(behind) = key.strip_prefix(b"resent\"") => {
                let (resent, behind) = boolean(json::expect(behind, b':')?)?;
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

impl Fields {
    #[inline(always)]
    fn into_play(self) -> Option<Play> {
        let (producer, seq) = (self.producer.flatten(), self.seq.flatten());
        if seq.is_some_and(|seq| seq > PlayIdentity::MAX_SEQ) {
            return None;
        }
        Some(Play {
            video_id: self.video_id?,
            enqueued_at_ns: self.enqueued_at.flatten(),
            identity: producer.zip(seq).map(|(producer, seq)| PlayIdentity { producer, seq }),
            resent: self.resent.unwrap_or(false),
        })
    }
}

/// A UUID in one of its forms, its opening quote read.
#[inline(always)]
fn uuid(rest: &[u8]) -> Option<(Uuid, &[u8])> {
    if let Some((text, [b'"', behind @ ..])) = rest.split_first_chunk()
        && let Some(uuid) = words::uuid(text)
    {
        return Some((uuid, behind));
    }
    other_uuid(rest)
}

#[inline(never)]
fn other_uuid(rest: &[u8]) -> Option<(Uuid, &[u8])> {
    let (text, behind) = json::plain_string(rest)?;
    Some((Uuid::try_parse_ascii(text).ok()?, behind))
}

/// Reads `null`, or else with `read`.
#[inline(always)]
fn or_null<'a, T>(
    rest: &'a [u8],
    read: impl FnOnce(&'a [u8]) -> Option<(T, &'a [u8])>,
) -> Option<(Option<T>, &'a [u8])> {
    match json::token(rest)? {
        (b'n', behind) => Some((None, behind.strip_prefix(b"ull")?)),
        _ => read(rest).map(|(value, behind)| (Some(value), behind)),
    }
}

fn boolean(rest: &[u8]) -> Option<(bool, &[u8])> {
    match json::token(rest)? {
        (b't', behind) => Some((true, behind.strip_prefix(b"rue")?)),
        (b'f', behind) => Some((false, behind.strip_prefix(b"alse")?)),
        _ => None,
    }
}
