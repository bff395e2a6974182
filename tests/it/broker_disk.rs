//! `broker --data-path` on a disk that is full, has a limit, or fails.

use std::fs;
use std::time::Instant;

use nsq_protocol::Command;

use crate::broker_kept::{KEPT, message};
use crate::broker_support::{Client, Got, http, topic};
use crate::disk::SmallDisk;
use crate::kept_broker::KeptBroker;
use crate::support::wait_until;
use crate::timing::DEADLINE;

#[test]
fn a_full_disk_refuses_and_goes_on_delivering() {
    let temp = tempfile::tempdir().unwrap();
    let at = temp.path().join("messages");
    fs::create_dir(&at).unwrap();
    let Some(_disk) = SmallDisk::mount(&at, "600k") else { return };
    let options = ["--max-msg-size", "1000", "--max-body-size", "20000"];
    let broker = KeptBroker::start(temp.path(), &options);
    broker.post("/topic/create?topic=plays");
    broker.post("/channel/create?topic=plays&channel=a");
    let body = [b'x'; 900];
    let mut accepted = 0;
    let refused = loop {
        let (status, _, answer) = http(broker.http, "POST", "/pub?topic=plays", &body);
        if status != 200 {
            break (status, answer);
        }
        accepted += 1;
        assert!(accepted < 2000, "the disk is never full");
    };
    assert_eq!(refused.0, 503, "{refused:?}");
    assert!(refused.1.contains("No space left"), "{refused:?}");
    let (status, _, ping) = http(broker.http, "GET", "/ping", b"");
    assert!(status == 500 && ping.starts_with("NOK - topic plays"), "{ping}");
    let mut producer = Client::connect(broker.tcp);
    // After a write that failed there may be room for a few.
    let refused = loop {
        producer.send(Command::Pub(topic("plays"), &body));
        match producer.next(DEADLINE) {
            Got::Error(text) => break text,
            other => assert_eq!(other, Got::Response("OK".into())),
        }
        accepted += 1;
        assert!(accepted < 2000, "the disk is never full");
    };
    assert!(refused.starts_with("E_PUB_FAILED PUB cannot be kept"), "{refused}");
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 100);
    for nth in 0..accepted {
        let got = message(&mut consumer, &format!("message {nth} of {accepted}"));
        consumer.finish(&got);
    }
    wait_until("room on the disk", || http(broker.http, "GET", "/ping", b"").0 == 200);
    assert_eq!(http(broker.http, "POST", "/pub?topic=plays", &body).0, 200);
    message(&mut consumer, "the one behind it");
    broker.stop();
}

/// A disk with a bad place: the other topics are read as fast as ever, and that one is once it can be.
#[test]
fn a_topic_that_cannot_be_read_holds_up_no_other() {
    const COUNT: usize = 3000;
    let temp = tempfile::tempdir().unwrap();
    let options = ["--mem-queue-size", "10", "--max-msg-size", "1000", "--max-body-size", "20000"];
    let broker = KeptBroker::start(temp.path(), &options);
    broker.fill("bad", COUNT);
    let all = broker.fill("good", COUNT);
    // Nothing of it is in memory.
    broker.kill();
    let mut broker = KeptBroker::start(temp.path(), &options);
    let segment = temp.path().join("messages/topic-bad/0000000001.segment");
    let aside = temp.path().join("aside");
    fs::rename(&segment, &aside).unwrap();
    let mut of_bad = Client::consumer(broker.tcp, "bad", "a", 10);
    broker.process.wait_for("broker: topic bad: cannot read its messages");
    let mut of_good = Client::consumer(broker.tcp, "good", "a", 10);
    let since = Instant::now();
    for (nth, body) in all.iter().enumerate() {
        let got = message(&mut of_good, &format!("message {nth}"));
        assert_eq!(got.body, body.as_bytes(), "message {nth}");
        of_good.finish(&got);
        assert!(since.elapsed() < DEADLINE, "message {nth} after {:?}", since.elapsed());
    }
    fs::rename(&aside, &segment).unwrap();
    for (nth, body) in all.iter().enumerate() {
        let got = message(&mut of_bad, &format!("message {nth}, late"));
        assert_eq!(got.body, body.as_bytes(), "message {nth}");
        of_bad.finish(&got);
    }
    broker.stop();
}

