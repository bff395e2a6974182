//! Where options come from, and what is printed of them: by the binary, in real shells, through real readers of manuals.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{assert_exit, command, output};

/// stderr of `playcounts ARGS` with those variables, which ends with that status.
#[track_caller]
fn ended(dir: &Path, args: &[&str], variables: &[(&str, &str)], status: i32) -> String {
    let output = command(dir, args).envs(variables.iter().copied()).output().unwrap();
    assert_exit(&output, status);
    String::from_utf8(output.stderr).unwrap()
}

/// stdout of `playcounts ARGS`.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = output(Path::new("."), args);
    assert_exit(&output, 0);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_wrong_is_one_line_that_says_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), "topic = 'plays'\n[process]\nupdate_interval = 'fast'\n")
        .unwrap();
    let process = ["process", "--config", "a.toml"];
    let wanted = "must be a duration from 1ms to 3650d, such as 30, 30s, 500ms, 0.5, 1m30s or 2d\n";
    assert_eq!(
        ended(dir.path(), &process, &[], 2),
        format!("playcounts: a.toml:3: update_interval = \"fast\": {wanted}")
    );
    let variable = [("PLAYCOUNTS_UPDATE_INTERVAL", "slow")];
    assert_eq!(
        ended(dir.path(), &process, &variable, 2),
        format!("playcounts: PLAYCOUNTS_UPDATE_INTERVAL=slow: {wanted}")
    );
    let typed = [&process[..], &["--update-interval=never"]].concat();
    assert_eq!(
        ended(dir.path(), &typed, &variable, 2),
        format!("playcounts: --update-interval never: {wanted}")
    );
    assert_eq!(
        ended(dir.path(), &["run", "--num-vidoes", "5"], &[], 2),
        "playcounts: run has no option --num-vidoes; did you mean --num-videos? See playcounts run --help\n"
    );
    // A number that would take all of the machine's memory, and one that was made another in silence.
    assert_eq!(
        ended(dir.path(), &["run", "--num-videos", "99999999999"], &[], 2),
        "playcounts: --num-videos 99999999999: must be a whole number from 1 to 10000000\n"
    );
    let ratio = ended(dir.path(), &["run", "--pc-ratio", "200"], &[], 1);
    assert!(ratio.contains("makes 400 producer threads; at most there are 256"), "{ratio}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was touched");
}

#[test]
fn a_file_and_the_environment_configure_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fs::write(dir.path().join("a.toml"), format!("[dashboard]\nhttp_address = '{address}'\n"))
        .unwrap();
    let by_file = ended(dir.path(), &["dashboard", "--config=a.toml"], &[], 1);
    assert!(by_file.contains("in use") && by_file.contains("http_address (a.toml:2)"), "{by_file}");
    let variables = [("PLAYCOUNTS_CONFIG", "a.toml"), ("PLAYCOUNTS_HTTP_ADDRESS", &*address)];
    let by_variable = ended(dir.path(), &["dashboard"], &variables, 1);
    assert!(by_variable.contains("PLAYCOUNTS_HTTP_ADDRESS"), "{by_variable}");
    drop(taken);
    let run = command(dir.path(), &["run", "--exit", "--json"])
        .envs([("PLAYCOUNTS_NUM_MESSAGES", "500"), ("PLAYCOUNTS_HTTP_ADDRESS", "127.0.0.1:0")])
        .env("PLAYCOUNTS_PORT", "tcp://10.0.0.1:80")
        .output()
        .unwrap();
    assert_exit(&run, 0);
    let last = String::from_utf8(run.stdout).unwrap();
    let report: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(report["counted"], 500);
}

/// A token in a file that others can read, as the file of `--write-token-file`; a file of a group is what a unit has.
#[test]
fn a_file_with_a_secret_is_not_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    fs::write(&path, "write_token = 's3cret'\n").unwrap();
    for (mode, status) in [(0o644, 2), (0o600, 0), (0o640, 0)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let output = output(dir.path(), &["config", "dashboard", "--config", "a.toml"]);
        assert_exit(&output, status);
        let all = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains("s3cret"), "{mode:o}");
    }
}

