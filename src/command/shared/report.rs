//! What `run` and `process` say at their end: a text for people, one JSON object for scripts (pure).

use std::fmt;

use serde::Serialize;

use crate::model::config::Durability;
use crate::model::words::{grouped, many};
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
    /// Whether the counts of all parts agree, where known: not of a run that was stopped, where nothing is wrong.
    pub(crate) verified: Option<bool>,
    /// Whether it was told to stop before the end.
    pub(crate) stopped: bool,
    /// Plays whose producer had sent them before in vain.
    pub(crate) recovered: u64,
    /// Repeats that told another video than the play that was counted.
    pub(crate) conflicting_duplicates: u64,
    /// Plays whose repeats are known by the window alone: by the play's own id or nsqd's message ID. Only in the text.
    #[serde(skip)]
    pub(crate) in_window: u64,
    /// Whether plays have ids of their own, `--id-field`. Only in the text.
    #[serde(skip)]
    pub(crate) has_ids: bool,
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
            stopped: false,
            recovered: counters.recovered,
            conflicting_duplicates: counters.conflicting,
            in_window: counters.by_message,
            has_ids: false,
            durability,
        }
    }
}

impl RunReport {
    /// What it tells people: name and value of each line.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { seconds, messages_per_second, .. } = self;
        let rate = grouped(*messages_per_second as u64);
        let mut lines = vec![
            ("messages", format!("{} in {seconds:.2} s: {rate} a second", grouped(self.messages))),
            (
                "counted",
                format!(
                    "{} of {}; {}, {} rejected",
                    many(self.counted, "play"),
                    many(self.videos, "video"),
                    many(self.duplicates, "duplicate"),
                    grouped(self.rejected)
                ),
            ),
        ];
        if self.recovered > 0 {
            let plays = many(self.recovered, "play");
            lines.push(("recovered", format!("{plays}: lost on the way and sent again")));
        }
        if self.in_window > 0 {
            let plays = many(self.in_window, "play");
            lines.push(if self.has_ids {
                ("remembered", format!("{plays}: repeats known by their id while it is remembered"))
            } else {
                ("unidentified", format!("{plays}: repeats known by nsqd's message ID only"))
            });
        }
        if let Some(ConsumptionTimes { mean, p50, p99, max }) = self.consumption_ms {
            let text =
                format!("mean {mean:.1} ms, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms");
            lines.push(("consumption", text));
        }
        lines.push(("published", self.published()));
        let verified = match (self.verified, self.stopped) {
            (Some(true), _) => Some("yes"),
            (Some(false), _) => Some("NO"),
            (None, true) => Some("stopped before the end; what was counted until then is right"),
            (None, false) => None,
        };
        lines.extend(verified.map(|verified| ("verified", verified.to_owned())));
        let survives = match self.durability {
            Durability::None => "none: the counts were in memory only",
            Durability::Process => "process: a count survives kill -9 of any part",
            Durability::Power => "power: a count survives a power loss, too",
        };
        lines.push(("durability", survives.to_owned()));
        lines
    }

    fn published(&self) -> String {
        let mut text = format!("in {}", many(self.published_messages, "message"));
        if let [_, _, ..] = &self.dashboards[..] {
            let one = |told: &DashboardReport| {
                format!("{} to {}", grouped(told.published_messages), told.url)
            };
            let each: Vec<_> = self.dashboards.iter().map(one).collect();
            text += &format!(": {}", each.join(", "));
        }
        if let Some(plays) = self.dashboard_plays {
            text += &format!("; the dashboard shows {}", many(plays, "play"));
        }
        text
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.lines().into_iter().enumerate() {
            let before = if number == 0 { "" } else { "\n" };
            write!(f, "{before}  {name:<12} {value}")?;
        }
        Ok(())
    }
}

/// Messages a second; 0 in no time.
pub(crate) fn rate(messages: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { messages as f64 / seconds } else { 0.0 }
}
