//! TLS, compression and AUTH with a real nsqd: everything that a connection can be, publishing and consuming.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nsq_protocol::{
    Admin, BodiesBuf, Compression, ConnectionConfig, Consumer, Error, ErrorCode, Producer,
    StatsFilter, TlsConfig, TlsVersion, TopicName,
};

use crate::certs::{Authority, Issued};
use crate::nsqd::{Nsqd, find, nsqd_or_skip};
use crate::proxy::{Proxy, Toxic};
use crate::script::{beside, config, producer_config};
use crate::timing::{DEADLINE, check_takes_less};

/// Shorter than a heartbeat, which would bring a stalled connection to life again.
const SOON: Duration = Duration::from_secs(12);

pub(crate) fn topic() -> TopicName {
    "t".parse().unwrap()
}

/// An nsqd with these arguments, or none.
pub(crate) fn nsqd(args: &[String]) -> Option<Nsqd> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    find().map(|program| Nsqd::start(&program, &args))
}

/// One body that compresses and one that does not, of each size that once stalled or broke a client.
fn bodies() -> Vec<Vec<u8>> {
    let sizes = [1, (32 << 10) - 1, 32 << 10, (32 << 10) + 1, (64 << 10) - 1, 64 << 10];
    let larger = [(64 << 10) + 1, 1 << 20];
    let mut state = 1u64;
    let mut noise = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut all = Vec::new();
    for size in sizes.into_iter().chain(larger) {
        all.push((0..size).map(|index: usize| (index % 251) as u8).collect());
        all.push((0..size).map(&mut noise).collect());
    }
    all
}

/// Publishes every body alone and all small ones at once, and consumes them; gives the two connections as nsqd
/// sees them: (tls, snappy, deflate).
pub(crate) fn round_trip(
    nsqd: &Nsqd,
    change: impl Fn(ConnectionConfig) -> ConnectionConfig,
) -> [(bool, bool, bool); 2] {
    let to = producer_config().nsqd(nsqd.addr());
    let connection = change(to.get_connection().clone());
    let to = to.connection(connection);
    let producer = Producer::connect(to).unwrap();
    let from = config().nsqd(nsqd.addr());
    let connection = change(from.get_connection().clone());
    let from = from.connection(connection);
    let consumer = Consumer::start(from).unwrap();
    let bodies = bodies();
    let mut many = BodiesBuf::new();
    let mut missing = Vec::new();
    for body in &bodies {
        producer.publish(&topic(), body).unwrap();
        missing.push(&body[..]);
        if body.len() < 1 << 20 {
            many.push(body);
            missing.push(body);
        }
    }
    producer.publish_many(&topic(), &many).unwrap();
    let batches = consumer.batches();
    while !missing.is_empty() {
        let batch = batches.recv_timeout(SOON).expect("all that nsqd has sent, at once");
        for message in &batch {
            let at = missing.iter().position(|body| *body == message.body);
            missing.swap_remove(at.expect("a body that was published"));
        }
        batch.finish();
    }
    let admin = Admin::new(&nsqd.http_addr());
    let stats = admin.stats(&StatsFilter::default()).unwrap();
    let channel = stats.channel(&topic(), &"c".parse().unwrap()).unwrap();
    let seen = [&channel.clients[0], &stats.producers[0]].map(|c| (c.tls, c.snappy, c.deflate));
    let stats = consumer.shutdown();
    let connection = &stats.connections[0];
    assert_eq!((connection.reconnects, connection.failed_finishes), (0, 0), "{connection:?}");
    producer.close(DEADLINE).unwrap();
    seen
}

/// What a connection with these features looks like to nsqd, on both sides.
#[track_caller]
fn check(tls: bool, compression: Compression) {
    let authority = Authority::new();
    let Some(nsqd) = nsqd(&authority.issue_local().args()) else { return };
    let seen = round_trip(&nsqd, |connection| {
        let trusting = tls.then(|| TlsConfig::new().root_ca_file(authority.ca_file()));
        connection.compression(compression).tls(trusting)
    });
    let want = (
        tls,
        compression == Compression::Snappy,
        matches!(compression, Compression::Deflate { .. }),
    );
    assert_eq!(seen, [want, want]);
}

