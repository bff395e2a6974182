//! AUTH of a broker by a real small authorization server: on `playcounts broker` and on the real nsqd with the same options.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nsq_protocol::{
    AuthSecret, Command, Consumer, ConsumerConfig, Producer, ProducerConfig, TlsConfig,
};
use parking_lot::Mutex;
use playcounts::http::{Handler, Request, Response, Server, ServerConfig, ServerTls, TlsFiles};
use serde_json::{Value, json};

use crate::broker_support::{Client, Got, http, tcp};
use crate::certs::Authority;
use crate::support::{
    Broker, Running, assert_exit, command, get, on_both_brokers_with, wait_until,
};
use crate::timing::DEADLINE;

/// Given the number of the question, from 1 on.
type Answer = dyn Fn(&Request, usize) -> Response + Send + Sync;

/// An authorization server, and what it was asked.
struct AuthServer {
    answer: Box<Answer>,
    asked: Mutex<Vec<String>>,
}

impl Handler for AuthServer {
    fn handle(&self, request: &Request) -> Response {
        assert_eq!(request.header("accept"), Some("application/vnd.nsq; version=1.0"));
        let names = ["remote_ip", "tls", "secret", "common_name"];
        let told = names.map(|name| format!("{name}={}", request.get(name).unwrap()));
        let count = {
            let mut asked = self.asked.lock();
            asked.push(format!("{}?{}", request.path, told.join("&")));
            asked.len()
        };
        (self.answer)(request, count)
    }
}

struct RunningAuth {
    server: Arc<AuthServer>,
    http: Server,
}

