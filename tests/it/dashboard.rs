//! The dashboard over HTTP: counts and reports in, what is refused of them, and what it keeps. Answers are in the files
//! beside.

mod access;
mod api;
mod files;
mod periods;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use nsq_protocol::thread::OwnedThread;
use playcounts::dashboard::{self, Dashboard};
use playcounts::model::counts::Totals;
use playcounts::model::video::MAX_PLAYS;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::dashboard_support::{Running, ask, config, consumption, start, update, video};
use crate::timing::DEADLINE;
use playcounts::model::video_id::VideoId;

#[test]
fn dashboard_updates_counts() {
    let running = start();
    running.tell(1, &[(video(1), 3), (video(2), 5)]);
    // A repeat, and an old version that arrives late, change nothing.
    running.tell(1, &[(video(1), 3), (video(2), 5)]);
    running.tell(3, &[(video(1), 10)]);
    running.tell(2, &[(video(1), 7)]);
    // Another processor's counts are added.
    let mut other = update(1, &[(video(1), 100)]);
    other["processor"] = json!(Uuid::from_u128(2));
    running.post("/api/counts", &other, 200);

    let list = running.get("/api/counts").json();
    assert_eq!((&list["total_videos"], &list["total_plays"]), (&json!(2), &json!(115)));
    let plays: Vec<_> =
        list["counts"].as_array().unwrap().iter().map(|row| &row["plays"]).collect();
    assert_eq!(plays, [&json!(110), &json!(5)]);
    assert_eq!(list["counts"][0]["video_id"], json!(video(1)));
    assert_eq!(list["counts"][0]["last_played_at"], json!(1_700_000_000_000_u64));

    let one = running.get(&format!("/api/counts/{}", video(1))).json();
    assert_eq!((&one["plays"], &one["history"][0]["plays"]), (&json!(110), &json!(110)));
    assert_eq!(running.get(&format!("/api/counts/{}", video(9))).status, 404);
    assert_eq!(running.get("/api/counts/x").status, 404);

    assert_eq!(running.dashboard.totals(), Totals { videos: 2, plays: 115 });
    assert_eq!(running.dashboard.counts(), [(video(1), 110), (video(2), 5)]);
    let Running { dashboard, data } = running;
    assert!(
        dashboard::clear(data.path()).unwrap_err().to_string().contains("another dashboard (pid")
    );
    dashboard.shutdown().unwrap();
    assert_eq!(
        dashboard::read_counts(data.path()).unwrap().unwrap(),
        [(video(1), 110), (video(2), 5)]
    );
    // Started again they are still there.
    let dashboard = Dashboard::start(config(&data)).unwrap();
    assert_eq!(dashboard.totals(), Totals { videos: 2, plays: 115 });
    dashboard.shutdown().unwrap();
    assert_simulations_keep_apart(&data);
}

/// That a simulation, which starts clean, throws away only what one has left, and that a dashboard does not go on from that.
#[track_caller]
fn assert_simulations_keep_apart(data: &TempDir) {
    let clean = || {
        let mut clean = config(data);
        clean.clean = true;
        Dashboard::start(clean)
    };
    let refused = clean().err().unwrap().to_string();
    assert!(refused.contains("holds a dashboard's (`dashboard`) counts"), "{refused}");
    assert_eq!(dashboard::read_counts(data.path()).unwrap().unwrap().len(), 2);
    dashboard::clear(data.path()).unwrap();
    for _ in 0..2 {
        let dashboard = clean().unwrap();
        assert_eq!(dashboard.totals(), Totals::default());
        let body = update(1, &[(video(1), 3)]).to_string();
        let told = ask(dashboard.local_addr(), "POST", "/api/counts", "", body.as_bytes());
        assert_eq!(told.status, 200);
        dashboard.shutdown().unwrap();
        assert_eq!(dashboard::read_counts(data.path()).unwrap().unwrap(), [(video(1), 3)]);
    }
    let refused = Dashboard::start(config(data)).err().unwrap().to_string();
    assert!(refused.contains("holds a simulation's (`run`) counts"), "{refused}");
    dashboard::clear(data.path()).unwrap();
    assert_eq!(dashboard::read_counts(data.path()).unwrap(), None);
}

