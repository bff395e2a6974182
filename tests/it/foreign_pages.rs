//! Pages of other sites in a real Chromium, in which somebody also looks at the dashboard: what such a page tries to
//! read and to write. Without Chromium as in `page`.

use std::sync::Arc;

use headless_chrome::Tab;
use playcounts::dashboard::Dashboard;
use playcounts::http::{Handler, Request, Response, Server, ServerConfig};

use crate::dashboard_support::{Running, config, update, video};
use crate::page_support::{launch_with, read};
use crate::timing::DEADLINE;

/// Every name of the attacker is this machine.
const NAMES: &str = "--host-resolver-rules=MAP *.example 127.0.0.1";

/// An attacker's web server: its page may do what it likes.
struct Attacker;

impl Handler for Attacker {
    fn handle(&self, _request: &Request) -> Response {
        Response::new(200, "text/html; charset=utf-8", "<!doctype html><title>evil</title><body>")
            .with_header("Content-Security-Policy", "default-src * 'unsafe-inline'")
    }
}

fn attacker() -> Server {
    Server::start(ServerConfig::new("127.0.0.1:0", "evil"), Arc::new(Attacker)).unwrap()
}

fn dashboard(address: &str, token: Option<&str>) -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.http_address = address.to_owned();
    config.write_token = token.map(str::to_owned);
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let body = update(1, &[(video(1), 31_337)]).to_string();
    let header =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(running.ask("POST", "/api/counts", &header, body.as_bytes()).status, 200);
    running
}

/// What the script comes to, once its promise is kept.
fn run(tab: &Tab, script: &str) -> String {
    let found = tab.evaluate(script, true).unwrap().value.unwrap_or_default();
    found.as_str().unwrap_or_default().to_owned()
}

fn fetch(url: &str, options: &str) -> String {
    format!(
        "fetch({url:?}, {options}).then(async (answer) => `${{answer.type}} ${{answer.status}} ${{await answer.text()}}`, (error) => `blocked: ${{error}}`)"
    )
}

fn refused(running: &Running) -> f64 {
    let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
    let value =
        metrics.lines().find_map(|line| line.strip_prefix("playcounts_dashboard_refused_total "));
    value.unwrap().parse().unwrap()
}

#[test]
fn a_page_of_another_site_reads_and_writes_nothing() {
    let Some(browser) = launch_with(&[NAMES]) else { return };
    let running = dashboard("127.0.0.1:0", None);
    let url = running.dashboard.url();
    let evil = attacker();
    let tab = browser.new_tab().unwrap();
    tab.set_default_timeout(DEADLINE);
    let page = format!("http://evil.example:{}/", evil.local_addr().port());
    tab.navigate_to(&page).unwrap().wait_until_navigated().unwrap();
    assert_eq!(read(&tab, "document.title"), "evil");

    for path in ["/", "/api/counts", "/metrics", "/api/export/counts.csv"] {
        for options in ["{}", "{mode: 'no-cors'}", "{credentials: 'include'}"] {
            let got = run(&tab, &fetch(&format!("{url}{path}"), options));
            assert!(got.starts_with("blocked: "), "{path} {options}: {got}");
        }
    }
    let stream = format!(
        "new Promise((done) => {{ const events = new EventSource('{url}/events'); events.onopen = () => done('open'); events.addEventListener('stats', (event) => done(event.data)); events.onerror = () => done('blocked'); }})"
    );
    assert_eq!(run(&tab, &stream), "blocked");

    let body = update(2, &[(video(1), 99_999)]).to_string();
    let quoted = serde_json::to_string(&body).unwrap();
    let before = refused(&running);
    for options in [
        format!("{{method: 'POST', mode: 'no-cors', body: {quoted}}}"),
        format!(
            "{{method: 'POST', body: {quoted}, headers: {{'content-type': 'application/json'}}}}"
        ),
        "{method: 'DELETE'}".to_owned(),
    ] {
        let got = run(&tab, &fetch(&format!("{url}/api/counts"), &options));
        assert!(got.starts_with("blocked: "), "{options}: {got}");
    }
    // A beacon and a form ask nobody for leave.
    let beacon = format!("String(navigator.sendBeacon('{url}/api/counts', {quoted}))");
    assert_eq!(run(&tab, &beacon), "true");
    let form = format!(
        "new Promise((done) => {{
           const form = document.createElement('form');
           Object.assign(form, {{method: 'POST', action: '{url}/api/counts', enctype: 'text/plain', target: 'frame'}});
           const frame = document.createElement('iframe');
           frame.name = 'frame';
           const field = document.createElement('input');
           field.name = {quoted}.replace(/}}$/, ',\"x\":\"');
           field.value = '\"}}';
           form.append(field);
           document.body.append(frame, form);
           frame.onload = () => done('loaded');
           form.submit();
         }})"
    );
    assert_eq!(run(&tab, &form), "loaded");
    assert_eq!(running.dashboard.totals().plays, 31_337);
    // They did arrive: it was the dashboard that refused them.
    assert!(refused(&running) - before >= 2.0, "{} refused", refused(&running) - before);
}

#[test]
fn a_name_that_is_rebound_reads_and_writes_nothing() {
    let Some(browser) = launch_with(&[NAMES]) else { return };
    for token in [None, Some("correct-horse")] {
        let evil = attacker();
        let address = evil.local_addr();
        let tab = browser.new_tab().unwrap();
        tab.set_default_timeout(DEADLINE);
        let page = format!("http://rebound.example:{}/", address.port());
        tab.navigate_to(&page).unwrap().wait_until_navigated().unwrap();
        assert_eq!(read(&tab, "document.title"), "evil");
        // The page stays, and behind its name and port there is now the dashboard: to the browser, its own origin.
        evil.shutdown();
        let running = dashboard(&address.to_string(), token);
        for path in ["/", "/api/counts", "/api/stats", "/metrics", "/api/export/counts.csv"] {
            let got = run(&tab, &fetch(path, "{}"));
            assert!(got.starts_with("basic 421 "), "{path}: {got}");
            assert!(!got.contains("31337") && !got.contains("31,337"), "{path}: {got}");
        }
        let body = serde_json::to_string(&update(2, &[(video(1), 99_999)]).to_string()).unwrap();
        for options in
            [format!("{{method: 'POST', body: {body}}}"), "{method: 'DELETE'}".to_owned()]
        {
            let got = run(&tab, &fetch("/api/counts", &options));
            assert!(got.starts_with("basic 421 "), "{options}: {got}");
        }
        let stream = "new Promise((done) => { const events = new EventSource('/events'); events.onopen = () => done('open'); events.onerror = () => done('blocked'); })";
        assert_eq!(run(&tab, stream), "blocked");
        assert_eq!(running.dashboard.totals().plays, 31_337);
    }
}
