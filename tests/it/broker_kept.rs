//! `broker --data-path`: what it has acknowledged is there after a kill, a stop, a full disk, and however much it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nsq_protocol::{Command, MessageId};
use rustix::process::Signal;
use serde_json::Value;

use crate::broker_support::{Client, Got, Message, http, topic};
use crate::kept_broker::KeptBroker;
use crate::support::wait_until;
use crate::timing::DEADLINE;

/// How often is told how far the channels are, and some more.
pub(crate) const KEPT: Duration = Duration::from_millis(400);

fn messages(client: &mut Client, count: usize) -> Vec<Message> {
    (0..count).map(|nth| message(client, &format!("message {nth} of {count}"))).collect()
}

/// The next message.
#[track_caller]
pub(crate) fn message(client: &mut Client, what: &str) -> Message {
    match client.next(DEADLINE) {
        Got::Message(message) => message,
        other => panic!("{what}: {other:?}"),
    }
}

fn bodies(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect()
}

#[test]
fn a_stop_keeps_topics_channels_pauses_and_what_is_not_finished() {
    let temp = tempfile::tempdir().unwrap();
    let broker = KeptBroker::start(temp.path(), &[]);
    let mut producer = Client::connect(broker.tcp);
    producer.publish("waits", b"for the first channel");
    broker.post("/topic/create?topic=plays");
    broker.post("/channel/create?topic=plays&channel=a");
    broker.post("/channel/create?topic=plays&channel=b");
    broker.post("/channel/pause?topic=plays&channel=b");
    producer.publish_many("plays", &[b"1", b"2", b"3", b"4"]);
    producer.send(Command::Dpub(topic("plays"), 60_000, b"in a minute"));
    producer.ok();
    broker.post("/topic/pause?topic=plays");
    producer.publish("plays", b"5");
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 3);
    let held = messages(&mut consumer, 3);
    consumer.finish(&held[1]);
    consumer.send(Command::Req(held[2].id, 0));
    // The third comes again, behind the fourth.
    let again = messages(&mut consumer, 2);
    assert_eq!(bodies(&again), ["4", "3"]);
    broker.stop();

    let broker = KeptBroker::start(temp.path(), &[]);
    let b = broker.channel("plays", "b");
    assert_eq!((&b["paused"], &b["depth"]), (&true.into(), &5.into()), "{b}");
    assert_eq!(broker.depth("plays", "a"), 4, "1, 3, 4 and what is deferred");
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 10);
    let mut left = messages(&mut consumer, 3);
    left.sort_by(|one, other| one.body.cmp(&other.body));
    assert_eq!(bodies(&left), ["1", "3", "4"]);
    assert_eq!(left.iter().map(|one| one.attempts).collect::<Vec<_>>(), [2, 3, 2]);
    assert_eq!(left[0].id, held[0].id, "IDs and timestamps are kept");
    assert_eq!(left[0].timestamp_ns, held[0].timestamp_ns);
    let a = broker.channel("plays", "a");
    assert_eq!((&a["deferred_count"], &a["depth"]), (&1.into(), &0.into()), "{a}");
    // The topic is paused as it was.
    broker.post("/topic/unpause?topic=plays");
    assert_eq!(bodies(&messages(&mut consumer, 1)), ["5"]);
    let mut first = Client::consumer(broker.tcp, "waits", "c", 1);
    assert_eq!(bodies(&messages(&mut first, 1)), ["for the first channel"]);

    // What is deleted is gone for good, and what is emptied.
    broker.post("/topic/delete?topic=waits");
    broker.post("/channel/empty?topic=plays&channel=b");
    broker.post("/channel/delete?topic=plays&channel=a");
    broker.kill();
    let broker = KeptBroker::start(temp.path(), &[]);
    let (_, _, stats) = http(broker.http, "GET", "/stats?format=json", b"");
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let topics: Vec<_> = stats["topics"].as_array().unwrap().iter().collect();
    assert_eq!(topics.len(), 1, "{stats}");
    let channels = topics[0]["channels"].as_array().unwrap();
    assert_eq!((channels.len(), &channels[0]["depth"]), (1, &0.into()), "{stats}");
    assert_eq!(
        fs::read_dir(temp.path().join("messages")).unwrap().count(),
        2,
        "a lock and a topic"
    );
}

