//! HTTPS of the dashboard's own: all commands and a browser use it, its certificate is read again, and each fault in its
//! files is told by file and line.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;

use rcgen::date_time_ymd;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::certs::{Authority, Issued};
use crate::page_support::{launch, open, read, text, wait_for};
use crate::support::{Broker, Running, assert_exit, json, output, wait_until};
use crate::tls_client;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A dashboard with that certificate, and its address.
fn serve(dir: &Path, issued: &Issued, more: &[&str]) -> (Running, SocketAddr) {
    let (cert, key) = (issued.cert.display().to_string(), issued.key.display().to_string());
    let args =
        ["dashboard", "--http-address", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let mut process = Running::start(dir, &[&args[..], more].concat());
    let url = process.wait_for("live at ");
    (process, url.strip_prefix("https://").unwrap().parse().unwrap())
}

/// `GET path` as JSON.
#[track_caller]
fn get(at: SocketAddr, authority: &Authority, path: &str) -> Value {
    let wire = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = tls_client::ask(at, "localhost", &authority.ca_file(), wire.as_bytes());
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn every_part_uses_it_and_all_is_exact() {
    let (dir, authority) = (temp(), Authority::new());
    let ca = authority.ca_file().display().to_string();
    let (_dashboard, at) = serve(dir.path(), &authority.issue("localhost", |_| {}), &[]);
    let broker = Broker::ours(dir.path());
    let url = format!("https://localhost:{}", at.port());
    let tcp = broker.tcp();
    let all = ["--nsqd-tcp-address", &tcp, "--dashboard-url", &url, "--dashboard-ca", &ca];
    let all = [&all[..], &["--num-messages", "3000"]].concat();
    let process = Running::start(dir.path(), &[&["process"], &all[..]].concat());
    let produce = [&["produce", "--data-dir", "outbox", "--json"], &all[..]].concat();
    let produced = Running::start(dir.path(), &produce).wait();
    assert_exit(&produced, 0);
    assert_eq!(json(&produced)["confirmed"], true, "{produced:?}");
    assert_exit(&process.wait(), 0);
    assert_eq!(get(at, &authority, "/api/counts?limit=1")["total_plays"], 3000);
    assert_eq!(get(at, &authority, "/healthz")["status"], "ok");
    let health = ["health", "--dashboard-url", &url, "--dashboard-ca", &ca];
    assert_exit(&output(dir.path(), &health), 0);
    // In clear the way out is said.
    let plain = url.replace("https", "http");
    let refused = output(dir.path(), &["health", "--dashboard-url", &plain]);
    assert_exit(&refused, 1);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("it wants TLS there; give --dashboard-url as https://"), "{said}");
}

#[test]
fn a_simulation_serves_it_whatever_name_its_certificate_has() {
    let (dir, authority) = (temp(), Authority::new());
    let issued = authority.issue("counts.example.org", |_| {});
    let (cert, key) = (issued.cert.display().to_string(), issued.key.display().to_string());
    let args = ["run", "--num-messages=1000", "--http-address=127.0.0.1:0", "--exit", "--json"];
    let run = output(dir.path(), &[&args[..], &["--tls-cert", &cert, "--tls-key", &key]].concat());
    assert_exit(&run, 0);
    assert_eq!(json(&run)["verified"], true, "{run:?}");
}

#[test]
fn a_browser_shows_the_page_live() {
    let Some(browser) = launch() else { return };
    let (dir, authority) = (temp(), Authority::new());
    let (_dashboard, at) = serve(dir.path(), &authority.issue("localhost", |_| {}), &[]);
    let (tab, complaints) = open(&browser, &format!("https://localhost:{}/", at.port()));
    wait_for(&tab, &text("#live-text"), "live");
    assert_eq!(read(&tab, "location.protocol"), "https:");
    complaints.assert_none();
}

#[test]
fn sighup_takes_a_new_certificate_and_no_connection_is_lost() {
    let (dir, authority) = (temp(), Authority::new());
    let issued = authority.issue("localhost", |_| {});
    let (mut dashboard, at) = serve(dir.path(), &issued, &[]);
    let ca = authority.ca_file();
    let mut events = tls_client::connect(at, "localhost", &ca);
    events
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut events = BufReader::new(events).lines().map(Result::unwrap);
    assert_eq!(events.next().unwrap(), "HTTP/1.1 200 OK");
    let first = tls_client::shown(at, "localhost", &ca).unwrap();

    let soon = authority.issue("localhost", |params| {
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2026, 12, 9);
    });
    assert_eq!(soon.cert, issued.cert, "the same file");
    dashboard.signal(Signal::HUP);
    dashboard.wait_for(
        "dashboard: the certificate was read again; it is valid until 2026-12-09T00:00:00Z",
    );
    let second = tls_client::shown(at, "localhost", &ca).unwrap();
    assert_ne!(first, second);

    std::fs::write(&issued.key, "no key").unwrap();
    dashboard.signal(Signal::HUP);
    dashboard.wait_for("is not taken, the one of before is shown on: --tls-key");
    let told = get(at, &authority, "/healthz")["certificate"].as_str().unwrap().to_owned();
    assert!(told.contains("holds no private key"), "{told}");
    assert_eq!(tls_client::shown(at, "localhost", &ca).unwrap(), second);
    // The stream of before goes on.
    assert!(events.any(|line| line.starts_with("event: stats")));

    authority.issue("localhost", |params| params.not_after = date_time_ymd(2100, 1, 1));
    dashboard.signal(Signal::HUP);
    wait_until("it is well again", || get(at, &authority, "/healthz").get("certificate").is_none());
    assert_ne!(tls_client::shown(at, "localhost", &ca).unwrap(), second);
    dashboard.signal(Signal::TERM);
    assert_exit(&dashboard.wait(), 0);
}

