//! What the metrics say.

use std::collections::BTreeSet;

use super::*;
use crate::dashboard::nsqds::{Alert, Depth};
use crate::model::time_buckets::bucket_of;
use crate::nsqd::depth::QueueDepth;
use crate::wire::{LedgerProcessor, ProcessorEnding};

/// What is said of each metric.
const PAGE: &str = include_str!("../../../docs/operations.md");
/// What is watched by Prometheus, and shown by Grafana.
const RULES: &str = include_str!("../../../docs/alerts.yml");
const GRAFANA: &str = include_str!("../../../docs/grafana.json");

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
        certificate: Some(UnixMs(1_800_000_000_999)),
        catalog,
    };
    let render = |format| render(format, Totals { videos: 2, plays: 10 }, &live, &counters, now);
    let text = render(TextFormat::of("text/html"));
    let open =
        render(TextFormat::of("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
    for (text, family) in [(&text, "_total"), (&open, "")] {
        let id = "{processor=\"00000000-0000-0000-0000-000000000001\"";
        for sample in [
            "playcounts_dashboard_plays 10\n".to_owned(),
            "playcounts_dashboard_journal_cut_bytes 7\n".to_owned(),
            "playcounts_dashboard_titles 5\n".to_owned(),
            "playcounts_dashboard_certificate_expires_seconds 1800000000\n".to_owned(),
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
    let served: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
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
