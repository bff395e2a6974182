//! A private dashboard: who may read, the form to sign in, and what a sign-out ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use headless_chrome::Tab;
use playcounts::dashboard::Dashboard;

use crate::certs::Authority;
use crate::dashboard_support::{Answer, Running, ask, config, consumption};
use crate::page_accessibility::{LOOKS, axe, show_as, violations_in};
use crate::page_support::{click, launch, open, read, text, wait_for};
use crate::support::{self, assert_exit, command, output};
use crate::timing::DEADLINE;

const READ: &str = "Authorization: Bearer r3ad\r\n";

fn private() -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    (config.read_token, config.write_token) = (Some("r3ad".to_owned()), Some("wr1te".to_owned()));
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

fn get(at: SocketAddr, path: &str, extra: &str) -> Answer {
    ask(at, "GET", path, extra, b"")
}

/// What a browser sends of a form.
fn submit(at: SocketAddr, path: &str, extra: &str, form: &str) -> Answer {
    let extra = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://{at}\r\n{extra}"
    );
    ask(at, "POST", path, &extra, form.as_bytes())
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let start = format!("{name}: ");
    let line = answer.head.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name} in {}", answer.head))
}

/// Signs in, and what the browser sends from then on.
fn sign_in(at: SocketAddr, token: &str) -> String {
    let answer = submit(at, "/sign-in", "", &format!("token={token}&to="));
    assert_eq!(answer.status, 303, "{answer:?}");
    format!("Cookie: {}\r\n", header(&answer, "Set-Cookie").split(';').next().unwrap())
}

#[test]
fn nothing_is_read_without_a_token_and_all_with_one() {
    let running = private();
    let at = running.dashboard.local_addr();
    let document = get(at, "/api/openapi.json", READ).json();
    let paths: Vec<_> = document["paths"].as_object().unwrap().iter().collect();
    assert!(paths.len() > 20);
    for (path, methods) in paths {
        let path = path.replace("{video_id}", "a").replace("{import}", "a");
        if methods.get("get").is_none() || path == "/healthz" {
            continue;
        }
        for method in ["GET", "HEAD"] {
            for extra in
                ["", "Authorization: Bearer wrong\r\n", "Cookie: playcounts-00000000=AAAA\r\n"]
            {
                let refused = ask(at, method, &path, extra, b"");
                assert_eq!(refused.status, 401, "{method} {path} {extra}");
                assert_eq!(header(&refused, "WWW-Authenticate"), "Bearer");
            }
        }
        assert!(methods["get"]["responses"].get("401").is_some(), "{path}");
        // A stream does not end, and its status line is enough.
        if path != "/events" {
            assert_ne!(get(at, &path, READ).status, 401, "{path}");
            assert_ne!(get(at, &path, "Authorization: Bearer wr1te\r\n").status, 401, "{path}");
        }
    }
    let refused = get(at, "/api/stats", "");
    assert!(refused.error().contains("sign in on its page, or send `Authorization: Bearer`"));
    // Whoever may read may not write.
    assert_eq!(ask(at, "DELETE", "/api/counts", READ, b"").status, 401);
}

#[test]
fn health_says_everybody_whether_and_readers_why() {
    let running = private();
    let at = running.dashboard.local_addr();
    assert_eq!(get(at, "/healthz", "").status, 200);
    // A processor that has stopped.
    let mut told = consumption(None);
    told["failure"] = "a secret reason".into();
    let told = serde_json::json!({"processor": uuid::Uuid::from_u128(1), "consumption": told});
    let write = "Authorization: Bearer wr1te\r\n";
    let report = ask(at, "POST", "/api/consumption", write, told.to_string().as_bytes());
    assert_eq!(report.status, 200, "{report:?}");
    let (short, long) = (get(at, "/healthz", ""), get(at, "/healthz", READ));
    assert_eq!((short.status, long.status), (503, 503));
    assert!(long.error().contains("a secret reason"));
    assert!(!short.error().contains("secret") && short.error().contains("read token"), "{short:?}");
}