/// A command that warns of one thing and fails: stderr, with more arguments.
fn warned(dir: &Path, more: &[&str]) -> String {
    let token = dir.join("token");
    fs::write(&token, "s3cret").unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o644)).unwrap();
    let reset =
        ["reset", "--yes", "--dashboard-url=http://127.0.0.1:1", "--write-token-file=token"];
    ended(dir, &[&reset[..], more].concat(), &[], 1)
}

#[test]
fn the_log_is_text_json_or_the_journals() {
    let dir = tempfile::tempdir().unwrap();
    let first = |more: &[&str]| warned(dir.path(), more).lines().next().unwrap().to_owned();
    let module = "playcounts::command::shared::token";
    let text = first(&[]);
    assert!(
        text.starts_with("[2") && text.contains(&format!("WARN  {module}] others than")),
        "{text}"
    );
    let json: Value = serde_json::from_str(&first(&["--log-format=json"])).unwrap();
    assert_eq!((&json["level"], &json["target"]), (&Value::from("warn"), &Value::from(module)));
    assert!(json["message"].as_str().unwrap().contains("others than its owner"), "{json}");
    assert!(json["time"].as_str().unwrap().ends_with('Z'), "{json}");
    let journal = first(&["--log-format=journal"]);
    assert!(journal.starts_with(&format!("<4>{module}: others than")), "{journal}");
    // So is what is no record of the log: here why the command failed.
    let last = |more: &[&str]| warned(dir.path(), more).lines().last().unwrap().to_owned();
    assert!(last(&[]).starts_with("playcounts: "), "{}", last(&[]));
    assert!(last(&["--log-format=journal"]).starts_with("<3>playcounts: "));
    let json: Value = serde_json::from_str(&last(&["--log-format=json"])).unwrap();
    assert_eq!((&json["level"], &json["target"]), (&"error".into(), &"playcounts".into()));
    // By module.
    assert!(first(&["--log-level=off,playcounts::command=warn"]).contains("others than"));
    assert!(!first(&["--log-level=warn,playcounts::command=off"]).contains("others than"));
}

/// systemd names device and inode of the journal's stream; a stderr that is something else is no journal.
#[test]
fn where_stderr_is_the_journals_so_is_the_log() {
    let dir = tempfile::tempdir().unwrap();
    warned(dir.path(), &[]);
    let written = |differs: u64| {
        let path = dir.path().join("journal");
        let file = File::create(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let stream = format!("{}:{}", metadata.dev(), metadata.ino() + differs);
        let args =
            ["reset", "--yes", "--dashboard-url=http://127.0.0.1:1", "--write-token-file=token"];
        let mut command = command(dir.path(), &args);
        command.env("JOURNAL_STREAM", stream).stderr(Stdio::from(file)).status().unwrap();
        fs::read_to_string(path).unwrap()
    };
    assert!(written(0).starts_with("<4>playcounts::"), "{}", written(0));
    assert!(written(1).starts_with("[2"), "{}", written(1));
}

/// Whether a program is there; where it is not the test says so, loudly. bash must be there where every test must run.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    let is_there = found.status.success();
    let must = program == "bash" && std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(is_there || !must, "{program} is missing");
    if !is_there {
        eprintln!("SKIPPED: {program} is not installed; what it is for is not tried");
    }
    is_there
}

