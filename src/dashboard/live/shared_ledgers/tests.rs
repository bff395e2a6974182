//! Several processors tell of one ledger: it is one, and as those tell who know it best.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::dashboard::live::starts::ALIVE;
use crate::wire::{ConnectionFigures, ConsumerFigures, Consumption};

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn listed(number: u128, lease_ms_left: i64, published_by: Option<u128>) -> LedgerProcessor {
    LedgerProcessor {
        id: id(number),
        lease_ms_left,
        epoch: 1,
        is_me: false,
        is_alive: lease_ms_left > 0,
        published_by: published_by.map(id),
        last_record: 1,
        plays: 10,
        untold: None,
    }
}

fn status(name: &str, processors: Vec<LedgerProcessor>) -> LedgerStatus {
    let (kind, name) = (LedgerKind::Postgres, name.to_owned());
    LedgerStatus { kind, name, processors, ..LedgerStatus::default() }
}

/// A processor reports, and that it reads one channel of one nsqd.
fn tell(live: &mut Live, number: u128, status: Option<LedgerStatus>, now: Instant) {
    let connection = ConnectionFigures {
        nsqd: "a:1".to_owned(),
        connected: true,
        rdy: 1,
        pause: None,
        in_flight: 0,
        reconnects: 0,
        oversized: 0,
        last_error: None,
    };
    let consumer = ConsumerFigures {
        connections: vec![connection],
        topic: Some("plays".to_owned()),
        channel: Some("processor".to_owned()),
        ..ConsumerFigures::default()
    };
    let told = Consumption {
        consumer: Some(Box::new(consumer)),
        ledger_status: status.map(Box::new),
        ..Consumption::default()
    };
    live.report(id(number), None, Some(told), now);
    let from = Some(IpAddr::from([10, 0, 0, 1]));
    live.started(id(number), Some(id(number)), from, now);
}

#[test]
fn a_ledger_is_one_whoever_tells_of_it_and_whatever_they_call_it() {
    let (mut live, start) = (Live::default(), Instant::now());
    let all = |lease| vec![listed(1, lease, None), listed(2, lease, None)];
    tell(&mut live, 1, Some(status("db", all(9_000))), start);
    tell(&mut live, 2, Some(status("10.0.0.9", all(8_000))), start + SECOND);
    // Just begun: the others do not list it yet, but it lists them.
    let with_3 = vec![listed(2, 7_000, None), listed(3, 7_500, None)];
    tell(&mut live, 3, Some(status("db", with_3)), start + SECOND);
    tell(&mut live, 4, Some(status("other", vec![listed(4, 1_000, None)])), start + SECOND);
    // Their tables say that it is one.
    let life = Some(id(99));
    for number in [5, 6] {
        let alone = LedgerStatus { life, ..status("lives", vec![listed(number, 1, None)]) };
        tell(&mut live, number, Some(alone), start + SECOND);
    }
    let ledgers = json!(live.ledgers(start + SECOND * 2));
    let names = |ledger: &serde_json::Value| {
        let processors = ledger["processors"].as_array().unwrap();
        let ids = processors.iter().map(|one| one["processor"].as_str().unwrap().to_owned());
        (ledger["name"].clone(), ids.map(|id| id[35..].to_owned()).collect::<String>())
    };
    let mut found: Vec<_> = ledgers.as_array().unwrap().iter().map(names).collect();
    found.sort_by_key(|(_, ids)| ids.clone());
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0].1, "123");
    assert_eq!(found[1], (json!("other"), "4".to_owned()));
    assert_eq!(found[2], (json!("lives"), "56".to_owned()));
    for (one, other, want) in
        [(1, 2, true), (2, 3, true), (3, 2, true), (1, 4, false), (5, 6, true), (1, 1_000, false)]
    {
        assert_eq!(live.share_ledger(&id(one), &id(other)), want, "{one} {other}");
    }
}

#[test]
fn what_is_told_without_the_database_does_not_count() {
    let (mut live, start) = (Live::default(), Instant::now());
    let dead = vec![listed(1, -3_000, Some(2)), listed(2, 9_000, None), listed(3, -1_000, None)];
    tell(&mut live, 2, Some(status("db", dead)), start);
    // Heard later, but what it knows is old.
    let away = Some("refused".to_owned());
    let old = status("db", vec![listed(1, 1_000, None), listed(2, 9_000, None)]);
    tell(&mut live, 1, Some(LedgerStatus { away, ..old }), start + SECOND);
    let now = start + SECOND * 2;
    let dead: Vec<_> = live.dead(now).into_iter().map(|one| (one.id, one.published_by)).collect();
    assert_eq!(dead, [(id(1), Some(id(2))), (id(3), None)]);
    let shown = json!(live.processors(now));
    let one = &shown[0]["counts_in"];
    assert_eq!((&one["state"], &one["away"]), (&json!("published"), &json!("refused")));
    assert_eq!((&one["published_by"], &one["shared_by"]), (&json!(id(2)), &json!(1)));
    assert_eq!(one["lease_ms_left"], -3_000);
    // Nobody tells any more.
    let later = now + ALIVE;
    assert_eq!(live.dead(later), []);
    assert_eq!(live.ledger_statuses(later).count(), 0);
    assert_eq!(json!(live.ledgers(later))[0]["told_ms_ago"], 12_000);
}

