//! What a stranger may send to the dashboard, over raw sockets, and the status that each attempt gets
//! (RELIABILITY.md 45 to 49 and 52; ECOSYSTEM.md 1.1). `docs/attacks.md` is this table; `UPDATE=1` writes it anew.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::dashboard_support::{DEADLINE, Running, config, update, video};

/// One attempt: what it is, its bytes, and the status it must get. `{host}` becomes the dashboard's address.
type Attempt = (&'static str, &'static [u8], &'static str);

const TOKEN: &str = "the-secret";

/// What a dashboard without a token is sent.
const ATTEMPTS: &[(&str, &[Attempt])] = &[
    (
        "Request smuggling",
        &[
            ("Content-Length and Transfer-Encoding", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
            ("Transfer-Encoding: xchunked", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"),
            ("chunked alone, without end", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", "400"),
            ("two Content-Lengths", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n{}  ", "400"),
            ("Content-Length with a sign", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: +2\r\n\r\n{}", "400"),
            ("Content-Length in hexadecimal", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x2\r\n\r\n{}", "400"),
            ("bare line feeds", b"GET /api/counts HTTP/1.1\nHost: {host}\n\n", "400"),
            ("a folded header", b"GET / HTTP/1.1\r\nHost: {host}\r\nX-A: b\r\n  c\r\n\r\n", "400"),
            ("a space before the colon", b"GET / HTTP/1.1\r\nHost : {host}\r\n\r\n", "400"),
            ("two Hosts", b"GET / HTTP/1.1\r\nHost: {host}\r\nHost: localhost\r\n\r\n", "400"),
            ("no Host", b"GET / HTTP/1.1\r\n\r\n", "400"),
            ("a second request behind the first", b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\nDELETE /api/counts HTTP/1.1\r\nHost: {host}\r\n\r\n", "200"),
        ],
    ),
    (
        "Bodies",
        &[
            ("a Content-Length that tiny_http would allocate", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 70368744177664\r\n\r\n", "413"),
            ("a body of 10 GB", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10000000000\r\n\r\n{", "413"),
            ("a gzip bomb", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00", "400"),
            ("half a body", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 400\r\n\r\n{\"processor\":", "400"),
            ("JSON nested too deeply", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 160\r\n\r\n{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "400"),
        ],
    ),
    (
        "Paths",
        &[
            ("/../", b"GET /../etc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("%2e%2e%2f", b"GET /%2e%2e%2fetc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("double encoding", b"GET /%252e%252e/etc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("%00", b"GET /app.js%00.html HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("a backslash", b"GET /..\\etc\\passwd HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("an absolute URI", b"GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("a file of the source", b"GET /store.rs HTTP/1.1\r\nHost: {host}\r\n\r\n", "404"),
            ("a file beside the database", b"GET /dashboard.sqlite3 HTTP/1.1\r\nHost: {host}\r\n\r\n", "404"),
            ("another export", b"GET /api/export/..%2fcounts.csv HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
        ],
    ),
    (
        "Text that would be run",
        &[
            ("markup as a video id", b"GET /api/counts/%3Cimg%20src=x%20onerror=alert(1)%3E HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("SQL as a search", b"GET /api/counts?search=1'%20OR%20'1'='1 HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("SQL as a sort", b"GET /api/counts?sort=plays;DROP%20TABLE%20counts HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("a formula as an export's video", b"GET /api/export/series.csv?video==1+1 HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("a line break for a header", b"GET /api/counts?search=a%0d%0aSet-Cookie:%20b HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
            ("terminal escapes", b"GET /%1b[31m HTTP/1.1\r\nHost: {host}\r\n\r\n", "400"),
        ],
    ),
    (
        "Other protocols",
        &[
            ("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n", "200"),
            ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
            ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: {host}\r\n\r\n", "400"),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
            ("NSQ", b"  V2\x00\x00\x00\x00", "400"),
            ("a method of no standard", b"BREW / HTTP/1.1\r\nHost: {host}\r\n\r\n", "405"),
        ],
    ),
    (
        "Pages of another site, in the browser of somebody on this machine",
        &[
            ("DNS rebinding: read the counts", b"GET /api/counts HTTP/1.1\r\nHost: evil.example:8000\r\n\r\n", "421"),
            ("DNS rebinding: the event stream", b"GET /events HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
            ("DNS rebinding: an export", b"GET /api/export/counts.csv HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
            ("DNS rebinding: write", b"DELETE /api/counts HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n", "421"),
            ("CSRF: write from another origin", b"DELETE /api/counts HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\n\r\n", "403"),
            ("CSRF: from a sandboxed frame", b"DELETE /api/counts HTTP/1.1\r\nHost: {host}\r\nOrigin: null\r\n\r\n", "403"),
            ("CSRF: a form, as text/plain", b"POST /api/counts HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", "403"),
            ("CORS preflight", b"OPTIONS /api/counts HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: DELETE\r\n\r\n", "405"),
            ("touch the queue without any token set", b"POST /api/queue HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n{}", "403"),
        ],
    ),
];

/// What a dashboard with a token is sent.
const WITH_TOKEN: &[Attempt] = &[
    ("DNS rebinding: read the counts", b"GET /api/counts HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
    ("write without a token", b"DELETE /api/counts HTTP/1.1\r\nHost: {host}\r\n\r\n", "401"),
    ("write with the start of the token", b"DELETE /api/counts HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer the-secre\r\n\r\n", "401"),
    ("write with another scheme", b"DELETE /api/counts HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic dGhlLXNlY3JldA==\r\n\r\n", "401"),
    ("touch the queue without the token", b"POST /api/queue HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n{}", "401"),
    ("have it call another server", b"POST /api/queue HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer the-secret\r\nContent-Length: 92\r\n\r\n{\"action\":\"empty\",\"nsqd\":\"169.254.169.254:80\",\"topic\":\"plays\",\"channel\":null,\"confirm\":\"plays\"}", "400"),
];

fn send(running: &Running, bytes: &[u8]) -> String {
    let address = running.dashboard.local_addr();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let host = address.to_string();
    let marked: Vec<u8> = match bytes.windows(6).position(|six| six == b"{host}") {
        // Bytes, not text: some attempts are none.
        Some(_) => {
            let mut out = Vec::new();
            let mut rest = bytes;
            while let Some(at) = rest.windows(6).position(|six| six == b"{host}") {
                out.extend(&rest[..at]);
                out.extend(host.as_bytes());
                rest = &rest[at + 6..];
            }
            out.extend(rest);
            out
        }
        None => bytes.to_vec(),
    };
    // The dashboard may have answered, and closed, before all is sent.
    let _ = socket.write_all(&marked);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn check(running: &Running, (name, bytes, want): &Attempt) -> String {
    let answer = send(running, bytes);
    let status = answer.split(' ').nth(1).unwrap_or("no answer").to_owned();
    assert_eq!(status, *want, "{name}: {answer}");
    let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert!(!answer.contains("\nHTTP/1.1 "), "{name}: one request, one answer: {answer}");
    for line in ["x-content-type-options: nosniff", "connection: close"] {
        assert!(head.contains(line), "{name}: no {line} in {head}");
    }
    for header in ["access-control-allow-origin", "set-cookie"] {
        assert!(!head.contains(header), "{name}: {header} in {head}");
    }
    status
}

#[test]
fn every_attempt_gets_its_status_and_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut open = config(&data);
    open.clean = true;
    let open = Running { dashboard: playcounts::dashboard::Dashboard::start(open).unwrap(), data };
    open.tell(1, &[(video(1), 7)]);
    let mut table = String::from(
        "# Attacks tried\n\nWhat `tests/it/attacks.rs` sends to a running dashboard over raw sockets, and the status that each attempt gets. \
         After all of them the\ncounts are what they were. Rewritten by `UPDATE=1 cargo test --test it attacks`.\n",
    );
    for (title, attempts) in ATTEMPTS {
        write!(table, "\n## {title}\n\n| attempt | status |\n|---|---|\n").unwrap();
        for attempt in *attempts {
            let status = check(&open, attempt);
            writeln!(table, "| {} | {status} |", attempt.0).unwrap();
        }
    }
    assert_eq!(open.dashboard.counts(), [(video(1), 7)]);

    let data = tempfile::tempdir().unwrap();
    let mut guarded = config(&data);
    guarded.write_token = Some(TOKEN.to_owned());
    let guarded =
        Running { dashboard: playcounts::dashboard::Dashboard::start(guarded).unwrap(), data };
    let body = update(1, &[(video(1), 7)]).to_string();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(guarded.ask("POST", "/api/counts", &token, body.as_bytes()).status, 200);
    write!(table, "\n## With a write token\n\n| attempt | status |\n|---|---|\n").unwrap();
    for attempt in WITH_TOKEN {
        let status = check(&guarded, attempt);
        writeln!(table, "| {} | {status} |", attempt.0).unwrap();
    }
    assert_eq!(guarded.dashboard.counts(), [(video(1), 7)]);

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/attacks.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), table, "UPDATE=1 writes it anew");
}

/// Every page of ours, and every refusal, says what a browser may do with it.
#[test]
fn every_answer_keeps_a_browser_from_guessing_and_framing() {
    let running = crate::dashboard_support::start();
    running.tell(1, &[(video(1), 7)]);
    for path in ["/", "/app.js", "/style.css", "/api/openapi.json"] {
        let head = running.get(path).head.to_ascii_lowercase();
        for wanted in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
            "frame-ancestors 'none'",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.contains(wanted), "{path}: no {wanted} in {head}");
        }
        assert!(!head.contains("unsafe-"), "{path}: {head}");
    }
    for path in [
        "/nothing",
        "/api/counts",
        "/api/counts/x",
        "/metrics",
        "/api/export/counts.csv",
        "/api/top",
    ] {
        let head = running.get(path).head.to_ascii_lowercase();
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
    }
}
