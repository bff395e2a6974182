//! Each cause is found, and nothing where all is well.

use std::collections::BTreeSet;

use nsq_protocol::TopicStats;

use super::super::tests::{stats, watch};
use super::*;
use crate::model::unix_time::UnixMs;
use crate::wire::{LedgerProcessorState, LookupdFigures, ProcessorEnding};

fn processor() -> Heartbeat {
    let id = "p".to_owned();
    Heartbeat {
        id,
        silent_ms: 100,
        ended: None,
        failure: None,
        per_second: 5.0,
        consumer: None,
        arrivals: None,
        ledger: None,
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut TopicStats), want: &[&str]) {
    let watch = watch(&["a:1"], &[]);
    watch.hear("a:1", stats(change));
    let found = watch.diagnose(&[processor()], &CountedTold::default(), None);
    let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, want, "{found:?}");
}

#[test]
fn each_cause_is_found() {
    check(|_| {}, &["well"]);
    check(|topic| topic.topic_name = "other".to_owned(), &["no-topic"]);
    check(|topic| topic.channels.clear(), &["no-channel"]);
    check(|topic| topic.paused = true, &["topic-paused"]);
    check(|topic| topic.channels[0].paused = true, &["channel-paused"]);
    check(
        |topic| {
            (topic.channels[0].depth, topic.channels[0].client_count) = (5, 0);
            topic.channels[0].clients.clear();
        },
        &["no-consumer"],
    );
    check(
        |topic| {
            topic.channels[0].deferred_count = 5;
            topic.channels[0].clients[0].ready_count = 0;
        },
        &["backoff"],
    );
    check(
        |topic| (topic.channels[0].depth, topic.channels[0].in_flight_count) = (101, 10),
        &["behind", "depth-alert"],
    );
    // Five messages are no backlog.
    check(
        |topic| (topic.channels[0].depth, topic.channels[0].in_flight_count) = (5, 10),
        &["well"],
    );
    let watch = watch(&["a:1"], &[]);
    let codes = |processors: &[Heartbeat], store| {
        let found = watch.diagnose(processors, &CountedTold::default(), store);
        found.iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    watch.hear("a:1", stats(|_| {}));
    let quiet = Heartbeat { per_second: 0.0, ..processor() };
    assert_eq!(codes(&[quiet], None), ["idle"]);
    assert_eq!(codes(&[], Some("full")), ["store", "no-processor", "idle"]);
    let gone = Heartbeat { silent_ms: 60_000, failure: Some("x".to_owned()), ..processor() };
    assert_eq!(codes(&[gone], None), ["processor-failed", "processor-silent"]);
}

#[test]
fn who_has_said_goodbye_is_not_missed() {
    let watch = watch(&["a:1"], &[]);
    watch.hear("a:1", stats(|_| {}));
    let at = UnixMs(1_790_000_000_000);
    let ended = |how| Heartbeat {
        ended: Some((how, at)),
        silent_ms: 60_000,
        per_second: 0.0,
        ..processor()
    };
    let found = |processors: &[Heartbeat], run: Option<Finding>| {
        let told = CountedTold { run, ..CountedTold::default() };
        let found = watch.diagnose(processors, &told, None);
        found.iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
    };
    let (finished, stopped) =
        (|| ended(ProcessorEnding::Finished), || ended(ProcessorEnding::Stopped));
    let idle = ("idle", Severity::Info);
    let want = [("processor-finished", Severity::Info), idle];
    assert_eq!(found(&[finished()], None), want);
    let want = [("processor-stopped", Severity::Warning), idle];
    assert_eq!(found(&[stopped()], None), want);
    // Another one goes on.
    assert_eq!(found(&[stopped(), processor()], None), [("well", Severity::Info)]);
    // One that was killed stays an alarm, whoever has ended besides.
    let killed = Heartbeat { silent_ms: 60_000, per_second: 0.0, ..processor() };
    let want = [("processor-silent", Severity::Error), idle];
    assert_eq!(found(&[finished(), killed.clone()], None), want);
    // What a run has come to is told instead.
    for severity in [Severity::Info, Severity::Error] {
        let run = Finding { code: "run", severity, text: "Run finished".to_owned(), way_out: "" };
        assert_eq!(found(&[finished()], Some(run.clone())), [("run", severity)]);
        assert_eq!(found(std::slice::from_ref(&killed), Some(run)), [("run", severity)]);
    }
}

#[test]
fn one_of_several_is_missed_after_a_while_and_not_for_ever() {
    let watch = watch(&["a:1"], &[]);
    watch.hear("a:1", stats(|_| {}));
    let id = Uuid::from_u128(7);
    let found = |silent_ms, dead: &[LapsedProcessor]| {
        let quiet = Heartbeat { id: id.to_string(), silent_ms, ..processor() };
        let told = CountedTold { dead: dead.to_vec(), ..CountedTold::default() };
        let found = watch.diagnose(&[processor(), quiet], &told, None);
        found.into_iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
    };
    let missed = [("processor-silent", Severity::Warning)];
    assert_eq!(found(29_999, &[]), [("well", Severity::Info)]);
    assert_eq!(found(30_000, &[]), missed);
    assert_eq!(found(86_399_999, &[]), missed);
    assert_eq!(found(86_400_000, &[]), [("well", Severity::Info)]);
    // Whoever shares a ledger is told of by that.
    let dead = LapsedProcessor {
        id,
        ledger: "l".to_owned(),
        dead_ms: 30_000,
        state: LedgerProcessorState::Published,
        published_by: Some(Uuid::from_u128(8)),
        plays: 1,
    };
    assert_eq!(found(30_000, &[dead]), [("processor-taken-over", Severity::Info)]);
}

#[test]
fn a_simulation_that_fills_its_queue_first_misses_nobody() {
    let watch = watch(&["a:1"], &[]);
    let waiting = |topic: &mut TopicStats| {
        (topic.channels[0].depth, topic.channels[0].client_count) = (50, 0);
        topic.channels[0].clients.clear();
    };
    watch.hear("a:1", stats(waiting));
    let past = Finding {
        code: NOTHING_COUNTED,
        severity: Severity::Error,
        text: "Nothing has been counted.".to_owned(),
        way_out: "",
    };
    let codes = |fills, run: Option<Finding>| {
        let told = CountedTold { fills, run, past: vec![past.clone()], ..CountedTold::default() };
        let found = watch.diagnose(&[], &told, None);
        found.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(true, None), ["run-fills"]);
    assert_eq!(codes(false, None), ["no-processor", "no-consumer", NOTHING_COUNTED]);
    let run = Finding { code: "run", severity: Severity::Info, ..past.clone() };
    assert_eq!(codes(false, Some(run)), ["no-consumer", "run"]);
}

#[test]
fn a_foreign_consumer_is_told_and_a_second_ledger_before_all_else() {
    let agents = |agents: &'static [&'static str]| {
        move |topic: &mut TopicStats| {
            let clients = &mut topic.channels[0].clients;
            let like = clients[0].clone();
            clients.extend(agents.iter().map(|agent| {
                let mut client = like.clone();
                client.user_agent = (*agent).to_owned();
                client
            }));
        }
    };
    check(agents(&["go-nsq/1.1.0", ""]), &["foreign-consumer"]);
    let watch = watch(&["a:1"], &[]);
    watch.hear(
        "a:1",
        stats(agents(&["playcounts/1 (ledger 00000000-0000-0000-0000-000000000001)"])),
    );
    assert_eq!(watch.two_ledgers(|_, _| false), None, "the same ledger is no other");
    watch.hear(
        "a:1",
        stats(agents(&["playcounts/1 (ledger 00000000-0000-0000-0000-000000000002)"])),
    );
    let text = watch.two_ledgers(|_, _| false).unwrap().text;
    assert!(
        text.starts_with(
            "2 processors with different ledgers read channel plays/processor of nsqd a:1"
        ),
        "{text}"
    );
}

