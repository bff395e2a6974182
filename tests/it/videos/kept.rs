//! What is there after a kill, a reset of the files, and a restore. With real processes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::channel;

use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::id;
use crate::dashboard_support::{ask, update};
use crate::support::{self, assert_exit, output};

/// A dashboard as a process of its own.
fn dashboard(dir: &Path) -> (support::Running, SocketAddr) {
    let (running, url) = support::dashboard(dir);
    (running, url.trim_start_matches("http://").parse().unwrap())
}

/// Every title, by id.
fn titles(address: SocketAddr) -> BTreeMap<String, String> {
    let csv = ask(address, "GET", "/api/videos.csv", "", b"").unchunked();
    let lines = csv.split_terminator("\r\n").skip(1);
    lines
        .map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            (fields[0].to_owned(), fields[1].to_owned())
        })
        .collect()
}

/// In the middle of 10,000: each that was answered is there, and so is what else was changed.
#[test]
fn what_was_answered_is_there_after_a_kill_9() {
    const PUTS: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = dashboard(dir.path());
    let put = |path: &str, body: Value| {
        assert_eq!(
            ask(address, "PUT", path, "", body.to_string().as_bytes()).status,
            200,
            "{path}"
        );
    };
    let told = update(1, &[(id("x"), 50), (id("y"), 5)]).to_string();
    assert_eq!(ask(address, "POST", "/api/counts", "", told.as_bytes()).status, 200);
    put("/api/videos/x/correction", json!({"plays": -8, "reason": "bots"}));
    put("/api/videos/y/visibility", json!({"visibility": "hidden", "reason": "draft"}));
    let import = json!({"import": Uuid::from_u128(9), "name": "x", "counts": [{"video_id": "x", "plays": 100}]});
    assert_eq!(ask(address, "POST", "/api/imports", "", import.to_string().as_bytes()).status, 200);
    let (answered, answers) = channel();
    let putting = std::thread::spawn(move || {
        for number in 0..PUTS {
            let body = json!({"title": format!("title {number}")}).to_string();
            let head = format!(
                "PUT /api/videos/v{number} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let Ok(mut socket) = TcpStream::connect(address) else { return };
            let mut answer = Vec::new();
            let done =
                socket.write_all(head.as_bytes()).and_then(|()| socket.read_to_end(&mut answer));
            if done.is_err() || !answer.starts_with(b"HTTP/1.1 200") {
                return;
            }
            answered.send(number).unwrap();
        }
    });
    let mut last = 0;
    while last < PUTS / 3 {
        last = answers.recv_timeout(support::DEADLINE).unwrap();
    }
    running.signal(Signal::KILL);
    putting.join().unwrap();
    last = answers.try_iter().last().unwrap_or(last);
    assert!(last < PUTS - 1, "it was killed behind the last");
    drop(running);
    let (_running, address) = dashboard(dir.path());
    let titles = titles(address);
    for number in 0..=last {
        assert_eq!(titles.get(&format!("v{number}")), Some(&format!("title {number}")));
    }
    // The one that was on its way may be there.
    assert!(titles.len() <= last + 2, "{} of {last}", titles.len());
    let one = ask(address, "GET", "/api/counts/x", "", b"").json();
    assert_eq!((&one["plays"], &one["correction"]["plays"]), (&json!(142), &json!(-8)));
    let one = ask(address, "GET", "/api/counts/y", "", b"").json();
    assert_eq!(one["visibility"], "hidden");
    assert_eq!(ask(address, "GET", "/api/imports", "", b"").json()["imports"][0]["plays"], 100);
}

/// A reset of the files keeps titles and what is not shown; a backup has all of it.
#[test]
fn titles_outlive_a_reset_and_a_backup_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = dashboard(dir.path());
    let told = update(1, &[(id("x"), 50), (id("y"), 5)]).to_string();
    assert_eq!(ask(address, "POST", "/api/counts", "", told.as_bytes()).status, 200);
    for (path, body) in [
        ("/api/videos/x", json!({"title": "one"})),
        ("/api/videos/x/correction", json!({"plays": -8, "reason": "bots"})),
        ("/api/videos/y/visibility", json!({"visibility": "hidden", "reason": "draft"})),
    ] {
        assert_eq!(ask(address, "PUT", path, "", body.to_string().as_bytes()).status, 200);
    }
    let run = |args: &[&str]| assert_exit(&output(dir.path(), args), 0);
    // While it runs.
    run(&["backup", "--data-dir", "playcounts-data", "--output", "kept"]);
    running.signal(Signal::TERM);
    assert_exit(&running.wait(), 0);
    run(&["reset", "--yes"]);
    let seen = |address| {
        let list = ask(address, "GET", "/api/counts", "", b"").json();
        let changed = ask(address, "GET", "/api/videos/changed", "", b"").json();
        let changed = changed["videos"].as_array().unwrap().iter();
        let changed: Vec<_> = changed
            .map(|video| (video["visibility"].clone(), video["correction"]["plays"].clone()))
            .collect();
        (list["total_plays"].clone(), titles(address).len(), changed)
    };
    let hidden = (json!("hidden"), json!(null));
    let (running, address) = dashboard(dir.path());
    assert_eq!(seen(address), (json!(0), 1, vec![hidden.clone()]));
    running.signal(Signal::TERM);
    assert_exit(&running.wait(), 0);
    std::fs::remove_dir_all(dir.path().join("playcounts-data")).unwrap();
    run(&["restore", "--from", "kept", "--data-dir", "playcounts-data"]);
    let (_running, address) = dashboard(dir.path());
    let corrected = (json!("shown"), json!(-8));
    assert_eq!(seen(address), (json!(47), 1, vec![corrected, hidden]));
}
