//! The page in a real Chromium: it loads whole, moves without a reload, and shows strangers' text as text.
//!
//! Chromium is `$CHROME` or /usr/bin/chromium. Without one the test says so and passes, except where it is
//! required: with `CI=true` or `REQUIRE_CHROMIUM=1` it fails.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headless_chrome::protocol::cdp::Emulation::{
    MediaFeature, SetDeviceMetricsOverride, SetEmulatedMedia,
};
use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::{Browser, LaunchOptions, Tab};
use nsq_protocol::{Compression, Consumer, ConsumerConfig, Producer, ProducerConfig, StatsFilter};
use parking_lot::Mutex;

use playcounts::dashboard::{Dashboard, WatchedQueue};
use playcounts::nsqd::depth::QueueDepth;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{DEADLINE, Queue, Running, config, consumption, start, video};
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::support::{Broker, on_both_brokers};

/// Runs wherever it is shown as markup.
const MARKUP: &str = "<img src=x onerror=\"document.title='broken in'\">";

/// How often the page is asked whether it has come so far. What it shows has no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Chromium, or `None` where its absence is excused.
pub(crate) fn launch() -> Option<Browser> {
    launch_with(&[])
}

/// The same with more arguments.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn launch_with(more: &[&str]) -> Option<Browser> {
    let path = std::env::var_os("CHROME")
        .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !path.exists() {
        let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
        assert!(
            !set("CI", "true") && !set("REQUIRE_CHROMIUM", "1"),
            "no Chromium at {}",
            path.display()
        );
        eprintln!(
            "SKIPPED: the page was NOT tested: no Chromium at {}; set CHROME",
            path.display()
        );
        return None;
    }
    let quiet = [
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ];
    let options = LaunchOptions::default_builder()
        .path(Some(path))
        // Chromium's own sandbox refuses to run as root, as containers do.
        .sandbox(false)
        .window_size(Some((1280, 900)))
        // The default of 30 s ends the session while a loaded machine still starts it.
        .idle_browser_timeout(Duration::from_secs(120))
        .args(quiet.iter().chain(more).map(OsStr::new).collect())
        .build()
        .unwrap();
    Some(Browser::new(options).unwrap())
}

/// What went wrong in the page: failed loads, refusals, errors on the console.
#[derive(Clone, Default)]
pub(crate) struct Complaints {
    pub(crate) texts: Arc<Mutex<Vec<String>>>,
    loaded: Arc<Mutex<Vec<String>>>,
}

impl Complaints {
    fn listen(tab: &Tab) -> Self {
        let complaints = Self::default();
        tab.enable_log().unwrap().enable_runtime().unwrap();
        // Handles nothing: it is what switches the events of the network on.
        tab.register_response_handling("on", Box::new(|_, _| {})).unwrap();
        let (texts, loaded) = (Arc::clone(&complaints.texts), Arc::clone(&complaints.loaded));
        tab.add_event_listener(Arc::new(move |event: &Event| {
            let text = match event {
                Event::LogEntryAdded(entry) => format!("{:?}", entry.params.entry),
                Event::RuntimeExceptionThrown(thrown) => {
                    format!("{:?}", thrown.params.exception_details)
                }
                Event::NetworkLoadingFailed(failed) => format!("{:?}", failed.params),
                Event::RuntimeConsoleAPICalled(call) => format!("{:?}", call.params),
                Event::NetworkResponseReceived(response) => {
                    let response = &response.params.response;
                    loaded.lock().push(response.url.clone());
                    if response.status < 400 {
                        return;
                    }
                    format!("{} {}", response.status, response.url)
                }
                _ => return,
            };
            texts.lock().push(text);
        }))
        .unwrap();
        complaints
    }

    #[track_caller]
    pub(crate) fn assert_none(&self) {
        assert_eq!(*self.texts.lock(), Vec::<String>::new());
    }
}

pub(crate) fn read(tab: &Tab, expression: &str) -> Value {
    tab.evaluate(expression, false).unwrap().value.unwrap_or(Value::Null)
}

/// Waits until `expression` is `wanted` in the page.
#[track_caller]
pub(crate) fn wait_for(tab: &Tab, expression: &str, wanted: impl Into<Value>) {
    let wanted = wanted.into();
    let deadline = Instant::now() + DEADLINE;
    let (_source, never) = nsq_protocol::thread::stop_pair();
    loop {
        let found = read(tab, expression);
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{expression} is {found}, not {wanted}");
        never.wait(LOOK_EVERY);
    }
}

