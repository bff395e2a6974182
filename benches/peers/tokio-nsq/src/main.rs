//! Counts JSON plays per video with tokio-nsq, as a user of that library would: `ADDRESS TOPIC CHANNEL N`.
//!
//! The last line on stdout is the result as JSON.

use std::collections::HashMap;
use std::time::Instant;

use serde::Deserialize;
use tokio_nsq::{NSQChannel, NSQConsumerConfig, NSQConsumerConfigSources, NSQTopic};
use uuid::Uuid;

/// As playcounts has it.
const MAX_IN_FLIGHT: u32 = 2500;

#[derive(Deserialize)]
struct Play {
    video_id: Uuid,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, topic, channel, messages] = args.as_slice() else {
        eprintln!("usage: peer-tokio-nsq ADDRESS TOPIC CHANNEL N");
        std::process::exit(2);
    };
    let messages: u64 = messages.parse().expect("N is a number");
    let topic = NSQTopic::new(topic.as_str()).expect("a topic's name");
    let channel = NSQChannel::new(channel.as_str()).expect("a channel's name");
    let mut consumer = NSQConsumerConfig::new(topic, channel)
        .set_max_in_flight(MAX_IN_FLIGHT)
        .set_sources(NSQConsumerConfigSources::Daemons(vec![address.clone()]))
        .build();
    let mut counts: HashMap<Uuid, u64> = HashMap::new();
    let mut counted = 0;
    let mut first = None;
    while counted < messages {
        let message = consumer.consume_filtered().await.expect("the consumer runs");
        first.get_or_insert_with(Instant::now);
        let play: Play = serde_json::from_slice(&message.body).expect("a play");
        *counts.entry(play.video_id).or_default() += 1;
        counted += 1;
        message.finish().await;
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    println!(r#"{{"counted":{counted},"videos":{},"seconds":{seconds}}}"#, counts.len());
}
