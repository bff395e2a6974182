//! TLS of a broker, by its options: on `playcounts broker` and on the real nsqd with the same ones.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nsq_protocol::{
    Admin, Command, Compression, Consumer, ConsumerConfig, Error, Producer, ProducerConfig,
    TlsConfig, TlsVersion, TopicName,
};
use rustix::process::Signal;
use rustls::HandshakeKind;
use serde_json::{Value, json};

use crate::broker_support::{Client, Got, http, tcp};
use crate::certs::{Authority, Issued};
use crate::support::{Broker, Running, assert_exit, get, on_both_brokers_with, output, wait_until};
use crate::timing::DEADLINE;
use crate::tls_client;

/// A broker with that certificate and more options, ours and nsqd.
fn on_both(issued: &Issued, more: &[String], test: impl Fn(&Broker)) {
    let options = [&issued.args()[..], more].concat();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    on_both_brokers_with(&options, |_, broker| test(broker));
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().root_ca_file(authority.ca_file())
}

/// Sends messages through the broker; what `/stats` says of the consumer meanwhile.
fn pass(broker: &Broker, tls: &TlsConfig, compression: Compression, stats: &Admin) -> Value {
    let topic: TopicName = "tls".parse().unwrap();
    let producer = ProducerConfig::new().nsqd(broker.tcp()).tls(tls.clone());
    let producer = Producer::connect(producer.compression(compression)).unwrap();
    let consumer = ConsumerConfig::new(topic, "c#ephemeral".parse().unwrap()).nsqd(broker.tcp());
    let consumer =
        Consumer::start(consumer.tls(tls.clone()).compression(compression).max_in_flight(50));
    let consumer = consumer.unwrap();
    let sizes: Vec<usize> = (1..300).chain([16_384, 65_536, 1 << 20]).collect();
    for size in &sizes {
        producer.publish(&topic, &vec![7; *size]).unwrap();
    }
    let batches = consumer.batches();
    let mut got = Vec::new();
    while got.len() < sizes.len() {
        let batch = batches.recv_timeout(DEADLINE).unwrap();
        got.extend(batch.iter().map(|message| message.body.len()));
        batch.finish();
    }
    got.sort_unstable();
    assert_eq!(got, sizes);
    let node = serde_json::to_value(stats.stats(&Default::default()).unwrap()).unwrap();
    node["topics"][0]["channels"][0]["clients"][0].clone()
}

#[test]
fn messages_pass_over_tls_and_compression_over_it() {
    let authority = Authority::new();
    on_both(&authority.issue_local(), &[], |broker| {
        let stats = Admin::new(&broker.http());
        for (compression, flags) in [
            (Compression::None, [false, false]),
            (Compression::Snappy, [true, false]),
            (Compression::Deflate { level: 6 }, [false, true]),
        ] {
            let client = pass(broker, &trusting(&authority), compression, &stats);
            assert_eq!(client["tls"], true, "{client}");
            assert_eq!([&client["snappy"], &client["deflate"]], flags, "{client}");
        }
        // By raw sockets, and all of what is said of it.
        let session = tls_client::session("127.0.0.1", &authority.ca_file());
        let mut client = Client::encrypted(tcp(broker), session);
        client.publish("raw", b"x");
        client.sub("raw", "c");
        let all = get(&format!("http://{}/stats?format=json&topic=raw", broker.http()));
        let found = &all["topics"][0]["channels"][0]["clients"][0];
        assert_eq!([&found["tls"], &found["tls_version"]], [&json!(true), &json!("TLS1.3")]);
        assert_eq!(found["tls_negotiated_protocol_is_mutual"], true);
        client.send(Command::Rdy(1));
        let message = client.delivery(b"x", 1);
        client.finish(&message);
        // In clear it goes on for others.
        Client::connect(tcp(broker)).publish("clear", b"x");
    });
}