#[test]
fn processors_tell_of_their_ledgers_and_producers_of_their_outboxes() {
    let running = start();
    let (processor, producer) = (Uuid::from_u128(1), Uuid::from_u128(7));
    let ledger = json!({ "commits": 3, "slowest_ms": 0.5, "unswept": 2, "bytes": 4096 });
    let mut told = consumption(None);
    told["program"] = json!("1.2.3".repeat(100));
    told["ledger"] = ledger.clone();
    let report = json!({ "processor": processor, "consumption": told });
    running.post("/api/consumption", &report, 200);
    for (name, value) in
        [("slowest_ms", json!(-1)), ("bytes", json!(MAX_PLAYS + 1)), ("more", json!(1))]
    {
        let mut bad = report.clone();
        bad["consumption"]["ledger"][name] = value;
        running.post("/api/consumption", &bad, 400);
    }
    let connection = json!({ "nsqd": "a:1", "connected": true, "rdy": 1, "in_flight": 0, "reconnects": 0, "last_error": "é".repeat(1000) });
    let with = |change: &dyn Fn(&mut Value)| {
        let mut report = report.clone();
        let lookupd = json!({ "lookupd": "l:1", "answering": true, "nsqds": 1 });
        report["consumption"]["consumer"] = json!({ "connections": [connection], "lookupds": [lookupd], "in_flight": 3, "backoff_ms": 3000 });
        change(&mut report["consumption"]["consumer"]);
        report
    };
    running.post("/api/consumption", &with(&|_| {}), 200);
    let bad: [&dyn Fn(&mut Value); 6] = [
        &|told| told["connections"] = vec![connection.clone(); 51].into(),
        &|told| told["connections"][0]["rdy"] = json!(MAX_PLAYS + 1),
        &|told| told["connections"][0]["pause"] = json!("<img src=x>"),
        &|told| told["connections"][0]["nsqd"] = json!(7),
        &|told| told["lookupds"][0]["nsqds"] = json!(-1),
        &|told| told["backoff_ms"] = json!(MAX_PLAYS + 1),
    ];
    for change in bad {
        running.post("/api/consumption", &with(change), 400);
    }
    let ask = |outbox: &str, extra: &str| {
        let path = format!("/api/confirmed?producer={producer}&outbox={outbox}");
        running.ask("GET", &path, extra, b"").status
    };
    assert_eq!((ask("12", ""), ask("x", ""), ask("-1", "")), (200, 400, 400));
    // A page has no outbox: what a browser says is answered, and not shown.
    assert_eq!(ask("99", "Sec-Fetch-Site: cross-site\r\n"), 200);
    let shown = running.get("/api/processors").json();
    let one = &shown["processors"][0];
    assert_eq!((&one["processor"], &one["ledger"]), (&json!(processor), &ledger));
    assert_eq!(one["program"].as_str().unwrap().len(), 32);
    let told = &one["consumer"]["connections"][0];
    assert_eq!((&told["nsqd"], &told["rdy"]), (&json!("a:1"), &json!(1)));
    assert_eq!(told["last_error"].as_str().unwrap().chars().count(), 200);
    let one = &shown["producers"][0];
    assert_eq!((&one["producer"], &one["outbox"]), (&json!(producer), &json!(12)));
    // In any spelling it is the producer; a video of that id has no plays.
    for id in ["{00000000-0000-0000-0000-000000000007}", "00000000000000000000000000000007"] {
        let answer = running.get(&format!("/api/confirmed?producer={id}"));
        assert_eq!((answer.status, &answer.json()["producer"]), (200, &json!(producer)));
        assert_eq!(running.get(&format!("/api/counts/{id}")).status, 404);
    }
}

#[test]
fn producers_learn_what_is_counted_for_good() {
    let running = start();
    let producer = Uuid::from_u128(7);
    let ask =
        |running: &Running| running.get(&format!("/api/confirmed?producer={producer}")).json();
    let tell = |processor: u128, watermark: u64, above: &[[u64; 2]], status| {
        let told = json!({ "producer": producer, "watermark": watermark, "above": above });
        let update = json!({ "processor": Uuid::from_u128(processor), "producers": [told] });
        running.post("/api/confirmed", &update, status)
    };
    assert_eq!((&ask(&running)["watermark"], &ask(&running)["processors"]), (&json!(0), &json!(0)));
    tell(1, 10, &[[12, 14]], 200);
    // A repeat, an old one and another processor's: all that anyone has said holds.
    tell(1, 10, &[[12, 14]], 200);
    tell(1, 4, &[], 200);
    tell(2, 0, &[[14, 15], [20, 30]], 200);
    let taken = tell(2, 0, &[[14, 15]], 200).json();
    assert_eq!((&taken["accepted"], &taken["watermarks"]), (&json!(1), &json!([10])));
    let both = ask(&running);
    assert_eq!((&both["watermark"], &both["above"]), (&json!(10), &json!([[12, 15], [20, 30]])));
    for (watermark, above) in [(10, &[[10, 12]][..]), (0, &[[5, 4]]), (0, &[[3, 9], [8, 10]])] {
        let refused = tell(1, watermark, above, 400).error();
        assert!(refused.starts_with("producer 00000000-"), "{refused}");
    }
    let none = json!({ "processor": producer, "producers": [] });
    assert!(running.post("/api/confirmed", &none, 400).error().contains("1 to 100 producers"));
    for path in ["/api/confirmed", "/api/confirmed?producer=x"] {
        assert!(running.get(path).error().starts_with("producer must be a UUID"));
    }
    let report = json!({ "processor": producer, "consumption": consumption(None) });
    running.post("/api/consumption", &report, 200);
    assert_eq!(ask(&running)["processors"], 1);
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    let running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    assert_eq!(ask(&running)["watermark"], 10);
    // A reset makes another database, which every write tells.
    let id = |running: &Running| running.get("/api/stats").json()["dashboard"].clone();
    let before = id(&running);
    assert_eq!(
        running.post("/api/counts", &update(1, &[(video(1), 3)]), 200).json()["dashboard"],
        before
    );
    running.ask("DELETE", "/api/counts", "", b"");
    assert_ne!(id(&running), before);
    assert_eq!(ask(&running)["watermark"], 0);
}

