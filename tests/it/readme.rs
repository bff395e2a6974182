//! What README.md tells a newcomer to type works: its code blocks one after the other, in one directory, beside a real nsqd.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::nsqd::{Nsqd, nsqd_or_skip};
use crate::ports::free_addrs;
use crate::support::{Running, assert_exit, get, wait_until};

const README: &str = include_str!("../../README.md");

/// The languages of its code blocks: one more is one that this test must learn to run.
const BLOCKS: [&str; 9] = ["", "sh", "sh", "sh", "sh", "go", "python", "js", "sh"];

/// The plays of `run` and `produce` that are told no number.
const DEFAULT_PLAYS: u64 = 100_000;

/// The lines of a README that has to be read in two minutes.
const LINES_MAX: usize = 150;

/// The language and the code of each block.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = page.split("```").collect();
    parts.iter().skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

/// Who types what it says. Ports are free ones: those of the README may be taken here.
struct Newcomer {
    directory: TempDir,
    nsqd: Nsqd,
    /// `host:port` of the dashboards.
    page: String,
    /// Has `playcounts`, once it is installed.
    bin: PathBuf,
    /// What was started with `&`; ends with it.
    parts: Vec<Running>,
    /// Plays that must be counted by now.
    plays: u64,
}

impl Newcomer {
    fn new(nsqd: Nsqd) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let page = free_addrs(1).unwrap()[0].to_string();
        // The program that cargo has built, with this page and this nsqd in the place of those at the usual ports.
        let script = format!(
            "#!/bin/sh\ncase $1 in\nrun | dashboard) set -- \"$@\" --http-address {page} ;;\n\
             process) set -- \"$@\" --dashboard-url http://{page} ;;\n\
             produce) set -- \"$@\" --dashboard-url http://{page} --nsqd-tcp-address {} ;;\nesac\n\
             exec {} \"$@\"\n",
            nsqd.tcp,
            env!("CARGO_BIN_EXE_playcounts")
        );
        let program = bin.join("playcounts");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, nsqd, page, bin, parts: Vec::new(), plays: 0 }
    }

    /// The same with the addresses of this nsqd.
    fn here(&self, code: &str) -> String {
        let (tcp, http) = (self.nsqd.tcp.to_string(), self.nsqd.http.to_string());
        code.replace("127.0.0.1:4150", &tcp).replace("127.0.0.1:4151", &http)
    }

    fn shell(&self, line: &str) -> Running {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-c", line])
            .current_dir(self.directory.path())
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::spawn(command, line)
    }

    /// Types a line of a shell.
    fn type_line(&mut self, line: &str) {
        match line {
            "cargo run --release -- run" => {
                let run = self.shell("exec playcounts run");
                self.plays = DEFAULT_PLAYS;
                self.see_plays();
                run.signal(Signal::INT);
                assert_exit(&run.wait(), 0);
                self.plays = 0;
            }
            // It is what runs this test; and what is installed is there.
            "scripts/test" | "cargo install --locked --path ." => {}
            _ => match self.here(line).strip_suffix(" &") {
                Some(part) => self.parts.push(self.shell(&format!("exec {part}"))),
                None => {
                    assert_eq!(line, "playcounts produce --data-dir outbox", "learn to run it");
                    assert_exit(&self.shell(line).wait(), 0);
                    self.plays += DEFAULT_PLAYS;
                    self.see_plays();
                }
            },
        }
    }

    /// Runs somebody's producer, by its first line: `// file; command`.
    fn produce(&mut self, code: &str) {
        let first = code.lines().next().unwrap().trim_start_matches(['/', '#', ' ']);
        let (file, command) = first.split_once("; ").expect("a file and its command");
        std::fs::write(self.directory.path().join(file), self.here(code)).unwrap();
        if let Some(missing) = self.missing(command) {
            return skip(&format!("{file} is not run: {missing}"));
        }
        assert_exit(&self.shell(command).wait(), 0);
        self.plays += 1;
        self.see_plays();
    }

    /// What a command needs and this machine has not.
    fn missing(&self, command: &str) -> Option<String> {
        let is_well = |line: &str| self.shell(line).wait().status.success();
        let program = command.split(' ').next().unwrap();
        if !is_well(&format!("command -v {program}")) {
            return Some(format!("no {program}"));
        }
        let module = command.split(' ').find(|word| word.starts_with("github.com/"))?;
        let probe = format!("cd bin && go mod init probe && go mod download {module}");
        (!is_well(&probe)).then(|| format!("{module} cannot be had here"))
    }

    /// Waits until the page shows all plays, and no more.
    fn see_plays(&self) {
        let url = format!("http://{}/api/counts?limit=1", self.page);
        let shown = || {
            let answer = ureq::get(&url).call().ok()?.body_mut().read_to_string().ok()?;
            serde_json::from_str::<serde_json::Value>(&answer).ok()?["total_plays"].as_u64()
        };
        wait_until(&format!("{} plays", self.plays), || {
            let plays = shown().unwrap_or(0);
            assert!(plays <= self.plays, "{plays} plays are shown, of {}", self.plays);
            plays == self.plays
        });
    }
}

/// Says what is not run, loudly; where all must be there it fails.
fn skip(what: &str) {
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{what}");
    let skipped = format!("\n*** SKIPPED in part, README: {what} ***\n");
    let _ = std::io::stderr().write_all(skipped.as_bytes());
}

#[test]
fn what_it_says_works_from_top_to_bottom() {
    let blocks = blocks(README);
    let languages: Vec<_> = blocks.iter().map(|(language, _)| *language).collect();
    assert_eq!(languages, BLOCKS);
    let mut newcomer = Newcomer::new(nsqd_or_skip!());
    for (language, code) in blocks {
        match language {
            "" => {}
            "sh" => code.lines().for_each(|line| newcomer.type_line(line)),
            _ => newcomer.produce(code),
        }
    }
    let findings = get(&format!("http://{}/api/diagnosis", newcomer.page))["findings"].clone();
    let errors = findings.as_array().unwrap().iter().filter(|one| one["severity"] == "error");
    assert_eq!(errors.count(), 0, "{findings}");
}

#[test]
fn it_is_short() {
    assert!(README.lines().count() <= LINES_MAX, "{} lines", README.lines().count());
}
