//! The dashboard behind a real nginx that is set up as docs/nginx.conf says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use headless_chrome::Tab;
use playcounts::dashboard::{Dashboard, DashboardConfig};
use playcounts::http::TlsFiles;
use tempfile::TempDir;

use crate::certs::Authority;
use crate::dashboard_support::{self, video};
use crate::page_support::{click, launch, open, read, text, wait_for};
use crate::page_windows::{WINDOWS, wait_for_live, window};
use crate::ports::free_addrs;
use crate::support::{Broker, Running, assert_exit, json, total, wait_until};
use crate::timing::DEADLINE;
use crate::tls_client;
use crate::unpacked::{self, Program};

const NGINX: Program =
    Program { name: "nginx", variable: "NGINX", unpacked: "nginx/usr/sbin/nginx" };

/// The name that docs/nginx.conf gives the dashboard.
const NAME: &str = "counts.example.org";

/// What puts a dashboard under a path of a site; all else is as nginx has it by default.
const UNDER_A_PATH: &str = "location /playcounts/ {
    proxy_pass http://127.0.0.1:8000/;
}";

/// nginx, killed on drop, and its directory.
struct Nginx {
    child: Child,
    at: SocketAddr,
    _dir: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs docs/nginx.conf on another port, as `name`, before that dashboard; `None` where there is no nginx.
fn start(name: &str, dashboard: &str, authority: &Authority) -> Option<Nginx> {
    let at = free_addrs(1).unwrap()[0];
    let issued = authority.issue(name, |_| {});
    let text = fs::read_to_string("docs/nginx.conf").unwrap();
    let changes = [
        ("listen 443 ssl", format!("listen {at} ssl")),
        ("/etc/ssl/certs/counts.example.org.pem", issued.cert.display().to_string()),
        ("/etc/ssl/private/counts.example.org.key", issued.key.display().to_string()),
        ("http://127.0.0.1:8000", dashboard.to_owned()),
        ("server_name counts.example.org", format!("server_name {name}")),
    ];
    let server = changes.iter().fold(text, |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old} stands in docs/nginx.conf once");
        text.replace(old, new)
    });
    run(&server, at)
}

/// Runs what docs/guide.md says of a path, in a plain server on another port.
fn start_under_a_path(dashboard: &str) -> Option<Nginx> {
    let at = free_addrs(1).unwrap()[0];
    let guide = fs::read_to_string("docs/guide.md").unwrap();
    assert!(guide.contains(UNDER_A_PATH), "docs/guide.md says how");
    let location = UNDER_A_PATH.replace("http://127.0.0.1:8000", dashboard);
    run(&format!("server {{ listen {at};\n{location} }}"), at)
}

/// The same over TLS outside and inside.
fn start_under_a_path_with_tls(port: u16, authority: &Authority) -> Option<Nginx> {
    let at = free_addrs(1).unwrap()[0];
    let issued = authority.issue("localhost", |_| {});
    let inside = format!("https://127.0.0.1:{port}");
    let location = UNDER_A_PATH.replace("http://127.0.0.1:8000", &inside);
    let (cert, key) = (issued.cert.display(), issued.key.display());
    let server = format!(
        "server {{ listen {at} ssl; ssl_certificate {cert}; ssl_certificate_key {key};\n{location} }}"
    );
    run(&server, at)
}

/// Runs nginx with this server, which listens there; `None` where there is no nginx.
fn run(server: &str, at: SocketAddr) -> Option<Nginx> {
    let program = NGINX.find()?;
    let dir = tempfile::tempdir().unwrap();
    // One process, whose files are all in its directory.
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {}/{what};", dir.path().display()));
    let whole = format!(
        "daemon off; master_process off; pid {}/pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; {}\n{server}\n}}\n",
        dir.path().display(),
        temporary.join(" ")
    );
    let path = dir.path().join("nginx.conf");
    fs::write(&path, whole).unwrap();
    let mut command = unpacked::command(&program);
    command.arg("-p").arg(dir.path()).args(["-e", "stderr", "-c"]).arg(path);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until("nginx listens", || {
        assert!(child.try_wait().unwrap().is_none(), "nginx has ended: see its words above");
        TcpStream::connect(at).is_ok()
    });
    Some(Nginx { child, at, _dir: dir })
}