/// What is behind it in its file is lost, and said to be; nothing else is, and nothing is made up.
#[test]
fn a_file_that_is_found_damaged_is_told_and_the_others_are_delivered() {
    const COUNT: usize = 3000;
    let temp = tempfile::tempdir().unwrap();
    let options = ["--mem-queue-size", "10", "--max-msg-size", "1000", "--max-body-size", "20000"];
    let broker = KeptBroker::start(temp.path(), &options);
    let all = broker.fill("plays", COUNT);
    broker.kill();
    let mut broker = KeptBroker::start(temp.path(), &options);
    let segment = temp.path().join("messages/topic-plays/0000000002.segment");
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 64], 32 << 10).unwrap();
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 10);
    let mut got = Vec::new();
    while got.last() != all.last() {
        let message = message(&mut consumer, &format!("one behind {:?}", got.last()));
        consumer.finish(&message);
        got.push(String::from_utf8(message.body).unwrap());
    }
    let said = "broker: topic plays: messages are lost: segment 2 is damaged at byte";
    broker.process.wait_for(said);
    assert!(got.is_sorted_by_key(|body| body.trim_end().parse::<usize>().unwrap()));
    let lost = COUNT - got.len();
    // A segment has some 600 of them, and half of one is lost.
    assert!((100..500).contains(&lost), "{lost} are lost");
    assert!(got.iter().all(|body| all.contains(body)), "something is made up");
    wait_until("nothing is left", || broker.depth("plays", "a") == 0);
    broker.stop();
}

#[test]
fn more_than_max_disk_is_refused_until_there_is_room() {
    let temp = tempfile::tempdir().unwrap();
    let options = ["--max-disk", "300000", "--max-msg-size", "1000", "--max-body-size", "20000"];
    let broker = KeptBroker::start(temp.path(), &options);
    let mut consumer = Client::consumer(broker.tcp, "plays", "a", 0);
    let mut accepted = 0;
    let answer = loop {
        let (status, _, answer) = http(broker.http, "POST", "/pub?topic=plays", &[b'x'; 900]);
        if status != 200 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 2000, "nothing is refused");
    };
    assert!(answer.contains("disk limit: ") && answer.contains("--max-disk"), "{answer}");
    consumer.send(Command::Rdy(100));
    for nth in 0..accepted {
        let got = message(&mut consumer, &format!("message {nth} of {accepted}"));
        consumer.finish(&got);
    }
    wait_until("room", || http(broker.http, "POST", "/pub?topic=plays", b"x").0 == 200);
    broker.stop();
}

/// Neither in files that are not full yet, nor in those of before a start.
#[test]
fn what_is_finished_takes_no_room_from_others() {
    let temp = tempfile::tempdir().unwrap();
    let options = ["--max-disk", "150000", "--max-msg-size", "1000", "--max-body-size", "20000"];
    let names = ["t1", "t2", "t3", "t4", "t5", "t6"];
    for start in 0..3 {
        let broker = KeptBroker::start(temp.path(), &options);
        for (nth, name) in names.iter().cycle().take(18).enumerate() {
            let mut consumer = Client::consumer(broker.tcp, name, "a", 100);
            for _ in 0..20 {
                let target = format!("/pub?topic={name}");
                let publish = || http(broker.http, "POST", &target, &[b'x'; 900]).0 == 200;
                wait_until(&format!("room, start {start}, turn {nth}"), publish);
            }
            for _ in 0..20 {
                let got = message(&mut consumer, name);
                consumer.finish(&got);
            }
        }
        // What is finished is to be known of.
        std::thread::sleep(KEPT);
        broker.kill();
    }
}

#[test]
fn a_topic_whose_directory_is_gone_can_be_deleted() {
    let temp = tempfile::tempdir().unwrap();
    let broker = KeptBroker::start(temp.path(), &[]);
    broker.post("/topic/create?topic=plays");
    fs::remove_dir_all(temp.path().join("messages/topic-plays")).unwrap();
    let pub_status = || http(broker.http, "POST", "/pub?topic=plays", b"x").0;
    assert_eq!(pub_status(), 503);
    assert_eq!(http(broker.http, "GET", "/ping", b"").0, 500);
    broker.post("/topic/delete?topic=plays");
    assert_eq!(http(broker.http, "GET", "/ping", b"").0, 200);
    assert_eq!(pub_status(), 200);
    broker.stop();
}
