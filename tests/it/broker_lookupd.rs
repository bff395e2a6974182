//! The embedded broker and stock nsqlookupds: what they know of it, and what it asks them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nsq_protocol::{Admin, Consumer, ConsumerConfig, LookupConfig};
use playcounts::broker::{Broker, BrokerConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::broker_support::{Client, http, topic};
use crate::nsqlookupd::Nsqlookupd;
use crate::support::wait_until;
use crate::timing::DEADLINE;

fn config(lookupds: &[SocketAddr]) -> BrokerConfig {
    BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: Some("127.0.0.1:0".into()),
        broadcast_address: "127.0.0.1".into(),
        lookupd_tcp_addresses: lookupds.iter().map(ToString::to_string).collect(),
        ..BrokerConfig::default()
    }
}

fn start(lookupds: &[SocketAddr]) -> Broker {
    Broker::start(config(lookupds)).unwrap()
}

fn http_of(broker: &Broker) -> SocketAddr {
    broker.http_addr().unwrap()
}

fn post(broker: &Broker, target: &str) {
    assert_eq!(http(http_of(broker), "POST", target, b"x").0, 200, "{target}");
}

fn get(address: SocketAddr, target: &str) -> Value {
    let (_, _, body) = http(address, "GET", target, b"");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{target}: {error}: {body}"))
}

/// The HTTP ports of the nsqds that nsqlookupd names for a topic.
fn nodes_of(lookupd: SocketAddr, topic: &str) -> Vec<u64> {
    let answer = get(lookupd, &format!("/lookup?topic={topic}"));
    let producers = answer["producers"].as_array().cloned().unwrap_or_default();
    producers.iter().map(|node| node["http_port"].as_u64().unwrap()).collect()
}

fn has_node(lookupd: SocketAddr, topic: &str, broker: &Broker) -> bool {
    nodes_of(lookupd, topic).contains(&u64::from(http_of(broker).port()))
}

/// The channels that nsqlookupd knows of a topic, sorted.
fn channels_of(lookupd: SocketAddr, topic: &str) -> Vec<String> {
    names(&get(lookupd, &format!("/channels?topic={topic}"))["channels"])
}

fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<String> = serde_json::from_value(list.clone()).unwrap();
    names.sort();
    names
}

/// The channels that a broker has, with their depths.
fn own_channels(broker: &Broker, topic: &str) -> Vec<(String, usize)> {
    let topics = broker.stats().topics.unwrap();
    let channels =
        topics.into_iter().filter(|of| of.topic_name == topic).flat_map(|of| of.channels);
    channels.map(|channel| (channel.channel_name, channel.depth)).collect()
}

fn signal(lookupd: &Nsqlookupd, signal: Signal) {
    kill_process(Pid::from_raw(lookupd.pid() as i32).unwrap(), signal).unwrap();
}

#[test]
fn what_there_is_is_registered_and_what_is_deleted_is_not() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let broker = start(&[lookupd.tcp]);
    post(&broker, "/pub?topic=one");
    post(&broker, "/channel/create?topic=one&channel=c");
    wait_until("the topic is found", || has_node(lookupd.http, "one", &broker));
    wait_until("its channel, too", || channels_of(lookupd.http, "one") == ["c"]);
    let found = get(lookupd.http, "/lookup?topic=one")["producers"][0].clone();
    assert_eq!(found["tcp_port"], broker.tcp_addr().port());
    assert_eq!(
        (&found["broadcast_address"], &found["version"]),
        (&"127.0.0.1".into(), &"1.3.0".into())
    );
    // What ends with its last consumer.
    let consumer = Client::consumer(broker.tcp_addr(), "gone#ephemeral", "c#ephemeral", 1);
    wait_until("the ephemeral topic is found", || {
        has_node(lookupd.http, "gone%23ephemeral", &broker)
    });
    drop(consumer);
    wait_until("it is found no more", || {
        !names(&get(lookupd.http, "/topics")["topics"]).contains(&"gone#ephemeral".to_owned())
    });
    post(&broker, "/channel/delete?topic=one&channel=c");
    wait_until("the channel has no nsqd", || {
        get(lookupd.http, "/debug")["channel:one:c"].as_array().is_none_or(Vec::is_empty)
    });
    assert!(has_node(lookupd.http, "one", &broker));
    post(&broker, "/topic/delete?topic=one");
    wait_until("the topic is found no more", || !has_node(lookupd.http, "one", &broker));
    broker.shutdown();
    // It sees the end of the connection when it does.
    wait_until("the node is gone", || {
        get(lookupd.http, "/nodes")["producers"] == Value::Array(vec![])
    });
}

