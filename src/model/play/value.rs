//! What the value of an optional field says, whoever wrote it (pure). Each function takes a value's JSON, without white
//! space around it. `null` says nothing; of what cannot be read it is said that it cannot.

use std::borrow::Cow;

use jiff::Timestamp;
use uuid::Uuid;

use super::body::PlayIdentity;
use super::json;
use crate::model::video_id::{NoVideoId, VideoId};

/// The value is none that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Why a value is no video id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoId {
    /// A text that is none.
    #[error("{0}")]
    Text(#[from] NoVideoId),
    /// A string that is no Unicode text, such as half of a surrogate pair.
    #[error("a string that is no Unicode text")]
    NotUnicode,
    /// A number with a fraction or an exponent.
    #[error("a whole number has no fraction and no exponent")]
    Fraction,
    /// Of another type: which.
    #[error("a text or a whole number is expected, not {0}")]
    Type(&'static str),
}

/// The first moment that is read, in ns since the Unix epoch: in March 1973. A number below it is of a larger unit.
pub(super) const EARLIEST_NS: u64 = 100_000_000_000_000_000;

/// Below which number a moment is in a unit, and how many ns that unit has. Each covers 1973 to 5138, and the next begins
/// where it ends.
const UNITS: [(u64, u64); 4] = [
    (100_000_000_000, 1_000_000_000),
    (100_000_000_000_000, 1_000_000),
    (EARLIEST_NS, 1_000),
    (u64::MAX, 1),
];

/// The longest text that is looked at, in bytes: longer than any moment, number or UUID.
const TEXT_MAX: usize = 64;

/// A video id: a string, or a whole number, whose text are its digits as they stand there.
pub(super) fn video_id(raw: &[u8]) -> Result<VideoId, NoId> {
    Ok(VideoId::parse_bytes(&id_text(raw)?)?)
}

/// The text of what may be an id.
pub(super) fn id_text(raw: &[u8]) -> Result<Cow<'_, [u8]>, NoId> {
    match raw.first() {
        Some(b'"') => {
            let inner = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\""));
            let inner = inner.ok_or(NoId::NotUnicode)?;
            if inner.contains(&b'\\') {
                let text = serde_json::from_slice::<String>(raw).map_err(|_| NoId::NotUnicode)?;
                Ok(Cow::Owned(text.into_bytes()))
            } else {
                Ok(Cow::Borrowed(inner))
            }
        }
        Some(b'-' | b'0'..=b'9') => {
            let is_whole = raw.iter().skip(1).all(u8::is_ascii_digit);
            if is_whole { Ok(Cow::Borrowed(raw)) } else { Err(NoId::Fraction) }
        }
        first => Err(NoId::Type(match first {
            Some(b'n') => "null",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            _ => "true or false",
        })),
    }
}

/// A moment, in ns since the Unix epoch: seconds, ms, µs or ns, told apart by size, as a number or in a string; or
/// RFC 3339 with a zone. From 1973 to 2554.
pub(super) fn moment(raw: &[u8]) -> Result<Option<u64>, Unreadable> {
    let ns = match raw.first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            let text = text(raw)?;
            match is_number(text.as_bytes()) {
                true => ns_of_number(&text),
                false => ns_of_date(&text),
            }
        }
        _ if is_number(raw) => str::from_utf8(raw).ok().and_then(ns_of_number),
        _ => None,
    };
    ns.map(Some).ok_or(Unreadable)
}

/// A UUID in any of its forms.
pub(super) fn producer(raw: &[u8]) -> Result<Option<Uuid>, Unreadable> {
    match raw.first() {
        Some(b'n') => Ok(None),
        _ => Uuid::try_parse(&text(raw)?).map(Some).map_err(|_| Unreadable),
    }
}

