//! Workers of [`Consumer::run`]: how long slow handlers take beside the ideal, and how fast an empty one drains.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};
use nsq_protocol::{BodiesBuf, Consumer, ConsumerConfig, Producer, ProducerConfig, RdyMode};

use crate::beside::{go_nsq, number};
use crate::nsqd::{Nsqd, cpu};

/// Messages, what each takes, and the msg-timeout.
const CASES: [(usize, u64, u64); 3] = [(4, 5, 60), (40, 1, 60), (24, 3, 10)];

const WORKERS: [usize; 3] = [1, 4, 16];

/// Messages of one drain.
const DRAINED: usize = 500_000;

/// One of the cases, with one client.
#[derive(Clone, Copy)]
struct Case {
    messages: usize,
    each: Duration,
    msg_timeout: Duration,
    workers: usize,
    client: &'static str,
}

/// Seconds, and messages that were delivered more than once.
type Outcome = (f64, u64);

/// The handlers sleep: all cases run at one time.
pub(crate) fn print_slow(nsqd: &Nsqd) {
    let mut running = Vec::new();
    for (messages, each, msg_timeout) in CASES {
        for workers in WORKERS {
            for client in ["adaptive", "fixed", "go-nsq"] {
                let seconds = Duration::from_secs;
                let (each, msg_timeout) = (seconds(each), seconds(msg_timeout));
                let case = Case { messages, each, msg_timeout, workers, client };
                let addr = nsqd.addr.clone();
                running
                    .push((case, OwnedThread::spawn("case", move || slow(&addr, case)).unwrap()));
            }
        }
    }
    println!(
        "messages x each, timeout  workers    client   ideal s     took s  of ideal  redelivered"
    );
    for (case, outcome) in running {
        let Some((took, again)) = outcome.join() else { continue };
        let Case { messages, each, msg_timeout, workers, client } = case;
        let ideal = (messages.div_ceil(workers) as u32 * each).as_secs_f64();
        println!(
            "{messages:>8} x {each:>4?}, {msg_timeout:>7?} {workers:>8} {client:>9} {ideal:>9.1} {took:>10.2} {:>9.3} {again:>12}",
            took / ideal
        );
    }
}

fn slow(addr: &str, case: Case) -> Option<Outcome> {
    let Case { messages, each, msg_timeout, workers, client } = case;
    let topic = format!("slow-{messages}-{workers}-{client}");
    publish(addr, &topic, messages);
    if client == "go-nsq" {
        let args = [
            format!("-nsqd={addr}"),
            format!("-topic={topic}"),
            format!("-messages={messages}"),
            format!("-each={each:?}"),
            format!("-msg-timeout={msg_timeout:?}"),
            format!("-goroutines={workers}"),
            format!("-max-in-flight={workers}"),
        ];
        let told = go_nsq(&[&["-mode=handle".to_owned()], &args[..]].concat())?;
        return Some((number(&told, "seconds"), number(&told, "redelivered") as u64));
    }
    let mut config = ConsumerConfig::new(topic.parse().unwrap(), "c".parse().unwrap())
        .nsqd(addr)
        .msg_timeout(msg_timeout);
    if client == "fixed" {
        config = config.rdy(RdyMode::Fixed);
        // More would wait here longer than the msg-timeout, with any client.
        config = config.max_in_flight(workers as u32);
    }
    Some(handle(config, workers, messages, each))
}

/// Runs workers until all messages are done.
fn handle(config: ConsumerConfig, workers: usize, messages: usize, each: Duration) -> Outcome {
    let (all, done) = stop_pair();
    let (_sleep, sleeping) = stop_pair();
    let work =
        Arc::new(Work { left: AtomicUsize::new(messages), again: AtomicU64::new(0), sleeping });
    let all = parking(all);
    let began = Instant::now();
    let consumer = Consumer::start(config).unwrap();
    let running = {
        let work = work.clone();
        consumer.run(NonZeroUsize::new(workers).unwrap(), move |message| {
            work.again.fetch_add(u64::from(message.attempts() > 1), Ordering::Relaxed);
            if !each.is_zero() {
                work.sleeping.wait(each);
            }
            message.finish();
            if work.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                drop(all.lock().unwrap().take());
            }
        })
    };
    done.wait(Duration::from_secs(200));
    let took = began.elapsed().as_secs_f64();
    running.unwrap().shutdown();
    (took, work.again.load(Ordering::Relaxed))
}

struct Work {
    left: AtomicUsize,
    again: AtomicU64,
    sleeping: StopToken,
}

fn parking(source: StopSource) -> std::sync::Mutex<Option<StopSource>> {
    std::sync::Mutex::new(Some(source))
}

/// An empty handler: messages a second, and CPU.
pub(crate) fn print_drain(nsqd: &Nsqd) {
    println!("workers    client      msg/s   CPU us/msg  nsqd us/msg");
    for turn in 0..3 {
        for workers in WORKERS {
            for client in ["adaptive", "fixed", "go-nsq"] {
                let topic = format!("drain-{turn}-{workers}-{client}");
                publish(&nsqd.addr, &topic, DRAINED);
                let (own, theirs) = (cpu("self"), nsqd.cpu());
                let Some((took, used)) = drain(nsqd, &topic, workers, client) else { continue };
                let micros = |seconds: f64| seconds * 1e6 / DRAINED as f64;
                println!(
                    "{workers:>7} {client:>9} {:>10.0} {:>12.2} {:>12.2}",
                    DRAINED as f64 / took,
                    micros(used.unwrap_or_else(|| cpu("self") - own)),
                    micros(nsqd.cpu() - theirs),
                );
            }
        }
    }
}

/// Seconds it took, and those of CPU where another process used them.
fn drain(nsqd: &Nsqd, topic: &str, workers: usize, client: &str) -> Option<(f64, Option<f64>)> {
    if client == "go-nsq" {
        let args = [
            "-mode=handle".to_owned(),
            format!("-nsqd={}", nsqd.addr),
            format!("-topic={topic}"),
            format!("-messages={DRAINED}"),
            format!("-goroutines={workers}"),
            "-max-in-flight=2500".to_owned(),
        ];
        let told = go_nsq(&args)?;
        return Some((number(&told, "seconds"), Some(number(&told, "cpu"))));
    }
    let mut config = ConsumerConfig::new(topic.parse().unwrap(), "c".parse().unwrap());
    if client == "fixed" {
        config = config.rdy(RdyMode::Fixed);
    }
    Some((handle(config.nsqd(&*nsqd.addr), workers, DRAINED, Duration::ZERO).0, None))
}

/// Has so many messages of 120 bytes wait in the channel `c`.
pub(crate) fn publish(addr: &str, topic: &str, messages: usize) {
    let config = ConsumerConfig::new(topic.parse().unwrap(), "c".parse().unwrap()).nsqd(addr);
    Consumer::start(config).unwrap().shutdown();
    let producer = Producer::connect(ProducerConfig::new().nsqd(addr)).unwrap();
    let mut bodies = BodiesBuf::new();
    (0..messages).for_each(|_| bodies.push(&[b'x'; 120]));
    producer.publish_many(&topic.parse().unwrap(), &bodies).unwrap();
}
