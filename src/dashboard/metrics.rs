//! `GET /metrics`: the Prometheus text format, version 0.0.4 (pure).

use std::fmt::Write;

use super::live::Live;
use super::store::Totals;
use crate::api::Consumption;

/// The type of the answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted beside the store and the reports.
pub(super) struct Counters {
    pub(super) updates: u64,
    pub(super) refused: u64,
    pub(super) streams: usize,
}

/// Of a processor: name, kind, help, value.
type PerProcessor = (&'static str, &'static str, &'static str, fn(&Consumption) -> Option<f64>);

const PER_PROCESSOR: [PerProcessor; 7] = [
    ("received_total", "counter", "Messages received.", |told| Some(told.received as f64)),
    ("counted_total", "counter", "Plays counted.", |told| Some(told.counted as f64)),
    ("duplicates_total", "counter", "Plays that had been counted before.", |told| {
        Some(told.duplicates as f64)
    }),
    ("rejected_total", "counter", "Bodies that were no play.", |told| Some(told.rejected as f64)),
    ("plays_per_second", "gauge", "Plays counted a second.", |told| Some(told.per_second)),
    (
        "consumption_seconds_mean",
        "gauge",
        "Mean time from enqueued to counted since its start.",
        |told| told.since_start.map(|times| times.mean / 1e3),
    ),
    ("consumption_seconds_p99", "gauge", "99th percentile of that time.", |told| {
        told.since_start.map(|times| times.p99 / 1e3)
    }),
];

/// The whole text.
pub(super) fn render(totals: Totals, live: &Live, counters: &Counters) -> String {
    let mut text = String::new();
    let mut single = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "# HELP playcounts_{name} {help}\n# TYPE playcounts_{name} {kind}\nplaycounts_{name} {value}"
            );
        }
    };
    let point = live.last_point();
    single("dashboard_videos", "gauge", "Videos with a count.", Some(totals.videos as f64));
    single("dashboard_plays", "gauge", "Plays over all videos.", Some(totals.plays as f64));
    single(
        "dashboard_updates_total",
        "counter",
        "Messages with counts accepted.",
        Some(counters.updates as f64),
    );
    single("dashboard_refused_total", "counter", "Writes refused.", Some(counters.refused as f64));
    single("dashboard_event_streams", "gauge", "Pages that listen.", Some(counters.streams as f64));
    let depth = point.and_then(|point| point.queue_depth);
    single("queue_depth", "gauge", "Messages in the queue.", depth.map(|depth| depth as f64));
    for (name, kind, help, value) in PER_PROCESSOR {
        let _ = writeln!(
            text,
            "# HELP playcounts_processor_{name} {help}\n# TYPE playcounts_processor_{name} {kind}"
        );
        for (id, told) in live.consumptions() {
            // The label is a UUID: nothing in it needs escaping.
            if let Some(value) = value(told) {
                let _ = writeln!(text, "playcounts_processor_{name}{{processor=\"{id}\"}} {value}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let mut live = Live::default();
        let told = Consumption { counted: 12, per_second: 0.5, ..Consumption::default() };
        live.report(uuid::Uuid::from_u128(1), None, Some(told), std::time::Instant::now());
        let counters = Counters { updates: 3, refused: 1, streams: 2 };
        let text = render(Totals { videos: 2, plays: 10 }, &live, &counters);
        assert!(text.contains("\nplaycounts_dashboard_plays 10\n"), "{text}");
        let sample = "playcounts_processor_counted_total{processor=\"00000000-0000-0000-0000-000000000001\"} 12\n";
        assert!(text.contains(sample), "{text}");
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("playcounts_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
