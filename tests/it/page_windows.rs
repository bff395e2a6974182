//! Many windows of one browser: they share one stream of events, and whoever brings it is replaced when it goes.

use std::sync::Arc;

use headless_chrome::protocol::cdp::Emulation::SetFocusEmulationEnabled;
use headless_chrome::{Browser, Tab};
use playcounts::dashboard::Dashboard;
use serde_json::json;

use crate::dashboard_support::{Running, config, start, video};
use crate::page_support::{Chromium, launch, launch_with, open, read, text, wait_for};
use crate::support::wait_until;

/// As many as somebody may have open.
pub(crate) const WINDOWS: usize = 20;

/// A name that is no loopback address to the browser: over plain HTTP it has no locks there.
const ELSEWHERE: &str = "playcounts.test";

/// How many streams the dashboard serves.
fn streams(running: &Running) -> u64 {
    let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("playcounts_dashboard_event_streams "))
        .expect("it is told");
    line.trim().parse().unwrap()
}

/// A page that somebody looks at, as if its tab were a window of its own; it may still be loading.
pub(crate) fn window(browser: &Browser, url: &str) -> Arc<Tab> {
    let tab = browser.new_tab().unwrap();
    tab.call_method(SetFocusEmulationEnabled { enabled: true }).unwrap();
    tab.navigate_to(url).unwrap();
    tab
}

/// Waits until each window shows these plays, live.
#[track_caller]
pub(crate) fn wait_for_live(windows: &[Arc<Tab>], plays: &str) {
    let shown = format!(
        "document.visibilityState === 'visible' && {} === {plays:?} && {} === 'live'",
        text("#total-plays"),
        text("#live-text")
    );
    for tab in windows {
        wait_for(tab, &shown, true);
    }
}

/// The same, by one stream for all.
#[track_caller]
fn wait_for_all(running: &Running, windows: &[Arc<Tab>], plays: &str) {
    wait_for_live(windows, plays);
    wait_until("one stream is left", || streams(running) == 1);
}

/// Twenty windows, all live; none waits for a connection.
fn check_twenty(running: &Running, browser: &Browser, url: &str) {
    running.tell(1, &[(video(1), 3)]);
    let windows: Vec<_> = (0..WINDOWS).map(|_| window(browser, url)).collect();
    wait_for_all(running, &windows, "3");
    running.tell(2, &[(video(1), 1_003)]);
    wait_for_all(running, &windows, "1,003");
    // No call waits for a connection.
    let call = "fetch('api/top').then((answer) => answer.status)";
    for tab in [&windows[0], &windows[WINDOWS - 1]] {
        assert_eq!(tab.evaluate(call, true).unwrap().value, Some(json!(200)));
    }
    for tab in windows {
        tab.close(true).unwrap();
    }
    wait_until("nobody listens", || streams(running) == 0);
}

#[test]
fn twenty_windows_share_one_stream_from_this_machine() {
    let Some(browser) = launch() else { return };
    let running = start();
    let url = running.dashboard.url();
    let (tab, _) = open(&browser, &url);
    assert_eq!(read(&tab, "isSecureContext && 'locks' in navigator"), json!(true));
    tab.close(true).unwrap();
    check_twenty(&running, &browser, &url);
}

/// A dashboard at a name that is no loopback address, a browser that finds it there, and its URL.
fn start_elsewhere() -> Option<(Chromium, Running, String)> {
    let resolve = format!("--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1");
    let browser = launch_with(&[&resolve])?;
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.allowed_hosts = vec![ELSEWHERE.to_owned()];
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let url = format!("http://{ELSEWHERE}:{}", running.dashboard.local_addr().port());
    Some((browser, running, url))
}

#[test]
fn twenty_windows_share_one_stream_over_plain_http() {
    let Some((browser, running, url)) = start_elsewhere() else { return };
    let (tab, _) = open(&browser, &url);
    assert_eq!(read(&tab, "isSecureContext || 'locks' in navigator"), json!(false));
    // Nor are there notifications, and the page says why.
    wait_for(&tab, &format!("{}.includes('only over HTTPS')", text("#notify-state")), true);
    assert_eq!(read(&tab, "document.querySelector('#notify-button').hidden"), json!(true));
    tab.close(true).unwrap();
    check_twenty(&running, &browser, &url);
}

/// A page that found the worker hanging has gone to another one: the others follow it there, those too that are opened later.
#[test]
fn windows_without_locks_leave_a_worker_that_hangs_together() {
    let Some((browser, running, url)) = start_elsewhere() else { return };
    running.tell(1, &[(video(1), 3)]);
    let mut windows: Vec<_> = (0..2).map(|_| window(&browser, &url)).collect();
    wait_for_all(&running, &windows, "3");
    // What it tells them.
    let found = "window.told = []; window.heard = new BroadcastChannel('playcounts / worker'); \
        heard.onmessage = ({ data }) => told.push(data); heard.postMessage(7)";
    read(&windows[0], found);
    wait_for(&windows[0], "told.filter((number) => number === 7).length", 2);
    windows.push(window(&browser, &url));
    wait_for(&windows[0], "told.includes(0)", true);
    running.tell(2, &[(video(1), 4)]);
    wait_for_all(&running, &windows, "4");
    assert_eq!(read(&windows[0], "told.at(-1)"), json!(7));
}

/// The first window brings the stream; the ways in which it can go.
#[test]
fn a_window_that_goes_is_replaced() {
    let Some(browser) = launch() else { return };
    let running = start();
    let url = running.dashboard.url();
    let mut plays = 0;
    let mut check = |go: &dyn Fn(&Tab)| {
        let first = window(&browser, &url);
        wait_for(&first, &text("#live-text"), "live");
        let others: Vec<_> = (0..2).map(|_| window(&browser, &url)).collect();
        for tab in &others {
            wait_for(tab, &text("#live-text"), "live");
        }
        assert_eq!(streams(&running), 1);
        go(&first);
        plays += 1;
        running.tell(plays, &[(video(1), plays)]);
        for tab in &others {
            wait_for(tab, &text("#total-plays"), plays.to_string());
            wait_for(tab, &text("#live-text"), "live");
        }
        for tab in [&[first], &others[..]].concat() {
            let _ = tab.close(false);
        }
        wait_until("nobody listens", || streams(&running) == 0);
    };
    check(&|tab| {
        tab.close(false).unwrap();
    });
    // A page in the back-forward cache.
    check(&|tab| {
        tab.navigate_to("about:blank").unwrap().wait_until_navigated().unwrap();
    });
    // One that does nothing for a while keeps its connection, and what it was for goes on.
    check(&|tab| {
        let hang =
            "setTimeout(() => { const end = Date.now() + 12000; while (Date.now() < end); }); 0";
        assert_eq!(read(tab, hang), json!(0));
    });
}