/// A whole number up to [`PlayIdentity::MAX_SEQ`], which may be written as `7.0` or as `"7"`. Not `"07"` nor `7e0`: who
/// writes them may mean something else, or has lost digits.
pub(super) fn seq(raw: &[u8]) -> Result<Option<u64>, Unreadable> {
    let text;
    let digits = match raw.first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            text = self::text(raw)?;
            text.as_bytes()
        }
        _ => match raw.iter().position(|byte| *byte == b'.') {
            Some(point) if raw[point + 1..].iter().all(|byte| *byte == b'0') => &raw[..point],
            _ => raw,
        },
    };
    match json::number(digits) {
        Some((seq, [])) if seq <= PlayIdentity::MAX_SEQ && digits[0].is_ascii_digit() => {
            Ok(Some(seq))
        }
        _ => Err(Unreadable),
    }
}

/// `true` or `false`.
pub(super) fn resent(raw: &[u8]) -> Result<Option<bool>, Unreadable> {
    match raw {
        b"null" => Ok(None),
        b"true" => Ok(Some(true)),
        b"false" => Ok(Some(false)),
        _ => Err(Unreadable),
    }
}

/// The text of a string.
fn text(raw: &[u8]) -> Result<Cow<'_, str>, Unreadable> {
    let inner =
        raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")).ok_or(Unreadable)?;
    // In escapes it is up to six times as long.
    let text = if inner.len() <= 6 * TEXT_MAX && inner.contains(&b'\\') {
        Cow::Owned(serde_json::from_slice(raw).map_err(|_| Unreadable)?)
    } else {
        Cow::Borrowed(str::from_utf8(inner).map_err(|_| Unreadable)?)
    };
    if text.len() <= TEXT_MAX { Ok(text) } else { Err(Unreadable) }
}

/// Whether all of it is one number of JSON.
fn is_number(text: &[u8]) -> bool {
    let first = text.first();
    first.is_some_and(|byte| byte.is_ascii_digit())
        && json::skip_value(text).is_some_and(<[u8]>::is_empty)
}

fn ns_of_number(text: &str) -> Option<u64> {
    if let Some((number, [])) = json::number(text.as_bytes()) {
        return ns_of_integer(number);
    }
    // Good for some 100 ns: a clock is not better. Beyond u64 it is no moment either.
    let number: f64 = text.parse().ok().filter(|number| *number < u64::MAX as f64)?;
    let (_, scale) = UNITS.iter().find(|(below, _)| number < *below as f64)?;
    let ns = number * *scale as f64;
    (ns >= EARLIEST_NS as f64 && ns < u64::MAX as f64).then_some(ns as u64)
}

fn ns_of_integer(number: u64) -> Option<u64> {
    let (_, scale) = UNITS.iter().find(|(below, _)| number < *below)?;
    number.checked_mul(*scale).filter(|ns| *ns >= EARLIEST_NS)
}

