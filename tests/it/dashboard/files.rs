//! The dashboard's files: those of an older version are taken over, a copy is a dashboard by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use playcounts::dashboard::{self, Dashboard};
use playcounts::storage::boot::boot_id;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::dashboard_support::{Running, config, start, update, video};

/// What playcounts of schema 3 left when it was killed while counts came in: a WAL, in it rows of `log` that no table had.
const SCHEMA_3: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/dashboard/schema_3");

/// A directory with these files.
fn with_files(from: &str) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    for name in ["dashboard.sqlite3", "dashboard.sqlite3-wal"] {
        std::fs::copy(Path::new(from).join(name), data.path().join(name)).unwrap();
    }
    data
}

/// What it had told of them, just before it was killed.
fn told() -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(SCHEMA_3).join("told.json")).unwrap()).unwrap()
}

#[track_caller]
fn assert_tells_the_same(running: &Running, told: &Value) {
    let list = running.get("/api/counts?sort=video_id").json();
    // It knew of no titles.
    let mut counts = told["counts"].clone();
    for count in counts.as_array_mut().unwrap() {
        (count["title"], count["url"]) = (Value::Null, Value::Null);
    }
    assert_eq!(list["counts"], counts);
    let producer = Uuid::from_u128(77);
    let confirmed = running.get(&format!("/api/confirmed?producer={producer}")).json();
    assert_eq!(
        (&confirmed["watermark"], &confirmed["above"]),
        (&told["watermark"], &told["above"])
    );
    // History by minute is kept for two days only: all of it is in the days.
    let top = running.get("/api/top?from=1700000000000&to=4000000000000").json();
    assert_eq!(top["scale"], "day");
    let plays = |list: &Value| -> BTreeMap<String, i64> {
        let of = |one: &Value| (one["video_id"].to_string(), one["plays"].as_i64().unwrap());
        list.as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(plays(&top["top"]), plays(&told["counts"]));
}

#[test]
fn a_database_of_schema_3_is_taken_over_with_its_log() {
    let old = with_files(SCHEMA_3);
    let tables = |data: &TempDir, what: &str| -> i64 {
        let file = Connection::open(data.path().join("dashboard.sqlite3")).unwrap();
        file.query_row(&format!("SELECT {what}"), [], |row| row.get(0)).unwrap()
    };
    assert!(tables(&old, "count(*) FROM log") > 0 && tables(&old, "count(*) FROM counts") > 0);
    let file = Connection::open(old.path().join("dashboard.sqlite3")).unwrap();
    let boot: String = file.query_row("SELECT boot FROM identity", [], |row| row.get(0)).unwrap();
    let data = with_files(SCHEMA_3);
    let error = format!("{:#}", dashboard::read_counts(data.path()).unwrap_err());
    assert!(error.contains("has schema 3, of an older playcounts"), "{error}");
    let told = told();
    let dashboard = Dashboard::start(config(&data)).unwrap();
    let running = Running { dashboard, data };
    assert_tells_the_same(&running, &told);
    // It was killed: in another start of the machine, something may be missing.
    let id = running.get("/api/stats").json()["dashboard"].clone();
    assert_eq!(id == told["dashboard"], boot == boot_id().to_string());
    running.tell(1_000, &[(video(1), 3)]);
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    assert_eq!(tables(&data, "user_version FROM pragma_user_version"), 6, "older ones refuse it");
    let counts = dashboard::read_counts(data.path()).unwrap().unwrap();
    assert_eq!(counts.len(), told["counts"].as_array().unwrap().len() + 1);
    let again = Dashboard::start(config(&data)).unwrap();
    assert_eq!(again.counts(), counts);
    let running = Running { dashboard: again, data };
    assert_eq!(running.get("/api/stats").json()["dashboard"], id);
}

/// As its help says: the copy is put in an empty directory.
#[test]
fn a_copy_has_all_that_was_committed_and_is_a_dashboard_by_itself() {
    let running = start();
    running.tell(1, &[(video(1), 3), (video(2), 5)]);
    let told = json!({ "producer": video(7), "watermark": 10, "above": [[12, 14]] });
    let confirmed = json!({ "processor": Uuid::from_u128(1), "producers": [told] });
    running.post("/api/confirmed", &confirmed, 200);
    running.tell(2, &[(video(2), 6)]);
    let copy = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_playcounts"))
        .args(["backup", "--data-dir"])
        .arg(running.data.path())
        .arg("--output")
        .arg(copy.path().join("dashboard.sqlite3"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 1, "one file");
    running.tell(3, &[(video(2), 7)]);
    assert_eq!(
        dashboard::read_counts(copy.path()).unwrap().unwrap(),
        [(video(1), 3), (video(2), 6)]
    );
    let restored = Running { dashboard: Dashboard::start(config(&copy)).unwrap(), data: copy };
    assert_eq!(restored.dashboard.counts(), [(video(1), 3), (video(2), 6)]);
    let day = "/api/top?from=1700000000000&to=4000000000000";
    assert_eq!(restored.get(day).json()["total"], 9);
    let confirmed = restored.get(&format!("/api/confirmed?producer={}", video(7))).json();
    assert_eq!((&confirmed["watermark"], &confirmed["above"]), (&json!(10), &json!([[12, 14]])));
    // What was committed behind it is told again: it is another database.
    let id = |running: &Running| running.get("/api/stats").json()["dashboard"].clone();
    assert_ne!(id(&restored), id(&running));
    restored.post("/api/counts", &update(3, &[(video(2), 7)]), 200);
    assert_eq!(restored.dashboard.counts(), running.dashboard.counts());
    let Running { dashboard, data } = restored;
    dashboard.shutdown().unwrap();
    assert_eq!(dashboard::read_counts(data.path()).unwrap().unwrap(), running.dashboard.counts());
}
