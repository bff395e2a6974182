//! Titles, what is shown of videos, corrections and imports, over HTTP: what is taken, what is refused, and what is there
//! after a kill, a reset and a restore.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::channel;

use playcounts::dashboard::Dashboard;
use playcounts::model::video_id::VideoId;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Answer, Running, ask, config, start, update};
use crate::support::{self, assert_exit, output};

/// The token of writes, where a dashboard has one.
const TOKEN: &str = "Authorization: Bearer s3cret\r\n";

fn id(text: &str) -> VideoId {
    text.parse().unwrap()
}

/// As it stands in a path.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Running {
    /// Sends `value` and insists on the status.
    #[track_caller]
    fn put(&self, path: &str, value: &Value, status: u16) -> Answer {
        let answer = self.ask("PUT", path, "", value.to_string().as_bytes());
        assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer
    }

    /// The ids of a list.
    #[track_caller]
    fn ids(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("/api/counts?{query}")).json();
        let ids = list["counts"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|row| row["video_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(list["matching"], ids.len());
        ids
    }

    fn totals(&self) -> (Value, Value) {
        let mut stats = self.get("/api/stats").json();
        (stats["total_videos"].take(), stats["total_plays"].take())
    }

    /// The newest line of the action log.
    fn newest_action(&self) -> [String; 3] {
        let log = self.get("/api/audit").json();
        ["action", "target", "outcome"]
            .map(|name| log["audit"][0][name].as_str().unwrap().to_owned())
    }
}

/// The body of a chunked answer.
fn unchunked(answer: &Answer) -> String {
    let (mut rest, mut text) = (&answer.body[..], Vec::new());
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let len = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 4 + len..];
    }
}

#[test]
fn titles_are_shown_and_found_everywhere() {
    let running = start();
    let cats = "https://example.org/v/1?a=1#b";
    running.tell(1, &[(id(cats), 30), (id("dQw4w9WgXcQ"), 20), (id("x"), 10)]);
    let path = format!("/api/videos/{}", encoded(cats));
    let title = "=Cats, \"dogs\" & <b>Été</b>";
    running.put(&path, &json!({"title": title, "url": "https://example.org/cats"}), 200);
    let many = json!({"videos": [
        {"video_id": "dQw4w9WgXcQ", "title": "Never gonna give"},
        {"video_id": "not played yet", "title": "A cat"},
        {"video_id": "x", "url": "http://x"},
    ]});
    assert_eq!(running.post("/api/videos", &many, 200).json()["accepted"], 3);
    let one = running.get(&format!("/api/counts/{}", encoded(cats))).json();
    assert_eq!((&one["title"], &one["url"]), (&json!(title), &json!("https://example.org/cats")));
    assert_eq!((&one["visibility"], &one["correction"]), (&json!("shown"), &json!(null)));
    let list = running.get("/api/counts").json();
    assert_eq!(list["counts"][0]["title"], title);
    assert_eq!(
        (&list["counts"][2]["title"], &list["counts"][2]["url"]),
        (&json!(null), &json!("http://x"))
    );
    for (search, want) in [
        ("ete", &[][..]),
        ("%C3%89T", &[cats]),
        ("dogs+cat", &[cats]),
        ("cat", &[cats]),
        ("NEVER", &["dQw4w9WgXcQ"]),
        ("dQw4", &["dQw4w9WgXcQ"]),
        ("never+give+x", &[]),
        ("https", &[cats]),
    ] {
        assert_eq!(running.ids(&format!("search={search}")), want, "{search}");
    }
    let top = running.get("/api/top").json();
    assert_eq!(top["top"][0]["title"], title);
    let csv = unchunked(&running.get("/api/export/counts.csv"));
    assert!(
        csv.contains(",\"'=Cats, \"\"dogs\"\" & <b>Été</b>\",https://example.org/cats\r\n"),
        "{csv}"
    );
    let csv = unchunked(&running.get("/api/videos.csv"));
    let mut lines: Vec<_> = csv.split_terminator("\r\n").collect();
    assert_eq!(lines.remove(0), "video_id,title,url");
    lines.sort_unstable();
    let first = format!("{cats},\"=Cats, \"\"dogs\"\" & <b>Été</b>\",https://example.org/cats");
    let want = ["dQw4w9WgXcQ,Never gonna give,", &first, "not played yet,A cat,", "x,,http://x"];
    assert_eq!(lines, want);
    // What is absent is taken away, and a repeat changes nothing.
    for _ in 0..2 {
        running.put("/api/videos/x", &json!({}), 200);
    }
    assert_eq!(running.get("/api/counts/x").json()["url"], json!(null));
    assert_eq!(running.newest_action(), ["set title", "x", "taken away"]);
}

