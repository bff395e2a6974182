//! Several dashboards of one processor: each is told everything, at its own pace. With real processes, which are killed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::ConsumerConfig;
use nsq_protocol::thread::stop_pair;
use playcounts::dashboard::{Dashboard, DashboardConfig, Keep};
use playcounts::ledger::{Ledger, MemoryLedger};
use playcounts::model::play::PlayShape;
use playcounts::model::time_window::TimeWindow;
use playcounts::model::video::VideoState;
use playcounts::nsqd::waiting::StartWait;
use playcounts::processor::{DeadProcessor, OnLoss, Processor, ProcessorConfig, ToldOfDead};
use playcounts::storage::data_dir::{DataDir, PROCESSOR};
use playcounts::wire::client::DashboardClient;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::proxy::{Proxy, Toxic};
use crate::support::{
    self, Broker, Running, assert_exit, get, health, json, on_both_brokers, output, publish_of,
    total, wait_until,
};
use playcounts::model::video_id::VideoId;

/// Where nobody listens, so that each call fails at once.
const NOBODY: &str = "http://127.0.0.1:1";

fn start(dir: &Path, line: &str) -> Running {
    Running::start(dir, &line.split(' ').collect::<Vec<_>>())
}

/// A processor's arguments: its dashboards, and what else is wanted.
fn process(broker: &Broker, urls: &[&str], more: &str) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("--dashboard-url {url}")).collect();
    let (tcp, urls) = (broker.tcp(), urls.join(" "));
    format!(
        "process --nsqd-tcp-address {tcp} {urls} --data-dir ledger --update-interval 1s --realtime-below 5{more}"
    )
}

/// A dashboard process with a data directory of its own, and its URL.
fn dashboard_in(dir: &Path, data: &str) -> (Running, String) {
    let line = format!("dashboard --http-address 127.0.0.1:0 --data-dir {data}");
    let mut process = start(dir, &line);
    let url = process.wait_for("live at ");
    (process, url.trim_end_matches('/').to_owned())
}

/// The dashboard again, at the same address.
fn dashboard_again(dir: &Path, data: &str, url: &str) -> Running {
    let address = url.strip_prefix("http://").unwrap();
    let mut process = start(dir, &format!("dashboard --http-address {address} --data-dir {data}"));
    process.wait_for("live at ");
    process
}

/// Each video with its plays, as a dashboard shows them.
fn counts(url: &str) -> Vec<(String, u64)> {
    let page = get(&format!("{url}/api/counts?limit=500&sort=video_id"));
    let row = |row: &Value| {
        let video = row["video_id"].as_str().unwrap().to_owned();
        (video, row["plays"].as_u64().unwrap())
    };
    page["counts"].as_array().unwrap().iter().map(row).collect()
}

fn watermark(url: &str, producer: Uuid) -> u64 {
    let answer = get(&format!("{url}/api/confirmed?producer={producer}"));
    answer["watermark"].as_u64().unwrap()
}

/// A dashboard that is killed and comes back is complete again, with its files or with none; the other one waits for nothing.
#[test]
fn each_is_complete_again_after_being_away() {
    on_both_brokers(|dir, broker| {
        let (_first, first) = dashboard_in(dir, "one");
        let (mut killed, second) = dashboard_in(dir, "two");
        let processor = start(dir, &process(broker, &[&first, &second], " --json"));
        let producer = Uuid::new_v4();
        publish_of(50, broker, producer, 0..1000);
        for url in [&first, &second] {
            wait_until("both are told", || total(url) == 1000 && watermark(url, producer) == 1000);
        }
        for (round, with_files) in [(1, true), (2, false)] {
            killed.signal(Signal::KILL);
            killed.wait();
            let upto = 1000 + round * 1000;
            publish_of(50, broker, producer, upto - 1000..upto);
            wait_until("the other is told", || {
                total(&first) == upto && watermark(&first, producer) == upto
            });
            if !with_files {
                fs::remove_dir_all(dir.join("two")).unwrap();
            }
            killed = dashboard_again(dir, "two", &second);
            wait_until("the one that was away is told", || {
                total(&second) == upto && watermark(&second, producer) == upto
            });
            assert_eq!(counts(&first), counts(&second));
        }
        processor.signal(Signal::TERM);
        let done = processor.wait();
        assert_exit(&done, 0);
        let report = json(&done);
        let told = report["dashboards"].as_array().unwrap();
        let urls: Vec<&str> = told.iter().map(|told| told["url"].as_str().unwrap()).collect();
        assert_eq!(urls, [&first, &second]);
        for told in told {
            assert!(told["published_messages"].as_u64().unwrap() >= 3, "{report}");
            assert_eq!((&told["unpublished_videos"], &told["error"]), (&0.into(), &Value::Null));
        }
        // Another start, the other way round: neither lacks anything.
        let processor = start(dir, &process(broker, &[&second, &first], ""));
        publish_of(50, broker, producer, 3000..3100);
        for url in [&first, &second] {
            wait_until("both go on", || total(url) == 3100 && watermark(url, producer) == 3100);
        }
        processor.signal(Signal::TERM);
        assert_exit(&processor.wait(), 0);
    });
}