#[test]
fn plain() {
    check(false, Compression::None);
}

#[test]
fn tls() {
    check(true, Compression::None);
}

#[test]
fn snappy() {
    check(false, Compression::Snappy);
}

#[test]
fn deflate() {
    check(false, Compression::Deflate { level: 6 });
}

#[test]
fn tls_and_snappy() {
    check(true, Compression::Snappy);
}

#[test]
fn tls_and_deflate() {
    check(true, Compression::Deflate { level: 1 });
}

#[test]
fn a_client_certificate_with_a_key_of_each_format() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let mut args = authority.issue_local().args().to_vec();
    args.push("--tls-client-auth-policy=require-verify".to_owned());
    // Which implies `--tls-required`, also for the statistics.
    args.push("--tls-required=tcp-https".to_owned());
    args.push(format!("--tls-root-ca-file={}", authority.ca_file().display()));
    let Some(nsqd) = nsqd(&args) else { return };
    let tls = |client: &Issued| {
        let tls = TlsConfig::new().root_ca_file(authority.ca_file());
        tls.client_certificate(&client.cert, &client.key)
    };
    let seen =
        round_trip(&nsqd, |connection| connection.tls(tls(&authority.issue("client", |_| {}))));
    assert_eq!(seen, [(true, false, false); 2]);
    for (client, min_version) in [
        (authority.issue_rsa(false), TlsVersion::Tls12),
        (authority.issue_rsa(true), TlsVersion::Tls13),
    ] {
        connect_to(&nsqd, tls(&client).min_version(min_version)).unwrap();
    }
    // None, and one that somebody else signed.
    for tls in
        [TlsConfig::new().root_ca_file(authority.ca_file()), tls(&foreign.issue("client", |_| {}))]
    {
        let error = connect_to(&nsqd, tls).unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(lines(&error).contains("received fatal alert"), "{}", lines(&error));
    }
}

fn connect_to(nsqd: &Nsqd, tls: TlsConfig) -> Result<(), Error> {
    let config = producer_config().nsqd(nsqd.addr()).tls(tls);
    Producer::connect(config).map(|producer| producer.close(DEADLINE).unwrap())
}

/// The error with its sources.
pub(crate) fn lines(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", lines(source)),
        None => error.to_string(),
    }
}

#[test]
fn a_certificate_that_is_not_to_be_trusted_is_not() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let trusting = |ca: &Authority| TlsConfig::new().root_ca_file(ca.ca_file());
    let check = |nsqd: &Nsqd, tls: TlsConfig, want: &str| {
        let error = connect_to(nsqd, tls).expect_err(want);
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(lines(&error).contains(want), "{}, not {want}", lines(&error));
    };
    let Some(good) = nsqd(&authority.issue_local().args()) else { return };
    check(&good, trusting(&foreign), "give the certificate authority that signed its certificate");
    check(&good, TlsConfig::new(), "invalid peer certificate: UnknownIssuer");
    check(&good, trusting(&authority).server_name("nsqd.example"), "server name");
    connect_to(&good, trusting(&foreign).root_ca_file(authority.ca_file())).unwrap();
    connect_to(&good, TlsConfig::new().dangerous_accept_any_certificate()).unwrap();

    let expired = nsqd(&authority.issue_expired().args()).unwrap();
    check(&expired, trusting(&authority), "certificate expired");
    connect_to(&expired, TlsConfig::new().dangerous_accept_any_certificate()).unwrap();

    let named = nsqd(&authority.issue("nsqd.example", |_| {}).args()).unwrap();
    check(&named, trusting(&authority), "not valid for name \"127.0.0.1\"");
    connect_to(&named, trusting(&authority).server_name("nsqd.example")).unwrap();
}