/// Runs a script in a shell in which `playcounts` is this build's.
#[track_caller]
fn shell(program: &str, options: &[&str], script: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_playcounts"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a-directory")).unwrap();
    fs::write(dir.path().join("a-file.pem"), "").unwrap();
    // A shell that waits for a terminal waits for ever.
    let mut command = Command::new("timeout");
    command.args(["60", program]).args(options).args(["-c", script]).current_dir(dir.path());
    let output: Output = command.env("PATH", path).env("HOME", dir.path()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes() {
    if !has("bash") {
        return;
    }
    let completed = |words: &str| {
        let script = format!(
            "source <(playcounts completions bash)\nCOMP_WORDS=({words})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_playcounts\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        shell("bash", &["--norc", "--noprofile"], &script)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(completed("playcounts pro"), ["produce", "process"]);
    assert_eq!(completed("playcounts process --durability po"), ["power"]);
    assert_eq!(completed("playcounts process --durability = po"), ["power"]);
    assert_eq!(completed("playcounts run --num-v"), ["--num-videos"]);
    assert_eq!(completed("playcounts process --dashboard-ca a-f"), ["a-file.pem"]);
    assert_eq!(completed("playcounts process --data-dir a-"), ["a-directory"]);
    let loaded =
        shell("bash", &["--norc"], "source <(playcounts completions bash); complete -p playcounts");
    assert_eq!(loaded, "complete -F _playcounts playcounts\n");
}

#[test]
fn zsh_completes() {
    if !has("zsh") {
        return;
    }
    // A terminal of its own: Tab completes, and what the line is then is printed.
    let completed = |line: &str| {
        let script = format!(
            r#"zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PROMPT= RPROMPT= ; unsetopt prompt_sp; bindkey -e; autoload -Uz compinit; compinit -u -D; source <(playcounts completions zsh); print REA''DY'
zpty -r shell got $'*READY*'
zpty -w -n shell '{line}'$'\t\C-a'
zpty -w shell "print 'LINE:'"
zpty -r shell got $'*\nLINE:*\r\n*'
print -r -- "$got"
zpty -d shell
"#
        );
        let got = shell("zsh", &["-f"], &script);
        let line = got
            .lines()
            .rfind(|line| line.starts_with("LINE:"))
            .unwrap_or_else(|| panic!("{got:?}"));
        line.trim_start_matches("LINE:").trim().to_owned()
    };
    assert_eq!(
        completed("playcounts process --durability po"),
        "playcounts process --durability power"
    );
    assert_eq!(completed("playcounts run --num-v"), "playcounts run --num-videos");
    assert_eq!(completed("playcounts dash"), "playcounts dashboard");
    assert_eq!(
        completed("playcounts process --dashboard-ca a-f"),
        "playcounts process --dashboard-ca a-file.pem"
    );
}

#[test]
fn fish_completes() {
    if !has("fish") {
        return;
    }
    let completed = |line: &str| {
        let script = format!("playcounts completions fish | source; complete -C '{line}'");
        let found = shell("fish", &["--no-config"], &script);
        found.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(completed("playcounts process --durability po"), ["power"]);
    assert_eq!(completed("playcounts run --num-v"), ["--num-videos"]);
    assert_eq!(completed("playcounts pro"), ["process", "produce"]);
    assert_eq!(completed("playcounts process --dashboard-ca a-f"), ["a-file.pem"]);
    assert_eq!(completed("playcounts process --data-dir a-"), ["a-directory/"]);
}

#[test]
fn manual_pages_are_read_without_a_complaint() {
    let (mandoc, man) = (has("mandoc"), has("man"));
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "run", "process", "dashboard", "broker", "backup", "dead-letters", "verify"] {
        let page = printed(&["man", name][..if name.is_empty() { 1 } else { 2 }]);
        let path = dir.path().join("page.1");
        fs::write(&path, page).unwrap();
        if mandoc {
            let linted =
                Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&linted.stdout);
            assert!(said.is_empty(), "{name}: {said}");
        }
        if man {
            let read = Command::new("man")
                .args(["--warnings", "-l"])
                .arg(&path)
                .env("MANWIDTH", "80")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&read.stdout);
            assert!(read.status.success() && read.stderr.is_empty(), "{name}: {read:?}");
            assert!(text.contains("SYNOPSIS") && text.contains(name), "{name}: {text}");
        }
    }
}
