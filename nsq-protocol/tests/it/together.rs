//! Publishes of several threads that go to nsqd as one MPUB.

use std::sync::Arc;
use std::time::Instant;

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{Admin, ErrorCode, Producer, PublishError, TopicName};

use crate::nsqd::nsqd_or_skip;
use crate::script::{Peer, Script, beside, producer_config};
use crate::timing::DEADLINE;

const PUB: &[u8] = b"PUB t\n\0\0\0\x01x";
const MPUB_OF_3: &[u8] = b"MPUB t\n\0\0\0\x13\0\0\0\x03\0\0\0\x01x\0\0\0\x01x\0\0\0\x01x";

/// Publishes that do not gather.
const ALONE: usize = 2;

/// What a command's head counts for in the window.
const HEAD: usize = 128;

type Publishing = OwnedThread<Result<(), PublishError>>;

/// Threads that publish `x`: two alone, and `more` that wait for their answers. Nothing is answered yet.
fn publish(producer: &Arc<Producer>, peer: &mut Peer, more: usize) -> Vec<Publishing> {
    let topic: TopicName = "t".parse().unwrap();
    let mut publishing = Vec::new();
    for number in 1..=ALONE + more {
        let producer = producer.clone();
        publishing.push(beside(move || producer.publish(&topic, b"x")));
        if number <= ALONE {
            peer.expect(PUB);
        }
    }
    // All of them are in the window, each with the room for a command's head.
    let began = Instant::now();
    let bytes = || producer.stats().connections[0].pending_bytes;
    while bytes() < (ALONE + more) * (HEAD + 1) && began.elapsed() < DEADLINE {
        std::thread::yield_now();
    }
    publishing
}

fn errors(publishing: Vec<Publishing>) -> Vec<PublishError> {
    publishing.into_iter().filter_map(|thread| thread.join().err()).collect()
}

#[test]
fn publishes_behind_two_others_go_together_with_the_next_answer() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let producer = Arc::new(producer);
    let publishing = publish(&producer, &mut peer, 3);
    peer.respond(b"OK");
    peer.expect(MPUB_OF_3);
    (0..ALONE).for_each(|_| peer.respond(b"OK"));
    assert_eq!(errors(publishing).len(), 0);
    let stats = &producer.stats().connections[0];
    assert_eq!((stats.pending_commands, stats.pending_bytes, stats.accepted), (0, 0, 3));
    // One goes as itself, and at once when nothing else is under way.
    let publishing = publish(&producer, &mut peer, 1);
    peer.respond(b"OK");
    peer.expect(PUB);
    (0..ALONE).for_each(|_| peer.respond(b"OK"));
    assert_eq!(errors(publishing).len(), 0);
}

#[test]
fn who_is_refused_with_others_is_tried_alone_and_told_of_its_own() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let producer = Arc::new(producer);
    let publishing = publish(&producer, &mut peer, 3);
    (0..ALONE).for_each(|_| peer.respond(b"OK"));
    peer.expect(MPUB_OF_3);
    peer.error(b"E_BAD_MESSAGE MPUB message too big");
    drop(peer);
    let mut peer = script.accept_identified();
    (0..3).for_each(|_| peer.expect(PUB));
    peer.respond(b"OK");
    peer.respond(b"OK");
    peer.error(b"E_BAD_MESSAGE PUB message too big");
    let errors = errors(publishing);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(!errors[0].is_unknown());
    let PublishError::Refused { source: nsq_protocol::Error::Refused { code, command, .. } } =
        &errors[0]
    else {
        panic!("{errors:?}")
    };
    assert_eq!((code, *command), (&ErrorCode::BadMessage, "PUB"));
}

#[test]
fn what_was_lost_together_is_published_again_by_each() {
    let script = Script::listen();
    let (producer, mut peer) = script.produce(producer_config());
    let producer = Arc::new(producer);
    let publishing = publish(&producer, &mut peer, 3);
    // Not sent yet: all five come again, each on its own.
    drop(peer);
    let mut peer = script.accept_identified();
    for _ in 0..ALONE + 3 {
        peer.expect(PUB);
        peer.respond(b"OK");
    }
    assert_eq!(errors(publishing).len(), 0);
}

#[test]
fn fifty_threads_publish_each_message_once() {
    let nsqd = nsqd_or_skip!();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    let topics: [TopicName; 2] = ["one", "two"].map(|topic| topic.parse().unwrap());
    std::thread::scope(|scope| {
        for number in 0..50 {
            let (producer, topic) = (&producer, &topics[number % 2]);
            scope.spawn(move || (0..100).for_each(|_| producer.publish(topic, b"x").unwrap()));
        }
    });
    let stats = Admin::new(&nsqd.http.to_string()).stats(&Default::default()).unwrap();
    let counts: Vec<_> = stats.topics.iter().map(|topic| topic.message_count).collect();
    assert_eq!(counts, [2500, 2500]);
    let stats = &producer.stats().connections[0];
    assert_eq!((stats.refused, stats.unknown, stats.reconnects), (0, 0, 0));
    assert!(stats.accepted < 5000, "{stats:?}: none went together");
}