#[test]
fn what_comes_in_clear_is_refused_where_tls_is_required() {
    let authority = Authority::new();
    for (required, is_http_served) in [("true", false), ("tcp-https", true)] {
        let more = [format!("--tls-required={required}")];
        on_both(&authority.issue_local(), &more, |broker| {
            let publish = Command::Pub("t".parse().unwrap(), b"x");
            for (command, name) in [
                (Command::Nop, "NOP"),
                (publish, "PUB"),
                (Command::Sub("t".parse().unwrap(), "c".parse().unwrap()), "SUB"),
                (Command::Auth(b"secret"), "AUTH"),
            ] {
                let mut client = Client::identified(tcp(broker), "{}");
                client.send(command);
                client.fatal(&format!("E_INVALID cannot {name} in current state (TLS required)"));
            }
            let (status, _, body) = http(broker.http().parse().unwrap(), "GET", "/ping", b"");
            if is_http_served {
                assert_eq!((status, body.as_str()), (200, "OK"));
                pass(broker, &trusting(&authority), Compression::None, &Admin::new(&broker.http()));
                return;
            }
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["message"]), (403, &json!("TLS_REQUIRED")));
            let https = format!("https://127.0.0.1:{}", body["https_port"]);
            let admin = Admin::with_tls(&https, DEADLINE, trusting(&authority));
            admin.ping().unwrap();
            pass(broker, &trusting(&authority), Compression::Snappy, &admin);
        });
    }
}

/// Without its end, for which a client without heartbeats could have us wait for ever.
#[test]
fn a_body_in_clear_is_refused_before_it_has_come_where_tls_is_required() {
    let authority = Authority::new();
    on_both(&authority.issue_local(), &["--tls-required=true".to_owned()], |broker| {
        for (line, name) in [("MPUB t", "MPUB"), ("PUB t", "PUB"), ("DPUB t 1", "DPUB")] {
            // Of a size that cannot be, too: TLS comes first.
            for size in [1_000_000, i32::MAX, -1] {
                let mut client = Client::identified(tcp(broker), r#"{"heartbeat_interval":-1}"#);
                let head = [line.as_bytes(), b"\n", &i32::to_be_bytes(size), b"\0\0\0\x02"];
                client.raw(&head.concat());
                client.fatal(&format!("E_INVALID cannot {name} in current state (TLS required)"));
            }
        }
    });
    // What is taken in clear is small.
    let (dir, issued) = (tempfile::tempdir().unwrap(), authority.issue_local());
    let (_process, address, _) = ours(dir.path(), &issued, &["--tls-required=true"]);
    let mut client = Client::identified(address, r#"{"heartbeat_interval":-1}"#);
    client.raw(b"IDENTIFY\n\0\x01\0\x01{");
    client.fatal("E_BAD_BODY IDENTIFY body too big 65537 > 65536");
    let mut largest = Client::connect(address);
    largest.send(Command::Identify(format!("{{{}}}", " ".repeat(65_534)).as_bytes()));
    largest.ok();
}

/// How a publish by that client ends.
fn publish(broker: &Broker, tls: TlsConfig) -> Result<(), Error> {
    // A refused certificate is told behind the handshake, so that the first command may meet it.
    let config = ProducerConfig::new().nsqd(broker.tcp()).tls(tls).publish_timeout(DEADLINE);
    let producer = Producer::connect(config)?;
    Ok(producer.publish(&"t".parse().unwrap(), b"x")?)
}

#[test]
fn clients_are_taken_by_their_certificates() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let with = |issued: &Issued| trusting(&authority).client_certificate(&issued.cert, &issued.key);
    let known = with(&authority.issue("client", |_| {}));
    let stranger = with(&foreign.issue("client", |_| {}));
    let ca = format!("--tls-root-ca-file={}", authority.ca_file().display());
    for (policy, is_stranger_taken) in [("require-verify", false), ("require", true)] {
        let more = [format!("--tls-client-auth-policy={policy}"), ca.clone()];
        on_both(&authority.issue_local(), &more, |broker| {
            publish(broker, known.clone()).unwrap();
            assert_eq!(publish(broker, stranger.clone()).is_ok(), is_stranger_taken, "{policy}");
            publish(broker, trusting(&authority)).unwrap_err();
            // In clear they are not taken either, on neither port.
            let mut client = Client::connect(tcp(broker));
            client.raw(b"NOP\n");
            client.fatal("E_INVALID cannot NOP in current state (TLS required)");
            let (status, _, body) = http(broker.http().parse().unwrap(), "GET", "/stats", b"");
            assert_eq!(status, 403);
            let body: Value = serde_json::from_str(&body).unwrap();
            let https = format!("https://127.0.0.1:{}", body["https_port"]);
            let ping = |tls| Admin::with_tls(&https, DEADLINE, tls).ping();
            ping(known.clone()).unwrap();
            ping(trusting(&authority)).unwrap_err();
        });
    }
}

/// A session that is resumed asks for no certificate: one that has expired would do for ever.
#[test]
fn who_comes_again_shows_its_certificate_again() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let client = authority.issue("client", |_| {});
    for (policy, want) in [("", HandshakeKind::Resumed), ("require", HandshakeKind::Full)] {
        let policy = format!("--tls-client-auth-policy={policy}");
        let (_process, _, https) = ours(dir.path(), &authority.issue_local(), &[&policy]);
        for version in rustls::ALL_VERSIONS {
            let config = tls_client::config_of(&[version], &authority.ca_file(), Some(&client));
            let [first, again] = [(); 2].map(|()| {
                let mut stream = tls_client::connect_by(&config, https.parse().unwrap());
                let ping = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                stream.write_all(ping).unwrap();
                stream.read_to_end(&mut Vec::new()).unwrap();
                stream.conn.handshake_kind()
            });
            assert_eq!((first, again), (Some(HandshakeKind::Full), Some(want)), "{version:?}");
        }
    }
}