/// A dashboard that is started as docs/nginx.conf says, and its URL.
fn dashboard(dir: &Path) -> (Running, String) {
    let mut token = fs::OpenOptions::new();
    let token = std::os::unix::fs::OpenOptionsExt::mode(token.create(true).write(true), 0o600);
    token.open(dir.join("token")).unwrap().write_all(b"s3cret\n").unwrap();
    let args = ["dashboard", "--http-address", "127.0.0.1:0", "--allowed-host", NAME];
    let mut process = Running::start(dir, &[&args[..], &["--write-token-file", "token"]].concat());
    let url = process.wait_for("live at ");
    (process, url)
}

#[test]
fn process_and_produce_are_exact_through_nginx() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (_dashboard, url) = dashboard(dir.path());
    // A name that every machine knows.
    let Some(nginx) = start("localhost", &url, &authority) else { return };
    let through = format!("https://localhost:{}", nginx.at.port());
    let broker = Broker::ours(dir.path());
    let (tcp, ca) = (broker.tcp(), authority.ca_file().display().to_string());
    let all = ["--nsqd-tcp-address", &tcp, "--dashboard-url", &through, "--dashboard-ca", &ca];
    let all = [&all[..], &["--num-messages", "3000"]].concat();
    let process = [&["process", "--write-token-file", "token"], &all[..]].concat();
    let process = Running::start(dir.path(), &process);
    let produce = [&["produce", "--data-dir", "outbox", "--json"], &all[..]].concat();
    let produced = Running::start(dir.path(), &produce).wait();
    assert_exit(&produced, 0);
    assert_eq!(json(&produced)["confirmed"], true, "{produced:?}");
    assert_exit(&process.wait(), 0);
    assert_eq!(total(&url), 3000);
}

/// Every link, script and style of the page, as the browser has resolved it, with the status that it is answered with.
const ANSWERS: &str = "Promise.all([...document.querySelectorAll('[href], [src]')].map((node) => node.href || node.src)
    .filter((url) => !url.includes('#')).map(async (url) => `${url} ${(await fetch(url)).status}`))
    .then((all) => all.join('\\n'))";

/// One view after the other, each with what shows that it is whole.
fn look_at_every_view(tab: &Tab, base: &str) {
    wait_for(tab, &text("#live-text"), "live");
    wait_for(tab, &text("#total-plays"), "50,000");
    wait_for(tab, "document.querySelectorAll('#top-rows tr').length", 2);
    let answers = tab.evaluate(ANSWERS, true).unwrap().value.unwrap();
    for line in answers.as_str().unwrap().lines() {
        assert!(line.starts_with(base) && line.ends_with(" 200"), "{line}");
    }
    let shows = [
        ("videos", "document.querySelectorAll('#videos-rows .row:not([hidden]) a').length", 2),
        ("counter", "document.querySelector('#counter-figure').textContent.length", 6),
        ("queue", "document.querySelectorAll('#queue .findings li').length", 1),
    ];
    for (view, shows, wanted) in shows {
        click(tab, &format!("nav a[data-view={view}]"));
        wait_for(tab, "location.href", format!("{base}?view={view}"));
        wait_for(tab, shows, wanted);
    }
    read(tab, "history.back()");
    wait_for(tab, "location.href", format!("{base}?view=counter"));
    click(tab, "nav a[data-view=videos]");
    click(tab, "#videos-rows .row:not([hidden]) a");
    wait_for(tab, &text("#video-plays"), "40,000");
    let exported =
        "fetch(document.querySelector('#video-exports a').href).then((answer) => answer.text())";
    let exported = tab.evaluate(exported, true).unwrap().value.unwrap();
    assert!(exported.as_str().unwrap().contains("40000"), "{exported}");
}

#[test]
fn the_page_is_whole_under_any_path() {
    let Some(browser) = launch() else { return };
    let running = dashboard_support::start();
    let Some(nginx) = start_under_a_path(&running.dashboard.url()) else { return };
    running.tell(1, &[(video(1), 40_000), (video(2), 10_000)]);
    let base = format!("http://{}/playcounts/", nginx.at);
    let (tab, complaints) = open(&browser, &base);
    look_at_every_view(&tab, &base);
    // A place within is found by who opens it first.
    tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, &text("#video-plays"), "40,000");
    // It is live: a count comes as an event, not with the next call.
    click(&tab, "#video-back");
    click(&tab, "nav a[data-view=counter]");
    wait_for(&tab, &text("#counter-figure"), "50,000");
    running.tell(2, &[(video(1), 40_001)]);
    wait_for(&tab, &text("#counter-figure"), "50,001");
    let document = format!(
        "fetch('{base}api/openapi.json').then((answer) => answer.json()).then(({{ servers }}) => new URL(servers[0].url, '{base}api/openapi.json').href)"
    );
    let told = tab.evaluate(&document, true).unwrap().value.unwrap();
    assert_eq!(told, base);
    let loaded = complaints.loaded.lock().clone();
    assert!(loaded.iter().all(|url| url.starts_with(&base)), "{loaded:?}");
    complaints.assert_none();
}

