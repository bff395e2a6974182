//! Producers and their outboxes: killed, full, set back.

use playcounts::ledger;
use rustix::process::Signal;

use super::{process, start, total};
use crate::support::{
    self, Broker, Running, assert_exit, command, json, on_both_brokers, output, wait_until,
};

/// A producer that is killed goes on where it was: no play more, none less.
#[test]
fn a_killed_producer_goes_on_where_it_was() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let process = start(dir, &process(broker, &url));
        let tcp = broker.tcp();
        let produce = [
            "produce",
            "--num-messages",
            "4000",
            "--num-videos",
            "7",
            "--rate",
            "10000",
            "--data-dir",
            "outbox",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--json",
        ];
        if cfg!(debug_assertions) {
            let dead = command(dir, &produce)
                .env("PLAYCOUNTS_FAILPOINT", "outbox-after-write:30")
                .output();
            assert_eq!(dead.unwrap().status.code(), None);
        }
        let killed = Running::start(dir, &produce);
        wait_until("some plays are counted", || total(&url) > 500);
        killed.signal(Signal::KILL);
        drop(killed);
        let other = output(dir, &produce.map(|word| if word == "7" { "8" } else { word }));
        assert_exit(&other, 1);
        let error = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(error.contains("the outbox of another run: 4000 plays of 7 videos"), "{error}");
        let done = output(dir, &produce);
        assert_exit(&done, 0);
        let report = json(&done);
        assert_eq!((&report["messages"], &report["confirmed"]), (&4000.into(), &true.into()));
        // Again: there is nothing left to do.
        let again = output(dir, &produce);
        assert_exit(&again, 0);
        assert_eq!(json(&again)["republished"], 0);
        wait_until("the dashboard shows all", || total(&url) == 4000);
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
        let attempted = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
        let ledger = ledger::read(&dir.join("ledger")).unwrap().unwrap();
        let check = ledger::IntegrityCheck::new(&ledger, std::slice::from_ref(&attempted));
        assert!(check.is_exact() && check.counted == 4000, "{check}");
        let produced = std::fs::read_to_string(dir.join("outbox/produced.csv")).unwrap();
        let plays = produced
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(1).unwrap().parse::<u64>().unwrap());
        assert_eq!(plays.sum::<u64>(), 4000);
    });
}

/// A full outbox holds its producer up until a processor counts; nothing is lost for it.
#[test]
fn a_full_outbox_slows_its_producer_down() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let tcp = broker.tcp();
    let mut produce = Running::start(
        dir,
        &[
            "produce",
            "--num-messages",
            "3000",
            "--max-outbox",
            "1000",
            "--data-dir",
            "outbox",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--json",
        ],
    );
    produce.wait_for("the outbox is full with 1000 plays");
    let attempted =
        || playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap().plays;
    assert_eq!(attempted(), 1000);
    let process = start(dir, &process(&broker, &url));
    produce.wait_for("the outbox has room again");
    let produce = produce.wait();
    assert_exit(&produce, 0);
    assert_eq!((&json(&produce)["messages"], attempted()), (&3000.into(), 3000));
    process.signal(Signal::TERM);
    let process = process.wait();
    assert_exit(&process, 0);
    assert_eq!(json(&process)["counted"], 3000);
}

/// A producer's outbox that is older than what it has published would use numbers twice: it is refused. One that is
/// whole waits for a broker that is away.
#[test]
fn an_outbox_that_was_set_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let process = start(dir, &process(&broker, &url));
    let tcp = broker.tcp();
    let line = format!(
        "produce --num-messages 3000 --rate 3000 --data-dir outbox --nsqd-tcp-address {tcp} --dashboard-url {url}"
    );
    let words: Vec<&str> = line.split(' ').collect();
    let first = Running::start(dir, &words);
    wait_until("some plays are counted", || total(&url) > 300);
    first.signal(Signal::KILL);
    drop(first);
    let old = dir.join("old");
    std::fs::create_dir(&old).unwrap();
    for file in std::fs::read_dir(dir.join("outbox")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), old.join(file.file_name())).unwrap();
    }
    assert_exit(&output(dir, &words), 0);
    let set_back = line.replace("--data-dir outbox", "--data-dir old");
    let refused = output(dir, &set_back.split(' ').collect::<Vec<_>>());
    assert_exit(&refused, 1);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("3000 plays are counted, and it knows of"), "{error}");
    // No broker: it waits until there is one, or until it is told to stop.
    drop((process, broker));
    let other = line.replace("outbox", "other");
    let mut waits = Running::start(dir, &other.split(' ').collect::<Vec<_>>());
    waits.wait_for("trying again");
    waits.signal(Signal::TERM);
    let waits = waits.wait();
    assert_exit(&waits, 1);
    assert!(
        String::from_utf8_lossy(&waits.stderr).contains("the same command goes on"),
        "{waits:?}"
    );
}
