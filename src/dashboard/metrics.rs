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
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dashboard::nsqds::{Alert, Depth};
    use crate::model::time_buckets::bucket_of;
    use crate::nsqd::depth::QueueDepth;

    /// What is said of each metric.
    const PAGE: &str = include_str!("../../docs/operations.md");
    /// What is watched by Prometheus, and shown by Grafana.
    const RULES: &str = include_str!("../../docs/alerts.yml");
    const GRAFANA: &str = include_str!("../../docs/grafana.json");
    use crate::wire::{LedgerProcessor, ProcessorEnding};

    /// One whose database is away, and of two processors one is dead.
    fn ledger() -> LedgerStatus {
        let processor = |id, is_me: bool| LedgerProcessor {
            id: uuid::Uuid::from_u128(id),
            lease_ms_left: -2_500,
            epoch: 1,
            is_me,
            is_alive: is_me,
            published_by: None,
            last_record: 3,
            plays: 40,
            untold: None,
        };
        LedgerStatus {
            kind: LedgerKind::Postgres,
            processors: vec![processor(1, true), processor(2, false)],
            away: Some("refused".to_owned()),
            commit_ms_p99: Some(125.0),
            ..LedgerStatus::default()
        }
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let mut live = Live::default();
        let histogram = ConsumptionHistogram {
            buckets: std::array::from_fn(|n| n as u64),
            count: 20,
            sum_ms: 1500.0,
            fine: vec![(bucket_of(1_000), 14), (bucket_of(100_000_000), 6)],
        };
        let mut arrivals = ArrivalFigures::default();
        arrivals.ignored.producer.count = 3;
        arrivals.skewed.ahead = 4;
        (arrivals.reused.other_video, arrivals.reused.unproven) = (5, 6);
        arrivals.window.oldest_ms = Some(1500);
        let told = Consumption {
            arrivals: Some(Box::new(arrivals)),
            counted: 12,
            per_second: 0.5,
            histogram: Some(Box::new(histogram)),
            ledger_status: Some(Box::new(ledger())),
            ..Consumption::default()
        };
        let now = Instant::now();
        live.report(uuid::Uuid::from_u128(1), None, Some(told), now);
        let ended = Some((ProcessorEnding::Stopped, UnixMs(5)));
        live.ended(uuid::Uuid::from_u128(1), ended);
        live.set_queue(Depth {
            queue: Some(QueueDepth::default()),
            alert: Some(Alert { above: 5, on: Some(false) }),
            ..Depth::default()
        });
        live.sample(UnixMs(0), now, 10);
        let catalog = CatalogSums { titles: 5, hidden: 1, deleted: 2, corrected: 3, imports: 4 };
        let counters = DashboardCounters {
            updates: 3,
            refused: 1,
            streams: 2,
            cut_bytes: 7,
            certificate: None,
            catalog,
        };
        let render =
            |format| render(format, Totals { videos: 2, plays: 10 }, &live, &counters, now);
        let text = render(TextFormat::of("text/html"));
        let open =
            render(TextFormat::of("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        for (text, family) in [(&text, "_total"), (&open, "")] {
            let id = "{processor=\"00000000-0000-0000-0000-000000000001\"";
            for sample in [
                "playcounts_dashboard_plays 10\n".to_owned(),
                "playcounts_dashboard_journal_cut_bytes 7\n".to_owned(),
                "playcounts_dashboard_titles 5\n".to_owned(),
                "playcounts_dashboard_deleted 2\n".to_owned(),
                "playcounts_dashboard_imports 4\n".to_owned(),
                format!("# TYPE playcounts_processor_counted{family} counter\n"),
                format!("playcounts_processor_counted_total{id}}} 12\n"),
                format!("playcounts_processor_consumption_seconds_bucket{id},le=\"0.001\"}} 0\n"),
                format!("playcounts_processor_consumption_seconds_bucket{id},le=\"1.0\"}} 9\n"),
                format!("playcounts_processor_consumption_seconds_bucket{id},le=\"30.0\"}} 14\n"),
                format!("playcounts_processor_consumption_seconds_bucket{id},le=\"120.0\"}} 20\n"),
                format!("playcounts_processor_consumption_seconds_bucket{id},le=\"+Inf\"}} 20\n"),
                format!("playcounts_processor_consumption_seconds_sum{id}}} 1.5\n"),
                format!("playcounts_processor_ended{id}}} 1\n"),
                format!("playcounts_processor_ignored_fields_total{id},field=\"producer\"}} 3\n"),
                format!("playcounts_processor_skewed_times_total{id},side=\"ahead\"}} 4\n"),
                format!("playcounts_processor_reused_numbers_total{id}}} 11\n"),
                format!("playcounts_processor_window_oldest_seconds{id}}} 1.5\n"),
                format!("playcounts_processor_ledger_kind{id},kind=\"postgres\"}} 1\n"),
                format!("playcounts_processor_ledger_up{id}}} 0\n"),
                format!("playcounts_processor_ledger_behind{id}}} 0\n"),
                format!("playcounts_processor_lease_seconds{id}}} -2.5\n"),
                format!("playcounts_processor_commit_p99_seconds{id}}} 0.125\n"),
                format!("playcounts_processor_ledger_processors{id},state=\"alive\"}} 1\n"),
                format!("playcounts_processor_ledger_processors{id},state=\"dead\"}} 1\n"),
            ] {
                assert!(text.contains(&format!("\n{sample}")), "{sample}{text}");
            }
            for line in text.lines().filter(|line| !line.starts_with("# ")) {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with("playcounts_") && value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(open.ends_with("\n# EOF\n") && !text.contains("EOF"));
        let served: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `playcounts_"));
        let described: BTreeSet<String> =
            rows.filter_map(|row| Some(format!("playcounts_{}", row.split_once('`')?.0))).collect();
        let described: BTreeSet<&str> = described.iter().map(String::as_str).collect();
        assert_eq!(described, served, "docs/operations.md and what is served");
        for (page, used) in [("docs/alerts.yml", RULES), ("docs/grafana.json", GRAFANA)] {
            let others = names(used).filter(|name| !served.contains(name)).collect::<Vec<_>>();
            assert_eq!(others, [""; 0], "{page}");
        }
    }

    /// The names of metrics in a text, without what a histogram's samples have behind them.
    fn names(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("playcounts_")).map(|word| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word)
        })
    }

    #[test]
    fn each_alert_is_described() {
        let rules = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        let rules: BTreeSet<&str> = rules.collect();
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| Playcounts"));
        let rows = rows.filter_map(|row| row.split_once(' '));
        let rows: BTreeSet<String> = rows.map(|(name, _)| format!("Playcounts{name}")).collect();
        assert!(rules.iter().copied().eq(rows.iter().map(String::as_str)), "{rules:?} {rows:?}");
    }
}
