//! Who the embedded broker's HTTP API answers: programs as nsqd does, no web page of another site.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nsq_protocol::Admin;
use playcounts::broker::{Broker, BrokerConfig};

use crate::support::DEADLINE;

/// Every call that changes something.
const WRITES: [&str; 12] = [
    "/pub?topic=t",
    "/mpub?topic=t",
    "/topic/create?topic=t",
    "/topic/delete?topic=t",
    "/topic/empty?topic=t",
    "/topic/pause?topic=t",
    "/topic/unpause?topic=t",
    "/channel/create?topic=t&channel=c",
    "/channel/delete?topic=t&channel=c",
    "/channel/empty?topic=t&channel=c",
    "/channel/pause?topic=t&channel=c",
    "/channel/unpause?topic=t&channel=c",
];

fn broker(http: &str) -> (Broker, SocketAddr) {
    let broker = Broker::start(BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: Some(http.into()),
        broadcast_address: "queue.example".into(),
        allowed_hosts: vec!["broker".into()],
        ..BrokerConfig::default()
    })
    .unwrap();
    let address = broker.http_addr().unwrap();
    (broker, address)
}

/// The status of an answer, and its body.
fn ask(port: u16, version: &str, method: &str, target: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "{method} {target} {version}\r\n{headers}Connection: close\r\nContent-Length: 1\r\n\r\nx"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_else(|| panic!("{answer:?}")), body.unwrap_or_default())
}

fn messages(broker: &Broker) -> u64 {
    broker.stats().topics.unwrap().iter().map(|topic| topic.message_count).sum()
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let (broker, address) = broker("127.0.0.1:0");
    let port = address.port();
    let own = format!("Host: localhost:{port}");
    Admin::new(&address.to_string()).create_topic(&"t".parse().unwrap()).unwrap();
    for target in WRITES {
        for origin in [
            "http://evil.example",
            "https://localhost",
            "null",
            "http://localhost:1",
            "http://broker",
        ] {
            let origin = format!("Origin: {origin}");
            let (status, body) = ask(port, "HTTP/1.1", "POST", target, &[&own, &origin]);
            assert_eq!(status, 403, "{target} {origin}: {body}");
            assert!(body.contains("may change nothing here"), "{body}");
        }
    }
    let foreign = "Origin: http://evil.example";
    assert_eq!(ask(port, "HTTP/1.1", "PUT", "/config/log_level", &[&own, foreign]).0, 403);
    assert_eq!(messages(&broker), 0);
    // Its own page, if it had one.
    let origin = format!("Origin: http://localhost:{port}");
    assert_eq!(ask(port, "HTTP/1.1", "POST", "/pub?topic=t", &[&own, &origin]).0, 200);
    assert_eq!(messages(&broker), 1);
}

#[test]
fn a_name_that_was_pointed_here_is_answered_nothing() {
    let (broker, address) = broker("127.0.0.1:0");
    let port = address.port();
    let reads = ["/ping", "/info", "/stats", "/stats?format=json", "/nothing"];
    for host in ["evil.example", "localhost.evil.example:4151", "192.0.2.1", "[::2]:4151"] {
        let host = format!("Host: {host}");
        for target in reads {
            let (status, body) = ask(port, "HTTP/1.1", "GET", target, &[&host]);
            assert_eq!(status, 421, "{target} {host}: {body}");
            assert!(body.contains("--allowed-host"), "{body}");
        }
        // As the page of such a name would: of the same origin, to its browser.
        let origin = host.replace("Host: ", "Origin: http://");
        for target in WRITES {
            assert_eq!(ask(port, "HTTP/1.1", "POST", target, &[&host, &origin]).0, 421, "{target}");
        }
    }
    assert_eq!(messages(&broker), 0);
}

#[test]
fn programs_are_answered_as_nsqd_answers_them() {
    // Bound to every address, so that it is found under each.
    for http in ["127.0.0.1:0", "0.0.0.0:0"] {
        let (broker, address) = broker(http);
        let port = address.port();
        let own =
            ["localhost", "LOCALHOST:1", "127.0.0.1:4151", "[::1]", "queue.example:4151", "broker"];
        let mut sent = 0;
        for host in own.into_iter().chain((http == "0.0.0.0:0").then_some("192.0.2.1:4151")) {
            let host = format!("Host: {host}");
            assert_eq!(ask(port, "HTTP/1.1", "GET", "/ping", &[&host]), (200, "OK".into()));
            assert_eq!(ask(port, "HTTP/1.1", "POST", "/pub?topic=t", &[&host]).0, 200, "{host}");
            sent += 1;
        }
        // A client of HTTP/1.0 names no host; a tool has no origin.
        assert_eq!(ask(port, "HTTP/1.0", "POST", "/pub?topic=t", &[]).0, 200);
        assert_eq!(messages(&broker), sent + 1);
        // The crate's own, as the dashboard and `reset` use it.
        let admin = Admin::new(&format!("127.0.0.1:{port}"));
        assert_eq!(admin.info().unwrap().broadcast_address, "queue.example");
        admin.delete_topic(&"t".parse().unwrap()).unwrap();
    }
}
