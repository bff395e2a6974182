//! `playcounts bench`: correct, whatever the speed of the machine.

use std::path::Path;

use crate::support::{assert_exit, get, json, on_both_brokers, output};

/// Runs it, small, with `more` options; its report.
#[track_caller]
fn bench(dir: &Path, more: &[&str]) -> serde_json::Value {
    let args = ["bench", "--num-messages", "2000", "--rounds", "1", "--json"];
    let bench = output(dir, &[&args, more].concat());
    assert_exit(&bench, 0);
    // stdout holds the report and nothing else.
    assert_eq!(bench.stdout.iter().filter(|byte| **byte == b'\n').count(), 1, "{bench:?}");
    json(&bench)
}

#[track_caller]
fn is_complete(report: &serde_json::Value) {
    assert_eq!(report["verified"], true, "{report:#}");
    assert_eq!(report["messages"], 2000);
    let rows = report["rows"].as_array().unwrap();
    let works: Vec<_> = rows.iter().map(|row| row["work"].as_str().unwrap()).collect();
    let want = [
        "produce",
        "process, durability none",
        "process, durability process",
        "process, durability power",
        "run, end to end",
        "at 100 plays a second",
        "at 1000 plays a second",
    ];
    assert_eq!(works, want);
    for row in rows {
        let figure = if row["p99_ms"].is_null() { "messages_per_second" } else { "p99_ms" };
        assert!(row[figure]["median"].as_f64() > Some(0.0), "{row:#}");
    }
}

#[test]
fn bench_counts_right_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let report = bench(dir.path(), &[]);
    is_complete(&report);
    assert_eq!(report["broker"], "embedded");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn bench_uses_the_nsqd_that_it_is_told_and_removes_its_topics() {
    on_both_brokers(|dir, broker| {
        let (tcp, http) = (broker.tcp(), broker.http());
        let report = bench(dir, &["--nsqd-tcp-address", &tcp, "--nsqd-http-address", &http]);
        is_complete(&report);
        assert_eq!(report["broker"], "nsqd");
        let stats = get(&format!("http://{http}/stats?format=json"));
        assert_eq!(stats["topics"].as_array().map(Vec::len), Some(0), "{stats:#}");
    });
}
