//! Runs a shell command for each message, several at a time: the body is its standard input, exit code 0 is
//! success. A failure is tried again later, later each time; after the last attempt the message goes to a dead-letter
//! topic.
//!
//! `cargo run --example workers -- TOPIC CHANNEL COMMAND [THREADS [NSQD...]]`: 4 threads and 127.0.0.1:4150 by
//! default. Failures end in `TOPIC.dead`. Ctrl-C or SIGTERM stops in order: each worker ends its message first.
#![allow(clippy::print_stderr, reason = "this is its log")]

use std::error::Error;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::Duration;

use nsq_protocol::{Consumer, ConsumerConfig, GiveUp, Producer, ProducerConfig, TopicName};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Deliveries of one message before it is given up.
const MAX_ATTEMPTS: u16 = 3;

/// The wait before the second attempt; before the third it is twice as long.
const RETRY: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: workers TOPIC CHANNEL COMMAND [THREADS [NSQD...]]");
    let (topic, channel, command) = (next()?, next()?, next()?);
    let threads = args.next().map_or(Ok(const { NonZeroUsize::new(4).unwrap() }), |n| n.parse())?;
    let mut nsqds: Vec<String> = args.collect();
    if nsqds.is_empty() {
        nsqds.push("127.0.0.1:4150".to_owned());
    }
    let dead: TopicName = format!("{topic}.dead").parse()?;
    // Before the first message can come: from now on a signal is ours.
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let config = nsqds.iter().cloned().fold(ProducerConfig::new(), ProducerConfig::nsqd);
    let producer = Producer::connect(config)?;
    // What a worker cannot start yet is better off at another consumer: two messages for each thread.
    let config = ConsumerConfig::new(topic.parse()?, channel.parse()?);
    let config = config.max_in_flight(2 * u32::try_from(threads.get())?);
    let mut config = nsqds.into_iter().fold(config, ConsumerConfig::nsqd).on_give_up(move |of| {
        let message = of.message;
        eprintln!("{}, given up after {} attempts: {}", message.id, message.attempts, of.cause);
        // Done here only once it is safe there; a crash in between leaves two copies rather than none.
        match producer.publish(&dead, message.body) {
            Ok(()) => GiveUp::Finish,
            Err(error) => {
                eprintln!("{}: {error}", message.id);
                GiveUp::Requeue(RETRY)
            }
        }
    });
    config = config.max_attempts(MAX_ATTEMPTS).default_requeue_delay(RETRY);
    let running = Consumer::start(config)?.run_fallible(threads, move |message| {
        let outcome = run(&command, message.body());
        if let Err(error) = &outcome {
            eprintln!("{}, attempt {}: {error}", message.id(), message.attempts());
        }
        outcome
    })?;
    signals.forever().next();
    let stats = running.shutdown();
    let finished: u64 = stats.connections.iter().map(|connection| connection.finished).sum();
    eprintln!("{finished} messages done");
    Ok(())
}

/// Runs the command and waits for it; longer than nsqd's msg-timeout, the message would go to another worker.
fn run(command: &str, body: &[u8]) -> io::Result<()> {
    let mut child = Command::new("sh").args(["-c", command]).stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(body) {
            // It need not read all, or anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}
