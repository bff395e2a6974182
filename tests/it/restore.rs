//! Copies of ledger, outbox and dashboard: made while their owners run, put back, older than what others know of them, or
//! copied by hand and not whole. With real processes, which are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{
    self, Broker, Running, assert_exit, command, copy_all, get, health, on_both_brokers, output,
    publish, total, wait_until,
};

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn start(dir: &Path, line: &str) -> Running {
    Running::start(dir, &words(line))
}

fn run(dir: &Path, line: &str) -> Output {
    output(dir, &words(line))
}

/// Runs a command that must succeed; what it prints.
#[track_caller]
fn done(dir: &Path, line: &str) -> String {
    let done = run(dir, line);
    assert_exit(&done, 0);
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs a command that must fail with one line; that line.
#[track_caller]
fn refused(dir: &Path, line: &str) -> String {
    let refused = run(dir, line);
    assert_exit(&refused, 1);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    text.lines().last().unwrap_or_default().to_owned()
}

fn process(broker: &Broker, url: &str) -> String {
    let tcp = broker.tcp();
    format!(
        "process --nsqd-tcp-address {tcp} --dashboard-url {url} --data-dir ledger \
         --consumer-opt msg_timeout,1s --update-interval 60s --realtime-below 5"
    )
}

fn confirmed(url: &str, producer: Uuid) -> Value {
    get(&format!("{url}/api/confirmed?producer={producer}"))
}

fn counted(dir: &Path) -> u64 {
    let ledger = playcounts::ledger::read(&dir.join("ledger")).unwrap();
    ledger.map_or(0, |ledger| ledger.counters.counted)
}

/// The dashboard again, at the same address.
fn dashboard_at(dir: &Path, url: &str, data: &str) -> Running {
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut process = start(dir, &format!("dashboard --http-address {address} --data-dir {data}"));
    process.wait_for("live at ");
    process
}

/// How an older ledger comes back.
#[derive(Clone, Copy, Debug)]
enum ComesBack {
    /// `backup` while it runs, then `restore`.
    Restored,
    /// A copy of all its files.
    Copied,
}

/// A ledger of 1,000 plays, where the dashboard was told of 1,410 of the producer that is returned.
fn set_back(dir: &Path, broker: &Broker, url: &str, how: ComesBack) -> Uuid {
    let producer = Uuid::new_v4();
    let mut processor = start(dir, &process(broker, url));
    publish(broker, producer, 0..1000);
    wait_until("1,000 are told", || confirmed(url, producer)["watermark"] == 1000);
    match how {
        ComesBack::Restored => {
            let said = done(dir, "backup --data-dir ledger --output kept");
            assert_eq!(said, "wrote kept/ledger.sqlite3\n");
        }
        ComesBack::Copied => {
            processor.signal(Signal::TERM);
            assert_exit(&processor.wait(), 0);
            copy_all(&dir.join("ledger"), &dir.join("kept"));
            processor = start(dir, &process(broker, url));
        }
    }
    publish(broker, producer, 1000..1410);
    wait_until("1,410 are told", || confirmed(url, producer)["watermark"] == 1410);
    processor.signal(Signal::KILL);
    processor.wait();
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    match how {
        ComesBack::Restored => {
            let said = done(dir, "restore --from kept --data-dir ledger");
            assert!(said.contains("1,000 plays of 3 videos"), "{said}");
        }
        ComesBack::Copied => copy_all(&dir.join("kept"), &dir.join("ledger")),
    }
    producer
}

/// A ledger that lacks plays which the dashboard knows of counts nothing, until somebody has decided so.
#[test]
fn a_ledger_that_is_older_than_the_dashboard_counts_nothing() {
    for how in [ComesBack::Restored, ComesBack::Copied] {
        on_both_brokers(|dir, broker| {
            let (_dashboard, url) = support::dashboard(dir);
            let producer = set_back(dir, broker, &url, how);
            publish(broker, producer, 1410..1500);
            let line = refused(dir, &process(broker, &url));
            for want in ["held 1000 plays", "1410 are known", "playcounts restore", "--accept-loss"]
            {
                assert!(line.contains(want), "{how:?}: {line}");
            }
            assert_eq!(counted(dir), 1000, "{how:?}");
            let (status, text) = health(&url);
            assert!(status == 503 && text.contains("held 1000 plays"), "{text}");
            let shown = get(&format!("{url}/api/processors"));
            let failure = shown["processors"][0]["failure"].as_str().unwrap();
            assert!(failure.contains("1410 are known"), "{shown}");
            let first = &get(&format!("{url}/api/diagnosis"))["findings"][0];
            assert!(first["text"].as_str().unwrap().contains("1410 are known"), "{first}");

            let accepting = process(broker, &url) + " --accept-loss";
            let processor = start(dir, &accepting);
            wait_until("what is counted later is told", || {
                confirmed(&url, producer)["above"] == serde_json::json!([[1410, 1500]])
            });
            assert_eq!(confirmed(&url, producer)["watermark"], 1000);
            processor.signal(Signal::TERM);
            assert_exit(&processor.wait(), 0);
            assert_eq!((counted(dir), total(&url)), (1090, 1090), "{how:?}");
            assert_eq!(health(&url).0, 200);
            // From then on it is as every other.
            let processor = start(dir, &process(broker, &url));
            publish(broker, producer, 1500..1510);
            wait_until("it goes on", || counted(dir) == 1100);
            processor.signal(Signal::TERM);
            assert_exit(&processor.wait(), 0);
            assert_eq!(total(&url), 1100);
        });
    }
}

/// While nobody can be asked it counts; the first answer ends that.
#[test]
fn an_older_ledger_stops_when_the_dashboard_is_back() {
    on_both_brokers(|dir, broker| {
        let (dashboard, url) = support::dashboard(dir);
        let producer = set_back(dir, broker, &url, ComesBack::Copied);
        let shown = total(&url);
        drop(dashboard);
        let mut processor = start(dir, &process(broker, &url));
        processor.wait_for("the ledger holds 1,000 plays");
        // More than were lost: the sum alone would tell nothing.
        publish(broker, producer, 1410..2000);
        wait_until("it counts", || counted(dir) == 1590);
        let _dashboard = dashboard_at(dir, &url, "playcounts-data");
        let ended = processor.wait();
        assert_exit(&ended, 1);
        let text = String::from_utf8_lossy(&ended.stderr);
        assert!(text.contains("held 1000 plays at the start, and 1410 are known of"), "{text}");
        // Nothing was taken from it.
        assert_eq!(total(&url), shown);
        let (status, text) = health(&url);
        assert!(status == 503 && text.contains("1410 are known"), "{text}");
    });
}

/// A dashboard that was restored gets everything from the processor that lives on.
#[test]
fn a_restored_dashboard_shows_all_again() {
    on_both_brokers(|dir, broker| {
        let (dashboard, url) = support::dashboard(dir);
        let processor = start(dir, &process(broker, &url));
        let producer = Uuid::new_v4();
        publish(broker, producer, 0..600);
        wait_until("some are told", || confirmed(&url, producer)["watermark"] == 600);
        assert_eq!(
            done(dir, "backup --data-dir playcounts-data --output kept"),
            "wrote kept/dashboard.sqlite3\n"
        );
        let file = "backup --data-dir playcounts-data --output alone.sqlite3";
        assert_eq!(done(dir, file), "wrote alone.sqlite3\n");
        publish(broker, producer, 600..1000);
        wait_until("all are told", || confirmed(&url, producer)["watermark"] == 1000);
        dashboard.signal(Signal::KILL);
        dashboard.wait();
        done(dir, "restore --from kept --data-dir again");
        let _dashboard = dashboard_at(dir, &url, "again");
        wait_until("the watermark comes back", || confirmed(&url, producer)["watermark"] == 1000);
        wait_until("the counts come back", || total(&url) == 1000);
        assert_eq!(health(&url).0, 200);
        processor.signal(Signal::TERM);
        assert_exit(&processor.wait(), 0);
    });
}

/// A copy of an outbox is older than its original: it gives out numbers of its own.
#[test]
fn a_restored_outbox_gives_out_no_number_twice() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let _processor = start(dir, &process(broker, &url));
        let tcp = broker.tcp();
        let produce = format!(
            "produce --num-messages 6000 --num-videos 7 --rate 1000 --republish-after 2s --data-dir outbox \
             --nsqd-tcp-address {tcp} --dashboard-url {url}"
        );
        let producer = start(dir, &produce);
        wait_until("some are counted", || {
            dir.join("ledger/ledger.sqlite3").exists() && counted(dir) > 200
        });
        done(dir, "backup --data-dir outbox --output kept");
        let kept = playcounts::producer::read_outbox(&dir.join("kept")).unwrap().unwrap();
        wait_until("more are counted", || counted(dir) > kept.plays + 300);
        producer.signal(Signal::KILL);
        producer.wait();
        let original = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
        fs::remove_dir_all(dir.join("outbox")).unwrap();
        done(dir, "restore --from kept --data-dir outbox");
        assert_exit(&run(dir, &produce), 0);
        let restored = playcounts::producer::read_outbox(&dir.join("outbox")).unwrap().unwrap();
        let [(first_new, new)] = restored.later[..] else { panic!("{:?}", restored.later) };
        assert_eq!(first_new, kept.plays);
        assert_eq!([kept.producer, restored.producer], [original.producer; 2]);
        let ledger = playcounts::ledger::read(&dir.join("ledger")).unwrap().unwrap();
        let of = |id: Uuid| {
            let (_, set) = ledger.producers.iter().find(|(producer, _)| *producer == id).unwrap();
            set.runs().collect::<Vec<_>>()
        };
        let [ref later] = of(new)[..] else { panic!("{:?}", of(new)) };
        assert_eq!(*later, kept.plays..6000);
        // Of the original all that nsqd was given, and what the copy held.
        let first = of(original.producer);
        assert_eq!(first.len(), 1, "{first:?}");
        assert!((kept.plays..=original.plays).contains(&first[0].end), "{first:?}");
        assert_eq!(ledger.counters.counted, first[0].end + 6000 - kept.plays);
    });
}

