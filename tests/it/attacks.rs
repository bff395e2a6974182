//! The attacks of cases 45 to 52 of RELIABILITY.md and section 1.1 of ECOSYSTEM.md, over raw sockets, at a dashboard
//! as it is served. `docs/attacks.md` is written from these tables: `UPDATE=1` rewrites it.
//!
//! Where else the rest is: 43 in `pipeline`, 44 in `dashboard` and `crash`, the server alone
//! in `http`, real browsers in `foreign_pages`, event streams in `streams`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use playcounts::dashboard::Dashboard;
use serde_json::{Value, json};

use crate::dashboard_support::{DEADLINE, Running, config, consumption, start, update, video};
use crate::streams::ChildDashboard;

/// Where the list is kept.
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/attacks.md");

const SECRET: &str = "correct-horse";

/// One attack: what is sent, and what comes back.
struct Attack {
    group: &'static str,
    name: String,
    wire: Vec<u8>,
    answer: &'static str,
    /// At the dashboard with a write token.
    guarded: bool,
}

const SLOW: &str = "Slow clients (45)";
const FRAMING: &str = "Request smuggling (46)";
const BODIES: &str = "Bodies (47)";
const PATHS: &str = "Paths (48)";
const TEXT: &str = "Text that another program could run (49)";
const PROTOCOLS: &str = "Other protocols and versions (52)";
const REBINDING: &str = "DNS rebinding: a page whose name was pointed at this machine";
const FORGERY: &str = "Pages of other sites (CSRF)";
const TOKENS: &str = "With a write token";

