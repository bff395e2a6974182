//! What each part of counting costs, per play, without any socket: `cargo bench --bench parts`.
//!
//! The codec's are in `nsq-protocol/benches/codec.rs`. Under `cargo test` each runs once, small, so that it keeps working.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench: it prints, and panics when broken"
)]

#[path = "parts/bodies.rs"]
mod bodies;
#[path = "parts/shapes.rs"]
mod shapes;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use nsq_protocol::MessageId;
use playcounts::broker;
use playcounts::journal::{
    FsDisk, Journal, JournalConfig, JournalKind, JournalOwner, OnDamage, SEGMENT_BYTES, Sync,
    SyncPolicy,
};
use playcounts::ledger::{
    Arrivals, ArrivedPlay, Dedupe, DurableLedger, Ledger, LedgerConfig, MemoryLedger,
    MessageBudget, MessageKey, Seen,
};
use playcounts::model::counts::ShardedCounts;
use playcounts::model::dashboard_index::DashboardIndex;
use playcounts::model::play::{BodyDecoder, Play, PlayDecoder, PlayIdentity};
use playcounts::model::publish_rules::PublishRules;
use playcounts::model::video::MAX_COUNTS;
use playcounts::model::video_id::VideoId;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

/// Plays in one round: about what a commit holds under load.
const PLAYS: usize = 1_000;

/// What runs, and how often: a bench, or a test that it still works.
struct Scale {
    runs: usize,
    rounds: usize,
    /// Videos where it shall be many.
    videos: u128,
    /// Messages where the window shall be full.
    filled: usize,
}

impl Scale {
    /// Prints the best of several runs, for each of `count` that a round does: what disturbs a run only makes it slower.
    /// `setup` makes what a round takes, off the clock.
    fn bench<T>(
        &self,
        name: &str,
        count: usize,
        mut setup: impl FnMut() -> T,
        mut round: impl FnMut(T),
    ) {
        let mut best = f64::MAX;
        for _ in 0..self.runs {
            let inputs: Vec<T> = (0..self.rounds).map(|_| setup()).collect();
            let began = Instant::now();
            inputs.into_iter().for_each(&mut round);
            best = best.min(began.elapsed().as_nanos() as f64 / (self.rounds * count) as f64);
        }
        println!("{name:<46} {best:>8.1} ns each");
    }
}

