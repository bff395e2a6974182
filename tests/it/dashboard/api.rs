//! What is asked for: lists, ids and numbers, every path and its methods, metrics, the OpenAPI document.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use playcounts::dashboard::Dashboard;
use playcounts::nsqd::depth::QueueDepth;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Queue, Running, config, consumption, shared_ledger, start, video};
use crate::support::wait_until;
use crate::timing::DEADLINE;
use crate::unpacked::{self, Program};

const PROMTOOL: Program =
    Program { name: "promtool", variable: "PROMTOOL", unpacked: "prometheus/usr/bin/promtool" };

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
    for nothing in ["offset=4294967295", "search=%3Cimg%3E", "search=%27%20OR%201=1"] {
        assert_eq!(listed(nothing), Vec::<u64>::new());
    }
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

/// A processor that reports with a shared ledger, changed.
#[track_caller]
fn report_ledger(running: &Running, me: u128, change: impl FnOnce(&mut Value), status: u16) {
    let (mut told, mut ledger) = (consumption(None), shared_ledger(me));
    change(&mut ledger);
    told["ledger_status"] = ledger;
    let report = json!({"processor": Uuid::from_u128(me), "consumption": told});
    running.post("/api/consumption", &report, status);
}

#[test]
fn dashboard_shows_who_shares_a_ledger_and_who_publishes_for_whom() {
    let running = start();
    let same = |_: &mut Value| {};
    report_ledger(&running, 1, same, 200);
    report_ledger(&running, 2, same, 200);
    // Counts of a dead one are told by another.
    let counts = json!([{"video_id": video(1), "plays": 7}]);
    let of_3 = json!({"processor": Uuid::from_u128(3), "version": 1, "counts": counts});
    running.post("/api/counts", &of_3, 200);
    let told = running.get("/api/processors").json();
    let ledger = &told["ledgers"][0];
    assert_eq!(told["ledgers"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(ledger["name"], "db.example:5432/plays");
    let processors = ledger["processors"].as_array().unwrap();
    let states: Vec<_> = processors.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["alive", "alive", "published", "done"]);
    assert_eq!(processors[2]["published_by"], json!(Uuid::from_u128(1)));
    let third = &told["processors"][2]["counts_in"];
    assert_eq!((&third["state"], &third["shared_by"]), (&json!("published"), &json!(2)));
    // What each event carries is the short form.
    let stats = running.get("/api/stats").json();
    assert_eq!(stats["processors"][0]["ledger"]["lease_ms_left"], 9_500);
    assert_eq!(stats["processors"][0]["consumption"]["ledger_status"], Value::Null);
    assert_eq!(running.get("/healthz").status, 200);
    let codes = || {
        let findings = running.get("/api/diagnosis").json()["findings"].clone();
        let code = |one: &Value| one["code"].as_str().unwrap().to_owned();
        findings.as_array().unwrap().iter().map(code).collect::<Vec<_>>()
    };
    assert_eq!(codes(), ["processor-taken-over"]);
    // Away, behind, and dead with nobody who publishes: red, with the way out.
    report_ledger(&running, 2, |told| told["away"] = json!("connection refused"), 200);
    assert!(codes().contains(&"ledger-away".to_owned()));
    let health = running.get("/healthz");
    assert_eq!(health.status, 503);
    assert!(
        health.error().contains("connection refused. Fix what the message names."),
        "{health:?}"
    );
    report_ledger(&running, 2, |told| told["behind"] = json!("it lacks record 7"), 200);
    assert!(running.get("/healthz").error().contains("synchronous_standby_names"));
    let unpublished = |told: &mut Value| told["processors"][2]["published_by"] = Value::Null;
    report_ledger(&running, 2, unpublished, 200);
    assert!(
        running
            .get("/healthz")
            .error()
            .contains("has been dead for 1 min 15 s, and nobody publishes")
    );
    assert_eq!(codes()[0], "processor-dead");
    report_ledger(&running, 2, |told| told["commit_ms_p99"] = json!(750.0), 200);
    assert_eq!(running.get("/healthz").status, 200);
    assert_eq!(codes(), ["ledger-slow", "processor-taken-over"]);
    // What no processor sends.
    report_ledger(&running, 2, |told| told["kind"] = json!("paper"), 400);
    report_ledger(&running, 2, |told| told["more"] = json!(1), 400);
    report_ledger(&running, 2, |told| told["commit_ms_p50"] = json!(-1), 400);
    let many =
        |told: &mut Value| told["processors"] = json!(vec![told["processors"][1].clone(); 65]);
    report_ledger(&running, 1, many, 400);
}

#[test]
fn the_document_tells_of_shared_ledgers() {
    let document = start().get("/api/openapi.json").json();
    let schemas = &document["components"]["schemas"];
    let kind = "/properties/kind";
    assert!(schemas["LedgerStatus"].pointer(kind).is_some(), "{}", schemas["LedgerStatus"]);
    assert_eq!(schemas["LedgerStatus"]["properties"]["processors"]["maxItems"], 64);
    let least = -((1_i64 << 53) - 1);
    let lease = &schemas["LedgerProcessor"]["properties"]["lease_ms_left"];
    assert_eq!(lease["minimum"], json!(least), "{lease}");
    assert!(schemas["Processors"].pointer("/properties/ledgers").is_some());
    assert!(schemas["LedgerGlance"].pointer("/properties/away").is_some());
}

/// The narrow buckets of consumption times, which no event carries.
#[test]
fn narrow_buckets_are_checked_and_stay_in_the_dashboard() {
    let running = start();
    let mut told = consumption(None);
    told["histogram"] = json!({ "buckets": vec![0; 15], "count": 3, "sum_ms": 1.0 });
    for (fine, status) in [
        (json!([[900, 1], [1032, 2]]), 200),
        (json!([]), 200),
        (json!([[900, 1], [1032, 1]]), 400),
        (json!([[900, 1], [900, 2]]), 400),
        (json!([[900, 1], [901, 2], [902, 0]]), 400),
        (json!([[900, 1], [1033, 2]]), 400),
        (json!([[900, 1], [901, u64::MAX]]), 400),
        (json!([[-1, 3]]), 400),
    ] {
        told["histogram"]["fine"] = fine.clone();
        let report = json!({ "processor": video(2), "consumption": told });
        let answer = running.post("/api/consumption", &report, status);
        assert!(
            status == 200
                || fine[0][0] == -1
                || answer.error().contains("fine buckets are numbers below 1033"),
            "{fine}"
        );
    }
    let stats = running.get("/api/stats").json();
    let shown = stats["processors"].as_array().unwrap();
    assert!(
        shown.iter().all(|known| known["consumption"]["histogram"].get("fine").is_none()),
        "{stats}"
    );
}

/// What Prometheus' own tool says of the metrics, the alerts, and that both know the same names.
#[test]
fn prometheus_accepts_metrics_and_alerts() {
    let running = start();
    let mut told = consumption(Some("a reason"));
    told["histogram"] = json!({ "buckets": (1..=15).collect::<Vec<_>>(), "count": 20, "sum_ms": 12.5, "fine": [[500, 14], [1000, 6]] });
    told["arrivals"] = json!({ "ignored": { "seq": { "count": 3, "sample": "\u{1b}[31m" } } });
    told["ledger_status"] = shared_ledger(1);
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
    let Some(promtool) = PROMTOOL.find() else { return };
    let run = |args: &[&str]| {
        let mut command = unpacked::command(&promtool);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut lint = run(&["check", "metrics"]).spawn().unwrap();
    lint.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let lint = lint.wait_with_output().unwrap();
    assert!(lint.status.success() && lint.stderr.is_empty(), "{lint:?}");
    let rules = run(&["check", "rules", "docs/alerts.yml"]).output().unwrap();
    assert!(rules.status.success(), "{rules:?}");
    let dir = tempfile::tempdir().unwrap();
    let test = dir.path().join("silent.yml");
    let alerts = std::fs::canonicalize("docs/alerts.yml").unwrap();
    std::fs::write(&test, SILENT.replace("ALERTS", alerts.to_str().unwrap())).unwrap();
    let silent = run(&["test", "rules", test.to_str().unwrap()]).output().unwrap();
    assert!(silent.status.success(), "{silent:?}");
}

/// While messages wait: of three silent processors one says nothing, one was stopped in order, one counts.
const SILENT: &str = r#"
rule_files: [ALERTS]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'playcounts_processor_counted_total{processor="silent"}', values: '5x20' }
      - { series: 'playcounts_processor_received_total{processor="silent"}', values: '5x20' }
      - { series: 'playcounts_processor_received_total{processor="stopped"}', values: '5x20' }
      - { series: 'playcounts_processor_received_total{processor="counts"}', values: '5+9x20' }
      - { series: 'playcounts_processor_ended{processor="silent"}', values: '0x20' }
      - { series: 'playcounts_processor_ended{processor="stopped"}', values: '1x20' }
      - { series: 'playcounts_processor_ended{processor="counts"}', values: '0x20' }
      - { series: 'playcounts_queue_depth', values: '7x20' }
    alert_rule_test:
      - eval_time: 15m
        alertname: PlaycountsProcessorSilent
        exp_alerts:
          - exp_labels: { severity: page, processor: silent }
            exp_annotations: { summary: "No plays are counted although the queue is not empty" }
"#;

/// One video, however its id is spelled, at every call that takes one; and no number with a plus at any.
#[test]
fn every_call_reads_ids_and_numbers_alike() {
    let running = start();
    let id = video(1);
    running.tell(1, &[(id, 5)]);
    let spellings = [
        id.to_string(),
        id.to_string().to_uppercase(),
        id.to_string().replace('-', ""),
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

/// The OpenAPI document and the routes know the same paths and methods.
#[test]
fn the_api_document_has_every_route() {
    let running = start();
    let document = running.get("/api/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let at = path.replace("{video_id}", &video(1).to_string());
        let at = at.replace("{import}", &video(1).to_string());
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH"] {
            if (&path[..], method) == ("/events", "GET") {
                continue;
            }
            // That one is of the video with the id `changed`.
            if (&path[..], method) == ("/api/videos/changed", "PUT") {
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
