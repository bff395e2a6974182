//! Attacks over raw sockets at a dashboard as it is served: slow clients, request smuggling, bodies, paths, markup, other
//! protocols, other sites, tokens. `docs/attacks.md` is written from the tables in `list`: `UPDATE=1` rewrites it.
//!
//! Where else the rest is: a dashboard that hangs in `pipeline`, one that is killed in `dashboard`, the server alone in
//! `http`, real browsers in `foreign_pages`, event streams in `streams`.

mod list;
mod permission;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use playcounts::dashboard::Dashboard;
use serde_json::Value;

use self::list::{GROUPS, framed, get, held, quick};
use crate::dashboard_support::{Running, config, start, video};
use crate::streams::ChildDashboard;
use crate::timing::DEADLINE;

/// Where the list is kept.
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/attacks.md");

const SECRET: &str = "correct-horse";

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
         from `default-src 'none'`\nwith `frame-ancestors 'none'`, and no leave for other origins. Written by\n`UPDATE=1 cargo test --test it attacks`; the test compares.\n",
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
| 400 idle connections, of which 256 are kept | 200 to the next: the one that has waited the longest makes way | `attacks::idle_connections_past_the_cap` |
| 12 connections at once, 20 times | 200 to each | `attacks::bursts_leave_nobody_unanswered` |
| 300 connections reset before or within a request | 200 to the next | `attacks::connections_that_are_reset_harm_nothing` |
| no descriptor left | 200 once there are some | `attacks::without_descriptors_it_goes_on_later` |
| 600 requests with a random fault | never served where a strict parser refuses | `attacks::nothing_is_served_that_a_strict_parser_refuses` |
| the database locked by another process | no update waits for it, reads go on | `attacks::a_locked_database_keeps_no_update_waiting` |
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
            &ask(
                address,
                format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            ),
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
    // Those that have waited the longest made way.
    for _ in 0..20 {
        let answer = ask(address, get("/healthz", "").as_bytes());
        assert_eq!(status(&answer), "200", "{answer}");
    }
    for made_way in idle.into_iter().take(400 - 256) {
        assert_eq!(read_to_end(made_way), "");
    }
}

#[test]
fn bursts_leave_nobody_unanswered() {
    let running = start();
    let address = running.dashboard.local_addr();
    for round in 0..20 {
        let mut sockets: Vec<_> = (0..12).map(|_| connect(address)).collect();
        for socket in &mut sockets {
            socket.write_all(get("/healthz", "").as_bytes()).unwrap();
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

/// Who locks the tables keeps no update from being stored, and none is lost.
#[test]
fn a_locked_database_keeps_no_update_waiting() {
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let other = rusqlite::Connection::open(running.data.path().join("dashboard.sqlite3")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    running.tell(2, &[(video(1), 4)]);
    assert_eq!(running.get("/api/counts").json()["total_plays"], 4);
    let seen = playcounts::dashboard::read_counts(running.data.path()).unwrap().unwrap();
    assert_eq!(seen, [(video(1), 4)]);
    other.execute_batch("ROLLBACK").unwrap();
    running.tell(3, &[(video(1), 5)]);
    assert_eq!(running.get("/api/counts").json()["total_plays"], 5);
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

/// What is put into a request at a random place.
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

#[test]
fn nothing_is_served_that_a_strict_parser_refuses() {
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
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc"
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