#[test]
fn ports_are_told_as_they_are_seen_from_outside() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let told = BrokerConfig {
        broadcast_tcp_port: 14150,
        broadcast_http_port: 14151,
        ..config(&[lookupd.tcp])
    };
    let broker = Broker::start(told).unwrap();
    wait_until("it is found", || get(lookupd.http, "/nodes")["producers"][0]["tcp_port"] == 14150);
    assert_eq!(get(lookupd.http, "/nodes")["producers"][0]["http_port"], 14151);
    drop(broker);
    let without_http = BrokerConfig { http_address: None, ..config(&[lookupd.tcp]) };
    let error = Broker::start(without_http).err().unwrap().to_string();
    assert!(error.contains("--lookupd-tcp-address needs --http-address"), "{error}");
}

#[test]
fn our_consumer_reads_through_nsqlookupd_and_a_tombstone_hides_us() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let broker = start(&[lookupd.tcp]);
    post(&broker, "/pub?topic=plays");
    wait_until("the topic is found", || has_node(lookupd.http, "plays", &broker));
    let found = LookupConfig::new().address(lookupd.http.to_string());
    let config = ConsumerConfig::new(topic("plays"), "c".parse().unwrap()).lookup(found.clone());
    let consumer = Consumer::start(config).unwrap();
    consumer.batches().recv_timeout(DEADLINE).unwrap().finish();
    drop(consumer);
    let node = format!("127.0.0.1:{}", http_of(&broker).port());
    found.tombstone(&topic("plays"), &node).unwrap();
    assert!(!has_node(lookupd.http, "plays", &broker));
    assert_eq!(get(lookupd.http, "/nodes")["producers"][0]["tombstones"][0], true);
    // As nsqadmin deletes a topic at a node; made anew it is no longer hidden.
    let admin = Admin::new(&http_of(&broker).to_string());
    admin.delete_topic(&topic("plays")).unwrap();
    post(&broker, "/pub?topic=plays");
    wait_until("it is found again", || has_node(lookupd.http, "plays", &broker));
}

#[test]
fn a_killed_nsqlookupd_is_told_everything_when_it_is_back() {
    let Some(mut lookupd) = Nsqlookupd::start() else { return };
    let Some(other) = Nsqlookupd::start() else { return };
    let broker = start(&[lookupd.tcp, other.tcp]);
    post(&broker, "/topic/create?topic=one");
    post(&broker, "/topic/create?topic=two");
    post(&broker, "/channel/create?topic=two&channel=c");
    let knows_all = |lookupd: SocketAddr| {
        has_node(lookupd, "one", &broker) && channels_of(lookupd, "two") == ["c"]
    };
    wait_until("both know all", || knows_all(lookupd.http) && knows_all(other.http));
    let (tcp, http_address) = (lookupd.tcp, lookupd.http);
    lookupd.kill();
    post(&broker, "/pub?topic=meanwhile");
    wait_until("the other one goes on", || has_node(other.http, "meanwhile", &broker));
    let back = Nsqlookupd::start_at(tcp, http_address).unwrap();
    wait_until("it knows all again", || {
        knows_all(back.http) && has_node(back.http, "meanwhile", &broker)
    });
    // Within a ping, nothing being created: 15 s.
    drop(back);
    let back = Nsqlookupd::start_at(tcp, http_address).unwrap();
    wait_until("it knows all once more", || knows_all(back.http));
}

