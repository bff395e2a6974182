//! Every view of the page in a real Chromium, as axe-core judges it.

use std::path::PathBuf;

use headless_chrome::Tab;
use headless_chrome::protocol::cdp::Emulation::{
    MediaFeature, SetDeviceMetricsOverride, SetEmulatedMedia,
};
use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption;
use playcounts::dashboard::Dashboard;
use playcounts::nsqd::depth::QueueDepth;
use serde_json::json;
use uuid::Uuid;

use crate::dashboard_support::{Queue, Running, config, consumption, shared_ledger, video};
use crate::page_support::{launch, open, read, text, wait_for};

/// axe-core (npm), where `scripts/test` has put it, or where `$AXE` says.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn axe() -> Option<String> {
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

/// Each view, where it is, and what is true once it is whole.
fn views() -> [(&'static str, String, &'static str); 10] {
    [
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
            "compare",
            format!("/?view=compare&videos={},{}", video(20), video(19)),
            "document.querySelectorAll('#compare-rows .note').length === 2",
        ),
        (
            "counter",
            format!("/?view=counter&video={}", video(20)),
            "document.querySelector('#counter-figure').textContent === '136,000'",
        ),
        (
            "queue",
            "/?view=queue".to_owned(),
            "document.querySelectorAll('#queue tbody tr').length >= 8",
        ),
        (
            "topic",
            "/?view=queue&topic=plays".to_owned(),
            "document.querySelectorAll('#queue-drill tbody tr').length >= 2",
        ),
        (
            "channel",
            "/?view=queue&topic=plays&channel=processor".to_owned(),
            "document.querySelectorAll('#queue-drill tbody tr').length >= 2",
        ),
        (
            "letters",
            "/?view=letters".to_owned(),
            "document.querySelectorAll('#letters > li').length === 2",
        ),
        ("help", "/?view=help".to_owned(), "!document.querySelector('#view-help').hidden"),
    ]
}

/// What each look is called, whether it is dark, and the size of the screen.
pub(crate) const LOOKS: [(&str, bool, u32, u32); 3] =
    [("light", false, 1280, 900), ("dark", true, 1280, 900), ("phone", false, 390, 844)];

/// Switches the page to dark or light, and to a screen of that size; below 500 pixels it is a phone.
pub(crate) fn show_as(tab: &Tab, dark: bool, width: u32, height: u32) {
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
}

/// What is wrong with the view on show.
pub(crate) fn violations_in(tab: &Tab, axe: &str) -> Vec<String> {
    // On a phone nothing is wider than the screen.
    let wide = read(tab, "document.documentElement.scrollWidth > innerWidth");
    let mut violations = Vec::new();
    if wide == json!(true) {
        violations.push("wider than the screen".to_owned());
    }
    // A document has it once, however often it is looked at.
    if read(tab, "'axe' in window") == json!(false) {
        tab.evaluate(axe, false).unwrap();
    }
    let run = "axe.run(document, { resultTypes: ['violations'] }).then((found) => JSON.stringify(found.violations.map((one) => \
        `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`)))";
    let found = tab.evaluate(run, true).unwrap().value.unwrap();
    let found: Vec<String> = serde_json::from_str(found.as_str().unwrap()).unwrap();
    violations.extend(found);
    violations
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
    for (id, rejection) in [(1, Some("no play")), (2, None)] {
        let mut told = consumption(rejection);
        told["ledger_status"] = shared_ledger(id);
        let report = json!({"processor": Uuid::from_u128(id), "consumption": told});
        running.post("/api/consumption", &report, 200);
    }
    let letter = |body: &str| {
        json!({"at": 1_790_000_000_000_i64, "nsqd": "10.0.0.1:4150", "message_id": "0a1b2c3d4e5f6071",
        "reason": "video_id is missing", "size": body.len(), "body": body})
    };
    let letters = [letter(&"{\"id\":\"what is no play\"} ".repeat(40)), letter("")];
    let letters = json!({"processor": Uuid::from_u128(1), "letters": letters});
    running.post("/api/dead-letters", &letters, 200);
    let pictures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    let (tab, _complaints) = open(&browser, &running.dashboard.url());
    let views = views();
    let mut violations = Vec::new();
    for (view, path, ready) in &views {
        let url = format!("{}{path}", running.dashboard.url());
        tab.navigate_to(&url).unwrap().wait_until_navigated().unwrap();
        wait_for(&tab, &text("#live-text"), "live");
        for (look, dark, width, height) in LOOKS {
            show_as(&tab, dark, width, height);
            wait_for(&tab, ready, true);
            let picture = tab
                .capture_screenshot(CaptureScreenshotFormatOption::Png, None, None, true)
                .unwrap();
            std::fs::write(pictures.join(format!("{view}-{look}.png")), picture).unwrap();
            let found = violations_in(&tab, &axe);
            violations.extend(found.into_iter().map(|one| format!("{view} {look}: {one}")));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