/// Publishes, consumes in two channels and kills the broker again and again.
fn kills(options: &[&str], rounds: u32) {
    let temp = tempfile::tempdir().unwrap();
    let next = AtomicU64::new(0);
    let acknowledged = Mutex::new(BTreeSet::new());
    let got: [Mutex<BTreeMap<u64, u32>>; 2] = Default::default();
    let mut broker = KeptBroker::start(temp.path(), options);
    broker.post("/topic/create?topic=plays");
    ["a", "b"].iter().for_each(|name| {
        broker.post(&format!("/channel/create?topic=plays&channel={name}"));
    });
    for round in 0..rounds {
        let is_over = AtomicBool::new(false);
        // Before any of them begins: on a busy machine the kill would come before one has connected.
        let producers = [(); 3].map(|()| Client::connect(broker.tcp));
        let consumers = ["a", "b"].map(|name| Client::consumer(broker.tcp, "plays", name, 20));
        let (next, acknowledged, is_over) = (&next, &acknowledged, &is_over);
        std::thread::scope(|scope| {
            for client in producers {
                scope.spawn(|| publish_until_killed(client, next, acknowledged));
            }
            for (client, got) in consumers.into_iter().zip(&got) {
                scope.spawn(|| consume_until_killed(client, got, is_over));
            }
            let before = acknowledged.lock().unwrap().len();
            let more = 200 + 37 * round as usize;
            wait_until("messages to come in", || {
                acknowledged.lock().unwrap().len() > before + more
            });
            broker.process.signal(Signal::KILL);
            is_over.store(true, Ordering::SeqCst);
        });
        broker.kill_is_done();
        broker = KeptBroker::start(temp.path(), options);
    }
    // What is left comes now.
    let acknowledged = acknowledged.into_inner().unwrap();
    for (name, got) in ["a", "b"].iter().zip(&got) {
        let mut consumer = Client::consumer(broker.tcp, "plays", name, 100);
        let mut got = got.lock().unwrap();
        let has_all = |got: &BTreeMap<u64, u32>| acknowledged.iter().all(|id| got.contains_key(id));
        while !has_all(&got) {
            // A few hundred before it is looked at again.
            for _ in 0..500 {
                let Got::Message(message) = consumer.next(crate::broker_support::QUIET) else {
                    break;
                };
                note(&mut got, &message);
                consumer.finish(&message);
            }
            let left = broker.channel("plays", name);
            let is_empty =
                ["depth", "in_flight_count", "deferred_count"].iter().all(|key| left[key] == 0);
            if is_empty && !has_all(&got) {
                let lost: Vec<_> = acknowledged.iter().filter(|id| !got.contains_key(id)).collect();
                panic!("channel {name} has nothing more, and {} were lost: {lost:?}", lost.len());
            }
        }
        let sent = next.load(Ordering::SeqCst);
        assert!(got.keys().all(|id| *id < sent), "what nobody has published has come");
    }
    broker.stop();
}

impl KeptBroker {
    fn kill_is_done(self) {
        let _ = self.process.wait();
    }
}

fn note(got: &mut BTreeMap<u64, u32>, message: &Message) {
    let id = String::from_utf8_lossy(&message.body).trim().parse().unwrap();
    *got.entry(id).or_default() += 1;
}

fn publish_until_killed(mut client: Client, next: &AtomicU64, acknowledged: &Mutex<BTreeSet<u64>>) {
    loop {
        let ids: Vec<u64> = (0..3).map(|_| next.fetch_add(1, Ordering::SeqCst)).collect();
        let bodies: Vec<String> = ids.iter().map(|id| format!("{id:<60}")).collect();
        let mut many = nsq_protocol::BodiesBuf::new();
        bodies.iter().for_each(|body| many.push(body.as_bytes()));
        client.send(Command::Mpub(topic("plays"), many.as_bodies()));
        if client.next(DEADLINE) != Got::Response("OK".into()) {
            return;
        }
        acknowledged.lock().unwrap().extend(ids);
    }
}

fn consume_until_killed(mut client: Client, got: &Mutex<BTreeMap<u64, u32>>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        match client.next(Duration::from_millis(20)) {
            Got::Message(message)
                if message.id.to_u64().unwrap_or(0) % 5 == 0 && message.attempts < 3 =>
            {
                client.send(Command::Req(message.id, 1));
            }
            Got::Message(message) => {
                note(&mut got.lock().unwrap(), &message);
                client.finish(&message);
            }
            Got::Nothing => {}
            _ => return,
        }
    }
}

#[test]
fn what_is_acknowledged_survives_kills() {
    kills(&["--mem-queue-size", "50", "--max-msg-size", "1000", "--max-body-size", "10000"], 8);
}

#[test]
fn what_is_acknowledged_survives_kills_with_power() {
    kills(&["--durability", "power", "--max-msg-size", "1000", "--max-body-size", "10000"], 4);
}

