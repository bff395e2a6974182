//! What is refused, why, and that nothing has changed then.

use playcounts::dashboard::Dashboard;
use serde_json::{Value, json};
use uuid::Uuid;

use super::id;
use crate::dashboard_support::{Running, config, start, update};

/// The token of writes, where a dashboard has one.
const TOKEN: &str = "Authorization: Bearer s3cret\r\n";

/// A call, the status that it gets, and what its reason says.
type Refused<'a> = (&'a str, &'a str, Value, u16, &'a str);

/// Makes the calls at a dashboard that knows a video, x.
#[track_caller]
fn check(refused: &[Refused<'_>]) {
    let running = start();
    running.tell(1, &[(id("x"), 5)]);
    for (method, path, body, status, want) in refused {
        let answer = running.ask(method, path, "", body.to_string().as_bytes());
        let error = answer.error();
        assert_eq!(answer.status, *status, "{method} {path}: {error}");
        assert!(error.contains(want) && error.len() < 400, "{method} {path}: {error}");
    }
    assert_eq!(running.totals(), (json!(1), json!(5)));
    assert_eq!(running.get("/api/audit").json()["audit"], json!([]));
    assert_eq!(running.get("/api/videos/changed").json(), json!({"videos": []}));
    assert_eq!(running.get("/api/imports").json(), json!({"imports": []}));
    assert_eq!(running.get("/api/counts/x").json()["title"], json!(null));
}

#[test]
fn titles_that_do_not_fit() {
    check(&[
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
        (
            "PUT",
            "/api/videos/x",
            json!({"title": "x".repeat(10_000_000)}),
            413,
            "the body is over the limit",
        ),
        ("POST", "/api/videos", json!({"videos": []}), 400, "1 to 1000 videos, not 0"),
        (
            "POST",
            "/api/videos",
            json!({"videos": [{"video_id": "x", "title": "a"}, {"video_id": "y", "title": "b\n"}]}),
            400,
            "video y: a title has no control characters",
        ),
    ]);
}

#[test]
fn visibilities_that_do_not_fit() {
    check(&[
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
    ]);
}

#[test]
fn corrections_that_do_not_fit() {
    check(&[
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
    ]);
}

#[test]
fn imports_that_do_not_fit() {
    let import = Uuid::from_u128(9);
    let counts = |counts: Value| json!({"import": import, "name": "counts.csv", "counts": counts});
    check(&[
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
            "/api/imports/00000000-0000-0000-0000-000000000009",
            json!({}),
            404,
            "no import is 00000000-0000-0000-0000-000000000009",
        ),
        ("DELETE", "/api/imports/x", json!({}), 400, "is not an import's id"),
    ]);
}

/// Every call that changes something, in an order in which each can.
fn writes() -> [(&'static str, &'static str, Value); 6] {
    let counts = json!([{"video_id": "y", "plays": 1}]);
    [
        ("PUT", "/api/videos/x", json!({"title": "a"})),
        ("POST", "/api/videos", json!({"videos": [{"video_id": "x", "title": "b"}]})),
        ("PUT", "/api/videos/x/visibility", json!({"visibility": "hidden", "reason": "x"})),
        ("PUT", "/api/videos/x/correction", json!({"plays": -5, "reason": "x"})),
        (
            "POST",
            "/api/imports",
            json!({"import": Uuid::from_u128(9), "name": "x", "counts": counts}),
        ),
        ("DELETE", "/api/imports/00000000-0000-0000-0000-000000000009", json!({})),
    ]
}

/// Makes every one of those calls, each of which gets that status.
#[track_caller]
fn write_all(running: &Running, lines: &str, status: u16) {
    let before = running.get("/api/counts").json();
    for (method, path, body) in writes() {
        let answer = running.ask(method, path, lines, body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{method} {path} {lines}");
    }
    let is_as_before = running.get("/api/counts").json() == before;
    assert_eq!(is_as_before, status != 200, "{lines}");
}

#[test]
fn no_write_without_the_token() {
    let data = tempfile::tempdir().unwrap();
    let mut with_token = config(&data);
    with_token.write_token = Some("s3cret".to_owned());
    with_token.video_url = Some("https://example.org/{id}".to_owned());
    let running = Running { dashboard: Dashboard::start(with_token).unwrap(), data };
    assert_eq!(running.get("/api/settings").json()["video_url"], "https://example.org/{id}");
    let told = update(1, &[(id("x"), 5)]).to_string();
    assert_eq!(running.ask("POST", "/api/counts", TOKEN, told.as_bytes()).status, 200);
    write_all(&running, "", 401);
    write_all(&running, "Authorization: Bearer s3cre\r\n", 401);
    write_all(&running, TOKEN, 200);
    let log = running.get("/api/audit").json();
    let actions = log["audit"].as_array().unwrap().iter().map(|line| line["action"].clone());
    let want = ["take back", "import", "correct", "hide", "set titles", "set title"];
    assert_eq!(actions.collect::<Vec<_>>(), want);
}

/// Where there is no token, from no page of another site.
#[test]
fn no_write_from_another_site() {
    let running = start();
    assert_eq!(running.get("/api/settings").json()["video_url"], json!(null));
    running.tell(1, &[(id("x"), 5)]);
    write_all(&running, "Origin: https://evil.example\r\n", 403);
    write_all(&running, "", 200);
}

#[test]
fn a_search_that_is_longer_than_any_title() {
    let running = start();
    let search = |len| running.get(&format!("/api/counts?search={}", "x".repeat(len)));
    assert_eq!(search(300).status, 200);
    let refused = search(301);
    let want = "search has at most 300 characters, not 301";
    assert_eq!((refused.status, refused.error().as_str()), (400, want));
}