fn video(number: u128) -> VideoId {
    VideoId::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Plays of one producer, their numbers from `first` on.
fn plays(first: u64, videos: u128) -> Vec<Play> {
    let mut rng = StdRng::seed_from_u64(first);
    (first..first + PLAYS as u64)
        .map(|seq| Play {
            video_id: video(rng.random_range(0..videos)),
            enqueued_at_ns: Some(1_790_000_000_000_000_000 + seq),
            identity: Some(PlayIdentity { producer: Uuid::from_u128(7), seq }),
            resent: false,
        })
        .collect()
}

/// Gives plays of ever higher numbers.
fn more_plays(videos: u128) -> impl FnMut() -> Vec<Play> {
    let mut first = 0;
    move || {
        first += PLAYS as u64;
        plays(first - PLAYS as u64, videos)
    }
}

fn main() {
    let full = std::env::args().any(|arg| arg == "--bench");
    let scale = if full {
        Scale { runs: 10, rounds: 100, videos: 1_000_000, filled: 2_500_000 }
    } else {
        Scale { runs: 1, rounds: 1, videos: 2_000, filled: 2_000 }
    };
    decode(&scale);
    dedupe(&scale);
    counts(&scale);
    publish(&scale);
    let directory = tempfile::tempdir().unwrap();
    let policies = [
        ("none", None),
        ("process", Some(SyncPolicy::Process)),
        ("power", Some(SyncPolicy::Power)),
    ];
    for (name, sync) in policies {
        let directory = directory.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        commit(&scale, name, sync, &directory);
    }
    journal(&scale, directory.path());
    let rounds = if full { 2_000 } else { 1 };
    let took = (0..scale.runs).map(|_| broker::bench_core(rounds, 100)).min().unwrap();
    let each = took.as_nanos() as f64 / (rounds * 100) as f64;
    println!("{:<46} {each:>8.1} ns each", "broker core: publish, pull, finish");
}

/// Frames that are committed one by one, and a start that reads four full segments.
fn journal(scale: &Scale, directory: &Path) {
    let config = JournalConfig {
        kind: JournalKind::Ledger,
        owner: JournalOwner::Simulation,
        life: Uuid::from_u128(1),
        boot: Uuid::nil(),
        sync: SyncPolicy::Process,
        segment_bytes: SEGMENT_BYTES,
        on_damage: OnDamage::Refuse,
    };
    for bytes in [100, 4096] {
        let disk = FsDisk::open(&directory.join(format!("journal-{bytes}"))).unwrap();
        let (mut journal, _) = Journal::open(disk, config, None, |_, _| Ok(())).unwrap();
        let payload = vec![1; bytes];
        let name = format!("journal: append and commit {bytes} B, process");
        scale.bench(
            &name,
            PLAYS,
            || (),
            |()| {
                for _ in 0..PLAYS {
                    black_box(journal.put(&payload).unwrap());
                }
                journal.release(journal.position(journal.next()));
                if let Some(upkeep) = journal.upkeep(Sync::Closed) {
                    let done = upkeep.run().unwrap();
                    journal.upkept(done).unwrap();
                }
            },
        );
    }
    let disk = FsDisk::open(&directory.join("journal-full")).unwrap();
    let (mut journal, _) = Journal::open(disk.clone(), config, None, |_, _| Ok(())).unwrap();
    let from = journal.position(1);
    let segments = if scale.rounds > 1 { 4 } else { 1 };
    while journal.written() < segments * SEGMENT_BYTES {
        journal.put(&[1; 4096]).unwrap();
    }
    journal.close().unwrap();
    drop(journal);
    let mut best = Duration::MAX;
    for _ in 0..scale.runs {
        let began = Instant::now();
        let opened = Journal::open(disk.clone(), config, Some(from), |_, payload| {
            black_box(payload);
            Ok(())
        });
        best = best.min(began.elapsed());
        drop(opened.unwrap());
    }
    let name = format!("journal: open {segments} full segments");
    println!("{name:<46} {:>8.1} ms", best.as_secs_f64() * 1e3);
}

fn decode(scale: &Scale) {
    let plays = plays(0, 100);
    let mut body = Vec::new();
    scale.bench(
        "play: encode",
        PLAYS,
        || (),
        |()| {
            for play in &plays {
                body.clear();
                play.encode(&mut body);
                black_box(&body);
            }
        },
    );
    let encoded = |play: &Play| {
        let mut body = Vec::new();
        play.encode(&mut body);
        body
    };
    let ours: Vec<Vec<u8>> = plays.iter().map(encoded).collect();
    let mut kinds = vec![("as we write it", ours.clone())];
    kinds.extend(bodies::kinds(PLAYS as u64));
    for (kind, bodies) in kinds {
        let mut decoder = PlayDecoder::default();
        let name = format!("play: decode, {kind}");
        scale.bench(
            &name,
            PLAYS,
            || (),
            |()| {
                for body in &bodies {
                    black_box(decoder.decode(body).unwrap());
                }
            },
        );
    }
    for shaped in shapes::kinds(PLAYS) {
        let mut decoder = BodyDecoder::new(&shaped.shape);
        let name = format!("message: decode, {}", shaped.name);
        scale.bench(
            &name,
            shaped.plays * shaped.bodies.len(),
            || (),
            |()| {
                for body in &shaped.bodies {
                    decoder.decode(body, |part| drop(black_box(part))).unwrap();
                }
            },
        );
    }
    scale.bench(
        "play: reject what is none",
        PLAYS,
        || (),
        |()| {
            for body in &ours {
                assert!(black_box(Play::decode(&body[..body.len() - 1])).is_err());
            }
        },
    );
}

fn dedupe(scale: &Scale) {
    let insert = |dedupe: &mut Dedupe, plays: &[Play]| {
        let new =
            plays.iter().filter(|play| dedupe.insert(play, message_of(play)) == Seen::New).count();
        black_box(dedupe.take_learned());
        new
    };
    let mut known = Dedupe::new();
    scale.bench("dedupe: in order", PLAYS, more_plays(100), |plays| {
        assert_eq!(insert(&mut known, &plays), PLAYS);
    });
    scale.bench(
        "dedupe: repeats",
        PLAYS,
        || plays(0, 100),
        |plays| assert_eq!(insert(&mut known, &plays), 0),
    );
    let mut known = Dedupe::new();
    let mut next = more_plays(100);
    let mut rng = StdRng::seed_from_u64(1);
    let shuffled = || {
        let mut plays = next();
        plays.shuffle(&mut rng);
        plays
    };
    scale.bench("dedupe: shuffled", PLAYS, shuffled, |plays| {
        assert_eq!(insert(&mut known, &plays), PLAYS);
    });
    dedupe_by_message(scale);
}

/// The number of an ID and its message's timestamp as nsqd makes them: the `index`th of a node that takes 50,000 a second.
fn nsqd_message(index: u64, node: u64) -> (u64, i64) {
    let (tick, sequence) = (1_712_000_000_000 + index / 50, index % 50);
    let id = (tick - 1_288_834_974_288) << 22 | node << 12 | sequence;
    (id, ((tick << 20) + sequence * 20_000) as i64)
}

/// The message that brings a play of [`plays`].
fn message_of(play: &Play) -> MessageKey {
    let (id, timestamp_ns) = nsqd_message(play.identity.unwrap().seq, 7);
    MessageKey::new(MessageId::from_u64(id), timestamp_ns)
}

/// The same of three nsqds, each 10 ms ahead of the one before.
fn of_three(index: u64, nsqd: u64) -> (u64, i64) {
    nsqd_message(index + 500 * nsqd, 7 + nsqd)
}

fn dedupe_by_message(scale: &Scale) {
    type Message = fn(u64) -> (u64, i64);
    let messages: [(&str, Message); 5] = [
        ("by message id", |index| nsqd_message(index, 7)),
        ("3 nsqds, 200 in turn", |index| {
            of_three(index / 600 * 200 + index % 200, index / 200 % 3)
        }),
        ("3 nsqds, one in turn", |index| of_three(index / 3, index % 3)),
        ("3 nsqds of one node", |index| nsqd_message(index / 3 + 500 * (index % 3), 7)),
        ("ids in no order", |index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15), 7)),
    ];
    let play = Play { identity: None, ..plays(0, 100)[0] };
    for (name, message) in messages {
        let mut known = Dedupe::new();
        let mut next = 0;
        let mut more = || {
            next += PLAYS as u64;
            let message = |index| {
                let (id, timestamp_ns) = message(index);
                MessageKey::new(MessageId::from_u64(id), timestamp_ns + (index % 3) as i64)
            };
            (next - PLAYS as u64..next).map(message).collect::<Vec<_>>()
        };
        // So many that what is older than the window has gone before.
        for _ in 0..scale.filled / PLAYS {
            more().into_iter().for_each(|message| known.learn_message(message));
        }
        scale.bench(&format!("dedupe: {name}"), PLAYS, more, |messages| {
            for message in messages {
                assert_eq!(known.insert(&play, message), Seen::NewByMessage);
            }
            black_box(known.take_learned());
        });
    }
}

