//! The HTTP API: statistics, the status of every call, publishing.

use nsq_protocol::Command;
use serde_json::{Value, json};

use super::Target;
use crate::broker_support::{Client, http};

/// What the memory of `/stats` holds.
const MEMORY_KEYS: [&str; 9] = [
    "gc_pause_usec_100",
    "gc_pause_usec_95",
    "gc_pause_usec_99",
    "gc_total_runs",
    "heap_idle_bytes",
    "heap_in_use_bytes",
    "heap_objects",
    "heap_released_bytes",
    "next_gc_bytes",
];

/// What a topic of `/stats` holds.
const TOPIC_KEYS: [&str; 8] = [
    "backend_depth",
    "channels",
    "depth",
    "e2e_processing_latency",
    "message_bytes",
    "message_count",
    "paused",
    "topic_name",
];

/// What a channel of `/stats` holds.
const CHANNEL_KEYS: [&str; 12] = [
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
    "timeout_count",
];

/// What `/info` holds.
const INFO_KEYS: [&str; 10] = [
    "broadcast_address",
    "hostname",
    "http_port",
    "max_deflate_level",
    "max_heartbeat_interval",
    "max_output_buffer_size",
    "max_output_buffer_timeout",
    "start_time",
    "tcp_port",
    "version",
];

/// What a client of a channel in `/stats` holds.
const CLIENT_KEYS: [&str; 20] = [
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

/// One byte more than a message may have.
const LARGE: &[u8] = &[b'x'; (1 << 20) + 1];

/// Method, path and body of calls in the order in which they are made, and the status and text of the answer.
type Call = (&'static str, &'static str, &'static [u8], u16, &'static str);

const CALLS: &[Call] = &[
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
    ("POST", "/pub?topic=codes", LARGE, 413, "MSG_TOO_BIG"),
    ("POST", "/mpub", b"a", 400, "MISSING_ARG_TOPIC"),
    ("POST", "/mpub?topic=codes", LARGE, 413, "MSG_TOO_BIG"),
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

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

pub(super) fn stats_keys(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("keys", b"a");
    let _consumer = target.consumer("keys", 0);
    let stats = target.stats("&topic=keys");
    assert_eq!(keys(&stats), ["health", "memory", "producers", "start_time", "topics", "version"]);
    assert_eq!(keys(&stats["memory"]), MEMORY_KEYS);
    assert_eq!((&stats["version"], &stats["health"]), (&json!("1.3.0"), &json!("OK")));
    let topic = &stats["topics"][0];
    assert_eq!(keys(topic), TOPIC_KEYS);
    assert_eq!(topic["e2e_processing_latency"], json!({"count": 0, "percentiles": null}));
    let channel = &topic["channels"][0];
    assert_eq!(keys(channel), CHANNEL_KEYS);
    assert_eq!(keys(&channel["clients"][0]), CLIENT_KEYS);
    let ours = producer.stream.local_addr().unwrap().to_string();
    let producers = stats["producers"].as_array().unwrap();
    let entry = producers.iter().find(|entry| entry["remote_address"] == ours.as_str()).unwrap();
    assert_eq!(entry["pub_counts"], json!([{"topic": "keys", "count": 1}]));
    assert_eq!(keys(entry).len(), CLIENT_KEYS.len() + 1);

    let lean = target.stats("&topic=keys&include_clients=false&include_mem=false");
    assert_eq!(keys(&lean), ["health", "producers", "start_time", "topics", "version"]);
    assert_eq!(lean["producers"], Value::Null);
    assert_eq!(lean["topics"][0]["channels"][0]["clients"], Value::Null);
    assert_eq!(lean["topics"][0]["channels"][0]["client_count"], 1);
    assert_eq!(target.stats("&topic=no-such")["topics"], Value::Null);
    assert_eq!(target.stats("&topic=keys&channel=no-such")["topics"], json!([]));
}

pub(super) fn stats_counters(target: &Target) {
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

pub(super) fn http_codes(target: &Target) {
    let mut producer = Client::connect(target.tcp);
    producer.publish("codes", b"a");
    for (method, path, body, status, want) in CALLS {
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
}

pub(super) fn http_info(target: &Target) {
    let (_, _, info) = http(target.http, "GET", "/info", b"");
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(keys(&info), INFO_KEYS);
    assert_eq!(info["tcp_port"], target.tcp.port());
    assert_eq!(info["http_port"], target.http.port());
    assert_eq!(info["max_heartbeat_interval"], 60_000_000_000_u64);
    let (status, _, text) = http(target.http, "GET", "/stats", b"");
    assert!(status == 200 && text.contains("start_time "), "{text}");
}

pub(super) fn http_publishing(target: &Target) {
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

pub(super) fn nsq_on_the_http_port(target: &Target) {
    let (status, _, _) = http(target.http, "  V2", "", b"");
    assert_eq!(status, 400);
}
