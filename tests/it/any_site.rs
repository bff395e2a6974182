//! A Go program of a site, with JSON of its own, is counted with four options and no line of it changed:
//! `tests/it/data/site`.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{self, Running, assert_exit, get, json, on_both_brokers, total, wait_until};

/// Plays that it tells of, every seventh twice.
const PLAYS: u64 = 1_000;
const REPEATS: u64 = PLAYS.div_ceil(7);

/// Its videos, of which each is played as often.
const LIBRARY: [(&str, &str); 4] = [
    ("26sk4lmiix", "Getting better"),
    ("5wvt1y8u2c", "Getting started"),
    ("e4a27b971d", "Quarterly review, the long version"),
    ("q0x8r2m1zt", "Кино: \"первый\" <урок>"),
];

/// What tells a processor where in its bodies the fields of a play are.
const OPTIONS: [&str; 8] = [
    "--video-field",
    "/event/video/hashed_id",
    "--time-field",
    "/event/at",
    "--id-field",
    "/event/id",
    "--title-field",
    "/event/video/name",
];

/// Builds the program; `None`, loudly, where there is no Go or go-nsq. Where all must be there that fails.
fn build(dir: &Path) -> Option<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (source, program) = (dir.join("site"), dir.join("site/site"));
    std::fs::create_dir(&source).unwrap();
    for file in ["go.mod", "go.sum"] {
        std::fs::copy(root.join("benches/peers/go-nsq").join(file), source.join(file)).unwrap();
    }
    std::fs::copy(root.join("tests/it/data/site/main.go"), source.join("main.go")).unwrap();
    let built = Command::new("go").args(["build", "-o", "site", "."]).current_dir(&source).output();
    if built.as_ref().is_ok_and(|built| built.status.success()) {
        return Some(program);
    }
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{built:?}");
    let skipped = format!("\n*** SKIPPED: the site's program cannot be built: {built:?} ***\n");
    let _ = std::io::stderr().write_all(skipped.as_bytes());
    None
}

#[test]
fn a_go_program_of_a_site_is_counted_with_four_options() {
    let temp = tempfile::tempdir().unwrap();
    let Some(program) = build(temp.path()) else { return };
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let tcp = broker.tcp();
        let process = ["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--json"];
        let process = [&process[..], &["--data-dir", "ledger"], &OPTIONS].concat();
        let processor = Running::start(dir, &process);
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let site = Command::new(&program).args([&*tcp, &PLAYS.to_string()]).output().unwrap();
        assert!(site.status.success(), "{site:?}");
        wait_until("all is counted", || {
            let told = get(&format!("{url}/api/processors"))["processors"][0].clone();
            told["received"] == PLAYS + REPEATS && told["in_flight"] == 0
        });
        processor.signal(Signal::TERM);
        let ended = processor.wait();
        assert_exit(&ended, 0);
        let report = json(&ended);
        let figures = ["counted", "duplicates", "rejected"].map(|name| report[name].clone());
        assert_eq!(figures, [PLAYS, REPEATS, 0].map(Value::from), "{report}");
        // Times in ms are told from those of other units: none waited for longer than a test may take.
        let longest = report["consumption_ms"]["max"].as_f64().unwrap();
        assert!((0.0..60_000.0).contains(&longest), "{report}");
        assert_eq!(total(&url), PLAYS);
        let list = get(&format!("{url}/api/counts?sort=video_id"));
        let rows = list["counts"].as_array().unwrap();
        let shown: Vec<_> = rows.iter().map(|row| (&row["video_id"], &row["title"])).collect();
        let wanted = LIBRARY.map(|(id, title)| (Value::from(id), Value::from(title)));
        let wanted: Vec<_> = wanted.iter().map(|(id, title)| (id, title)).collect();
        assert_eq!(shown, wanted);
        for row in rows {
            assert_eq!(row["plays"], PLAYS / LIBRARY.len() as u64, "{row}");
            let last = row["last_played_at"].as_i64().unwrap();
            assert!((began..began + 60_000).contains(&last), "{row}");
        }
        let found = get(&format!("{url}/api/counts?search=started%20gett"));
        assert_eq!(found["matching"], 1, "{found}");
        assert_eq!(found["counts"][0]["video_id"], "5wvt1y8u2c");
    });
}
