//! What is said before and around messages: the magic, IDENTIFY, AUTH, and every error that ends a connection.

use nsq_protocol::Command;

use super::Target;
use crate::broker_support::{Client, Got};
use crate::timing::DEADLINE;

pub(super) fn magic(target: &Target) {
    let mut client = Client::silent(target.tcp);
    client.raw(b"  V1");
    client.fatal("E_BAD_PROTOCOL");
}

pub(super) fn fatal_errors(target: &Target) {
    let long = "x".repeat(65);
    let cases: &[(&[u8], String)] = &[
        (b"\n", "E_INVALID invalid command ".into()),
        (b"nop\n", "E_INVALID invalid command nop".into()),
        (b"SUB t\n", "E_INVALID SUB insufficient number of parameters".into()),
        (b"SUB t$ c\n", "E_BAD_TOPIC SUB topic name \"t$\" is not valid".into()),
        (
            b"SUB t #ephemeral\n",
            "E_BAD_CHANNEL SUB channel name \"#ephemeral\" is not valid".into(),
        ),
        (b"PUB\n", "E_INVALID PUB insufficient number of parameters".into()),
        (b"PUB #ephemeral\n", "E_BAD_TOPIC PUB topic name \"#ephemeral\" is not valid".into()),
        (b"MPUB a/b\n", "E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \"a/b\" is not valid".into()),
        (b"DPUB t\n", "E_INVALID DPUB insufficient number of parameters".into()),
        (b"DPUB t x\n", "E_INVALID DPUB could not parse timeout x".into()),
        (
            b"DPUB t 3600001\n\0\0\0\x01a",
            "E_INVALID DPUB timeout 3600001 out of range 0-3600000".into(),
        ),
        (b"PUB t\n\0\0\0\0", "E_BAD_MESSAGE PUB invalid message body size 0".into()),
        (b"PUB t\n\xff\xff\xff\xff", "E_BAD_MESSAGE PUB invalid message body size -1".into()),
        (b"PUB t\n\0\x10\0\x01", "E_BAD_MESSAGE PUB message too big 1048577 > 1048576".into()),
        (b"MPUB t\n\0\0\0\0", "E_BAD_BODY MPUB invalid body size 0".into()),
        (b"MPUB t\n\0\x50\0\x01", "E_BAD_BODY MPUB body too big 5242881 > 5242880".into()),
        (b"MPUB t\n\0\0\0\x04\0\0\0\0", "E_BAD_BODY MPUB invalid message count 0".into()),
        (
            b"MPUB t\n\0\0\0\x09\0\0\0\x01\0\0\0\0a",
            "E_BAD_MESSAGE MPUB invalid message(0) body size 0".into(),
        ),
        (b"IDENTIFY\n\0\0\0\0", "E_BAD_BODY IDENTIFY invalid body size 0".into()),
        (b"IDENTIFY\n\0\x50\0\x01", "E_BAD_BODY IDENTIFY body too big 5242881 > 5242880".into()),
        (b"FIN 0123456789abcdef\n", "E_INVALID cannot FIN in current state".into()),
        (b"REQ 0123456789abcdef 0\n", "E_INVALID cannot REQ in current state".into()),
        (b"TOUCH 0123456789abcdef\n", "E_INVALID cannot TOUCH in current state".into()),
        (b"RDY 1\n", "E_INVALID cannot RDY in current state".into()),
        (b"CLS\n", "E_INVALID cannot CLS in current state".into()),
    ];
    for (wire, want) in cases {
        let mut client = Client::connect(target.tcp);
        client.raw(wire);
        client.fatal(want);
    }
    let mut client = Client::connect(target.tcp);
    client.raw(format!("PUB {long}\n").as_bytes());
    client.fatal(&format!("E_BAD_TOPIC PUB topic name \"{long}\" is not valid"));
}

pub(super) fn errors_of_consumers(target: &Target) {
    // Ours announces a larger maximum, and clients adapt.
    let max = if target.is_ours { 65_535 } else { 2500 };
    let cases: &[(&str, String)] = &[
        ("RDY -1\n", "E_INVALID RDY could not parse count -1".into()),
        (
            &format!("RDY {}\n", max + 1),
            format!("E_INVALID RDY count {} out of range 0-{max}", max + 1),
        ),
        ("FIN\n", "E_INVALID FIN insufficient number of params".into()),
        ("FIN 0123\n", "E_INVALID invalid message ID".into()),
        ("REQ 0123456789abcdef\n", "E_INVALID REQ insufficient number of params".into()),
        ("REQ 0123456789abcdef x\n", "E_INVALID REQ could not parse timeout x".into()),
        ("TOUCH\n", "E_INVALID TOUCH insufficient number of params".into()),
        ("SUB errors c\n", "E_INVALID cannot SUB in current state".into()),
        ("IDENTIFY\n\0\0\0\x02{}", "E_INVALID cannot IDENTIFY in current state".into()),
    ];
    for (wire, want) in cases {
        let mut client = target.consumer("errors", 0);
        client.raw(wire.as_bytes());
        client.fatal(want);
    }
}