#[test]
fn a_new_topic_has_at_once_the_channels_that_are_known_elsewhere() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let (other, broker) = (start(&[lookupd.tcp]), start(&[lookupd.tcp]));
    let topics = ["pub", "mpub", "http", "lines", "created", "sub"];
    for name in topics {
        post(&other, &format!("/topic/create?topic={name}"));
        for channel in ["known", "also", "mine"] {
            post(&other, &format!("/channel/create?topic={name}&channel={channel}"));
        }
        // It would keep messages for nobody.
        post(&other, &format!("/channel/create?topic={name}&channel=short%23ephemeral"));
    }
    for name in topics {
        wait_until("the channels are known", || channels_of(lookupd.http, name).len() == 4);
    }
    let mut client = Client::connect(broker.tcp_addr());
    client.publish("pub", b"x");
    client.publish_many("mpub", &[b"x", b"y"]);
    post(&broker, "/pub?topic=http");
    post(&broker, "/mpub?topic=lines");
    post(&broker, "/topic/create?topic=created");
    client.sub("sub", "mine");
    let wanted = |depth| ["also", "known", "mine"].map(|name| (name.to_owned(), depth)).to_vec();
    for (name, depth) in topics.into_iter().zip([1, 2, 1, 1, 0, 0]) {
        assert_eq!(own_channels(&broker, name), wanted(depth), "{name}");
    }
    // One that nobody knows.
    post(&broker, "/pub?topic=new");
    assert_eq!(own_channels(&broker, "new"), []);
}

#[test]
fn who_creates_a_topic_waits_for_a_hanging_nsqlookupd_and_nobody_else_does() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let patient = BrokerConfig {
        http_client_request_timeout: Duration::from_secs(8),
        ..config(&[lookupd.tcp])
    };
    let broker = Broker::start(patient).unwrap();
    post(&broker, "/pub?topic=there");
    wait_until("it is reached", || has_node(lookupd.http, "there", &broker));
    signal(&lookupd, Signal::STOP);
    let is_done = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            Client::connect(broker.tcp_addr()).publish("new", b"x");
            is_done.store(true, Ordering::SeqCst);
        });
        let mut client = Client::connect(broker.tcp_addr());
        for _ in 0..3 {
            client.publish("there", b"x");
            assert_eq!(http(http_of(&broker), "GET", "/ping", b"").0, 200);
        }
        assert!(!is_done.load(Ordering::SeqCst), "it asked nobody");
    });
    assert!(began.elapsed() < DEADLINE);
    signal(&lookupd, Signal::CONT);
    wait_until("the new topic is told", || has_node(lookupd.http, "new", &broker));
}

/// Connections to that port that this machine has open.
fn connections_to(address: SocketAddr) -> usize {
    let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{:04X}", address.port());
    let is_open_to = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&remote) && fields[3] == "01"
    };
    all.lines().skip(1).filter(is_open_to).count()
}

/// More than there are threads that answer HTTP.
#[test]
fn many_who_create_topics_by_http_keep_nobody_else_waiting() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let patient = BrokerConfig {
        http_client_request_timeout: Duration::from_secs(60),
        ..config(&[lookupd.tcp])
    };
    let broker = Broker::start(patient).unwrap();
    post(&broker, "/pub?topic=there");
    wait_until("it is reached", || has_node(lookupd.http, "there", &broker));
    wait_until("nobody asks", || connections_to(lookupd.http) == 0);
    signal(&lookupd, Signal::STOP);
    let (address, is_one_made) = (http_of(&broker), AtomicBool::new(false));
    let create = |index: usize| {
        let target = ["/pub", "/mpub", "/topic/create"][index % 3];
        let (status, _, said) = http(address, "POST", &format!("{target}?topic=new-{index}"), b"x");
        is_one_made.fetch_or(status == 200, Ordering::SeqCst);
        (status, said)
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..12)
            .map(|index| {
                scope.spawn({
                    let create = &create;
                    move || create(index)
                })
            })
            .collect();
        // Half of the threads.
        wait_until("some wait for the nsqlookupd", || connections_to(lookupd.http) >= 4);
        for _ in 0..20 {
            assert_eq!(http(address, "GET", "/ping", b"").0, 200);
            assert_eq!(http(address, "GET", "/stats", b"").0, 200);
            post(&broker, "/pub?topic=there");
        }
        assert!(!is_one_made.load(Ordering::SeqCst), "it asked nobody");
        signal(&lookupd, Signal::CONT);
        for one in all {
            let (status, said) = one.join().unwrap();
            // A busy machine may take so long that the last of them are sent away.
            assert!(status == 200 || (status == 503 && said.contains("try again")), "{said}");
        }
    });
    assert!(is_one_made.load(Ordering::SeqCst));
}