/// A dashboard that comes later is told all that was counted before.
#[test]
fn one_that_is_added_is_told_what_was_counted_before() {
    on_both_brokers(|dir, broker| {
        let (_first, first) = dashboard_in(dir, "one");
        let (_second, second) = dashboard_in(dir, "two");
        let producer = Uuid::new_v4();
        publish_of(50, broker, producer, 0..500);
        let alone = process(broker, &[&first], " --num-messages 500");
        assert_exit(&output(dir, &alone.split(' ').collect::<Vec<_>>()), 0);
        let both = process(broker, &[&first, &second], "");
        let processor = start(dir, &both);
        wait_until("it is told", || total(&second) == 500 && watermark(&second, producer) == 500);
        assert_eq!(counts(&first), counts(&second));
        processor.signal(Signal::TERM);
        assert_exit(&processor.wait(), 0);
    });
}

/// Each answer of one dashboard takes up to a second: the other shows what is counted in far less.
#[test]
fn a_slow_one_keeps_no_other_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_first, first) = dashboard_in(dir, "one");
    let (_second, second) = dashboard_in(dir, "two");
    let target = second.strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(target, Toxic::Delay(Duration::from_secs(1)), 16);
    let slow = format!("http://{}", proxy.addr());
    // The slow one comes first: the order gives no right of way.
    let processor = start(dir, &process(&broker, &[&slow, &first], ""));
    let producer = Uuid::new_v4();
    let plays = 400;
    let began = Instant::now();
    publish_of(plays, &broker, producer, 0..plays);
    wait_until("the other is told", || {
        total(&first) == plays && watermark(&first, producer) == plays
    });
    let (quick, behind) = (began.elapsed(), plays - total(&second));
    // 20 messages of half a second each, on the average, and as long for those back.
    assert!(behind > 0, "the slow one is as quick: {quick:?}");
    wait_until("the slow one is told", || {
        total(&second) == plays && watermark(&second, producer) == plays
    });
    assert!(quick < began.elapsed() / 2, "{quick:?} and {:?}", began.elapsed());
    assert_eq!(counts(&first), counts(&second));
    processor.signal(Signal::TERM);
    assert_exit(&processor.wait(), 0);
}

/// A producer with an outbox ends, although one of the dashboards is away for ever; and the processor says which one lacks what.
#[test]
fn producers_end_while_a_dashboard_is_away_for_ever() {
    on_both_brokers(|dir, broker| {
        let (_first, first) = dashboard_in(dir, "one");
        let mut processor = start(dir, &process(broker, &[NOBODY, &first], " --json"));
        processor.wait_for(&format!("cannot publish to {NOBODY}"));
        let tcp = broker.tcp();
        let produce = format!(
            "produce --num-messages 3000 --num-videos 30 --data-dir outbox --nsqd-tcp-address {tcp} \
             --dashboard-url {first} --json"
        );
        let produced = start(dir, &produce).wait();
        assert_exit(&produced, 0);
        assert_eq!(json(&produced)["messages"], 3000);
        wait_until("the dashboard that is there is told", || total(&first) == 3000);
        assert_eq!(health(&first).0, 200);
        processor.signal(Signal::TERM);
        let ended = processor.wait();
        assert_exit(&ended, 1);
        let report = json(&ended);
        let [away, there] = [0, 1].map(|index| &report["dashboards"][index]);
        assert_eq!((&away["url"], &away["unpublished_videos"]), (&NOBODY.into(), &30.into()));
        assert!(away["error"].as_str().unwrap().contains("no dashboard at"), "{report}");
        assert_eq!((&there["unpublished_videos"], &there["error"]), (&0.into(), &Value::Null));
        let text = String::from_utf8_lossy(&ended.stderr);
        let want = format!(
            "the counts are safe in the ledger; 30 videos are not yet published to {NOBODY}"
        );
        assert!(text.contains(&want), "{text}");
    });
}