#[test]
fn signing_in_opens_reads_until_signing_out_which_ends_the_open_streams() {
    let running = private();
    let at = running.dashboard.local_addr();
    let asked = get(at, "/?view=video&video=a%26b", "");
    assert_eq!(asked.status, 303);
    let form = header(&asked, "Location").to_owned();
    assert_eq!(form, "sign-in?to=view%3Dvideo%26video%3Da%2526b");
    let form = get(at, &format!("/{form}"), "");
    assert_eq!(form.status, 200);
    assert!(
        form.head.contains("frame-ancestors 'none'") && form.head.contains("form-action 'self'")
    );
    for token in ["", "wrong", "R3ad", "r3ad%20x"] {
        let refused = submit(at, "/sign-in", "", &format!("token={token}&to=view%3Dqueue"));
        assert_eq!(refused.status, 401, "{token}");
        assert!(!refused.head.contains("Set-Cookie"));
        let page = String::from_utf8(refused.body).unwrap();
        assert!(
            page.contains("That is not the token") && page.contains("value=\"view=queue\""),
            "{page}"
        );
    }
    let entered = submit(at, "/sign-in", "", "token=r3ad&to=view%3Dvideo%26video%3Da%2526b");
    assert_eq!((entered.status, header(&entered, "Location")), (303, "./?view=video&video=a%26b"));
    let cookie = header(&entered, "Set-Cookie").to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("Secure"), "{cookie}");
    assert!(!cookie.contains("r3ad"));
    let (here, there) = (sign_in(at, "r3ad"), sign_in(at, "wr1te"));
    assert_eq!(get(at, "/", &here).status, 200);
    assert_eq!(get(at, "/api/settings", &here).json()["signed_in"], true);
    assert_eq!(get(at, "/api/settings", READ).json()["signed_in"], false);
    // A cookie changes nothing.
    assert_eq!(ask(at, "DELETE", "/api/counts", &here, b"").status, 401);
    let stream = |cookie: &str| {
        let mut socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(socket, "GET /events HTTP/1.1\r\nHost: {at}\r\n{cookie}\r\n").unwrap();
        let mut stream = BufReader::new(socket);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        stream
    };
    let (mut first, mut other) = (stream(&here), stream(&there));
    let foreign =
        ask(at, "POST", "/sign-out", &format!("{here}Origin: http://evil.example\r\n"), b"");
    assert_eq!(foreign.status, 403);
    let left = submit(at, "/sign-out", &here, "");
    assert_eq!((left.status, header(&left, "Location")), (303, "sign-in"));
    assert!(header(&left, "Set-Cookie").contains("Max-Age=0"));
    first.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(get(at, "/api/stats", &here).status, 401);
    assert_eq!(get(at, "/", &here).status, 303);
    // Whoever else has signed in has not left.
    assert_eq!(get(at, "/api/stats", &there).status, 200);
    let mut line = String::new();
    while !line.starts_with("event: stats") {
        line.clear();
        assert_ne!(other.read_line(&mut line).unwrap(), 0);
    }
}

#[test]
fn who_guesses_waits_whoever_has_signed_in_does_not() {
    let running = private();
    let at = running.dashboard.local_addr();
    let cookie = sign_in(at, "r3ad");
    let mut refused = 0;
    while get(at, "/api/stats", &format!("Authorization: Bearer guess{refused}\r\n")).status == 401
    {
        refused += 1;
        assert!(refused < 100, "nobody stops it");
    }
    assert!(refused >= 20, "{refused}");
    let waits = get(at, "/api/stats", READ);
    assert_eq!(waits.status, 429);
    assert!(header(&waits, "Retry-After").parse::<u64>().unwrap() <= 4);
    let form = submit(at, "/sign-in", "", "token=r3ad&to=");
    assert_eq!(form.status, 429);
    assert!(String::from_utf8(form.body).unwrap().contains("Too many wrong tokens"));
    assert_eq!(get(at, "/api/stats", &cookie).status, 200);
}

#[test]
fn a_dashboard_that_is_not_private_has_no_form() {
    let running = crate::dashboard_support::start();
    let at = running.dashboard.local_addr();
    assert_eq!(header(&get(at, "/sign-in?to=view%3Dqueue", ""), "Location"), "./?view=queue");
    let posted = submit(at, "/sign-in", "", "token=a&to=");
    assert_eq!((posted.status, header(&posted, "Location")), (303, "./"));
    assert!(!posted.head.contains("Set-Cookie"));
    assert_eq!(get(at, "/api/settings", "").json()["signed_in"], false);
}