#[test]
fn an_nsqlookupd_that_is_away_is_told() {
    let watch = watch(&["a:1"], &["l:1", "l:2"]);
    let codes = || {
        let found = watch.diagnose(&[processor()], &CountedTold::default(), None);
        found.iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
    };
    watch.hear_lookupd(0, Err("gone"));
    watch.hear_lookupd(1, Ok(&[]));
    assert_eq!(codes(), [("lookupd-away", Severity::Error), ("no-nsqd", Severity::Error)]);
    watch.hear("a:1", stats(|_| {}));
    assert_eq!(codes(), [("lookupd-away", Severity::Warning), ("no-nsqd", Severity::Warning)]);
    watch.hear_lookupd(0, Ok(&["a:1", "b:1"]));
    watch.hear_lookupd(1, Ok(&["a:1"]));
    assert_eq!(codes(), [("well", Severity::Info)]);
    // Another nsqd need not have the topic.
    watch.hear("b:1", stats(|topic| topic.topic_name = "other".to_owned()));
    assert_eq!(codes(), [("well", Severity::Info)]);
    watch.hear("a:1", stats(|topic| topic.topic_name = "other".to_owned()));
    assert_eq!(codes(), [("no-topic", Severity::Warning), ("no-topic", Severity::Warning)]);
}

