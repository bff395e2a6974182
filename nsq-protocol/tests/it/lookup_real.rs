//! Discovery with a real nsqlookupd and real nsqds, which come, move and go.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{Consumer, Producer, ProducerConfig, TopicName};
use parking_lot::Mutex;

use crate::lookup::wait_until;
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::script::{beside, config, producer_config};
use crate::timing::{DEADLINE, MINUTE};

/// nsqds that register with that nsqlookupd.
fn nsqd_for(lookupd: &Nsqlookupd) -> Nsqd {
    let program = nsqd::find().expect("there is an nsqlookupd");
    Nsqd::start(&program, &["--lookupd-tcp-address", &lookupd.tcp.to_string()])
}

fn topic() -> TopicName {
    "t".parse().unwrap()
}

#[test]
fn a_real_nsqlookupd_leads_to_a_real_nsqd_and_may_go() {
    let Some(mut lookupd) = Nsqlookupd::start() else { return };
    let nsqd = nsqd_for(&lookupd);
    let mut config = config().lookupd(format!("http://{}", lookupd.http));
    config = config.lookupd_poll_interval(Duration::from_millis(50));
    let consumer = Consumer::start(config).unwrap();
    let batches = consumer.batches();
    assert!(batches.recv_timeout(Duration::from_millis(200)).is_err(), "nobody knows the topic");
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic(), b"one").unwrap();
    batches.recv_timeout(DEADLINE).unwrap().finish();
    lookupd.kill();
    wait_until("polls fail", || consumer.stats().lookupds[0].failures > 3);
    assert!(!consumer.stats().lookupds[0].answering);
    producer.publish(&topic(), b"two").unwrap();
    batches.recv_timeout(DEADLINE).unwrap().finish();
    assert_eq!(consumer.shutdown().connections[0].finished, 2);
}

/// A producer that prefers the nsqd with that number, and has published there.
fn producer_of_all(nsqds: &[Nsqd], first: usize) -> Producer {
    let others = (0..nsqds.len()).map(|step| nsqds[(first + step) % nsqds.len()].addr());
    let config = others.fold(producer_config(), ProducerConfig::nsqd);
    let producer = Producer::connect(config).unwrap();
    producer.publish(&topic(), format!("first of {first}").as_bytes()).unwrap();
    producer
}

/// Publishes with each of them until it has ended; each gives what nsqd has acknowledged.
fn load(producers: Vec<Producer>, ended: &Arc<AtomicBool>) -> Vec<OwnedThread<Vec<Vec<u8>>>> {
    producers
        .into_iter()
        .enumerate()
        .map(|(index, producer)| {
            let ended = ended.clone();
            beside(move || {
                let mut sent = Vec::new();
                while !ended.load(Ordering::SeqCst) {
                    let body = format!("{index}:{}", sent.len()).into_bytes();
                    producer.publish(&topic(), &body).unwrap();
                    sent.push(body);
                }
                sent
            })
        })
        .collect()
}

/// Three nsqds under load; one is ended and comes back on another port. Everything that was acknowledged is
/// handled. `kill -9` cannot promise that with stock nsqd, which loses what it holds in memory: SIGTERM it is.
#[test]
fn an_nsqd_that_moves_is_found_again_and_nothing_is_lost() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let mut nsqds: Vec<_> = (0..3).map(|_| nsqd_for(&lookupd)).collect();
    let handled: Arc<Mutex<BTreeSet<Vec<u8>>>> = Arc::default();
    let mut config = config().lookupd(lookupd.http.to_string()).max_in_flight(300);
    // As a user has it; what makes the recovery quick is that a lost connection hurries the next poll.
    config = config
        .lookupd_poll_interval(MINUTE)
        .reconnect_min(Duration::from_millis(100))
        .reconnect_max(Duration::from_secs(15));
    // The topic is on every nsqd before the first poll.
    let producers: Vec<_> = (0..3).map(|first| producer_of_all(&nsqds, first)).collect();
    wait_until("all three are registered", || {
        let url = format!("http://{}/lookup?topic=t", lookupd.http);
        let answer = ureq_get(&url);
        answer.matches("tcp_port").count() == 3
    });
    let consumer = Consumer::start(config).unwrap();
    let running = {
        let handled = handled.clone();
        let work = move |delivery: nsq_protocol::Delivery| {
            handled.lock().insert(delivery.body().to_vec());
            delivery.finish();
        };
        consumer.run(NonZeroUsize::MIN, work).unwrap()
    };
    let ended = Arc::new(AtomicBool::new(false));
    let load = load(producers, &ended);
    wait_until("the load flows", || handled.lock().len() > 1000);
    // What it holds when it ends can be handled only once it is found again.
    nsqds[1].terminate();
    let restarting = Instant::now();
    let moved = nsqds[1].restart_elsewhere();
    let back = Instant::now();
    let address = moved.addr();
    wait_until("the moved nsqd is connected", || {
        let stats = running.consumer().stats();
        stats.connections.iter().any(|link| link.address == address && link.connected)
    });
    let recovered = back.elapsed();
    let producer = Producer::connect(producer_config().nsqd(moved.addr())).unwrap();
    producer.publish(&topic(), b"through the moved one").unwrap();
    wait_until("a message of the moved nsqd is handled", || {
        handled.lock().contains(&b"through the moved one"[..])
    });
    let first_message = back.elapsed();
    ended.store(true, Ordering::SeqCst);
    let sent: Vec<_> = load.into_iter().flat_map(|thread| thread.join()).collect();
    wait_until("every acknowledged message is handled", || {
        let handled = handled.lock();
        sent.iter().all(|body| handled.contains(body))
    });
    println!(
        "{} messages, none lost; nsqd was restarted in {:?}, connected {recovered:?} after, handled {first_message:?} after",
        sent.len(),
        back - restarting,
    );
    let stats = running.shutdown();
    assert_eq!(stats.departed.nsqds, 1, "the old address is forgotten");
    // Not at the next regular poll, which is a minute after the last.
    assert!(recovered < DEADLINE, "{recovered:?}");
}

fn ureq_get(url: &str) -> String {
    let answer = ureq::get(url).config().http_status_as_error(false).build().call();
    answer.and_then(|mut answer| answer.body_mut().read_to_string()).unwrap_or_default()
}
