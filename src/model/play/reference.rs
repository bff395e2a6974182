//! What is a play and what is none, and the reason (pure): serde_json's word on it, which is the last. It costs several
//! times what `decoder` costs, so it is asked only about what `decoder` does not take.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::body::{Play, PlayIdentity};
use super::ignored::{IgnoredFields, PlayField};
use super::rejection::Rejection;
use super::value;

/// What makes a body a play: an object with a video id as `video_id`, and none of our fields twice. Unknown fields are ignored,
/// so that anyone's producer can feed us.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    video_id: &'a RawValue,
    #[serde(default, rename = "enqueued_at")]
    _enqueued_at: IgnoredAny,
    #[serde(default, rename = "producer")]
    _producer: IgnoredAny,
    #[serde(default, rename = "seq")]
    _seq: IgnoredAny,
    #[serde(default, rename = "resent")]
    _resent: IgnoredAny,
}

/// What of it may be anything.
#[derive(Deserialize)]
struct OptionalFields<'a> {
    #[serde(borrow)]
    enqueued_at: Option<&'a RawValue>,
    #[serde(borrow)]
    producer: Option<&'a RawValue>,
    #[serde(borrow)]
    seq: Option<&'a RawValue>,
    #[serde(borrow)]
    resent: Option<&'a RawValue>,
}

impl Play {
    /// Reads a message body with serde_json alone, and says which of its fields could not be read. [`Play::decode`] says the
    /// same of every body, sooner: this is for those who compare the two.
    ///
    /// # Errors
    /// As [`Play::decode`].
    #[cold]
    pub fn decode_by_serde(body: &[u8]) -> Result<(Self, IgnoredFields), Rejection> {
        // Serde would take an array of the fields' values, too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Rejection::new("expected a JSON object"));
        }
        let Body { video_id, .. } = serde_json::from_slice(body).map_err(Rejection::new)?;
        let video_id = video_id.get();
        let video_id = value::video_id(video_id.as_bytes())
            .map_err(|why| Rejection::of_value("video_id", video_id.as_bytes(), &why))?;
        // Bytes that are no UTF-8 can only be in strings that cannot be read.
        let text = String::from_utf8_lossy(body);
        let fields: OptionalFields<'_> = serde_json::from_str(&text).map_err(Rejection::new)?;
        let mut ignored = IgnoredFields::default();
        let enqueued_at_ns =
            ignored.read(PlayField::EnqueuedAt, json(fields.enqueued_at), value::moment);
        let producer = ignored.read(PlayField::Producer, json(fields.producer), value::producer);
        let seq = ignored.read(PlayField::Seq, json(fields.seq), value::seq);
        let resent = ignored.read(PlayField::Resent, json(fields.resent), value::resent);
        let identity = producer.zip(seq).map(|(producer, seq)| PlayIdentity { producer, seq });
        let resent = resent.unwrap_or(false);
        Ok((Self { video_id, enqueued_at_ns, identity, resent }, ignored))
    }
}

fn json(raw: Option<&RawValue>) -> Option<&[u8]> {
    raw.map(|raw| raw.get().as_bytes())
}