pub(super) fn identify_answers(target: &Target) {
    let mut client = Client::connect(target.tcp);
    client.send(Command::Identify(
        br#"{"feature_negotiation":true,"tls_v1":true,"snappy":true,"unknown":[1]}"#,
    ));
    let Got::Response(answer) = client.next(DEADLINE) else { panic!("no answer") };
    let max_rdy = if target.is_ours { 65_535 } else { 2500 };
    assert_eq!(
        answer,
        format!(
            r#"{{"max_rdy_count":{max_rdy},"version":"1.3.0","max_msg_timeout":900000,"msg_timeout":60000,"tls_v1":false,"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":true,"sample_rate":0,"auth_required":false,"output_buffer_size":16384,"output_buffer_timeout":250}}"#
        )
    );

    let mut client = Client::connect(target.tcp);
    client.send(Command::Identify(
        br#"{"feature_negotiation":true,"msg_timeout":1000,"sample_rate":99,"output_buffer_size":-1,"heartbeat_interval":-1}"#,
    ));
    let Got::Response(answer) = client.next(DEADLINE) else { panic!("no answer") };
    for part in [
        r#""msg_timeout":1000,"#,
        r#""sample_rate":99,"#,
        r#""output_buffer_size":1,"output_buffer_timeout":0}"#,
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    client.raw(b"SUB identify c\n");
    client.fatal("E_INVALID cannot SUB with heartbeats disabled");
}

pub(super) fn identify_ranges(target: &Target) {
    let check = |field: &str, value: i64, want: Option<&str>| {
        let mut client = Client::connect(target.tcp);
        client.send(Command::Identify(format!(r#"{{"{field}":{value}}}"#).as_bytes()));
        match want {
            None => client.ok(),
            Some(name) => client.fatal(&format!("E_BAD_BODY IDENTIFY {name} ({value}) is invalid")),
        }
    };
    for (field, name, good, bad) in [
        ("heartbeat_interval", "heartbeat interval", [-1, 0, 1000, 60_000], [-2, 100, 999, 60_001]),
        ("msg_timeout", "msg timeout", [0, 1000, 60_000, 900_000], [-1, 1, 999, 900_001]),
        ("output_buffer_size", "output buffer size", [-1, 0, 64, 65_536], [-2, 1, 63, 65_537]),
        (
            "output_buffer_timeout",
            "output buffer timeout",
            [-1, 0, 25, 30_000],
            [-2, 1, 24, 30_001],
        ),
        ("sample_rate", "sample rate", [0, 1, 50, 99], [-1, 100, 101, 1000]),
    ] {
        good.iter().for_each(|value| check(field, *value, None));
        bad.iter().for_each(|value| check(field, *value, Some(name)));
    }
    for body in [&b"[]"[..], b"{", b"x", br#"{"msg_timeout":"1s"}"#, br#"{"client_id":7}"#] {
        let mut client = Client::connect(target.tcp);
        client.send(Command::Identify(body));
        client.fatal("E_BAD_BODY IDENTIFY failed to decode JSON body");
    }
}

pub(super) fn identify_twice(target: &Target) {
    let mut client = Client::identified(target.tcp, "{}");
    client.send(Command::Identify(b"{}"));
    client.ok();
    client.sub("identify-twice", "c");
}

pub(super) fn auth(target: &Target) {
    let mut client = Client::connect(target.tcp);
    client.send(Command::Auth(b"secret"));
    client.fatal("E_AUTH_DISABLED AUTH disabled");
}

pub(super) fn small_print(target: &Target) {
    let mut client = Client::connect(target.tcp);
    // A carriage return is trimmed, extra words are ignored, RDY alone means 1.
    client.raw(b"NOP\r\nSUB small-print c extra\r\nRDY\n");
    client.ok();
    // A consumer may publish, also to itself.
    client.publish_many("small-print", &[b"a", b"b"]);
    let first = client.delivery(b"a", 1);
    client.quiet();
    client.finish(&first);
    client.delivery(b"b", 1);
    // IDs are 16 lower-case hex digits.
    assert!(first.id.to_u64().is_some(), "{}", first.id);
    assert!(first.timestamp_ns > 1_700_000_000_000_000_000);
}