pub(crate) fn text(selector: &str) -> String {
    format!("document.querySelector({selector:?}).textContent")
}

/// The plays of the rows on show in the list of videos, from the top.
pub(crate) const PLAYS: &str = "[...document.querySelectorAll('#videos-rows .row:not([hidden])')]\
    .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((row) => row.querySelector('.plays').textContent).join(' ')";

pub(crate) fn click(tab: &Tab, selector: &str) {
    tab.evaluate(&format!("document.querySelector({selector:?}).click()"), false).unwrap();
}

pub(crate) fn open(browser: &Browser, url: &str) -> (Arc<Tab>, Complaints) {
    let tab = browser.new_tab().unwrap();
    tab.set_default_timeout(DEADLINE);
    let complaints = Complaints::listen(&tab);
    tab.navigate_to(url).unwrap().wait_until_navigated().unwrap();
    (tab, complaints)
}

#[test]
fn page_is_whole_and_moves_without_a_reload() {
    let Some(browser) = launch() else { return };
    let queue = Queue::start(QueueDepth { depth: 1234, in_flight: 5, deferred: 0 });
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.watched = Some(queue.watched.clone());
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let counts: Vec<_> = (1..=15).map(|first| (video(first), u64::from(first) * 1000)).collect();
    running.tell(1, &counts);
    let (tab, complaints) = open(&browser, &running.dashboard.url());

    wait_for(&tab, &text("#total-plays"), "120,000");
    wait_for(&tab, &text("#total-videos"), "15");
    wait_for(&tab, &text("#live-text"), "live");
    wait_for(&tab, &text("#depth"), "1,234");
    wait_for(&tab, "document.querySelectorAll('#view-overview .chart canvas').length", 3);
    wait_for(&tab, &text("#configuration dd"), "100,000");
    wait_for(&tab, "document.querySelectorAll('#top-rows tr').length", 10);
    wait_for(&tab, &text("#top-rows .plays"), "15,000");
    let loaded = complaints.loaded.lock().clone();
    for file in [
        "/app.js",
        "/videos.js",
        "/charts.js",
        "/queue.js",
        "/style.css",
        "/uplot/uPlot.iife.min.js",
    ] {
        assert!(loaded.iter().any(|url| url.ends_with(file)), "{file} was not loaded: {loaded:?}");
    }

    // It moves by itself, and elements and the reader's place stay.
    read(
        &tab,
        "window.mark = document.querySelector('#top-rows').rows[3]; document.getElementById('top-limit').focus()",
    );
    running.tell(2, &[(video(1), 50_000), (video(16), 7)]);
    wait_for(&tab, &text("#total-plays"), "169,007");
    wait_for(&tab, &text("#top-rows .plays"), "50,000");
    assert_eq!(
        read(&tab, "window.mark === document.querySelector('#top-rows').rows[3]"),
        json!(true)
    );
    assert_eq!(read(&tab, "document.activeElement.id"), json!("top-limit"));
    complaints.assert_none();

    // Strangers' text is text.
    let report = json!({"processor": Uuid::from_u128(1), "consumption": consumption(Some(MARKUP))});
    running.post("/api/consumption", &report, 200);
    wait_for(&tab, &text(".rejection"), format!("Last rejected: {MARKUP}"));
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    assert_eq!(read(&tab, "document.title"), json!("playcounts"));
    complaints.assert_none();
}

