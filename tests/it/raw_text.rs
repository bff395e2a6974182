//! Hostile neighbours: what they say reaches no terminal raw, neither of a process that ends of it nor of one that logs it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use nsq_protocol::{Frame, MessageId, MessageRef};
use rustix::process::Signal;

use crate::support::{Running, dashboard, output, wait_until};

/// An escape sequence, the one-character form of its start, a forged line, a title, a name that reads backwards.
const BAD: &str =
    "\u{1b}[31mRED\u{1b}[0m\u{9b}5m\nplaycounts: all is well\r\u{1b}]0;title\u{7}\u{202e}nimda";

/// Serves each connection on a thread of its own, for as long as the test runs; the port.
fn serve(each: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

/// An HTTP server that answers everything with that status and body.
fn http(status: u16, body: String) -> String {
    serve(move |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
            head.push(byte[0]);
        }
        let len = body.len();
        let head =
            format!("HTTP/1.1 {status} x\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
    })
}

fn send(stream: &mut TcpStream, frame: Frame<'_>) {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    let _ = stream.write_all(&wire);
}

/// What was written, which must hold a part of [`BAD`], and none of it raw.
#[track_caller]
fn assert_plain(what: &str, written: &[u8], must_quote: bool) {
    let text = String::from_utf8_lossy(written);
    let raw = text.chars().find(|character| {
        character.is_control() && *character != '\n' || "\u{202e}\u{9b}".contains(*character)
    });
    assert_eq!(raw, None, "{what}: {text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("playcounts: all is well")),
        "{what}: {text}"
    );
    assert!(!must_quote || text.contains("RED"), "{what} quotes nothing: {text}");
}

/// An nsqd that refuses whatever it is asked.
fn refusing_nsqd() -> String {
    serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        send(&mut stream, Frame::Error(format!("E_BAD_TOPIC {BAD}").as_bytes()));
    })
}

#[test]
fn an_nsqd_that_refuses_with_escape_sequences() {
    let dir = tempfile::tempdir().unwrap();
    let nsqd = refusing_nsqd();
    for command in ["process", "produce"] {
        for level in ["error", "trace"] {
            let args = [command, "--nsqd-tcp-address", &nsqd, "--log-level", level];
            let ended = output(dir.path(), &args);
            assert_eq!(ended.status.code(), Some(1), "{ended:?}");
            assert_plain(command, &ended.stderr, true);
            assert_plain(command, &ended.stdout, false);
        }
    }
}

/// An nsqd that speaks well, and delivers what is no play, then refuses.
fn delivering_nsqd() -> String {
    serve(|mut stream| {
        let read = |stream: &mut TcpStream| stream.read(&mut [0; 4096]).unwrap_or(0) > 0;
        read(&mut stream);
        let answer = serde_json::json!({ "max_rdy_count": 2500, "version": BAD });
        send(&mut stream, Frame::Response(answer.to_string().as_bytes()));
        read(&mut stream);
        send(&mut stream, Frame::Response(b"OK"));
        read(&mut stream);
        let bodies =
            [BAD.to_owned(), format!(r#"{{"video_id":"{}"}}"#, BAD.replace('\n', " ")), "x".into()];
        for (number, body) in (1..).zip(&bodies) {
            send(
                &mut stream,
                Frame::Message(MessageRef {
                    timestamp_ns: 1,
                    attempts: 1,
                    id: MessageId::from_u64(number),
                    body: body.as_bytes(),
                    skipped: 0,
                }),
            );
        }
        // Their FINs, and whatever comes with them.
        let mut said = String::new();
        let mut part = [0; 4096];
        while said.matches("FIN ").count() < bodies.len() {
            match stream.read(&mut part) {
                Ok(read) if read > 0 => said.push_str(&String::from_utf8_lossy(&part[..read])),
                _ => return,
            }
        }
        send(&mut stream, Frame::Error(format!("E_INVALID {BAD}").as_bytes()));
    })
}

#[test]
fn messages_with_escape_sequences_and_what_is_kept_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (_dashboard, url) = dashboard(dir.path());
    let nsqd = delivering_nsqd();
    let args = ["process", "--nsqd-tcp-address", &nsqd, "--dashboard-url", &url];
    let mut process = Running::start(dir.path(), &[&args[..], &["--log-level=trace"]].concat());
    process.wait_for("E_INVALID");
    process.signal(Signal::TERM);
    let ended = process.wait();
    assert_plain("the log", &ended.stderr, true);
    assert_plain("the report", &ended.stdout, false);
    let listed = output(dir.path(), &["dead-letters"]);
    assert_plain("dead letters", &listed.stdout, true);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 3);
    let listed = output(dir.path(), &["dead-letters", "--json"]);
    assert_plain("dead letters as JSON", &listed.stdout, true);
    let first = String::from_utf8(listed.stdout).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["body"], BAD);
}