/// Titles that plays say, from several processors.
#[test]
fn what_is_set_by_hand_wins_over_what_plays_say() {
    let running = start();
    let tell = |processor: u128, title: &str| {
        let mut body = update(1, &[(id("x"), 1)]);
        body["processor"] = json!(Uuid::from_u128(processor));
        body["titles"] = json!([{"video_id": "x", "title": title}]);
        running.post("/api/counts", &body, 200);
        running.get("/api/counts/x").json()["title"].as_str().unwrap().to_owned()
    };
    assert_eq!([tell(1, "one"), tell(2, "two"), tell(1, "three")], ["one", "two", "three"]);
    running.put("/api/videos/x", &json!({"title": "by hand"}), 200);
    assert_eq!([tell(1, "four"), tell(3, "five")], ["by hand", "by hand"]);
    let mut body = update(1, &[(id("x"), 1)]);
    body["titles"] = json!(vec![json!({"video_id": "x", "title": "t"}); 21]);
    let refused = running.post("/api/counts", &body, 400).error();
    assert_eq!(refused, "a message has at most 20 titles, not 21");
    body["titles"] = json!([{"video_id": "x", "title": "a\nb"}]);
    assert!(
        running.post("/api/counts", &body, 400).error().contains("video x: a title has no control")
    );
}

