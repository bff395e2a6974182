//! AUTH with a real nsqd and a small authentication server.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{Compression, Consumer, Error, ErrorCode, Producer, PublishError, TlsConfig};

use crate::certs::Authority;
use crate::features::{lines, nsqd, round_trip, topic};
use crate::logged::Logged;
use crate::nsqd::nsqd_or_skip;
use crate::script::{config, producer_config};
use crate::timing::DEADLINE;

/// A small authentication server: `secret` in the query decides.
struct AuthServer {
    addr: String,
    asked: Arc<Mutex<Vec<String>>>,
    _thread: OwnedThread<()>,
    // Dropped before the thread is joined: see `Drop`.
}

impl AuthServer {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let thread = OwnedThread::spawn("auth", move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request = lines.next().and_then(Result::ok).unwrap_or_default();
                if request == "END" {
                    return;
                }
                // Up to the empty line, or closing would reset the connection.
                lines.map_while(Result::ok).find(String::is_empty);
                let (status, body) = match request.contains("secret=open+sesame") {
                    true => ("200 OK", answer),
                    false => ("403 Forbidden", "{}"),
                };
                seen.lock().unwrap().push(request);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        })
        .unwrap();
        Self { addr, asked, _thread: thread }
    }

    fn arg(&self) -> String {
        format!("--auth-http-address={}", self.addr)
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(&self.addr) {
            let _ = stream.write_all(b"END\n");
        }
    }
}

const EVERYTHING: &str = r#"{"ttl":3600,"identity":"me","identity_url":"","authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;
const SUBSCRIBE: &str = r#"{"ttl":3600,"identity":"me","identity_url":"","authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe"]}]}"#;
const NOTHING: &str = r#"{"ttl":3600,"identity":"me","identity_url":"","authorizations":[]}"#;
const TTL_0: &str = r#"{"ttl":0,"identity":"me","identity_url":"","authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;
const BAD_REGEX: &str = r#"{"ttl":3600,"identity":"me","identity_url":"","authorizations":[{"topic":"(","channels":[".*"],"permissions":["subscribe"]}]}"#;

#[test]
fn auth_in_clear_and_inside_tls() {
    // The second one so that the first does not pass for want of a log.
    let (secret, ours) = (Logged::watch("sesame"), Logged::watch("knows us as"));
    let (authority, server) = (Authority::new(), AuthServer::start(EVERYTHING));
    let mut args = authority.issue_local().args().to_vec();
    args.push(server.arg());
    let Some(nsqd) = nsqd(&args) else { return };
    let seen = round_trip(&nsqd, |connection| connection.auth_secret("open sesame"));
    assert_eq!(seen, [(false, false, false); 2]);
    assert!(server.asked.lock().unwrap().drain(..).all(|asked| asked.contains("tls=false")));
    let seen = round_trip(&nsqd, |connection| {
        let tls = TlsConfig::new().root_ca_file(authority.ca_file());
        let connection = connection.auth_secret("open sesame").tls(tls);
        connection.compression(Compression::Deflate { level: 6 })
    });
    assert_eq!(seen, [(true, false, true); 2]);
    let asked = server.asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.contains("tls=true")), "{asked:?}");
    assert_eq!((secret.lines().len(), ours.lines().is_empty()), (0, false));
}

#[test]
fn auth_that_is_refused_says_so_and_keeps_the_secret() {
    let logged = Logged::watch("sesame");
    /// Connects to an nsqd with that authentication server.
    fn connect(auth: &str, secret: Option<&str>) -> Option<Error> {
        let nsqd = nsqd(&[auth.to_owned()])?;
        let mut config = config().nsqd(nsqd.addr());
        if let Some(secret) = secret {
            config = config.auth_secret(secret);
        }
        let error = Consumer::start(config).expect_err("no consumer without authorization");
        let text = format!("{} {error:?}", lines(&error));
        assert!(!text.contains("sesame"), "{text}");
        Some(error)
    }
    let check = |auth: &str, secret: &str, want: ErrorCode| match connect(auth, Some(secret)) {
        None => false,
        Some(Error::Refused { command: "AUTH", code, .. }) => {
            assert_eq!(code, want, "{auth}");
            true
        }
        Some(error) => panic!("{error:?}"),
    };
    let server = AuthServer::start(EVERYTHING);
    if !check(&server.arg(), "wrong sesame", ErrorCode::AuthFailed) {
        return;
    }
    assert!(matches!(connect(&server.arg(), None), Some(Error::AuthRequired { .. })));
    check("--auth-http-address=127.0.0.1:1", "open sesame", ErrorCode::AuthFailed);
    for (answer, want) in [
        (NOTHING, ErrorCode::Unauthorized),
        (TTL_0, ErrorCode::AuthFailed),
        (BAD_REGEX, ErrorCode::AuthFailed),
    ] {
        check(&AuthServer::start(answer).arg(), "open sesame", want);
    }
    assert_eq!(logged.lines(), [""; 0]);
}

#[test]
fn what_the_secret_does_not_grant_is_refused() {
    let server = AuthServer::start(SUBSCRIBE);
    let Some(nsqd) = nsqd(&[server.arg()]) else { return };
    let from = config().nsqd(nsqd.addr()).auth_secret("open sesame");
    drop(Consumer::start(from).unwrap().shutdown());
    let to = producer_config().nsqd(nsqd.addr()).auth_secret("open sesame");
    match Producer::connect(to).unwrap().publish(&topic(), b"x").unwrap_err() {
        PublishError::Refused { source: Error::Refused { code, .. } } => {
            assert_eq!(code, ErrorCode::Unauthorized);
        }
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_secret_that_nobody_asks_for_is_not_sent() {
    let nsqd = nsqd_or_skip!();
    // This nsqd would close the connection on AUTH.
    let seen = round_trip(&nsqd, |connection| connection.auth_secret("open sesame"));
    assert_eq!(seen, [(false, false, false); 2]);
}
