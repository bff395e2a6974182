//! Event streams: where they start and resume, how many there may be, and those that never read.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use playcounts::http::{Handler, Server};

use super::{assert_serves, config, read_to_end, read_until, start, start_routes, subscribe};
use crate::timing::{DEADLINE, check_takes_less};

#[test]
fn a_stream_starts_with_the_newest_event_and_resumes_after_the_last() {
    let (server, address, routes) = start(config());
    for number in 1..=3 {
        routes.events.publish("stats", &format!("{{\"n\":{number}}}"));
    }
    let (mut first, mut seen) = (subscribe(address, ""), String::new());
    read_until(&mut first, &mut seen, "{\"n\":3}\n\n");
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream"), "{seen}");
    assert!(seen.contains("X-Accel-Buffering: no") && seen.contains("retry: 2000\n\n"), "{seen}");
    assert!(!seen.contains("{\"n\":2}"), "{seen}");

    routes.events.publish("stats", "{\"n\":4}\nsecond line");
    read_until(&mut first, &mut seen, "data: {\"n\":4}\ndata: second line\n\n");

    let id = seen.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    routes.events.publish("stats", "{\"n\":5}");
    let (mut again, mut seen) =
        (subscribe(address, &format!("Last-Event-ID: {id}\r\n")), String::new());
    read_until(&mut again, &mut seen, "{\"n\":5}\n\n");
    assert!(seen.contains("{\"n\":4}") && !seen.contains("{\"n\":3}"), "{seen}");

    // An id of another run, or nonsense, gets the newest.
    for id in ["1-1", "x", "-", "99999999999999999999-1"] {
        let (mut other, mut seen) =
            (subscribe(address, &format!("Last-Event-ID: {id}\r\n")), String::new());
        read_until(&mut other, &mut seen, "{\"n\":5}\n\n");
        assert!(!seen.contains("{\"n\":4}"), "{id}: {seen}");
    }
    routes.events.shutdown();
    // The end is a clean close.
    let mut rest = Vec::new();
    let ended = first.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    server.shutdown();
}

/// Those that never read are given 10 s: neither a publication nor the end waits for them.
#[test]
fn a_thousand_streams_of_which_fifty_never_read() {
    check_takes_less(Duration::from_secs(3), stop_with_a_thousand_streams);
}

#[allow(clippy::print_stdout, reason = "figures, for who asks for them with --nocapture")]
fn stop_with_a_thousand_streams() -> Duration {
    let (server, address, routes) = start(config());
    // Opened a few hundred at a time: each is an ordinary connection until it is handed over.
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let batch: Vec<_> = (0..200).map(|_| subscribe(address, "")).collect();
        for mut socket in batch {
            let mut seen = String::new();
            read_until(&mut socket, &mut seen, "retry: 2000\n\n");
            sockets.push(socket);
        }
    }
    assert_eq!(routes.events.clients(), 1_000);
    let readers = sockets.split_off(50);
    let filler = "x".repeat(8_000);
    let began = Instant::now();
    for number in 0..200 {
        routes.events.publish("stats", &format!("{number} {filler}"));
    }
    let publishing = began.elapsed();
    // Whoever waited for them would do so once, for 10 s: then they are dropped.
    assert!(publishing < Duration::from_secs(5), "publishing took {publishing:?}");
    routes.events.publish("last", "done");
    let began = Instant::now();
    for mut socket in readers {
        read_until(&mut socket, &mut String::new(), "event: last\ndata: done\n\n");
    }
    println!(
        "950 of 1,000 streams had the last event after {:?}; 200 publishes took {publishing:?}",
        began.elapsed()
    );
    assert_serves(address);
    let began = Instant::now();
    routes.events.shutdown();
    server.shutdown();
    let took = began.elapsed();
    drop(sockets);
    took
}

#[test]
fn past_the_stream_cap_the_answer_is_503() {
    let routes = start_routes();
    let server = Server::start(config(), Arc::clone(&routes) as Arc<dyn Handler>).unwrap();
    let mut first = subscribe(server.local_addr(), "");
    read_until(&mut first, &mut String::new(), "retry: 2000\n\n");
    let refused = read_to_end(subscribe(server.local_addr(), ""));
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(first);
    let deadline = Instant::now() + DEADLINE;
    // The place is free again once a write has failed.
    while routes.events.clients() > 0 {
        assert!(Instant::now() < deadline);
        routes.events.publish("stats", "x");
    }
    server.shutdown();
}
