//! What somebody does on the first day: the simulation and then the parts in one directory, a stop in the middle, the same
//! command twice; and what scripts read of it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;
use uuid::Uuid;

use crate::nsqd;
use crate::support::{
    self, Broker, Running, assert_exit, get, health, json, output, publish, total, wait_until,
};

const RUN: [&str; 3] = ["run", "--http-address=127.0.0.1:0", "--num-videos=7"];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// stdout, which must be one JSON object on one line and nothing else.
#[track_caller]
fn only_json(output: &std::process::Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(stdout.matches('\n').count(), 1, "{output:?}");
    assert!(stdout.starts_with('{') && stdout.ends_with("}\n"), "{output:?}");
    json(output)
}

/// Puts so many plays of an outbox of its own through a processor; the report of `produce`.
#[track_caller]
fn produce_and_process(dir: &Path, broker: &Broker, url: &str, plays: u64) -> Value {
    let tcp = broker.tcp();
    let line = format!("process --nsqd-tcp-address {tcp} --dashboard-url {url} --json");
    let mut process = Running::start(dir, &words(&line));
    process.wait_for("process: counts plays/processor of nsqd ");
    let line = format!(
        "produce --num-messages {plays} --num-videos 7 --data-dir playcounts-data --nsqd-tcp-address {tcp} \
         --dashboard-url {url} --json"
    );
    let produce = output(dir, &words(&line));
    assert_exit(&produce, 0);
    wait_until("all is published", || total(url) == plays);
    process.signal(Signal::INT);
    let process = process.wait();
    assert_exit(&process, 0);
    assert_eq!(only_json(&process)["counted"], plays);
    let said = stderr(&process);
    let end = "process: the counts are safe in the ledger, and all are published";
    assert!(said.lines().last() == Some(end), "{said}");
    only_json(&produce)
}

#[test]
fn the_parts_work_where_a_run_was_and_each_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let run = output(dir, &[&RUN[..], &["--num-messages=300", "--exit"]].concat());
    assert_exit(&run, 0);
    assert!(dir.join("playcounts-run").is_dir() && !dir.join("playcounts-data").exists());
    let (dashboard, url) = support::dashboard(dir);
    let broker = Broker::ours(dir);
    let produced = produce_and_process(dir, &broker, &url, 200);
    assert_eq!(produced["messages"], 200);
    // It looks where the run was, and says so; at the parts where that is asked for.
    for (more, place, plays) in [
        (None, "playcounts-run", "300"),
        (Some("--data-dir=playcounts-data"), "playcounts-data", "200"),
    ] {
        let verify = output(dir, &[&["verify"][..], more.as_slice()].concat());
        assert_exit(&verify, 0);
        assert!(stderr(&verify).contains(&format!("the last run has left in {place}")));
        let stdout = String::from_utf8_lossy(&verify.stdout).into_owned();
        assert!(
            stdout.contains(&format!("{plays} messages consumed of {plays} produced")),
            "{stdout}"
        );
    }
    // A reset takes both, and a run may come again; but not over the parts' counts.
    drop(dashboard);
    let reset = output(dir, &["reset", "--yes"]);
    assert_exit(&reset, 0);
    let emptied = String::from_utf8_lossy(&reset.stdout).into_owned();
    for what in
        ["ledger in playcounts-data", "outbox in playcounts-data", "ledger in playcounts-run"]
    {
        assert!(emptied.contains(what), "{emptied}");
    }
    let (_dashboard, url) = support::dashboard(dir);
    produce_and_process(dir, &broker, &url, 100);
    let over = [&RUN[..], &["--exit", "--data-dir=playcounts-data"]].concat();
    let refused = output(dir, &over);
    assert_exit(&refused, 1);
    let way_out =
        "give --data-dir another directory, or `playcounts reset --data-dir playcounts-data`";
    assert!(stderr(&refused).contains(way_out), "{refused:?}");
}

