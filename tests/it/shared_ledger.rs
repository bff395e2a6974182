//! The shared ledger against a real PostgreSQL: two processors that count each play once, whatever breaks in between.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nsq_protocol::MessageId;
use playcounts::ledger::{
    Arrivals, ArrivedPlay, BehindPolicy, Committed, DeadLetter, Ledger, LedgerAway, LedgerBehind,
    LedgerFenced, MessageKey, PartOf, PostgresLedger, PostgresLedgerConfig,
};
use playcounts::model::dashboard_index::DashboardIndex;
use playcounts::model::play::{Play, PlayIdentity, Rejection};
use playcounts::postgres::PgConfig;
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres_server::postgres_or_skip;
use crate::proxy::{Proxy, Toxic};
use playcounts::model::video_id::VideoId;

const NO_ENV: fn(&str) -> Option<String> = |_| None;

fn config(url: &str, directory: &Path) -> PostgresLedgerConfig {
    PostgresLedgerConfig {
        database: PgConfig::parse(url, &NO_ENV).unwrap(),
        directory: directory.to_owned(),
        on_behind: BehindPolicy::Refuse,
    }
}

fn open(url: &str, directory: &Path) -> PostgresLedger {
    let mut ledger = PostgresLedger::open(&config(url, directory)).unwrap();
    ledger.publish_to(1);
    ledger
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
        let video_id = VideoId::from_u128(u128::from(seq % 7));
        let play = Play { video_id, enqueued_at_ns: None, identity, resent: false };
        ArrivedPlay::new(play, message(seq))
    };
    vec![Arrivals { plays: seqs.map(play).collect(), rejected: Vec::new() }]
}