/// Also where the channel has gone past it.
#[test]
fn what_was_never_delivered_has_no_attempt_after_a_start() {
    let temp = tempfile::tempdir().unwrap();
    let broker = KeptBroker::start(temp.path(), &[]);
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 4);
    let mut producer = Client::connect(broker.tcp);
    producer.send(Command::Dpub(topic("plays"), 3_600_000, b"in an hour"));
    producer.ok();
    producer.send(Command::Dpub(topic("plays"), 3000, b"later"));
    producer.ok();
    producer.publish("plays", b"at once");
    let got = consumer.delivery(b"at once", 1);
    consumer.finish(&got);
    std::thread::sleep(KEPT);
    broker.kill();
    let broker = KeptBroker::start(temp.path(), &[]);
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 4);
    consumer.delivery(b"later", 1);
    broker.kill();
}

#[test]
fn what_is_finished_does_not_come_again_once_it_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let broker = KeptBroker::start(temp.path(), &[]);
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 4);
    let mut producer = Client::connect(broker.tcp);
    producer.publish_many("plays", &[b"1", b"2", b"3", b"4"]);
    let held = messages(&mut consumer, 4);
    consumer.finish(&held[0]);
    consumer.finish(&held[2]);
    // The commands before it are carried out when it is answered.
    consumer.send(Command::Cls);
    consumer.response("CLOSE_WAIT");
    std::thread::sleep(KEPT);
    broker.kill();
    let broker = KeptBroker::start(temp.path(), &[]);
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 10);
    let left = messages(&mut consumer, 2);
    assert_eq!(bodies(&left), ["2", "4"]);
    assert!(left.iter().all(|one| one.attempts == 2), "{left:?}");
    assert_eq!(consumer.next(crate::broker_support::QUIET), Got::Nothing);
}

#[test]
fn a_backlog_is_as_large_as_the_disk_and_goes_when_it_is_read() {
    const COUNT: usize = 20_000;
    let temp = tempfile::tempdir().unwrap();
    let options = ["--mem-queue-size", "100", "--max-msg-size", "1000", "--max-body-size", "20000"];
    let broker = KeptBroker::start(temp.path(), &options);
    let all = broker.fill("plays", COUNT);
    let channel = broker.channel("plays", "a");
    assert_eq!(channel["depth"], COUNT);
    assert!(channel["backend_depth"].as_u64().unwrap() >= COUNT as u64 - 300, "{channel}");
    let directory = temp.path().join("messages/topic-plays");
    let segments = || fs::read_dir(&directory).unwrap().count();
    let full = segments();
    assert!(full > 20, "{full} segments");
    // Nothing of it is in memory after a start, and it is in its order.
    broker.kill();
    let broker = KeptBroker::start(temp.path(), &options);
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 200);
    for (nth, body) in all.iter().enumerate() {
        let got = message(&mut consumer, &format!("message {nth}"));
        assert_eq!(got.body, body.as_bytes(), "message {nth}");
        consumer.finish(&got);
    }
    assert_eq!(broker.depth("plays", "a"), 0);
    // Two are there anyhow, and two spare ones.
    wait_until("segments to go", || segments() <= 6);
    Client::connect(broker.tcp).publish("plays", b"one more");
    assert_eq!(bodies(&messages(&mut consumer, 1)), ["one more"]);
    broker.stop();
}

/// Publishes messages of 100 bytes, of which every thousandth is "bad", the others "good" of this round.
fn publish_some_bad(producer: &mut Client, round: usize, count: usize) {
    let word = |nth| if nth % 1000 == 7 { "bad".into() } else { format!("good {round}") };
    let all: Vec<String> = (0..count).map(|nth| format!("{:<100}", word(nth))).collect();
    for chunk in all.chunks(100) {
        let chunk: Vec<&[u8]> = chunk.iter().map(|body| body.as_bytes()).collect();
        producer.publish_many("plays", &chunk);
    }
}

/// Finishes so many good messages of this round, and those of before that a kill has brought back, and gives each bad one back
/// as often as it comes. The bad ones, as they came last.
fn finish_good(consumer: &mut Client, round: usize, count: usize) -> BTreeMap<MessageId, Message> {
    let word = format!("good {round}");
    let (mut done, mut bad) = (0, BTreeMap::new());
    while done < count {
        let got = message(consumer, &format!("{word}, {done} are done"));
        if got.body.starts_with(b"bad") {
            consumer.send(Command::Req(got.id, 50));
            bad.insert(got.id, got);
        } else {
            consumer.finish(&got);
            done += usize::from(got.body.starts_with(word.as_bytes()));
        }
    }
    bad
}