const GROUPS: [&str; 9] =
    [SLOW, FRAMING, BODIES, PATHS, TEXT, PROTOCOLS, REBINDING, FORGERY, TOKENS];

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn post(lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/counts HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A POST whose framing is all in `lines`.
fn framed(lines: &str, body: &str) -> String {
    format!("POST /api/counts HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n{body}")
}

fn good() -> String {
    update(9, &[(video(9), 9)]).to_string()
}

/// Those that the server must end by itself: nothing more is sent, and the connection stays open.
fn held() -> Vec<Attack> {
    [
        ("a connection that says nothing", String::new(), "closed"),
        ("half a head, then nothing", "GET / HTTP/1.1\r\nHo".to_owned(), "408"),
        ("half a body, then nothing", framed("Content-Length: 10", "abc"), "408"),
    ]
    .map(|(name, wire, answer)| attack(SLOW, name, wire, answer))
    .into()
}

fn attack(
    group: &'static str,
    name: impl Into<String>,
    wire: impl Into<Vec<u8>>,
    answer: &'static str,
) -> Attack {
    Attack { group, name: name.into(), wire: wire.into(), answer, guarded: false }
}

fn quick() -> Vec<Attack> {
    let mut list = Vec::new();
    list.push(attack(
        SLOW,
        "a head of 20 KB",
        get("/", &format!("X-A: {}\r\n", "x".repeat(20_000))),
        "431",
    ));
    list.push(attack(SLOW, "65 header lines", get("/", &"X-A: b\r\n".repeat(64)), "431"));

    for lines in [
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
    ] {
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
        format!("{}DELETE /api/counts HTTP/1.1\r\nHost: localhost\r\n\r\n", get("/healthz", "")),
        "200",
    ));
    list.push(attack(
        FRAMING,
        "the same in the body of a GET",
        format!(
            "{}DELETE /api/counts HTTP/1.1\r\nHost: localhost\r\n\r\n",
            get("/healthz", "Content-Length: 48\r\n")
        ),
        "200",
    ));

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
        framed("Transfer-Encoding: chunked", &"1000\r\n".repeat(100_000)),
        "400",
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

    for text in [
        "<img src=x onerror=alert(1)>",
        "\"};alert(1)//",
        "=cmd|' /C calc'!A0",
        "\u{1b}[31m\r\nSet-Cookie: a=b",
    ] {
        let mut body = update(1, &[(video(1), 3)]);
        body["counts"][0]["video_id"] = json!(text);
        let name = format!("video_id `{}`", text.escape_debug());
        list.push(attack(TEXT, name, post("", &body.to_string()), "400"));
    }
    for (target, answer) in [
        ("/%3Cimg%20src=x%20onerror=alert(1)%3E", "404"),
        ("/api/counts/%3Cscript%3E", "400"),
        ("/%0d%0aSet-Cookie:%20a=b", "400"),
        ("/%1b%5b31m", "400"),
        ("/api/counts?search=%3Cscript%3E", "400"),
        ("/api/counts?search=%0d%0aSet-Cookie:%20a=b", "400"),
        ("/api/counts?search='%20OR%201=1--", "400"),
        ("/api/counts?sort=plays;DROP%20TABLE%20videos", "400"),
        ("/api/counts?after=%2B5", "400"),
        ("/api/counts?limit=1e9", "400"),
        ("/api/series?name=%3Cscript%3E", "400"),
        ("/api/series?since=%2B5", "400"),
        ("/api/series?from=%2B5", "400"),
        ("/api/confirmed?producer=00000000000000000000000000000007&outbox=%2B5", "400"),
        ("/api/export/series.csv?video==1+1", "400"),
        ("/api/confirmed?producer=%3Cscript%3E", "400"),
    ] {
        list.push(attack(TEXT, format!("`{target}`"), get(target, ""), answer));
    }
    let report = json!({"processor": video(1), "consumption": consumption(Some("<script>alert(1)</script>"))}).to_string();
    list.push(attack(
        TEXT,
        "markup as a processor's last rejection: kept, and shown as text",
        format!("POST /api/consumption HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{report}", report.len()),
        "200",
    ));

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
            "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "400",
        ),
        ("`TRACE /`", "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "405"),
        ("`get /`", "get / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "400"),
        (
            "a method of 17 letters",
            "AAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "400",
        ),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "400"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), "400"),
        ("two Hosts", get("/", "Host: localhost\r\n"), "400"),
    ] as [(&str, String, &str); 18]
    {
        list.push(attack(PROTOCOLS, name, wire, answer));
    }

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
        let wire = format!("GET /api/counts HTTP/1.1\r\nHost: {host}\r\n\r\n");
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
        let wire = format!("GET {path} HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
        list.push(attack(REBINDING, format!("`GET {path}`, Host `rebound.example`"), wire, "421"));
    }
    for method in ["POST", "DELETE"] {
        let wire = format!(
            "{method} /api/counts HTTP/1.1\r\nHost: rebound.example\r\nOrigin: http://rebound.example\r\nContent-Length: 0\r\n\r\n"
        );
        list.push(attack(
            REBINDING,
            format!("`{method} /api/counts`, Host and Origin `rebound.example`"),
            wire,
            "421",
        ));
    }

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
        "DELETE /api/counts HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
        "403",
    ));
    list.push(attack(
        FORGERY,
        "a preflight: no leave is given",
        "OPTIONS /api/counts HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: DELETE\r\n\r\n",
        "405",
    ));
    list.push(attack(
        FORGERY,
        "a read: without leave for other origins, so that the browser keeps it from the page",
        get("/api/counts", "Origin: http://evil.example\r\n"),
        "200",
    ));

    let to = |path: &str, lines: &str, body: Value| {
        let body = body.to_string();
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let queue = |lines: &str| {
        let body = json!({"action": "empty", "nsqd": "169.254.169.254:80", "topic": "plays", "channel": null, "confirm": "plays"});
        to("/api/queue", lines, body)
    };
    let peek = |lines: &str| {
        to("/api/queue/peek", lines, json!({"nsqd": "169.254.169.254:80", "topic": "plays"}))
    };
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
    list.push(attack(TOKENS, "there is none: `POST /api/queue`", queue(""), "403"));
    let with = format!("Authorization: Bearer {SECRET}\r\n");
    list.extend(
        [
            ("`POST /api/queue` without it", queue(""), "401"),
            ("`POST /api/queue/peek` without it", peek(""), "401"),
            (
                "`POST /api/queue` with it, for a server that is none of its nsqds",
                queue(&with),
                "400",
            ),
        ]
        .map(|(name, wire, answer)| Attack { guarded: true, ..attack(TOKENS, name, wire, answer) }),
    );
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
            format!("DELETE /api/counts?token={SECRET} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "401",
        ),
        (
            "a read under another name",
            "GET /api/counts HTTP/1.1\r\nHost: rebound.example\r\n\r\n".into(),
            "421",
        ),
        (
            "a stream under another name",
            "GET /events HTTP/1.1\r\nHost: rebound.example\r\n\r\n".into(),
            "421",
        ),
        (
            "a write with it under another name",
            format!(
                "DELETE /api/counts HTTP/1.1\r\nHost: rebound.example\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
            ),
            "421",
        ),
    ] {
        list.push(Attack { guarded: true, ..attack(TOKENS, name, wire, answer) });
    }
    list
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn read_to_end(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Ok(_) => {}
        // All of the answer is there; what was sent in vain is what is reset.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8(answer).unwrap()
}