#[test]
fn a_self_signed_certificate_is_for_a_server_or_for_an_authority() {
    let authority = Authority::new();
    let server = authority.self_signed(false);
    let Some(nsqd_of_server) = nsqd(&server.args()) else { return };
    connect_to(&nsqd_of_server, TlsConfig::new().root_ca_file(&server.cert)).unwrap();
    let ca = authority.self_signed(true);
    let nsqd_of_ca = nsqd(&ca.args()).unwrap();
    let error = connect_to(&nsqd_of_ca, TlsConfig::new().root_ca_file(&ca.cert)).unwrap_err();
    assert!(error.to_string().contains("(CA:TRUE), which no server may use"), "{}", lines(&error));
}

#[test]
fn versions_of_tls() {
    let authority = Authority::new();
    let mut args = authority.issue_local().args().to_vec();
    args.push("--tls-min-version=tls1.3".to_owned());
    let Some(nsqd) = nsqd(&args) else { return };
    let tls = TlsConfig::new().root_ca_file(authority.ca_file());
    connect_to(&nsqd, tls.clone()).unwrap();
    connect_to(&nsqd, tls.min_version(TlsVersion::Tls13)).unwrap();
}

#[test]
fn tls_that_nsqd_demands_or_has_not() {
    let authority = Authority::new();
    let mut args = authority.issue_local().args().to_vec();
    args.push("--tls-required=true".to_owned());
    let Some(demanding) = nsqd(&args) else { return };
    let producer = Producer::connect(producer_config().nsqd(demanding.addr())).unwrap();
    let error = producer.publish(&topic(), b"x").unwrap_err();
    assert!(lines(&error).contains("TLS required"), "{}", lines(&error));
    connect_to(&demanding, TlsConfig::new().root_ca_file(authority.ca_file())).unwrap();

    let without = nsqd(&[]).unwrap();
    let error = connect_to(&without, TlsConfig::new()).unwrap_err();
    assert!(matches!(error, Error::TlsDeclined { .. }), "{error:?}");
    assert!(error.to_string().contains("offers no TLS"), "{error}");
}

#[test]
fn compression_that_nsqd_has_not_is_done_without() {
    let nsqd = nsqd_or_skip!("--snappy=false", "--deflate=false");
    for compression in [Compression::Snappy, Compression::Deflate { level: 3 }] {
        let seen = round_trip(&nsqd, |connection| connection.compression(compression));
        assert_eq!(seen, [(false, false, false); 2]);
    }
}

/// A decompressor may hold a message back until more bytes come: a client that waits for the socket alone then has it,
/// and hands it on to nobody. All here get one message, then none, and the next heartbeat is further away than the test
/// waits.
#[test]
fn no_connection_keeps_a_message_to_itself() {
    let nsqd = nsqd_or_skip!();
    let compressions = [(Compression::Deflate { level: 6 }, 100), (Compression::Snappy, 20)];
    for (number, (compression, connections)) in compressions.into_iter().enumerate() {
        let topic: TopicName = format!("stall{number}").parse().unwrap();
        let to = producer_config().nsqd(nsqd.addr()).compression(compression);
        let producer = Producer::connect(to).unwrap();
        let consumers: Vec<_> = (0..connections)
            .map(|number| {
                let mut config = config()
                    .nsqd(nsqd.addr())
                    .max_in_flight(1)
                    .topic(topic)
                    .channel(format!("c{number}").parse().unwrap())
                    .compression(compression);
                // Quicker than nsqd's 250 ms.
                config = config.output_buffer_timeout(Duration::from_millis(25));
                Consumer::start(config).unwrap()
            })
            .collect();
        // A run of one byte is a few bytes on the wire: a decoder has read all of them long before it could write
        // all that they stand for, and nothing more comes to remind it.
        let sizes = [32 << 10, 64 << 10, (64 << 10) + 1, 100_000];
        for (index, len) in sizes.into_iter().enumerate() {
            let period = if index % 2 == 0 { 253 } else { 1 };
            let body: Vec<u8> = (0..len).map(|index| (index % period) as u8).collect();
            producer.publish(&topic, &body).unwrap();
            for (number, consumer) in consumers.iter().enumerate() {
                let batch = consumer.batches().recv_timeout(SOON);
                let batch = batch.unwrap_or_else(|_| panic!("consumer {number}, {len} bytes"));
                assert!(batch.iter().next().unwrap().body == body);
                batch.finish();
            }
        }
        consumers.into_iter().for_each(|consumer| drop(consumer.shutdown()));
    }
}

