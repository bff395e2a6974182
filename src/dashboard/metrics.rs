//! `GET /metrics`: the Prometheus text format, version 0.0.4, or OpenMetrics 1.0 for those who ask for it (pure).

use std::fmt::{Display, Write};
use std::time::Instant;

use super::live::Live;
use super::store::CatalogSums;
use crate::model::counts::Totals;
use crate::model::time_buckets::middle_us;
use crate::model::unix_time::UnixMs;
use crate::wire::{
    ArrivalFigures, CONSUMPTION_BOUNDS_MS, Consumption, ConsumptionHistogram, LedgerKind,
    LedgerProcessorState, LedgerStatus,
};

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TextFormat {
    Prometheus,
    OpenMetrics,
}

impl TextFormat {
    /// What a client wants that sends this `Accept`.
    pub(super) fn of(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The type of the answer.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What is counted beside the store and the reports.
pub(super) struct DashboardCounters {
    pub(super) updates: u64,
    pub(super) refused: u64,
    pub(super) streams: usize,
    /// Bytes that the start has cut off the journal.
    pub(super) cut_bytes: u64,
    /// Until when the certificate of HTTPS is valid.
    pub(super) certificate: Option<UnixMs>,
    pub(super) catalog: CatalogSums,
}

/// Of a processor: name, kind, help, value.
/// Bounds of the histogram besides those that every processor tells: a backlog of minutes is told from one of hours.
const MORE_BOUNDS_MS: [u64; 6] = [30_000, 120_000, 300_000, 1_800_000, 3_600_000, 36_000_000];

type PerProcessor = (&'static str, &'static str, &'static str, fn(&Consumption) -> Option<f64>);

const PER_PROCESSOR: [PerProcessor; 8] = [
    ("received", "counter", "Messages received.", |told| Some(told.received as f64)),
    ("counted", "counter", "Plays counted.", |told| Some(told.counted as f64)),
    ("duplicates", "counter", "Plays that had been counted before.", |told| {
        Some(told.duplicates as f64)
    }),
    ("conflicting_duplicates", "counter", "Of these, those that told another video.", |told| {
        Some(told.conflicting as f64)
    }),
    ("recovered", "counter", "Plays counted that were lost on their way and sent again.", |told| {
        Some(told.recovered as f64)
    }),
    ("rejected", "counter", "Bodies that were no play.", |told| Some(told.rejected as f64)),
    ("plays_per_second", "gauge", "Plays counted a second.", |told| Some(told.per_second)),
    (
        "failed",
        "gauge",
        "1 after the processor has stopped counting because of an error.",
        |told| Some(f64::from(u8::from(told.failure.is_some()))),
    ),
];

/// The same of the plays and messages that come to it.
type PerArrivals = (&'static str, &'static str, &'static str, fn(&ArrivalFigures) -> Option<f64>);

const PER_ARRIVALS: [PerArrivals; 5] = [
    (
        "reused_numbers",
        "counter",
        "Plays dropped for a number that was counted before, with another video or perhaps for another play.",
        |told| Some((told.reused.other_video + told.reused.unproven) as f64),
    ),
    (
        "redelivered_unknown",
        "counter",
        "Plays without an identity, counted though nsqd had delivered them before and the window may have forgotten them.",
        |told| Some(told.window.redelivered_unknown as f64),
    ),
    ("window_messages", "gauge", "Messages remembered, for plays without an identity.", |told| {
        Some(told.window.messages as f64)
    }),
    ("window_bytes", "gauge", "Bytes of memory that they take.", |told| {
        Some(told.window.bytes as f64)
    }),
    (
        "window_oldest_seconds",
        "gauge",
        "How long ago nsqd took the first message that is remembered.",
        |told| told.window.oldest_ms.map(|ms| ms as f64 / 1e3),
    ),
];

/// The same of the shared ledger that a processor tells of now.
type PerLedger = (&'static str, &'static str, fn(&LedgerStatus) -> Option<f64>);

const PER_LEDGER: [PerLedger; 5] = [
    ("ledger_up", "1 while the database of its ledger can be used.", |told| {
        Some(f64::from(u8::from(told.away.is_none())))
    }),
    ("ledger_behind", "1 where the database lacks what was committed to it.", |told| {
        Some(f64::from(u8::from(told.behind.is_some())))
    }),
    (
        "lease_seconds",
        "For how long others must take it to be alive, by the database's clock; below 0: they need not.",
        |told| told.me().map(|me| me.lease_ms_left as f64 / 1e3),
    ),
    ("commit_p50_seconds", "Median time of its newest commits to the database.", |told| {
        told.commit_ms_p50.map(|ms| ms / 1e3)
    }),
    ("commit_p99_seconds", "Their 99th percentile.", |told| told.commit_ms_p99.map(|ms| ms / 1e3)),
];

/// The name of a sample of this kind.
fn sample(name: &str, kind: &str) -> String {
    format!("playcounts_{name}{}", if kind == "counter" { "_total" } else { "" })
}

struct MetricsText {
    format: TextFormat,
    out: String,
}

impl MetricsText {
    /// Starts a family; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // OpenMetrics names a family of counters without the end of its samples' name.
        let name = match self.format {
            TextFormat::Prometheus => sample(name, kind),
            TextFormat::OpenMetrics => format!("playcounts_{name}"),
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{line}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: Option<f64>) {
        let Some(value) = value else { return };
        self.family(name, kind, help);
        self.line(format_args!("{} {value}", sample(name, kind)));
    }

    /// What is kept of videos besides their counts.
    fn catalog(&mut self, sums: &CatalogSums) {
        for (name, help, value) in [
            ("titles", "Videos with a title or an address.", sums.titles),
            ("hidden", "Videos that are hidden.", sums.hidden),
            ("deleted", "Videos that are deleted.", sums.deleted),
            ("corrected", "Videos whose counts are corrected.", sums.corrected),
            ("imports", "Imports that count.", sums.imports),
        ] {
            self.single(&format!("dashboard_{name}"), "gauge", help, Some(value as f64));
        }
    }

    /// Which processors have ended in order.
    fn endings(&mut self, live: &Live) {
        let name = "processor_ended";
        self.family(
            name,
            "gauge",
            "1 after it has said that it ends in order: finished or stopped.",
        );
        for (id, has_ended) in live.endings() {
            let (name, ended) = (sample(name, "gauge"), u8::from(has_ended));
            self.line(format_args!("{name}{{processor=\"{id}\"}} {ended}"));
        }
    }

    /// What is odd about the plays and messages that come to processors.
    fn arrivals(&mut self, live: &Live) {
        for (name, kind, help, value) in PER_ARRIVALS {
            let name = format!("processor_{name}");
            self.family(&name, kind, help);
            for (id, told) in live.arrivals() {
                if let Some(value) = value(told) {
                    self.line(format_args!(
                        "{}{{processor=\"{id}\"}} {value}",
                        sample(&name, kind)
                    ));
                }
            }
        }
        let name = "processor_ignored_fields";
        self.family(name, "counter", "Fields of plays that could not be read.");
        for (id, told) in live.arrivals() {
            for (field, figure) in told.ignored.by_name() {
                let (name, count) = (sample(name, "counter"), figure.count);
                self.line(format_args!("{name}{{processor=\"{id}\",field=\"{field}\"}} {count}"));
            }
        }
        let name = "processor_skewed_times";
        self.family(name, "counter", "Times of plays outside the window.");
        for (id, told) in live.arrivals() {
            for (side, count) in [("behind", told.skewed.behind), ("ahead", told.skewed.ahead)] {
                let name = sample(name, "counter");
                self.line(format_args!("{name}{{processor=\"{id}\",side=\"{side}\"}} {count}"));
            }
        }
    }

    /// Which ledgers there are, and how the shared ones fare.
    fn ledgers(&mut self, live: &Live, now: Instant) {
        let name = "processor_ledger_kind";
        self.family(name, "gauge", "1 for where its ledger is: files or postgres.");
        let name = sample(name, "gauge");
        for (id, kind) in live.ledger_kinds(now) {
            let kind = match kind {
                LedgerKind::Files => "files",
                LedgerKind::Postgres => "postgres",
            };
            self.line(format_args!("{name}{{processor=\"{id}\",kind=\"{kind}\"}} 1"));
        }
        for (name, help, value) in PER_LEDGER {
            let name = format!("processor_{name}");
            self.family(&name, "gauge", help);
            for (id, told) in live.ledger_statuses(now) {
                if let Some(value) = value(told) {
                    let name = sample(&name, "gauge");
                    self.line(format_args!("{name}{{processor=\"{id}\"}} {value}"));
                }
            }
        }
        let name = "processor_ledger_processors";
        self.family(
            name,
            "gauge",
            "Processors of its shared ledger as it knows them; dead: nobody publishes what they have counted.",
        );
        let name = sample(name, "gauge");
        for (id, told) in live.ledger_statuses(now) {
            for (label, state) in LedgerProcessorState::ALL {
                let count = told.processors.iter().filter(|known| known.state() == state).count();
                self.line(format_args!("{name}{{processor=\"{id}\",state=\"{label}\"}} {count}"));
            }
        }
    }

    /// Of one processor: the buckets of its histogram in seconds.
    fn histogram(&mut self, name: &str, id: impl Display, told: &ConsumptionHistogram) {
        let name = sample(name, "histogram");
        let ConsumptionHistogram { count, sum_ms, .. } = told;
        for (bound, value) in up_to_bounds(told) {
            // Both formats take 1 for 1.0, but OpenMetrics wants bounds to be written in one way.
            let le = format!("{:?}", bound as f64 / 1e3);
            self.line(format_args!("{name}_bucket{{processor=\"{id}\",le=\"{le}\"}} {value}"));
        }
        self.line(format_args!("{name}_bucket{{processor=\"{id}\",le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum{{processor=\"{id}\"}} {}", sum_ms / 1e3));
        self.line(format_args!("{name}_count{{processor=\"{id}\"}} {count}"));
    }
}

/// How many times are up to each bound in ms, ascending. Between those that every processor tells, more from narrow buckets.
fn up_to_bounds(told: &ConsumptionHistogram) -> Vec<(u64, u64)> {
    let rough = CONSUMPTION_BOUNDS_MS.into_iter().zip(told.buckets);
    let narrow = MORE_BOUNDS_MS.into_iter().filter(|_| !told.fine.is_empty()).map(|bound| {
        let below = told.fine.iter().filter(|(bucket, _)| middle_us(*bucket) <= bound as f64 * 1e3);
        (bound, below.map(|(_, times)| times).sum())
    });
    let mut bounds: Vec<_> = rough.chain(narrow).collect();
    bounds.sort_unstable();
    // What a stranger tells in both ways need not agree.
    let mut most = 0;
    for (_, value) in &mut bounds {
        most = most.max(*value);
        *value = most;
    }
    bounds
}

/// The whole text.
pub(super) fn render(
    format: TextFormat,
    totals: Totals,
    live: &Live,
    counters: &DashboardCounters,
    now: Instant,
) -> String {
    let mut text = MetricsText { format, out: String::new() };
    let point = live.last_point();
    let depth = point.and_then(|point| point.queue_depth);
    for (name, kind, help, value) in [
        ("dashboard_videos", "gauge", "Videos with a count.", Some(totals.videos as f64)),
        ("dashboard_plays", "gauge", "Plays over all videos.", Some(totals.plays as f64)),
        (
            "dashboard_updates",
            "counter",
            "Messages with counts accepted.",
            Some(counters.updates as f64),
        ),
        ("dashboard_refused", "counter", "Writes refused.", Some(counters.refused as f64)),
        ("dashboard_event_streams", "gauge", "Pages that listen.", Some(counters.streams as f64)),
        (
            "dashboard_journal_cut_bytes",
            "gauge",
            "Bytes of the journal that the start has cut off: what a crash had left unfinished.",
            Some(counters.cut_bytes as f64),
        ),
        (
            "dashboard_certificate_expires_seconds",
            "gauge",
            "When the certificate of HTTPS expires, in seconds since 1970; absent without --tls-cert.",
            counters.certificate.map(|until| (until.0 / 1000) as f64),
        ),
        ("queue_depth", "gauge", "Messages in the queue.", depth.map(|depth| depth as f64)),
        (
            "queue_depth_alert",
            "gauge",
            "1 while more messages are in the queue than --depth-alert says.",
            live.depth_alert().map(|on| f64::from(u8::from(on))),
        ),
    ] {
        text.single(name, kind, help, value);
    }
    text.catalog(&counters.catalog);
    for (name, kind, help, value) in PER_PROCESSOR {
        let name = format!("processor_{name}");
        text.family(&name, kind, help);
        for (id, told) in live.consumptions() {
            // The label is a UUID: nothing in it needs escaping.
            if let Some(value) = value(told) {
                text.line(format_args!("{}{{processor=\"{id}\"}} {value}", sample(&name, kind)));
            }
        }
    }
    text.endings(live);
    let name = "processor_consumption_seconds";
    text.family(name, "histogram", "From enqueued to counted.");
    for (id, times) in live.times() {
        text.histogram(name, id, times);
    }
    text.arrivals(live);
    text.ledgers(live, now);
    if format == TextFormat::OpenMetrics {
        text.line("# EOF");
    }
    text.out
}

#[cfg(test)]
mod tests;