#[test]
fn an_old_tls_is_refused() {
    let authority = Authority::new();
    let more = ["--tls-min-version=tls1.3".to_owned()];
    on_both(&authority.issue_local(), &more, |broker| {
        publish(broker, trusting(&authority).min_version(TlsVersion::Tls13)).unwrap();
        let (mut client, _) = Client::negotiated(tcp(broker), r#""tls_v1":true"#);
        let old =
            tls_client::session_of(&rustls::version::TLS12, "127.0.0.1", &authority.ca_file());
        let error = client.encrypt(old).unwrap_err();
        assert!(error.contains("ProtocolVersion"), "{error}");
    });
    on_both(&authority.issue_local(), &[], |broker| {
        let old =
            tls_client::session_of(&rustls::version::TLS12, "127.0.0.1", &authority.ca_file());
        Client::encrypted(tcp(broker), old).publish("t", b"x");
    });
}

/// `playcounts broker` with that certificate and more options.
fn ours(dir: &Path, issued: &Issued, more: &[&str]) -> (Running, SocketAddr, String) {
    let args = ["broker", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
    let options = issued.args();
    let options = options.iter().map(String::as_str).chain(more.iter().copied());
    let args: Vec<&str> = args.into_iter().chain(options).collect();
    let mut process = Running::start(dir, &args);
    let tcp = process.wait_for("TCP: listening on ").parse().unwrap();
    let https = process.has_said("HTTPS: listening on ");
    (process, tcp, https)
}

#[test]
fn who_speaks_no_tls_behind_the_answer_is_told_so() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (_process, address, _) = ours(dir.path(), &authority.issue_local(), &[]);
    let (mut garbage, _) = Client::negotiated(address, r#""tls_v1":true"#);
    garbage.below(b"PUB t\n\0\0\0\x01x");
    // An alert, which is no frame, and behind it what a client in clear can read.
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut garbage.stream, &mut all).unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(
        all.contains("E_IDENTIFY_FAILED IDENTIFY failed TLS: received corrupt message"),
        "{all}"
    );
    // One who says nothing has 5 s, and so has one who trickles.
    let (mut silent, _) = Client::negotiated(address, r#""tls_v1":true"#);
    let (mut slow, _) = Client::negotiated(address, r#""tls_v1":true,"heartbeat_interval":-1"#);
    let began = Instant::now();
    slow.below(b"\x16\x03\x01\x10\0\x01");
    let want = "E_IDENTIFY_FAILED IDENTIFY failed no TLS handshake within 5 s";
    let answer = loop {
        slow.below(&[0]);
        match slow.next(Duration::from_millis(50)) {
            Got::Nothing => assert!(began.elapsed() < DEADLINE, "it is still open"),
            answer => break answer,
        }
    };
    assert_eq!(answer, Got::Error(want.into()));
    silent.fatal(want);
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn damaged_and_cut_tls_end_their_connection_and_publish_nothing() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (_process, address, https) = ours(dir.path(), &authority.issue_local(), &[]);
    let session = || tls_client::session("127.0.0.1", &authority.ca_file());
    let mut damaged = Client::encrypted(address, session());
    damaged.below(b"\x17\x03\x03\0\x20________________________________");
    damaged.closed();
    let mut cut = Client::encrypted(address, session());
    cut.raw(b"PUB cut\n\0\0\0\x05ab");
    cut.below(b"\x17\x03\x03\0\x20____");
    cut.stream.shutdown(std::net::Shutdown::Both).unwrap();
    Client::encrypted(address, session()).publish("t", b"x");
    let tls = trusting(&authority);
    let stats = Admin::with_tls(&format!("https://{https}"), DEADLINE, tls);
    let stats = stats.stats(&Default::default()).unwrap();
    let topics: Vec<_> = stats.topics.iter().map(|topic| topic.topic_name.as_str()).collect();
    assert_eq!(topics, ["t"]);
}

#[test]
fn a_renewed_certificate_is_read_again_and_no_connection_lost() {
    let (dir, authority, next) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let issued = authority.issue_local();
    let (process, address, https) = ours(dir.path(), &issued, &[]);
    let session = |of: &Authority| tls_client::session("127.0.0.1", &of.ca_file());
    let mut before = Client::encrypted(address, session(&authority));
    let renewed = next.issue_local();
    std::fs::copy(&renewed.cert, &issued.cert).unwrap();
    std::fs::copy(&renewed.key, &issued.key).unwrap();
    process.signal(Signal::HUP);
    let ping = || {
        let admin = Admin::with_tls(&format!("https://{https}"), DEADLINE, trusting(&next));
        admin.ping().is_ok()
    };
    wait_until("the new certificate is shown", ping);
    Client::encrypted(address, session(&next)).publish("t", b"x");
    before.publish("t", b"still here");
    // Files that cannot be used change nothing.
    std::fs::write(&issued.key, "nonsense").unwrap();
    process.signal(Signal::HUP);
    Client::encrypted(address, session(&next)).publish("t", b"x");
}

#[test]
fn no_option_of_tls_is_taken_without_its_effect() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let issued = authority.issue_local();
    let own = issued.args();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let foreign = format!("--tls-root-ca-file={}", issued.key.display());
    for (options, want) in [
        (vec!["--tls-required=true"], "without a certificate: give --tls-cert and --tls-key"),
        (vec!["--tls-client-auth-policy=require"], "needs --tls-cert and --tls-key"),
        (vec![own[0]], "--tls-cert needs --tls-key"),
        (
            [&own[..], &["--tls-client-auth-policy=require-verify"]].concat(),
            "needs --tls-root-ca-file, the authorities of your clients",
        ),
        (
            [&own[..], &["--tls-client-auth-policy=require-verify", &foreign]].concat(),
            "holds no certificate in PEM form",
        ),
    ] {
        let any = ["broker", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
        let ended = output(dir.path(), &[&any[..], &options].concat());
        assert_exit(&ended, 1);
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(stderr.contains(want), "{options:?}: {stderr}");
    }
}
