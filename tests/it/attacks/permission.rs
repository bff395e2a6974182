//! What is sent to a dashboard by those who may not: under another name, from another site, without the write token.

use serde_json::{Value, json};

use super::SECRET;
use super::list::{Attack, FORGERY, REBINDING, TOKENS, attack, get, post};
use crate::dashboard_support::{update, video};

fn good() -> String {
    update(9, &[(video(9), 9)]).to_string()
}

/// Names that are not the dashboard's.
pub(super) fn rebinding(list: &mut Vec<Attack>) {
    for host in [
        "rebound.example:8000",
        "localhost.rebound.example",
        "127.0.0.1.nip.io",
        "localhost.",
        "a@localhost",
        "localhost:80:80",
        "0.0.0.0",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "192.0.2.1",
        "",
    ] {
        let wire = format!("GET /api/counts HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        list.push(attack(REBINDING, format!("`GET /api/counts`, Host `{host}`"), wire, "421"));
    }
    for path in [
        "/",
        "/events",
        "/metrics",
        "/healthz",
        "/api/stats",
        "/api/export/counts.csv",
        "/api/openapi.json",
    ] {
        let wire =
            format!("GET {path} HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n");
        list.push(attack(REBINDING, format!("`GET {path}`, Host `rebound.example`"), wire, "421"));
    }
    for method in ["POST", "DELETE"] {
        let wire = format!(
            "{method} /api/counts HTTP/1.1\r\nHost: rebound.example\r\nOrigin: http://rebound.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        list.push(attack(
            REBINDING,
            format!("`{method} /api/counts`, Host and Origin `rebound.example`"),
            wire,
            "421",
        ));
    }
}

/// Requests that a page of another site can make a browser send.
pub(super) fn forgery(list: &mut Vec<Attack>) {
    for origin in [
        "http://evil.example",
        "null",
        "https://localhost",
        "http://localhost:9",
        "http://localhost.evil.example",
        "file://",
        "",
    ] {
        let wire = post(&format!("Origin: {origin}\r\n"), &good());
        list.push(attack(FORGERY, format!("`POST /api/counts`, Origin `{origin}`"), wire, "403"));
    }
    list.push(attack(
        FORGERY,
        "the same as a form's text/plain",
        post("Origin: http://evil.example\r\nContent-Type: text/plain\r\n", &good()),
        "403",
    ));
    list.push(attack(
        FORGERY,
        "`DELETE /api/counts`",
        "DELETE /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: http://evil.example\r\n\r\n",
        "403",
    ));
    list.push(attack(
        FORGERY,
        "a preflight: no leave is given",
        "OPTIONS /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: DELETE\r\n\r\n",
        "405",
    ));
    list.push(attack(
        FORGERY,
        "a read: without leave for other origins, so that the browser keeps it from the page",
        get("/api/counts", "Origin: http://evil.example\r\n"),
        "200",
    ));
}

/// A POST of `body`.
fn post_to(path: &str, lines: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// An order to empty a topic at a server that is no nsqd of the dashboard's.
fn empty_queue(lines: &str) -> String {
    let body = json!({"action": "empty", "nsqd": "169.254.169.254:80", "topic": "plays", "channel": null, "confirm": "plays"});
    post_to("/api/queue", lines, &body)
}

/// A peek at a topic there.
fn peek(lines: &str) -> String {
    post_to("/api/queue/peek", lines, &json!({"nsqd": "169.254.169.254:80", "topic": "plays"}))
}

/// Orders for the queue, without what they need.
pub(super) fn queue_calls(list: &mut Vec<Attack>) {
    list.push(attack(
        FORGERY,
        "`POST /api/queue/peek`",
        peek("Origin: http://evil.example\r\n"),
        "403",
    ));
    list.push(attack(
        FORGERY,
        "`POST /api/queue/peek` for a server that is none of the nsqds",
        peek(""),
        "400",
    ));
    list.push(attack(TOKENS, "there is none: `POST /api/queue`", empty_queue(""), "403"));
    let with = format!("Authorization: Bearer {SECRET}\r\n");
    list.extend(
        [
            ("`POST /api/queue` without it", empty_queue(""), "401"),
            ("`POST /api/queue/peek` without it", peek(""), "401"),
            (
                "`POST /api/queue` with it, for a server that is none of its nsqds",
                empty_queue(&with),
                "400",
            ),
        ]
        .map(|(name, wire, answer)| Attack { guarded: true, ..attack(TOKENS, name, wire, answer) }),
    );
}

/// Every wrong way to show a write token.
pub(super) fn tokens(list: &mut Vec<Attack>) {
    let token = |name: &str, lines: String, answer| Attack {
        guarded: true,
        ..attack(TOKENS, name, post(&lines, &good()), answer)
    };
    let half = &SECRET[..5];
    list.extend([
        token("a write without it", String::new(), "401"),
        token("another one", "Authorization: Bearer wrong\r\n".into(), "401"),
        token("its first letters", format!("Authorization: Bearer {half}\r\n"), "401"),
        token("more than it", format!("Authorization: Bearer {SECRET}x\r\n"), "401"),
        token(
            "in upper case",
            format!("Authorization: Bearer {}\r\n", SECRET.to_uppercase()),
            "401",
        ),
        token("as `Basic`", format!("Authorization: Basic {SECRET}\r\n"), "401"),
        token("as a cookie", format!("Cookie: token={SECRET}\r\n"), "401"),
        token(
            "the right one behind a wrong one",
            format!("Authorization: Bearer x\r\nAuthorization: Bearer {SECRET}\r\n"),
            "401",
        ),
        token("with a NUL", format!("Authorization: Bearer {SECRET}\0\r\n"), "400"),
    ]);
    for (name, wire, answer) in [
        (
            "in the query",
            format!(
                "DELETE /api/counts?token={SECRET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ),
            "401",
        ),
        (
            "a read under another name",
            "GET /api/counts HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n".into(),
            "421",
        ),
        (
            "a stream under another name",
            "GET /events HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n".into(),
            "421",
        ),
        (
            "a write with it under another name",
            format!(
                "DELETE /api/counts HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
            ),
            "421",
        ),
    ] {
        list.push(Attack { guarded: true, ..attack(TOKENS, name, wire, answer) });
    }
}
