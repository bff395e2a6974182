//! The whole pipeline: what is put on the queue stands on the dashboard.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use nsq_protocol::thread::OwnedThread;
use playcounts::ledger;
use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::nsqd;
use crate::nsqlookupd::Nsqlookupd;
use crate::support::{
    self, Broker, Running, assert_exit, get, json, on_both_brokers, output, post, wait_until,
};

/// A small run on the embedded broker, to its end; what `verify` then says of it.
#[track_caller]
fn verified_run(dir: &Path, more: &[&str]) -> String {
    let args =
        ["run", "--num-messages", "5000", "--http-address", "127.0.0.1:0", "--exit", "--json"];
    let run = output(dir, &[&args, more].concat());
    assert_exit(&run, 0);
    // stdout holds the report and nothing else.
    assert_eq!(String::from_utf8_lossy(&run.stdout).lines().count(), 1, "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).lines().any(|line| line == "All consumed"));
    let report = json(&run);
    assert_eq!((&report["messages"], &report["counted"]), (&5000.into(), &5000.into()));
    assert_eq!((&report["dashboard_plays"], &report["verified"]), (&5000.into(), &true.into()));
    let verify = output(dir, &["verify"]);
    assert_exit(&verify, 0);
    String::from_utf8(verify.stdout).unwrap()
}

#[test]
fn all_messages_consumed() {
    let dir = tempfile::tempdir().unwrap();
    let verify = verified_run(dir.path(), &[]);
    assert!(
        verify.contains(
            "all messages consumed                passed: 5,000 messages consumed of 5,000 produced"
        ),
        "{verify}"
    );
}

/// Each run begins with an empty queue, whatever the last one has left of it: most of a million plays.
#[test]
fn a_run_on_a_queue_on_disk_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = ["--queue-on-disk", "--durability=power"];
    let args = ["run", "--num-messages=1000000", "--http-address=127.0.0.1:0"];
    let killed = Running::start(dir.path(), &[&args[..], &on_disk].concat());
    let log = dir.path().join("playcounts-run/broker/topic-plays");
    wait_until("plays to be on disk", || {
        let mut files = std::fs::read_dir(&log).into_iter().flatten().flatten();
        let text = |path| std::fs::read(path).unwrap_or_default();
        files.any(|file| String::from_utf8_lossy(&text(file.path())).contains("\"video_id\""))
    });
    drop(killed);
    verified_run(dir.path(), &on_disk);
}

#[test]
fn processor_has_correct_counts() {
    let dir = tempfile::tempdir().unwrap();
    let verify =
        verified_run(dir.path(), &["--real-life", "--pc-ratio", "1.5", "--popularity", "zipf:1.1"]);
    assert!(
        verify.contains("processor has correct counts         passed: 5,000 plays"),
        "{verify}"
    );
    // A processor that has lost one play does not pass.
    let counted = dir.path().join("playcounts-run/counted.csv");
    let text = std::fs::read_to_string(&counted).unwrap();
    let (video, plays) = text.lines().nth(1).unwrap().split_once(',').unwrap();
    let less = plays.parse::<u64>().unwrap() - 1;
    std::fs::write(
        &counted,
        text.replacen(&format!("{video},{plays}"), &format!("{video},{less}"), 1),
    )
    .unwrap();
    let verify = output(dir.path(), &["verify"]);
    assert_exit(&verify, 1);
    let text = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(text.contains("processor has correct counts         FAILED"), "{text}");
}

#[test]
fn dashboard_has_correct_counts() {
    let dir = tempfile::tempdir().unwrap();
    let verify = verified_run(dir.path(), &["--rate", "20000", "--num-videos", "7"]);
    assert!(
        verify.contains("dashboard has correct counts         passed: 5,000 plays of 7 videos"),
        "{verify}"
    );
}

#[test]
fn verify_skips_what_was_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = output(dir.path(), &["verify"]);
    assert_exit(&nothing, 1);
    let verify = output(dir.path(), &["verify", "--data-dir", "."]);
    // What checks nothing does not pass.
    assert_exit(&verify, 1);
    assert_eq!(String::from_utf8_lossy(&verify.stdout).matches(" skipped: ").count(), 3);
    assert!(String::from_utf8_lossy(&verify.stderr).contains("nothing to verify"), "{verify:?}");
}

#[test]
fn run_goes_through_an_nsqd_of_its_own() {
    if nsqd::find().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    verified_run(dir.path(), &["--start-nsq"]);
}