#[test]
fn page_lists_sorts_searches_scrolls_and_opens_a_video() {
    let Some(browser) = launch() else { return };
    let running = start();
    let counts: Vec<_> = (1..=15).map(|first| (video(first), u64::from(first) * 1000)).collect();
    running.tell(1, &counts);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#live-text"), "live");
    click(&tab, "nav a[data-view=videos]");
    wait_for(&tab, "location.search", "?view=videos");
    let plays = |order: &mut dyn Iterator<Item = u64>| {
        order.map(|n| format!("{n},000")).collect::<Vec<_>>().join(" ")
    };
    wait_for(&tab, PLAYS, plays(&mut (1..=15).rev()));
    click(&tab, "[data-sort=plays] button");
    wait_for(&tab, PLAYS, plays(&mut (1..=15)));
    assert_eq!(
        read(&tab, "document.querySelector('[data-sort=plays]').ariaSort"),
        json!("ascending")
    );
    wait_for(&tab, "location.search", "?view=videos&sort=plays");

    // Far away, and back, by keys.
    for version in 0..50u64 {
        let more: Vec<_> = (0..20)
            .map(|n| {
                (Uuid::from_u128(u128::from(version * 20 + n + 1)), 1_000_000 + version * 20 + n)
            })
            .collect();
        running.tell(version + 2, &more);
    }
    wait_for(&tab, "document.querySelector('#videos').ariaRowCount", "1016");
    read(&tab, "document.querySelector('#videos').focus()");
    tab.press_key("End").unwrap();
    wait_for(&tab, &format!("({PLAYS}).endsWith('1,000,998 1,000,999')"), true);
    tab.press_key("Home").unwrap();
    wait_for(&tab, &format!("({PLAYS}).startsWith('1,000 2,000 ')"), true);

    // Searching, and a live count while searching.
    read(&tab, "document.querySelector('#search').focus()");
    tab.type_str("0a").unwrap();
    wait_for(&tab, PLAYS, "10,000");
    running.tell(99, &[(video(10), 10_001)]);
    wait_for(&tab, PLAYS, "10,001");

    // A video, and the way back to what was on show.
    click(&tab, "#videos-rows .row:not([hidden]) a");
    wait_for(&tab, &text("#video-id"), video(10).to_string());
    wait_for(&tab, &text("#video-plays"), "10,001");
    wait_for(&tab, &text("#video-rank"), "1,006");
    wait_for(&tab, "document.querySelectorAll('#view-video .chart canvas').length", 3);
    wait_for(
        &tab,
        "document.querySelector('#heat-text').textContent.startsWith('Most plays: ')",
        true,
    );
    assert_eq!(read(&tab, "document.querySelector('#video-error').hidden"), json!(true));
    let export = read(
        &tab,
        "fetch(document.querySelector('#video-exports a').href).then((answer) => answer.status)",
    );
    assert!(export.is_null() || export == json!({}), "{export}");
    read(&tab, "history.back()");
    wait_for(&tab, "document.querySelector('#search').value", "0a");
    wait_for(&tab, PLAYS, "10,001");
    complaints.assert_none();

    // What is refused is said, as text.
    let set = format!(
        "(() => {{ const box = document.getElementById('search'); box.focus(); box.value = {}; box.dispatchEvent(new Event('input')); }})()",
        json!("<img src=x onerror=alert(1)>")
    );
    read(&tab, &set);
    wait_for(
        &tab,
        &text("#videos-error"),
        r#"search takes the start of a video id, digits 0-9 a-f and dashes, not "<img src=x onerror=alert(1)>""#,
    );
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
}

#[test]
fn page_changes_the_range_and_shows_the_queue() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 70), (video(2), 30)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &format!("{}.startsWith('100 plays of 2 videos')", text("#top-summary")), true);
    for (range, more) in [("today", "?range=today"), ("7d", "?range=7d"), ("30d", "?range=30d")] {
        click(&tab, &format!("button[data-range='{range}']"));
        wait_for(&tab, "location.search", more);
        wait_for(
            &tab,
            &format!("document.querySelector(\"button[data-range='{range}']\").ariaPressed"),
            "true",
        );
        wait_for(
            &tab,
            &format!("{}.startsWith('100 plays of 2 videos')", text("#top-summary")),
            true,
        );
    }
    read(&tab, "history.back()");
    wait_for(&tab, "location.search", "?range=7d");
    assert_eq!(read(&tab, "document.querySelector('#range-error').hidden"), json!(true));
    click(&tab, "nav a[data-view=queue]");
    wait_for(&tab, "document.querySelectorAll('.findings li').length > 0", true);
    wait_for(
        &tab,
        "document.querySelector('.findings').textContent.includes('No processor has reported')",
        true,
    );
    click(&tab, "nav a[data-view=help]");
    wait_for(&tab, "document.querySelector('#view-help').hidden", false);
    complaints.assert_none();
}

/// The text of the cell of that column in the row with that key of the queue's view.
fn cell(key: &str, column: &str) -> String {
    format!(
        "(() => {{ const row = [...document.querySelectorAll('#queue tbody tr')].find((row) => row.dataset.key === {key:?}); \
            const at = row && [...row.closest('table').tHead.rows[0].cells].findIndex((cell) => cell.textContent === {column:?}); \
            return row ? row.cells[at].textContent : null; }})()"
    )
}