#[test]
fn a_token_that_is_none_is_refused_at_the_start() {
    for (read, why) in
        [("", "not empty"), ("a b", "printable ASCII"), ("wr1te", "is the write token")]
    {
        let data = tempfile::tempdir().unwrap();
        let mut config = config(&data);
        (config.read_token, config.write_token) = (Some(read.to_owned()), Some("wr1te".to_owned()));
        let error = Dashboard::start(config).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn every_command_can_give_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("read");
    std::fs::write(&path, "r3ad\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let args = [
        "dashboard",
        "--http-address=127.0.0.1:0",
        "--read-token-file=read",
        "--write-token=wr1te",
    ];
    let mut dashboard = support::Running::start(dir.path(), &args);
    let url = dashboard.wait_for("live at ");
    assert_eq!(dashboard.has_said("who reads needs a "), "token");
    let broker = support::Broker::ours(dir.path());
    let tcp = broker.tcp();
    let all = ["--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--num-messages", "300"];
    let process = [&["process", "--write-token=wr1te"], &all[..]].concat();
    let process = support::Running::start(dir.path(), &process);
    let produce = ["produce", "--data-dir", "outbox", "--read-token-file", "read"];
    let produced = output(dir.path(), &[&produce[..], &all[..]].concat());
    assert_exit(&produced, 0);
    assert_exit(&process.wait(), 0);
    for words in [&["titles", "export"][..], &["video", "list"]] {
        let words = [words, &["--dashboard-url", &url]].concat();
        let refused = output(dir.path(), &words);
        assert_exit(&refused, 1);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("it is private, and no token is given: --read-token-file"), "{said}");
        let wrong = output(dir.path(), &[&words[..], &["--read-token", "other"]].concat());
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(said.contains("it is private, and the token is none of those"), "{said}");
        assert_exit(&output(dir.path(), &[&words[..], &["--read-token-file", "read"]].concat()), 0);
        let mut by_variable = command(dir.path(), &words);
        by_variable.env("PLAYCOUNTS_READ_TOKEN", "r3ad");
        assert_exit(&support::Running::spawn(by_variable, "by variable").wait(), 0);
    }
    // Whether it is well is told to all.
    assert_exit(&output(dir.path(), &["health", "--dashboard-url", &url]), 0);
    assert_exit(
        &output(dir.path(), &["health", "--dashboard-url", &url, "--read-token", "r3ad"]),
        0,
    );
}

/// Types into the form and sends it.
fn enter(tab: &Tab, token: &str) {
    read(tab, &format!("document.querySelector('#token').value = {token:?}"));
    click(tab, ".sign-in button");
}

#[track_caller]
fn check_accessible(tab: &Tab) {
    if let Some(axe) = axe() {
        for (look, dark, width, height) in LOOKS {
            show_as(tab, dark, width, height);
            assert_eq!(violations_in(tab, &axe), Vec::<String>::new(), "{look}");
        }
    }
}

#[test]
fn a_browser_signs_in_over_https_comes_back_to_its_view_and_signs_out() {
    let Some(browser) = launch() else { return };
    let authority = Authority::new();
    let issued = authority.issue("localhost", |_| {});
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.read_token = Some("r3ad".to_owned());
    config.tls = Some(playcounts::http::TlsFiles { cert: issued.cert, key: issued.key });
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let base = format!("https://localhost:{}/", running.dashboard.local_addr().port());
    let (tab, complaints) = open(&browser, &format!("{base}?view=videos"));
    wait_for(&tab, "location.pathname", "/sign-in");
    check_accessible(&tab);
    assert_eq!(read(&tab, "document.activeElement.id"), "token");
    complaints.assert_none();
    enter(&tab, "wrong");
    wait_for(&tab, "document.querySelector('#wrong') !== null", true);
    check_accessible(&tab);
    // What a browser says of a 401.
    complaints.texts.lock().clear();
    enter(&tab, "r3ad");
    wait_for(&tab, "location.href", format!("{base}?view=videos"));
    wait_for(&tab, &text("#live-text"), "live");
    assert_eq!(read(&tab, "document.cookie"), "", "scripts see no session");
    let (window, _) = open(&browser, &base);
    wait_for(&window, &text("#live-text"), "live");
    complaints.assert_none();
    click(&tab, "#sign-out button");
    wait_for(&tab, "location.pathname", "/sign-in");
    // Another window of the same browser has lost its stream, and asks too.
    wait_for(&window, "location.pathname", "/sign-in");
}
