//! Stores a topic's messages in SQLite, up to 500 in one transaction: they are finished once they are on disk, and given
//! back if they cannot be stored. A message that comes again is stored once, by its time and body: nsqd's ID is unique for
//! one run of one nsqd only.
//!
//! `cargo run --example to_sqlite -- FILE TOPIC CHANNEL [NSQD...]`: NSQD is `host:port`, 127.0.0.1:4150 by default. Ctrl-C or
//! SIGTERM stops in order: what was received is stored first.
#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it prints its log, and starts a thread as its readers would; it joins it"
)]

use std::error::Error;
use std::time::Duration;

use nsq_protocol::{Consumer, ConsumerConfig, Gathered};
use rusqlite::Connection;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Messages of one transaction, and how long the first of them waits for the others.
const MOST: usize = 500;
const WAIT: Duration = Duration::from_millis(200);

/// When messages that could not be stored come again.
const RETRY: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: to_sqlite FILE TOPIC CHANNEL [NSQD...]");
    let (file, topic, channel) = (next()?, next()?, next()?);
    let mut nsqds: Vec<String> = args.collect();
    if nsqds.is_empty() {
        nsqds.push("127.0.0.1:4150".to_owned());
    }
    let mut database = Connection::open(file)?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
        CREATE TABLE IF NOT EXISTS messages (time INTEGER, body BLOB, PRIMARY KEY (time, body)) WITHOUT ROWID",
    )?;
    // Before the first message can come: from now on a signal is ours.
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    // Enough for one transaction while the next is on its way.
    let config =
        ConsumerConfig::new(topic.parse()?, channel.parse()?).max_in_flight(2 * MOST as u32);
    let consumer = Consumer::start(nsqds.into_iter().fold(config, ConsumerConfig::nsqd))?;
    let batches = consumer.batches();
    let storing = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        // Ends with the stop.
        while let Some(messages) = batches.recv_many(MOST, WAIT) {
            match store(&mut database, &messages) {
                Ok(()) => messages.finish(),
                Err(error) => {
                    eprintln!(
                        "{} messages are not stored, and come again: {error}",
                        messages.len()
                    );
                    messages.requeue(RETRY);
                }
            }
        }
    })?;
    signals.forever().next();
    consumer.stop();
    storing.join().map_err(|_| "the thread that stores panicked")?;
    Ok(())
}

fn store(database: &mut Connection, messages: &Gathered) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO messages VALUES (?, ?)")?;
    for message in messages.iter() {
        insert.execute((message.timestamp_ns, message.body))?;
    }
    drop(insert);
    transaction.commit()
}