#[test]
fn run_on_a_named_broker_refuses_a_topic_that_is_not_empty() {
    on_both_brokers(|dir, broker| {
        post(&format!("http://{}/pub?topic=plays", broker.http()), "left over");
        let (tcp, http) = (broker.tcp(), broker.http());
        let named = ["--nsqd-tcp-address", &tcp, "--nsqd-http-address", &http];
        let args = ["run", "--num-messages", "10", "--http-address", "127.0.0.1:0", "--exit"];
        let refused = output(dir, &[&args[..], &named].concat());
        assert_exit(&refused, 1);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            error.contains(
                "topic plays is not empty: in channel processor are 1 waiting, 0 in flight"
            ) && error.contains("--reset"),
            "{error}"
        );
        verified_run(dir, &[&named[..], &["--reset"]].concat());
    });
}

#[test]
fn producer_creates_messages() {
    on_both_brokers(|dir, broker| {
        post(&format!("http://{}/topic/create?topic=plays", broker.http()), "");
        post(&format!("http://{}/channel/create?topic=plays&channel=c", broker.http()), "");
        let tcp = broker.tcp();
        let produce =
            output(dir, &["produce", "--num-messages=1234", "--nsqd-tcp-address", &tcp, "--json"]);
        assert_exit(&produce, 0);
        assert_eq!(json(&produce)["messages"], 1234);
        // nsqd hands messages from the topic to its channels behind the OK.
        wait_until("all are in the channel", || {
            let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
            let topic = &stats["topics"][0];
            topic["message_count"] == 1234 && topic["channels"][0]["depth"] == 1234
        });
    });
}

#[test]
fn someone_elses_producer_is_counted() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let tcp = broker.tcp();
        let process = [
            "process",
            "--num-messages",
            "5001",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--json",
        ];
        let process = Running::start(dir, &process);
        let videos: Vec<String> =
            (0..137).map(|_| format!("{{\"video_id\":\"{}\"}}", Uuid::new_v4())).collect();
        let plays: Vec<&str> = (0..5000).map(|play| videos[play % 137].as_str()).collect();
        plays.chunks(500).for_each(|lines| {
            post(&format!("http://{}/mpub?topic=plays", broker.http()), &lines.join("\n"))
        });
        post(&format!("http://{}/pub?topic=plays", broker.http()), &videos[0]);
        let process = process.wait();
        assert_exit(&process, 0);
        let report = json(&process);
        assert_eq!((&report["counted"], &report["videos"]), (&5001.into(), &137.into()));
        let counts = get(&format!("{url}/api/counts?limit=1"));
        assert_eq!((&counts["total_plays"], &counts["total_videos"]), (&5001.into(), &137.into()));
        // 5000 = 36 × 137 + 68, and one more of the first.
        assert_eq!(counts["counts"][0]["plays"], 38);
    });
}

#[test]
fn nsqds_are_found_through_nsqlookupd() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let http = lookupd.http.to_string();
    let by_lookupd = ["--lookupd-http-address", &http];
    let nobody = ["produce", "--num-messages=1", "--connect-timeout=1ms"];
    let nobody = output(dir.path(), &[&nobody[..], &by_lookupd].concat());
    assert_exit(&nobody, 1);
    let error = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(error.contains("no nsqd is registered") && error.contains(&http), "{error}");

    let (dashboard, url) = support::dashboard(dir.path());
    let process = [
        "process",
        "--num-messages=2000",
        "--dashboard-url",
        &url,
        "--json",
        "--consumer-opt=lookupd_poll_interval,100ms",
        "--consumer-opt=snappy",
    ];
    // Before there is an nsqd, and a topic: both are found.
    let process = Running::start(dir.path(), &[&process[..], &by_lookupd].concat());
    let program = nsqd::find().expect("there is an nsqlookupd");
    let register = ["--lookupd-tcp-address", &lookupd.tcp.to_string()];
    let one = nsqd::Nsqd::start(&program, &register);
    let registered = |count: usize| {
        let nodes = get(&format!("http://{http}/nodes"))["producers"].as_array().map(Vec::len);
        nodes == Some(count)
    };
    wait_until("the nsqd is registered", || registered(1));
    let produce = ["produce", "--num-messages=1000", "--producer-opt=deflate_level,3"];
    assert_exit(&output(dir.path(), &[&produce[..], &by_lookupd].concat()), 0);
    let two = nsqd::Nsqd::start(&program, &register);
    wait_until("the second nsqd is registered", || registered(2));
    let tcp = two.tcp.to_string();
    let direct = ["produce", "--num-messages=1000", "--nsqd-tcp-address", &tcp];
    assert_exit(&output(dir.path(), &direct), 0);
    let process = process.wait();
    assert_exit(&process, 0);
    assert_eq!(json(&process)["counted"], 2000);
    drop(dashboard);
    // All of it in one process, over both of them; not over what a dashboard and a processor have kept.
    let run = ["run", "--http-address", "127.0.0.1:0", "--exit", "--data-dir", "playcounts-data"];
    let refused = output(dir.path(), &[&run[..], &by_lookupd].concat());
    assert_exit(&refused, 1);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("holds a dashboard's (`dashboard`) counts"), "{error}");
    let other = tempfile::tempdir().unwrap();
    verified_run(other.path(), &[&["--reset"][..], &by_lookupd].concat());
    assert_exit(&output(dir.path(), &[&["reset", "--yes"][..], &by_lookupd].concat()), 0);
    drop(one);
}