fn ask(address: SocketAddr, wire: &[u8]) -> String {
    let mut socket = connect(address);
    socket.write_all(wire).unwrap();
    read_to_end(socket)
}

fn status(answer: &str) -> String {
    answer.split(' ').nth(1).unwrap_or("closed").to_owned()
}

/// One answer, marked so that no browser takes it for more than it is.
#[track_caller]
fn assert_guarded(what: &str, answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 ") && !answer.contains("\nHTTP/1.1 "), "{what}: {answer}");
    for line in [
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
        "Connection: close",
    ] {
        let lines = head.lines().filter(|found| found.eq_ignore_ascii_case(line)).count();
        assert_eq!(lines, 1, "{what}: {line}: {head}");
    }
    let policies: Vec<_> =
        head.lines().filter_map(|line| line.strip_prefix("Content-Security-Policy: ")).collect();
    let [policy] = policies[..] else { panic!("{what}: {head}") };
    assert!(policy.starts_with("default-src 'none';"), "{what}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{what}: {policy}");
    assert!(!head.to_lowercase().contains("access-control"), "{what}: {head}");
    assert!(!head.to_lowercase().contains("set-cookie"), "{what}: {head}");
    assert!(!head.contains('\u{1b}') && !body.contains('\u{1b}'), "{what}: {answer}");
    if status(answer).as_str() >= "400" {
        assert!(head.contains("Content-Type: application/json"), "{what}: {head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].is_string(), "{what}: {body}");
    }
}

#[track_caller]
fn assert_serves(what: &str, address: SocketAddr) {
    let answer = ask(address, get("/healthz", "").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "after {what}: {answer}");
}

fn guarded() -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.write_token = Some(SECRET.to_owned());
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

#[test]
fn each_attack_gets_its_answer_and_harms_nothing() {
    let (open, guarded) = (start(), guarded());
    open.tell(1, &[(video(1), 3)]);
    let address = open.dashboard.local_addr();
    // These end by deadlines of 5 s, meanwhile.
    let held: Vec<_> = held()
        .into_iter()
        .map(|attack| {
            let mut socket = connect(address);
            socket.write_all(&attack.wire).unwrap();
            (attack, socket)
        })
        .collect();
    let mut tried = Vec::new();
    for attack in quick() {
        let address = if attack.guarded { guarded.dashboard.local_addr() } else { address };
        let answer = ask(address, &attack.wire);
        assert_eq!(status(&answer), attack.answer, "{}: {answer}", attack.name);
        assert_guarded(&attack.name, &answer);
        assert_serves(&attack.name, address);
        tried.push(attack);
    }
    for (attack, socket) in held {
        let answer = read_to_end(socket);
        assert_eq!(status(&answer), attack.answer, "{}: {answer}", attack.name);
        if !answer.is_empty() {
            assert_guarded(&attack.name, &answer);
        }
        tried.push(attack);
    }
    let totals = open.dashboard.totals();
    assert_eq!((totals.videos, totals.plays), (1, 3), "an attack has changed the counts");
    assert_eq!(guarded.dashboard.totals().videos, 0);

    let mut list = String::from(
        "# Attacks tried\n\nEach over a raw socket at a dashboard as it is served, with the status that it got; after each \
         one the next request\nwas served, no count was changed, and every answer carried `nosniff`, a Content-Security-Policy \
         from `default-src 'none'`\nwith `frame-ancestors 'none'`, and no leave for other origins. The numbers are the cases \
         of RELIABILITY.md. Written by\n`UPDATE=1 cargo test --test it attacks`; the test compares.\n",
    );
    for group in GROUPS {
        list.push_str(&format!("\n## {group}\n\n| attack | answer |\n|---|---|\n"));
        for attack in tried.iter().filter(|attack| attack.group == group) {
            let name = attack.name.replace('|', "\\|");
            list.push_str(&format!("| {name} | {} |\n", attack.answer));
        }
    }
    list.push_str(OTHERS);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(LIST, &list).unwrap();
    }
    assert!(
        std::fs::read_to_string(LIST).unwrap_or_default() == list,
        "{LIST} is out of date: UPDATE=1"
    );
}

