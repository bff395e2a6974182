//! The play: the body of a message on the queue, its identity and its limits (pure).

use std::fmt;

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// One view of one video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Play {
    /// What was viewed.
    pub video_id: Uuid,
    /// When it was put on the queue, in ns since the Unix epoch by the producer's clock; `None` from a producer
    /// that does not say.
    pub enqueued_at_ns: Option<u64>,
    /// What makes it this play and no other, wherever it is sent again; `None` from a producer without.
    pub identity: Option<PlayIdentity>,
    /// The producer has sent it before and does not know of it: what is new and resent had been lost on its way.
    pub resent: bool,
}

/// The identity of a play: which start of which producer made it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlayIdentity {
    /// Drawn anew at each start of a producer.
    pub producer: Uuid,
    /// 0, 1, 2, … without a gap; at most [`PlayIdentity::MAX_SEQ`].
    pub seq: u64,
}

impl PlayIdentity {
    /// The largest number of a play: far beyond what any producer makes, and room for arithmetic above it.
    pub const MAX_SEQ: u64 = 1 << 62;
}

/// Why a body is no play: one line of at most [`Rejection::MAX_LEN`] characters, which may quote the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(String);

impl Rejection {
    /// The longest reason, in characters.
    pub const MAX_LEN: usize = 200;

    fn new(reason: impl fmt::Display) -> Self {
        let line = reason.to_string();
        Self(
            line.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(Self::MAX_LEN)
                .collect(),
        )
    }

    /// The reason.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    /// Reads a message body.
    ///
    /// # Errors
    /// [`Rejection`] when it is no JSON object with a UUID as `video_id`, or when `enqueued_at`, `producer` or
    /// `seq` is there and of the wrong type.
    pub fn decode(body: &[u8]) -> Result<Self, Rejection> {
        PlayDecoder::default().decode(body)
    }

