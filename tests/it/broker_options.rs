//! What nsqd's flags do beside its protocol, on the embedded broker and on a real nsqd: `/config`, statsd, times from
//! publication to FIN, and the flags themselves.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use playcounts::broker::{Broker, BrokerConfig};
use serde_json::{Value, json};

use crate::broker_support::{Client, http};
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::support::{Running, assert_exit, output, wait_until};
use crate::timing::DEADLINE;

fn config() -> BrokerConfig {
    BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: Some("127.0.0.1:0".into()),
        broadcast_address: "127.0.0.1".into(),
        ..BrokerConfig::default()
    }
}

/// Runs it against our broker, and a real nsqd with the same in its words, if there is one.
fn on_both(config: BrokerConfig, args: &[&str], check: impl Fn(SocketAddr, SocketAddr)) {
    let broker = Broker::start(config).unwrap();
    check(broker.tcp_addr(), broker.http_addr().unwrap());
    broker.shutdown();
    let Some(program) = nsqd::find() else { return };
    let args = [&["--broadcast-address=127.0.0.1"], args].concat();
    let nsqd = Nsqd::start(&program, &args);
    check(nsqd.tcp, nsqd.http);
}

fn ask(at: SocketAddr, method: &str, option: &str, body: &str) -> (u16, Value) {
    let (status, _, said) = http(at, method, &format!("/config/{option}"), body.as_bytes());
    // A text is told without quotes.
    (status, serde_json::from_str(&said).unwrap_or(Value::String(said)))
}

#[test]
fn options_are_told_and_two_of_them_changed_as_by_nsqd() {
    on_both(config(), &[], |tcp, at| {
        for (option, value) in [
            ("msg_timeout", json!(60_000_000_000_u64)),
            ("mem_queue_size", json!(10_000)),
            ("broadcast_address", json!("127.0.0.1")),
            ("nsqlookupd_tcp_addresses", json!([])),
            ("auth_http_addresses", json!([])),
            ("snappy", json!(true)),
            ("deflate", json!(true)),
            ("max_deflate_level", json!(6)),
            ("tls_required", json!(0)),
            // What is in use, where a part of it or nothing is given.
            ("broadcast_tcp_port", json!(tcp.port())),
            ("broadcast_http_port", json!(at.port())),
            ("statsd_prefix", json!(format!("nsq.127_0_0_1_{}.", at.port()))),
            ("statsd_mem_stats", json!(true)),
            ("statsd_udp_packet_size", json!(508)),
            ("e2e_processing_latency_window_time", json!(600_000_000_000_u64)),
            ("http_client_connect_timeout", json!(2_000_000_000_u64)),
        ] {
            let (status, said) = ask(at, "GET", option, "");
            assert_eq!(status, 200, "{option}");
            assert_eq!(said, value, "{option}");
        }
        assert_eq!(ask(at, "PUT", "log_level", "error"), (200, json!(4)));
        assert_eq!(ask(at, "PUT", "log_level", "WARN"), (200, json!(3)));
        assert_eq!(ask(at, "GET", "log_level", ""), (200, json!(3)));
        for (method, option, body, status, code) in [
            ("GET", "nonsense", "", 400, "INVALID_OPTION"),
            ("PUT", "nonsense", "1", 400, "INVALID_OPTION"),
            ("PUT", "msg_timeout", "1", 400, "INVALID_OPTION"),
            ("PUT", "log_level", "loud", 400, "INVALID_VALUE"),
            ("PUT", "log_level", "", 413, "INVALID_VALUE"),
            ("PUT", "nsqlookupd_tcp_addresses", "a:4160", 400, "INVALID_VALUE"),
            ("POST", "log_level", "info", 405, "METHOD_NOT_ALLOWED"),
        ] {
            let said = ask(at, method, option, body);
            assert_eq!(said, (status, json!({ "message": code })), "{method} {option} {body}");
        }
    });
}

#[test]
fn what_is_about_go_is_not_here() {
    let broker = Broker::start(config()).unwrap();
    for (method, path) in [
        ("GET", "/debug/pprof/"),
        ("GET", "/debug/pprof/heap"),
        ("GET", "/debug/pprof/profile"),
        ("PUT", "/debug/setblockrate"),
        ("POST", "/debug/freememory"),
    ] {
        assert_eq!(http(broker.http_addr().unwrap(), method, path, b"").0, 404, "{path}");
    }
}

