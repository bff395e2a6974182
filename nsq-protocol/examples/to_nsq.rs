//! Publishes each line of the standard input, like `to_nsq`.
//!
//! `cargo run --example to_nsq -- TOPIC [RATE [NSQD...]]`: RATE lines per second (0: as fast as nsqd takes them);
//! NSQD is `host:port`, 127.0.0.1:4150 by default, and those behind the first are for when it fails.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use nsq_protocol::{Producer, ProducerConfig, Receipt, TopicName};

/// Publishes sent ahead of their answers.
const AHEAD: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let topic: TopicName = args.next().ok_or("usage: to_nsq TOPIC [RATE [NSQD...]]")?.parse()?;
    let rate: u32 = args.next().map_or(Ok(0), |rate| rate.parse())?;
    let mut nsqds: Vec<String> = args.collect();
    if nsqds.is_empty() {
        nsqds.push("127.0.0.1:4150".to_owned());
    }
    let config = nsqds.into_iter().fold(ProducerConfig::new(), ProducerConfig::nsqd);
    let producer = Producer::connect(config)?;

    let mut sent: VecDeque<Receipt<Vec<u8>>> = VecDeque::new();
    let mut next = Instant::now();
    for line in std::io::stdin().lines() {
        let line = line?;
        if line.is_empty() {
            // nsqd stores no empty message.
            continue;
        }
        if rate > 0 {
            pause_until(next);
            next += Duration::from_secs(1) / rate;
        }
        sent.push_back(producer.submit(&topic, line.into_bytes())?);
        // Only a receipt that is waited for says that its line is stored, and sends it again where it was lost.
        while sent.len() > AHEAD || sent.front().is_some_and(Receipt::is_ready) {
            sent.pop_front().map(Receipt::wait).transpose()?;
        }
    }
    for receipt in sent {
        receipt.wait()?;
    }
    producer.close(Duration::from_secs(5))?;
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "nothing but Ctrl-C could end the wait, and that does"
)]
fn pause_until(next: Instant) {
    std::thread::sleep(next.saturating_duration_since(Instant::now()));
}