/// Attacks of more than one connection, each the name of a test.
const OTHERS: &str = "
## More than one connection

| attack | outcome | test |
|---|---|---|
| 400 idle connections, of which 256 are kept | 503 to the next, 200 once they are gone | `attacks::idle_connections_past_the_cap` |
| 12 keep-alive connections at once, 20 times | 200 to each | `attacks::bursts_leave_nobody_unanswered` |
| 300 connections reset before or within a request | 200 to the next | `attacks::connections_that_are_reset_harm_nothing` |
| no descriptor left | 200 once there are some | `attacks::without_descriptors_it_goes_on_later` |
| 600 requests with a random fault | never served where a strict parser refuses | `attacks::nothing_is_served_that_a_strict_parser_refuses` |
| the database locked by another process | 503 with the reason, reads go on | `attacks::a_locked_database_is_503_and_reads_go_on` |
| a client that opens streams in a loop | its places are free again | `streams::a_client_that_reconnects_in_a_loop_takes_no_place` |
| streams that never read | dropped; the writer and the others do not wait | `streams::those_that_never_read_are_dropped_and_nobody_waits` |
| a page of another site, in Chromium | reads and writes nothing | `foreign_pages::a_page_of_another_site_reads_and_writes_nothing` |
| DNS rebinding, in Chromium | 421, with and without a write token | `foreign_pages::a_name_that_is_rebound_reads_and_writes_nothing` |
";

#[test]
fn what_is_answered_well_is_guarded_too() {
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let address = running.dashboard.local_addr();
    for path in [
        "/",
        "/app.js",
        "/style.css",
        "/favicon.svg",
        "/uplot/LICENSE",
        "/api/openapi.json",
        "/api/counts",
        "/api/stats",
        "/api/series",
        "/metrics",
        "/healthz",
        "/api/export/counts.csv",
        "/api/export/counts.json",
    ] {
        let answer = ask(address, get(path, "").as_bytes());
        assert_eq!(status(&answer), "200", "{path}");
        let head = answer.split_once("\r\n\r\n").unwrap().0;
        // The page's text may say anything.
        assert_guarded(path, &format!("{head}\r\n\r\n"));
        assert_guarded(
            path,
            &ask(address, format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()),
        );
    }
    let mut stream = connect(address);
    stream.write_all(get("/events", "").as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0);
        seen.extend_from_slice(&chunk[..count]);
    }
    let seen = String::from_utf8(seen).unwrap();
    assert_guarded("/events", &format!("{}\r\n\r\n", seen.split_once("\r\n\r\n").unwrap().0));
}