#[test]
fn page_pauses_a_channel_when_its_name_is_typed() {
    let Some(browser) = launch() else { return };
    on_both_brokers(|_, broker| {
        let (topic, channel) = ("plays".parse().unwrap(), "processor".parse().unwrap());
        let admin = nsq_protocol::Admin::new(&broker.http());
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &channel).unwrap();
        let mut consumer = ConsumerConfig::new(topic, channel).nsqd(broker.tcp());
        consumer.connection.compression = Compression::Snappy;
        consumer.connection.user_agent = MARKUP.to_owned();
        let consumer = Consumer::start(consumer).unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut config = config(&data);
        config.write_token = Some("the-secret".to_owned());
        let (nsqds, lookupds) = (vec![broker.http()], Vec::new());
        config.watched =
            Some(WatchedQueue { nsqds, lookupds, topic, channel, depth_alert: Some(20) });
        let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
        let (tab, complaints) = open(&browser, &format!("{}/?view=queue", running.dashboard.url()));
        wait_for(&tab, &cell("plays/processor", "State"), "open");
        wait_for(&tab, &cell("plays/processor", "Consumers"), "1");
        // Who consumes, and how; what a consumer calls itself is text.
        read(&tab, "document.querySelector('#queue details summary').click()");
        let consumer_row = "document.querySelector('#queue details tbody tr').textContent";
        wait_for(&tab, &format!("{consumer_row}.includes({})", json!(MARKUP)), true);
        // The embedded broker offers no compression.
        let transport = if matches!(broker, Broker::Real(_)) { "snappy" } else { "plain" };
        wait_for(&tab, &format!("{consumer_row}.includes('{transport}')"), true);
        assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));

        click(&tab, "button[aria-label='Choose an action for plays/processor']");
        wait_for(&tab, "document.activeElement.closest('dialog') !== null", true);
        let field = |number: usize| {
            format!("document.querySelectorAll('dialog[open] input')[{number}].focus()")
        };
        read(&tab, &field(3));
        tab.type_str("the-secret").unwrap();
        read(&tab, &field(2));
        tab.type_str("plays").unwrap();
        tab.press_key("Enter").unwrap();
        wait_for(
            &tab,
            "document.querySelector('dialog[open] .error').textContent.startsWith('confirm must be')",
            true,
        );
        let is_paused = || {
            admin.stats(&StatsFilter::default()).unwrap().channel(&topic, &channel).unwrap().paused
        };
        assert!(!is_paused());
        read(&tab, &field(2));
        tab.type_str("/processor").unwrap();
        complaints.texts.lock().clear();
        click(&tab, "dialog[open] button.danger");
        wait_for(&tab, "document.querySelector('dialog[open]') === null", true);
        assert!(is_paused());
        wait_for(&tab, &cell("plays/processor", "State"), "paused");
        wait_for(
            &tab,
            "document.querySelector('.findings').textContent.includes('is paused')",
            true,
        );
        complaints.assert_none();
        // Something new.
        click(&tab, "button[aria-label^='Create a topic or channel']");
        for (number, typed) in [(0, "made"), (1, "c"), (2, "made/c")] {
            read(&tab, &field(number));
            tab.type_str(typed).unwrap();
        }
        // Its topic comes first, says nsqd.
        click(&tab, "dialog[open] button.danger");
        wait_for(
            &tab,
            "document.querySelector('dialog[open] .error').textContent.startsWith('there is no topic made')",
            true,
        );
        for number in [1, 2] {
            read(
                &tab,
                &format!("document.querySelectorAll('dialog[open] input')[{number}].value = ''"),
            );
        }
        read(&tab, &field(2));
        tab.type_str("made").unwrap();
        complaints.texts.lock().clear();
        click(&tab, "dialog[open] button.danger");
        wait_for(&tab, "document.querySelector('dialog[open]') === null", true);
        wait_for(&tab, &cell("made", "State"), "open");

        // What passes by is shown as text, and the channel has it all the same.
        click(&tab, "button[aria-label='Peek at the messages of plays']");
        read(&tab, "document.querySelector('dialog[open] select').value = '1'");
        read(&tab, "document.querySelector('dialog[open] form').requestSubmit()");
        wait_for(
            &tab,
            "document.querySelector('dialog[open] [role=status]').textContent",
            "Waiting for messages…",
        );
        let producer = Producer::connect(ProducerConfig::new().nsqd(broker.tcp())).unwrap();
        let mut published = 0;
        let body =
            "document.querySelector('dialog[open] tbody tr')?.lastElementChild.textContent ?? ''";
        let deadline = Instant::now() + DEADLINE;
        while read(&tab, body) != json!(MARKUP) {
            assert!(Instant::now() < deadline, "nothing is shown");
            producer.publish(&topic, MARKUP.as_bytes()).unwrap();
            published += 1;
        }
        assert_eq!(read(&tab, "document.querySelectorAll('dialog img').length"), json!(0));
        tab.press_key("Escape").unwrap();
        wait_for(&tab, "document.querySelector('dialog[open]') === null", true);
        let told = admin.stats(&StatsFilter::default()).unwrap();
        assert_eq!(told.channel(&topic, &channel).unwrap().message_count, published);
        complaints.assert_none();
        // Escape leaves it alone.
        click(&tab, "button[aria-label='Choose an action for plays']");
        tab.press_key("Escape").unwrap();
        wait_for(&tab, "document.querySelector('dialog[open]') === null", true);
        tab.close(true).unwrap();
        consumer.stop();
    });
}

