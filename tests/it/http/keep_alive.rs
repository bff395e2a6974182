//! Connections that are kept: for whom, and for how long; and bodies in chunks, behind which the next request begins.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{ask, at_a_request, config, connect, read_to_end, start};
use crate::timing::{MINUTE, check_takes_less};

/// Reads one answer, and no more: its head and body.
#[track_caller]
fn read_one(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

const POST: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

/// As Node sends it, where nobody said how long it becomes.
const CHUNKED: &str = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_connection_takes_one_request_after_the_other() {
    let (_server, address, _) = start(config());
    let get = b"GET /get HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut socket = connect(address);
    for wire in [POST, &get[..], POST] {
        socket.write_all(wire).unwrap();
        let answer = read_one(&mut socket);
        assert!(answer.contains("\r\nConnection: keep-alive\r\n"), "{answer}");
        let said = if wire == &get[..] { "GET /get [] 0" } else { "POST /a [] 3" };
        assert!(answer.ends_with(&format!("{said} 127.0.0.1")), "{answer}");
    }
    // Several at once are answered in order, up to the one that says that it is the last.
    let last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n";
    socket.write_all(&[POST, POST, get, last, get].concat()).unwrap();
    for _ in 0..2 {
        assert!(read_one(&mut socket).ends_with("POST /a [] 3 127.0.0.1"));
    }
    assert!(read_one(&mut socket).ends_with("GET /get [] 0 127.0.0.1"));
    let last = read_to_end(socket);
    assert!(last.contains("\r\nConnection: close\r\n") && last.contains("GET /last"), "{last}");
    assert!(!last.contains("GET /get"), "{last}");
}

#[test]
fn a_body_in_chunks_ends_where_the_next_request_begins() {
    let (_server, address, _) = start(config());
    let mut socket = connect(address);
    let chunked = format!("{CHUNKED}2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    // In one piece with others, and byte by byte.
    socket.write_all(&[POST, chunked.as_bytes(), POST].concat()).unwrap();
    for _ in 0..3 {
        assert!(read_one(&mut socket).ends_with("POST /a [] 3 127.0.0.1"));
    }
    for byte in chunked.as_bytes() {
        socket.write_all(&[*byte]).unwrap();
    }
    assert!(read_one(&mut socket).ends_with("POST /a [] 3 127.0.0.1"));
    for (body, status) in [
        ("3\r\nabcd\r\n0\r\n\r\n", 400),
        ("3;name=value\r\nabc\r\n0\r\n\r\n", 400),
        ("0\r\nX-Trailer: a\r\n\r\n", 400),
        ("100001\r\n", 413),
    ] {
        let answer = ask(address, format!("{CHUNKED}{body}").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{body:?}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

/// Small ones take no more room than they are long, though nobody knows it when they begin.
#[test]
fn many_bodies_in_chunks_come_at_one_time() {
    let (_server, address, _) = start(config());
    let mut sockets: Vec<_> = (0..200).map(|_| connect(address)).collect();
    sockets.iter_mut().for_each(|socket| {
        socket.write_all(format!("{CHUNKED}2\r\nab\r\n").as_bytes()).unwrap();
    });
    for mut socket in sockets {
        socket.write_all(b"1\r\nc\r\n0\r\n\r\n").unwrap();
        assert!(read_one(&mut socket).ends_with("POST /a [] 3 127.0.0.1"));
    }
}

#[test]
fn a_connection_ends_where_either_side_wants_it_or_framing_is_broken() {
    let (_server, address, _) = start(config());
    let cases: [(&[u8], u16); 4] = [
        (b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"POST /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400),
    ];
    for (wire, status) in cases {
        let answer = ask(address, wire);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn who_waits_makes_way_and_who_is_at_a_request_does_not() {
    let mut config = config();
    config.max_connections = 3;
    config.limits.next_wait = MINUTE;
    config.limits.head_wait = MINUTE;
    let (_server, address, _) = start(config);
    let mut busy = at_a_request(address);
    let mut kept = connect(address);
    kept.write_all(POST).unwrap();
    read_one(&mut kept);
    let unused = connect(address);
    let mut more = Vec::new();
    // Each takes the place of one that waits: first the one that was kept, then those behind it.
    for _ in 0..10 {
        let mut socket = connect(address);
        socket.write_all(POST).unwrap();
        assert!(read_one(&mut socket).starts_with("HTTP/1.1 200 "));
        more.push(socket);
    }
    assert_eq!(read_to_end(kept) + &read_to_end(unused), "");
    busy.write_all(b"abc").unwrap();
    assert!(read_one(&mut busy).ends_with("POST /b [] 3 127.0.0.1"));
}

/// One that is kept for a minute does not hold up the end of the server; how long that took.
fn stop_with_a_kept_connection() -> Duration {
    let mut config = config();
    config.limits.next_wait = MINUTE;
    let (server, address, _) = start(config);
    let mut socket = connect(address);
    socket.write_all(POST).unwrap();
    read_one(&mut socket);
    let began = Instant::now();
    server.shutdown();
    began.elapsed()
}

#[test]
fn a_kept_connection_that_is_not_used_ends() {
    let mut config = config();
    config.limits.next_wait = Duration::from_millis(100);
    let (_server, address, _) = start(config);
    let mut socket = connect(address);
    socket.write_all(POST).unwrap();
    read_one(&mut socket);
    assert_eq!(read_to_end(socket), "");
    check_takes_less(Duration::from_secs(3), stop_with_a_kept_connection);
}