#[test]
fn a_processor_that_has_failed_turns_health_red() {
    let running = start();
    assert_eq!(running.get("/healthz").status, 200);
    let mut failed = json!({ "processor": video(1), "consumption": consumption(None) });
    let well = failed.clone();
    failed["consumption"]["failure"] = json!("the disk is full");
    running.post("/api/consumption", &failed, 200);
    let health = running.get("/healthz");
    assert_eq!(
        (health.status, &health.error()[..]),
        (503, "a processor has stopped counting: the disk is full")
    );
    running.post("/api/consumption", &well, 200);
    assert_eq!(running.get("/healthz").status, 200);
}

/// A good message, changed.
fn changed(change: &dyn Fn(&mut Value)) -> String {
    let mut value = update(1, &[(video(1), 3)]);
    change(&mut value);
    value.to_string()
}

/// So many counts, each of another video.
fn counts(videos: u8) -> Vec<(VideoId, u64)> {
    (1..=videos).map(|first| (video(first), 1)).collect()
}

/// Messages that are refused, each behind what the answer says of it.
fn bad_updates() -> Vec<(&'static str, String)> {
    vec![
        ("a message has 1 to 20 counts, not 21", update(1, &counts(21)).to_string()),
        ("a message has 1 to 20 counts, not 0", update(1, &[]).to_string()),
        (
            "no control characters; there is one at byte 1",
            changed(&|value| value["counts"][0]["video_id"] = json!("a\nb")),
        ),
        (
            "at most 128 bytes, not 129",
            changed(&|value| value["counts"][0]["video_id"] = json!("x".repeat(129))),
        ),
        ("UUID", changed(&|value| value["processor"] = json!(""))),
        ("invalid value: integer `-1`", changed(&|value| value["counts"][0]["plays"] = json!(-1))),
        ("floating point", changed(&|value| value["counts"][0]["plays"] = json!(1.5))),
        ("invalid type: string", changed(&|value| value["counts"][0]["plays"] = json!("3"))),
        ("invalid type: null", changed(&|value| value["counts"][0]["plays"] = Value::Null)),
        ("over the limit", changed(&|value| value["counts"][0]["plays"] = json!(MAX_PLAYS + 1))),
        (
            "last_played_at",
            changed(&|value| value["counts"][0]["last_played_at"] = json!(u64::MAX)),
        ),
        ("is there twice", update(1, &[(video(1), 1), (video(1), 2)]).to_string()),
        ("versions go from 1", update(0, &[(video(1), 1)]).to_string()),
        ("unknown field", changed(&|value| value["extra"] = json!(1))),
        ("unknown field", changed(&|value| value["counts"][0]["extra"] = json!(1))),
        ("missing field", changed(&|value| drop(value.as_object_mut().unwrap().remove("version")))),
        (
            "a number that is none",
            changed(&|value| {
                value["consumption"] = consumption(None);
                value["consumption"]["per_second"] = json!(-1);
            }),
        ),
        ("invalid type: sequence", changed(&|value| value["counts"][0] = json!([video(1), 3]))),
        ("one JSON object", "[]".to_owned()),
        ("one JSON object", String::new()),
        ("one JSON object", "nonsense".to_owned()),
        ("does not fit", "{".to_owned()),
        ("does not fit", format!("{}{{}}", update(1, &[(video(1), 3)]))),
        ("does not fit", format!("{{\"counts\":{}", "[".repeat(100_000))),
    ]
}