#[test]
fn nsqlookupds_are_changed_while_it_runs() {
    let (Some(first), Some(second)) = (Nsqlookupd::start(), Nsqlookupd::start()) else { return };
    let first_given = format!("--lookupd-tcp-address={}", first.tcp);
    let with_first =
        BrokerConfig { lookupd_tcp_addresses: vec![first.tcp.to_string()], ..config() };
    on_both(with_first, &[&first_given], |_, at| {
        let knows = |lookupd: &Nsqlookupd| {
            let (_, _, said) = http(lookupd.http, "GET", "/lookup?topic=t", b"");
            said.contains(&format!("\"http_port\":{}", at.port()))
        };
        assert_eq!(http(at, "POST", "/topic/create?topic=t", b"").0, 200);
        wait_until("the first knows the topic", || knows(&first));
        let both = json!([first.tcp.to_string(), second.tcp.to_string()]);
        assert_eq!(ask(at, "PUT", "nsqlookupd_tcp_addresses", &both.to_string()), (200, both));
        wait_until("the second knows it, too", || knows(&first) && knows(&second));
        let one = json!([second.tcp.to_string()]);
        assert_eq!(
            ask(at, "PUT", "nsqlookupd_tcp_addresses", &one.to_string()),
            (200, one.clone())
        );
        wait_until("the first has forgotten it", || !knows(&first) && knows(&second));
        assert_eq!(ask(at, "GET", "nsqlookupd_tcp_addresses", ""), (200, one));
        // nsqd's own tells its nsqlookupds nothing of the topic's end where it has none.
        assert_eq!(ask(at, "PUT", "nsqlookupd_tcp_addresses", "[]"), (200, json!([])));
        wait_until("the second has, too", || !knows(&second));
    });
}

/// A topic with an ephemeral channel beside another, two messages of which are done.
fn use_it(tcp: SocketAddr, wait: Duration) {
    let mut one = Client::consumer(tcp, "t", "c", 1);
    let _short = Client::consumer(tcp, "t", "short#ephemeral", 0);
    let mut publisher = Client::connect(tcp);
    publisher.publish_many("t", &[b"x", b"yy"]);
    for _ in 0..2 {
        let message = one.message();
        std::thread::sleep(wait);
        one.finish(&message);
    }
    one.send(nsq_protocol::Command::Nop);
}

fn stats(at: SocketAddr) -> Value {
    serde_json::from_str(&http(at, "GET", "/stats?format=json", b"").2).unwrap()
}

/// What one broker tells until all has come: how many messages it counts, and the keys with their kinds.
fn told_to(daemon: &UdpSocket, prefix: &str) -> (u64, BTreeSet<String>) {
    let (mut sums, mut keys) = (0, BTreeSet::new());
    let mut packet = [0; 2000];
    let began = Instant::now();
    while sums < 2 || !keys.contains("mem.gc_runs|c") {
        assert!(began.elapsed() < 2 * DEADLINE, "{keys:?}");
        let count = daemon.recv(&mut packet).unwrap();
        assert!(count <= 200, "{count} bytes");
        for line in std::str::from_utf8(&packet[..count]).unwrap().lines() {
            // The last packets of a broker that has just ended have another.
            let Some(line) = line.strip_prefix(prefix) else { continue };
            let (key, value) = line.split_once(':').unwrap();
            let (value, kind) = value.split_once('|').unwrap();
            if key == "topic.t.message_count" {
                sums += value.parse::<u64>().unwrap();
            }
            keys.insert(format!("{key}|{kind}"));
        }
    }
    (sums, keys)
}

#[test]
fn statsd_is_told_what_nsqd_tells_it() {
    let told = std::sync::Mutex::new(Vec::new());
    for leaves_out in [false, true] {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(DEADLINE)).unwrap();
        let address = daemon.local_addr().unwrap().to_string();
        let given = BrokerConfig {
            statsd_address: Some(address.clone()),
            statsd_interval: Duration::from_secs(2),
            statsd_udp_packet_size: 200,
            statsd_exclude_ephemeral: leaves_out,
            e2e_processing_latency_percentiles: vec![1.0, 0.99],
            ..config()
        };
        let args = [
            format!("--statsd-address={address}"),
            "--statsd-interval=2s".to_owned(),
            "--statsd-udp-packet-size=200".to_owned(),
            format!("--statsd-exclude-ephemeral={leaves_out}"),
            "--e2e-processing-latency-percentile=1.0,0.99".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        on_both(given, &args, |tcp, at| {
            let prefix = format!("nsq.127_0_0_1_{}.", at.port());
            let mut short = Client::consumer(tcp, "t", "short#ephemeral", 0);
            use_it(tcp, Duration::ZERO);
            let (sums, keys) = told_to(&daemon, &prefix);
            short.send(nsq_protocol::Command::Nop);
            assert_eq!(sums, 2, "each counted once");
            assert_eq!(keys.iter().any(|key| key.contains("short#ephemeral")), !leaves_out);
            for key in [
                "topic.t.channel.c.e2e_processing_latency_99|g",
                "topic.t.e2e_processing_latency_100|g",
            ] {
                assert!(keys.contains(key), "{key} in {keys:?}");
            }
            told.lock().unwrap().push((leaves_out, keys));
        });
    }
    let told = told.into_inner().unwrap();
    for (leaves_out, keys) in &told {
        let same = told.iter().find(|(other, _)| other == leaves_out).unwrap();
        assert_eq!(keys, &same.1, "ours and nsqd's, ephemeral ones left out: {leaves_out}");
    }
}