/// Copies that are made while a processor counts are whole, each of its moment.
#[test]
fn every_copy_of_a_busy_ledger_is_whole() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let processor = start(dir, &process(broker, &url));
        let producer = Uuid::new_v4();
        let mut before = 0;
        for round in 0..6 {
            publish(broker, producer, round * 2000..(round + 1) * 2000);
            wait_until("some of them are counted", || counted(dir) > before);
            done(dir, &format!("backup --data-dir ledger --output kept-{round}"));
            let kept = dir.join(format!("kept-{round}"));
            let said = done(dir, &format!("check --data-dir kept-{round}"));
            assert!(said.starts_with("ledger: whole: "), "{said}");
            let found = playcounts::ledger::read(&kept).unwrap().unwrap();
            let plays: u64 = found.videos.iter().map(|video| video.plays).sum();
            let of_producers: u64 = found
                .producers
                .iter()
                .flat_map(|(_, set)| set.runs())
                .map(|run| run.end - run.start)
                .sum();
            assert_eq!((plays, of_producers), (found.counters.counted, found.counters.counted));
            assert!(plays >= before, "{plays} after {before}");
            before = plays;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&kept), mode(&kept.join("ledger.sqlite3"))), (0o700, 0o600));
        }
        wait_until("all are counted", || counted(dir) == 12_000);
        processor.signal(Signal::KILL);
        processor.wait();
        let line = refused(dir, "backup --data-dir ledger --output kept-0");
        assert!(line.contains("cannot make kept-0, which must not exist yet"), "{line}");
        let line = refused(dir, "backup --data-dir nowhere --output kept-9");
        assert!(line.contains("no part has kept anything in nowhere"), "{line}");
        assert!(!dir.join("kept-9").exists());
    });
}