#[test]
fn page_sums_over_the_nsqds_of_an_nsqlookupd() {
    let Some(browser) = launch() else { return };
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let program = nsqd::find().unwrap();
    let register = format!("--lookupd-tcp-address={}", lookupd.tcp);
    // The second one measures how long messages take.
    let measure = "--e2e-processing-latency-percentile=0.5,0.99";
    let nsqds = ["--mem-queue-size=1", measure]
        .map(|more| Nsqd::start(&program, &[&register, "--mem-queue-size=1", more]));
    let (topic, channel) = ("plays".parse().unwrap(), "processor".parse().unwrap());
    for nsqd in &nsqds {
        let admin = nsq_protocol::Admin::new(&nsqd.http_addr());
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &channel).unwrap();
        let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
        (0..10).for_each(|_| producer.publish(&topic, b"{}").unwrap());
    }
    let consumer = ConsumerConfig::new(topic, "other".parse().unwrap()).nsqd(nsqds[1].addr());
    let consumer = Consumer::start(consumer).unwrap();
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqds[1].addr())).unwrap();
    producer.publish(&topic, b"{}").unwrap();
    consumer.batches().recv().unwrap().finish();
    consumer.stop();
    nsq_protocol::Admin::new(&nsqds[0].http_addr()).pause_channel(&topic, &channel).unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    let at = lookupd.http.to_string();
    let (watched, lookupds) = (Vec::new(), vec![at.clone()]);
    config.watched =
        Some(WatchedQueue { nsqds: watched, lookupds, topic, channel, depth_alert: Some(20) });
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let (tab, complaints) = open(&browser, &format!("{}/?view=queue", running.dashboard.url()));
    wait_for(&tab, &cell(&at, "State"), "answers");
    wait_for(&tab, &cell(&at, "nsqds that it names"), "2");
    wait_for(&tab, "document.querySelectorAll('.nsqds > section').length", 2);
    // The first table with that row is the one of the sums.
    wait_for(&tab, &cell("plays/processor", "nsqds"), "2");
    wait_for(&tab, &cell("plays/processor", "Waiting"), "21");
    wait_for(&tab, &cell("plays/processor", "State"), "paused at 1 of 2");
    wait_for(&tab, &format!("Number({}) > 10", cell("plays/processor", "On disk")), true);
    // Its columns are there where an nsqd measures, and only there.
    let head = |text: &str| {
        format!(
            "[...document.querySelectorAll('.nsqds > section')].map((box) => box.textContent.includes('{text}')).sort().join()"
        )
    };
    wait_for(&tab, &head("p50"), "false,true");
    wait_for(&tab, &head("p99"), "false,true");
    let measured = "[...document.querySelectorAll('.nsqds tbody tr')].some((row) => \
        row.dataset.key === 'plays/other' && /[0-9] (µs|ms|s)/.test(row.cells[11].textContent))";
    wait_for(&tab, measured, true);
    // At a glance, in words and not by colour alone.
    click(&tab, "nav a[data-view=overview]");
    wait_for(
        &tab,
        &format!("{}.startsWith('⚠ more than 20; paused; ')", text("#depth-more")),
        true,
    );
    assert_eq!(read(&tab, "document.querySelector('#depth-tile').dataset.alert"), json!("true"));
    complaints.assert_none();
}

