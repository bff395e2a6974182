//! Moments as the parts tell them to each other and keep them (pure).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A moment, in whole milliseconds since the Unix epoch; a plain number in JSON.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The moment `ns` nanoseconds after the epoch, cut to the millisecond.
    pub fn from_ns(ns: u64) -> Self {
        // At most 2^64 / 10^6, far below 2^63.
        Self((ns / 1_000_000) as i64)
    }
}

/// As the parts tell it to each other: not before the epoch.
impl JsonSchema for UnixMs {
    fn schema_name() -> Cow<'static, str> {
        "UnixMs".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "ms since the Unix epoch",
            "type": "integer",
            "minimum": 0,
        })
    }
}

/// As RFC 3339 in UTC: `2026-11-26T07:40:59.5Z`. A number that no calendar holds is shown as the number.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ms: i64, want: &str) {
        assert_eq!(UnixMs(ms).to_string(), want);
    }

    #[test]
    fn rfc3339() {
        check(0, "1970-01-01T00:00:00Z");
        check(1_790_322_059_500, "2026-09-25T07:40:59.5Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(i64::MAX, "9223372036854775807");
    }

    #[test]
    fn nanoseconds_are_cut() {
        assert_eq!(UnixMs::from_ns(1_999_999), UnixMs(1));
        assert_eq!(UnixMs::from_ns(u64::MAX), UnixMs(18_446_744_073_709));
    }
}