fn counts(scale: &Scale) {
    for videos in [100, scale.videos] {
        let map = ShardedCounts::new(100);
        (0..videos).for_each(|number| {
            map.add(video(number), 1, None);
        });
        while !map.take_due(DashboardIndex::FIRST, MAX_COUNTS).is_empty() {}
        scale.bench(
            &format!("sharded map: add, {videos} videos"),
            PLAYS,
            more_plays(videos),
            |plays| {
                for play in plays {
                    black_box(map.add(play.video_id, 1, None));
                }
            },
        );
    }
}

/// What is due is taken 20 at a time, as the publisher does, after each of 1,000 videos was played.
fn publish(scale: &Scale) {
    for videos in [PLAYS as u128, scale.videos] {
        let map = ShardedCounts::new(u64::MAX);
        (0..videos).for_each(|number| {
            map.add(video(number), 1, None);
        });
        while !map.take_due(DashboardIndex::FIRST, MAX_COUNTS).is_empty() {}
        let now = Instant::now();
        let mut rules = PublishRules::new(DashboardIndex::FIRST, Duration::from_secs(30), now);
        let mut rng = StdRng::seed_from_u64(1);
        let mut best = f64::MAX;
        for _ in 0..scale.runs * scale.rounds {
            let played =
                (0..PLAYS).filter(|_| map.add(video(rng.random_range(0..videos)), 1, None));
            let due = played.count();
            let began = Instant::now();
            let mut taken = 0;
            while taken < due {
                taken += black_box(rules.next_batch(&map, now)).len();
            }
            best = best.min(began.elapsed().as_nanos() as f64 / due as f64);
        }
        let name = format!("publish rules: what is due, {videos} videos");
        println!("{name:<46} {best:>8.1} ns each");
    }
}

/// A commit of 1,000 plays, among few videos and of many.
fn commit(scale: &Scale, name: &str, sync: Option<SyncPolicy>, directory: &Path) {
    for videos in [100, scale.videos] {
        let directory = directory.join(videos.to_string());
        std::fs::create_dir(&directory).unwrap();
        let config = LedgerConfig {
            directory,
            simulation: true,
            adopt: false,
            message_budget: MessageBudget::default(),
        };
        let mut ledger: Box<dyn Ledger> = match sync {
            None => Box::new(MemoryLedger::new()),
            Some(sync) => Box::new(DurableLedger::open(&config, sync).unwrap()),
        };
        let mut next = more_plays(videos);
        let arrivals = || {
            let plays = next().into_iter();
            let plays = plays.map(|play| ArrivedPlay::new(play, message_of(&play))).collect();
            Arrivals { plays, rejected: Vec::new() }
        };
        let name = format!("ledger: commit of {PLAYS}, {name}, {videos} videos");
        scale.bench(&name, PLAYS, arrivals, |arrivals| {
            let committed = ledger.commit(&mut [arrivals]).unwrap();
            assert_eq!(committed.counters.counted, PLAYS as u64);
        });
    }
}
