//! Periods in whole minutes, hours or days, and how long each of these is kept (pure).

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::unix_time::UnixMs;

/// A minute, in ms.
pub(super) const MINUTE_MS: i64 = 60_000;

/// How long history is kept; days are kept for ever.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Plays by minute.
    pub minutes: Duration,
    /// Plays by hour, and the charts' points.
    pub hours: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { minutes: Duration::from_secs(2 * 86_400), hours: Duration::from_secs(90 * 86_400) }
    }
}

/// How long a bucket is. Buckets are counted from the Unix epoch, so days begin at 0:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    /// 60,000 ms.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Scale {
    /// Each with its name; the finest first.
    pub(crate) const ALL: [(&str, Self); 3] =
        [("minute", Self::Minute), ("hour", Self::Hour), ("day", Self::Day)];

    /// A bucket's length in ms.
    pub(crate) fn step_ms(self) -> i64 {
        self.minutes() * MINUTE_MS
    }

    fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 24 * 60,
        }
    }

    /// When a bucket begins.
    pub(super) fn start(self, bucket: i64) -> UnixMs {
        UnixMs(bucket.saturating_mul(self.step_ms()))
    }

    /// The bucket that holds a moment.
    pub(super) fn bucket(self, at: UnixMs) -> i64 {
        at.0.div_euclid(self.step_ms())
    }

    /// The bucket that holds a minute.
    pub(super) fn of_minute(self, minute: i64) -> i64 {
        minute.div_euclid(self.minutes())
    }

    /// The minutes of a bucket: the first, and the one behind the last.
    pub(super) fn minutes_of(self, bucket: i64) -> (i64, i64) {
        (bucket * self.minutes(), (bucket + 1) * self.minutes())
    }

    /// The table that has it.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Minute => "history_minute",
            Self::Hour => "history_hour",
            Self::Day => "history_day",
        }
    }

    /// The first bucket that is still kept; `None`: all are.
    pub(super) fn oldest(self, keep: Keep, now: UnixMs) -> Option<i64> {
        let kept = match self {
            Self::Minute => keep.minutes,
            Self::Hour => keep.hours,
            Self::Day => return None,
        };
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        Some(self.bucket(UnixMs(now.0.saturating_sub(kept))))
    }
}

/// A period in whole buckets, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Period {
    /// The first bucket.
    pub(crate) first: i64,
    /// The last one.
    pub(crate) last: i64,
}

impl Period {
    /// The buckets that hold `from` to `to`, `to` not included.
    pub(crate) fn of(scale: Scale, from: UnixMs, to: UnixMs) -> Self {
        let first = scale.bucket(from);
        Self { first, last: scale.bucket(UnixMs(to.0 - 1)).max(first) }
    }

    /// The part of it that is in `other`; `None` if they do not meet.
    pub(crate) fn within(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// How many buckets it has.
    pub(crate) fn buckets(self) -> i64 {
        self.last - self.first + 1
    }

    /// As long a one, just before.
    pub(super) fn before(self) -> Self {
        Self { first: self.first - self.buckets(), last: self.first - 1 }
    }

    /// Whether the bucket is in it.
    pub(super) fn contains(self, bucket: i64) -> bool {
        (self.first..=self.last).contains(&bucket)
    }
}

/// The finest scale that is still kept for all of `from` to `to` and has at most `buckets_max` buckets.
pub(super) fn scale_for(
    keep: Keep,
    now: UnixMs,
    from: UnixMs,
    to: UnixMs,
    buckets_max: i64,
) -> Scale {
    let fits = |scale: &Scale| {
        let period = Period::of(*scale, from, to);
        period.buckets() <= buckets_max
            && scale.oldest(keep, now).is_none_or(|oldest| period.first >= oldest)
    };
    Scale::ALL.iter().map(|(_, scale)| *scale).find(fits).unwrap_or(Scale::Day)
}