#[test]
fn what_answers_without_end_and_what_is_away_harm_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hostile = listener.local_addr().unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = start(&[hostile, away]);
    let sender = std::thread::spawn(move || {
        for answer in
            [&b"\x7f\xff\xff\xff"[..], b"\xff\xff\xff\xff", b"HTTP/1.1 400\r\n", b"\0\0\0\x02OK"]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let mut magic = [0; 4];
            stream.read_exact(&mut magic).unwrap();
            assert_eq!(&magic, b"  V1");
            // Until it is closed.
            while stream.write_all(answer).is_ok() {}
        }
    });
    sender.join().unwrap();
    Client::connect(broker.tcp_addr()).publish("t", b"x");
    assert_eq!(http(http_of(&broker), "GET", "/ping", b"").0, 200);
    let began = Instant::now();
    broker.shutdown();
    assert!(began.elapsed() < DEADLINE);
}

/// A running nsqadmin.
struct Nsqadmin {
    child: Child,
    http: SocketAddr,
}

impl Nsqadmin {
    fn start(lookupd: SocketAddr) -> Option<Self> {
        let nsqlookupd = crate::nsqlookupd::find()?;
        let program = std::env::var_os("NSQADMIN").map(PathBuf::from);
        let program = program.unwrap_or_else(|| nsqlookupd.with_file_name("nsqadmin"));
        if !program.is_file() {
            let _ = std::io::stderr()
                .write_all(b"\n*** SKIPPED: no nsqadmin in $NSQADMIN or beside nsqlookupd ***\n");
            return None;
        }
        let mut child = Command::new(program)
            .args(["--http-address", "127.0.0.1:0", "--lookupd-http-address", &lookupd.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address =
            lines.find_map(|line| line.split_once("HTTP: listening on ")?.1.trim().parse().ok());
        // It logs on, into a pipe that must be read.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, http: address.unwrap() })
    }
}

impl Drop for Nsqadmin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nsqadmin_finds_and_changes_what_there_is_here() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let Some(admin) = Nsqadmin::start(lookupd.http) else { return };
    let broker = start(&[lookupd.tcp]);
    post(&broker, "/pub?topic=seen");
    post(&broker, "/channel/create?topic=seen&channel=c");
    wait_until("it is known", || channels_of(lookupd.http, "seen") == ["c"]);
    assert_eq!(names(&get(admin.http, "/api/topics")["topics"]), ["seen"]);
    let node = format!("127.0.0.1:{}", http_of(&broker).port());
    assert_eq!(get(admin.http, "/api/nodes")["nodes"][0]["http_port"], http_of(&broker).port());
    assert_eq!(get(admin.http, &format!("/api/nodes/{node}"))["total_messages"], 1);
    let topic = get(admin.http, "/api/topics/seen");
    assert_eq!((&topic["depth"], &topic["channels"][0]["channel_name"]), (&0.into(), &"c".into()));
    assert_eq!(get(admin.http, "/api/topics/seen/c")["depth"], 1);
    let (status, _, said) =
        http(admin.http, "POST", "/api/topics/seen/c", br#"{"action":"empty"}"#);
    assert_eq!((status, own_channels(&broker, "seen")), (200, vec![("c".into(), 0)]), "{said}");
    let (status, _, said) = http(admin.http, "DELETE", "/api/topics/seen", b"");
    assert_eq!((status, broker.stats().topics), (200, Some(vec![])), "{said}");
    wait_until("nsqlookupd has forgotten it", || !has_node(lookupd.http, "seen", &broker));
}