#[test]
fn idle_connections_past_the_cap() {
    let running = start();
    let address = running.dashboard.local_addr();
    let idle: Vec<_> = (0..400).map(|_| connect(address)).collect();
    let refused = ask(address, get("/healthz", "").as_bytes());
    assert_eq!(status(&refused), "503", "{refused}");
    assert_guarded("a connection too many", &refused);
    drop(idle);
    let deadline = Instant::now() + DEADLINE;
    while status(&ask(address, get("/healthz", "").as_bytes())) != "200" {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn bursts_leave_nobody_unanswered() {
    let running = start();
    let address = running.dashboard.local_addr();
    for round in 0..20 {
        let mut sockets: Vec<_> = (0..12).map(|_| connect(address)).collect();
        for socket in &mut sockets {
            socket.write_all(get("/healthz", "Connection: keep-alive\r\n").as_bytes()).unwrap();
        }
        for socket in sockets {
            assert_eq!(status(&read_to_end(socket)), "200", "round {round}");
        }
    }
}

#[test]
fn connections_that_are_reset_harm_nothing() {
    let running = start();
    let address = running.dashboard.local_addr();
    for wire in [String::new(), get("/", ""), framed("Content-Length: 10", "abc")] {
        for _ in 0..100 {
            let mut socket = connect(address);
            socket.write_all(wire.as_bytes()).unwrap();
            // Closing sends a reset.
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        assert_serves("resets", address);
    }
}

#[test]
fn without_descriptors_it_goes_on_later() {
    let data = tempfile::tempdir().unwrap();
    let child = ChildDashboard::start(data.path(), "ulimit -n 96");
    let sockets: Vec<_> = (0..200).map(|_| connect(child.address)).collect();
    for mut socket in &sockets {
        // Some are accepted and wait for more; the rest wait to be accepted.
        let _ = socket.write_all(b"GET / HTTP/1.1\r\n");
    }
    drop(sockets);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut socket = connect(child.address);
        let mut answer = String::new();
        let asked = socket.write_all(get("/healthz", "").as_bytes());
        let _ = asked.and_then(|()| socket.read_to_string(&mut answer));
        if status(&answer) == "200" {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
    }
}

#[test]
fn a_locked_database_is_503_and_reads_go_on() {
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let other = rusqlite::Connection::open(running.data.path().join("dashboard.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = running.post("/api/counts", &update(2, &[(video(1), 4)]), 503);
    assert!(refused.error().contains("locked"), "{}", refused.error());
    assert_eq!(running.get("/api/counts").json()["total_plays"], 3);
    other.execute_batch("ROLLBACK").unwrap();
    running.tell(2, &[(video(1), 4)]);
    assert_eq!(running.get("/api/counts").json()["total_plays"], 4);
}

/// Whether `wire` is one request as RFC 9112 has it, without anything that it lets a server refuse. Written without a
/// look at `http::head`, which must not accept more.
fn is_strict(wire: &[u8]) -> bool {
    let Some(end) = wire.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let Ok(head) = std::str::from_utf8(&wire[..end]) else { return false };
    let lines: Vec<&str> = head.split("\r\n").collect();
    let is_text = |line: &&str| line.bytes().all(|byte| matches!(byte, b'\t' | 32..=126));
    if !lines.iter().all(is_text) {
        return false;
    }
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, version] = words[..] else { return false };
    let is_request = !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_uppercase())
        && target.starts_with('/')
        && ["HTTP/1.1", "HTTP/1.0"].contains(&version);
    let (mut hosts, mut lengths) = (0, Vec::new());
    for line in &lines[1..] {
        let Some((name, value)) = line.split_once(':') else { return false };
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return false;
        }
        match name.to_lowercase().as_str() {
            "transfer-encoding" => return false,
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim().to_owned()),
            _ => {}
        }
    }
    let body = wire.len() - end - 4;
    let fits = match &lengths[..] {
        [] => true,
        [length] => {
            length.bytes().all(|byte| byte.is_ascii_digit())
                && length.parse::<usize>().is_ok_and(|length| length <= body)
        }
        _ => false,
    };
    let host_is_there = hosts == 1 || (hosts == 0 && version == "HTTP/1.0");
    is_request && host_is_there && fits
}

#[test]
fn nothing_is_served_that_a_strict_parser_refuses() {
    const FAULTS: [&str; 24] = [
        "\r",
        "\n",
        "\r\n",
        "\r\n\r\n",
        " ",
        "\t",
        "\0",
        ":",
        ",",
        "+",
        "-",
        "0",
        "9",
        "x",
        "\u{e9}",
        "\u{1b}",
        "/",
        "HTTP/1.1",
        "Host: localhost\r\n",
        "Content-Length: 2\r\n",
        "Transfer-Encoding: chunked\r\n",
        " chunked",
        "\u{b}",
        "\r\n ",
    ];
    let running = start();
    let address = running.dashboard.local_addr();
    let (mut served, mut refused) = (0, 0);
    // A fixed seed: what fails once fails again.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit as u64) as usize
    };
    for _ in 0..600 {
        let mut wire =
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc"
                .to_vec();
        for _ in 0..=below(2) {
            let at = below(wire.len());
            let end = if below(2) == 0 { at } else { (at + 1 + below(3)).min(wire.len()) };
            wire.splice(at..end, FAULTS[below(FAULTS.len())].bytes());
        }
        let mut socket = connect(address);
        socket.write_all(&wire).unwrap();
        // Half a request ends here, and not by its deadline.
        let _ = socket.shutdown(Shutdown::Write);
        let answer = read_to_end(socket);
        let shown = wire.escape_ascii();
        assert!(!answer.contains("\nHTTP/1.1 "), "{shown}: {answer}");
        if status(&answer) == "200" {
            assert!(is_strict(&wire), "served: {shown}");
            served += 1;
        } else {
            refused += 1;
        }
    }
    assert!(served > 10 && refused > 100, "{served} served, {refused} refused");
    assert_serves("faults", address);
}