/// A backup of all three parts in one data directory.
fn all_parts(dir: &Path) {
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let processor = start(dir, &process(&broker, &url).replace("ledger", "playcounts-data"));
    let tcp = broker.tcp();
    let produce = format!(
        "produce --num-messages 300 --num-videos 3 --data-dir playcounts-data --nsqd-tcp-address {tcp} --dashboard-url {url}"
    );
    assert_exit(&run(dir, &produce), 0);
    processor.signal(Signal::TERM);
    assert_exit(&processor.wait(), 0);
    let wrote =
        ["outbox", "dashboard", "ledger"].map(|part| format!("wrote kept/{part}.sqlite3\n"));
    assert_eq!(done(dir, "backup --output kept"), wrote.concat());
}

/// What is damaged, or in the way, is told; and a kill leaves each part whole or not there.
#[test]
fn a_restore_is_whole_or_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    all_parts(dir);
    let restore = "restore --from kept --data-dir again";
    if cfg!(debug_assertions) {
        for parts in 0..3 {
            let point = format!("restore-before-place:{}", parts + 1);
            let restore = format!("restore --from kept --data-dir killed-{parts}");
            let dead =
                command(dir, &words(&restore)).env("PLAYCOUNTS_FAILPOINT", point).output().unwrap();
            assert_eq!(dead.status.code(), None, "{dead:?}");
            let check = run(dir, &format!("check --data-dir killed-{parts}"));
            assert_exit(&check, i32::from(parts == 0));
            let whole = String::from_utf8_lossy(&check.stdout).matches(": whole: ").count();
            assert_eq!(whole, parts, "{check:?}");
        }
        // Nothing was put in place: the same command goes on.
        done(dir, "restore --from kept --data-dir killed-0");
    }
    let said = done(dir, restore);
    assert_eq!(said.matches("put back in again: 300 plays").count(), 3, "{said}");
    let left: Vec<_> = fs::read_dir(dir.join("again")).unwrap().map(Result::unwrap).collect();
    assert!(left.iter().all(|file| !file.path().is_dir()), "{left:?}");
    let mode =
        |name: &str| fs::metadata(dir.join("again").join(name)).unwrap().permissions().mode();
    for part in ["outbox", "dashboard", "ledger"] {
        assert_eq!(mode(&format!("{part}.sqlite3")) & 0o777, 0o600, "{part}");
    }
    let line = refused(dir, restore);
    assert!(line.contains("again/outbox.sqlite3 is in the way of the outbox"), "{line}");
    fs::create_dir_all(dir.join("left/ledger.journal")).unwrap();
    let line = refused(dir, "restore --from kept --data-dir left");
    assert!(line.contains("left/ledger.journal is in the way of the ledger"), "{line}");
    assert!(!dir.join("left/outbox.sqlite3").exists());
    for (from, want) in [
        ("nowhere", "is not a directory that `backup` has made"),
        ("left", "was not restored: its ledger is damaged: ledger.sqlite3 is missing"),
    ] {
        let line = refused(dir, &format!("restore --from {from} --data-dir other"));
        assert!(line.contains(want), "{line}");
    }
    for part in ["outbox", "dashboard", "ledger"] {
        let name = format!("kept/{part}.sqlite3");
        let path = dir.join(&name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        // In the rows of the newest pages.
        let at = bad.iter().rposition(|byte| *byte != 0).unwrap();
        bad[at - 3] ^= 1;
        fs::write(&path, &bad).unwrap();
        let line = refused(dir, "restore --from kept --data-dir other");
        assert!(line.contains(&format!("its {part} is damaged: ")), "{line}");
        assert!(line.contains(&format!("{part}.sqlite3")), "{line}");
        assert!(!dir.join("other").join(format!("{part}.sqlite3")).exists());
        fs::write(&path, &good).unwrap();
    }
}