#[test]
fn a_body_that_is_no_play_is_rejected_and_finished() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let publish = format!("http://{}/pub?topic=plays", broker.http());
        for body in ["garbage", "{}", "\0\u{1b}[31m", r#"{"video_id":"a\u001b[31m"}"#] {
            post(&publish, body);
        }
        post(&publish, &format!(r#"{{"video_id":"{}"}}"#, Uuid::new_v4()));
        let tcp = broker.tcp();
        let args = [
            "process",
            "--num-messages=5",
            "--num-threads=1",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
        ];
        let process = output(dir, &[&args[..], &["--json"]].concat());
        assert_exit(&process, 0);
        let report = json(&process);
        assert_eq!((&report["counted"], &report["rejected"]), (&1.into(), &4.into()));
        let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
        let channel = &stats["topics"][0]["channels"][0];
        for counter in ["depth", "in_flight_count", "deferred_count", "requeue_count"] {
            assert_eq!(channel[counter], 0, "{counter} in {channel}");
        }
        assert!(get(&format!("{url}/api/stats")).to_string().contains("\"rejected\":4"));
    });
}

#[test]
fn a_play_that_comes_twice_is_counted_once() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let (video, producer) = (Uuid::new_v4(), Uuid::new_v4());
        let play = |seq| format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#);
        let plays: Vec<String> = [0, 1, 2, 1, 0, 7].into_iter().map(play).collect();
        post(&format!("http://{}/mpub?topic=plays", broker.http()), &plays.join("\n"));
        let tcp = broker.tcp();
        let args =
            ["process", "--num-messages=4", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url];
        let process = output(dir, &[&args[..], &["--json"]].concat());
        assert_exit(&process, 0);
        let report = json(&process);
        assert_eq!((&report["counted"], &report["duplicates"]), (&4.into(), &2.into()));
        assert_eq!(get(&format!("{url}/api/counts/{video}"))["plays"], 4);
    });
}

#[test]
fn counts_outlive_a_dashboard_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let (dashboard, url) = support::dashboard(dir.path());
    let tcp = broker.tcp();
    let process = Running::start(
        dir.path(),
        &["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--json"],
    );
    let play = |video: u128| format!(r#"{{"video_id":"{}"}}"#, Uuid::from_u128(video));
    let publish = format!("http://{}/pub?topic=plays", broker.http());
    let total = |url: &str| get(&format!("{url}/api/counts"))["total_plays"].clone();
    post(&publish, &play(1));
    wait_until("the first play is shown", || total(&url) == 1);
    dashboard.signal(Signal::KILL);
    drop(dashboard);
    (0..50).for_each(|video| post(&publish, &play(video)));
    let address = url.strip_prefix("http://").unwrap();
    let mut dashboard = Running::start(dir.path(), &["dashboard", "--http-address", address]);
    dashboard.wait_for("live at ");
    wait_until("all plays are shown", || total(&url) == 51);
    process.signal(Signal::TERM);
    let process = process.wait();
    assert_exit(&process, 0);
    assert_eq!(json(&process)["counted"], 51);
}

/// A dashboard that takes calls and does not answer, then fails them: nothing is published, and everything is counted and finished meanwhile.
#[test]
fn counting_goes_on_while_the_dashboard_hangs_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let bad = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = bad.local_addr().unwrap().to_string();
    let (fail, failing) = crossbeam_channel::bounded::<()>(0);
    // Takes calls without a word until told to fail them, and ends with the third that it has failed.
    let dashboard = OwnedThread::spawn("bad-dashboard", move || {
        let mut silent = Vec::new();
        let mut failed = 0;
        while failed < 3 {
            let (mut call, _) = bad.accept().unwrap();
            if failing.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                silent.push(call);
                continue;
            }
            silent.clear();
            let _ = call.read(&mut [0; 4096]);
            let _ = call
                .write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            failed += 1;
        }
    })
    .unwrap();
    let (tcp, url) = (broker.tcp(), format!("http://{address}"));
    let process = Running::start(
        dir.path(),
        &[
            "process",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &url,
            "--data-dir",
            "here",
            "--json",
        ],
    );
    let publish = format!("http://{}/pub?topic=plays", broker.http());
    let play = |video: u128| format!(r#"{{"video_id":"{}"}}"#, Uuid::from_u128(video));
    (0..100).for_each(|video| post(&publish, &play(video)));
    let depth = || {
        let stats = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
        let channel = &stats["topics"][0]["channels"][0];
        (channel["depth"].clone(), channel["in_flight_count"].clone())
    };
    let counted = || {
        let ledger = ledger::read(&dir.path().join("here")).unwrap();
        ledger.map_or(0, |ledger| ledger.counters.counted)
    };
    wait_until("all is counted", || counted() == 100);
    wait_until("all is finished", || depth() == (0.into(), 0.into()));
    drop(fail);
    (100..150).for_each(|video| post(&publish, &play(video)));
    wait_until("that is counted, too", || counted() == 150);
    dashboard.join();
    let mut dashboard = Running::start(dir.path(), &["dashboard", "--http-address", &address]);
    dashboard.wait_for("live at ");
    wait_until("all plays are shown", || get(&format!("{url}/api/counts"))["total_plays"] == 150);
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
}