fn ns_of_date(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok().filter(|ns| *ns >= EARLIEST_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one unit or another, 2026-09-21T14:13:20.5Z but for what the unit cuts off.
    const NS: u64 = 1_790_000_000_500_000_000;

    #[test]
    fn a_moment_is_told_apart_by_its_size() {
        let whole = 1_790_000_000_000_000_000;
        for (raw, ns) in [
            ("1790000000500000000", Some(NS)),
            ("1790000000500000", Some(NS)),
            ("1790000000500", Some(NS)),
            ("1790000000", Some(whole)),
            ("1790000000.5", Some(NS)),
            ("1790000000500.0", Some(NS)),
            ("1.7900000005e18", Some(NS)),
            ("1.79E+9", Some(whole)),
            ("\"1790000000500\"", Some(NS)),
            ("\"1790000000.5\"", Some(NS)),
            ("\"1790000000500000000\"", Some(NS)),
            ("\"2026-09-21T14:13:20.5Z\"", Some(NS)),
            ("\"2026-09-21T16:13:20.500+02:00\"", Some(NS)),
            ("\"2026-09-21T10:13:20.500000000-0400\"", Some(NS)),
            ("\"2026-09-21 14:13:20.5Z\"", Some(NS)),
            ("\"2026-09-21T14:13:20\\u002e5Z\"", Some(NS)),
            // Each unit from its first number to its last.
            ("100000000", Some(EARLIEST_NS)),
            ("99999999", None),
            ("18446744073", Some(18_446_744_073_000_000_000)),
            ("18446744074", None),
            ("99999999999", None),
            ("100000000000", Some(EARLIEST_NS)),
            ("99999999999999", None),
            ("100000000000000", Some(EARLIEST_NS)),
            ("99999999999999999", None),
            ("100000000000000000", Some(EARLIEST_NS)),
            ("18446744073709551614", Some(u64::MAX - 1)),
            ("18446744073709551616", None),
            ("1e400", None),
            ("1e-400", None),
            ("0", None),
            ("0.0", None),
            ("-1790000000", None),
            ("\"-1790000000\"", None),
            ("true", None),
            ("{}", None),
            ("[1790000000]", None),
            ("\"\"", None),
            ("\" 1790000000\"", None),
            ("\"01790000000\"", None),
            ("\"0x6ab0\"", None),
            ("\"inf\"", None),
            ("\"yesterday\"", None),
            // Without a zone it is many moments.
            ("\"2026-09-21T14:13:20\"", None),
            ("\"2026-09-21\"", None),
            ("\"2026-13-21T14:13:20Z\"", None),
            ("\"0001-01-01T00:00:00Z\"", None),
            ("\"1970-01-01T00:00:00Z\"", None),
            ("\"9999-12-31T23:59:59Z\"", None),
        ] {
            assert_eq!(moment(raw.as_bytes()), ns.map(Some).ok_or(Unreadable), "{raw}");
        }
        assert_eq!(moment(b"null"), Ok(None));
        assert_eq!(moment(format!("\"{NS}{}\"", " ".repeat(100)).as_bytes()), Err(Unreadable));
    }

    #[test]
    fn a_number_may_be_in_a_string() {
        for (raw, number) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("9007199254740993.000", Some((1 << 53) + 1)),
            ("\"7\"", Some(7)),
            ("\"0\"", Some(0)),
            ("\"\\u0037\"", Some(7)),
            ("4611686018427387904", Some(PlayIdentity::MAX_SEQ)),
            ("\"4611686018427387904\"", Some(PlayIdentity::MAX_SEQ)),
            ("4611686018427387905", None),
            ("18446744073709551616", None),
            ("7.5", None),
            ("7e0", None),
            ("-0", None),
            ("-7", None),
            ("\"07\"", None),
            ("\"+7\"", None),
            ("\" 7\"", None),
            ("\"7 \"", None),
            ("\"7.0\"", None),
            ("\"\"", None),
            ("\"seven\"", None),
            ("true", None),
            ("[7]", None),
            ("{\"a\":7}", None),
        ] {
            assert_eq!(seq(raw.as_bytes()), number.map(Some).ok_or(Unreadable), "{raw}");
        }
        assert_eq!(seq(b"null"), Ok(None));
    }

    #[test]
    fn a_producer_is_a_uuid_and_resent_a_boolean() {
        let id = Uuid::from_u128(7);
        for raw in
            [format!("\"{id}\""), format!("\"{}\"", id.simple()), format!("\"\\u007b{id}}}\"")]
        {
            assert_eq!(producer(raw.as_bytes()), Ok(Some(id)), "{raw}");
        }
        for raw in ["\"web-1\"", "\"\"", "7", "true", "[]", "{}", "\"\\ud800\""] {
            assert_eq!(producer(raw.as_bytes()), Err(Unreadable), "{raw}");
        }
        assert_eq!(producer(b"null"), Ok(None));
        for (raw, read) in
            [("true", Ok(Some(true))), ("false", Ok(Some(false))), ("null", Ok(None))]
        {
            assert_eq!(resent(raw.as_bytes()), read);
        }
        for raw in ["0", "1", "\"true\"", "\"false\"", "[]"] {
            assert_eq!(resent(raw.as_bytes()), Err(Unreadable), "{raw}");
        }
    }
}