#[test]
fn what_a_processor_says_of_its_connections_is_told() {
    let watch = watch(&["a:1"], &[]);
    watch.hear("a:1", stats(|_| {}));
    let nsqd = |name: &str, connected, pause| ConnectionFigures {
        nsqd: name.to_owned(),
        connected,
        rdy: 0,
        pause,
        in_flight: 0,
        reconnects: 0,
        oversized: 0,
        last_error: Some("refused".to_owned()),
    };
    let lookupd = LookupdFigures {
        lookupd: "l:1".to_owned(),
        answering: false,
        nsqds: 0,
        last_error: Some("gone".to_owned()),
    };
    let away = Some(Pause::NotConnected);
    let check = |consumer: ConsumerFigures, silent_ms, want: &[(&str, Severity)]| {
        let heartbeat = Heartbeat { consumer: Some(consumer), silent_ms, ..processor() };
        let found = watch.diagnose(&[heartbeat], &CountedTold::default(), None);
        let codes: Vec<_> = found.iter().map(|one| (one.code, one.severity)).collect();
        assert_eq!(codes, want, "{found:?}");
        found[0].text.clone()
    };
    let with = |connections| ConsumerFigures { connections, ..ConsumerFigures::default() };
    // An error that is over is none.
    check(with(vec![nsqd("a:1", true, None)]), 0, &[("well", Severity::Info)]);
    let text =
        check(with(vec![nsqd("a:1", false, away)]), 0, &[("processor-nsqd", Severity::Error)]);
    assert_eq!(text, "Processor p cannot connect to nsqd a:1: refused");
    let both = vec![nsqd("a:1", true, None), nsqd("b:1", false, away)];
    check(with(both.clone()), 0, &[("processor-nsqd", Severity::Warning)]);
    check(with(both.clone()), SILENT_MS + 1, &[("processor-silent", Severity::Error)]);
    check(with(vec![nsqd("a:1", false, Some(Pause::Stopping))]), 0, &[("well", Severity::Info)]);
    let held = with(vec![nsqd("a:1", true, Some(Pause::TimedOut))]);
    check(held, 0, &[("processor-timed-out", Severity::Warning)]);
    let oversized = ConnectionFigures { oversized: 3, ..nsqd("a:1", true, None) };
    let text = check(with(vec![oversized]), 0, &[("oversized", Severity::Warning)]);
    assert_eq!(text, "Processor p got 3 messages from nsqd a:1, larger than it accepts.");
    let backoff = ConsumerFigures {
        backoff_ms: Some(3_040),
        backoff_level: 2,
        lookupds: vec![lookupd],
        ..with(vec![nsqd("a:1", true, Some(Pause::Backoff))])
    };
    let want = [("processor-backoff", Severity::Error), ("processor-lookupd", Severity::Warning)];
    let text = check(backoff, 0, &want);
    assert_eq!(text, "Processor p takes no messages for 3 s (backoff), because 2 in a row failed.");
    let waiting = Some("refused".to_owned());
    let waits = ConsumerFigures { waiting, ..ConsumerFigures::default() };
    let text = check(waits, 0, &[("processor-waits", Severity::Error)]);
    assert_eq!(text, "Processor p waits to start: refused");
}

