//! What is sent to a dashboard over one connection, and what it answers: the tables behind `docs/attacks.md`. Those about who
//! may do what are in `permission`.

use serde_json::json;

use super::permission::{forgery, queue_calls, rebinding, tokens};
use crate::dashboard_support::{consumption, update, video};

/// One attack: what is sent, and what comes back.
pub(super) struct Attack {
    pub(super) group: &'static str,
    pub(super) name: String,
    pub(super) wire: Vec<u8>,
    pub(super) answer: &'static str,
    /// At the dashboard with a write token.
    pub(super) guarded: bool,
}

const SLOW: &str = "Slow clients";
const FRAMING: &str = "Request smuggling";
const BODIES: &str = "Bodies";
const PATHS: &str = "Paths";
const TEXT: &str = "Text that another program could run";
const PROTOCOLS: &str = "Other protocols and versions";
pub(super) const REBINDING: &str = "DNS rebinding: a page whose name was pointed at this machine";
pub(super) const FORGERY: &str = "Pages of other sites (CSRF)";
pub(super) const TOKENS: &str = "With a write token";

pub(super) const GROUPS: [&str; 9] =
    [SLOW, FRAMING, BODIES, PATHS, TEXT, PROTOCOLS, REBINDING, FORGERY, TOKENS];

pub(super) fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n")
}

