//! The page in a real Chromium: it loads whole, moves without a reload, and shows strangers' text as text. Its view of the
//! queue is in `page_queue`, what else its views do in `page_views`.

use std::path::PathBuf;

use headless_chrome::Tab;
use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption;
use playcounts::dashboard::Dashboard;
use playcounts::nsqd::depth::QueueDepth;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Queue, Running, config, consumption, start, video};
use crate::page_support::{MARKUP, PLAYS, click, launch, open, read, text, wait_for};
use playcounts::model::video_id::VideoId;

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
    wait_for(&tab, "document.querySelectorAll('#view-overview .chart canvas').length", 4);
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

    // The badge's dot beats with the numbers, and nothing is drawn between them.
    for opacity in ["0.35", "1", "0.35"] {
        wait_for(&tab, "getComputedStyle(document.querySelector('#live .dot')).opacity", opacity);
    }
    wait_for(&tab, "document.getAnimations().length", 0);

    // Strangers' text is text.
    let report = json!({"processor": Uuid::from_u128(1), "consumption": consumption(Some(MARKUP))});
    running.post("/api/consumption", &report, 200);
    wait_for(&tab, &text(".rejection"), format!("Last rejected: {MARKUP}"));
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    assert_eq!(read(&tab, "document.title.replace('⚠ ', '')"), json!("playcounts"));
    complaints.assert_none();
}

/// Opens the video that was searched for, and goes back to what was on show.
fn check_video_and_way_back(tab: &Tab) {
    click(tab, "#videos-rows .row:not([hidden]) a");
    wait_for(tab, &text("#video-id"), video(10).to_string());
    wait_for(tab, &text("#video-plays"), "10,001");
    wait_for(tab, &text("#video-rank"), "1,006");
    wait_for(tab, "document.querySelectorAll('#view-video .chart canvas').length", 3);
    wait_for(
        tab,
        "document.querySelector('#heat-text').textContent.startsWith('Most plays: ')",
        true,
    );
    assert_eq!(read(tab, "document.querySelector('#video-error').hidden"), json!(true));
    let export = read(
        tab,
        "fetch(document.querySelector('#video-exports a').href).then((answer) => answer.status)",
    );
    assert!(export.is_null() || export == json!({}), "{export}");
    read(tab, "history.back()");
    wait_for(tab, "document.querySelector('#search').value", "0a");
    wait_for(tab, PLAYS, "10,001");
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
                (VideoId::from_u128(u128::from(version * 20 + n + 1)), 1_000_000 + version * 20 + n)
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

    check_video_and_way_back(&tab);
    complaints.assert_none();

    // What is not found is said, and what is typed is text.
    let set = format!(
        "(() => {{ const box = document.getElementById('search'); box.focus(); box.value = {}; box.dispatchEvent(new Event('input')); }})()",
        json!("<img src=x onerror=alert(1)>")
    );
    read(&tab, &set);
    wait_for(&tab, "document.getElementById('videos-empty').hidden", false);
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

/// How long after an event was made it is drawn.
#[allow(clippy::print_stdout, reason = "it is what it is for")]
fn print_lags(tab: &Tab, url: &str) {
    let lags = "new Promise((done) => { const lags = []; const events = new EventSource('/events'); \
        events.addEventListener('stats', (event) => requestAnimationFrame(() => requestAnimationFrame(() => { \
            lags.push(Date.now() - JSON.parse(event.data).stats.time); \
            if (lags.length === 40) { events.close(); done(lags.slice(1).sort((a, b) => a - b).join(' ')); } }))); })";
    tab.navigate_to(url).unwrap().wait_until_navigated().unwrap();
    let found = tab.evaluate(lags, true).unwrap().value.unwrap();
    println!("event made to two frames later, ms: {}", found.as_str().unwrap());
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
        "(() => { const ask = new XMLHttpRequest(); ask.open('GET', '/api/counts?limit=1', false); ask.send(); return ask.responseText; })()",
    );
    let first: Value = serde_json::from_str(first.as_str().unwrap()).unwrap();
    let first = &first["counts"][0];
    let views = [
        (
            "overview",
            "/?range=7d".to_owned(),
            "document.querySelectorAll('#top-rows tr').length === 10",
        ),
        (
            "videos",
            "/?view=videos".to_owned(),
            "document.querySelectorAll('#videos-rows .row:not([hidden]):not(.pending)').length > 5",
        ),
        (
            "video",
            format!("/?view=video&video={}", first["video_id"].as_str().unwrap()),
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
    print_lags(&tab, &url);
    let texts = complaints.texts.lock();
    // A stream that is left by the next page is no complaint.
    assert!(texts.iter().all(|text| text.contains("EventSource")), "{texts:?}");
}