/// Any id in a path, as a client encodes it.
#[test]
fn an_id_in_a_path_may_be_any_text() {
    let running = start();
    let odd = [
        "a/b",
        "a/series",
        "50%",
        "a%2Fb",
        "\\",
        "?x=1#y",
        " ",
        "é/ü",
        "changed",
        "visibility",
        "...",
        "+",
        "urn:x",
    ];
    for (version, text) in (1..).zip(odd) {
        running.tell(version, &[(id(text), 5)]);
        let path = encoded(text);
        running.put(&format!("/api/videos/{path}"), &json!({"title": text.to_uppercase()}), 200);
        running.put(
            &format!("/api/videos/{path}/correction"),
            &json!({"plays": 2, "reason": "x"}),
            200,
        );
        let one = running.get(&format!("/api/counts/{path}")).json();
        assert_eq!((&one["video_id"], &one["plays"]), (&json!(text), &json!(7)), "{text}");
        if !text.trim().is_empty() {
            assert_eq!(one["title"], text.to_uppercase());
        }
        assert_eq!(running.get(&format!("/api/counts/{path}/series")).status, 200, "{text}");
    }
    // What a path cannot hold, and what is no id.
    for (path, status) in [
        ("/api/videos/..", 400),
        ("/api/videos/%2e%2E", 400),
        ("/api/videos/a%0Ab", 400),
        ("/api/videos/a%C2%85", 400),
        ("/api/videos/%FF", 400),
        ("/api/videos/", 400),
        ("/api/videos/a/b", 404),
        ("/api/videos%2Fa", 400),
    ] {
        assert_eq!(running.ask("PUT", path, "", b"{}").status, status, "{path}");
    }
    let long = running.ask("PUT", &format!("/api/videos/{}", "x".repeat(129)), "", b"{}");
    assert_eq!(long.status, 400);
    assert!(long.error().contains("at most 128 bytes, not 129"), "{}", long.error());
    running.put(&format!("/api/videos/{}", "x".repeat(128)), &json!({"title": "long"}), 200);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason_and_changes_nothing() {
    let running = start();
    running.tell(1, &[(id("x"), 5)]);
    let import = Uuid::from_u128(9);
    let counts = |counts: Value| json!({"import": import, "name": "counts.csv", "counts": counts});
    let cases: Vec<(&str, &str, Value, u16, &str)> = vec![
        ("PUT", "/api/videos/x", json!({"title": ""}), 400, "a title has at least one character"),
        (
            "PUT",
            "/api/videos/x",
            json!({"title": "é".repeat(301)}),
            400,
            "a title has at most 300 characters, not 301",
        ),
        ("PUT", "/api/videos/x", json!({"title": "a\u{1b}[31m"}), 400, "character 2 is one"),
        ("PUT", "/api/videos/x", json!({"title": 5}), 400, "invalid type"),
        ("PUT", "/api/videos/x", json!({"titel": "a"}), 400, "unknown field `titel`"),
        ("PUT", "/api/videos/x", json!(["a"]), 400, "one JSON object"),
        (
            "PUT",
            "/api/videos/x",
            json!({"url": "javascript:alert(1)"}),
            400,
            "a url starts with http:// or https://",
        ),
        (
            "PUT",
            "/api/videos/x",
            json!({"url": format!("https://a/{}", "x".repeat(2_000))}),
            400,
            "at most 2000 bytes, not 2010",
        ),
        ("PUT", "/api/videos/x", json!({"title": "x".repeat(10_000_000)}), 413, "1048576"),
        ("POST", "/api/videos", json!({"videos": []}), 400, "1 to 1000 videos, not 0"),
        (
            "POST",
            "/api/videos",
            json!({"videos": [{"video_id": "x", "title": "a"}, {"video_id": "y", "title": "b\n"}]}),
            400,
            "video y: a title has no control characters",
        ),
        (
            "PUT",
            "/api/videos/x/visibility",
            json!({"visibility": "hidden"}),
            400,
            "reason is missing",
        ),
        (
            "PUT",
            "/api/videos/x/visibility",
            json!({"visibility": "gone", "reason": "x"}),
            400,
            "unknown variant `gone`",
        ),
        (
            "PUT",
            "/api/videos/x/visibility",
            json!({"visibility": "hidden", "reason": "x".repeat(301)}),
            400,
            "a reason has at most 300 characters",
        ),
        (
            "PUT",
            "/api/videos/y/visibility",
            json!({"visibility": "hidden", "reason": "x"}),
            404,
            "has no plays",
        ),
        ("PUT", "/api/videos/x/correction", json!({"plays": -5}), 400, "missing field `reason`"),
        (
            "PUT",
            "/api/videos/x/correction",
            json!({"plays": -5, "reason": " "}),
            400,
            "a reason has at least one",
        ),
        (
            "PUT",
            "/api/videos/x/correction",
            json!({"plays": 0.5, "reason": "x"}),
            400,
            "invalid type",
        ),
        (
            "PUT",
            "/api/videos/x/correction",
            json!({"plays": -(1_i64 << 53), "reason": "x"}),
            400,
            "a correction goes from -9007199254740991",
        ),
        (
            "PUT",
            "/api/videos/x/correction",
            json!({"plays": (1_i64 << 53) - 1, "reason": "x"}),
            409,
            "more than 9007199254740991",
        ),
        (
            "PUT",
            "/api/videos/y/correction",
            json!({"plays": 5, "reason": "x"}),
            404,
            "has no plays",
        ),
        ("POST", "/api/imports", counts(json!([])), 400, "1 to 1000 counts, not 0"),
        (
            "POST",
            "/api/imports",
            counts(json!([{"video_id": "x", "plays": -1}])),
            400,
            "invalid value",
        ),
        (
            "POST",
            "/api/imports",
            counts(json!([{"video_id": "", "plays": 1}])),
            400,
            "at least one character",
        ),
        (
            "POST",
            "/api/imports",
            counts(json!([{"video_id": "x", "plays": 1}, {"video_id": "x", "plays": 2}])),
            400,
            "video x is there twice",
        ),
        (
            "POST",
            "/api/imports",
            counts(json!([{"video_id": "x", "plays": 1_u64 << 53}])),
            400,
            "over the limit of 9007199254740991",
        ),
        (
            "POST",
            "/api/imports",
            counts(json!([{"video_id": "x", "plays": (1_u64 << 53) - 1}])),
            409,
            "more than 9007199254740991",
        ),
        (
            "DELETE",
            &"/api/imports/00000000-0000-0000-0000-000000000009",
            json!({}),
            404,
            "no import is 00000000-0000-0000-0000-000000000009",
        ),
        ("DELETE", "/api/imports/x", json!({}), 400, "is not an import's id"),
    ];
    for (method, path, body, status, want) in cases {
        let answer = running.ask(method, path, "", body.to_string().as_bytes());
        let error = answer.error();
        assert_eq!(answer.status, status, "{method} {path}: {error}");
        assert!(error.contains(want) && error.len() < 400, "{method} {path}: {error}");
    }
    assert_eq!(running.totals(), (json!(1), json!(5)));
    assert_eq!(running.get("/api/audit").json()["audit"], json!([]));
    assert_eq!(running.get("/api/videos/changed").json(), json!({"videos": []}));
    assert_eq!(running.get("/api/imports").json(), json!({"imports": []}));
    assert_eq!(running.get("/api/counts/x").json()["title"], json!(null));
}

#[test]
fn no_write_without_the_token_or_from_another_site() {
    let data = tempfile::tempdir().unwrap();
    let mut with_token = config(&data);
    with_token.write_token = Some("s3cret".to_owned());
    with_token.video_url = Some("https://example.org/{id}".to_owned());
    let running = Running { dashboard: Dashboard::start(with_token).unwrap(), data };
    assert_eq!(
        running.get("/api/settings").json(),
        json!({"video_url": "https://example.org/{id}"})
    );
    let import = "/api/imports/00000000-0000-0000-0000-000000000009";
    let writes = [
        ("PUT", "/api/videos/x", json!({"title": "a"})),
        ("POST", "/api/videos", json!({"videos": [{"video_id": "x", "title": "a"}]})),
        ("PUT", "/api/videos/x/visibility", json!({"visibility": "hidden", "reason": "x"})),
        ("PUT", "/api/videos/x/correction", json!({"plays": -5, "reason": "x"})),
        (
            "POST",
            "/api/imports",
            json!({"import": Uuid::from_u128(9), "name": "x", "counts": [{"video_id": "y", "plays": 1}]}),
        ),
        ("DELETE", import, json!({})),
    ];
    let tell = running.ask(
        "POST",
        "/api/counts",
        TOKEN,
        update(1, &[(id("x"), 5)]).to_string().as_bytes(),
    );
    assert_eq!(tell.status, 200);
    let foreign = format!("{TOKEN}Origin: https://evil.example\r\n");
    for (lines, status) in
        [("", 401), ("Authorization: Bearer s3cre\r\n", 401), (&foreign, 403), (TOKEN, 200)]
    {
        let before = running.get("/api/counts").json();
        for (method, path, body) in &writes {
            let answer = running.ask(method, path, lines, body.to_string().as_bytes());
            assert_eq!(answer.status, status, "{method} {path} {lines}");
        }
        assert_eq!(running.get("/api/counts").json() == before, status != 200, "{lines}");
    }
    let actions = running.get("/api/audit").json();
    let actions: Vec<_> =
        actions["audit"].as_array().unwrap().iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["take back", "import", "correct", "hide", "set titles", "set title"]);
}