/// Both directions at once: neither a reader that waits nor one that decrypts keeps the writer from writing.
#[test]
fn load_in_both_directions_over_tls_and_compression() {
    let authority = Authority::new();
    let Some(nsqd) = nsqd(&authority.issue_local().args()) else { return };
    for compression in [Compression::None, Compression::Snappy, Compression::Deflate { level: 1 }] {
        let tls = TlsConfig::new().root_ca_file(authority.ca_file());
        let secure = config().get_connection().clone().tls(tls).compression(compression);
        let from = config().nsqd(nsqd.addr()).connection(secure.clone());
        let consumer = Consumer::start(from).unwrap();
        let to = producer_config().nsqd(nsqd.addr()).connection(secure.clone());
        let publishing = beside(move || {
            let producer = Producer::connect(to).unwrap();
            let receipts: Vec<_> = (0..10_000u32)
                .map(|number| producer.submit(&topic(), number.to_be_bytes().to_vec()).unwrap())
                .collect();
            receipts.into_iter().for_each(|receipt| drop(receipt.wait().unwrap()));
            producer.close(DEADLINE).unwrap();
        });
        let mut seen = 0;
        while seen < 10_000 {
            let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
            seen += batch.len();
            batch.finish();
        }
        publishing.join();
        let stats = consumer.shutdown();
        let connection = &stats.connections[0];
        assert_eq!((connection.finished, connection.reconnects), (10_000, 0), "{connection:?}");
    }
}

/// Layers that get their bytes one at a time give the same as those that get all at once.
#[test]
fn a_byte_at_a_time_through_every_layer() {
    let authority = Authority::new();
    let Some(nsqd) = nsqd(&authority.issue_local().args()) else { return };
    let bodies: Vec<Vec<u8>> =
        [1, 300, 20_000].map(|len| bodies().pop().unwrap()[..len].into()).into();
    for (number, compression) in
        [Compression::Snappy, Compression::Deflate { level: 6 }].into_iter().enumerate()
    {
        let proxy = Proxy::start(nsqd.tcp, Toxic::Slice, number as u64);
        let tls = TlsConfig::new().root_ca_file(authority.ca_file());
        let secure = config().get_connection().clone().tls(tls).compression(compression);
        let (mut to, mut from) =
            (producer_config().nsqd(proxy.addr()), config().nsqd(proxy.addr()));
        to = to.connection(secure.clone());
        from = from.connection(secure.clone());
        let consumer = Consumer::start(from).unwrap();
        let producer = Producer::connect(to).unwrap();
        for body in &bodies {
            producer.publish(&topic(), body).unwrap();
            let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
            assert!(batch.iter().next().unwrap().body == body);
            batch.finish();
        }
        let stats = consumer.shutdown();
        assert_eq!((stats.connections[0].finished, stats.connections[0].reconnects), (3, 0));
        producer.close(DEADLINE).unwrap();
    }
}