/// One that nobody can handle, and one that is due in an hour; beside them an ephemeral channel that nobody reads.
#[test]
fn what_is_requeued_again_and_again_holds_no_file() {
    const COUNT: usize = 10_000;
    let temp = tempfile::tempdir().unwrap();
    let options = ["--mem-queue-size", "100", "--max-msg-size", "1000", "--max-body-size", "20000"];
    let directory = temp.path().join("messages/topic-plays");
    let segments = || fs::read_dir(&directory).unwrap().count();
    let mut broker = KeptBroker::start(temp.path(), &options);
    let mut bad = BTreeMap::new();
    for round in 1..=3 {
        let mut consumer = Client::consumer(broker.tcp, "plays", "a", 20);
        let mut producer = Client::connect(broker.tcp);
        broker.post("/channel/create?topic=plays&channel=unread%23ephemeral");
        if round == 1 {
            producer.send(Command::Dpub(topic("plays"), 3_600_000, b"in an hour"));
            producer.ok();
        }
        publish_some_bad(&mut producer, round, COUNT);
        bad.extend(finish_good(&mut consumer, round, COUNT - COUNT / 1000));
        assert_eq!(bad.len(), round * COUNT / 1000);
        // Of some 20 in each round: the last ones, and two spare ones.
        wait_until("segments to go", || segments() <= 8);
        broker.kill();
        broker = KeptBroker::start(temp.path(), &options);
    }
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 100);
    while !bad.is_empty() {
        let got = message(&mut consumer, &format!("{} bad ones", bad.len()));
        consumer.finish(&got);
        if got.body.starts_with(b"bad") {
            let before = bad.remove(&got.id).expect("each once");
            assert_eq!((got.body, got.timestamp_ns), (before.body, before.timestamp_ns));
            assert!(got.attempts >= before.attempts, "{} after {}", got.attempts, before.attempts);
        }
    }
    wait_until("the last to wait", || {
        while let Got::Message(brought_back) = consumer.next(KEPT) {
            consumer.finish(&brought_back);
        }
        let channel = broker.channel("plays", "a");
        (channel["depth"].as_u64(), channel["deferred_count"].as_u64()) == (Some(0), Some(1))
    });
    broker.stop();
}

/// Nor does it where the broker was killed before the ephemeral channel went.
#[test]
fn what_comes_at_once_behind_a_kill_waits_for_the_first_channel() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let broker = KeptBroker::start(temp.path(), &[]);
        let name = format!("t{round}");
        let _tail = Client::consumer(broker.tcp, &name, "tail#ephemeral", 1);
        broker.kill();
        let broker = KeptBroker::start(temp.path(), &[]);
        Client::connect(broker.tcp).publish(&name, b"kept");
        broker.kill();
        let broker = KeptBroker::start(temp.path(), &[]);
        let mut consumer = Client::consumer(broker.tcp, &name, "a", 1);
        consumer.delivery(b"kept", 1);
        broker.kill();
    }
}

/// Messages wait for a topic's first channel also where its last one, an ephemeral one, went a moment before the kill.
#[test]
fn what_comes_behind_the_last_ephemeral_channel_waits_for_the_next() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let broker = KeptBroker::start(temp.path(), &[]);
        let name = format!("t{round}");
        drop(Client::consumer(broker.tcp, &name, "tail#ephemeral", 1));
        wait_until("the channel to go", || broker.channel(&name, "tail%23ephemeral").is_null());
        Client::connect(broker.tcp).publish(&name, b"kept");
        broker.kill();
        let broker = KeptBroker::start(temp.path(), &[]);
        let mut consumer = Client::consumer(broker.tcp, &name, "a", 1);
        consumer.delivery(b"kept", 1);
        broker.kill();
    }
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    let temp = tempfile::tempdir().unwrap();
    let broker = KeptBroker::start(temp.path(), &[]);
    let mut producer = Client::connect(broker.tcp);
    producer.publish("plays", b"1");
    let data = temp.path().join("messages");
    let args =
        ["broker", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--data-path"];
    let args: Vec<&str> = args.into_iter().chain([data.to_str().unwrap()]).collect();
    let second = crate::support::output(temp.path(), &args);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another broker (pid ") && text.contains("--data-path"), "{text}");
    broker.kill();

    // The first frames are another file's.
    let segment = data.join("topic-plays/0000000001.segment");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[..64].fill(7);
    fs::write(&segment, &bytes).unwrap();
    let refused = crate::support::output(temp.path(), &args);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_ne!(refused.status.code(), Some(0));
    for part in ["topic plays", "topic-plays", "move the directory away"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    fs::rename(data.join("topic-plays"), temp.path().join("away")).unwrap();
    KeptBroker::start(temp.path(), &[]).stop();
}