    /// Reads exactly what [`Play::encode`] writes, byte for byte: half of a processor's work would else be the parsing of
    /// JSON in general. `None` is anything else, play or not.
    fn decode_own(body: &[u8], known: &mut Option<KnownProducer>) -> Option<Self> {
        let mut rest = body.strip_prefix(br#"{"video_id":""#)?;
        let video_id = take_uuid(&mut rest)?;
        rest = rest.strip_prefix(b"\"")?;
        let mut play = Self { video_id, enqueued_at_ns: None, identity: None, resent: false };
        if let Some(after) = rest.strip_prefix(br#","enqueued_at":"#) {
            rest = after;
            play.enqueued_at_ns = Some(take_decimal(&mut rest)?);
        }
        if let Some(after) = rest.strip_prefix(br#","producer":""#) {
            rest = after;
            let producer = take_producer(&mut rest, known)?;
            rest = rest.strip_prefix(br#"","seq":"#)?;
            let seq = take_decimal(&mut rest).filter(|seq| *seq <= PlayIdentity::MAX_SEQ)?;
            play.identity = Some(PlayIdentity { producer, seq });
        }
        if let Some(after) = rest.strip_prefix(br#","resent":true"#) {
            rest = after;
            play.resent = true;
        }
        (rest == b"}").then_some(play)
    }

    fn decode_any(body: &[u8]) -> Result<Self, Rejection> {
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

    /// Appends the message body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut uuid = Uuid::encode_buffer();
        out.extend_from_slice(br#"{"video_id":""#);
        out.extend_from_slice(self.video_id.hyphenated().encode_lower(&mut uuid).as_bytes());
        out.push(b'"');
        if let Some(enqueued_at_ns) = self.enqueued_at_ns {
            out.extend_from_slice(br#","enqueued_at":"#);
            push_decimal(out, enqueued_at_ns);
        }
        if let Some(PlayIdentity { producer, seq }) = self.identity {
            out.extend_from_slice(br#","producer":""#);
            out.extend_from_slice(producer.hyphenated().encode_lower(&mut uuid).as_bytes());
            out.extend_from_slice(br#"","seq":"#);
            push_decimal(out, seq);
        }
        if self.resent {
            out.extend_from_slice(br#","resent":true"#);
        }
        out.push(b'}');
    }
}

/// Reads message bodies one after the other. Mostly they are of the same producer as those before, whose id is then not
/// parsed again.
#[derive(Debug, Default)]
pub struct PlayDecoder {
    known: Option<KnownProducer>,
}

/// A producer's id, as text and as it is.
type KnownProducer = ([u8; 36], Uuid);

impl PlayDecoder {
    /// Reads a message body as [`Play::decode`] does.
    ///
    /// # Errors
    /// See there.
    pub fn decode(&mut self, body: &[u8]) -> Result<Play, Rejection> {
        match Play::decode_own(body, &mut self.known) {
            Some(play) => Ok(play),
            None => Play::decode_any(body),
        }
    }
}

fn take_producer(rest: &mut &[u8], known: &mut Option<KnownProducer>) -> Option<Uuid> {
    let text = rest.first_chunk()?;
    match known {
        Some((same, producer)) if same == text => {
            *rest = &rest[text.len()..];
            Some(*producer)
        }
        _ => {
            let producer = take_uuid(rest)?;
            *known = Some((*text, producer));
            Some(producer)
        }
    }
}

/// Takes a UUID with dashes off the front.
fn take_uuid(rest: &mut &[u8]) -> Option<Uuid> {
    let (text, behind) = rest.split_at_checked(36)?;
    *rest = behind;
    Uuid::try_parse_ascii(text).ok()
}

/// Takes a number, as JSON writes it, off the front; `None` where there is none, or one beyond u64.
fn take_decimal(rest: &mut &[u8]) -> Option<u64> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (text, behind) = rest.split_at(digits);
    if digits == 0 || (digits > 1 && text[0] == b'0') {
        return None;
    }
    *rest = behind;
    text.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIDEO: &str = "0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f11";

    #[track_caller]
    fn accepts(body: &str) -> Play {
        Play::decode(body.as_bytes()).unwrap_or_else(|reason| panic!("{body}: {reason}"))
    }

    #[track_caller]
    fn rejects(body: impl AsRef<[u8]>, reason: &str) {
        let got = Play::decode(body.as_ref()).expect_err("no play");
        assert!(got.as_str().contains(reason), "{got} does not say {reason:?}");
        assert!(got.as_str().chars().count() <= Rejection::MAX_LEN);
        assert!(!got.as_str().contains(['\n', '\x1b']));
    }

    #[test]
    fn a_video_id_is_enough() {
        let play = accepts(&format!(r#"{{"video_id":"{VIDEO}"}}"#));
        assert_eq!(
            play,
            Play {
                video_id: VIDEO.parse().unwrap(),
                enqueued_at_ns: None,
                identity: None,
                resent: false
            }
        );
        assert_eq!(
            accepts(&format!(r#" {{"more":[1,{{}}],"video_id":"{VIDEO}","enqueued_at":null}} "#)),
            play
        );
        assert_eq!(accepts(&format!(r#"{{"video_id":"{}"}}"#, VIDEO.to_uppercase())), play);
        assert_eq!(accepts(&format!(r#"{{"video_id":"{}"}}"#, VIDEO.replace('-', ""))), play);
        // Half an identity identifies nothing.
        assert_eq!(accepts(&format!(r#"{{"video_id":"{VIDEO}","seq":3}}"#)), play);
    }

    #[test]
    fn what_is_no_play_is_rejected_with_its_reason() {
        rejects("", "expected a JSON object");
        rejects("not json", "expected");
        rejects("\u{feff}{}", "expected");
        rejects("{}", "missing field `video_id`");
        rejects(format!(r#"["{VIDEO}",null,null,null]"#), "expected a JSON object");
        rejects(r#"{"video_id""#, "EOF");
        rejects(r#"{"video_id":7}"#, "a UUID as video_id");
        rejects(r#"{"video_id":"<img src=x onerror=alert(1)>"}"#, "<img src=x onerror=alert(1)>");
        rejects("{\"video_id\":\"\\u001b[31m\\n\"}", "is no UUID");
        rejects(format!(r#"{{"video_id":"{}"}}"#, "x".repeat(1 << 20)), "is no UUID");
        rejects(format!(r#"{{"video_id":"{VIDEO}","video_id":"{VIDEO}"}}"#), "duplicate field");
        rejects(format!(r#"{{"video_id":"{VIDEO}","enqueued_at":-1}}"#), "invalid value");
        rejects(format!(r#"{{"video_id":"{VIDEO}","enqueued_at":1e400}}"#), "number");
        rejects(format!(r#"{{"video_id":"{VIDEO}","seq":1.5}}"#), "invalid type");
        rejects(
            format!(r#"{{"video_id":"{VIDEO}","seq":{}}}"#, u64::MAX),
            "is over 4611686018427387904",
        );
        rejects(format!(r#"{{"video_id":"{VIDEO}","producer":"x"}}"#), "UUID");
        rejects(format!(r#"{{"video_id":"{VIDEO}"}} trailing"#), "trailing");
        rejects("[".repeat(100_000), "expected");
        rejects(format!(r#"{{"x":{}"#, "[".repeat(100_000)), "EOF");
        rejects(b"{\"video_id\":\"\xff\xfe\"}", "");
        rejects(b"{\"video_id\":\"\\ud800\"}", "");
    }

    proptest! {
        #[test]
        fn a_play_survives_its_encoding(
            video in any::<u128>(),
            enqueued_at_ns in any::<Option<u64>>(),
            identity in proptest::option::of((any::<u128>(), 0..=PlayIdentity::MAX_SEQ)),
            resent in any::<bool>(),
        ) {
            let play = Play {
                video_id: Uuid::from_u128(video),
                enqueued_at_ns,
                identity: identity.map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq }),
                resent,
            };
            let mut body = Vec::new();
            play.encode(&mut body);
            prop_assert_eq!(Play::decode_own(&body, &mut None), Some(play));
            prop_assert_eq!(Play::decode_any(&body), Ok(play));
        }

        /// The short way never says anything else than the long one.
        #[test]
        fn both_ways_agree_on_what_is_nearly_a_play(
            seq in prop_oneof![any::<u64>(), 0..3u64],
            (at, byte, cut) in (0usize..200, any::<u8>(), 0usize..200),
            what in 0..3,
        ) {
            let play = Play {
                video_id: Uuid::from_u128(0xabcd << 100 | 7),
                enqueued_at_ns: Some(seq),
                identity: Some(PlayIdentity { producer: Uuid::from_u128(9), seq }),
                resent: seq.is_multiple_of(2),
            };
            let mut body = Vec::new();
            play.encode(&mut body);
            let mut decoder = PlayDecoder::default();
            let _ = decoder.decode(&body);
            match what {
                0 => {
                    let at = at % body.len();
                    body[at] = byte;
                }
                1 => body.insert(at % body.len(), byte),
                _ => {
                    let at = at % body.len();
                    body.drain(at..(at + cut % 8).min(body.len()));
                }
            }
            if let Some(play) = Play::decode_own(&body, &mut None) {
                prop_assert_eq!(Play::decode_any(&body), Ok(play));
            }
            // What it knows of the one before changes nothing.
            prop_assert_eq!(decoder.decode(&body), Play::decode(&body));
        }

        #[test]
        fn any_bytes_are_a_play_or_a_rejection(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Play::decode(&body);
        }
    }
}
