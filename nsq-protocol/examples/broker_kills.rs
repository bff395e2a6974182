//! Our producer and consumer for `scripts/broker-kills`, which kills the broker while they run. They write down what was
//! sent, acknowledged and delivered.
//!
//! `cargo run --example broker_kills -- produce|consume NSQD TOPIC CHANNEL FILE RATE`: FILE gets a line for each message's
//! number; RATE is publishes a second. They run until they are killed.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nsq_protocol::{
    BodiesBuf, ConnectionConfig, Consumer, ConsumerConfig, Delivery, Producer, ProducerConfig,
    TopicName,
};

/// How long a client waits at most before it looks for the broker again.
const RECONNECT: Duration = Duration::from_millis(50);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next =
        || args.next().ok_or("usage: broker_kills produce|consume NSQD TOPIC CHANNEL FILE RATE");
    let (role, nsqd, topic, channel, file) = (next()?, next()?, next()?, next()?, next()?);
    let rate: u32 = next()?.parse()?;
    // Not buffered: what is written is there when this is killed.
    let file = File::create(file)?;
    let connection = ConnectionConfig::new().reconnect_min(RECONNECT).reconnect_max(RECONNECT);
    if role == "produce" {
        let config = ProducerConfig::new().nsqd(nsqd).connection(connection);
        return produce(&Producer::connect(config)?, &topic.parse()?, file, rate);
    }
    let config = ConsumerConfig::new(topic.parse()?, channel.parse()?).nsqd(nsqd).max_in_flight(50);
    let file = Mutex::new(file);
    let handler = move |delivery| take(delivery, &file);
    let _running =
        Consumer::start(config.connection(connection))?.run(NonZeroUsize::MIN, handler)?;
    loop {
        std::thread::park();
    }
}

/// What message `number` says; the other clients have the same.
fn body(number: u64) -> String {
    let filler = char::from(b'a' + (number % 26) as u8);
    format!("{number}:{}", filler.to_string().repeat((number * 37 % 400) as usize))
}

/// Publishes for ever: DPUB, PUB and MPUB in turn. `+9` says that all up to 9 are sent, `9` that it was acknowledged.
fn produce(
    producer: &Producer,
    topic: &TopicName,
    mut file: File,
    rate: u32,
) -> Result<(), Box<dyn Error>> {
    let (mut number, mut at) = (0, Instant::now());
    for turn in 0_u64.. {
        let count = if turn % 10 < 4 { 1 } else { 5 };
        let numbers = number + 1..=number + count;
        number += count;
        writeln!(file, "+{number}")?;
        let result = match turn % 10 {
            0 => producer.publish_deferred(
                topic,
                Duration::from_millis(turn % 30 * 100),
                body(number).as_bytes(),
            ),
            1..4 => producer.publish(topic, body(number).as_bytes()),
            _ => {
                let mut bodies = BodiesBuf::new();
                numbers.clone().for_each(|number| bodies.push(body(number).as_bytes()));
                producer.publish_many(topic, &bodies)
            }
        };
        match result {
            Ok(()) => file.write_all(
                numbers.map(|number| format!("{number}\n")).collect::<String>().as_bytes(),
            )?,
            Err(error) => writeln!(file, "# {error}")?,
        }
        at = at.max(Instant::now() - RECONNECT) + Duration::from_secs(1) / rate;
        std::thread::park_timeout(at.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Writes down what came, and finishes it; or gives some back for later.
fn take(delivery: Delivery, file: &Mutex<File>) {
    let text = String::from_utf8_lossy(delivery.body()).into_owned();
    let number = text.split(':').next().and_then(|number| number.parse().ok());
    let line = match number {
        Some(number) if body(number) == text => {
            if number % 7 == 3 && delivery.attempts() < 3 {
                delivery.requeue_without_backoff(Duration::from_millis(number % 20 * 50));
                return;
            }
            format!("{number}\n")
        }
        _ => format!("? {text:?}\n"),
    };
    let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // What is not written down is delivered again.
    if file.write_all(line.as_bytes()).is_ok() {
        delivery.finish();
    }
}
