//! The same server over TLS: requests, downloads of many records, event streams, and clients that break the rules.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use playcounts::http::{Server, ServerTls, TlsFiles};

use super::{Routes, check_takes_less, config, connect, start};
use crate::certs::{Authority, Issued};
use crate::timing::DEADLINE;
use crate::tls_client::{self, TlsStream};

struct Secure {
    server: Server,
    at: SocketAddr,
    routes: Arc<Routes>,
    tls: Arc<ServerTls>,
    authority: Authority,
}

fn files(issued: &Issued) -> TlsFiles {
    TlsFiles { cert: issued.cert.clone(), key: issued.key.clone() }
}

fn secure(handshake_wait: Duration) -> Secure {
    let authority = Authority::new();
    let tls = Arc::new(ServerTls::load(files(&authority.issue_local())).unwrap());
    let mut config = config();
    config.tls = Some(Arc::clone(&tls));
    config.limits.handshake_wait = handshake_wait;
    let (server, at, routes) = start(config);
    Secure { server, at, routes, tls, authority }
}

impl Secure {
    fn ca(&self) -> PathBuf {
        self.authority.ca_file()
    }

    fn ask(&self, path: &str) -> String {
        let wire = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        tls_client::ask(self.at, "127.0.0.1", &self.ca(), wire.as_bytes())
    }

    /// A stream of events, its head read.
    fn events(&self) -> BufReader<TlsStream> {
        let mut stream = tls_client::connect(self.at, "127.0.0.1", &self.ca());
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        assert_eq!(line(&mut stream), "HTTP/1.1 200 OK");
        stream
    }
}

fn line(stream: &mut BufReader<TlsStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Reads on until a line is `wanted`.
#[track_caller]
fn find(stream: &mut BufReader<TlsStream>, wanted: &str) {
    for _ in 0..10_000 {
        if line(stream) == wanted {
            return;
        }
    }
    panic!("{wanted:?} never came");
}

#[test]
fn requests_are_answered_and_an_answer_of_many_records_comes_whole() {
    let secure = secure(DEADLINE);
    let answer = secure.ask("/ok?a=1");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("GET /ok [(\"a\", \"1\")] 0 127.0.0.1"), "{answer}");
    let large = secure.ask("/large");
    assert_eq!(large.split_once("\r\n\r\n").unwrap().1.len(), 3_000_000);
    // A body that comes in many records.
    let body = "x".repeat(200_000);
    let wire = format!(
        "POST /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n{body}"
    );
    let answer = tls_client::ask(secure.at, "127.0.0.1", &secure.ca(), wire.as_bytes());
    assert!(answer.contains("POST /p [] 200000"), "{answer}");
    // What is refused is said over TLS, too.
    let refused = tls_client::ask(secure.at, "127.0.0.1", &secure.ca(), b"nonsense\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    secure.server.shutdown();
}

#[test]
fn a_stream_outlives_a_new_certificate_and_new_connections_see_it() {
    let secure = secure(DEADLINE);
    let shown = || tls_client::shown(secure.at, "127.0.0.1", &secure.ca());
    let mut stream = secure.events();
    secure.routes.events.publish("a", "1");
    find(&mut stream, "data: 1");
    let first = shown().unwrap();
    // The same files with other contents.
    secure.authority.issue_local();
    secure.tls.reload().unwrap();
    let second = shown().unwrap();
    assert_ne!(first, second);
    // What cannot be used is not taken.
    let cert = secure.authority.issue_local().cert;
    std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    let error = secure.tls.reload().unwrap_err();
    assert!(error.contains(":1: CERTIFICATE begins here and has no end"), "{error}");
    assert_eq!(shown().unwrap(), second);
    secure.routes.events.publish("a", "2");
    find(&mut stream, "data: 2");
    secure.server.shutdown();
}

/// Each is told in another way, and none holds up the others.
#[test]
fn who_speaks_no_tls_is_answered_in_clear() {
    let secure = secure(DEADLINE);
    for (wire, said) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..], true),
        (b"POST /api/counts HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", true),
        (b"  V2", true),
        // A handshake by its first byte, and nothing else of it.
        (b"\x16\x03\x01\xff\xff\xff\xff\xff", false),
        (b"\x16\x03\x01\x00\x05hello", false),
    ] {
        let mut socket = connect(secure.at);
        socket.write_all(wire).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset says it as well as an end.
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(answer.contains("this port speaks HTTPS"), said, "{answer}");
        assert!(secure.ask("/ok").starts_with("HTTP/1.1 200 "));
    }
    secure.server.shutdown();
}

#[test]
fn a_handshake_that_drips_ends_by_the_deadline() {
    let wait = Duration::from_millis(400);
    let secure = secure(wait);
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        check_takes_less(Duration::from_secs(3), || {
            let began = Instant::now();
            let mut socket = connect(secure.at);
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            socket.write_all(beginning).unwrap();
            // A byte now and then, which would put off a deadline for each of them.
            loop {
                assert!(secure.ask("/ok").starts_with("HTTP/1.1 200 "));
                let dripped = if beginning.is_empty() { Ok(0) } else { socket.write(b"\0") };
                match socket.read(&mut [0; 64]) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    // An alert, the end, or a reset.
                    _ => break,
                }
                if dripped.is_err() {
                    break;
                }
            }
            assert!(began.elapsed() >= wait, "it had the time that it may take");
            began.elapsed()
        });
    }
    secure.server.shutdown();
}

/// Nobody reads: what is encrypted and not sent does not grow, and the others go on.
#[test]
fn a_page_that_never_reads_is_dropped_and_holds_up_nobody() {
    let secure = secure(DEADLINE);
    let events = &secure.routes.events;
    let idle = secure.events();
    let mut busy = secure.events();
    let text = "x".repeat(30_000);
    let began = Instant::now();
    let mut round = 0;
    while events.clients() == 2 {
        round += 1;
        events.publish("a", &format!("{text}{round}"));
        find(&mut busy, &format!("data: {text}{round}"));
        assert!(began.elapsed() < 3 * DEADLINE, "the one that never reads is still there");
        // Time is what is waited for: it may take nothing for 10 s.
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(idle);
    events.publish("a", "last");
    find(&mut busy, "data: last");
    secure.server.shutdown();
}
