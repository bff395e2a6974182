//! Prints the messages of a topic as they come, like `nsq_tail`.
//!
//! `cargo run --example tail -- TOPIC [COUNT [NSQD...]]`: all messages, or COUNT of them (0: all); NSQD is
//! `host:port`, 127.0.0.1:4150 by default.

use std::error::Error;
use std::io::Write;

use nsq_protocol::{Consumer, ConsumerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let topic = args.next().ok_or("usage: tail TOPIC [COUNT [NSQD...]]")?;
    let count: usize = args.next().map_or(Ok(0), |count| count.parse())?;
    let mut nsqds: Vec<String> = args.collect();
    if nsqds.is_empty() {
        nsqds.push("127.0.0.1:4150".to_owned());
    }
    // A channel of our own, so that we take no message from anybody, and which goes when we do.
    let channel = format!("tail-{}#ephemeral", std::process::id());
    let config = ConsumerConfig::new(topic.parse()?, channel.parse()?);
    let consumer = Consumer::start(nsqds.into_iter().fold(config, ConsumerConfig::nsqd))?;

    let mut out = std::io::stdout().lock();
    let mut printed = 0;
    for delivery in consumer.batches().flat_map(|batch| batch.into_deliveries()) {
        out.write_all(delivery.body())?;
        out.write_all(b"\n")?;
        out.flush()?;
        delivery.finish();
        printed += 1;
        if printed == count {
            break;
        }
    }
    consumer.stop();
    Ok(())
}