/// A problem is told as it begins, in each of these windows.
fn check_alarm(windows: &[Arc<Tab>]) {
    let is_told = "document.querySelector('#alarms:not([hidden]) li') !== null";
    for tab in windows {
        wait_for(tab, is_told, true);
    }
}

/// How many pages hold the lock of who listens, and how many wait for it.
const TURNS: &str = "navigator.locks.query().then(({ held, pending }) => [held, pending].map((list) => \
    list.filter(({ name }) => name === 'playcounts /playcounts/').length).join())";

#[test]
fn one_page_and_twenty_are_live_under_a_path_with_tls_on_both_sides() {
    let Some(browser) = launch() else { return };
    let authority = Authority::new();
    let issued = authority.issue("localhost", |_| {});
    let data = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(DashboardConfig {
        read_token: Some("r3ad".to_owned()),
        tls: Some(TlsFiles { cert: issued.cert, key: issued.key }),
        idle_alert: Some(Duration::from_secs(1)),
        ..dashboard_support::config(&data)
    })
    .unwrap();
    let Some(nginx) = start_under_a_path_with_tls(dashboard.local_addr().port(), &authority) else {
        return;
    };
    let base = format!("https://localhost:{}/playcounts/", nginx.at.port());
    let tab = window(&browser, &format!("{base}?view=queue"));
    wait_for(&tab, "location.pathname", "/playcounts/sign-in");
    read(&tab, "document.querySelector('#token').value = 'r3ad'");
    click(&tab, ".sign-in button");
    wait_for(&tab, "location.href", format!("{base}?view=queue"));
    wait_for(&tab, &text("#live-text"), "live");
    // An event brings it: the page asks for alarms only while nobody looks at it.
    check_alarm(std::slice::from_ref(&tab));
    assert_eq!(tab.evaluate(TURNS, true).unwrap().value, Some("1,0".into()));
    let mut windows = vec![tab];
    windows.extend((1..WINDOWS).map(|_| window(&browser, &base)));
    wait_for_live(&windows, "0");
    check_alarm(&windows);
    // One of them listens for all.
    wait_until("all others wait", || {
        let turns = windows[0].evaluate(TURNS, true).unwrap().value;
        turns == Some(format!("1,{}", WINDOWS - 1).into())
    });
    click(&windows[1], "#sign-out button");
    for tab in &windows {
        wait_for(tab, "location.pathname", "/playcounts/sign-in");
    }
}

#[test]
fn a_processor_reaches_a_dashboard_under_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let running = dashboard_support::start();
    let Some(nginx) = start_under_a_path(&running.dashboard.url()) else { return };
    let through = format!("http://{}/playcounts/", nginx.at);
    let broker = Broker::ours(dir.path());
    let tcp = broker.tcp();
    let all = ["--nsqd-tcp-address", &tcp, "--dashboard-url", &through, "--num-messages", "300"];
    let process = Running::start(dir.path(), &[&["process"], &all[..]].concat());
    let produced = Running::start(dir.path(), &[&["produce"], &all[..]].concat()).wait();
    assert_exit(&produced, 0);
    assert_exit(&process.wait(), 0);
    assert_eq!(total(&running.dashboard.url()), 300);
}

#[test]
fn the_pages_events_come_through_nginx_as_they_happen() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (_dashboard, url) = dashboard(dir.path());
    let Some(nginx) = start(NAME, &url, &authority) else { return };
    let mut stream = tls_client::connect(nginx.at, NAME, &authority.ca_file());
    // Held back, an event would come with many others, much later.
    stream.sock.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {NAME}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let status = lines.next().unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    let began = std::time::Instant::now();
    let events = lines.filter(|line| line.starts_with("event: stats")).take(3);
    assert_eq!(events.count(), 3);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}