/// Whichever dashboard knows of plays that the ledger does not hold: nothing is counted, and no other is told anything.
#[test]
fn a_ledger_that_is_older_than_one_of_them_counts_nothing() {
    on_both_brokers(|dir, broker| {
        let (_first, first) = dashboard_in(dir, "one");
        let (away, second) = dashboard_in(dir, "two");
        let producer = Uuid::new_v4();
        let both = |more: &str| process(broker, &[&first, &second], more);
        let run = |line: &str| output(dir, &line.split(' ').collect::<Vec<_>>());
        publish_of(3, broker, producer, 0..100);
        assert_exit(&run(&both(" --num-messages 100")), 0);
        support::copy_all(&dir.join("ledger"), &dir.join("kept"));
        // Only the second is told of more.
        publish_of(3, broker, producer, 100..150);
        assert_exit(&run(&process(broker, &[&second], " --num-messages 150")), 0);
        assert_eq!((total(&first), total(&second)), (100, 150));
        fs::remove_dir_all(dir.join("ledger")).unwrap();
        support::copy_all(&dir.join("kept"), &dir.join("ledger"));

        publish_of(3, broker, producer, 150..170);
        let refused = run(&both(""));
        assert_exit(&refused, 1);
        let text = String::from_utf8_lossy(&refused.stderr);
        let want = format!("it held 100 plays at the start, and 150 are known of, says {second}");
        assert!(text.contains(&want), "{text}");

        // While it is away it counts, and the first is told; the first answer ends that.
        away.signal(Signal::KILL);
        away.wait();
        let processor = start(dir, &both(""));
        wait_until("it counts", || total(&first) == 120);
        let _back = dashboard_again(dir, "two", &second);
        let ended = processor.wait();
        assert_exit(&ended, 1);
        let text = String::from_utf8_lossy(&ended.stderr);
        assert!(text.contains("nothing is counted any more") && text.contains(&want), "{text}");
        assert_eq!((total(&first), total(&second)), (120, 150));
        for url in [&first, &second] {
            let (status, text) = health(url);
            assert!(status == 503 && text.contains("150 are known of"), "{url}: {text}");
        }
        // Where the loss is accepted both go on with what the ledger holds.
        let processor = start(dir, &both(" --accept-loss"));
        wait_until("both show the same", || (total(&first), total(&second)) == (120, 120));
        assert_eq!(counts(&first), counts(&second));
        processor.signal(Signal::TERM);
        assert_exit(&processor.wait(), 0);
    });
}

#[test]
fn the_same_one_twice_or_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let urls: Vec<String> =
        (0..9).map(|port| format!("http://127.0.0.1:{}", 9000 + port)).collect();
    let nine: Vec<&str> = urls.iter().map(String::as_str).collect();
    for (urls, want) in [
        (&["http://Here:8000", "http://there:8000", "http://here:8000/"][..], "is given twice"),
        (&nine[..], "is given 9 times: a processor has at most 8 dashboards"),
    ] {
        let mut args = vec!["process"];
        args.extend(urls.iter().flat_map(|url| ["--dashboard-url", url]));
        let refused = output(dir.path(), &args);
        assert_exit(&refused, 1);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains(want), "{text}");
    }
}

/// A dashboard of this process, in a directory that outlives it.
fn dashboard_of(data: &TempDir, http_address: &str) -> Dashboard {
    Dashboard::start(DashboardConfig {
        http_address: http_address.to_owned(),
        data_dir: data.path().to_owned(),
        write_token: None,
        read_token: None,
        configuration: Value::Null,
        clean: false,
        keep: Keep::default(),
        watched: None,
        allowed_hosts: Vec::new(),
        video_url: None,
        idle_alert: None,
        webhook: None,
        embed: Vec::new(),
        tls: None,
    })
    .unwrap()
}

