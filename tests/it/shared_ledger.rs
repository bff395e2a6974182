//! The shared ledger against a real PostgreSQL: two processors that count each play once, whatever breaks in between.

use std::path::Path;
use std::time::Instant;

use nsq_protocol::MessageId;
use playcounts::ledger::{
    Arrivals, ArrivedPlay, BehindPolicy, Committed, DeadLetter, Ledger, LedgerAway, LedgerBehind,
    LedgerFenced, MessageKey, PostgresLedger, PostgresLedgerConfig,
};
use playcounts::model::play::{Play, PlayDecoder, PlayIdentity};
use playcounts::postgres::PgConfig;
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres_server::{Postgres, postgres_or_skip};

const NO_ENV: fn(&str) -> Option<String> = |_| None;

fn config(url: &str, directory: &Path) -> PostgresLedgerConfig {
    PostgresLedgerConfig {
        database: PgConfig::parse(url, &NO_ENV).unwrap(),
        directory: directory.to_owned(),
        on_behind: BehindPolicy::Refuse,
    }
}

fn open(url: &str, directory: &Path) -> PostgresLedger {
    PostgresLedger::open(&config(url, directory)).unwrap()
}

fn message(id: u64) -> MessageKey {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // The same at each call of one test, and of this hour or the one before.
    MessageKey::new(
        MessageId::from_u64(id),
        now.as_nanos() as i64 / 3_600_000_000_000 * 3_600_000_000_000 + id as i64,
    )
}

/// Plays of a producer, of 7 videos.
fn plays(producer: u128, seqs: impl Iterator<Item = u64>) -> Vec<Arrivals> {
    let play = |seq: u64| {
        let identity = Some(PlayIdentity { producer: Uuid::from_u128(producer), seq });
        let video_id = Uuid::from_u128(u128::from(seq % 7));
        let play = Play { video_id, enqueued_at_ns: None, identity, resent: false };
        ArrivedPlay::new(play, message(seq))
    };
    vec![Arrivals { plays: seqs.map(play).collect(), rejected: Vec::new() }]
}

/// Plays without an identity.
fn anonymous(ids: impl Iterator<Item = u64>) -> Vec<Arrivals> {
    let play = |id: u64| {
        let video_id = Uuid::from_u128(u128::from(id % 7));
        let play = Play { video_id, enqueued_at_ns: None, identity: None, resent: false };
        ArrivedPlay::new(play, message(id))
    };
    vec![Arrivals { plays: ids.map(play).collect(), rejected: Vec::new() }]
}

fn commit(ledger: &mut PostgresLedger, mut arrivals: Vec<Arrivals>) -> Committed {
    ledger.commit(&mut arrivals).unwrap()
}

fn counted(ledger: &mut PostgresLedger, arrivals: Vec<Arrivals>) -> u64 {
    commit(ledger, arrivals).counters.counted
}

fn upkeep(ledger: &mut PostgresLedger) -> anyhow::Result<()> {
    let work = ledger.upkeep(Instant::now()).unwrap();
    let done = work.run()?;
    ledger.upkept(done).map(drop)
}

fn sum(ledger: &PostgresLedger) -> u64 {
    ledger.videos().iter().map(|video| video.plays).sum()
}

#[test]
fn two_processors_count_each_play_once() {
    let server = postgres_or_skip!();
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [mut one, mut two] = dirs.each_ref().map(|dir| open(&server.url(), dir.path()));
    assert_ne!(one.processor(), two.processor());
    assert_eq!((one.life(), one.on_channel()), (two.life(), two.on_channel()));
    assert_eq!(counted(&mut one, plays(1, 0..5_000)), 5_000);
    assert_eq!(counted(&mut two, plays(1, 0..5_000)), 0);
    assert_eq!(counted(&mut two, plays(1, 4_000..9_000)), 4_000);
    assert_eq!(counted(&mut one, plays(1, (0..12_000).step_by(2))), 1_500);
    assert_eq!((sum(&one), sum(&two)), (6_500, 4_000));
    // Of both, whoever is asked.
    for ledger in [&mut one, &mut two] {
        let told = ledger.confirmed(&Uuid::from_u128(1)).unwrap();
        assert_eq!((told.watermark, told.above[0], told.above.len()), (9_001, [9_002, 9_003], 64));
    }
    // Both are closed and opened again, each as itself, and know all.
    let ids = [one.processor(), two.processor()];
    one.close().unwrap();
    drop((one, two));
    let [mut one, mut two] = dirs.each_ref().map(|dir| open(&server.url(), dir.path()));
    assert_eq!([one.processor(), two.processor()], ids);
    assert_eq!((sum(&one), sum(&two)), (6_500, 4_000));
    assert_eq!(one.counters().counted, 6_500);
    assert_eq!(counted(&mut two, plays(1, (0..12_000).step_by(2))), 0);
    assert_eq!(counted(&mut two, plays(1, 0..12_000)), 1_500);
    assert_eq!(one.confirmed(&Uuid::from_u128(1)).unwrap().watermark, 12_000);
    // Of 11 full segments and a part of one.
    assert_eq!(
        server.sql("SELECT producer, watermark FROM playcounts.producers"),
        format!("{}|11264", Uuid::from_u128(1))
    );
    assert_eq!(server.sql("SELECT segment FROM playcounts.seen"), "11");
}