/// What a browser does that opens a page: six connections at a time, twenty times in a row.
#[test]
fn page_loads_twenty_times_and_nothing_is_left_unanswered() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    for round in 0..20 {
        wait_for(&tab, &text("#total-plays"), "3");
        wait_for(&tab, &text("#live-text"), "live");
        // The answers of six calls at once, and every file: none waits.
        let six = "Promise.all(['counts', 'stats', 'series', 'top', 'queue', 'audit'].map((name) => \
            fetch(`/api/${name}`).then((answer) => answer.text()))).then((texts) => texts.length)";
        let answered = tab.evaluate(six, true).unwrap().value;
        assert_eq!(answered, Some(json!(6)), "round {round}");
        let waiting = "performance.getEntriesByType('resource').filter((entry) => entry.responseEnd === 0).map((entry) => entry.name).join()";
        assert_eq!(read(&tab, waiting), json!(""), "round {round}");
        tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
    }
    // A stream that is left by a reload is no complaint.
    let texts: Vec<_> = complaints
        .texts
        .lock()
        .iter()
        .filter(|text| !text.contains("EventSource") && !text.contains("ABORTED"))
        .cloned()
        .collect();
    assert_eq!(texts, Vec::<String>::new());
}

/// axe-core (npm), where `scripts/test` has put it, or where `$AXE` says.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn axe() -> Option<String> {
    let path = std::env::var_os("AXE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/axe/package/axe.min.js"),
        PathBuf::from,
    );
    let script = std::fs::read_to_string(&path).ok();
    if script.is_none() {
        assert!(
            !std::env::var("CI").is_ok_and(|ci| ci == "true"),
            "no axe-core at {}",
            path.display()
        );
        eprintln!(
            "SKIPPED: accessibility was NOT tested: no axe-core at {}; set AXE",
            path.display()
        );
    }
    script
}

