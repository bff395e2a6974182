//! The HTTP server against raw sockets: framing, limits, deadlines, bursts, stopping. Event streams, connections that
//! are kept, and TLS are in the files beside.

mod events;
mod keep_alive;
mod tls;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::thread::OwnedThread;
use playcounts::http::{EventStream, Handler, Request, Response, Server, ServerConfig};

use crate::timing::{DEADLINE, MINUTE, check_takes_less};

struct Routes {
    events: EventStream,
}

impl Handler for Routes {
    fn handle(&self, request: &Request) -> Response {
        let peer = request.peer.map_or_else(String::new, |peer| peer.ip().to_string());
        match request.path.as_str() {
            "/large" => Response::text(200, "x".repeat(3_000_000)),
            path => Response::text(
                200,
                format!(
                    "{} {path} {:?} {} {peer}",
                    request.method,
                    request.query,
                    request.body.len()
                ),
            ),
        }
    }

    fn stream(&self, request: &Request) -> Option<&EventStream> {
        (request.path == "/events").then_some(&self.events)
    }
}

fn config() -> ServerConfig {
    let mut config = ServerConfig::new("127.0.0.1:0", "test");
    config.workers = 2;
    config
}

fn start(config: ServerConfig) -> (Server, SocketAddr, Arc<Routes>) {
    let routes = Arc::new(Routes { events: EventStream::start("test-events", 1_100).unwrap() });
    let server = Server::start(config, Arc::clone(&routes) as Arc<dyn Handler>).unwrap();
    let address = server.local_addr();
    (server, address, routes)
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends `wire`, leaves the sending side open, and reads the answer to its end; a reset fails the test.
#[track_caller]
fn ask(address: SocketAddr, wire: &[u8]) -> String {
    let mut socket = connect(address);
    socket.write_all(wire).unwrap();
    read_to_end(socket)
}

#[track_caller]
fn read_to_end(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// A connection from which the server waits for the three bytes of a body.
#[track_caller]
fn at_a_request(address: SocketAddr) -> TcpStream {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut socket = connect(address);
    socket
        .write_all(
            b"POST /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        )
        .unwrap();
    let mut interim = [0; CONTINUE.len()];
    socket.read_exact(&mut interim).unwrap();
    assert_eq!(interim, CONTINUE);
    socket
}

#[track_caller]
fn assert_serves(address: SocketAddr) {
    let answer = ask(address, b"GET /ok?a=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.ends_with(r#"GET /ok [("a", "1")] 0 127.0.0.1"#), "{answer}");
}

#[test]
fn each_broken_request_gets_its_answer_and_the_next_is_served() {
    let mut config = config();
    config.limits.head_wait = Duration::from_millis(300);
    config.limits.body_grace = Duration::from_millis(300);
    let (server, address, _routes) = start(config);
    let host = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    let cases: Vec<(u16, String)> = vec![
        (413, format!("POST / {host}Content-Length: 70368744177664\r\n\r\n")),
        (
            413,
            format!("POST / {host}Content-Length: 70368744177664\r\nExpect: 100-continue\r\n\r\n"),
        ),
        (413, format!("POST / {host}Content-Length: 99999999999999999999999999\r\n\r\n")),
        (413, format!("POST / {host}Content-Length: 1048577\r\n\r\n{}", "x".repeat(1_048_577))),
        (400, format!("POST / {host}Content-Length: +3\r\n\r\nabc")),
        (400, format!("POST / {host}Content-Length: -3\r\n\r\nabc")),
        (400, format!("POST / {host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")),
        (
            400,
            format!(
                "POST / {host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (400, format!("POST / {host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        (400, format!("POST / {host}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n")),
        (400, format!("GET / {host}X-A : b\r\n\r\n")),
        (400, format!("GET / {host}X-A: b\r\n c\r\n\r\n")),
        (400, "GET / HTTP/1.1\nHost: a\n\n".to_owned()),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, format!("GET /../etc/passwd {host}\r\n")),
        (400, format!("GET /%2e%2e%2fetc/passwd {host}\r\n")),
        (400, format!("GET /%252e%252e/ {host}\r\n")),
        (400, format!("GET /%00 {host}\r\n")),
        (400, format!("GET /a\\b {host}\r\n")),
        (400, format!("GET http://a/ {host}\r\n")),
        (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (400, "  V2".to_owned()),
        (400, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned()),
        (431, format!("GET / {host}X-A: {}\r\n\r\n", "x".repeat(20_000))),
        (417, format!("GET / {host}Expect: something\r\n\r\n")),
        // Half a head, half a body: the deadline answers.
        (408, "GET / HTTP/1.1\r\nHo".to_owned()),
        (408, format!("POST / {host}Content-Length: 10\r\n\r\nabc")),
    ];
    for (status, wire) in cases {
        let shown: String = wire.chars().take(90).collect();
        // None is waited for longer than the limits above; without those it would be 5 s.
        check_takes_less(Duration::from_secs(5), || {
            let began = Instant::now();
            let answer = ask(address, wire.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{shown:?}: {answer}");
            assert!(
                answer.ends_with('}') && answer.contains("{\"error\":\""),
                "{shown:?}: {answer}"
            );
            began.elapsed()
        });
        assert_serves(address);
    }
    server.shutdown();
}

#[test]
fn a_body_that_trickles_is_cut_off_although_it_moves() {
    let mut config = config();
    config.limits.body_grace = Duration::from_millis(300);
    let (server, address, _routes) = start(config);
    let mut socket = connect(address);
    socket
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n",
        )
        .unwrap();
    let (source, never) = nsq_protocol::thread::stop_pair();
    let mut writer = socket.try_clone().unwrap();
    let trickle = OwnedThread::spawn("trickle", move || {
        while writer.write_all(b"x").is_ok() && !never.wait(Duration::from_millis(20)) {}
    })
    .unwrap();
    let mut answer = [0; 13];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408 ");
    drop(source);
    trickle.join();
    server.shutdown();
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let mut config = config();
    config.limits.head_wait = Duration::from_millis(200);
    let (server, address, _routes) = start(config);
    assert_eq!(read_to_end(connect(address)), "");
    server.shutdown();
}

#[test]
fn half_a_request_and_a_close_is_refused() {
    let (server, address, _routes) = start(config());
    for wire in [
        "GET / HTTP/1.1\r\nHost",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabc",
    ] {
        let mut socket = connect(address);
        socket.write_all(wire.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let answer = read_to_end(socket);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    server.shutdown();
}

#[test]
fn good_requests_of_every_shape_are_served() {
    let (server, address, _routes) = start(config());
    assert_serves(address);
    // Byte by byte.
    let mut socket = connect(address);
    for byte in
        b"POST /a%20b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
    {
        socket.write_all(&[*byte]).unwrap();
    }
    assert!(read_to_end(socket).ends_with("POST /a b [] 3 127.0.0.1"));
    // HTTP/1.0 without a Host.
    assert!(ask(address, b"GET /x HTTP/1.0\r\n\r\n").ends_with("GET /x [] 0 127.0.0.1"));
    // HEAD has the length and no body.
    let head = ask(address, b"HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(head.contains("Content-Length: 22\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    // Somebody else's address is not believed.
    let forged = ask(
        address,
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Front-Peer: 9.9.9.9:1\r\n\r\n",
    );
    assert!(forged.ends_with("127.0.0.1"), "{forged}");
    // An answer far over tiny_http's threshold for chunks arrives whole, with a length.
    let large = ask(address, b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(large.contains("Content-Length: 3000000\r\n") && large.len() > 3_000_000);
    // The largest body, and an Expect that is honoured before it.
    let mut socket = connect(address);
    socket
        .write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 1048576\r\n\r\n")
        .unwrap();
    let mut interim = [0; 25];
    socket.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&vec![b'x'; 1_048_576]).unwrap();
    assert!(read_to_end(socket).ends_with("POST /x [] 1048576 127.0.0.1"));
    server.shutdown();
}

#[test]
fn what_comes_behind_the_last_request_is_not_answered_and_harms_nothing() {
    let (server, address, _routes) = start(config());
    let answer = ask(
        address,
        b"POST /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nabGET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(answer.ends_with("POST /one [] 2 127.0.0.1"), "{answer}");
    server.shutdown();
}

#[test]
fn bursts_of_six_leave_nobody_unanswered() {
    let (server, address, _routes) = start(config());
    for round in 0..20 {
        let sockets: Vec<_> = (0..6).map(|_| connect(address)).collect();
        for mut socket in &sockets {
            socket.write_all(b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        }
        for socket in sockets {
            assert!(read_to_end(socket).starts_with("HTTP/1.1 200 "), "round {round}");
        }
    }
    server.shutdown();
}

/// The connections would be kept for a minute; a stop gives the requests that are being answered 3 s.
#[test]
fn overlong_lengths_and_idle_connections_cost_no_worker() {
    check_takes_less(Duration::from_secs(3), stop_with_overlong_lengths_and_idle_connections);
}

fn stop_with_overlong_lengths_and_idle_connections() -> Duration {
    let mut config = config();
    config.limits.head_wait = MINUTE;
    config.limits.body_grace = MINUTE;
    let (server, address, _routes) = start(config);
    let idle: Vec<_> = (0..50).map(|_| connect(address)).collect();
    // Ten times the number of workers, all left open with a body that never comes.
    let held: Vec<_> = (0..20)
        .map(|_| {
            let mut socket = connect(address);
            socket
                .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\nabc")
                .unwrap();
            socket
        })
        .collect();
    let began = Instant::now();
    assert_serves(address);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    // Stopping waits for none of them.
    let began = Instant::now();
    server.shutdown();
    let took = began.elapsed();
    drop((idle, held));
    took
}

#[test]
fn past_the_connection_cap_the_answer_is_503() {
    let mut config = config();
    config.max_connections = 4;
    let (server, address, _routes) = start(config);
    // Each is at a request.
    let busy: Vec<_> = (0..4).map(|_| at_a_request(address)).collect();
    let refused = ask(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: 1"),
        "{refused}"
    );
    drop(busy);
    let deadline = Instant::now() + DEADLINE;
    // The threads of the closed connections end on their own.
    while !ask(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .starts_with("HTTP/1.1 200 ")
    {
        assert!(Instant::now() < deadline);
    }
    server.shutdown();
}

#[test]
fn a_client_that_reads_slowly_holds_no_worker() {
    let (server, address, _routes) = start(config());
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut socket = connect(address);
            socket
                .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .unwrap();
            socket
        })
        .collect();
    for _ in 0..5 {
        assert_serves(address);
    }
    drop(slow);
    server.shutdown();
}

#[test]
fn a_taken_address_says_what_to_do() {
    let (server, address, routes) = start(config());
    let config = ServerConfig::new(address.to_string(), "test");
    let error = Server::start(config, routes).err().unwrap().to_string();
    assert_eq!(
        error,
        format!("{address} is in use; stop that process or give --http-address another port")
    );
    assert!(Server::start(ServerConfig::new("nonsense", "test"), start_routes()).is_err());
    server.shutdown();
}

fn start_routes() -> Arc<Routes> {
    Arc::new(Routes { events: EventStream::start("test-events", 1).unwrap() })
}

/// Reads from an event stream until `wanted` has been seen.
#[track_caller]
fn read_until(socket: &mut TcpStream, seen: &mut String, wanted: &str) {
    let mut chunk = [0; 8192];
    while !seen.contains(wanted) {
        let count = socket.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "the stream ended after {seen:?}");
        seen.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
}

fn subscribe(address: SocketAddr, extra: &str) -> TcpStream {
    let mut socket = connect(address);
    socket
        .write_all(
            format!("GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{extra}\r\n")
                .as_bytes(),
        )
        .unwrap();
    socket
}

#[test]
fn stopping_under_load_is_bounded_and_leaves_no_thread() {
    let (server, address, routes) = start(config());
    let callers: Vec<_> = (0..8)
        .map(|_| {
            OwnedThread::spawn("caller", move || {
                let mut served = 0;
                while let Ok(mut socket) = TcpStream::connect(address) {
                    let mut answer = String::new();
                    let wrote = socket
                        .write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                    if wrote.and_then(|()| socket.read_to_string(&mut answer).map(|_| ())).is_err()
                    {
                        break;
                    }
                    served += usize::from(answer.starts_with("HTTP/1.1 200 "));
                    if served == 100_000 {
                        break;
                    }
                }
                served
            })
            .unwrap()
        })
        .collect();
    let mut stream = subscribe(address, "");
    read_until(&mut stream, &mut String::new(), "retry: 2000\n\n");
    for _ in 0..50 {
        assert_serves(address);
    }
    let began = Instant::now();
    server.shutdown();
    routes.events.shutdown();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    for caller in callers {
        assert!(caller.join() > 0);
    }
    // A second server may take the same port at once.
    let config = ServerConfig::new(address.to_string(), "test");
    Server::start(config, start_routes()).unwrap().shutdown();
}