#[test]
fn dashboard_refuses_bad_updates() {
    let running = start();
    for (reason, body) in bad_updates() {
        let answer = running.ask("POST", "/api/counts", "", body.as_bytes());
        let shown: String = body.chars().take(100).collect();
        assert_eq!(answer.status, 400, "{shown}");
        assert!(answer.error().contains(reason), "{shown}: {}", answer.error());
        assert!(
            answer.head.contains("application/json") && answer.head.contains("nosniff"),
            "{}",
            answer.head
        );
    }
    // What is quoted is bounded, and acts on no terminal.
    let nasty = changed(&|value| {
        value["counts"][0]["video_id"] = json!(format!("\u{1b}[31m\n{}", "x".repeat(9_000)))
    });
    let error = running.ask("POST", "/api/counts", "", nasty.as_bytes()).error();
    assert!(error.chars().count() <= 300 && !error.contains(['\u{1b}', '\n']), "{error}");

    assert_eq!(running.ask("POST", "/api/counts", "", &vec![b' '; 1_048_577]).status, 413);
    assert_eq!(running.ask("POST", "/api/consumption", "", b"{}").status, 400);
    assert_eq!(running.dashboard.totals(), Totals::default());
    running.tell(1, &counts(20));
    assert_eq!(running.dashboard.totals(), Totals { videos: 20, plays: 20 });
}

#[test]
fn dashboard_says_that_its_store_fails_and_reads_go_on() {
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let journal = running.data.path().join("dashboard.journal");
    let away = running.data.path().join("away");
    std::fs::rename(&journal, &away).unwrap();
    // Removed, and another one in its place.
    for is_covered in [false, true] {
        if is_covered {
            std::fs::create_dir(&journal).unwrap();
        }
        let refused = running.post("/api/counts", &update(2, &[(video(1), 4)]), 503);
        assert!(refused.head.contains("Retry-After: 1"), "{}", refused.head);
        let error = refused.error();
        let wanted =
            "the counts cannot be stored: 0000000001.segment is not in its directory any more";
        assert!(error.starts_with(wanted), "{error}");
        let health = running.get("/healthz");
        assert_eq!(health.status, 503);
        assert!(health.error().starts_with(wanted), "{}", health.error());
        assert_eq!(running.get("/api/counts").json()["total_plays"], 3);
    }
    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::rename(&away, &journal).unwrap();
    assert_eq!(running.get("/healthz").status, 200);
    running.tell(2, &[(video(1), 4)]);
    assert_eq!(running.dashboard.counts(), [(video(1), 4)]);
}

#[test]
fn dashboard_is_exact_under_many_writers() {
    let running = std::sync::Arc::new(start());
    let began = Instant::now();
    let writers: Vec<_> = (0..8u128)
        .map(|writer| {
            let running = std::sync::Arc::clone(&running);
            OwnedThread::spawn("writer", move || {
                for version in 1..=40u64 {
                    let counts: Vec<_> = (0..20).map(|first| (video(first), version * 2)).collect();
                    let mut update = update(version, &counts);
                    update["processor"] = json!(Uuid::from_u128(writer + 1));
                    running.post("/api/counts", &update, 200);
                }
            })
            .unwrap()
        })
        .collect();
    writers.into_iter().for_each(OwnedThread::join);
    println!("6,400 counts in 320 messages of 8 writers took {:?}", began.elapsed());
    assert_eq!(running.dashboard.totals(), Totals { videos: 20, plays: 20 * 8 * 80 });
    assert!(running.dashboard.counts().iter().all(|(_, plays)| *plays == 640));
}

/// Names the data directory of a child that is to be a dashboard.
const CHILD: &str = "PLAYCOUNTS_TEST_CHILD";

/// Not a test by itself: the process that `dashboard_keeps_what_it_accepted_through_kill_9` kills.
#[test]
fn child_that_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let data = tempfile::tempdir().unwrap();
    let mut here = config(&data);
    here.data_dir = directory.into();
    let dashboard = Dashboard::start(here).unwrap();
    println!("\naddress {}", dashboard.local_addr());
    // Ends when the parent closes it, if the kill should not come.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn dashboard_keeps_what_it_accepted_through_kill_9() {
    let data = tempfile::tempdir().unwrap();
    for round in 1..=3u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dashboard::child_that_is_killed", "--nocapture"])
            .env(CHILD, data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("address ").map(str::to_owned))
            .expect("the child says where it listens");
        let body = update(round, &[(video(1), round * 10), (video(2), round)]).to_string();
        let head = format!(
            "POST /api/counts HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        // Accepted: from here on it may be killed at any moment, and the lock is free at once.
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            dashboard::read_counts(data.path()).unwrap().unwrap(),
            [(video(1), round * 10), (video(2), round)]
        );
    }
    let dashboard = Dashboard::start(config(&data)).unwrap();
    assert_eq!(dashboard.totals(), Totals { videos: 2, plays: 33 });
    dashboard.shutdown().unwrap();
}
