//! What is wrong, as the page says it on every view, in the tab's title and icon, and in the background; in a real Chromium.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headless_chrome::Tab;
use headless_chrome::protocol::cdp::Browser::{GrantPermissions, PermissionType};
use nsq_protocol::thread::{Crew, stop_pair};
use playcounts::dashboard::{Dashboard, DashboardConfig};
use playcounts::nsqd::depth::QueueDepth;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Queue, Running, ask, config, consumption, video};
use crate::page_accessibility::{axe, show_as, violations_in};
use crate::page_support::{click, launch, open, read, text, wait_for};
use crate::streams::ChildDashboard;
use crate::support::wait_until;

/// The icon that the tab shows.
const ICON: &str = "document.querySelector('link[rel=icon]').getAttribute('href')";

/// Whether the banner is seen, and what it lists.
const BANNER: &str = "[...document.querySelectorAll('#alarms:not([hidden]) li')].map((one) => one.dataset.alarm).join(' ')";

/// The mark at "Queue", as a screen reader reads it.
const MARK: &str = "document.querySelector('#queue-mark:not([hidden])')?.textContent ?? ''";

/// A dashboard that raises an alarm 6 s after the last play was counted, the one that is raised soonest.
fn start_idle() -> Running {
    let data = tempfile::tempdir().unwrap();
    let config = DashboardConfig { idle_alert: Some(Duration::from_secs(1)), ..config(&data) };
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

/// A processor that reports twice a second, and counts a play each time while it is to.
struct Processor {
    counts: Arc<AtomicBool>,
    _reporting: Crew<()>,
}

impl Processor {
    fn start(running: &Running) -> Self {
        let counts = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = stop_pair();
        let mut reporting = Crew::stopped_by(stop);
        let (address, is_counting) = (running.dashboard.local_addr(), Arc::clone(&counts));
        let report = move || {
            let mut counted = 1u64;
            while !stopped.wait(Duration::from_millis(500)) {
                counted += u64::from(is_counting.load(Ordering::SeqCst));
                let mut told = consumption(None);
                told["counted"] = json!(counted);
                let report = json!({"processor": Uuid::from_u128(1), "consumption": told});
                let report = report.to_string();
                let answer = ask(address, "POST", "/api/consumption", "", report.as_bytes());
                assert_eq!(answer.status, 200);
            }
        };
        reporting.spawn("reports", report).unwrap();
        Self { counts, _reporting: reporting }
    }

    fn count(&self, on: bool) {
        self.counts.store(on, Ordering::SeqCst);
    }
}

/// That nothing is told as wrong.
#[track_caller]
fn wait_for_peace(tab: &Tab) {
    wait_for(tab, BANNER, "");
    wait_for(tab, "document.title", "playcounts");
    wait_for(tab, ICON, "favicon.svg");
    wait_for(tab, MARK, "");
}

/// Looks at the banner in each view, and that it is accessible, light and dark, wide and on a phone.
fn check_views(tab: &Tab) {
    let axe = axe();
    for (view, title) in [
        ("videos", "⚠ Videos – playcounts"),
        ("counter", "⚠ Counter – playcounts"),
        ("queue", "⚠ Queue and health – playcounts"),
        ("help", "⚠ Help – playcounts"),
        ("overview", "⚠ playcounts"),
    ] {
        click(tab, &format!("nav a[data-view={view}]"));
        wait_for(tab, "document.title", title);
        let seen = "document.querySelector('#alarms li').checkVisibility() && \
            document.querySelector('#alarms').getBoundingClientRect().bottom <= document.querySelector('main').getBoundingClientRect().top";
        wait_for(tab, seen, true);
        if view == "videos" {
            // The list leaves room for the banner.
            wait_for(tab, "document.documentElement.scrollHeight <= innerHeight", true);
        }
    }
    for (dark, width) in [(false, 1280), (true, 1280), (false, 390)] {
        show_as(tab, dark, width, 900);
        if let Some(axe) = &axe {
            assert_eq!(violations_in(tab, axe), Vec::<String>::new(), "dark: {dark}, {width} px");
        }
    }
}

#[test]
fn a_few_messages_that_wait_are_no_problem() {
    let Some(browser) = launch() else { return };
    let queue = Queue::start(QueueDepth { depth: 5, in_flight: 5, deferred: 0 });
    let data = tempfile::tempdir().unwrap();
    let config = DashboardConfig { watched: Some(queue.watched.clone()), ..config(&data) };
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let processor = Processor::start(&running);
    processor.count(true);
    let (tab, _complaints) = open(&browser, &format!("{}/?view=queue", running.dashboard.url()));
    let waiting = "document.querySelector('#queue tr[data-key=\"plays/processor\"] td:nth-child(2)')?.textContent";
    wait_for(&tab, waiting, "5");
    let says = "[...document.querySelectorAll('.findings li')].some((one) => /wait|behind/.test(one.textContent))";
    assert_eq!(read(&tab, says), json!(false));
    assert_eq!(read(&tab, BANNER), json!(""));
}

#[test]
fn a_problem_is_told_on_every_view_until_it_is_over_or_hidden() {
    let Some(browser) = launch() else { return };
    let running = start_idle();
    running.tell(1, &[(video(1), 5)]);
    let processor = Processor::start(&running);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#live-text"), "live");
    wait_for(&tab, BANNER, "nothing-counted");
    wait_for(&tab, "document.title", "⚠ playcounts");
    wait_for(&tab, ICON, "favicon-alarm.svg");
    wait_for(&tab, MARK, "1 problem");
    let words = read(&tab, &text("#alarms li p"));
    let words = words.as_str().unwrap();
    assert!(words.starts_with("Stopped: Nothing has been counted for "), "{words}");
    assert!(words.contains("Check that plays are being made, and that "), "{words}");
    let said = read(&tab, &text("#alarm-said"));
    assert!(said.as_str().unwrap().starts_with("Stopped: Nothing has been counted"), "{said}");
    check_views(&tab);
    // The queue's view has the same words.
    click(&tab, "nav a[data-view=queue]");
    let finding = text(".findings li");
    wait_for(
        &tab,
        &format!("{finding}.startsWith('Stopped: Nothing has been counted for ')"),
        true,
    );
    click(&tab, "nav a[data-view=overview]");

    processor.count(true);
    wait_for_peace(&tab);
    wait_for(&tab, &text("#alarm-said"), "No problem any more.");

    // The same again: hidden, it is so in another tab, too; the mark stays.
    processor.count(false);
    wait_for(&tab, BANNER, "nothing-counted");
    let (other, _) = open(&browser, &running.dashboard.url());
    wait_for(&other, BANNER, "nothing-counted");
    click(&other, "#alarms li button");
    for one in [&other, &tab] {
        one.bring_to_front().unwrap();
        wait_for(one, BANNER, "");
        wait_for(one, "document.title", "playcounts");
        wait_for(one, ICON, "favicon.svg");
        wait_for(one, MARK, "1 problem");
    }
    // What ends and begins again is news.
    processor.count(true);
    wait_for(&tab, MARK, "");
    processor.count(false);
    wait_for(&tab, BANNER, "nothing-counted");
    let is_left = |text: &String| text.contains("EventSource");
    assert!(complaints.texts.lock().iter().all(is_left), "{:?}", complaints.texts.lock());
}

#[test]
fn a_tab_in_the_background_tells_of_a_problem() {
    let Some(browser) = launch() else { return };
    let running = start_idle();
    let processor = Processor::start(&running);
    processor.count(true);
    let (tab, _complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#live-text"), "live");
    browser.new_tab().unwrap().bring_to_front().unwrap();
    wait_for(&tab, "document.visibilityState", "hidden");
    wait_for_peace(&tab);
    processor.count(false);
    let alarms = || running.get("/api/alarms").json()["alarms"].as_array().unwrap().len();
    wait_until("nothing is counted", || alarms() == 1);
    wait_for(&tab, "document.title", "⚠ playcounts");
    assert_eq!(read(&tab, "document.visibilityState"), json!("hidden"));
    assert_eq!(read(&tab, ICON), json!("favicon-alarm.svg"));
}

/// Has a page write down which notifications it makes, and which of them the browser has shown.
const WRITE_DOWN: &str = "window.made = []; window.seen = []; const Real = Notification; \
    window.Notification = class extends Real { constructor(title, more) { super(title, more); made.push(`${title}: ${more.body}`); \
    this.addEventListener('show', () => seen.push(title)); } }; 0";

/// Has a page count the tabs that look, or wait to look, at what was notified.
const LOOK_FOR_LOCKS: &str = "setInterval(async () => { const { held, pending } = await navigator.locks.query(); \
    window.locks = [...held, ...pending].filter(({ name }) => name.endsWith(' notify')).length; }, 100); 0";

#[test]
fn a_problem_is_notified_once_for_all_tabs() {
    let Some(browser) = launch() else { return };
    let running = start_idle();
    let processor = Processor::start(&running);
    processor.count(true);
    let url = format!("{}/?view=queue", running.dashboard.url());
    let (tab, _) = open(&browser, &url);
    let permissions = vec![PermissionType::Notifications];
    tab.call_method(GrantPermissions { permissions, origin: None, browser_context_id: None })
        .unwrap();
    let (other, _) = open(&browser, &url);
    for one in [&tab, &other] {
        wait_for(one, &text("#notify-button"), "Notify me in this browser");
        read(one, WRITE_DOWN);
    }
    click(&other, "#notify-button");
    for one in [&tab, &other] {
        wait_for(one, &text("#notify-button"), "Stop notifying me");
    }
    wait_for(&other, "localStorage.getItem('notify-told') !== null", true);
    wait_for(&other, BANNER, "");
    processor.count(false);
    wait_for(&other, BANNER, "nothing-counted");
    wait_for(&tab, "document.title.startsWith('⚠')", true);
    let all = |name: &str| {
        let of = |one| {
            let texts = read(one, &format!("JSON.stringify({name})"));
            serde_json::from_str::<Vec<String>>(texts.as_str().unwrap()).unwrap()
        };
        [of(&tab), of(&other)].concat()
    };
    wait_until("it is shown", || !all("window.seen").is_empty());
    // The other tab has looked, too.
    read(&tab, LOOK_FOR_LOCKS);
    wait_for(&tab, "window.locks", 0);
    let made = all("window.made");
    assert_eq!(made.len(), 1, "{made:?}");
    let text = &made[0];
    assert!(text.starts_with("⚠ playcounts at 127.0.0.1:"), "{text}");
    assert!(text.contains(": Nothing has been counted for "), "{text}");
}

#[test]
fn a_dashboard_that_is_away_is_told_in_plain_words_on_every_view() {
    let Some(browser) = launch() else { return };
    let data = tempfile::tempdir().unwrap();
    let dashboard = ChildDashboard::start(data.path(), "");
    let address = dashboard.address;
    let (tab, _complaints) = open(&browser, &format!("http://{address}"));
    wait_for(&tab, &text("#live-text"), "live");
    drop(dashboard);
    // The queue's view, opened now for the first time, looks as it should.
    click(&tab, "nav a[data-view=queue]");
    let trouble = text("#queue .error");
    let words = "/^The dashboard cannot be reached since \\d\\d:\\d\\d:\\d\\d\\. The page tries again by itself\\.$/";
    wait_for(&tab, &format!("{words}.test({trouble})"), true);
    assert_eq!(
        read(&tab, "getComputedStyle(document.querySelector('#queue')).display"),
        json!("grid")
    );
    let rules = "[...document.styleSheets].find((sheet) => sheet.href.endsWith('/queue.css')).cssRules.length > 10";
    assert_eq!(read(&tab, rules), json!(true));
    for view in ["overview", "videos", "counter", "help"] {
        click(&tab, &format!("nav a[data-view={view}]"));
        wait_for(&tab, "document.querySelector('#alarm-list li')?.dataset.alarm", "unreachable");
        let told = text("#alarm-list li");
        assert_eq!(read(&tab, &format!("{told}.includes('cannot be reached since')")), json!(true));
    }
    wait_for(&tab, ICON, "favicon-alarm.svg");
    assert_eq!(read(&tab, "document.body.textContent.includes('Failed to fetch')"), json!(false));
    click(&tab, "nav a[data-view=queue]");

    let _again = ChildDashboard::start_at(data.path(), "", &address.to_string());
    wait_for(&tab, "document.querySelector('#alarm-list li[data-alarm=unreachable]')", Value::Null);
    wait_for(&tab, "document.querySelector('#queue .error').hidden", true);
}
