//! A body above the processor's `--max-msg-size`, on a broker that allows it: a dead letter, and nothing stands still.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Running, assert_exit, dashboard, get, json, on_both_brokers_with, output, post, wait_until,
};

/// What the broker allows; the processor's default is a quarter of it.
const BROKER: &str = "--max-msg-size=4194304";

/// A play of `len` bytes.
fn play(video: u32, len: usize) -> String {
    let start = format!(r#"{{"video_id":"00000000-0000-4000-8000-{video:012}","pad":""#);
    let pad = "x".repeat(len.saturating_sub(start.len() + 2));
    format!("{start}{pad}\"}}")
}

fn dead_letters(dir: &std::path::Path) -> Vec<Value> {
    let listed = output(dir, &["dead-letters", "--json"]);
    assert_exit(&listed, 0);
    let lines = String::from_utf8(listed.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_is_a_dead_letter_with_its_size_and_the_others_flow() {
    on_both_brokers_with(&[BROKER], |dir, broker| {
        let (tcp, topic) = (broker.tcp(), format!("http://{}/pub?topic=plays", broker.http()));
        let (_dashboard, url) = dashboard(dir);
        let args = ["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--json"];
        let process = Running::start(dir, &args);
        let large = play(7, 3_000_000);
        (0..50).for_each(|video| post(&topic, &play(video, 100)));
        post(&topic, &large);
        (0..50).for_each(|video| post(&topic, &play(video, 100)));
        // One byte more than is taken, and just as much.
        post(&topic, &play(8, (1 << 20) + 1));
        post(&topic, &play(9, 1 << 20));
        let shown = || get(&format!("{url}/api/stats"))["total_plays"].as_u64();
        wait_until("all that are plays are counted", || shown() == Some(101));
        wait_until("the diagnosis names the option", || {
            let found = get(&format!("{url}/api/diagnosis"));
            let findings = found["findings"].as_array().unwrap();
            findings.iter().any(|one| {
                one["code"] == "oversized"
                    && one["way_out"].as_str().unwrap().contains("--max-msg-size")
            })
        });
        let told = || get(&format!("{url}/api/processors"))["processors"][0]["consumer"].clone();
        wait_until("both are told of", || told()["connections"][0]["oversized"] == 2);
        assert_eq!(told()["connections"][0]["reconnects"], 0);
        process.signal(Signal::TERM);
        let ended = process.wait();
        assert_exit(&ended, 0);
        let report = json(&ended);
        assert_eq!((&report["counted"], &report["rejected"]), (&101.into(), &2.into()));
        let letters = dead_letters(dir);
        let sizes: Vec<_> = letters.iter().map(|letter| letter["size"].as_u64()).collect();
        assert_eq!(sizes, [Some(3_000_000), Some((1 << 20) + 1)]);
        assert_eq!(letters[0]["body"].as_str(), Some(&large[..16 << 10]));
        assert_eq!(letters[0]["reason"], "3000000 bytes are more than --max-msg-size allows");
        // With a larger limit it is a play as any other.
        post(&topic, &large);
        let again = ["--num-messages", "104", "--max-msg-size", "4194304"];
        let ended = output(dir, &[&args[..], &again].concat());
        assert_exit(&ended, 0);
        assert_eq!((&json(&ended)["counted"], &json(&ended)["rejected"]), (&1.into(), &0.into()));
    });
}

#[test]
fn the_limit_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let ended = output(dir.path(), &["process", "--max-msg-size", "16777216"]);
    assert_exit(&ended, 2);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let want = "--max-msg-size 16777216: must be a whole number from 1 to 16777186";
    assert!(stderr.contains(want), "{stderr}");
}
