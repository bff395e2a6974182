//! The dashboard over HTTP: counts in, answers out, who may write, what is refused.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use nsq_protocol::thread::OwnedThread;
use playcounts::dashboard::{self, Dashboard};
use playcounts::model::counts::Totals;
use playcounts::model::video::MAX_PLAYS;
use playcounts::nsqd::depth::QueueDepth;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{
    DEADLINE, Queue, Running, config, consumption, start, update, video,
};
use crate::support::wait_until;

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
    assert_eq!(running.get("/api/counts/x").status, 400);

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
    // Started again they are still there; started clean they are not.
    let dashboard = Dashboard::start(config(&data)).unwrap();
    assert_eq!(dashboard.totals(), Totals { videos: 2, plays: 115 });
    dashboard.shutdown().unwrap();
    let mut clean = config(&data);
    clean.clean = true;
    let dashboard = Dashboard::start(clean).unwrap();
    assert_eq!(dashboard.totals(), Totals::default());
    dashboard.shutdown().unwrap();
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

#[test]
fn dashboard_refuses_bad_updates() {
    let running = start();
    let good = || update(1, &[(video(1), 3)]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = good();
        change(&mut value);
        value.to_string()
    };
    let many: Vec<_> = (1..=21).map(|first| (video(first), 1)).collect();
    let cases = [
        ("a message has 1 to 20 counts, not 21", update(1, &many).to_string()),
        ("a message has 1 to 20 counts, not 0", update(1, &[]).to_string()),
        (
            "UUID",
            with(&|value| value["counts"][0]["video_id"] = json!("<img src=x onerror=alert(1)>")),
        ),
        ("UUID", with(&|value| value["processor"] = json!(""))),
        ("invalid value: integer `-1`", with(&|value| value["counts"][0]["plays"] = json!(-1))),
        ("floating point", with(&|value| value["counts"][0]["plays"] = json!(1.5))),
        ("invalid type: string", with(&|value| value["counts"][0]["plays"] = json!("3"))),
        ("invalid type: null", with(&|value| value["counts"][0]["plays"] = Value::Null)),
        ("over the limit", with(&|value| value["counts"][0]["plays"] = json!(MAX_PLAYS + 1))),
        ("last_played_at", with(&|value| value["counts"][0]["last_played_at"] = json!(u64::MAX))),
        ("is there twice", update(1, &[(video(1), 1), (video(1), 2)]).to_string()),
        ("versions go from 1", update(0, &[(video(1), 1)]).to_string()),
        ("unknown field", with(&|value| value["extra"] = json!(1))),
        ("unknown field", with(&|value| value["counts"][0]["extra"] = json!(1))),
        ("missing field", with(&|value| drop(value.as_object_mut().unwrap().remove("version")))),
        (
            "a number that is none",
            with(&|value| {
                value["consumption"] = consumption(None);
                value["consumption"]["per_second"] = json!(-1);
            }),
        ),
        ("invalid type: sequence", with(&|value| value["counts"][0] = json!([video(1), 3]))),
        ("one JSON object", "[]".to_owned()),
        ("one JSON object", String::new()),
        ("one JSON object", "nonsense".to_owned()),
        ("does not fit", "{".to_owned()),
        ("does not fit", format!("{}{{}}", good())),
        ("does not fit", format!("{{\"counts\":{}", "[".repeat(100_000))),
    ];
    for (reason, body) in cases {
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
    let nasty = with(&|value| {
        value["counts"][0]["video_id"] = json!(format!("\u{1b}[31m\n{}", "x".repeat(9_000)))
    });
    let error = running.ask("POST", "/api/counts", "", nasty.as_bytes()).error();
    assert!(error.chars().count() <= 300 && !error.contains(['\u{1b}', '\n']), "{error}");

    assert_eq!(running.ask("POST", "/api/counts", "", &vec![b' '; 1_048_577]).status, 413);
    assert_eq!(running.ask("POST", "/api/consumption", "", b"{}").status, 400);
    assert_eq!(running.dashboard.totals(), Totals::default());
    running.tell(1, &many[..20]);
    assert_eq!(running.dashboard.totals(), Totals { videos: 20, plays: 20 });
}

#[test]
fn dashboard_lists_sort_page_and_search() {
    let running = start();
    let counts: Vec<_> = (1..=20).map(|first| (video(first), u64::from(first) * 10)).collect();
    running.tell(1, &counts);
    let listed = |query: &str| -> Vec<u64> {
        let answer = running.get(&format!("/api/counts?{query}"));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.json()["counts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["plays"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(listed("limit=3"), [200, 190, 180]);
    assert_eq!(listed("sort=plays&limit=2&offset=1"), [20, 30]);
    assert_eq!(listed("sort=-video_id&limit=2"), [200, 190]);
    assert_eq!(listed("sort=updated_at&limit=1"), [10]);
    assert_eq!(listed("sort=-last_played_at&limit=1"), [200]);
    assert_eq!(listed("search=0A"), [100]);
    assert_eq!(listed("search=1"), [200, 190, 180, 170, 160]);
    assert_eq!(listed(&format!("search={}", video(7))), [70]);
    assert_eq!(listed("offset=4294967295"), Vec::<u64>::new());
    assert_eq!(running.get("/api/counts?search=1").json()["matching"], 5);
    // Page after page by key is the whole list, in every order, and within a search.
    for query in [
        "sort=-plays",
        "sort=plays",
        "sort=video_id",
        "sort=-updated_at",
        "sort=-last_played_at&search=1",
    ] {
        let (all, mut paged) = (listed(&format!("{query}&limit=500")), Vec::new());
        let mut after = String::new();
        loop {
            let page = format!("{query}&limit=3{after}");
            paged.extend(listed(&page));
            match running.get(&format!("/api/counts?{page}")).json()["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(paged, all, "{query}");
    }
    for (query, reason) in [
        ("sort=plays;drop", "sort must be one of plays, video_id, updated_at, last_played_at"),
        ("sort=", "sort must be"),
        ("limit=0", "limit must be a number from 1 to 500"),
        ("limit=501", "limit must be a number from 1 to 500"),
        ("limit=%2B5", "limit must be"),
        ("limit=x", "limit must be"),
        ("offset=-1", "offset must be a number from 0"),
        ("after=x", "after takes the next of the page before"),
        ("search=%3Cimg%3E", "search takes the start of a video id"),
        ("search=%27%20OR%201=1", "search takes"),
    ] {
        let answer = running.get(&format!("/api/counts?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.error().contains(reason), "{query}: {}", answer.error());
    }
}

#[test]
fn dashboard_says_what_a_path_takes() {
    let running = start();
    for (method, path, status, allow) in [
        ("PUT", "/api/counts", 405, "GET, HEAD, POST, DELETE"),
        ("GET", "/api/consumption", 405, "POST"),
        ("POST", "/api/stats", 405, "GET, HEAD"),
        ("DELETE", "/api/counts/x", 405, "GET, HEAD"),
        ("POST", "/", 405, "GET, HEAD"),
        ("OPTIONS", "/metrics", 405, "GET, HEAD"),
        ("HEAD", "/events", 405, "GET"),
        ("GET", "/api", 404, ""),
        ("GET", "/src/main.rs", 404, ""),
        ("POST", "/nowhere", 404, ""),
        ("HEAD", "/", 200, ""),
        ("GET", "/healthz", 200, ""),
    ] {
        let answer = running.ask(method, path, "", b"");
        assert_eq!(answer.status, status, "{method} {path}");
        let named =
            answer.head.lines().find_map(|line| line.strip_prefix("Allow: ")).unwrap_or_default();
        assert_eq!(named, allow, "{method} {path}");
    }
    let page = running.get("/");
    assert!(page.head.contains("Content-Security-Policy: default-src 'none'"), "{}", page.head);
    let etag = page.head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    assert_eq!(running.ask("GET", "/", &format!("If-None-Match: {etag}\r\n"), b"").status, 304);
}

#[test]
fn dashboard_shows_processors_queue_and_series() {
    let data = tempfile::tempdir().unwrap();
    let mut with_queue = config(&data);
    let queue = Queue::start(QueueDepth { depth: 42, in_flight: 3, deferred: 1 });
    with_queue.watched = Some(queue.watched.clone());
    let running = Running { dashboard: Dashboard::start(with_queue).unwrap(), data };
    wait_until("the queue was asked", || !running.get("/api/stats").json()["queue"].is_null());
    let report = json!({"processor": Uuid::from_u128(1), "consumption": consumption(Some("<b>no JSON</b>"))});
    running.post("/api/consumption", &report, 200);
    let deadline = Instant::now() + DEADLINE;
    let series = loop {
        let series = running.get("/api/series?name=queue_depth&name=realtime_ms").json();
        if series["realtime_ms"].as_array().unwrap().last() == Some(&json!(1.25)) {
            break series;
        }
        assert!(Instant::now() < deadline, "{series}");
    };
    assert_eq!(series["queue_depth"].as_array().unwrap().last(), Some(&json!(42)));
    assert_eq!(series["average_ms"], Value::Null);
    let last = series["time"].as_array().unwrap().last().unwrap().clone();
    let stats = running.get("/api/stats").json();
    assert_eq!(stats["queue"], json!({"depth": 42, "in_flight": 3, "deferred": 1}));
    assert_eq!(stats["processors"][0]["consumption"]["last_rejection"], "<b>no JSON</b>");
    assert_eq!(stats["consumption"]["p99_ms"], 40.25);
    assert_eq!(stats["configuration"][0]["name"], "messages");
    assert!(
        running.get(&format!("/api/series?since={last}")).json()["time"].as_array().unwrap().len()
            <= 1
    );
    assert_eq!(running.get("/api/series?name=x").status, 400);
    assert_eq!(running.get("/api/series?since=x").status, 400);
    let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
    assert!(metrics.contains("\nplaycounts_queue_depth 42\n"), "{metrics}");
    assert!(metrics.contains("playcounts_processor_counted_total{processor="), "{metrics}");
}

#[test]
fn dashboard_writes_need_the_token_once_there_is_one() {
    let data = tempfile::tempdir().unwrap();
    let mut open = config(&data);
    open.http_address = "0.0.0.0:0".to_owned();
    let refused = Dashboard::start(open).err().unwrap().to_string();
    assert!(refused.contains("give --write-token, or a loopback --http-address"), "{refused}");
    for token in ["", "two words", "\u{e9}"] {
        let mut bad = config(&data);
        bad.write_token = Some(token.to_owned());
        assert!(Dashboard::start(bad).is_err(), "{token:?}");
    }
    let mut guarded = config(&data);
    guarded.http_address = "0.0.0.0:0".to_owned();
    guarded.write_token = Some("secret".to_owned());
    guarded.allowed_hosts = vec!["counts.example".to_owned()];
    let running = Running { dashboard: Dashboard::start(guarded).unwrap(), data };
    let body = update(1, &[(video(1), 3)]).to_string();
    let post = |extra: &str| running.ask("POST", "/api/counts", extra, body.as_bytes()).status;
    assert_eq!(post(""), 401);
    assert_eq!(post("Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(running.ask("DELETE", "/api/counts", "", b"").status, 401);
    assert_eq!(post("Authorization: Bearer secret\r\n"), 200);
    assert_eq!(running.ask("GET", "/api/counts", "Host: counts.example\r\n", b"").status, 200);
    assert_eq!(running.ask("GET", "/api/counts", "Host: evil.example\r\n", b"").status, 421);
    assert_eq!(
        running.ask("DELETE", "/api/counts", "Authorization: Bearer secret\r\n", b"").status,
        200
    );
    assert_eq!(running.dashboard.totals(), Totals::default());
}

#[test]
fn dashboard_answers_no_foreign_page() {
    let running = start();
    for path in ["/", "/api/counts", "/events", "/metrics"] {
        assert_eq!(
            running.ask("GET", path, "Host: rebound.example:8000\r\n", b"").status,
            421,
            "{path}"
        );
    }
    let body = update(1, &[(video(1), 3)]).to_string();
    let from = |origin: &str| {
        running.ask("POST", "/api/counts", &format!("Origin: {origin}\r\n"), body.as_bytes()).status
    };
    assert_eq!(from("http://evil.example"), 403);
    assert_eq!(from("null"), 403);
    assert_eq!(from(&running.dashboard.url()), 200);
}

#[test]
fn dashboard_says_that_its_store_fails_and_reads_go_on() {
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let other = rusqlite::Connection::open(running.data.path().join("dashboard.sqlite3")).unwrap();
    other.execute_batch("ALTER TABLE log RENAME TO gone").unwrap();
    let refused = running.post("/api/counts", &update(2, &[(video(1), 4)]), 503);
    assert!(refused.head.contains("Retry-After: 1"), "{}", refused.head);
    assert!(
        refused.error().starts_with("the counts cannot be stored: no such table"),
        "{}",
        refused.error()
    );
    assert_eq!(running.get("/api/counts").json()["total_plays"], 3);
    other.execute_batch("ALTER TABLE gone RENAME TO log").unwrap();
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
            "POST /api/counts HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
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

/// What Prometheus' own tool says of the metrics, the alerts, and that both know the same names.
#[test]
fn prometheus_accepts_metrics_and_alerts() {
    let running = start();
    let mut told = consumption(Some("a reason"));
    told["histogram"] =
        json!({ "buckets": (1..=15).collect::<Vec<_>>(), "count": 20, "sum_ms": 12.5 });
    let report = json!({ "processor": video(1), "consumption": told });
    running.post("/api/consumption", &report, 200);
    told["histogram"]["buckets"][3] = json!(1);
    let report = json!({ "processor": video(1), "consumption": told });
    assert!(running.post("/api/consumption", &report, 400).error().contains("buckets grow"));
    running.dashboard.totals();
    let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
    let open = running.ask("GET", "/metrics", "Accept: application/openmetrics-text\r\n", b"");
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with(b"# EOF\n"));
    for file in ["docs/alerts.yml", "docs/grafana.json"] {
        let text = std::fs::read_to_string(file).unwrap();
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = text.split(|c| !is_name(c)).filter(|name| name.starts_with("playcounts_"));
        // The queue's are there once somebody asks nsqd: `queue` has them.
        let of_queue = ["playcounts_queue_depth", "playcounts_queue_depth_alert"];
        for name in names.filter(|name| !of_queue.contains(name)) {
            assert!(metrics.contains(&format!("\n{name}")), "{file}: {name} is none of\n{metrics}");
        }
    }
    if Command::new("promtool").arg("--version").output().is_err() {
        writeln!(
            std::io::stderr(),
            "SKIPPED: no promtool (package prometheus); metrics are not linted"
        )
        .unwrap();
        return;
    }
    let mut lint = Command::new("promtool");
    let lint = lint.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut lint = lint.stderr(Stdio::piped()).spawn().unwrap();
    lint.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let lint = lint.wait_with_output().unwrap();
    assert!(lint.status.success() && lint.stderr.is_empty(), "{lint:?}");
    let rules =
        Command::new("promtool").args(["check", "rules", "docs/alerts.yml"]).output().unwrap();
    assert!(rules.status.success(), "{rules:?}");
}

/// The OpenAPI document and the routes know the same paths and methods.
/// One video, however its id is spelled, at every call that takes one; and no number with a plus at any.
#[test]
fn every_call_reads_ids_and_numbers_alike() {
    let running = start();
    let id = video(1);
    running.tell(1, &[(id, 5)]);
    let spellings = [
        id.to_string(),
        id.to_string().to_uppercase(),
        id.simple().to_string(),
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
    ];
    for spelling in &spellings {
        for path in [
            format!("/api/counts/{spelling}"),
            format!("/api/counts/{spelling}/series"),
            format!("/api/export/series.csv?video={spelling}"),
            format!("/api/export/series.json?video={spelling}"),
            format!("/api/confirmed?producer={spelling}"),
            format!("/api/counts?search={spelling}"),
        ] {
            let answer = running.get(&path);
            assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        }
        let found = running.get(&format!("/api/counts/{spelling}")).json();
        assert_eq!((&found["video_id"], &found["plays"]), (&json!(id), &json!(5)), "{spelling}");
        let found = running.get(&format!("/api/counts?search={spelling}")).json();
        assert_eq!(found["matching"], 1, "{spelling}");
    }
    let series = format!("/api/counts/{id}/series");
    for (path, names) in [
        ("/api/counts", &["limit", "offset"][..]),
        ("/api/series", &["since", "from", "to"]),
        (&series, &["from", "to"]),
        ("/api/top", &["limit", "from", "to"]),
        ("/api/export/top.csv", &["limit", "from", "to"]),
        ("/api/export/top.json", &["limit", "from", "to"]),
    ] {
        for name in names {
            for number in ["%2B5", "-5", "5.0", "0x5", "", "%205"] {
                let path = format!("{path}?{name}={number}");
                assert_eq!(running.get(&path).status, 400, "{path}");
            }
        }
    }
    for number in ["%2B5", "-5", "5.0"] {
        let path = format!("/api/confirmed?producer={id}&outbox={number}");
        assert_eq!(running.get(&path).status, 400, "{path}");
    }
}

#[test]
fn the_api_document_has_every_route() {
    let running = start();
    let document = running.get("/api/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let at = path.replace("{video_id}", &video(1).to_string());
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH"] {
            if (&path[..], method) == ("/events", "GET") {
                continue;
            }
            let known = operations.get(method.to_lowercase()).is_some();
            let answer = running.ask(method, &at, "", b"");
            assert_eq!(answer.status != 405, known, "{method} {path}: {}", answer.status);
            let unknown = answer.status == 404 && answer.error().starts_with("nothing is at");
            assert!(!unknown || !known, "{method} {path} is not there");
        }
    }
    // What the page and the processor call is in it.
    for path in [
        "/api/counts",
        "/api/confirmed",
        "/api/consumption",
        "/api/stats",
        "/api/series",
        "/api/top",
        "/api/counts/{video_id}/series",
        "/api/export/counts.csv",
        "/events",
        "/metrics",
        "/healthz",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}

/// The body of an answer that came in chunks.
fn unchunked(mut body: &[u8]) -> String {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        whole.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
        if size == 0 {
            assert!(body.is_empty());
            return String::from_utf8(whole).unwrap();
        }
    }
}

#[test]
fn periods_tell_the_most_played_and_every_video_s_series() {
    let running = start();
    for (version, first) in (1..=3).zip([1u8, 20, 40]) {
        let counts: Vec<_> =
            (first..first + 19).map(|first| (video(first), u64::from(first) * 10)).collect();
        running.tell(version, &counts);
    }
    let mut more = update(1, &[(video(1), 500)]);
    more["processor"] = json!(Uuid::from_u128(2));
    running.post("/api/counts", &more, 200);
    let top = running.get("/api/top?limit=2").json();
    let sum: u64 =
        [1u64..20, 20..39, 40..59].into_iter().flatten().map(|n| n * 10).sum::<u64>() + 500;
    assert_eq!((&top["total"], &top["videos"]), (&json!(sum), &json!(57)));
    assert_eq!((&top["scale"], top["top"].as_array().unwrap().len()), (&json!("minute"), 2));
    let first = &top["top"][0];
    assert_eq!(
        (&first["video_id"], &first["plays"], &first["before"]),
        (&json!(video(58)), &json!(580), &json!(0))
    );
    let spark: u64 = first["spark"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(spark, 580);
    assert_eq!(top["top"][1]["video_id"], json!(video(57)));
    let one = running.get(&format!("/api/counts/{}", video(1))).json();
    assert_eq!((&one["plays"], &one["rank"]), (&json!(510), &json!(9)));
    for scale in ["minute", "hour", "day"] {
        let series = running.get(&format!("/api/counts/{}/series?scale={scale}", video(1))).json();
        let plays: u64 =
            series["plays"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!((plays, &series["scale"]), (510, &json!(scale)), "{series}");
        let kept_from = series["kept_from"].as_i64().unwrap();
        assert_eq!(kept_from == 0, scale == "day", "{series}");
        assert!(kept_from < series["time"][0].as_i64().unwrap(), "{series}");
    }
    // A long ago there was nothing; and what is asked for wrongly is told.
    assert_eq!(running.get("/api/top?from=1000&to=2000").json()["top"], json!([]));
    for (path, want) in [
        ("/api/top?from=5&to=5", "from must be before to: 5 is not before 5"),
        ("/api/top?limit=101", "limit must be a number from 1 to 100"),
        ("/api/top?from=x", "from must be ms since the Unix epoch, not \"x\""),
        ("/api/series?from=7&to=3", "from must be before to"),
        ("/api/export/series.csv", "\"\" is no video id: a UUID"),
        (
            "/api/counts?sort=plays&after=video_id.0.00000000-0000-0000-0000-000000000007",
            "after is of a list with another sort than plays",
        ),
    ] {
        let answer = running.get(path);
        assert_eq!(
            (answer.status, answer.error().starts_with(want)),
            (400, true),
            "{path}: {}",
            answer.error()
        );
    }
    let at = format!("/api/counts/{}/series?scale=", video(1));
    assert!(
        running.get(&format!("{at}week")).error().starts_with("scale must be minute, hour or day")
    );
    // However long the period, it is what is kept.
    let long = running.get(&format!("{at}minute&from=0&to=9007199254740991")).json();
    assert_eq!(long["plays"], json!([510]));
    assert_eq!(running.get(&format!("{at}day&from=0&to=1000")).json()["time"], json!([]));
    for path in [
        format!("/api/counts/{}/series", video(99)),
        format!("/api/export/series.json?video={}", video(99)),
        "/api/export/likes.csv".to_owned(),
    ] {
        assert_eq!(running.get(&path).status, 404, "{path}");
    }
}

#[test]
fn exports_are_whole_and_come_in_chunks() {
    let running = start();
    for version in 0..40u64 {
        let counts: Vec<_> = (0..20)
            .map(|n| (Uuid::from_u128(u128::from(version * 20 + n + 1)), version + 1))
            .collect();
        running.tell(version + 1, &counts);
    }
    let csv = running.get("/api/export/counts.csv");
    assert!(
        csv.head.contains("Content-Type: text/csv")
            && csv.head.contains("Transfer-Encoding: chunked"),
        "{}",
        csv.head
    );
    assert!(csv.head.contains("attachment; filename=\"counts.csv\""), "{}", csv.head);
    let text = unchunked(&csv.body);
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!((lines.len(), lines[0]), (801, "video_id,plays,updated_at,last_played_at"));
    assert!(
        lines[1].starts_with("00000000-0000-0000-0000-000000000001,1,20")
            && lines[1].ends_with(",2023-11-14T22:13:20Z"),
        "{}",
        lines[1]
    );
    let rows: Vec<Value> =
        serde_json::from_str(&unchunked(&running.get("/api/export/counts.json").body)).unwrap();
    assert_eq!((rows.len(), &rows[799]["plays"]), (800, &json!(40)));
    let top: Vec<Value> =
        serde_json::from_str(&unchunked(&running.get("/api/export/top.json").body)).unwrap();
    assert_eq!((top.len(), &top[0]["plays"]), (100, &json!(40)));
    let series =
        running.get(&format!("/api/export/series.csv?scale=day&video={}", Uuid::from_u128(1)));
    assert!(unchunked(&series.body).ends_with("T00:00:00Z,1\r\n"));
    let head = running.ask("HEAD", "/api/export/counts.csv", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}
