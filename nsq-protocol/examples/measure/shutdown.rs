//! The end of [`Consumer::run`]: how long it takes, handlers that are called behind it, and answers that are lost.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nsq_protocol::thread::stop_pair;
use nsq_protocol::{Consumer, ConsumerConfig, MessageId};

use crate::handlers::publish;
use crate::nsqd::Nsqd;

/// What a handler takes, and the messages that are there.
const HANDLERS: [(&str, Duration, usize); 3] = [
    ("fast", Duration::ZERO, 500_000),
    ("100 ms", Duration::from_millis(100), 500),
    ("hangs", Duration::MAX, 500),
];

const DEADLINES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(50),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

const WORKERS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// A call that begins so soon behind the stop was on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(5);

/// What the handlers tell.
#[derive(Default)]
struct Calls {
    stopped: OnceLock<Instant>,
    late: Mutex<usize>,
    finished: Mutex<HashSet<MessageId>>,
}

pub(crate) fn print(nsqd: &Nsqd) {
    println!("handler  deadline s   took s  calls later  named  finished  answers lost");
    for (name, each, messages) in HANDLERS {
        for deadline in DEADLINES {
            measure(nsqd, name, each, messages, deadline);
        }
    }
}

fn measure(nsqd: &Nsqd, name: &str, each: Duration, messages: usize, deadline: Duration) {
    let topic = format!("stop-{messages}-{}-{}", each.as_millis(), deadline.as_millis());
    publish(&nsqd.addr, &topic, messages);
    let config =
        || ConsumerConfig::new(topic.parse().unwrap(), "c".parse().unwrap()).nsqd(&*nsqd.addr);
    let calls = Arc::new(Calls::default());
    let (release, hanging) = stop_pair();
    let running = {
        let calls = Arc::clone(&calls);
        let handler = move |message: nsq_protocol::Delivery| {
            let is_late = calls.stopped.get().is_some_and(|at| at.elapsed() > ON_ITS_WAY);
            *calls.late.lock().unwrap() += usize::from(is_late);
            if !each.is_zero() {
                hanging.wait(each);
            }
            let id = message.id();
            message.finish();
            calls.finished.lock().unwrap().insert(id);
        };
        Consumer::start(config()).unwrap().run(WORKERS, handler).unwrap()
    };
    // All of them are at work; those of 100 ms have some 70 ms to go.
    stop_pair().1.wait(Duration::from_millis(330));
    let began = Instant::now();
    calls.stopped.set(began).unwrap();
    let shutdown = running.shutdown_within(deadline);
    let took = began.elapsed();
    let mut finished = std::mem::take(&mut *calls.finished.lock().unwrap());
    let count = finished.len();
    for message in &shutdown.unanswered {
        finished.remove(&message.id);
    }
    // What nsqd delivers again although it was finished.
    let consumer = Consumer::start(config()).unwrap();
    let batches = consumer.batches();
    let mut lost = 0;
    while let Ok(batch) = batches.recv_timeout(Duration::from_secs(1)) {
        lost += batch.iter().filter(|message| finished.contains(&message.id)).count();
        batch.finish();
    }
    consumer.shutdown();
    drop(release);
    println!(
        "{name:>7} {:>11.3} {:>8.3} {:>12} {:>6} {count:>9} {lost:>13}",
        deadline.as_secs_f64(),
        took.as_secs_f64(),
        calls.late.lock().unwrap(),
        shutdown.unanswered.len(),
    );
}
