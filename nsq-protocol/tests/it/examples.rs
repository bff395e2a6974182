//! Each example runs once, as a user would run it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nsq_protocol::{BodiesBuf, Consumer, Producer, TopicName};

use crate::lookup::wait_until;
use crate::nsqd::nsqd_or_skip;
use crate::script::{config, producer_config};
use crate::timing::DEADLINE;

/// The program of an example. `cargo test` has built it; `cargo test --test it` alone has not.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if changed(&program) < changed(&source.with_extension("rs")) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--example", name]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        // What the outer cargo told this test is not for the inner one: ring would be built again for it.
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("CARGO_") && text != "CARGO_HOME" {
                cargo.env_remove(variable);
            }
        }
        assert!(cargo.status().unwrap().success(), "cargo builds {name}");
    }
    program
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn terminate(child: &Child) {
    let kill = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
}

#[test]
fn lines_go_to_nsq_and_are_shown_by_a_tail() {
    let nsqd = nsqd_or_skip!();
    let addr = nsqd.addr();
    let tail = Command::new(example("tail"))
        .args(["lines", "3", &addr])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // nsqd creates the tail's channel when it subscribes, and keeps what was published before for the first one.
    let mut to_nsq = Command::new(example("to_nsq"))
        .args(["lines", "50", &addr])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    to_nsq.stdin.take().unwrap().write_all("one\n\ntwo\nthr\u{e9}e\n".as_bytes()).unwrap();
    assert!(to_nsq.wait().unwrap().success());
    let shown = text(&tail.wait_with_output().unwrap());
    let mut lines: Vec<_> = shown.lines().collect();
    lines.sort();
    assert_eq!(lines, ["one", "thr\u{e9}e", "two"]);
}

#[test]
fn messages_are_stored_in_sqlite_many_at_a_time() {
    const MESSAGES: i64 = 1200;
    let nsqd = nsqd_or_skip!();
    let addr = nsqd.addr();
    let producer = Producer::connect(producer_config().nsqd(addr.clone())).unwrap();
    let bodies: BodiesBuf = (0..MESSAGES).map(|number| number.to_string()).collect();
    producer.publish_many(&"stored".parse().unwrap(), &bodies).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("messages.db");
    let storing = Command::new(example("to_sqlite"))
        .arg(&file)
        .args(["stored", "sqlite", &addr])
        .spawn()
        .unwrap();
    let count = || {
        let database = rusqlite::Connection::open(&file).ok()?;
        let sql = "SELECT count(DISTINCT CAST(body AS TEXT)) FROM messages";
        database.query_row(sql, (), |row| row.get::<_, i64>(0)).ok()
    };
    wait_until("all are stored", || count() == Some(MESSAGES));
    terminate(&storing);
    assert!(storing.wait_with_output().unwrap().status.success());
}

#[test]
fn workers_retry_and_give_up_to_the_dead_letter_topic() {
    let nsqd = nsqd_or_skip!();
    let addr = nsqd.addr();
    let topic: TopicName = "jobs".parse().unwrap();
    let producer = Producer::connect(producer_config().nsqd(addr.clone())).unwrap();
    let mut bodies = BodiesBuf::new();
    ["good", "bad", "good", "good"].iter().for_each(|body| bodies.push(body.as_bytes()));
    producer.publish_many(&topic, &bodies).unwrap();
    let workers = Command::new(example("workers"))
        .args(["jobs", "work", "grep -q good", "2", &addr])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let config = config().nsqd(addr).topic("jobs.dead".parse().unwrap());
    let dead = Consumer::start(config).unwrap();
    let batch = dead.batches().recv_timeout(DEADLINE).unwrap();
    assert_eq!(batch.iter().map(|message| message.body).collect::<Vec<_>>(), [b"bad"]);
    batch.finish();
    terminate(&workers);
    let output = workers.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("attempt 1: exit status: 1"), "{said}");
    assert!(said.contains("given up after 3 attempts"), "{said}");
    assert!(said.ends_with("4 messages done\n"), "{said}");
}