#[test]
fn a_dead_processor_whose_counts_another_tells_does_not_report() {
    let (mut live, start) = (Live::default(), Instant::now());
    let both = || vec![listed(1, 9_000, None), listed(2, 9_000, None)];
    tell(&mut live, 1, Some(status("db", both())), start);
    let later = start + ALIVE + SECOND;
    tell(
        &mut live,
        2,
        Some(status("db", vec![listed(1, -500, Some(2)), listed(2, 9_000, None)])),
        later,
    );
    live.report(id(1), Some(7), None, later);
    let shown = json!(live.ledgers(later));
    let reports: Vec<_> = shown[0]["processors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["reports"].clone())
        .collect();
    assert_eq!(reports, [false, true]);
    let shown = json!(live.processors(later));
    assert_eq!(
        (&shown[0]["silent_ms"], &shown[0]["counts_in"]["state"]),
        (&json!(0), &json!("published"))
    );
}

#[test]
fn those_who_share_a_ledger_may_read_one_channel() {
    let start = Instant::now();
    let by_turns = |first: fn() -> Option<LedgerStatus>, second: fn() -> Option<LedgerStatus>| {
        let mut live = Live::default();
        for second_of in 0..4 {
            let now = start + SECOND * second_of;
            match second_of % 2 {
                0 => tell(&mut live, 1, first(), now),
                _ => tell(&mut live, 2, second(), now),
            }
        }
        live.two_ledgers(start + SECOND * 4).is_some()
    };
    let both = || Some(status("db", vec![listed(1, 1, None), listed(2, 1, None)]));
    let alone = || Some(status("other", vec![listed(2, 1, None)]));
    assert!(!by_turns(both, both));
    assert!(!by_turns(both, || None), "an older one of the ledger tells nothing of it");
    assert!(by_turns(|| None, alone));
    assert!(by_turns(|| None, || None));
}

#[test]
fn a_ledger_in_files_is_told_by_its_figures() {
    let (mut live, now) = (Live::default(), Instant::now());
    let ledger = Some(crate::wire::LedgerFigures::default());
    // One that says so in words is no other.
    let ledger_status = Some(Box::new(LedgerStatus::default()));
    let told = Consumption { ledger, ledger_status, ..Consumption::default() };
    live.report(id(1), None, Some(told), now);
    live.report(id(2), None, Some(Consumption::default()), now);
    let shown = json!(live.processors(now));
    assert_eq!(shown[0]["counts_in"]["kind"], "files");
    assert_eq!(shown[1]["counts_in"], json!(null));
    assert_eq!(live.ledger_kinds(now).collect::<Vec<_>>(), [(&id(1), LedgerKind::Files)]);
    assert!(live.ledgers(now).is_empty());
}

#[test]
fn what_has_stopped_one_is_told_until_others_count_on_without_it() {
    let (mut live, start) = (Live::default(), Instant::now());
    let of = |lease| status("db", vec![listed(1, lease, None), listed(2, 9_000, None)]);
    let failed = Consumption {
        failure: Some("down, on purpose".to_owned()),
        ledger_status: Some(Box::new(of(9_000))),
        ..Consumption::default()
    };
    live.report(id(1), None, Some(failed), start);
    let failures = |live: &Live, now| {
        live.heartbeats(now).iter().filter_map(|one| one.failure.clone()).count()
    };
    assert_eq!((live.failure(start).is_some(), failures(&live, start)), (true, 1));
    tell(&mut live, 2, Some(of(1)), start + SECOND * 9);
    assert_eq!(live.failure(start + SECOND * 9), Some("down, on purpose"));
    tell(&mut live, 2, Some(of(-1)), start + SECOND * 10);
    let now = start + SECOND * 11;
    assert_eq!((live.failure(now), failures(&live, now)), (None, 0));
    // Nobody is left to count.
    assert!(live.failure(now + ALIVE * 2).is_some());
}
