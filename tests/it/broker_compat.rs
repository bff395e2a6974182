//! One list of scenarios, run against the embedded broker and against the real nsqd 1.3.0: what it says must
//! hold for both. Where ours differs on purpose, the scenario says so.
//!
//! All scenarios share one server and run at one time, each on its own topics: most of them wait for nsqd's
//! 5 s between two looks at its list of channels.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nsq_protocol::{CLOSE_WAIT, Command, HEARTBEAT, MessageId};
use playcounts::broker::{Broker, BrokerConfig};
use serde_json::{Value, json};

use crate::broker_support::{Client, DEADLINE, Got, http, text, topic};
use crate::nsqd::nsqd_or_skip;

/// Who is being asked.
struct Target {
    tcp: SocketAddr,
    http: SocketAddr,
    is_ours: bool,
}

type Scenario = (&'static str, fn(&Target));

const SCENARIOS: &[Scenario] = &[
    ("magic", magic),
    ("fatal errors", fatal_errors),
    ("errors of consumers", errors_of_consumers),
    ("identify answers", identify_answers),
    ("identify ranges", identify_ranges),
    ("identify twice", identify_twice),
    ("auth", auth),
    ("small print of commands", small_print),
    ("rdy is a level", rdy_is_a_level),
    ("fan-out and backlog", fan_out_and_backlog),
    ("cls", cls),
    ("fin of what is not ours", fin_of_what_is_not_ours),
    ("requeue", requeue),
    ("requeue with a delay", requeue_with_a_delay),
    ("touch", touch),
    ("timeout", timeout),
    ("dpub", dpub),
    ("mpub", mpub),
    ("mpub with a wrong length", mpub_with_a_wrong_length),
    ("pause a channel", pause_a_channel),
    ("pause a topic", pause_a_topic),
    ("empty while subscribed", empty_while_subscribed),
    ("delete while subscribed", delete_while_subscribed),
    ("ephemeral", ephemeral),
    ("disconnect", disconnect),
    ("heartbeats", heartbeats),
    ("half a pub", half_a_pub),
    ("a line without end", a_line_without_end),
    ("stats keys", stats_keys),
    ("stats counters", stats_counters),
    ("http codes", http_codes),
    ("http publishing", http_publishing),
    ("nsq on the http port", nsq_on_the_http_port),
];

fn run(target: &Target) {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (name, scenario) in SCENARIOS {
            let failures = &failures;
            scope.spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| scenario(target))).is_err() {
                    failures.lock().unwrap().push(*name);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "failed: {failures:?}");
}

#[test]
fn the_embedded_broker_does_what_nsqd_does() {
    let config = BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: Some("127.0.0.1:0".into()),
        ..BrokerConfig::default()
    };
    let broker = Broker::start(config).unwrap();
    run(&Target { tcp: broker.tcp_addr(), http: broker.http_addr().unwrap(), is_ours: true });
    broker.shutdown();
}

#[test]
fn nsqd_does_what_the_scenarios_say() {
    let nsqd = nsqd_or_skip!();
    run(&Target { tcp: nsqd.tcp, http: nsqd.http, is_ours: false });
}

impl Target {
    fn consumer(&self, topic: &str, rdy: u64) -> Client {
        Client::consumer(self.tcp, topic, "c", rdy)
    }

    fn post(&self, target: &str) {
        let (status, _, body) = http(self.http, "POST", target, b"");
        assert_eq!((status, body.as_str()), (200, ""), "{target}");
    }

    fn stats(&self, query: &str) -> Value {
        let (status, _, body) = http(self.http, "GET", &format!("/stats?format=json{query}"), b"");
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    fn topic(&self, topic: &str) -> Value {
        self.stats(&format!("&topic={topic}"))["topics"][0].take()
    }

    fn channel(&self, topic: &str) -> Value {
        self.topic(topic)["channels"][0].take()
    }

    /// Waits until `key` of the topic's first channel is `want`: a command without an answer takes a moment.
    #[track_caller]
    fn channel_becomes(&self, topic: &str, key: &str, want: u64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.channel(topic)[key].clone();
            if found == want {
                return;
            }
            assert!(Instant::now() < deadline, "{key} of {topic} is {found}, not {want}");
        }
    }
}