#[test]
fn nsqlookupds_and_dashboards_that_answer_with_escape_sequences() {
    let dir = tempfile::tempdir().unwrap();
    let check = |args: &[&str], quotes: bool| {
        let ended = output(dir.path(), args);
        // Some of it is an answer all the same: that a topic is not there, or that it is empty.
        assert!(!quotes || ended.status.code() == Some(1), "{ended:?}");
        assert_plain(&args.join(" "), &ended.stderr, quotes);
        assert_plain(&args.join(" "), &ended.stdout, false);
    };
    let node = |host: &str| {
        let node = serde_json::json!({ "broadcast_address": host, "hostname": BAD,
            "http_port": 1, "tcp_port": 1, "version": BAD, "remote_address": BAD });
        serde_json::json!({ "producers": [node] }).to_string()
    };
    for (status, body) in [
        (200, BAD.to_owned()),
        (500, BAD.to_owned()),
        (404, serde_json::json!({ "message": BAD }).to_string()),
        (200, serde_json::json!({ BAD: BAD, "producers": BAD }).to_string()),
        (200, node(BAD)),
        (200, node("127.0.0.1")),
    ] {
        let address = http(status, body);
        check(&["reset", "--yes", "--lookupd-http-address", &address], false);
        check(&["reset", "--yes", "--nsqd-http-address", &address], false);
        if status != 200 {
            let url = format!("http://{address}");
            check(&["reset", "--yes", "--dashboard-url", &url], false);
        }
    }
    let refusing = http(400, serde_json::json!({ "error": BAD }).to_string());
    check(&["reset", "--yes", "--dashboard-url", &format!("http://{refusing}")], true);
}

/// A dashboard that watches them, and says in its log what it hears.
#[test]
fn a_watching_dashboards_log() {
    let dir = tempfile::tempdir().unwrap();
    let stats = serde_json::json!({ "version": BAD, "health": BAD, "start_time": 0, "topics": [
        { "topic_name": BAD, "channels": [] }, { "topic_name": "plays", "channels": [BAD] }] });
    let nsqds =
        [http(200, stats.to_string()), http(500, BAD.to_owned()), http(200, BAD.to_owned())];
    let lookupd = http(500, BAD.to_owned());
    let mut args = vec![
        "dashboard",
        "--http-address=127.0.0.1:0",
        "--log-level=trace",
        "--lookupd-http-address",
        &lookupd,
    ];
    nsqds.iter().for_each(|nsqd| args.extend(["--nsqd-http-address", nsqd]));
    let mut running = Running::start(dir.path(), &args);
    let url = running.wait_for("live at ");
    let found = || crate::support::get(&format!("{url}/api/diagnosis"));
    wait_until("each was asked", || {
        let text = found().to_string();
        nsqds[1..].iter().chain([&lookupd]).all(|address| text.contains(address))
    });
    running.signal(Signal::TERM);
    assert_plain("the log", &running.wait().stderr, false);
}

/// What is typed is quoted, too.
#[test]
fn wrong_usage_and_names_of_files() {
    let dir = tempfile::tempdir().unwrap();
    // Its lines are its own: who types a line break sees it.
    let typed = format!("--{}", BAD.replace('\n', ""));
    let ended = output(dir.path(), &["process", &typed]);
    assert_eq!(ended.status.code(), Some(2));
    assert_plain("usage", &ended.stderr, true);
    let ended = output(dir.path(), &["verify", "--data-dir", &format!("a{BAD}")]);
    assert_plain("a file's name", &ended.stderr, true);
}
