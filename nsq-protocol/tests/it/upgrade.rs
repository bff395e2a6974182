//! What a real nsqd does not do on demand: declines, stalls, lies and damage on the way to TLS, compression and
//! AUTH, by a scripted fake. What goes wrong inside compression is in `compression`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::{Compression, ConsumerConfig, Error, Frame, MessageRef, TlsConfig, TlsVersion};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certs::Authority;
use crate::compression::{DEFLATE, IDENTIFIER, SNAPPY, chunk, with};
use crate::script::{Peer, Script, beside, config, frame, id, start};
use crate::timing::DEADLINE;

/// As long as a test likes to wait for a limit to pass.
const SHORT: Duration = Duration::from_millis(300);

const TLS: &[u8] = br#"{"max_rdy_count":2500,"tls_v1":true}"#;
const TLS_AUTH: &[u8] = br#"{"max_rdy_count":2500,"tls_v1":true,"auth_required":true}"#;

fn with_tls(tls: TlsConfig) -> ConsumerConfig {
    config().tls(tls).auth_secret("open sesame")
}

/// How a consumer ends whose nsqd does `play`.
fn refused(config: ConsumerConfig, play: impl FnOnce(Peer)) -> Error {
    let script = Script::listen();
    let consumer = start(config.nsqd(script.addr()));
    play(script.accept());
    // Its first connection is all that it is judged by.
    drop(script);
    consumer.join().expect_err("a consumer of this nsqd")
}

fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", text(source)),
        None => error.to_string(),
    }
}

/// nsqd's side of TLS.
struct TlsPeer {
    stream: StreamOwned<ServerConnection, TcpStream>,
}