#[test]
fn the_same_command_again_says_that_nothing_was_left_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (broker, (_dashboard, url)) = (Broker::ours(dir), support::dashboard(dir));
    produce_and_process(dir, &broker, &url, 200);
    let line = format!(
        "produce --num-messages 200 --num-videos 7 --data-dir playcounts-data --nsqd-tcp-address {} --dashboard-url {url}",
        broker.tcp()
    );
    let again = output(dir, &words(&line));
    assert_exit(&again, 0);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        text.contains("messages     200, all of them by an earlier start: nothing was left to do"),
        "{text}"
    );
    let again = only_json(&output(dir, &words(&format!("{line} --json"))));
    let (messages, resumed) = (&again["messages"], &again["resumed"]);
    assert_eq!((messages, resumed), (&200.into(), &200.into()));
    assert_eq!(again["messages_per_second"], 0.0);
}

/// Until 5 s are over nothing is said; then it is, and what is missing is named.
#[test]
fn a_producer_says_that_nobody_counts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (broker, (_dashboard, url)) = (Broker::ours(dir), support::dashboard(dir));
    let line = format!(
        "produce --num-messages 100 --data-dir out --nsqd-tcp-address {} --dashboard-url {url}",
        broker.tcp()
    );
    let mut produce = Running::start(dir, &words(&line));
    let said = "produce: waits until 100 plays are counted: no processor reports to ";
    assert_eq!(produce.wait_for(said), format!("{url}:"));
    produce.signal(Signal::INT);
    let ended = produce.wait();
    assert_exit(&ended, 1);
    let text = stderr(&ended);
    assert_eq!(text.matches("waits until").count(), 1, "{text}");
    assert!(
        text.contains("and 100 are not known to be counted; the same command goes on"),
        "{text}"
    );
}

#[test]
fn a_run_that_is_stopped_in_order_is_not_called_wrong() {
    for order in [&[][..], &["--real-life"]] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let args = [&RUN[..], &["--num-messages=100000", "--rate=500"], order].concat();
        let mut run = Running::start(dir, &args);
        let url = run.wait_for("page ");
        let is_counted = !order.is_empty();
        wait_until("some plays are there", || !is_counted || total(&url) > 50);
        run.signal(Signal::INT);
        let run = run.wait();
        assert_exit(&run, 1);
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let want = "verified     stopped before the end; what was counted until then is right";
        assert!(text.contains(want), "{text}");
        assert!(stderr(&run).contains("stopped before the end: "), "{run:?}");
        let verify = output(dir, &["verify", "--json"]);
        assert_exit(&verify, 0);
        let told = only_json(&verify);
        assert_eq!(told["ending"], "stopped");
        let checks = told["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["outcome"] == "passed"), "{told}");
    }
}

/// The kernel ends nsqd when its parent is gone, however it went.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_leaves_no_nsqd() {
    if nsqd::find().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let args = [&RUN[..], &["--start-nsq", "--rate=100", "--num-messages=100000"]].concat();
    let mut run = Running::start(dir.path(), &args);
    run.wait_for("page ");
    let nsqd = child_named(run.pid(), "nsqd").expect("it has started one");
    assert!(test_kill_process(nsqd).is_ok());
    run.signal(Signal::KILL);
    run.wait();
    wait_until("nsqd is gone", || !is_running(nsqd));
}

