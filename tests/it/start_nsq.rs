//! `scripts/start-nsq`: nsqlookupd, nsqd and nsqadmin in one terminal, and what ends them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::nsqd;
use crate::ports::free_addrs;
use crate::support::{Running, assert_exit, get, post, wait_until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/start-nsq");

/// Where its options say that it listens, in the order of [`Nsq::at`].
const OPTIONS: [&str; 5] = [
    "--nsqd-tcp-address",
    "--nsqd-http-address",
    "--lookupd-tcp-address",
    "--lookupd-http-address",
    "--admin-http-address",
];

/// Whether all three programs are here; says it where they are not, and fails where `CI=true`.
fn can_start() -> bool {
    let Some(nsqd) = nsqd::find() else { return false };
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bin/nsqadmin");
    let admin = std::env::var_os("NSQADMIN").map(PathBuf::from);
    let there = admin.is_some_and(|path| path.is_file())
        || nsqd.with_file_name("nsqadmin").is_file()
        || built.is_file();
    if !there {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !ci,
            "no nsqadmin: scripts/with-nsqd --nsqadmin builds one (CI=true forbids to skip)"
        );
        let skipped =
            b"\n*** SKIPPED start_nsq: no nsqadmin; see scripts/with-nsqd --nsqadmin ***\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), skipped);
    }
    there
}

/// The script, on ports of its own.
struct Nsq {
    script: Running,
    at: Vec<SocketAddr>,
    /// nsqlookupd, nsqd, nsqadmin.
    pids: Vec<i32>,
}

fn script(dir: &Path, at: &[SocketAddr]) -> Command {
    // A shell that cannot be interrupted, such as one in the background, hands that down: whoever tests starts it as a terminal does.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", SCRIPT]);
    for (option, at) in OPTIONS.iter().zip(at) {
        command.arg(format!("{option}={at}"));
    }
    command.current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Nsq {
    fn start(dir: &Path) -> Self {
        let at = free_addrs(OPTIONS.len()).unwrap();
        let mut script = Running::spawn(script(dir, &at), "start-nsq");
        let pid = |pid: String| pid.trim_end_matches([')', ':']).parse().unwrap();
        let names = ["nsqlookupd", "nsqd", "nsqadmin"];
        let pids = names.map(|name| pid(script.wait_for(&format!("start-nsq: {name} (process"))));
        script.wait_for("start-nsq: ready; Ctrl-C ends all");
        Self { script, at, pids: pids.to_vec() }
    }

    fn url(&self, of: usize, path: &str) -> String {
        format!("http://{}{path}", self.at[of])
    }

    /// Waits until none of the three runs, and nothing listens any more.
    fn assert_gone(self) -> Output {
        let output = self.script.wait();
        for pid in self.pids {
            let path = PathBuf::from(format!("/proc/{pid}"));
            wait_until("its programs have ended", || !path.exists());
        }
        for at in self.at {
            assert!(TcpStream::connect(at).is_err(), "{at} still listens: {output:#?}");
        }
        output
    }
}

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn the_three_find_each_other_and_end_with_their_messages_kept() {
    if !can_start() {
        return;
    }
    let dir = temp();
    let nsq = Nsq::start(dir.path());
    post(&nsq.url(1, "/pub?topic=plays"), "one");
    let found = || {
        let url = nsq.url(3, "/lookup?topic=plays");
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let answer = ureq::Agent::new_with_config(config).get(url).call();
        answer.unwrap().body_mut().read_to_string().unwrap()
    };
    let named = format!("\"tcp_port\":{}", nsq.at[0].port());
    wait_until("nsqlookupd names nsqd", || found().contains(&named));
    assert!(found().contains(r#""broadcast_address":"127.0.0.1""#), "{}", found());
    // nsqadmin asks nsqlookupd.
    assert_eq!(get(&nsq.url(4, "/api/nodes"))["nodes"].as_array().unwrap().len(), 1);
    // As the terminal's Ctrl-C does.
    nsq.script.signal(Signal::INT);
    let output = nsq.assert_gone();
    assert_exit(&output, 0);
    assert!(output.stdout.is_empty(), "{output:#?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    for name in ["nsqlookupd | ", "nsqd       | ", "nsqadmin   | "] {
        assert!(stderr.lines().any(|line| line.starts_with(name)), "{name}: {stderr}");
    }
    let begins = |line: &str| line.starts_with("start-nsq: ") || line.contains(" | ");
    assert!(stderr.lines().all(begins), "each line says whose it is: {stderr}");

    let again = Nsq::start(dir.path());
    let stats = get(&again.url(1, "/stats?format=json&topic=plays"));
    assert_eq!(stats["topics"][0]["depth"], 1, "{stats}");
    again.script.signal(Signal::TERM);
    assert_exit(&again.assert_gone(), 0);
}

#[test]
fn one_that_is_killed_ends_all() {
    if !can_start() {
        return;
    }
    for (at, name) in ["nsqlookupd", "nsqd", "nsqadmin"].into_iter().enumerate() {
        let dir = temp();
        let nsq = Nsq::start(dir.path());
        kill_process(Pid::from_raw(nsq.pids[at]).unwrap(), Signal::KILL).unwrap();
        let output = nsq.assert_gone();
        assert_exit(&output, 1);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains(&format!("start-nsq: {name} has ended with status 137")),
            "{stderr}"
        );
    }
    // The script itself, which can end nothing then.
    let dir = temp();
    let nsq = Nsq::start(dir.path());
    nsq.script.signal(Signal::KILL);
    nsq.assert_gone();
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_starts() {
    let dir = temp();
    let at = free_addrs(OPTIONS.len()).unwrap();
    let _taken = [TcpListener::bind(at[0]).unwrap(), TcpListener::bind(at[4]).unwrap()];
    let output = Running::spawn(script(dir.path(), &at), "start-nsq").wait();
    assert_exit(&output, 1);
    let told = [(at[0], OPTIONS[0]), (at[4], OPTIONS[4])].map(|(at, option)| {
        format!("start-nsq: {at} is taken: end what listens there, or give another {option}")
    });
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), told.join("\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn its_help_names_every_option_and_wrong_ones_are_refused() {
    let run = |args: &[&str]| Command::new(SCRIPT).args(args).output().unwrap();
    let help = run(&["--help"]);
    assert_exit(&help, 0);
    let text = String::from_utf8_lossy(&help.stdout);
    for option in OPTIONS.iter().chain(&["--data-path", "--broadcast-address", "--help"]) {
        assert!(text.contains(&format!("  {option} ")), "{option}: {text}");
    }
    assert!(text.lines().all(|line| !line.starts_with('#') && line.len() <= 80), "{text}");
    let wrong = [
        (&["--nsqd-http-adress=127.0.0.1:1"][..], "--nsqd-http-adress is no option"),
        (&["--nsq-http-address", "127.0.0.1:1"], "--nsq-http-address is no option"),
        (&["--nsqd-tcp-address", "4150"], "--nsqd-tcp-address 4150: it is HOST:PORT"),
        (&["--nsqd-tcp-address", "127.0.0.1:0"], "127.0.0.1:0: it is HOST:PORT"),
        (&["--data-path"], "--data-path needs a value"),
        (&["plays"], "plays is no option"),
    ];
    for (args, want) in wrong {
        let output = run(args);
        assert_exit(&output, 2);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(want) && stderr.contains("scripts/start-nsq --help"), "{stderr}");
    }
}