/// Whatever processors tell again.
#[test]
fn what_is_changed_of_a_video_stays_so() {
    let data = tempfile::tempdir().unwrap();
    let tell = |running: &Running, version: u64, plays: u64| {
        for processor in 1..=3u128 {
            let mut body = update(version, &[(id("x"), plays), (id("y"), plays), (id("z"), 1)]);
            body["processor"] = json!(Uuid::from_u128(processor));
            running.post("/api/counts", &body, 200);
        }
    };
    let mut running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    tell(&running, 1, 100);
    let hide = json!({"visibility": "deleted", "reason": "asked to"});
    running.put("/api/videos/x/visibility", &hide, 200);
    assert_eq!(running.newest_action(), ["delete", "x", "asked to"]);
    let correct = json!({"plays": -50, "reason": "bots"});
    running.put("/api/videos/y/correction", &correct, 200);
    assert_eq!(running.newest_action(), ["correct", "y", "-50: bots"]);
    running.put(
        "/api/videos/z/visibility",
        &json!({"visibility": "hidden", "reason": "draft"}),
        200,
    );
    for round in 1..=3 {
        tell(&running, round, 100);
        // The deleted one is in no sum, the hidden one is.
        assert_eq!(
            (running.totals(), running.ids("")),
            ((json!(2), json!(253)), vec!["y".to_owned()]),
            "{round}"
        );
        assert_eq!(running.ids("search=x"), [""; 0]);
        let one = running.get("/api/counts/x").json();
        assert_eq!((&one["visibility"], &one["plays"]), (&json!("deleted"), &json!(300)));
        let one = running.get("/api/counts/y").json();
        assert_eq!(
            (&one["plays"], &one["correction"]["plays"], &one["correction"]["reason"]),
            (&json!(250), &json!(-50), &json!("bots"))
        );
        let changed = running.get("/api/videos/changed").json();
        let shown = |at: usize, name: &str| changed["videos"][at][name].clone();
        assert_eq!(
            [shown(0, "video_id"), shown(0, "visibility"), shown(0, "reason")],
            ["x", "deleted", "asked to"]
        );
        assert_eq!((shown(1, "video_id"), shown(1, "counted")), (json!("y"), json!(300)));
        assert!(shown(0, "at").as_u64().unwrap() > 1_700_000_000_000);
        let top = running.get("/api/top").json();
        assert_eq!((top["top"].as_array().unwrap().len(), &top["total"]), (1, &json!(303)));
        let csv = unchunked(&running.get("/api/export/counts.csv"));
        assert_eq!(csv.lines().count(), 2, "{csv}");
        let Running { dashboard, data } = running;
        dashboard.shutdown().unwrap();
        running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    }
    tell(&running, 5, 110);
    assert_eq!(running.totals(), (json!(2), json!(283)));
    running.put("/api/videos/x/visibility", &json!({"visibility": "shown"}), 200);
    assert_eq!(running.newest_action(), ["show", "x", "done"]);
    running.put("/api/videos/y/correction", &json!({"plays": 0, "reason": "no bots"}), 200);
    assert_eq!(
        (running.totals(), running.ids("sort=video_id")),
        ((json!(3), json!(663)), vec!["x".to_owned(), "y".to_owned()])
    );
}

