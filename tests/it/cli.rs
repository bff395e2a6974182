//! The binary from outside: exit codes, help, and errors that say what to do.

use std::net::TcpListener;

use crate::support::{Broker, Running, assert_exit, output, post};

/// Exit status 1 and one line on stderr that holds all of `want`.
#[track_caller]
fn fails(args: &[&str], want: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a-file"), "in the way").unwrap();
    let failed = output(dir.path(), args);
    assert_exit(&failed, 1);
    let stderr = String::from_utf8_lossy(&failed.stderr).into_owned();
    // `run` says its configuration first.
    let lines: Vec<&str> = stderr.lines().skip_while(|_| args[0] == "run").collect();
    let error = stderr.lines().last().unwrap_or_default();
    assert!(error.starts_with("playcounts: ") && lines.len() <= 1, "{stderr}");
    for text in want {
        assert!(error.contains(text), "{error} does not say {text:?}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["nonsense"],
        &["run", "--nonsense"],
        &["process", "--num-threads=0"],
        &["run", "extra"],
        &["process", "--consumer-opt=colour,red"],
        &["produce", "--producer-opt", "msg_timeout,5s"],
        &["run", "--consumer-opt", "snappy,perhaps"],
        &["bench", "--rounds", "10001"],
    ] {
        let failed = output(dir.path(), args);
        assert_exit(&failed, 2);
        assert!(failed.stdout.is_empty());
        let stderr = String::from_utf8_lossy(&failed.stderr);
        // Who says nothing is told what there is; who errs is told that alone.
        match args {
            [] => assert!(stderr.contains("Usage: playcounts"), "{stderr}"),
            _ => assert_eq!(stderr.lines().count(), 1, "{stderr}"),
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was touched");
}

#[test]
fn help_and_version_exit_with_0() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["run", "--help"],
        &["run", "help"],
        &["help", "run"],
        &["run", "--version"],
        &["reset", "-h"],
    ] {
        let help = output(dir.path(), args);
        assert_exit(&help, 0);
        assert!(help.stderr.is_empty() && !help.stdout.is_empty(), "{help:?}");
    }
}

#[test]
fn a_failure_is_one_line_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&["run", "--exit", "--http-address", &address], &[&address, "in use", "--http-address"]);
    fails(&["dashboard", "--http-address", &address], &[&address, "in use", "--http-address"]);
    fails(
        &["broker", "--tcp-address", &address, "--http-address", "127.0.0.1:0"],
        &[&address, "in use", "--tcp-address"],
    );
    fails(
        &["broker", "--http-address", &address, "--tcp-address", "127.0.0.1:0"],
        &[&address, "in use", "--http-address"],
    );
    drop(taken);
    let impatient = "--connect-timeout=1ms";
    fails(&["process", impatient, "--nsqd-tcp-address", &address], &[&address, "refused"]);
    fails(&["produce", impatient, "--nsqd-tcp-address", &address], &[&address, "refused"]);
    fails(
        &["run", "--exit", "--http-address=127.0.0.1:0", "--nsqd-tcp-address", &address],
        &["--nsqd-http-address"],
    );
    fails(
        &["process", impatient, "--nsqd-tcp-address", "no-such-host.invalid:4150"],
        &["no-such-host.invalid"],
    );
    for command in ["process", "produce"] {
        fails(&[command, "--nsqd-tcp-address", "nowhere"], &["\"nowhere\"", "wanted is host:port"]);
    }
    for command in ["process", "produce", "run"] {
        let lookupd = [command, "--lookupd-http-address", &address];
        // A person sits before a `run`: it waits for nothing.
        let impatient = if command == "run" { &[][..] } else { &[impatient] };
        fails(&[&lookupd[..], impatient].concat(), &["nsqlookupd", &address, "refused"]);
        let both = [&lookupd[..], &["--nsqd-tcp-address", "127.0.0.1:4150"]].concat();
        fails(&both, &["--nsqd-tcp-address and --lookupd-http-address cannot be used together"]);
        fails(&[command, "--lookupd-http-address", "nowhere"], &["\"nowhere\" is not host:port"]);
    }
    fails(&["reset", "--yes", "--lookupd-http-address", &address], &["nsqlookupd", &address]);
    fails(
        &["process", "--consumer-opt=snappy", "--consumer-opt=deflate"],
        &["--consumer-opt", "snappy and deflate cannot be used together"],
    );
    fails(&["produce", "--producer-opt=tls_root_ca_file,no-such-file"], &["no-such-file"]);
    fails(&["process", "--data-dir", "a-file"], &["a-file", "--data-dir"]);
    fails(&["run", "--exit", "--data-dir", "a-file/below"], &["a-file", "--data-dir"]);
    fails(&["verify"], &["nothing to verify", "playcounts-run", "--data-dir"]);
    fails(&["reset"], &["--yes"]);
    fails(&["run", "--topic", "no topic"], &["--topic", "no topic"]);
    fails(&["dashboard", "--http-address", "0.0.0.0:0"], &["--write-token"]);
    fails(&["run", "--start-nsq", "--nsqd-tcp-address", "127.0.0.1:4150"], &["--start-nsq"]);
    fails(&["run", "--queue-on-disk", "--start-nsq"], &["--queue-on-disk", "nsqd"]);
    fails(&["bench", "--num-messages", "100_000_000"], &["100000000", "--nsqd-tcp-address"]);
    fails(&["bench", "--nsqd-http-address", "a:1"], &["--nsqd-tcp-address"]);
    fails(&["bench", "--nsqd-tcp-address", "nowhere"], &["\"nowhere\" is not host:port"]);
    fails(&["bench", "--data-dir", "a-file"], &["a-file", "--data-dir"]);
}

#[test]
fn an_http_port_is_named_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    fails(&["process", "--nsqd-tcp-address", &broker.http()], &[&broker.http(), "HTTP"]);
    fails(&["produce", "--nsqd-tcp-address", &broker.http()], &[&broker.http(), "HTTP"]);
}

#[test]
fn reset_empties_queue_and_dashboard() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let run = ["run", "--num-messages=100", "--http-address=127.0.0.1:0", "--exit"];
    assert_exit(&output(dir.path(), &run), 0);
    let http = broker.http();
    post(&format!("http://{http}/pub?topic=plays"), "left over");
    assert_exit(&output(dir.path(), &["reset", "--yes", "--nsqd-http-address", &http]), 0);
    let stats = crate::support::get(&format!("http://{http}/stats?format=json"));
    assert_eq!(stats["topics"][0]["depth"], 0);
    // What the run has left is gone: a part may have its directory.
    let dashboard = ["dashboard", "--http-address=127.0.0.1:0", "--data-dir=playcounts-run"];
    let mut dashboard = Running::start(dir.path(), &dashboard);
    let url = dashboard.wait_for("live at ");
    assert_eq!(crate::support::get(&format!("{url}/api/counts"))["total_plays"], 0);
    let verify = output(dir.path(), &["verify"]);
    assert_eq!(
        String::from_utf8_lossy(&verify.stdout).matches(" skipped: ").count(),
        3,
        "{verify:?}"
    );
}