/// Every view, light and dark, wide and on a phone: no violation that axe-core finds; and a picture of each in
/// `target/screenshots`.
#[test]
fn page_is_accessible_in_every_view() {
    let Some(browser) = launch() else { return };
    let Some(axe) = axe() else { return };
    let queue = Queue::start(QueueDepth { depth: 1234, in_flight: 5, deferred: 0 });
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.watched = Some(queue.watched.clone());
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let counts: Vec<_> =
        (1..=20).map(|first| (video(first), u64::from(first).pow(3) * 17)).collect();
    running.tell(1, &counts);
    let report =
        json!({"processor": Uuid::from_u128(1), "consumption": consumption(Some("no play"))});
    running.post("/api/consumption", &report, 200);
    let pictures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    let (tab, _complaints) = open(&browser, &running.dashboard.url());
    let views = [
        ("overview", "/".to_owned(), "document.querySelectorAll('#top-rows tr').length === 10"),
        (
            "videos",
            "/?view=videos".to_owned(),
            "document.querySelectorAll('#videos-rows .row:not([hidden])').length > 5",
        ),
        (
            "video",
            format!("/?view=video&video={}", video(20)),
            "document.querySelector('#heat-text').textContent.startsWith('Most plays: ')",
        ),
        (
            "counter",
            format!("/?view=counter&video={}", video(20)),
            "document.querySelector('#counter-figure').textContent === '136,000'",
        ),
        (
            "queue",
            "/?view=queue".to_owned(),
            "document.querySelectorAll('#queue tbody tr').length >= 3",
        ),
        ("help", "/?view=help".to_owned(), "!document.querySelector('#view-help').hidden"),
    ];
    let mut violations = Vec::new();
    for (look, dark, width, height) in
        [("light", false, 1280, 900), ("dark", true, 1280, 900), ("phone", false, 390, 844)]
    {
        let scheme = MediaFeature {
            name: "prefers-color-scheme".to_owned(),
            value: if dark { "dark" } else { "light" }.to_owned(),
        };
        let media = SetEmulatedMedia { media: None, features: Some(vec![scheme]) };
        tab.call_method(media).unwrap();
        let screen = SetDeviceMetricsOverride {
            width,
            height,
            device_scale_factor: 1.0,
            mobile: width < 500,
            scale: None,
            screen_width: None,
            screen_height: None,
            position_x: None,
            position_y: None,
            dont_set_visible_size: None,
            screen_orientation: None,
            viewport: None,
            display_feature: None,
            device_posture: None,
        };
        tab.call_method(screen).unwrap();
        for (view, path, ready) in &views {
            let url = format!("{}{path}", running.dashboard.url());
            tab.navigate_to(&url).unwrap().wait_until_navigated().unwrap();
            wait_for(&tab, ready, true);
            wait_for(&tab, &text("#live-text"), "live");
            let picture = tab
                .capture_screenshot(CaptureScreenshotFormatOption::Png, None, None, true)
                .unwrap();
            std::fs::write(pictures.join(format!("{view}-{look}.png")), picture).unwrap();
            // On a phone nothing is wider than the screen.
            let wide = read(&tab, "document.documentElement.scrollWidth > innerWidth");
            if wide == json!(true) {
                violations.push(format!("{view} {look}: wider than the screen"));
            }
            tab.evaluate(&axe, false).unwrap();
            let run = "axe.run(document).then((found) => JSON.stringify(found.violations.map((one) => \
                `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`)))";
            let found = tab.evaluate(run, true).unwrap().value.unwrap();
            let found: Vec<String> = serde_json::from_str(found.as_str().unwrap()).unwrap();
            violations.extend(found.into_iter().map(|one| format!("{view} {look}: {one}")));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// Pictures of a running dashboard, for `docs/`, and how long its page takes.
#[test]
#[ignore = "for a running dashboard: URL=http://127.0.0.1:8000 cargo test --test it -- --ignored --nocapture page::pictures"]
#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn pictures() {
    let Some(browser) = launch() else { return };
    let url = std::env::var("URL").unwrap();
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs");
    let (tab, complaints) = open(&browser, &url);
    wait_for(&tab, &text("#live-text"), "live");
    let first = read(
        &tab,
        "(() => { const ask = new XMLHttpRequest(); ask.open('GET', '/api/counts?limit=1', false); ask.send(); return JSON.parse(ask.responseText).counts[0].video_id; })()",
    );
    let views = [
        ("overview", "/".to_owned(), "document.querySelectorAll('#top-rows tr').length === 10"),
        (
            "videos",
            "/?view=videos".to_owned(),
            "document.querySelectorAll('#videos-rows .row:not([hidden]):not(.pending)').length > 5",
        ),
        (
            "video",
            format!("/?view=video&video={}", first.as_str().unwrap()),
            "document.querySelector('#heat-text').textContent.startsWith('Most plays: ')",
        ),
        (
            "queue",
            "/?view=queue".to_owned(),
            "document.querySelectorAll('#queue tbody tr').length >= 3",
        ),
    ];
    let when = |ready: &str| {
        let wait = format!(
            "new Promise((done) => {{ const look = () => requestAnimationFrame(() => ({ready}) ? done(performance.now()) : look()); look(); }})"
        );
        tab.evaluate(&wait, true).unwrap().value.unwrap().as_f64().unwrap()
    };
    for (view, path, ready) in &views {
        let mut times = Vec::new();
        for _ in 0..5 {
            tab.navigate_to(&format!("{url}{path}")).unwrap().wait_until_navigated().unwrap();
            times.push(when(ready));
        }
        times.sort_unstable_by(f64::total_cmp);
        println!(
            "{view}: shown {:.0} ms after the navigation began (median of 5; longest {:.0})",
            times[2], times[4]
        );
        wait_for(&tab, &text("#live-text"), "live");
        let picture =
            tab.capture_screenshot(CaptureScreenshotFormatOption::Png, None, None, true).unwrap();
        std::fs::write(docs.join(format!("{view}.png")), picture).unwrap();
    }
    let lags = "new Promise((done) => { const lags = []; const events = new EventSource('/events'); \
        events.addEventListener('stats', (event) => requestAnimationFrame(() => requestAnimationFrame(() => { \
            lags.push(Date.now() - JSON.parse(event.data).stats.time); \
            if (lags.length === 40) { events.close(); done(lags.slice(1).sort((a, b) => a - b).join(' ')); } }))); })";
    tab.navigate_to(&url).unwrap().wait_until_navigated().unwrap();
    let found = tab.evaluate(lags, true).unwrap().value.unwrap();
    println!("event made to two frames later, ms: {}", found.as_str().unwrap());
    let texts = complaints.texts.lock();
    // A stream that is left by the next page is no complaint.
    assert!(texts.iter().all(|text| text.contains("EventSource")), "{texts:?}");
}