#[test]
fn an_import_counts_beside_processors_and_can_be_undone() {
    let running = start();
    running.tell(1, &[(id("x"), 5)]);
    let counts: Vec<_> =
        (0..1_000).map(|n| json!({"video_id": format!("v{n}"), "plays": 2})).collect();
    let import = Uuid::from_u128(9);
    let body = json!({"import": import, "name": "counts.csv", "counts": counts});
    for _ in 0..2 {
        assert_eq!(running.post("/api/imports", &body, 200).json()["accepted"], 1_000);
        let more = json!({"import": import, "name": "counts.csv", "counts": [{"video_id": "x", "plays": 7}]});
        running.post("/api/imports", &more, 200);
    }
    assert_eq!(running.totals(), (json!(1_001), json!(2_012)));
    let list = running.get("/api/imports").json();
    assert_eq!(list["imports"].as_array().unwrap().len(), 1);
    let one = &list["imports"][0];
    assert_eq!(
        (&one["name"], &one["videos"], &one["plays"]),
        (&json!("counts.csv"), &json!(1_001), &json!(2_007))
    );
    assert_eq!(running.newest_action()[0], "import");
    assert_eq!(running.get("/api/top").json()["total"], 5);
    let path = format!("/api/imports/{import}");
    assert_eq!(running.ask("DELETE", &path, "", b"").status, 200);
    assert_eq!(running.ask("DELETE", &path, "", b"").status, 404);
    assert_eq!(
        (running.totals().1, running.get("/api/imports").json()),
        (json!(5), json!({"imports": []}))
    );
    assert_eq!(running.get("/api/counts/x").json()["plays"], 5);
}

/// A dashboard as a process of its own.
fn dashboard(dir: &Path) -> (support::Running, SocketAddr) {
    let args = ["dashboard", "--http-address", "127.0.0.1:0"];
    let mut running = support::Running::start(dir, &args);
    let url = running.wait_for("live at ");
    let address = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    (running, address)
}

/// Every title, by id.
fn titles(address: SocketAddr) -> BTreeMap<String, String> {
    let csv = unchunked(&ask(address, "GET", "/api/videos.csv", "", b""));
    let lines = csv.split_terminator("\r\n").skip(1);
    lines
        .map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            (fields[0].to_owned(), fields[1].to_owned())
        })
        .collect()
}