/// nsqd ends by itself when it has something to log and nobody reads it; this one never has.
#[cfg(target_os = "linux")]
#[test]
fn a_child_that_says_nothing_ends_with_a_killed_parent() {
    let program = env!("CARGO_BIN_EXE_playcounts");
    let script = format!("{program} --become-child-of $$ sleep 600 & echo child: $! >&2; wait");
    let mut parent = Command::new("sh");
    parent.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut parent = parent.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(parent.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let child: i32 = line.trim().trim_start_matches("child: ").parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    wait_until("it has become the other program", || child_named(parent.id(), "sleep").is_some());
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("it is gone", || !is_running(child));
    // Whose parent is gone before it could ask, or never was, does not start.
    let orphan = Command::new(program).args(["--become-child-of", "1", "sleep", "600"]).output();
    let orphan = orphan.unwrap();
    assert_eq!(orphan.status.code(), Some(1), "{orphan:?}");
    assert!(stderr(&orphan).contains("whoever started it is gone"), "{orphan:?}");
}

/// The child of that process whose program has that name.
#[cfg(target_os = "linux")]
fn child_named(parent: u32, name: &str) -> Option<Pid> {
    let of = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (program, behind) = stat.split_once('(')?.1.rsplit_once(')')?;
        let its_parent: u32 = behind.split_whitespace().nth(1)?.parse().ok()?;
        (program == name && its_parent == parent).then(|| Pid::from_raw(pid))?
    };
    std::fs::read_dir("/proc").unwrap().map_while(Result::ok).find_map(of)
}

/// A process that was left to nobody may stay a zombie in a container without an init.
#[cfg(target_os = "linux")]
fn is_running(pid: Pid) -> bool {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, behind)| !behind.trim_start().starts_with('Z'))
}

fn first_finding(url: &str) -> (String, String) {
    let finding = get(&format!("{url}/api/diagnosis"))["findings"][0].clone();
    let text = |key: &str| finding[key].as_str().unwrap().to_owned();
    (text("code"), text("text"))
}

#[test]
fn a_run_shows_its_outcome_for_as_long_as_its_page_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Running::start(dir.path(), &[&RUN[..], &["--num-messages=1000"]].concat());
    let url = run.wait_for("the page is live at ");
    let said = "Run finished: 1,000 of 1,000, verified.";
    // What the queue was like is known as of a moment before.
    wait_until("it is all that is told", || first_finding(&url).0 == "run-finished");
    assert_eq!(first_finding(&url).1, said);
    let findings = get(&format!("{url}/api/diagnosis"))["findings"].clone();
    assert_eq!(findings.as_array().map(Vec::len), Some(1), "{findings}");
    let (status, body) = health(&url);
    assert!(status == 200 && body.contains(said), "{body}");
    let shown = get(&format!("{url}/api/stats"))["run"].clone();
    assert_eq!((&shown["counted"], &shown["fault"]), (&1000.into(), &Value::Null));
    assert_eq!(shown["report"][0]["name"], "messages");
    run.signal(Signal::INT);
    assert_exit(&run.wait(), 0);
}

/// Somebody else's counts at its dashboard: the page stays, and says so in red.
#[test]
fn a_run_whose_counts_are_wrong_says_so_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let args = [&RUN[..], &["--num-messages=1000", "--rate=1000", "--real-life"]].concat();
    let mut run = Running::start(dir.path(), &args);
    let url = run.wait_for("page ");
    let (processor, video) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let counts = format!(
        r#"{{"processor":"{processor}","version":1,"counts":[{{"video_id":"{video}","plays":3}}]}}"#
    );
    support::post(&format!("{url}/api/counts"), &counts);
    run.wait_for("run: NOT verified: the counts are wrong: ");
    run.wait_for("the page is live at ");
    let (code, text) = first_finding(&url);
    assert_eq!(code, "run-not-verified");
    assert!(text.starts_with("Run finished: 1,000 of 1,000, NOT verified: "), "{text}");
    let (status, body) = health(&url);
    assert!(status == 503 && body.contains("NOT verified"), "{body}");
    run.signal(Signal::INT);
    let run = run.wait();
    assert_exit(&run, 1);
    assert!(stderr(&run).contains("the counts are wrong: dashboard has correct counts"), "{run:?}");
}