/// A dashboard in clear has nothing to read again, and goes on.
#[test]
fn sighup_without_a_certificate_ends_nothing() {
    let dir = temp();
    let mut dashboard = Running::start(dir.path(), &["dashboard", "--http-address=127.0.0.1:0"]);
    let url = dashboard.wait_for("live at ");
    dashboard.signal(Signal::HUP);
    dashboard.wait_for("SIGHUP reads a certificate again, and there is none");
    assert_eq!(crate::support::health(&url).0, 200);
}

#[test]
fn what_is_doubtful_is_warned_of_and_served() {
    let (dir, authority) = (temp(), Authority::new());
    let ends = |year, month, day| {
        authority.issue("localhost", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
        })
    };
    let said = |issued: &Issued| {
        let (dashboard, _) = serve(dir.path(), issued, &[]);
        dashboard.signal(Signal::TERM);
        String::from_utf8(dashboard.wait().stderr).unwrap()
    };
    let expired = said(&ends(2021, 2, 3));
    assert!(expired.contains("has expired, at 2021-02-03T00:00:00Z"), "{expired}");
    let far = said(&ends(2100, 1, 1));
    assert!(!far.contains("expire") && !far.contains("authority's own"), "{far}");
    let early =
        authority.issue("localhost", |params| params.not_before = date_time_ymd(2099, 1, 1));
    let early = said(&early);
    assert!(early.contains("is not valid before 2099-01-01T00:00:00Z"), "{early}");
    let own = said(&authority.self_signed(true));
    assert!(own.contains("is a certificate authority's own (CA:TRUE)"), "{own}");
    let plain = authority.self_signed(false);
    assert!(!said(&plain).contains("authority's own"));
    let mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&plain.key, permissions).unwrap();
        said(&plain).contains("everybody on this machine may use the key")
    };
    assert!(mode(0o644) && !mode(0o640) && !mode(0o600));
}

/// A start with those options fails, and says so in one line.
#[track_caller]
fn refused(dir: &Path, args: &[&str], want: &str) {
    let refused = output(dir, &[&["dashboard", "--http-address=127.0.0.1:0"], args].concat());
    assert_exit(&refused, 1);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(want), "{said}\ndoes not say {want:?}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn what_cannot_be_used_is_told_by_file_and_line() {
    let (dir, authority) = (temp(), Authority::new());
    let issued = authority.issue("localhost", |_| {});
    let other = authority.issue("other", |_| {});
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let (cert, key, ca) = (read(&issued.cert), read(&issued.key), read(&authority.ca_file()));
    let lines = cert.lines().count();
    let check = |cert: &str, key: &str, want: &str| {
        std::fs::write(dir.path().join("c.pem"), cert).unwrap();
        std::fs::write(dir.path().join("k.pem"), key).unwrap();
        refused(dir.path(), &["--tls-cert=c.pem", "--tls-key=k.pem"], want);
    };
    check("", &key, "--tls-cert c.pem holds no certificate");
    check(
        &key,
        &cert,
        "--tls-cert c.pem holds no certificate, but a private key: is it that of --tls-key?",
    );
    check(
        &cert,
        &cert,
        "--tls-key k.pem holds no private key, but a certificate: is it that of --tls-cert?",
    );
    check(&cert, "\n", "--tls-key k.pem holds no private key");
    let cut = &cert[..cert.len() / 2];
    check(cut, &key, "--tls-cert c.pem:1: CERTIFICATE begins here and has no end: was it cut off?");
    let spoilt = format!("{cert}{}", ca.replacen("MII", "M!!", 1));
    check(&spoilt, &key, &format!("--tls-cert c.pem:{}: a line that is no base64", lines + 2));
    let no_certificate = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    check(
        &format!("{cert}{no_certificate}"),
        &key,
        &format!("--tls-cert c.pem:{}: no certificate:", lines + 1),
    );
    check(
        &cert,
        &read(&other.key),
        "--tls-key k.pem does not belong to the certificate of --tls-cert c.pem:1",
    );
    check(
        &format!("{ca}{cert}"),
        &key,
        &format!(
            "--tls-cert c.pem:{}: the certificate of the key k.pem must come first",
            ca.lines().count() + 1
        ),
    );
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    check(&cert, &locked, "--tls-key k.pem:1: the key is encrypted");
    let spoilt = "-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n";
    check(&cert, spoilt, "--tls-key k.pem:1: a key that cannot be used");
    for (args, want) in [
        (&["--tls-cert=c.pem"][..], "--tls-cert needs --tls-key"),
        (&["--tls-key=k.pem"], "--tls-key needs --tls-cert"),
        (&["--tls-cert=no.pem", "--tls-key=k.pem"], "cannot read --tls-cert no.pem: No such file"),
    ] {
        refused(dir.path(), args, want);
    }
}