#[test]
fn processor_refuses_a_second_start_on_the_same_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let tcp = broker.tcp();
    let args = ["process", "--nsqd-tcp-address", &tcp, "--data-dir", "here", "--json"];
    let first = Running::start(dir.path(), &args);
    let lock = dir.path().join("here/processor.lock");
    wait_until("the first has locked", || std::fs::read(&lock).is_ok_and(|pid| !pid.is_empty()));
    let pid = std::fs::read_to_string(&lock).unwrap();
    for second in
        [&args[..], &["run", "--data-dir", "here", "--exit", "--http-address", "127.0.0.1:0"]]
    {
        let second = output(dir.path(), second);
        assert_exit(&second, 1);
        let error = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(error.contains("another processor") && error.contains(&pid), "{error}");
    }
    first.signal(Signal::KILL);
    drop(first);
    let third = Running::start(dir.path(), &args);
    wait_until("the lock has a new owner", || {
        std::fs::read_to_string(&lock).is_ok_and(|new| new != pid)
    });
    third.signal(Signal::TERM);
    assert_exit(&third.wait(), 0);
}

/// All that was counted is published, whenever the signal comes.
#[track_caller]
fn check_stopped(report: &Value) {
    assert_eq!(report["dashboard_plays"], report["counted"], "{report}");
}

#[test]
fn a_signal_ends_a_run_in_every_phase() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = tempfile::tempdir().unwrap();
        let start = |more: &[&str]| {
            let args = ["run", "--http-address", "127.0.0.1:0", "--json"];
            let mut run = Running::start(dir.path(), &[&args, more].concat());
            let url = run.wait_for("page ");
            (run, url)
        };
        // While the queue is being filled: nothing is counted.
        let (run, _) = start(&["--rate", "100"]);
        run.signal(signal);
        let run = run.wait();
        assert_exit(&run, 1);
        check_stopped(&json(&run));
        assert!(
            String::from_utf8_lossy(&run.stderr).contains("stopped before the end: "),
            "{run:?}"
        );
        // While plays are counted.
        let (run, url) = start(&["--rate", "500", "--real-life"]);
        wait_until("some plays are counted", || {
            get(&format!("{url}/api/counts"))["total_plays"].as_u64() > Some(50)
        });
        run.signal(signal);
        let run = run.wait();
        assert_exit(&run, 1);
        let report = json(&run);
        check_stopped(&report);
        assert!(report["counted"].as_u64() > Some(50), "{report}");
        // While the page is served: the run itself is done.
        let (mut run, url) = start(&["--num-messages", "1000"]);
        run.wait_for("the page is live");
        assert_eq!(get(&format!("{url}/api/counts"))["total_plays"], 1000);
        run.signal(signal);
        let run = run.wait();
        assert_exit(&run, 0);
        check_stopped(&json(&run));
    }
}

#[test]
fn a_signal_ends_a_processor_with_all_counts_published() {
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = support::dashboard(dir);
        let tcp = broker.tcp();
        let producer = [
            "produce",
            "--rate",
            "2000",
            "--num-messages=1000000",
            "--nsqd-tcp-address",
            &tcp,
            "--json",
        ];
        let producer = Running::start(dir, &producer);
        let process = Running::start(
            dir,
            &["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--json"],
        );
        let total = || get(&format!("{url}/api/counts"))["total_plays"].clone();
        wait_until("some plays are counted", || total().as_u64() > Some(500));
        process.signal(Signal::TERM);
        let process = process.wait();
        assert_exit(&process, 0);
        assert_eq!(json(&process)["counted"], total());
        producer.signal(Signal::INT);
        let producer = producer.wait();
        assert_exit(&producer, 1);
        assert!(json(&producer)["messages"].as_u64() > Some(500));
    });
}
