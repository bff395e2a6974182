//! Measures the consumer against a real nsqd: latency at fixed rates, throughput, CPU for each message; each with
//! the adaptive RDY beside a fixed one of 2500, in turns. And beside go-nsq, where `GO_NSQ` names the program of
//! `benches/peers/go-nsq/client`: slow handlers, an empty handler, many threads that publish. `shutdown`: how
//! a running consumer ends.
//!
//! `NSQD=/path/to/nsqd cargo run --release -p nsq-protocol --example measure WHAT`, where WHAT is `latency`,
//! `throughput`, `handlers`, `drain`, `publish` or `shutdown`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement: it prints, and fails loudly"
)]

mod beside;
mod handlers;
mod nsqd;
mod publish;
mod shutdown;

use std::time::{Duration, Instant};

use nsq_protocol::thread::{OwnedThread, stop_pair};
use nsq_protocol::{BodiesBuf, Consumer, ConsumerConfig, Producer, ProducerConfig, RdyMode};

use crate::nsqd::{Nsqd, cpu};

/// Messages of one throughput run, and their size.
const MESSAGES: usize = 1_000_000;
const BODY: usize = 120;

/// How long each rate is measured, and how often in turns.
const LATENCY_TIME: Duration = Duration::from_secs(5);
const TURNS: usize = 3;

/// What is measured beside each other: a name, the mode, max_in_flight.
const MODES: [(&str, RdyMode, u32); 3] = [
    ("fixed 2500", RdyMode::Fixed, 2500),
    ("adaptive", RdyMode::Adaptive, 2500),
    ("fixed 1", RdyMode::Fixed, 1),
];

fn config(nsqd: &Nsqd, topic: &str, channel: &str, rdy: RdyMode) -> ConsumerConfig {
    let config = ConsumerConfig::new(topic.parse().unwrap(), channel.parse().unwrap()).rdy(rdy);
    config.nsqd(&*nsqd.addr).max_in_flight(2500)
}

fn percentile(sorted: &[u64], percent: f64) -> f64 {
    let at = ((sorted.len() - 1) as f64 * percent / 100.0) as usize;
    sorted[at] as f64 / 1e6
}

fn latency(nsqd: &Nsqd, rate: u32, mode: usize, topic: &str) -> (Vec<u64>, u64) {
    let (_, rdy, max_in_flight) = MODES[mode];
    let config = config(nsqd, topic, "c", rdy).max_in_flight(max_in_flight);
    let consumer = Consumer::start(config).unwrap();
    let batches = consumer.batches();
    let began = Instant::now();
    let receiving = OwnedThread::spawn("receive", move || {
        let mut latencies = Vec::new();
        for batch in batches {
            let now = began.elapsed().as_nanos() as u64;
            for message in &batch {
                latencies.push(now - u64::from_be_bytes(message.body[..8].try_into().unwrap()));
            }
            batch.finish();
        }
        latencies
    })
    .unwrap();
    let producer = Producer::connect(ProducerConfig::new().nsqd(&*nsqd.addr)).unwrap();
    let topic = topic.parse().unwrap();
    let (_source, stop) = stop_pair();
    let mut last = None;
    let mut peak_rdy = 0;
    for number in 0..(LATENCY_TIME.as_secs_f64() * f64::from(rate)) as u32 {
        stop.wait_until(began + Duration::from_secs(1) * number / rate);
        let mut body = vec![0; BODY];
        body[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_be_bytes());
        last = Some(producer.submit(&topic, body).unwrap());
        if number % 100 == 0 {
            peak_rdy = peak_rdy.max(consumer.stats().connections[0].rdy);
        }
    }
    last.unwrap().wait().unwrap();
    stop.wait(Duration::from_millis(300));
    consumer.shutdown();
    (receiving.join(), peak_rdy)
}

fn print_latency(nsqd: &Nsqd, rates: &[u32]) {
    println!(
        "{:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "rate", "rdy", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "max rdy"
    );
    for rate in rates {
        let mut all = [const { Vec::new() }; MODES.len()];
        let mut peaks = [0; MODES.len()];
        for turn in 0..TURNS {
            for mode in 0..MODES.len() {
                let (latencies, peak) =
                    latency(nsqd, *rate, mode, &format!("l{rate}-{turn}-{mode}"));
                all[mode].extend(latencies);
                peaks[mode] = peak.max(peaks[mode]);
            }
        }
        for (mode, (name, ..)) in MODES.iter().enumerate() {
            let sorted = &mut all[mode];
            sorted.sort_unstable();
            let [p50, p90, p99, p999, max] =
                [50.0, 90.0, 99.0, 99.9, 100.0].map(|p| percentile(sorted, p));
            println!(
                "{rate:>8} {name:>10} {p50:>9.3} {p90:>9.3} {p99:>9.3} {p999:>9.3} {max:>9.3} {:>9}",
                peaks[mode]
            );
        }
    }
}

fn print_throughput(nsqd: &Nsqd) {
    let channels: Vec<String> = (0..2 * TURNS).map(|number| format!("c{number}")).collect();
    for channel in &channels {
        // Subscribing creates the channel, so that each gets a copy of all.
        let config = config(nsqd, "t", channel, RdyMode::Fixed).max_in_flight(1);
        Consumer::start(config).unwrap().shutdown();
    }
    let producer = Producer::connect(ProducerConfig::new().nsqd(&*nsqd.addr)).unwrap();
    let topic = "t".parse().unwrap();
    let mut bodies = BodiesBuf::new();
    (0..1000).for_each(|_| bodies.push(&[b'x'; BODY]));
    for _ in 0..MESSAGES / 1000 {
        producer.publish_many(&topic, &bodies).unwrap();
    }
    let (_source, stop) = stop_pair();
    stop.wait(Duration::from_secs(3));
    println!("{:>10} {:>10} {:>12} {:>12}", "rdy", "msg/s", "CPU us/msg", "nsqd us/msg");
    let mut best = [0f64; 2];
    for (number, channel) in channels.iter().enumerate() {
        // The first of a pair has the colder caches: swap in each turn.
        let index = (number + number / 2) % 2;
        let rdy = [RdyMode::Fixed, RdyMode::Adaptive][index];
        let (own, theirs, began) = (cpu("self"), nsqd.cpu(), Instant::now());
        let consumer = Consumer::start(config(nsqd, "t", channel, rdy)).unwrap();
        let mut seen = 0;
        for batch in consumer.batches() {
            seen += batch.len();
            batch.finish();
            if seen == MESSAGES {
                break;
            }
        }
        let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
        consumer.shutdown();
        let micros = |seconds: f64| seconds * 1e6 / MESSAGES as f64;
        let name = ["fixed 2500", "adaptive"][index];
        println!(
            "{name:>10} {rate:>10.0} {:>12.2} {:>12.2}",
            micros(cpu("self") - own),
            micros(nsqd.cpu() - theirs)
        );
        best[index] = best[index].max(rate);
    }
    println!("adaptive / fixed, best of each: {:.3}", best[1] / best[0]);
}

fn main() {
    let what = std::env::args().nth(1).unwrap_or_default();
    let nsqd = Nsqd::start();
    match &*what {
        "latency" => print_latency(&nsqd, &[100, 1000, 10_000]),
        "throughput" => print_throughput(&nsqd),
        "handlers" => handlers::print_slow(&nsqd),
        "drain" => handlers::print_drain(&nsqd),
        "publish" => publish::print(&nsqd),
        "shutdown" => shutdown::print(&nsqd),
        _ => {
            println!("usage: measure latency | throughput | handlers | drain | publish | shutdown")
        }
    }
}
