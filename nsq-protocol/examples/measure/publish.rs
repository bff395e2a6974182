//! Many threads that publish one by one through one [`Producer`], each waiting for nsqd's answer.

use std::time::Instant;

use nsq_protocol::{Producer, ProducerConfig};

use crate::beside::{go_nsq, number};
use crate::nsqd::{Nsqd, cpu};

const TURNS: usize = 3;

/// Threads, and what each publishes.
const CASES: [(usize, usize); 5] = [(1, 20_000), (2, 20_000), (8, 10_000), (50, 4000), (500, 400)];

pub(crate) fn print(nsqd: &Nsqd) {
    println!("threads    client      msg/s    p50 ms    p99 ms   CPU us/msg  nsqd us/msg");
    for (threads, each) in CASES {
        for turn in 0..TURNS {
            // Who comes first has the colder caches: swap in each turn.
            let mut clients = ["ours", "go-nsq"];
            clients.rotate_left(turn % 2);
            for client in clients {
                let (topic, theirs) = (format!("p{threads}-{turn}-{client}#ephemeral"), nsqd.cpu());
                let Some(told) = publish(nsqd, &topic, client, threads, each) else { continue };
                let messages = (threads * each) as f64;
                let Told { seconds, p50, p99, used } = told;
                println!(
                    "{threads:>7} {client:>9} {:>10.0} {p50:>9.3} {p99:>9.3} {:>12.2} {:>12.2}",
                    messages / seconds,
                    used * 1e6 / messages,
                    (nsqd.cpu() - theirs) * 1e6 / messages,
                );
            }
        }
    }
}

struct Told {
    seconds: f64,
    p50: f64,
    p99: f64,
    /// CPU seconds.
    used: f64,
}

fn publish(nsqd: &Nsqd, topic: &str, client: &str, threads: usize, each: usize) -> Option<Told> {
    if client == "go-nsq" {
        let told = go_nsq(&[
            "-mode=publish".to_owned(),
            format!("-nsqd={}", nsqd.addr),
            format!("-topic={topic}"),
            format!("-messages={}", threads * each),
            format!("-goroutines={threads}"),
        ])?;
        let [seconds, p50, p99, used] =
            ["seconds", "p50", "p99", "cpu"].map(|name| number(&told, name));
        return Some(Told { seconds, p50, p99, used });
    }
    let producer = Producer::connect(ProducerConfig::new().nsqd(&*nsqd.addr)).unwrap();
    let topic = topic.parse().unwrap();
    producer.publish(&topic, b"first").unwrap();
    let (own, began) = (cpu("self"), Instant::now());
    let publish = || {
        let one = |_| {
            let began = Instant::now();
            producer.publish(&topic, &[b'x'; 120]).unwrap();
            began.elapsed().as_secs_f64() * 1e3
        };
        (0..each).map(one).collect::<Vec<f64>>()
    };
    let mut took: Vec<f64> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(publish)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu("self") - own);
    took.sort_by(f64::total_cmp);
    let at = |quantile: f64| took[(quantile * (took.len() - 1) as f64) as usize];
    Some(Told { seconds, p50: at(0.5), p99: at(0.99), used })
}
