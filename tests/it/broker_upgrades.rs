//! The embedded broker and peers that break what they agreed on in IDENTIFY: its limits, and that nothing is made up.

use std::time::{Duration, Instant};

use nsq_protocol::{Command, Compression};

use crate::broker_support::{Client, Got, start};
use crate::support::Running;
use crate::timing::DEADLINE;

const DEFLATE: Compression = Compression::Deflate { level: 6 };

#[test]
fn what_is_switched_off_is_declined() {
    let broker = start(|config| (config.snappy, config.max_deflate_level) = (false, 2));
    // So both can be asked for.
    let (mut client, answer) =
        Client::negotiated(broker.tcp_addr(), r#""snappy":true,"deflate":true"#);
    assert_eq!(answer["snappy"], false);
    assert_eq!([&answer["deflate_level"], &answer["max_deflate_level"]], [2, 2]);
    client.compress(DEFLATE);
    client.publish("t", b"x");
}

#[test]
fn bytes_that_come_before_the_upgrade_are_refused() {
    let broker = start(|_| ());
    let mut client = Client::connect(broker.tcp_addr());
    let mut wire = Vec::new();
    Command::Identify(br#"{"feature_negotiation":true,"snappy":true}"#).encode(&mut wire);
    wire.extend_from_slice(b"PUB early\n\0\0\0\x01x");
    client.raw(&wire);
    client.fatal(
        "E_IDENTIFY_FAILED IDENTIFY failed 15 bytes came before the upgrade: wait for its answer",
    );
    assert_eq!(broker.stats().topics, Some(vec![]));
}

#[test]
fn a_body_that_decompresses_to_too_much_is_refused_by_its_announced_size() {
    let broker = start(|_| ());
    for compression in [Compression::Snappy, DEFLATE] {
        let mut client = Client::compressed(broker.tcp_addr(), compression);
        client.raw(b"PUB t\n\x7f\xff\xff\xff");
        client.fatal("E_BAD_MESSAGE PUB message too big 2147483647 > 1048576");
    }
}

/// Kilobytes that decompress to many megabytes: they are taken piece by piece, and refused at the first that is no command.
#[test]
fn a_bomb_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["broker", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
    let mut broker = Running::start(dir.path(), &args);
    let address = broker.wait_for("TCP: listening on ").parse().unwrap();
    let most = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap()
    };
    let before = most();
    for (compression, asked) in
        [(Compression::Snappy, r#""snappy":true"#), (DEFLATE, r#""deflate":true"#)]
    {
        // However slow the machine is: no heartbeat comes between.
        let asked = format!(r#"{asked},"heartbeat_interval":-1"#);
        let (mut client, _) = Client::negotiated(address, &asked);
        client.compress(compression);
        // Commands that do nothing, so that none of it is refused early.
        let nops = b"NOP\n".repeat(16 << 10);
        (0..200).for_each(|_| client.raw(&nops));
        client.publish("t", b"still served");
        // And a line without an end.
        client.raw(&vec![0; 16 << 20]);
        client.error("E_INVALID command line is over 16384 bytes");
    }
    let grown = most() - before;
    assert!(grown < 8 << 10, "{grown} KiB more than before");
}

/// Bytes that decompress to nothing, one by one, keep no connection open.
#[test]
fn padding_is_no_sign_of_life() {
    let broker = start(|_| ());
    let asked = r#""snappy":true,"heartbeat_interval":1000"#;
    let (mut client, _) = Client::negotiated(broker.tcp_addr(), asked);
    client.compress(Compression::Snappy);
    client.raw(b"NOP\n");
    let began = Instant::now();
    let (mut heartbeats, mut padding) = (0, b"\xfe\xff\xff\xff".to_vec());
    loop {
        client.below(&padding);
        padding = vec![0];
        match client.next(Duration::from_millis(20)) {
            Got::Nothing => {}
            Got::Response(text) if text == "_heartbeat_" => heartbeats += 1,
            Got::Closed => break,
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < DEADLINE, "it is still open");
    }
    assert!(heartbeats > 0 && began.elapsed() > Duration::from_secs(1), "{heartbeats}");
}