#[test]
fn times_from_publication_to_fin_are_told_as_by_nsqd() {
    let given = BrokerConfig { e2e_processing_latency_percentiles: vec![1.0, 0.5], ..config() };
    on_both(given, &["--e2e-processing-latency-percentile=1.0,0.5"], |tcp, at| {
        use_it(tcp, Duration::from_millis(100));
        wait_until("both are counted", || {
            let topic = &stats(at)["topics"][0];
            topic["channels"][0]["e2e_processing_latency"]["count"] == 2
        });
        let topic = stats(at)["topics"][0].take();
        for of in [&topic, &topic["channels"][0]] {
            let latency = &of["e2e_processing_latency"];
            assert_eq!(latency["count"], 2, "{of}");
            let values: Vec<(f64, f64)> = latency["percentiles"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| (one["quantile"].as_f64().unwrap(), one["value"].as_f64().unwrap()))
                .collect();
            let [(first, longest), (second, middle)] = values[..] else { panic!("{latency}") };
            assert_eq!((first, second), (1.0, 0.5));
            // Told to 3.2 %.
            assert!(longest >= 0.968 * 200e6 && middle >= 0.968 * 100e6, "{latency}");
            assert!(middle <= longest && longest < DEADLINE.as_nanos() as f64, "{latency}");
        }
        let text = http(at, "GET", "/stats", b"").2;
        let line = text.lines().find(|line| line.contains("[c  ")).unwrap();
        assert!(line.contains("e2e%: ") && line.contains("ms, "), "{line}");
    });
    // Without being asked for.
    on_both(config(), &[], |tcp, at| {
        use_it(tcp, Duration::ZERO);
        let want = json!({ "count": 0, "percentiles": null });
        wait_until("it is done", || stats(at)["topics"][0]["channels"][0]["in_flight_count"] == 0);
        let topic = stats(at)["topics"][0].take();
        assert_eq!(topic["e2e_processing_latency"], want);
        assert_eq!(topic["channels"][0]["e2e_processing_latency"], want);
    });
}

/// Starts a broker with these options on ports of its own.
fn run(dir: &Path, options: &[&str]) -> Running {
    let any = ["broker", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
    Running::start(dir, &[&any[..], options].concat())
}

#[test]
fn what_an_option_lacks_is_told_and_durability_without_a_disk_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lacking = ["--sync-every=9", "--https-address=127.0.0.1:0", "--max-disk=1", "--verbose"];
    let mut broker = run(dir.path(), &lacking);
    broker.wait_for("TCP: listening on ");
    for said in [
        "--verbose: taken as nsqd takes it, and without effect here",
        "--max-disk, --sync-every: without effect, because there is no --data-path",
        "--https-address: without effect, because there is no --tls-cert",
    ] {
        broker.has_said(said);
    }
    drop(broker);
    let refused = run(dir.path(), &["--durability=power"]).wait();
    assert_exit(&refused, 1);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("--durability power needs --data-path: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_path_is_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nsqd.sock");
    for (option, other) in
        [("--tcp-address", "--http-address"), ("--http-address", "--tcp-address")]
    {
        let options = [format!("{option}={}", path.display()), format!("{other}=127.0.0.1:0")];
        let refused = output(dir.path(), &["broker", &options[0], &options[1]]);
        assert_exit(&refused, 1);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(option) && said.contains("nsqd.sock"), "{said}");
        assert!(!path.exists());
    }
}

#[test]
fn every_flag_of_nsqd_is_one_of_the_broker() {
    let Some(program) = nsqd::find() else { return };
    let help = Command::new(program).arg("-h").output().unwrap();
    let help = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
    let flags: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  -"))
        .filter_map(|line| line.split([' ', '\t']).next())
        .collect();
    assert_eq!(flags.len(), 53, "{flags:?}");
    let ours =
        Command::new(env!("CARGO_BIN_EXE_playcounts")).args(["broker", "--help"]).output().unwrap();
    let ours = String::from_utf8(ours.stdout).unwrap();
    let has = |flag: &str| {
        ours.lines().any(|line| {
            line.trim_start()
                .strip_prefix(&format!("--{flag}"))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    };
    let missing: Vec<&&str> =
        flags.iter().filter(|flag| **flag != "version" && !has(flag)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let version = Command::new(env!("CARGO_BIN_EXE_playcounts"))
        .args(["broker", "-version"])
        .output()
        .unwrap();
    // What tools of nsqd's read of its version.
    let version = String::from_utf8(version.stdout).unwrap();
    assert!(version.starts_with("nsqd v1.3.0 (built w/playcounts-"), "{version}");
}
