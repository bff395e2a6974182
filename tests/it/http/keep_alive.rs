//! Connections that are kept: for whom, and for how long.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{ask, config, connect, read_to_end, start};
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

const POST: &[u8] =
    b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc";

#[test]
fn who_posts_may_keep_the_connection() {
    let (_server, address, _) = start(config());
    let mut socket = connect(address);
    for _ in 0..3 {
        socket.write_all(POST).unwrap();
        let answer = read_one(&mut socket);
        assert!(answer.contains("\r\nConnection: keep-alive\r\n"), "{answer}");
        assert!(answer.ends_with("POST /a [] 3 127.0.0.1"), "{answer}");
    }
    // Several at once are answered in order, and what is no POST is the last.
    let wire =
        [POST, POST, b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"].concat();
    socket.write_all(&wire).unwrap();
    assert!(read_one(&mut socket).ends_with("POST /a [] 3 127.0.0.1"));
    assert!(read_one(&mut socket).ends_with("POST /a [] 3 127.0.0.1"));
    let last = read_to_end(socket);
    assert!(last.contains("\r\nConnection: close\r\n") && last.contains("GET /last"), "{last}");
}

/// As Node sends it, where nobody said how long it becomes.
const CHUNKED: &str =
    "POST /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";

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

#[test]
fn a_connection_is_kept_for_nobody_else() {
    let (_server, address, _) = start(config());
    let cases: [&[u8]; 4] = [
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: x\r\n\r\n",
    ];
    for wire in cases {
        let answer = ask(address, wire);
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
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