impl RunningAuth {
    fn start(answer: impl Fn(&Request, usize) -> Response + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    fn start_with(
        tls: Option<ServerTls>,
        answer: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        let server = Arc::new(AuthServer { answer: Box::new(answer), asked: Mutex::default() });
        let mut config = ServerConfig::new("127.0.0.1:0".to_owned(), "auth");
        config.tls = tls.map(Arc::new);
        let http = Server::start(config, Arc::clone(&server) as Arc<dyn Handler>).unwrap();
        Self { server, http }
    }

    fn option(&self) -> String {
        format!("--auth-http-address={}", self.http.local_addr())
    }

    fn asked(&self) -> Vec<String> {
        self.server.asked.lock().clone()
    }
}

/// `subscribe` and `publish` as they are given, on topics that match.
fn grant(ttl: u64, topic: &str, channels: &[&str], permissions: &[&str]) -> Response {
    let body = json!({
        "ttl": ttl,
        "identity": "a client",
        "identity_url": "http://example/",
        "authorizations": [{ "topic": topic, "channels": channels, "permissions": permissions }],
    });
    Response::json(200, &body)
}

/// A client that has said AUTH; the answer.
fn authenticated(broker: &Broker, secret: &[u8]) -> (Client, Got) {
    let (mut client, answer) = Client::negotiated(tcp(broker), r#""client_id":"c""#);
    assert_eq!(answer["auth_required"], true);
    client.send(Command::Auth(secret));
    let answer = client.next(DEADLINE);
    (client, answer)
}

#[test]
fn a_client_may_do_what_its_secret_allows() {
    let server = RunningAuth::start(|request, _| match request.get("secret").unwrap() {
        "all! " => grant(60, ".*", &[".*"], &["subscribe", "publish"]),
        "read" => grant(60, "^ok", &["^c$"], &["subscribe"]),
        "nothing" => Response::json(200, &json!({ "ttl": 1 })),
        "odd" => grant(60, "(", &[], &[]),
        _ => Response::json(403, &json!({ "message": "NO" })),
    });
    on_both_brokers_with(&[&server.option()], |_, broker| {
        for (command, name) in [
            (Command::Pub("t".parse().unwrap(), b"x"), "PUB"),
            (Command::Dpub("t".parse().unwrap(), 1, b"x"), "DPUB"),
            (Command::Sub("t".parse().unwrap(), "c".parse().unwrap()), "SUB"),
        ] {
            let mut client = Client::identified(tcp(broker), "{}");
            client.send(Command::Nop);
            client.send(command);
            client.fatal(&format!("E_AUTH_FIRST AUTH required before {name}"));
        }
        let (mut client, answer) = authenticated(broker, b"all! ");
        let Got::Response(answer) = answer else { panic!("{answer:?}") };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let want = json!({ "identity": "a client", "identity_url": "http://example/", "permission_count": 1 });
        assert_eq!(answer, want);
        client.publish("ok-1", b"x");
        client.sub("ok-1", "c");
        let all = get(&format!("http://{}/stats?format=json&topic=ok-1", broker.http()));
        let found = &all["topics"][0]["channels"][0]["clients"][0];
        let found = ["authed", "auth_identity", "auth_identity_url"].map(|key| found[key].clone());
        assert_eq!(json!(found), json!([true, "a client", "http://example/"]));

        let refused = |command: Command<'_>, want: &str| {
            let (mut client, _) = authenticated(broker, b"read");
            client.send(command);
            client.fatal(want);
        };
        let sub = |topic: &str, channel: &str| {
            Command::Sub(topic.parse().unwrap(), channel.parse().unwrap())
        };
        refused(sub("no", "c"), r#"E_UNAUTHORIZED AUTH failed for SUB on "no" "c""#);
        refused(sub("ok-1", "cc"), r#"E_UNAUTHORIZED AUTH failed for SUB on "ok-1" "cc""#);
        let publish = Command::Pub("ok-1".parse().unwrap(), b"x");
        refused(publish, r#"E_UNAUTHORIZED AUTH failed for PUB on "ok-1" """#);
        refused(Command::Auth(b"read"), "E_INVALID AUTH already set");
        let (mut reader, _) = authenticated(broker, b"read");
        reader.sub("ok-1", "c");

        for (secret, want) in [
            (&b"nothing"[..], "E_UNAUTHORIZED AUTH no authorizations found"),
            (b"odd", "E_AUTH_FAILED AUTH failed"),
            (b"wrong", "E_AUTH_FAILED AUTH failed"),
        ] {
            let (mut client, answer) = authenticated(broker, secret);
            assert_eq!(answer, Got::Error(want.into()));
            client.closed();
        }
    });
    let first = server.asked()[0].clone();
    assert_eq!(first, "/auth?remote_ip=127.0.0.1&tls=false&secret=all! &common_name=");
}

/// The rest of it is never sent.
#[test]
fn a_body_is_refused_before_it_has_come() {
    let server = RunningAuth::start(|_, _| grant(60, "^ok", &[".*"], &["publish"]));
    let options = [&server.option()[..]];
    let begun = |line: &str| [line.as_bytes(), b"\n\0\x0f\x42\x40\0\0\0\x02\0\0"].concat();
    let before = |broker: SocketAddr, line: &str| {
        let mut client = Client::identified(broker, r#"{"heartbeat_interval":-1}"#);
        client.raw(&begun(line));
        let name = line.split(' ').next().unwrap();
        client.fatal(&format!("E_AUTH_FIRST AUTH required before {name}"));
    };
    on_both_brokers_with(&options, |_, broker| {
        before(tcp(broker), "MPUB t");
        let (mut client, _) = authenticated(broker, b"s");
        // Behind the answer to what came before it.
        let mut bytes = Vec::new();
        Command::Pub("ok".parse().unwrap(), b"x").encode(&mut bytes);
        client.raw(&[bytes, begun("MPUB no")].concat());
        client.ok();
        client.fatal(r#"E_UNAUTHORIZED AUTH failed for MPUB on "no" """#);
    });
    // nsqd reads these first.
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours_with(dir.path(), &options);
    before(tcp(&broker), "PUB t");
    before(tcp(&broker), "DPUB t 1");
    for (head, want) in [
        (&b"IDENTIFY\n\0\x01\0\x01{"[..], "IDENTIFY body too big 65537 > 65536"),
        (b"AUTH\n\0\0\x40\x01s", "AUTH secret is over 16384 bytes"),
        // What is wrong with the body itself comes first, as with nsqd.
        (b"PUB t\n\0\0\0\0", "E_BAD_MESSAGE PUB invalid message body size 0"),
    ] {
        let mut client = Client::identified(tcp(&broker), r#"{"heartbeat_interval":-1}"#);
        client.raw(head);
        let code = if want.starts_with("E_") { "" } else { "E_BAD_BODY " };
        client.fatal(&format!("{code}{want}"));
    }
    // Who may publish sends it in as many pieces as it likes.
    let (mut client, _) = authenticated(&broker, b"s");
    let mut bytes = Vec::new();
    Command::Pub("ok".parse().unwrap(), &[b'x'; 100_000]).encode(&mut bytes);
    for piece in bytes.chunks(40_000) {
        client.raw(piece);
    }
    client.ok();
}

/// A second, and what is allowed changes meanwhile.
#[test]
fn what_is_allowed_is_asked_again_when_it_is_too_old() {
    for is_answer in [true, false] {
        let server = RunningAuth::start(move |_, count| match count {
            // Of each broker the first question.
            count if count % 2 == 1 => grant(1, ".*", &[".*"], &["publish"]),
            _ if is_answer => grant(60, "other", &[".*"], &["publish"]),
            _ => Response::json(500, &json!("down")),
        });
        on_both_brokers_with(&[&server.option()], |_, broker| {
            let (mut client, _) = authenticated(broker, b"s");
            client.publish("t", b"x");
            let before = server.asked().len();
            let want = match is_answer {
                true => r#"E_UNAUTHORIZED AUTH failed for PUB on "t" """#,
                false => "E_AUTH_FAILED AUTH failed",
            };
            wait_until("it is asked again", || {
                std::thread::sleep(Duration::from_millis(100));
                client.send(Command::Pub("t".parse().unwrap(), b"x"));
                match client.next(DEADLINE) {
                    Got::Response(ok) if ok == "OK" => false,
                    Got::Error(error) if error == want => true,
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(server.asked().len(), before + 1);
        });
    }
}

/// The server's answer is held back until the test has seen what came before the question.
#[test]
fn what_comes_before_a_question_is_done_and_answered_before_its_answer() {
    let gate = Arc::new(Mutex::new(()));
    let server = RunningAuth::start({
        let gate = Arc::clone(&gate);
        move |_, _| {
            drop(gate.lock());
            grant(1, ".*", &[".*"], &["subscribe", "publish"])
        }
    });
    let dir = tempfile::tempdir().unwrap();
    // No wait of this test ends before it does.
    let options = [&server.option()[..], "--http-client-request-timeout=10m"];
    let broker = Broker::ours_with(dir.path(), &options);
    let (mut client, _) = authenticated(&broker, b"s");
    client.sub("t", "c");
    client.send(Command::Rdy(1));
    http(broker.http().parse().unwrap(), "POST", "/pub?topic=t", b"x");
    let message = client.message();
    // What is allowed is known for a second.
    std::thread::sleep(Duration::from_millis(1100));
    let asked = server.asked().len();
    let held = gate.lock();
    let mut bytes = Vec::new();
    Command::Fin(message.id).encode(&mut bytes);
    Command::Pub("other".parse().unwrap(), b"y").encode(&mut bytes);
    client.raw(&bytes);
    wait_until("it is finished", || {
        let all = get(&format!("http://{}/stats?format=json&topic=t", broker.http()));
        all["topics"][0]["channels"][0]["clients"][0]["finish_count"] == 1
    });
    wait_until("it is asked", || server.asked().len() == asked + 1);
    client.quiet();
    drop(held);
    client.ok();
    // IDENTIFY has its answer before AUTH has.
    let held = gate.lock();
    let mut client = Client::connect(tcp(&broker));
    let mut bytes = Vec::new();
    Command::Identify(b"{}").encode(&mut bytes);
    Command::Auth(b"s").encode(&mut bytes);
    client.raw(&bytes);
    client.ok();
    drop(held);
    assert!(matches!(client.next(DEADLINE), Got::Response(who) if who.contains("a client")));
}

/// Our own clients, over TLS, with a certificate whose common name is told, to a server that speaks TLS, too; the first server
/// is away.
#[test]
fn the_servers_are_told_of_tls_and_of_the_certificate() {
    let authority = Authority::new();
    let issued = authority.issue_local();
    let tls = ServerTls::load(TlsFiles { cert: issued.cert.clone(), key: issued.key.clone() });
    let server = RunningAuth::start_with(Some(tls.unwrap()), |_, _| {
        grant(60, ".*", &[".*"], &["subscribe", "publish"])
    });
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = issued.args().to_vec();
    let url = format!("--auth-http-address=https://{}/ask", server.http.local_addr());
    options.extend([format!("--auth-http-address={away}"), url]);
    options.push("--tls-client-auth-policy=require-verify".to_owned());
    options.push(format!("--tls-root-ca-file={}", authority.ca_file().display()));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let own = authority.issue("client", |_| {});
    let tls =
        TlsConfig::new().root_ca_file(authority.ca_file()).client_certificate(&own.cert, &own.key);
    on_both_brokers_with(&options, |_, broker| {
        let secret = || AuthSecret::new("sesam");
        let config = ProducerConfig::new().nsqd(broker.tcp()).tls(tls.clone());
        let producer = Producer::connect(config.auth_secret(secret())).unwrap();
        producer.publish(&"t".parse().unwrap(), b"x").unwrap();
        let config = ConsumerConfig::new("t".parse().unwrap(), "c".parse().unwrap());
        let config = config.nsqd(broker.tcp()).tls(tls.clone()).auth_secret(secret());
        let consumer = Consumer::start(config).unwrap();
        consumer.batches().recv_timeout(DEADLINE).unwrap().finish();
    });
    let asked = server.asked();
    let want = "/ask?remote_ip=127.0.0.1&tls=true&secret=sesam&common_name=a test's host";
    assert!(asked.iter().all(|asked| asked == want) && asked.len() >= 2, "{asked:?}");
}

#[test]
fn an_address_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // An empty one is what a script gives whose variable is not set; it must not let everybody in.
    for address in ["ftp://host/auth", "http://", "a b", "", " "] {
        let ended = ask_for(dir.path(), &[&format!("--auth-http-address={address}")], None);
        assert!(ended.contains("must be host:port, or a URL of HTTP"), "{address}: {ended}");
    }
    // Nor in place of the servers that a file has.
    let path = dir.path().join("auth.toml");
    std::fs::write(&path, "auth_http_address = \"127.0.0.1:1\"\n").unwrap();
    let config = format!("--config={}", path.display());
    for address in ["", " ", "  "] {
        let ended = ask_for(dir.path(), &[&config], Some(address));
        let want = format!("PLAYCOUNTS_AUTH_HTTP_ADDRESS {address}: must be host:port");
        assert!(ended.contains(&want), "{address:?}: {ended}");
    }
}

/// What is said by a broker that does not start, with these options and that variable.
fn ask_for(dir: &Path, options: &[&str], variable: Option<&str>) -> String {
    let any = ["broker", "--tcp-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
    let mut broker = command(dir, &[&any[..], options].concat());
    broker.envs(variable.map(|value| ("PLAYCOUNTS_AUTH_HTTP_ADDRESS", value)));
    let ended = Running::spawn(broker, "a broker that is refused").wait();
    assert_exit(&ended, 1);
    String::from_utf8_lossy(&ended.stderr).into_owned()
}