/// What a processor has left that is dead: so many plays of each of 100 videos.
fn dead(processor: u128, plays: u64) -> DeadProcessor {
    let video = |number| VideoState {
        video_id: VideoId::from_u128(number),
        plays,
        published: plays,
        last_played_at: 0,
    };
    DeadProcessor {
        processor: Uuid::from_u128(processor),
        life: Uuid::from_u128(1000 + processor),
        first_version: 5,
        videos: (0..100).map(video).collect(),
    }
}

/// A processor without plays of its own.
fn living(broker: &Broker, data: &TempDir, urls: &[String]) -> Processor {
    let consumer = ConsumerConfig::new("plays".parse().unwrap(), "processor".parse().unwrap());
    let consumer = consumer.nsqd(broker.tcp());
    let (_running, stop) = stop_pair();
    let ledger: Box<dyn Ledger> = Box::new(MemoryLedger::new());
    Processor::start(ProcessorConfig {
        consumer,
        wait: StartWait { timeout: Some(Duration::from_secs(10)), stop },
        neighbours: None,
        threads: 1.try_into().unwrap(),
        time_window: TimeWindow::default(),
        shape: PlayShape::default(),
        update_interval: Duration::from_secs(1),
        realtime_below: 100,
        dashboards: urls.iter().map(|url| DashboardClient::new(url, None)).collect(),
        target: None,
        ledger,
        on_loss: OnLoss::Refuse,
        lock: DataDir::open(data.path()).unwrap().lock(PROCESSOR).unwrap(),
        links: Arc::default(),
    })
    .unwrap()
}

/// The counts of dead processors go to every dashboard under their own ids, also to one that is away at first or comes back
/// with another database; and the living one's own do not wait.
#[test]
fn the_counts_of_a_dead_processor_are_published_under_its_id() {
    let data: [TempDir; 4] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let broker = Broker::ours(data[0].path());
    let first = dashboard_of(&data[1], "127.0.0.1:0");
    let second = dashboard_of(&data[2], "127.0.0.1:0");
    let address = second.local_addr().to_string();
    let urls = [first.url(), format!("http://{address}")];
    let plays = |dashboard: &Dashboard| dashboard.totals().plays;
    second.shutdown().unwrap();

    let processor = living(&broker, &data[0], &urls);
    let one = processor.publish_for(dead(1, 7));
    wait_until("the first is told", || plays(&first) == 700);
    wait_until("that is known", || matches!(one.told()[0], ToldOfDead::All(Some(_))));
    assert_eq!((one.told()[1].clone(), one.ended().len()), (ToldOfDead::NotYet, 0));
    publish_of(3, &broker, Uuid::new_v4(), 0..9);
    wait_until("its own are told", || plays(&first) == 709);

    let second = dashboard_of(&data[2], &address);
    one.ended().recv_timeout(support::DEADLINE).unwrap();
    assert!(one.told().iter().all(|told| matches!(told, ToldOfDead::All(_))), "{:?}", one.told());
    wait_until("both have all", || (plays(&first), plays(&second)) == (709, 709));
    let known = get(&format!("{}/api/counts/{}", first.url(), Uuid::from_u128(50)));
    assert_eq!(known["plays"], 7);

    // Another database at the same place.
    second.shutdown().unwrap();
    let second = dashboard_of(&data[3], &address);
    wait_until("it is told as well", || plays(&second) == 709);
    one.ended().recv_timeout(support::DEADLINE).unwrap();

    // What is dropped is not told any more, and neither is it taken back.
    drop(one);
    let (stored, more) = (plays(&first), processor.publish_for(dead(2, 1)));
    more.ended().recv_timeout(support::DEADLINE).unwrap();
    assert_eq!((plays(&first), plays(&second)), (stored + 100, stored + 100));
    // It holds less than is known of it: refused, and no concern of the living one.
    drop(more);
    let less = processor.publish_for(DeadProcessor { life: Uuid::nil(), ..dead(1, 6) });
    less.ended().recv_timeout(support::DEADLINE).unwrap();
    for told in less.told() {
        let ToldOfDead::Refused(reason) = told else { panic!("{told:?}") };
        assert!(reason.contains("held 600 plays") && reason.contains("700 are known"), "{reason}");
    }
    publish_of(3, &broker, Uuid::new_v4(), 0..5);
    wait_until("its own go on", || (plays(&first), plays(&second)) == (stored + 105, stored + 105));
    let (report, _) = processor.stop();
    assert_eq!((report.failure.clone(), report.unpublished()), (None, None));
    assert_eq!(report.dashboards.len(), 2);
}