#[test]
fn a_processor_that_ends_in_order_says_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let args = ["dashboard", "--http-address", "127.0.0.1:0"];
    let mut dashboard = Running::start(dir, &args);
    let url = dashboard.wait_for("live at ");
    let tcp = broker.tcp();
    publish(&broker, Uuid::from_u128(5), 0..10);
    let line = format!(
        "process --nsqd-tcp-address {tcp} --dashboard-url {url} --data-dir ledger --num-messages 10"
    );
    assert_exit(&output(dir, &words(&line)), 0);
    assert_eq!(first_finding(&url).0, "processor-finished");
    let shown = get(&format!("{url}/api/processors"))["processors"][0].clone();
    assert_eq!(shown["ended"]["how"], "finished", "{shown}");
    dashboard.wait_for("has finished");
    // The same one again, for ever, until it is told to stop.
    let process = Running::start(dir, &words(line.trim_end_matches(" --num-messages 10")));
    wait_until("it reports again", || first_finding(&url).0 != "processor-finished");
    publish(&broker, Uuid::from_u128(5), 10..20);
    wait_until("it counts", || total(&url) == 20);
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
    let (code, text) = first_finding(&url);
    assert!(code == "processor-stopped" && text.contains(" was stopped in order at 20"), "{text}");
    assert_eq!(health(&url).0, 200);
    dashboard.wait_for("was stopped in order");
}

/// A broker on a port that stays.
fn broker_at(dir: &Path, tcp: &str, http: &str) -> Running {
    let args = ["broker", "--tcp-address", tcp, "--http-address", http];
    let mut broker = Running::start(dir, &args);
    broker.wait_for("HTTP: listening on ");
    broker
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn what_goes_and_comes_back_is_said_in_one_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (tcp, http, page) = (free(), free(), free());
    let dashboard = ["dashboard", "--http-address", &page];
    let url = format!("http://{page}");
    let line = format!(
        "process --nsqd-tcp-address {tcp} --nsqd-http-address {http} --dashboard-url {url} --data-dir ledger"
    );
    let mut process = Running::start(dir, &words(&line));
    process.wait_for("process: waits: cannot connect to ");
    process.wait_for(&format!("process: cannot publish to {url}: "));
    let broker = broker_at(dir, &tcp, &http);
    let connected = format!("process: counts plays/processor of nsqd {tcp} into ledger, tells ");
    process.wait_for(&connected);
    let mut shown = Running::start(dir, &dashboard);
    shown.wait_for("live at ");
    process.wait_for(&format!("process: publishes to {url} again"));
    shown.wait_for(" reports");
    drop(broker);
    process.wait_for(&format!("process: nsqd {tcp} is away: "));
    let _broker = broker_at(dir, &tcp, &http);
    process.wait_for(&format!("process: nsqd {tcp} is back"));
    process.signal(Signal::TERM);
    let process = process.wait();
    assert_exit(&process, 0);
    let said = stderr(&process);
    for line in ["process: waits: ", "cannot publish to", "publishes to", "is away", "is back"] {
        assert_eq!(said.matches(line).count(), 1, "{line:?} in {said}");
    }
    assert!(!said.contains("WARN"), "a log tells the same again: {said}");
}

#[test]
fn a_missing_token_is_told_from_a_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let args = ["dashboard", "--http-address", "127.0.0.1:0", "--write-token", "s3cret"];
    let mut dashboard = Running::start(dir, &args);
    let url = dashboard.wait_for("live at ");
    let line = format!(
        "process --nsqd-tcp-address {} --dashboard-url {url} --data-dir ledger",
        broker.tcp()
    );
    for (more, want) in [
        (None, "it wants a write token, and none is given: --write-token-file"),
        (Some("--write-token=other"), "the write token is not the one that it was started with"),
    ] {
        let mut process = Running::start(dir, &[&words(&line)[..], more.as_slice()].concat());
        process.wait_for(want);
        publish(&broker, Uuid::from_u128(6), 0..3);
        process.signal(Signal::TERM);
        let process = process.wait();
        let said = stderr(&process);
        assert_eq!(said.matches("process: cannot publish to").count(), 1, "{said}");
    }
}