/// In the middle of 10,000: each that was answered is there, and so is what else was changed.
#[test]
fn what_was_answered_is_there_after_a_kill_9() {
    const PUTS: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = dashboard(dir.path());
    let put = |path: &str, body: Value| {
        assert_eq!(
            ask(address, "PUT", path, "", body.to_string().as_bytes()).status,
            200,
            "{path}"
        );
    };
    let told = update(1, &[(id("x"), 50), (id("y"), 5)]).to_string();
    assert_eq!(ask(address, "POST", "/api/counts", "", told.as_bytes()).status, 200);
    put("/api/videos/x/correction", json!({"plays": -8, "reason": "bots"}));
    put("/api/videos/y/visibility", json!({"visibility": "hidden", "reason": "draft"}));
    let import = json!({"import": Uuid::from_u128(9), "name": "x", "counts": [{"video_id": "x", "plays": 100}]});
    assert_eq!(ask(address, "POST", "/api/imports", "", import.to_string().as_bytes()).status, 200);
    let (answered, answers) = channel();
    let putting = std::thread::spawn(move || {
        for number in 0..PUTS {
            let body = json!({"title": format!("title {number}")}).to_string();
            let head = format!(
                "PUT /api/videos/v{number} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let Ok(mut socket) = TcpStream::connect(address) else { return };
            let mut answer = Vec::new();
            use std::io::{Read, Write};
            let done =
                socket.write_all(head.as_bytes()).and_then(|()| socket.read_to_end(&mut answer));
            if done.is_err() || !answer.starts_with(b"HTTP/1.1 200") {
                return;
            }
            answered.send(number).unwrap();
        }
    });
    let mut last = 0;
    while last < PUTS / 3 {
        last = answers.recv_timeout(support::DEADLINE).unwrap();
    }
    running.signal(Signal::KILL);
    putting.join().unwrap();
    last = answers.try_iter().last().unwrap_or(last);
    assert!(last < PUTS - 1, "it was killed behind the last");
    drop(running);
    let (_running, address) = dashboard(dir.path());
    let titles = titles(address);
    for number in 0..=last {
        assert_eq!(titles.get(&format!("v{number}")), Some(&format!("title {number}")));
    }
    // The one that was on its way may be there.
    assert!(titles.len() <= last + 2, "{} of {last}", titles.len());
    let one = ask(address, "GET", "/api/counts/x", "", b"").json();
    assert_eq!((&one["plays"], &one["correction"]["plays"]), (&json!(142), &json!(-8)));
    let one = ask(address, "GET", "/api/counts/y", "", b"").json();
    assert_eq!(one["visibility"], "hidden");
    assert_eq!(ask(address, "GET", "/api/imports", "", b"").json()["imports"][0]["plays"], 100);
}

/// A reset of the files keeps titles and what is not shown; a backup has all of it.
#[test]
fn titles_outlive_a_reset_and_a_backup_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = dashboard(dir.path());
    let told = update(1, &[(id("x"), 50), (id("y"), 5)]).to_string();
    assert_eq!(ask(address, "POST", "/api/counts", "", told.as_bytes()).status, 200);
    for (path, body) in [
        ("/api/videos/x", json!({"title": "one"})),
        ("/api/videos/x/correction", json!({"plays": -8, "reason": "bots"})),
        ("/api/videos/y/visibility", json!({"visibility": "hidden", "reason": "draft"})),
    ] {
        assert_eq!(ask(address, "PUT", path, "", body.to_string().as_bytes()).status, 200);
    }
    let run = |args: &[&str]| assert_exit(&output(dir.path(), args), 0);
    // While it runs.
    run(&["backup", "--data-dir", "playcounts-data", "--output", "kept"]);
    running.signal(Signal::TERM);
    assert_exit(&running.wait(), 0);
    run(&["reset", "--yes"]);
    let seen = |address| {
        let list = ask(address, "GET", "/api/counts", "", b"").json();
        let changed = ask(address, "GET", "/api/videos/changed", "", b"").json();
        let changed = changed["videos"].as_array().unwrap().iter();
        let changed: Vec<_> = changed
            .map(|video| (video["visibility"].clone(), video["correction"]["plays"].clone()))
            .collect();
        (list["total_plays"].clone(), titles(address).len(), changed)
    };
    let hidden = (json!("hidden"), json!(null));
    let (running, address) = dashboard(dir.path());
    assert_eq!(seen(address), (json!(0), 1, vec![hidden.clone()]));
    running.signal(Signal::TERM);
    assert_exit(&running.wait(), 0);
    std::fs::remove_dir_all(dir.path().join("playcounts-data")).unwrap();
    run(&["restore", "--from", "kept", "--data-dir", "playcounts-data"]);
    let (_running, address) = dashboard(dir.path());
    let corrected = (json!("shown"), json!(-8));
    assert_eq!(seen(address), (json!(47), 1, vec![corrected, hidden]));
}