// ---- the connection

fn magic(target: &Target) {
    let mut client = Client::silent(target.tcp);
    client.raw(b"  V1");
    client.fatal("E_BAD_PROTOCOL");
}

fn fatal_errors(target: &Target) {
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

fn errors_of_consumers(target: &Target) {
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

fn identify_answers(target: &Target) {
    let mut client = Client::connect(target.tcp);
    client.send(Command::Identify(
        br#"{"feature_negotiation":true,"tls_v1":true,"snappy":true,"unknown":[1]}"#,
    ));
    let Got::Response(answer) = client.next(DEADLINE) else { panic!("no answer") };
    // Ours has no compression yet and says so.
    let (max_rdy, snappy) = if target.is_ours { (65_535, false) } else { (2500, true) };
    assert_eq!(
        answer,
        format!(
            r#"{{"max_rdy_count":{max_rdy},"version":"1.3.0","max_msg_timeout":900000,"msg_timeout":60000,"tls_v1":false,"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":{snappy},"sample_rate":0,"auth_required":false,"output_buffer_size":16384,"output_buffer_timeout":250}}"#
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

fn identify_ranges(target: &Target) {
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

fn identify_twice(target: &Target) {
    let mut client = Client::identified(target.tcp, "{}");
    client.send(Command::Identify(b"{}"));
    client.ok();
    client.sub("identify-twice", "c");
}

fn auth(target: &Target) {
    let mut client = Client::connect(target.tcp);
    client.send(Command::Auth(b"secret"));
    client.fatal("E_AUTH_DISABLED AUTH disabled");
}

fn small_print(target: &Target) {
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

// ---- consuming

fn rdy_is_a_level(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("rdy", &[b"1", b"2", b"3", b"4", b"5"]);
    let mut consumer = target.consumer("rdy", 2);
    let first = consumer.delivery(b"1", 1);
    let second = consumer.delivery(b"2", 1);
    consumer.quiet();
    consumer.finish(&first);
    let third = consumer.delivery(b"3", 1);
    consumer.quiet();
    // Lowering it recalls nothing and lets nothing through until it is passed.
    consumer.send(Command::Rdy(1));
    consumer.finish(&second);
    consumer.quiet();
    consumer.finish(&third);
    let fourth = consumer.delivery(b"4", 1);
    consumer.send(Command::Rdy(0));
    consumer.finish(&fourth);
    consumer.quiet();
    target.channel_becomes("rdy", "depth", 1);
}

fn fan_out_and_backlog(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("fan-out", b"early");
    assert_eq!(target.topic("fan-out")["depth"], 1);
    let mut first = Client::consumer(target.tcp, "fan-out", "first", 10);
    let early = first.delivery(b"early", 1);
    let mut second = Client::consumer(target.tcp, "fan-out", "second", 10);
    second.quiet();
    producer.publish("fan-out", b"late");
    let (one, other) = (first.delivery(b"late", 1), second.delivery(b"late", 1));
    assert_eq!(one, other, "the same ID and timestamp on both channels");
    assert_ne!(early.id, one.id);
    // Each channel finishes its own copy.
    first.finish(&one);
    second.finish(&other);
    second.quiet();
}

fn cls(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("cls", &[b"a", b"b"]);
    let mut consumer = target.consumer("cls", 1);
    let held = consumer.delivery(b"a", 1);
    consumer.send(Command::Cls);
    consumer.response(&text(CLOSE_WAIT));
    // RDY is ignored now, FIN still counts, and the server does not close.
    consumer.send(Command::Rdy(5));
    consumer.finish(&held);
    consumer.quiet();
    target.channel_becomes("cls", "in_flight_count", 0);
    assert_eq!(target.channel("cls")["clients"][0]["state"], 4);
    consumer.send(Command::Cls);
    consumer.fatal("E_INVALID cannot CLS in current state");
}

fn fin_of_what_is_not_ours(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("foreign", b"a");
    let mut owner = target.consumer("foreign", 1);
    let held = owner.delivery(b"a", 1);
    let mut other = target.consumer("foreign", 1);
    let unknown = MessageId(*b"not-a-hex-number");
    for (command, code) in [
        (Command::Fin(held.id), "E_FIN_FAILED FIN"),
        (Command::Req(held.id, 0), "E_REQ_FAILED REQ"),
        (Command::Touch(held.id), "E_TOUCH_FAILED TOUCH"),
    ] {
        other.send(command);
        other.error(&format!("{code} {} failed client does not own message", held.id));
    }
    other.send(Command::Fin(unknown));
    other.error(&format!("E_FIN_FAILED FIN {unknown} failed ID not in flight"));
    // Not fatal: both go on.
    owner.finish(&held);
    owner.finish(&held);
    owner.error(&format!("E_FIN_FAILED FIN {} failed ID not in flight", held.id));
    producer.publish("foreign", b"b");
    target.channel_becomes("foreign", "in_flight_count", 1);
}

fn requeue(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("requeue", b"a");
    let mut consumer = target.consumer("requeue", 1);
    let mut id = None;
    for attempts in 1..=4 {
        let message = consumer.delivery(b"a", attempts);
        assert_eq!(*id.get_or_insert(message.id), message.id);
        consumer.send(Command::Req(message.id, 0));
    }
    let last = consumer.delivery(b"a", 5);
    consumer.finish(&last);
    target.channel_becomes("requeue", "in_flight_count", 0);
    let channel = target.channel("requeue");
    assert_eq!((&channel["requeue_count"], &channel["depth"]), (&json!(4), &json!(0)));
}

fn requeue_with_a_delay(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("req-delay", b"a");
    let mut consumer = target.consumer("req-delay", 1);
    let message = consumer.delivery(b"a", 1);
    let sent = Instant::now();
    consumer.send(Command::Req(message.id, 500));
    target.channel_becomes("req-delay", "deferred_count", 1);
    let again = consumer.delivery(b"a", 2);
    assert!(sent.elapsed() >= Duration::from_millis(500));
    if target.is_ours {
        assert!(sent.elapsed() < Duration::from_secs(3), "{:?}", sent.elapsed());
    }
    // Far too long is clamped, not refused.
    consumer.send(Command::Req(again.id, 99_999_999_999));
    target.channel_becomes("req-delay", "deferred_count", 1);
}

fn touch(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("touch", b"a");
    let mut consumer = Client::identified(target.tcp, r#"{"msg_timeout":1000}"#);
    consumer.sub("touch", "c");
    consumer.send(Command::Rdy(1));
    let message = consumer.delivery(b"a", 1);
    for _ in 0..8 {
        assert_eq!(consumer.next(Duration::from_millis(300)), Got::Nothing);
        consumer.send(Command::Touch(message.id));
    }
    // Past twice the timeout it is still in flight.
    assert_eq!(target.channel("touch")["in_flight_count"], 1);
    consumer.finish(&message);
    consumer.send(Command::Touch(message.id));
    consumer.error(&format!("E_TOUCH_FAILED TOUCH {} failed ID not in flight", message.id));
}

fn timeout(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("timeout", b"a");
    let mut consumer = Client::identified(target.tcp, r#"{"msg_timeout":1000}"#);
    consumer.sub("timeout", "c");
    consumer.send(Command::Rdy(1));
    let delivered = Instant::now();
    let first = consumer.delivery(b"a", 1);
    let second = consumer.delivery(b"a", 2);
    let after = delivered.elapsed();
    assert!(after >= Duration::from_millis(900), "{after:?}");
    if target.is_ours {
        // nsqd looks at a new channel after 5 s only.
        assert!(after < Duration::from_secs(3), "{after:?}");
    }
    assert_eq!(first.id, second.id);
    // A late FIN of the first delivery finishes the second, on the same connection.
    consumer.finish(&first);
    consumer.finish(&second);
    consumer.error(&format!("E_FIN_FAILED FIN {} failed ID not in flight", first.id));
    let channel = target.channel("timeout");
    assert_eq!((&channel["timeout_count"], &channel["in_flight_count"]), (&json!(1), &json!(0)));
}

fn disconnect(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("disconnect", b"a");
    let mut first = Client::identified(target.tcp, r#"{"msg_timeout":3000}"#);
    first.sub("disconnect", "c");
    first.send(Command::Rdy(1));
    first.delivery(b"a", 1);
    let mut second = target.consumer("disconnect", 1);
    second.quiet();
    let gone = Instant::now();
    drop(first);
    second.delivery(b"a", 2);
    // On purpose: ours requeues at once, nsqd when the message times out.
    if target.is_ours {
        assert!(gone.elapsed() < Duration::from_secs(2), "{:?}", gone.elapsed());
    } else {
        assert!(gone.elapsed() > Duration::from_secs(2), "{:?}", gone.elapsed());
    }
}

// ---- publishing

fn dpub(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    let mut consumer = target.consumer("dpub", 10);
    let sent = Instant::now();
    producer.send(Command::Dpub(topic("dpub"), 500, b"late"));
    producer.ok();
    producer.send(Command::Dpub(topic("dpub"), 0, b"now"));
    producer.ok();
    consumer.delivery(b"now", 1);
    target.channel_becomes("dpub", "deferred_count", 1);
    assert_eq!(target.channel("dpub")["depth"], 0);
    consumer.delivery(b"late", 1);
    assert!(sent.elapsed() >= Duration::from_millis(500));
    producer.send(Command::Dpub(topic("dpub"), 3_600_000, b"the longest"));
    producer.ok();
}

fn mpub(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("mpub", &[b"1", b"22", b"333"]);
    let mut consumer = target.consumer("mpub", 3);
    let messages: Vec<_> =
        [&b"1"[..], b"22", b"333"].iter().map(|body| consumer.delivery(body, 1)).collect();
    assert!(messages[0].id < messages[1].id && messages[1].id < messages[2].id);
    let stats = target.topic("mpub");
    assert_eq!((&stats["message_count"], &stats["message_bytes"]), (&json!(3), &json!(6)));
    // A body of exactly the limit.
    consumer.finish(&messages[0]);
    let large = vec![b'x'; 1 << 20];
    producer.publish("mpub", &large);
    assert_eq!(consumer.message().body.len(), large.len());
    // What follows a bad message is not read, and what came before it: nsqd and we take none of it.
    producer.raw(b"MPUB mpub\n\0\0\0\x0d\0\0\0\x02\0\0\0\x01a\0\0\0\0");
    producer.fatal("E_BAD_MESSAGE MPUB invalid message(1) body size 0");
    assert_eq!(target.topic("mpub")["message_count"], 4);
}

fn mpub_with_a_wrong_length(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    // The length says 13, the count and sizes make 9; four bytes that are no command follow.
    producer.raw(b"MPUB wrong-length\n\0\0\0\x0d\0\0\0\x01\0\0\0\x01aNOP\n");
    // On purpose: nsqd lets the inner lengths drive, ours wants both to agree.
    if target.is_ours {
        producer.fatal("E_BAD_BODY MPUB body is 4 bytes longer than its messages");
    } else {
        producer.ok();
    }
}

// ---- administration

fn pause_a_channel(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    let mut consumer = target.consumer("pause-c", 2);
    producer.publish("pause-c", b"a");
    let held = consumer.delivery(b"a", 1);
    target.post("/channel/pause?topic=pause-c&channel=c");
    producer.publish("pause-c", b"b");
    // What is in flight can still be finished; nothing more comes; the channel takes more in.
    consumer.finish(&held);
    target.channel_becomes("pause-c", "in_flight_count", 0);
    consumer.send(Command::Rdy(5));
    if target.is_ours {
        // nsqd's consumer may take one message that it was already waiting for.
        consumer.quiet();
        target.channel_becomes("pause-c", "depth", 1);
    }
    assert_eq!(target.channel("pause-c")["paused"], true);
    target.post("/channel/unpause?topic=pause-c&channel=c");
    consumer.delivery(b"b", 1);
    assert_eq!(target.channel("pause-c")["paused"], false);
}

fn pause_a_topic(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    let mut consumer = target.consumer("pause-t", 5);
    target.post("/topic/pause?topic=pause-t");
    producer.publish("pause-t", b"a");
    consumer.quiet();
    let stats = target.topic("pause-t");
    assert_eq!((&stats["paused"], &stats["depth"]), (&json!(true), &json!(1)));
    // Only the topic's own queue is emptied.
    target.post("/topic/empty?topic=pause-t");
    assert_eq!(target.topic("pause-t")["depth"], 0);
    producer.publish("pause-t", b"b");
    target.post("/topic/unpause?topic=pause-t");
    consumer.delivery(b"b", 1);
}

fn empty_while_subscribed(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("empty", &[b"a", b"b", b"c"]);
    let mut consumer = target.consumer("empty", 1);
    let held = consumer.delivery(b"a", 1);
    target.channel_becomes("empty", "depth", 2);
    consumer.send(Command::Rdy(0));
    // In order behind the RDY, so that nothing more is sent.
    consumer.publish("empty-other", b"x");
    target.post("/channel/empty?topic=empty&channel=c");
    let channel = target.channel("empty");
    assert_eq!((&channel["depth"], &channel["in_flight_count"]), (&json!(0), &json!(0)));
    assert_eq!(channel["clients"][0]["in_flight_count"], 0);
    consumer.finish(&held);
    consumer.error(&format!("E_FIN_FAILED FIN {} failed ID not in flight", held.id));
    // And it goes on.
    consumer.send(Command::Rdy(1));
    producer.publish("empty", b"d");
    consumer.delivery(b"d", 1);
}

fn delete_while_subscribed(target: &Target) {
    let mut consumer = target.consumer("delete", 1);
    target.post("/channel/delete?topic=delete&channel=c");
    consumer.closed();
    let mut consumer = target.consumer("delete", 1);
    let mut producer = Client::connect(target.tcp);
    producer.publish("delete", b"a");
    consumer.delivery(b"a", 1);
    target.post("/topic/delete?topic=delete");
    consumer.closed();
    assert_eq!(target.stats("&topic=delete")["topics"], Value::Null);
    // A producer creates it again.
    producer.publish("delete", b"b");
    assert_eq!(target.topic("delete")["depth"], 1);
}

fn ephemeral(target: &Target) {
    let name = "eph%23ephemeral";
    let consumer = Client::consumer(target.tcp, "eph#ephemeral", "c#ephemeral", 1);
    assert_eq!(target.channel(name)["client_count"], 1);
    drop(consumer);
    let deadline = Instant::now() + DEADLINE;
    while target.stats(&format!("&topic={name}"))["topics"] != Value::Null {
        assert!(Instant::now() < deadline, "the topic goes with its last channel");
    }
}

// ---- time

fn heartbeats(target: &Target) {
    let started = Instant::now();
    let beat = Got::Response(text(HEARTBEAT));
    let mut silent = Client::identified(target.tcp, r#"{"heartbeat_interval":1000}"#);
    let mut alive = Client::identified(target.tcp, r#"{"heartbeat_interval":1000}"#);
    alive.sub("heartbeats", "c");
    assert_eq!(silent.next(DEADLINE), beat);
    let first = started.elapsed();
    assert!(first >= Duration::from_millis(900) && first < Duration::from_secs(3), "{first:?}");
    alive.response(&text(HEARTBEAT));
    alive.send(Command::Nop);
    // At twice the interval the silent one is closed, without an error frame.
    loop {
        match silent.next(DEADLINE) {
            Got::Closed => break,
            other => assert_eq!(other, beat),
        }
    }
    let closed = started.elapsed();
    assert!(closed >= Duration::from_millis(1900) && closed < Duration::from_secs(5), "{closed:?}");
    for _ in 0..3 {
        alive.response(&text(HEARTBEAT));
        alive.send(Command::Nop);
    }
}

fn half_a_pub(target: &Target) {
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

fn a_line_without_end(target: &Target) {
    let mut client = Client::connect(target.tcp);
    client.raw(&[b'x'; 20_000]);
    // On purpose: nsqd closes without a word.
    if target.is_ours {
        client.fatal("E_INVALID command line is over 16384 bytes");
    } else {
        client.closed();
    }
}

// ---- HTTP

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn stats_keys(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("keys", b"a");
    let _consumer = target.consumer("keys", 0);
    let stats = target.stats("&topic=keys");
    assert_eq!(keys(&stats), ["health", "memory", "producers", "start_time", "topics", "version"]);
    assert_eq!(
        keys(&stats["memory"]),
        [
            "gc_pause_usec_100",
            "gc_pause_usec_95",
            "gc_pause_usec_99",
            "gc_total_runs",
            "heap_idle_bytes",
            "heap_in_use_bytes",
            "heap_objects",
            "heap_released_bytes",
            "next_gc_bytes"
        ]
    );
    assert_eq!((&stats["version"], &stats["health"]), (&json!("1.3.0"), &json!("OK")));
    let topic = &stats["topics"][0];
    assert_eq!(
        keys(topic),
        [
            "backend_depth",
            "channels",
            "depth",
            "e2e_processing_latency",
            "message_bytes",
            "message_count",
            "paused",
            "topic_name"
        ]
    );
    assert_eq!(topic["e2e_processing_latency"], json!({"count": 0, "percentiles": null}));
    let channel = &topic["channels"][0];
    assert_eq!(
        keys(channel),
        [
            "backend_depth",
            "channel_name",
            "client_count",
            "clients",
            "deferred_count",
            "depth",
            "e2e_processing_latency",
            "in_flight_count",
            "message_count",
            "paused",
            "requeue_count",
            "timeout_count"
        ]
    );
    let client_keys = [
        "client_id",
        "connect_ts",
        "deflate",
        "finish_count",
        "hostname",
        "in_flight_count",
        "message_count",
        "ready_count",
        "remote_address",
        "requeue_count",
        "sample_rate",
        "snappy",
        "state",
        "tls",
        "tls_cipher_suite",
        "tls_negotiated_protocol",
        "tls_negotiated_protocol_is_mutual",
        "tls_version",
        "user_agent",
        "version",
    ];
    assert_eq!(keys(&channel["clients"][0]), client_keys);
    let ours = producer.stream.local_addr().unwrap().to_string();
    let producers = stats["producers"].as_array().unwrap();
    let entry = producers.iter().find(|entry| entry["remote_address"] == ours.as_str()).unwrap();
    assert_eq!(entry["pub_counts"], json!([{"topic": "keys", "count": 1}]));
    assert_eq!(keys(entry).len(), client_keys.len() + 1);

    let lean = target.stats("&topic=keys&include_clients=false&include_mem=false");
    assert_eq!(keys(&lean), ["health", "producers", "start_time", "topics", "version"]);
    assert_eq!(lean["producers"], Value::Null);
    assert_eq!(lean["topics"][0]["channels"][0]["clients"], Value::Null);
    assert_eq!(lean["topics"][0]["channels"][0]["client_count"], 1);
    assert_eq!(target.stats("&topic=no-such")["topics"], Value::Null);
    assert_eq!(target.stats("&topic=keys&channel=no-such")["topics"], json!([]));
}

fn stats_counters(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish_many("counters", &[b"a", b"b", b"c", b"d"]);
    let mut consumer = Client::identified(
        target.tcp,
        r#"{"client_id":"me","hostname":"here","user_agent":"test/1"}"#,
    );
    consumer.sub("counters", "c");
    consumer.send(Command::Rdy(3));
    let first = consumer.delivery(b"a", 1);
    let second = consumer.delivery(b"b", 1);
    consumer.delivery(b"c", 1);
    consumer.finish(&first);
    consumer.delivery(b"d", 1);
    consumer.send(Command::Req(second.id, 60_000));
    target.channel_becomes("counters", "deferred_count", 1);
    let channel = target.channel("counters");
    for (key, want) in [
        ("depth", 0),
        ("in_flight_count", 2),
        ("deferred_count", 1),
        ("message_count", 4),
        ("requeue_count", 1),
        ("timeout_count", 0),
        ("client_count", 1),
    ] {
        assert_eq!(channel[key], want, "{key}");
    }
    let client = &channel["clients"][0];
    for (key, want) in [
        ("client_id", json!("me")),
        ("hostname", json!("here")),
        ("user_agent", json!("test/1")),
        ("version", json!("V2")),
        ("state", json!(3)),
        ("ready_count", json!(3)),
        ("in_flight_count", json!(2)),
        ("message_count", json!(4)),
        ("finish_count", json!(1)),
        ("requeue_count", json!(1)),
    ] {
        assert_eq!(client[key], want, "{key}");
    }
}

fn http_codes(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("codes", b"a");
    let large = vec![b'x'; (1 << 20) + 1];
    let cases: &[(&str, &str, &[u8], u16, &str)] = &[
        ("GET", "/ping", b"", 200, "OK"),
        ("GET", "/no-such", b"", 404, "NOT_FOUND"),
        ("POST", "/ping", b"", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/pub?topic=codes", b"", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/pub?topic=codes", b"", 400, "MSG_EMPTY"),
        ("POST", "/pub", b"a", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/pub?topic=a$b", b"a", 400, "INVALID_TOPIC"),
        ("POST", "/pub?topic=codes&defer=x", b"a", 400, "INVALID_DEFER"),
        ("POST", "/pub?topic=codes&defer=-1", b"a", 400, "INVALID_DEFER"),
        ("POST", "/pub?topic=codes&defer=3600001", b"a", 400, "INVALID_DEFER"),
        ("POST", "/pub?topic=codes&defer=3600000", b"a", 200, "OK"),
        ("POST", "/pub?topic=codes", &large, 413, "MSG_TOO_BIG"),
        ("POST", "/mpub", b"a", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/mpub?topic=codes", &large, 413, "MSG_TOO_BIG"),
        ("POST", "/mpub?topic=codes", b"\n\n", 200, "OK"),
        ("POST", "/mpub?topic=codes&binary=true", b"\0\0\0\0", 413, "BAD_BODY"),
        ("POST", "/mpub?topic=codes&binary=1", b"\0\0\0\x01\0\0\0\0", 413, "BAD_MESSAGE"),
        ("POST", "/topic/create", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/topic/create?topic=a$b", b"", 400, "INVALID_TOPIC"),
        ("POST", "/topic/create?topic=codes", b"", 200, ""),
        ("POST", "/topic/delete", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/topic/delete?topic=no-such", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST", "/topic/empty?topic=a$b", b"", 400, "INVALID_TOPIC"),
        ("POST", "/topic/empty?topic=no-such", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST", "/topic/pause?topic=no-such", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST", "/topic/pause?topic=a$b", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST", "/channel/create?channel=c", b"", 400, "MISSING_ARG_TOPIC"),
        ("POST", "/channel/create?topic=a$b&channel=c", b"", 400, "INVALID_ARG_TOPIC"),
        ("POST", "/channel/create?topic=codes", b"", 400, "MISSING_ARG_CHANNEL"),
        ("POST", "/channel/create?topic=codes&channel=a$b", b"", 400, "INVALID_ARG_CHANNEL"),
        ("POST", "/channel/create?topic=no-such&channel=c", b"", 404, "TOPIC_NOT_FOUND"),
        ("POST", "/channel/create?topic=codes&channel=made", b"", 200, ""),
        ("POST", "/channel/create?topic=codes&channel=made", b"", 200, ""),
        ("POST", "/channel/delete?topic=codes&channel=no-such", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST", "/channel/empty?topic=codes&channel=no-such", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST", "/channel/pause?topic=codes&channel=no-such", b"", 404, "CHANNEL_NOT_FOUND"),
        ("POST", "/channel/empty?topic=codes&channel=made", b"", 200, ""),
        ("POST", "/channel/delete?topic=codes&channel=made", b"", 200, ""),
        ("POST", "/topic/delete?topic=codes", b"", 200, ""),
        // Gone since 1.0, and still asked for by bench.sh.
        ("GET", "/create_topic?topic=codes", b"", 404, "NOT_FOUND"),
    ];
    for (method, path, body, status, want) in cases {
        let (got, head, answer) = http(target.http, method, path, body);
        let want =
            if *status == 200 { (*want).to_owned() } else { format!(r#"{{"message":"{want}"}}"#) };
        assert_eq!((got, answer), (*status, want), "{method} {path}");
        let head = head.to_ascii_lowercase();
        let is_v1 = head.contains("x-nsq-content-type: nsq; version=1.0");
        assert_eq!(is_v1, !(*path == "/ping" && *status == 200), "{method} {path}: {head}");
        if *status != 200 {
            assert!(head.contains("content-type: application/json; charset=utf-8"), "{head}");
        }
    }
    let (_, _, info) = http(target.http, "GET", "/info", b"");
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        keys(&info),
        [
            "broadcast_address",
            "hostname",
            "http_port",
            "max_deflate_level",
            "max_heartbeat_interval",
            "max_output_buffer_size",
            "max_output_buffer_timeout",
            "start_time",
            "tcp_port",
            "version"
        ]
    );
    assert_eq!(info["tcp_port"], target.tcp.port());
    assert_eq!(info["http_port"], target.http.port());
    assert_eq!(info["max_heartbeat_interval"], 60_000_000_000_u64);
    let (status, _, text) = http(target.http, "GET", "/stats", b"");
    assert!(status == 200 && text.contains("start_time "), "{text}");
}

fn http_publishing(target: &Target) {
    let mut consumer = target.consumer("http-pub", 100);
    let publish = |path: &str, body: &[u8]| {
        let (status, _, answer) = http(target.http, "POST", path, body);
        assert_eq!((status, answer.as_str()), (200, "OK"), "{path}");
    };
    publish("/pub?topic=http-pub", b"one\n");
    consumer.delivery(b"one\n", 1);
    publish("/mpub?topic=http-pub", b"two\n\nthree\r\n");
    consumer.delivery(b"two", 1);
    consumer.delivery(b"three\r", 1);
    publish("/mpub?topic=http-pub&binary=true", b"\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc");
    consumer.delivery(b"a", 1);
    consumer.delivery(b"bc", 1);
    publish("/pub?topic=http-pub&defer=60000", b"later");
    target.channel_becomes("http-pub", "deferred_count", 1);
}

fn nsq_on_the_http_port(target: &Target) {
    let (status, _, _) = http(target.http, "  V2", "", b"");
    assert_eq!(status, 400);
}
