//! Peers that say nothing, half of a command, or a line without an end.

use std::time::{Duration, Instant};

use nsq_protocol::{Command, HEARTBEAT};

use super::Target;
use crate::broker_support::{Client, Got, text};
use crate::timing::DEADLINE;

pub(super) fn heartbeats(target: &Target) {
    let started = Instant::now();
    let beat = Got::Response(text(HEARTBEAT));
    let mut silent = Client::identified(target.tcp, r#"{"heartbeat_interval":1000}"#);
    let mut alive = Client::identified(target.tcp, r#"{"heartbeat_interval":1000}"#);
    alive.sub("heartbeats", "c");
    assert_eq!(silent.next(DEADLINE), beat);
    let first = started.elapsed();
    // By default it is 30 s.
    assert!(first >= Duration::from_millis(900) && first < DEADLINE, "{first:?}");
    alive.response(&text(HEARTBEAT));
    alive.send(Command::Nop);
    // At twice the interval the silent one is closed, without an error frame.
    let mut beats = 1;
    loop {
        match silent.next(DEADLINE) {
            Got::Closed => break,
            other => assert_eq!(other, beat),
        }
        beats += 1;
    }
    let closed = started.elapsed();
    assert!(closed >= Duration::from_millis(1900) && closed < DEADLINE, "{closed:?}");
    assert!(beats < 5, "{beats} heartbeats");
    for _ in 0..3 {
        alive.response(&text(HEARTBEAT));
        alive.send(Command::Nop);
    }
}

pub(super) fn half_a_pub(target: &Target) {
    for (wire, want) in [
        (&b"PUB half\n\0\0\0\x05ab"[..], "E_BAD_MESSAGE PUB failed to read message body"),
        (b"PUB half\n\0\0", "E_BAD_MESSAGE PUB failed to read message body size"),
    ] {
        let mut client = Client::identified(target.tcp, r#"{"heartbeat_interval":1000}"#);
        client.raw(wire);
        client.response(&text(HEARTBEAT));
        let end = loop {
            match client.next(DEADLINE) {
                Got::Response(beat) => assert_eq!(beat, text(HEARTBEAT)),
                other => break other,
            }
        };
        assert_eq!(end, Got::Error(want.into()));
        // nsqd's second heartbeat may still get between the error and the close.
        while client.next(DEADLINE) != Got::Closed {}
    }
}

pub(super) fn a_line_without_end(target: &Target) {
    let mut client = Client::connect(target.tcp);
    client.raw(&[b'x'; 20_000]);
    // On purpose: nsqd closes without a word.
    if target.is_ours {
        client.fatal("E_INVALID command line is over 16384 bytes");
    } else {
        client.closed();
    }
}