/// A part's file without what lay beside it, or with nothing in it, is never taken for a new one.
#[test]
fn a_file_that_is_not_whole_is_never_new() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let broker = Broker::ours(dir);
    let (dashboard, url) = support::dashboard(dir);
    let processor = start(dir, &process(&broker, &url));
    let tcp = broker.tcp();
    let produce = format!(
        "produce --num-messages 300 --num-videos 3 --rate 2 --data-dir outbox --nsqd-tcp-address {tcp} --dashboard-url {url}"
    );
    let producer = start(dir, &produce);
    publish(&broker, Uuid::new_v4(), 0..1000);
    wait_until("all is counted", || dir.join("ledger").exists() && total(&url) > 10);
    wait_until("some are kept", || {
        playcounts::producer::read_outbox(&dir.join("outbox")).is_ok_and(|found| found.is_some())
    });
    wait_until("the journals are begun", || {
        ["ledger/ledger", "outbox/outbox", "playcounts-data/dashboard"]
            .iter()
            .all(|part| dir.join(format!("{part}.journal/0000000001.segment")).exists())
    });
    let dashboard_of =
        |data: &str| format!("dashboard --http-address 127.0.0.1:0 --data-dir {data}");
    let commands = [
        (
            "ledger",
            "ledger",
            process(&broker, &url).replace("--data-dir ledger", "--data-dir alone"),
        ),
        ("outbox", "outbox", produce.replace("--data-dir outbox", "--data-dir alone")),
        ("playcounts-data", "dashboard", dashboard_of("alone")),
    ];
    for (from, part, command) in &commands {
        let file = format!("{part}.sqlite3");
        for content in [fs::read(dir.join(from).join(&file)).unwrap(), Vec::new()] {
            fs::create_dir(dir.join("alone")).unwrap();
            let alone = dir.join("alone").join(&file);
            fs::write(&alone, &content).unwrap();
            for _ in 0..2 {
                let line = refused(dir, command);
                let want =
                    if content.is_empty() { "it is there and holds nothing" } else { "missing" };
                assert!(
                    line.contains(want) && line.contains(&format!("{part}.")),
                    "{part}: {line}"
                );
            }
            let line = refused(dir, "backup --data-dir alone --output other");
            let want =
                if content.is_empty() { "it is there and holds nothing" } else { ".segment" };
            assert!(line.contains(want) && !line.contains("faster"), "{part}: {line}");
            assert!(!dir.join("other").exists());
            assert_exit(&run(dir, "check --data-dir alone"), 1);
            fs::remove_dir_all(dir.join("alone")).unwrap();
        }
    }
    drop((processor, producer, dashboard));
}