/// Plays without an identity.
fn anonymous(ids: impl Iterator<Item = u64>) -> Vec<Arrivals> {
    let play = |id: u64| {
        let video_id = VideoId::from_u128(u128::from(id % 7));
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

/// Plays without an identity and dead letters, delivered again to the other one; and what lies outside the window.
#[test]
fn messages_without_an_identity_count_once() {
    let server = postgres_or_skip!();
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let [mut one, mut two] = dirs.each_ref().map(|dir| open(&server.url(), dir.path()));
    let letters = |ids: std::ops::Range<u64>| {
        let letter = |id| DeadLetter {
            part_of: PartOf::Alone,
            nsqd: "nsqd\0:4150".to_owned(),
            message: message(id),
            reason: Rejection::too_large(3),
            size: 3,
            body: b"\0xy".to_vec(),
        };
        let rejected = ids.map(letter).collect();
        vec![Arrivals { plays: Vec::new(), rejected }]
    };
    assert_eq!(counted(&mut one, anonymous(0..3_000)), 3_000);
    assert_eq!(commit(&mut one, letters(5_000..5_010)).counters.rejected, 10);
    let again = commit(&mut two, anonymous(2_000..4_000)).counters;
    assert_eq!((again.counted, again.by_message, again.duplicates), (1_000, 1_000, 1_000));
    let again = commit(&mut two, letters(5_005..5_012)).counters;
    assert_eq!((again.rejected, again.duplicates), (2, 5));
    let kept = "SELECT count(*), count(DISTINCT processor), max(nsqd), max(size), max(encode(body, 'hex')) FROM playcounts.dead_letters";
    assert_eq!(server.sql(kept), "12|2|nsqd\u{fffd}:4150|3|007879");
    // One of last week: it is counted, remembered, and told where it was delivered before.
    let old = || {
        let mut arrivals = anonymous(0..1);
        let play = &mut arrivals[0].plays[0];
        play.message = MessageKey::new(MessageId::from_u64(9), 7);
        play.attempts = 2;
        arrivals
    };
    let committed = commit(&mut one, old());
    assert_eq!((committed.counters.counted, committed.noticed.redelivered_unknown), (1, 1));
    assert_eq!(counted(&mut two, old()), 0);
    // The partitions of hours that come are emptied, and none of now.
    upkeep(&mut one).unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.messages"), "4013");
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.message_hours WHERE hour > 0"), "5");
}

/// The same messages come to two processors at once, and nothing says so: each is written as new by both, and one is refused.
#[test]
fn messages_that_two_processors_have_at_once_count_once() {
    const MESSAGES: u64 = 6_000;
    let server = postgres_or_skip!();
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let ledgers = dirs.each_ref().map(|dir| open(&server.url(), dir.path()));
    let each: Vec<u64> = std::thread::scope(|scope| {
        let each = ledgers.map(|mut ledger| {
            scope.spawn(move || {
                // Some of them twice in one commit, or in two that follow each other.
                let commits = (0..MESSAGES / 200).map(|at| at * 200);
                let ids = commits.map(|first| (first..first + 200).chain(first + 150..first + 220));
                ids.map(|ids| counted(&mut ledger, anonymous(ids.filter(|id| *id < MESSAGES))))
                    .sum()
            })
        });
        each.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(each.iter().sum::<u64>(), MESSAGES, "{each:?}");
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.messages"), MESSAGES.to_string());
    // Without any in one commit, so that nothing is asked before.
    let ledgers = dirs.each_ref().map(|dir| open(&server.url(), dir.path()));
    let again: u64 = std::thread::scope(|scope| {
        let each = ledgers.map(|mut ledger| {
            let commits = (0..MESSAGES / 200).map(|at| MESSAGES + at * 200);
            scope.spawn(move || {
                commits
                    .map(|first| counted(&mut ledger, anonymous(first..first + 200)))
                    .sum::<u64>()
            })
        });
        each.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(again, MESSAGES);
    assert_eq!(server.sql("SELECT count(*) FROM playcounts.messages"), (2 * MESSAGES).to_string());
}

/// A second process with the same data directory takes the first one's place, in the middle of a transaction, too.
#[test]
fn who_was_taken_over_commits_nothing_more() {
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let mut one = open(&server.url(), dir.path());
    assert_eq!(counted(&mut one, plays(1, 0..10)), 10);
    let mut two = open(&server.url(), dir.path());
    assert_eq!(one.processor(), two.processor());
    assert!(two.first_version() > one.first_version());
    let mut arrivals = plays(1, 5..15);
    let error = one.commit(&mut arrivals).unwrap_err();
    assert!(error.is::<LedgerFenced>(), "{error:#}");
    assert_eq!(arrivals[0].plays.len(), 10);
    assert!(upkeep(&mut one).unwrap_err().is::<LedgerFenced>());
    assert!(one.commit(&mut arrivals).unwrap_err().is::<LedgerFenced>());
    assert_eq!(counted(&mut two, arrivals), 5);
    assert_eq!(sum(&two), 15);
}

/// The server is killed and started again: what was committed is there, and the same batch goes on.
#[test]
fn a_server_that_is_killed_loses_nothing_that_was_committed() {
    // So late that only what a commit waits for is written.
    let mut server = postgres_or_skip!("wal_writer_delay=10s");
    let dir = TempDir::new().unwrap();
    let mut ledger = open(&server.url(), dir.path());
    for round in 0..4 {
        let from = round * 1_000;
        assert_eq!(counted(&mut ledger, plays(1, from..from + 800)), 800);
        server.crash();
        let mut arrivals = plays(1, from + 500..from + 1_000);
        let error = ledger.commit(&mut arrivals).unwrap_err();
        assert!(LedgerAway::of(&error).is_some(), "{error:#}");
        // It is known to be away: what is confirmed is not told either.
        assert!(LedgerAway::of(&ledger.commit(&mut arrivals).unwrap_err()).is_some());
        assert!(
            LedgerAway::of(&ledger.take_unreported(DashboardIndex::FIRST, 10).unwrap_err())
                .is_some()
        );
        assert!(LedgerAway::of(&upkeep(&mut ledger).unwrap_err()).is_some());
        assert_eq!((arrivals[0].plays.len(), sum(&ledger)), (500, from + 800));
        server.restart();
        upkeep(&mut ledger).unwrap();
        assert_eq!(ledger.commit(&mut arrivals).unwrap().counters.counted, 200);
        assert_eq!(
            ledger.take_unreported(DashboardIndex::FIRST, 10).unwrap()[0].confirmed.watermark,
            from + 1_000
        );
        if round % 2 == 1 {
            ledger = open(&server.url(), dir.path());
        }
        assert_eq!(sum(&ledger), from + 1_000);
    }
}

/// Connections that are cut at any byte, of either direction: each play is counted once, and the tables add up.
#[test]
fn a_connection_that_is_cut_anywhere_leaves_nothing_in_doubt() {
    const PLAYS: u64 = 100;
    let server = postgres_or_skip!();
    let addr: SocketAddr = server.addr().parse().unwrap();
    let (mut cuts, mut producer) = (0, 0);
    for seed in 0..24 {
        let dir = TempDir::new().unwrap();
        // Half of them plays without an identity, which are written as new, unasked; the others half of them repeats.
        let is_anonymous = seed % 4 > 1;
        // A start with all its statements takes about 6,000 bytes down and 9,000 up, a commit some hundreds.
        let toxic =
            if seed % 2 == 0 { Toxic::Cut(9_000..15_000) } else { Toxic::Reset(9_000..15_000) };
        let proxy = Proxy::start(addr, toxic, seed);
        let url = server.url().replace(&server.addr(), &proxy.addr());
        let Ok(mut ledger) = PostgresLedger::open(&config(&url, dir.path())) else { continue };
        producer += 1;
        // On a slow machine it has adopted the id of one before, and its counts.
        let (before, mut counted) = (sum(&ledger), 0);
        for round in 0..40 {
            let (mut arrivals, all) = if is_anonymous {
                let first = (u64::from(seed as u32) * 100 + round) * PLAYS;
                (anonymous(first..first + PLAYS), (round + 1) * PLAYS)
            } else {
                let first = round * PLAYS / 2;
                (plays(producer, first..first + PLAYS), first + PLAYS)
            };
            let committed = loop {
                match ledger.commit(&mut arrivals) {
                    Ok(committed) => break committed,
                    Err(error) => assert!(LedgerAway::of(&error).is_some(), "{error:#}"),
                }
                cuts += 1;
                // A new connection, without which nothing is tried.
                let _ = upkeep(&mut ledger);
            };
            counted += committed.counters.counted;
            let of_deltas: u64 = committed.video_deltas.iter().map(|delta| delta.plays).sum();
            assert_eq!(of_deltas, committed.counters.counted);
            assert_eq!(arrivals[0].plays.len() as u64, committed.counters.counted);
            assert_eq!(counted, all, "seed {seed}, round {round}");
        }
        assert_eq!(sum(&ledger), before + counted);
        drop(ledger);
        assert_eq!(sum(&open(&server.url(), dir.path())), before + counted);
    }
    assert!(cuts > 10, "{cuts}");
}

/// A sweep takes the records into the videos; a start finds the same before, in the middle and behind.
#[test]
fn a_sweep_changes_nothing_that_is_counted() {
    let server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let mut ledger = open(&server.url(), dir.path());
    let many = |from: u128| {
        let mut arrivals = plays(from, 0..5_000);
        for (number, arrived) in arrivals[0].plays.iter_mut().enumerate() {
            arrived.play.video_id = VideoId::from_u128(number as u128);
        }
        arrivals
    };
    let count = |table: &str| server.sql(&format!("SELECT count(*) FROM playcounts.{table}"));
    let later = |ledger: &mut PostgresLedger| {
        let work = ledger.upkeep(Instant::now() + Duration::from_secs(60)).unwrap();
        let done = work.run().unwrap();
        ledger.upkept(done).unwrap();
    };
    for from in 1..4 {
        assert_eq!(counted(&mut ledger, many(from)), 5_000);
    }
    assert_eq!((count("videos"), count("records")), ("0".into(), "3".into()));
    later(&mut ledger);
    assert_eq!((count("videos"), count("records")), ("2000".into(), "3".into()));
    assert_eq!(counted(&mut ledger, many(4)), 5_000);
    drop(ledger);
    let mut ledger = open(&server.url(), dir.path());
    assert_eq!((sum(&ledger), ledger.counters().counted), (20_000, 20_000));
    (0..3).for_each(|_| later(&mut ledger));
    assert_eq!((count("videos"), count("records")), ("5000".into(), "0".into()));
    assert_eq!(counted(&mut ledger, many(5)), 5_000);
    drop(ledger);
    let mut ledger = open(&server.url(), dir.path());
    assert_eq!((sum(&ledger), ledger.counters().counted), (25_000, 25_000));
    ledger.close().unwrap();
    assert_eq!((count("videos"), count("records")), ("5000".into(), "0".into()));
    assert_eq!(server.sql("SELECT sum(plays), min(plays) FROM playcounts.videos"), "25000|5");
    assert_eq!(server.sql("SELECT counted FROM playcounts.processors"), "25000");
}

/// The id of a processor that has left is taken by the next that has none, and no other.
#[test]
fn who_has_no_id_adopts_one_that_nobody_has() {
    let server = postgres_or_skip!();
    let dirs: [TempDir; 4] = std::array::from_fn(|_| TempDir::new().unwrap());
    let mut first = open(&server.url(), dirs[0].path());
    assert_eq!(counted(&mut first, plays(1, 0..10)), 10);
    let id = first.processor();
    // Its lease holds.
    let mut second = open(&server.url(), dirs[1].path());
    assert_ne!(second.processor(), id);
    first.close().unwrap();
    drop(first);
    // Just after the server's start nobody is taken for gone.
    let is_young = "SELECT now() - pg_postmaster_start_time() < interval '15 s'";
    if server.sql(is_young) == "t" {
        let mut early = open(&server.url(), dirs[2].path());
        assert_ne!(early.processor(), id);
        early.close().unwrap();
    }
    crate::support::wait_until("the server is old enough", || server.sql(is_young) == "f");
    let adopted = open(&server.url(), dirs[3].path());
    assert!(adopted.processor() == id || sum(&adopted) == 0);
    assert_eq!(counted(&mut second, plays(1, 0..10)), 0);
}

/// An old backup is put back: a processor that remembers more stops, and a start is refused, until that is accepted.
#[test]
fn a_database_that_has_lost_commits_is_refused() {
    let mut server = postgres_or_skip!();
    let dir = TempDir::new().unwrap();
    let mut ledger = open(&server.url(), dir.path());
    assert_eq!(counted(&mut ledger, plays(1, 0..10)), 10);
    server.stop();
    let (data, backup) = (server.data(), server.dir().join("backup"));
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        let done = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(done.success());
    };
    copy(&data, &backup);
    server.restart();
    let mut more = plays(1, 10..20);
    // The connection of before is gone.
    while let Err(error) = ledger.commit(&mut more) {
        assert!(LedgerAway::of(&error).is_some(), "{error:#}");
        let _ = upkeep(&mut ledger);
    }
    assert_eq!(sum(&ledger), 20);
    server.stop();
    copy(&backup, &data);
    server.restart();
    // The connection of before is gone; the next one tells.
    let error = loop {
        let error = ledger.commit(&mut plays(1, 20..30)).unwrap_err();
        if LedgerAway::of(&error).is_none() {
            break error;
        }
    };
    assert!(error.is::<LedgerBehind>(), "{error:#}");
    assert!(format!("{error:#}").contains("synchronous_standby_names"), "{error:#}");
    // The data directory knows it, too.
    ledger.close().unwrap_err();
    drop(ledger);
    let refused = PostgresLedger::open(&config(&server.url(), dir.path())).err().unwrap();
    assert!(refused.is::<LedgerBehind>(), "{refused:#}");
    let mut accepted = config(&server.url(), dir.path());
    accepted.on_behind = BehindPolicy::Accept;
    let mut ledger = PostgresLedger::open(&accepted).unwrap();
    assert_eq!(counted(&mut ledger, plays(1, 0..20)), 10);
    drop(ledger);
    assert_eq!(sum(&open(&server.url(), dir.path())), 20);
}
