//! Titles, what is shown of videos, corrections and imports, over HTTP: what is taken, what is refused, and what is there
//! after a kill, a reset and a restore.

mod changed;
mod kept;
mod refused;

use playcounts::model::video_id::VideoId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Answer, Running, start, update};

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
    let csv = running.get("/api/export/counts.csv").unchunked();
    assert!(
        csv.contains(",\"'=Cats, \"\"dogs\"\" & <b>Été</b>\",https://example.org/cats\r\n"),
        "{csv}"
    );
    let csv = running.get("/api/videos.csv").unchunked();
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
        running.put(
            &format!("/api/videos/{path}"),
            &json!({"title": format!("the video {text}")}),
            200,
        );
        running.put(
            &format!("/api/videos/{path}/correction"),
            &json!({"plays": 2, "reason": "x"}),
            200,
        );
        let one = running.get(&format!("/api/counts/{path}")).json();
        assert_eq!((&one["video_id"], &one["plays"]), (&json!(text), &json!(7)), "{text}");
        assert_eq!(one["title"], format!("the video {text}"));
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
