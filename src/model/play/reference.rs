//! What is a play and what is none, and the reason (pure): serde_json's word on it, which is the last. It costs several
//! times what `decoder` costs, so it is asked only about what `decoder` does not take.

use std::fmt;

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::body::{Play, PlayIdentity};
use super::rejection::Rejection;

/// The JSON as it stands on the queue. Unknown fields are ignored, so that anyone's producer can feed us.
#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "video_id")]
    video_id: Uuid,
    #[serde(default)]
    enqueued_at: Option<u64>,
    #[serde(default)]
    producer: Option<Uuid>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    resent: bool,
}

impl Play {
    /// Reads a message body with serde_json alone. [`Play::decode`] says the same of every body, sooner: this is for those
    /// who compare the two.
    ///
    /// # Errors
    /// As [`Play::decode`].
    #[cold]
    pub fn decode_by_serde(body: &[u8]) -> Result<Self, Rejection> {
        // Serde would take an array of the fields' values, too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Rejection::new("expected a JSON object"));
        }
        let body: Body = serde_json::from_slice(body).map_err(Rejection::new)?;
        if let Some(seq) = body.seq.filter(|seq| *seq > PlayIdentity::MAX_SEQ) {
            let most = PlayIdentity::MAX_SEQ;
            return Err(Rejection::new(format_args!("seq {seq} is over {most}")));
        }
        let identity =
            body.producer.zip(body.seq).map(|(producer, seq)| PlayIdentity { producer, seq });
        Ok(Self {
            video_id: body.video_id,
            enqueued_at_ns: body.enqueued_at,
            identity,
            resent: body.resent,
        })
    }
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
                E::custom(format_args!("video_id {start:?} is no UUID"))
            })
        }
    }
    deserializer.deserialize_str(Visitor)
}