pub(super) fn post(lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A POST whose framing is all in `lines`.
pub(super) fn framed(lines: &str, body: &str) -> String {
    format!(
        "POST /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n\r\n{body}"
    )
}

/// Those that the server must end by itself: nothing more is sent, and the connection stays open.
pub(super) fn held() -> Vec<Attack> {
    [
        ("a connection that says nothing", String::new(), "closed"),
        ("half a head, then nothing", "GET / HTTP/1.1\r\nHo".to_owned(), "408"),
        ("half a body, then nothing", framed("Content-Length: 10", "abc"), "408"),
    ]
    .map(|(name, wire, answer)| attack(SLOW, name, wire, answer))
    .into()
}

pub(super) fn attack(
    group: &'static str,
    name: impl Into<String>,
    wire: impl Into<Vec<u8>>,
    answer: &'static str,
) -> Attack {
    Attack { group, name: name.into(), wire: wire.into(), answer, guarded: false }
}
/// Those that are answered at once, in the order of the page.
pub(super) fn quick() -> Vec<Attack> {
    let mut list = Vec::new();
    for add in
        [slow, framing, bodies, paths, texts, protocols, rebinding, forgery, queue_calls, tokens]
    {
        add(&mut list);
    }
    list
}

/// Heads that are too long.
fn slow(list: &mut Vec<Attack>) {
    list.push(attack(
        SLOW,
        "a head of 20 KB",
        get("/", &format!("X-A: {}\r\n", "x".repeat(20_000))),
        "431",
    ));
    list.push(attack(SLOW, "65 header lines", get("/", &"X-A: b\r\n".repeat(64)), "431"));
}

/// Header lines that say where a body ends, and do not agree, or are none.
const BROKEN_FRAMING: &[&str] = &[
    "Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "X-A: b\r\n Transfer-Encoding: chunked",
    "X-A: b\nTransfer-Encoding: chunked",
    "X-A: b\rTransfer-Encoding: chunked",
    "Content-Length: 3\r\nContent-Length: 4",
    "Content-Length: 3\r\nContent-Length: 3",
    "Content-Length: 3, 3",
    "Content-Length: +3",
    "Content-Length: -3",
    "Content-Length: 0x3",
    "Content-Length: 3.0",
    "Content-Length: 3 3",
    "Content-Length:",
    "Content-Length : 3",
    "Content-Length\0: 3",
    "no colon",
    ": no name",
    "X-A: b\0c",
    "X-A: \u{e9}",
];

/// Bodies whose end two servers could see in two places.
fn framing(list: &mut Vec<Attack>) {
    for lines in BROKEN_FRAMING {
        list.push(attack(
            FRAMING,
            format!("`{}`", lines.escape_debug()),
            framed(lines, "0\r\n\r\n"),
            "400",
        ));
    }
    list.push(attack(
        FRAMING,
        "a chunk of 2^68 bytes",
        framed("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"),
        "400",
    ));
    list.push(attack(
        FRAMING,
        "lines that end in LF alone",
        "GET / HTTP/1.1\nHost: localhost\n\n",
        "400",
    ));
    list.push(attack(
        FRAMING,
        "a second request, `DELETE /api/counts`, behind the first: not looked at",
        format!(
            "{}DELETE /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            get("/healthz", "")
        ),
        "200",
    ));
    list.push(attack(
        FRAMING,
        "the same in the body of a GET",
        format!(
            "{}DELETE /api/counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            get("/healthz", "Content-Length: 48\r\n")
        ),
        "200",
    ));
}

/// Bodies that are too large, or not what they seem.
fn bodies(list: &mut Vec<Attack>) {
    for (name, length) in [
        ("10 GB", "10000000000"),
        ("4 GB, which takes a worker of tiny_http", "4000000000"),
        ("64 TiB, which ends a process with tiny_http", "70368744177664"),
        ("2^64", "18446744073709551616"),
        ("10^30", "1000000000000000000000000000000"),
    ] {
        let name = format!("a Content-Length of {name}, 3 bytes sent");
        list.push(attack(BODIES, name, framed(&format!("Content-Length: {length}"), "abc"), "413"));
    }
    list.push(attack(
        BODIES,
        "10 GB behind `Expect: 100-continue`",
        framed("Content-Length: 10000000000\r\nExpect: 100-continue", ""),
        "413",
    ));
    list.push(attack(BODIES, "1 MiB and one byte", post("", &" ".repeat(1_048_577)), "413"));
    list.push(attack(BODIES, "1 MiB of spaces", post("", &" ".repeat(1_048_576)), "400"));
    list.push(attack(
        BODIES,
        "chunks without end",
        framed(
            "Transfer-Encoding: chunked",
            &format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(300),
        ),
        "413",
    ));
    let bomb = "\u{1f}\u{8b}".to_owned() + &"\0".repeat(50_000);
    list.push(attack(
        BODIES,
        "a gzipped body: never inflated",
        post("Content-Encoding: gzip\r\n", &bomb),
        "400",
    ));
    list.push(attack(
        BODIES,
        "JSON that is nested 100,000 deep",
        post("", &format!("{{\"counts\":{}", "[".repeat(100_000))),
        "400",
    ));
    list.push(attack(BODIES, "`Expect: 200-ok`", get("/", "Expect: 200-ok\r\n"), "417"));
}

/// Paths that lead out of what is served.
fn paths(list: &mut Vec<Attack>) {
    for (target, answer) in [
        ("/../etc/passwd", "400"),
        ("/./style.css", "400"),
        ("/api/counts/../../etc/passwd", "400"),
        ("/%2e%2e/etc/passwd", "400"),
        ("/%2e%2e%2fetc/passwd", "400"),
        ("/..%5cetc", "400"),
        ("/%252e%252e/etc/passwd", "400"),
        ("/%c0%ae%c0%ae/etc/passwd", "400"),
        ("/style.css%00.html", "400"),
        ("/a\\b", "400"),
        ("/%", "400"),
        ("/#a", "400"),
        ("http://localhost/", "400"),
        ("*", "400"),
        ("//etc/passwd", "404"),
        ("/..;/etc/passwd", "404"),
        ("/.git/config", "404"),
        ("/src/main.rs", "404"),
        ("/page/index.html", "404"),
        ("/style.css/", "404"),
        ("/STYLE.CSS", "404"),
        ("/dashboard.sqlite3", "404"),
        ("/api/export/..%2fcounts.csv", "400"),
    ] {
        list.push(attack(PATHS, format!("`{target}`"), get(target, ""), answer));
    }
}

/// Markup, formulas and escape sequences.
fn texts(list: &mut Vec<Attack>) {
    let long = "<".repeat(129);
    for text in ["\u{1b}[31m\r\nSet-Cookie: a=b", "\u{9b}31m", "", &long] {
        let mut body = update(1, &[(video(1), 3)]);
        body["counts"][0]["video_id"] = json!(text);
        let name = format!("video_id `{}`", text.escape_debug());
        list.push(attack(TEXT, name, post("", &body.to_string()), "400"));
    }
    for (target, answer) in [
        ("/%3Cimg%20src=x%20onerror=alert(1)%3E", "404"),
        ("/api/counts/%3Cscript%3E", "404"),
        ("/api/counts/%1b%5b31m", "400"),
        ("/%0d%0aSet-Cookie:%20a=b", "400"),
        ("/%1b%5b31m", "400"),
        ("/api/counts?search=%3Cscript%3E", "200"),
        ("/api/counts?search=%0d%0aSet-Cookie:%20a=b", "200"),
        ("/api/counts?search='%20OR%201=1--", "200"),
        ("/api/counts?sort=plays;DROP%20TABLE%20videos", "400"),
        ("/api/counts?after=%2B5", "400"),
        ("/api/counts?limit=1e9", "400"),
        ("/api/series?name=%3Cscript%3E", "400"),
        ("/api/series?since=%2B5", "400"),
        ("/api/series?from=%2B5", "400"),
        ("/api/confirmed?producer=00000000000000000000000000000007&outbox=%2B5", "400"),
        ("/api/export/series.csv?video==1+1", "404"),
        ("/api/confirmed?producer=%3Cscript%3E", "400"),
    ] {
        list.push(attack(TEXT, format!("`{target}`"), get(target, ""), answer));
    }
    let report = json!({"processor": video(1), "consumption": consumption(Some("<script>alert(1)</script>"))}).to_string();
    list.push(attack(
        TEXT,
        "markup as a processor's last rejection: kept, and shown as text",
        format!("POST /api/consumption HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{report}", report.len()),
        "200",
    ));
}

/// What is no HTTP/1.1, and what HTTP/1.1 does not allow.
fn protocols(list: &mut Vec<Attack>) {
    for (name, wire, answer) in [
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "400"),
        ("a TLS ClientHello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".into(), "400"),
        ("NSQ's magic", "  V2".into(), "400"),
        ("SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n".into(), "400"),
        ("Redis", "*1\r\n$4\r\nPING\r\n".into(), "400"),
        ("HTTP/0.9", "GET /\r\n\r\n".into(), "400"),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n".into(), "400"),
        ("HTTP/3.0", "GET / HTTP/3.0\r\nHost: localhost\r\n\r\n".into(), "400"),
        (
            "HTTP/1.0, which has no Host: answered, then closed",
            "GET /healthz HTTP/1.0\r\n\r\n".into(),
            "200",
        ),
        (
            "HTTP/1.0 with keep-alive: closed, too",
            "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(),
            "200",
        ),
        (
            "`Upgrade: h2c`, `Upgrade: websocket`: not heard",
            get("/healthz", "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"),
            "200",
        ),
        (
            "`CONNECT localhost:22`",
            "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
            "400",
        ),
        (
            "`TRACE /`",
            "TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
            "405",
        ),
        ("`get /`", "get / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(), "400"),
        (
            "a method of 17 letters",
            "AAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
            "400",
        ),
        (
            "two spaces",
            "GET  / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
            "400",
        ),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), "400"),
        ("two Hosts", get("/", "Host: localhost\r\n"), "400"),
    ] as [(&str, String, &str); 18]
    {
        list.push(attack(PROTOCOLS, name, wire, answer));
    }
}
