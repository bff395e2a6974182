//! What `run` and `process` say at their end: a text for people, one JSON object for scripts (pure).

use std::fmt;

use serde::Serialize;

use crate::model::config::Durability;
use crate::processor::{DashboardReport, ProcessorReport};
use crate::wire::ConsumptionTimes;

/// The report of `run` and `process`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunReport {
    /// Messages consumed.
    pub(crate) messages: u64,
    /// Plays counted.
    pub(crate) counted: u64,
    /// Plays that came again and were not counted again.
    pub(crate) duplicates: u64,
    /// Bodies that were no play.
    pub(crate) rejected: u64,
    /// Videos with at least one play.
    pub(crate) videos: u64,
    /// `run`: from the first play produced to the last count published; `process`: from the first message to the
    /// last one counted.
    pub(crate) seconds: f64,
    /// `messages / seconds`.
    pub(crate) messages_per_second: f64,
    /// From enqueued to counted.
    pub(crate) consumption_ms: Option<ConsumptionTimes>,
    /// Messages that the dashboards took.
    pub(crate) published_messages: u64,
    /// What each dashboard was told.
    pub(crate) dashboards: Vec<DashboardReport>,
    /// What the dashboard counts in all, where known.
    pub(crate) dashboard_plays: Option<u64>,
    /// Whether the counts of all parts agree, where known.
    pub(crate) verified: Option<bool>,
    /// Plays whose producer had sent them before in vain.
    pub(crate) recovered: u64,
    /// Repeats that told another video than the play that was counted.
    pub(crate) conflicting_duplicates: u64,
    /// Plays without an identity. Only in the text.
    #[serde(skip)]
    pub(crate) unidentified: u64,
    /// What a count survives. Only in the text.
    #[serde(skip)]
    pub(crate) durability: Durability,
}

impl RunReport {
    /// The report of a processor that took `seconds`.
    pub(crate) fn new(processed: &ProcessorReport, seconds: f64, durability: Durability) -> Self {
        let counters = &processed.counters;
        Self {
            messages: processed.consumed,
            counted: counters.counted,
            duplicates: counters.duplicates,
            rejected: counters.rejected,
            videos: processed.videos,
            seconds,
            messages_per_second: rate(processed.consumed, seconds),
            consumption_ms: processed.consumption_ms,
            published_messages: processed.published_messages(),
            dashboards: processed.dashboards.clone(),
            dashboard_plays: None,
            verified: None,
            recovered: counters.recovered,
            conflicting_duplicates: counters.conflicting,
            unidentified: counters.by_message,
            durability,
        }
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, counted, duplicates, rejected, videos, .. } = self;
        let Self { seconds, messages_per_second, .. } = self;
        writeln!(
            f,
            "  messages     {} in {seconds:.2} s: {} a second",
            grouped(*messages),
            grouped(*messages_per_second as u64)
        )?;
        writeln!(
            f,
            "  counted      {} plays of {} videos; {} duplicates, {} rejected",
            grouped(*counted),
            grouped(*videos),
            grouped(*duplicates),
            grouped(*rejected)
        )?;
        if self.recovered > 0 {
            let plays = grouped(self.recovered);
            writeln!(f, "  recovered    {plays} plays that were lost on their way and sent again")?;
        }
        if self.unidentified > 0 {
            let plays = grouped(self.unidentified);
            writeln!(f, "  unidentified {plays} plays: repeats known by nsqd's message ID only")?;
        }
        if let Some(ConsumptionTimes { mean, p50, p99, max }) = self.consumption_ms {
            writeln!(
                f,
                "  consumption  mean {mean:.1} ms, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
            )?;
        }
        write!(f, "  published    in {} messages", grouped(self.published_messages))?;
        if let [_, _, ..] = &self.dashboards[..] {
            let one = |told: &DashboardReport| {
                format!("{} to {}", grouped(told.published_messages), told.url)
            };
            write!(f, ": {}", self.dashboards.iter().map(one).collect::<Vec<_>>().join(", "))?;
        }
        if let Some(plays) = self.dashboard_plays {
            write!(f, "; the dashboard shows {} plays", grouped(plays))?;
        }
        if let Some(verified) = self.verified {
            write!(f, "\n  verified     {}", if verified { "yes" } else { "NO" })?;
        }
        let survives = match self.durability {
            Durability::None => "none: the counts were in memory only",
            Durability::Process => "process: a count survives kill -9 of any part",
            Durability::Power => "power: a count survives a power loss, too",
        };
        write!(f, "\n  durability   {survives}")
    }
}

/// Messages a second; 0 in no time.
pub(crate) fn rate(messages: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { messages as f64 / seconds } else { 0.0 }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