/// Connections that end in the middle of a record or a chunk, again and again: what was acknowledged arrives.
#[test]
fn cuts_and_resets_inside_tls_and_compression_lose_nothing() {
    let authority = Authority::new();
    let Some(nsqd) = nsqd(&authority.issue_local().args()) else { return };
    let toxics = [Toxic::Cut(20_000..50_000), Toxic::Reset(20_000..50_000)];
    let compressions = [Compression::None, Compression::Snappy, Compression::Deflate { level: 1 }];
    let check = |number: usize, compression| {
        let proxy = Proxy::start(nsqd.tcp, toxics[number % 2].clone(), number as u64);
        let tls = TlsConfig::new().root_ca_file(authority.ca_file());
        let secure = config().get_connection().clone().tls(tls).compression(compression);
        let topic: TopicName = format!("cut{number}").parse().unwrap();
        let (mut to, mut from) =
            (producer_config().nsqd(proxy.addr()), config().nsqd(proxy.addr()));
        from = from.topic(topic).msg_timeout(Duration::from_secs(1));
        to = to.connection(secure.clone());
        from = from.connection(secure.clone());
        let publishing = beside(move || {
            let producer = Producer::connect(to).unwrap();
            let noise = bodies().pop().unwrap();
            for number in 0..60u32 {
                let start = number as usize * 1000;
                let body = [&number.to_be_bytes()[..], &noise[start..start + 1000]].concat();
                producer.publish(&topic, &body).unwrap();
            }
            producer.close(DEADLINE).unwrap();
        });
        let consumer = Consumer::start(from).unwrap();
        let mut missing: std::collections::BTreeSet<u32> = (0..60).collect();
        while !missing.is_empty() {
            let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
            for message in &batch {
                missing.remove(&u32::from_be_bytes(*message.body.first_chunk().unwrap()));
            }
            batch.finish();
        }
        publishing.join();
        assert!(consumer.stats().connections[0].reconnects > 0, "the proxy cut nothing");
        drop(consumer);
    };
    // Side by side: nsqd looks for timed out messages of a new channel only after some seconds.
    std::thread::scope(|scope| {
        for (number, compression) in compressions.into_iter().enumerate() {
            let check = &check;
            scope.spawn(move || check(number, compression));
        }
    });
}

#[test]
fn what_identify_says_reaches_nsqd_and_is_done() {
    let nsqd = nsqd_or_skip!();
    let config = config()
        .nsqd(nsqd.addr())
        .sample_rate(42)
        .msg_timeout(Duration::from_millis(1500))
        .client_id("the client")
        .hostname("the host")
        .user_agent("the agent/1")
        .heartbeat_interval(Duration::from_secs(1))
        .output_buffer_size(4096)
        .output_buffer_timeout(Duration::from_millis(25));
    let consumer = Consumer::start(config.clone()).unwrap();
    // The keys that `Admin` does not read, too.
    let mut http = TcpStream::connect(nsqd.http_addr()).unwrap();
    http.write_all(b"GET /stats?format=json HTTP/1.0\r\n\r\n").unwrap();
    let stats = std::io::read_to_string(http).unwrap();
    for want in [
        r#""client_id":"the client""#,
        r#""hostname":"the host""#,
        r#""user_agent":"the agent/1""#,
        r#""sample_rate":42"#,
    ] {
        assert!(stats.contains(want), "{want} is not in {stats}");
    }
    drop(consumer.shutdown());
    // nsqd has its own limits, and its words reach the user.
    for (config, want) in [
        (
            config.clone().output_buffer_timeout(Duration::from_millis(1)),
            "IDENTIFY output buffer timeout (1) is invalid",
        ),
        (config.clone().output_buffer_size(1), "IDENTIFY output buffer size (1) is invalid"),
    ] {
        match Consumer::start(config).unwrap_err() {
            Error::Refused { command: "IDENTIFY", code: ErrorCode::BadBody, detail, .. } => {
                assert_eq!(detail, want);
            }
            error => panic!("{error:?}"),
        }
    }
}

/// nsqd keeps a message, with more room in RDY and in its buffer, until its timer.
#[test]
fn the_output_buffer_timeout_is_what_was_asked_for() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let waits = |timeout: Duration| {
        let config = config()
            .nsqd(nsqd.addr())
            .channel(format!("c{}", timeout.as_millis()).parse().unwrap())
            .output_buffer_timeout(timeout);
        let consumer = Consumer::start(config).unwrap();
        let began = Instant::now();
        producer.publish(&topic(), b"x").unwrap();
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        batch.finish();
        drop(consumer.shutdown());
        began.elapsed()
    };
    let long = waits(Duration::from_secs(2));
    assert!(long > Duration::from_millis(500), "{long:?}");
    check_takes_less(long.min(Duration::from_secs(1)), || waits(Duration::from_millis(25)));
}