impl TlsPeer {
    fn new(
        stream: TcpStream,
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let issued = authority.issue_local();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&issued.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&issued.key).unwrap(),
            )
            .unwrap();
        let server = ServerConnection::new(Arc::new(config)).unwrap();
        Self { stream: StreamOwned::new(server, stream) }
    }

    /// After IDENTIFY and the handshake.
    fn accept(
        script: &Script,
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        answer: &[u8],
    ) -> Self {
        let mut peer = script.accept();
        assert!(peer.identify().tls_v1);
        peer.respond(answer);
        Self::new(peer.into_stream(), authority, versions)
    }

    #[track_caller]
    fn expect(&mut self, want: &[u8]) {
        let mut got = vec![0; want.len()];
        self.stream.read_exact(&mut got).unwrap();
        assert_eq!(got.escape_ascii().to_string(), want.escape_ascii().to_string());
    }

    fn frame(&mut self, frame: Frame<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.stream.write_all(&wire).unwrap();
        self.stream.flush().unwrap();
    }

    fn message(&mut self, number: u64, body: &[u8]) {
        let message = MessageRef { timestamp_ns: 7, attempts: 1, id: id(number), body, skipped: 0 };
        self.frame(Frame::Message(message));
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn tls_that_is_declined_ends_the_connection_with_nothing_more_sent() {
    // Also with a secret at hand and asked for, and by an nsqd without negotiation.
    for answer in [
        &br#"{"tls_v1":false,"auth_required":true}"#[..],
        br#"{"auth_required":true}"#,
        br#"{"snappy":true,"tls_v1":false}"#,
        b"OK",
    ] {
        let config = with_tls(TlsConfig::new()).compression(Compression::Snappy);
        let error = refused(config, |mut peer| {
            assert!(peer.identify().tls_v1);
            peer.respond(answer);
            peer.expect_end();
        });
        assert!(matches!(error, Error::TlsDeclined { .. }), "{error:?}");
    }
}

#[test]
fn what_was_not_asked_for_is_refused() {
    for answer in [TLS, SNAPPY, DEFLATE] {
        let error = refused(config(), |mut peer| {
            peer.identify();
            peer.respond(answer);
            peer.expect_end();
        });
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    }
    let error = refused(with(Compression::Snappy), |mut peer| {
        let request = peer.identify();
        assert!(request.snappy && !request.deflate && !request.tls_v1);
        peer.respond(DEFLATE);
        peer.expect_end();
    });
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

/// Whatever goes wrong with TLS, the secret must not be among what was sent.
#[track_caller]
fn check_handshake(tls: TlsConfig, play: impl FnOnce(&mut TcpStream), want: &str) {
    let config = with_tls(tls).handshake_timeout(SHORT);
    let began = Instant::now();
    let error = refused(config, |mut peer| {
        peer.identify();
        peer.respond(TLS_AUTH);
        let mut stream = peer.into_stream();
        play(&mut stream);
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.windows(6).any(|bytes| bytes == b"sesame"), "{}", rest.escape_ascii());
    });
    let error = text(&error);
    assert!(error.contains(want), "{error}, not {want}");
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
}

#[test]
fn a_handshake_that_stalls_or_fails_ends_in_time() {
    let check = |play: fn(&mut TcpStream), want| check_handshake(TlsConfig::new(), play, want);
    check(|_| {}, "the TLS handshake with 127.0.0.1");
    check(|stream| drop(stream.shutdown(std::net::Shutdown::Both)), "closed the connection");
    // In clear after all.
    let plain = |stream: &mut TcpStream| stream.write_all(b"\0\0\0\x06\0\0\0\0OK").unwrap();
    check(plain, "TLS with 127.0.0.1");
    // An alert: protocol version. Then a server that knows TLS 1.0 only: its hello says so.
    check(|stream| stream.write_all(b"\x15\x03\x01\0\x02\x02\x46").unwrap(), "ProtocolVersion");
    let tls_1_0 = |stream: &mut TcpStream| {
        let mut hello = b"\x16\x03\x01\0\x2a\x02\0\0\x26\x03\x01".to_vec();
        hello.extend_from_slice(&[7; 32]);
        hello.extend_from_slice(b"\0\x00\x2f\0");
        stream.write_all(&hello).unwrap();
    };
    check(tls_1_0, "TLS with 127.0.0.1");
    // Handshake bytes that never end.
    let trickle = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"\x16\x03\x03\x40\0");
        while stream.write_all(b"\0").is_ok() {
            let mut one = [0];
            let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
            match stream.read(&mut one) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    check(trickle, "127.0.0.1");
}

#[test]
fn an_older_version_than_the_minimum_is_refused() {
    let authority = Authority::new();
    let tls = TlsConfig::new().root_ca_file(authority.ca_file());
    let tls_1_2 = |stream: &mut TcpStream| {
        let stream = stream.try_clone().unwrap();
        let mut peer = TlsPeer::new(stream, &authority, &[&rustls::version::TLS12]);
        peer.stream.read_exact(&mut [0]).unwrap_err();
    };
    check_handshake(tls.clone().min_version(TlsVersion::Tls13), tls_1_2, "ProtocolVersion");
}

#[test]
fn an_ok_that_does_not_come_inside_tls_is_not_waited_for_long() {
    let authority = Authority::new();
    let tls = TlsConfig::new().root_ca_file(authority.ca_file());
    let silent = |stream: &mut TcpStream| {
        let stream = stream.try_clone().unwrap();
        let mut peer = TlsPeer::new(stream, &authority, BOTH);
        // The handshake, then the end, orderly or not, but no command.
        assert!(!peer.stream.read(&mut [0]).is_ok_and(|count| count > 0));
    };
    check_handshake(tls, silent, "waiting for OK inside TLS from");
}

/// AUTH behind everything, in either version; keys changed under way; an orderly end said inside TLS.
#[test]
fn a_whole_life_inside_tls() {
    let authority = Authority::new();
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let script = Script::listen();
        let tls = TlsConfig::new().root_ca_file(authority.ca_file());
        let config = with_tls(tls).nsqd(script.addr()).max_in_flight(10);
        let consumer = start(config);
        let mut peer = TlsPeer::accept(&script, &authority, versions, TLS_AUTH);
        peer.frame(Frame::Response(b"OK"));
        peer.expect(b"AUTH\n\0\0\0\x0bopen sesame");
        peer.frame(Frame::Response(br#"{"identity":"me","identity_url":"","permission_count":2}"#));
        peer.expect(b"SUB t c\n");
        peer.frame(Frame::Response(b"OK"));
        let consumer = consumer.join().unwrap();
        peer.expect(b"RDY 10\n");
        for number in 1..4 {
            if versions[0].version == rustls::ProtocolVersion::TLSv1_3 {
                peer.stream.conn.refresh_traffic_keys().unwrap();
            }
            peer.message(number, &[7; 100_000]);
            consumer.batches().recv_timeout(DEADLINE).unwrap().finish();
            peer.expect(format!("FIN {}\n", id(number)).as_bytes());
            peer.frame(Frame::Response(b"_heartbeat_"));
            peer.expect(b"NOP\n");
        }
        let stopping = beside(move || consumer.shutdown());
        peer.expect(b"CLS\n");
        peer.frame(Frame::Response(b"CLOSE_WAIT"));
        // Without a close_notify this would be an error.
        let mut rest = Vec::new();
        peer.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        drop(peer);
        assert_eq!(stopping.join().connections[0].last_error, None);
    }
}

#[test]
fn a_silent_peer_inside_tls_is_given_up_after_two_heartbeats() {
    let (authority, script) = (Authority::new(), Script::listen());
    let config = with_tls(TlsConfig::new().root_ca_file(authority.ca_file()))
        .heartbeat_interval(Duration::from_secs(1));
    let consumer = start(config.nsqd(script.addr()));
    let subscribed = || {
        let mut peer = TlsPeer::accept(&script, &authority, BOTH, TLS);
        peer.frame(Frame::Response(b"OK"));
        peer.expect(b"SUB t c\n");
        peer.frame(Frame::Response(b"OK"));
        peer.expect(b"RDY 2500\n");
        peer
    };
    let first = subscribed();
    let began = Instant::now();
    let consumer = consumer.join().unwrap();
    let _second = subscribed();
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
    let last = consumer.stats().connections[0].last_error.clone().unwrap();
    assert!(last.contains("waiting for a heartbeat"), "{last}");
    drop(first);
    consumer.stop_within(Duration::ZERO);
}

#[test]
fn a_record_that_was_tampered_with_ends_the_connection() {
    let (authority, script) = (Authority::new(), Script::listen());
    let config = with_tls(TlsConfig::new().root_ca_file(authority.ca_file()));
    let consumer = start(config.nsqd(script.addr()).max_in_flight(1));
    let mut peer = TlsPeer::accept(&script, &authority, BOTH, TLS);
    peer.frame(Frame::Response(b"OK"));
    peer.expect(b"SUB t c\n");
    peer.frame(Frame::Response(b"OK"));
    peer.expect(b"RDY 1\n");
    let consumer = consumer.join().unwrap();
    peer.stream.sock.write_all(b"\x17\x03\x03\0\x20then some thirty-two bytes of noise").unwrap();
    // The next connection; held, so that its end is not the last error.
    let _next = script.accept();
    let last = consumer.stats().connections[0].last_error.clone().unwrap();
    assert!(last.contains("TLS with") && last.contains("decrypt"), "{last}");
    consumer.stop_within(Duration::ZERO);
}

#[test]
fn compression_inside_tls_and_auth_inside_both() {
    let (authority, script) = (Authority::new(), Script::listen());
    let config = with_tls(TlsConfig::new().root_ca_file(authority.ca_file()))
        .compression(Compression::Snappy);
    let consumer = start(config.nsqd(script.addr()).max_in_flight(10));
    let answer = br#"{"tls_v1":true,"snappy":true,"auth_required":true}"#;
    let mut peer = TlsPeer::accept(&script, &authority, BOTH, answer);
    peer.frame(Frame::Response(b"OK"));
    let ok = chunk(&frame(Frame::Response(b"OK")));
    peer.stream.write_all(&[IDENTIFIER, &ok].concat()).unwrap();
    peer.expect(&[IDENTIFIER, &chunk(b"AUTH\n\0\0\0\x0bopen sesame")].concat());
    let identity = Frame::Response(br#"{"identity":"","identity_url":"","permission_count":1}"#);
    peer.stream.write_all(&chunk(&frame(identity))).unwrap();
    peer.expect(&chunk(b"SUB t c\n"));
    peer.stream.write_all(&ok).unwrap();
    peer.expect(&chunk(b"RDY 10\n"));
    consumer.join().unwrap().stop_within(Duration::ZERO);
}

#[test]
fn a_missing_secret_and_an_answer_that_is_none_are_told() {
    let auth = br#"{"auth_required":true}"#;
    let error = refused(config(), |mut peer| {
        peer.identify();
        peer.respond(auth);
        peer.expect_end();
    });
    assert!(matches!(error, Error::AuthRequired { .. }), "{error:?}");
    let config = config().auth_secret("open sesame");
    let error = refused(config, |mut peer| {
        peer.identify();
        peer.respond(auth);
        peer.expect(b"AUTH\n\0\0\0\x0bopen sesame");
        peer.respond(b"OK");
        peer.expect_end();
    });
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    assert!(!format!("{} {error:?}", text(&error)).contains("sesame"), "{error:?}");
}

#[test]
fn everything_asked_for_is_in_identify() {
    let config = config()
        .sample_rate(42)
        .msg_timeout(Duration::from_secs(7))
        .client_id("id")
        .hostname("host")
        .user_agent("agent/1")
        .heartbeat_interval(Duration::from_secs(9))
        .output_buffer_size(65_536)
        .output_buffer_timeout(Duration::from_millis(25))
        .topology_region("region")
        .topology_zone("zone")
        .compression(Compression::Deflate { level: 3 })
        .tls(TlsConfig::new());
    let error = refused(config, |mut peer| {
        let request = serde_json::to_value(peer.identify()).unwrap();
        let want = serde_json::json!({
            "client_id": "id", "hostname": "host", "user_agent": "agent/1",
            "feature_negotiation": true, "heartbeat_interval": 9000,
            "output_buffer_size": 65536, "output_buffer_timeout": 25,
            "tls_v1": true, "deflate": true, "deflate_level": 3, "sample_rate": 42,
            "msg_timeout": 7000, "topology_region": "region", "topology_zone": "zone",
        });
        assert_eq!(request, want);
        peer.error(b"E_BAD_BODY no");
    });
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}