#[test]
fn each_finding_is_described_with_its_cure() {
    const PAGE: &str = include_str!("../../../../docs/operations.md");
    const MADE: [&str; 10] = [
        include_str!("../diagnosis.rs"),
        include_str!("arrivals.rs"),
        include_str!("channel.rs"),
        include_str!("ledgers.rs"),
        include_str!("silence.rs"),
        include_str!("../rivals.rs"),
        include_str!("../../live/rivals.rs"),
        include_str!("../../live/run_outcome.rs"),
        include_str!("../../alarms/mod.rs"),
        include_str!("../../alarms/progress.rs"),
    ];
    let code = |text: &str| {
        let word = text.trim_start().strip_prefix('"')?.split('"').next()?;
        let is_code = |c: char| c.is_ascii_lowercase() || c == '-';
        (!word.is_empty() && word.chars().all(is_code)).then(|| word.to_owned())
    };
    // A code stands behind `code:`, as the first argument of `find`, first in a tuple, or is a constant.
    let starts = [
        "code: ",
        "find(",
        "PROCESSOR_DEAD: &str = ",
        "PROCESSOR_SILENT: &str = ",
        "NOTHING_COUNTED: &str = ",
        "TWO_LEDGERS: &str = ",
        "IDLE: &str = ",
        "=> (",
    ];
    let made = MADE.iter().map(|text| text.split("#[cfg(test)]").next().unwrap_or_default());
    let codes: BTreeSet<String> = made
        .flat_map(|text| {
            let behind =
                |start: &&str| text.split(start).skip(1).filter_map(code).collect::<Vec<_>>();
            starts.iter().flat_map(behind).collect::<Vec<_>>()
        })
        .collect();
    let described: BTreeSet<String> = PAGE
        .split_once("## Findings")
        .unwrap()
        .1
        .split_once("\n## ")
        .unwrap()
        .0
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|row| row.split('|').nth(2).is_some_and(|cure| !cure.trim().is_empty()))
        .flat_map(|row| row.split('|').next().unwrap_or_default().split(", "))
        .map(|code| code.trim().trim_matches('`').to_owned())
        .collect();
    assert_eq!(described, codes, "docs/operations.md, and what is found");
}

#[test]
fn a_severity_is_a_word() {
    let all = [Severity::Error, Severity::Warning, Severity::Info];
    assert_eq!(serde_json::json!(all), serde_json::json!(["error", "warning", "info"]));
    assert!(all.is_sorted());
}

#[test]
fn what_was_counted_wrongly_is_told() {
    let told = CountedTold {
        fills: false,
        past: Vec::new(),
        foreign: vec![(uuid::Uuid::from_u128(5), 3)],
        crowded: vec![(
            uuid::Uuid::from_u128(6),
            crate::wire::CrowdedPlays { producer: uuid::Uuid::from_u128(7), plays: 9 },
        )],
        refused: Some("too many".to_owned()),
        dead: Vec::new(),
        run: None,
    };
    let found = watch(&["a:1"], &[]).diagnose(&[processor()], &told, None);
    for (code, severity, words) in [
        (
            "foreign-plays",
            Severity::Warning,
            "3 plays are counted under the id of producer 00000000-0000-0000-0000-000000000005 that it never made",
        ),
        ("crowded-producer", Severity::Warning, "9 plays by NSQ message only"),
        ("counts-refused", Severity::Error, "were refused: too many"),
    ] {
        let finding = found.iter().find(|finding| finding.code == code).unwrap();
        assert!(finding.severity == severity && finding.text.contains(words), "{finding:?}");
        assert!(!finding.way_out.is_empty());
    }
}
