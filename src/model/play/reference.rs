//! What is a play and what is none, and the reason (pure): serde_json's word on it, which is the last. It costs several
//! times what `decoder` costs, so it is asked only about what `decoder` does not take.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::body::{Play, PlayIdentity};
use super::ignored::{IgnoredFields, PlayField};
use super::rejection::Rejection;
use super::value::{self, Unreadable};

/// What makes a body a play: an object with a UUID as `video_id`, and none of our fields twice. Unknown fields are ignored,
/// so that anyone's producer can feed us.
#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "video_id")]
    video_id: Uuid,
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
        // Bytes that are no UTF-8 can only be in strings that cannot be read.
        let text = String::from_utf8_lossy(body);
        let fields: OptionalFields<'_> = serde_json::from_str(&text).map_err(Rejection::new)?;
        let mut ignored = IgnoredFields::default();
        let enqueued_at_ns =
            read(PlayField::EnqueuedAt, fields.enqueued_at, value::moment, &mut ignored);
        let producer = read(PlayField::Producer, fields.producer, value::producer, &mut ignored);
        let seq = read(PlayField::Seq, fields.seq, value::seq, &mut ignored);
        let resent = read(PlayField::Resent, fields.resent, value::resent, &mut ignored);
        let identity = producer.zip(seq).map(|(producer, seq)| PlayIdentity { producer, seq });
        let resent = resent.unwrap_or(false);
        Ok((Self { video_id: video_id.into(), enqueued_at_ns, identity, resent }, ignored))
    }
}

fn read<T>(
    field: PlayField,
    raw: Option<&RawValue>,
    read: fn(&[u8]) -> Result<Option<T>, Unreadable>,
    ignored: &mut IgnoredFields,
) -> Option<T> {
    let raw = raw?.get().as_bytes();
    read(raw).unwrap_or_else(|Unreadable| {
        ignored.add(field, raw);
        None
    })
}

/// Parses the id here, to say in the error what stood in its place.
fn video_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Uuid;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a UUID as video_id")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Uuid, E> {
            Uuid::try_parse(text).map_err(|_| {
                let start: String = text.chars().take(80).collect();
                E::custom(format_args!("video_id {start:?} is not a UUID"))
            })
        }
    }
    deserializer.deserialize_str(Visitor)
}
