//! The number that moves, the chart of consumption times, dates, and numbers on narrow and wide screens, in a real Chromium as
//! in `page.rs`.

use headless_chrome::Tab;
use headless_chrome::protocol::cdp::Emulation::SetDeviceMetricsOverride;
use playcounts::model::time_buckets::bucket_of;
use playcounts::model::video::MAX_PLAYS;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Running, consumption, start, video};
use crate::page_support::{click, launch, open, read, text, wait_for};
use crate::support::wait_until;

/// Reports as a processor whose ledger holds so many plays.
fn report(
    running: &Running,
    processor: u128,
    holds: u64,
    every_ms: u64,
    change: &dyn Fn(&mut Value),
) {
    let mut told = consumption(None);
    let next_ms = every_ms / 2;
    told["publication"] =
        json!({"holds": holds, "from_plays": 100, "every_ms": every_ms, "next_ms": next_ms});
    change(&mut told);
    let report = json!({"processor": Uuid::from_u128(processor), "consumption": told});
    running.post("/api/consumption", &report, 200);
}

/// As wide as so many pixels of CSS.
fn resize(tab: &Tab, width: u32) {
    tab.call_method(SetDeviceMetricsOverride {
        width,
        height: 900,
        device_scale_factor: 1.0,
        mobile: false,
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
    })
    .unwrap();
    wait_for(tab, "innerWidth", width);
}

const BEGINS: &str = "document.querySelector('#total-more').textContent.replaceAll('\u{a0}', ' ').split(', next')[0]";

/// What is counted is shown at once; what is published, and when, beside it.
#[test]
fn the_number_of_plays_moves_between_publications() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 1_000), (video(2), 7)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#total-plays"), "1,007");
    // It has told counts, and never how it fares.
    wait_for(&tab, BEGINS, "all published; no processor reports now");

    report(&running, 1, 1_250, 30_000, &|_| ());
    wait_for(&tab, &text("#total-plays"), "1,250");
    let every = "1,007 published; videos over 100 plays update every 30 s";
    wait_for(&tab, BEGINS, every);
    let seconds = "Number(/next in (\\d+)\u{a0}s$/.exec(document.querySelector('#total-more').textContent)[1])";
    let next = read(&tab, seconds).as_f64().unwrap();
    assert!((0.0..=15.0).contains(&next), "{next}");
    report(&running, 1, 1_300, 30_000, &|_| ());
    wait_for(&tab, &text("#total-plays"), "1,300");
    // Published: no play is in the number twice.
    read(
        &tab,
        "window.most = 0; new MutationObserver(() => { const text = document.querySelector('#total-plays').textContent; \
         most = Math.max(most, Number(text.replaceAll(',', ''))); }).observe(document.querySelector('#total-plays'), { childList: true, subtree: true, characterData: true })",
    );
    running.tell(2, &[(video(1), 1_293)]);
    wait_for(&tab, BEGINS, every.replace("1,007", "all"));
    wait_for(&tab, &text("#total-plays"), "1,300");
    assert!(read(&tab, "most").as_f64() <= Some(1_300.0));
    wait_for(&tab, &text("#top-rows .plays"), "1,293");

    // A second one, which publishes more often, and of which nothing is published yet.
    report(&running, 2, 500, 5_000, &|_| ());
    wait_for(&tab, &text("#total-plays"), "1,800");
    wait_until("both are told", || {
        // They go on reporting: on a busy machine the first has been silent for too long by now.
        report(&running, 1, 1_300, 30_000, &|_| ());
        report(&running, 2, 500, 5_000, &|_| ());
        read(&tab, BEGINS) == "1,300 published; videos over 100 plays update every 5 s to 30 s"
    });
    // The wall shows the same.
    click(&tab, "nav a[data-view=counter]");
    wait_for(&tab, &text("#counter-figure"), "1,800");
    complaints.assert_none();
}

/// Real time and average are two lines on one scale; percentiles come by a click and stay in the address.
#[test]
fn the_chart_of_consumption_times_is_read_from_microseconds_to_minutes() {
    let Some(browser) = launch() else { return };
    let running = start();
    let slow = |told: &mut Value| {
        told["realtime_ms"] = json!(0.9);
        told["since_start"]["mean"] = json!(400_000.0);
        let fine = json!([[bucket_of(900), 1], [bucket_of(139_000_000), 99]]);
        told["histogram"] =
            json!({"buckets": vec![0; 15], "count": 100, "sum_ms": 1.0, "fine": fine});
    };
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &url);
    resize(&tab, 1280);
    // A report is of the present for 3 s. 139 s are told to 2 %.
    let tile = "['', '-more'].map((part) => document.querySelector(`#consumption${part}`).textContent).join(' ') \
        .replaceAll('\u{a0}', ' ')";
    wait_until("the tile says now and average", || {
        report(&running, 1, 5, 30_000, &slow);
        read(&tab, tile) == json!("900 µs now; average 6 min 40 s; p99 2 min 20 s")
    });
    let keys = "[...document.querySelectorAll('#figure-time .key')].filter((key) => key.checkVisibility()) \
        .map((key) => key.children[1].textContent).join()";
    wait_for(&tab, keys, "real time,average");
    wait_for(&tab, "document.querySelector('#percentiles').ariaPressed", "false");
    let newest = |index: usize| {
        format!("document.querySelectorAll('#figure-time .key output')[{index}].textContent")
    };
    wait_for(&tab, &newest(1), "6 min 40 s");
    click(&tab, "#percentiles");
    wait_for(&tab, keys, "real time,average,p50,p99");
    wait_for(&tab, "document.querySelector('#percentiles').ariaPressed", "true");
    wait_for(&tab, "location.search", "?percentiles=1");
    wait_for(
        &tab,
        "document.querySelector('#figure-time .chart').ariaLabel.includes('p99: from 2 min 20 s to')",
        true,
    );
    // As wide as all charts together.
    let width = |id: &str| format!("document.querySelector('{id}').getBoundingClientRect().width");
    wait_for(&tab, &width("#figure-time"), read(&tab, &width(".charts:has(> #figure-time)")));
    tab.navigate_to(&format!("{url}/?percentiles=1")).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, keys, "real time,average,p50,p99");
    click(&tab, "#percentiles");
    wait_for(&tab, keys, "real time,average");
    wait_for(&tab, "location.search", "");
    complaints.assert_none();
}

/// What of the tiles' and lists' numbers does not fit into its place.
const CUT: &str = "[...document.querySelectorAll('.view:not([hidden]) .figure, .view:not([hidden]) .number, .view:not([hidden]) .unit')] \
    .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline') \
    .map((one) => `${one.id || one.className}: ${one.textContent}`).join('; ')";

/// On a phone, at 200 % of a laptop and at 400 %, with the largest numbers there are; and all of a wide screen.
#[test]
fn numbers_fit_on_every_screen() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), MAX_PLAYS / 2), (video(2), 1_234_567)]);
    report(&running, 1, MAX_PLAYS, 30_000, &|told| told["realtime_ms"] = json!(100_000_000.0));
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &url);
    for view in ["", "?view=videos", &format!("?view=video&video={}", video(1)), "?view=help"] {
        tab.navigate_to(&format!("{url}/{view}")).unwrap().wait_until_navigated().unwrap();
        wait_for(&tab, &text("#live-text"), "live");
        wait_for(&tab, &text("#total-plays"), "9,007,199,254,740,991");
        for width in [2560, 1440, 1280, 640, 390, 320] {
            resize(&tab, width);
            wait_for(&tab, CUT, "");
            wait_for(&tab, "document.documentElement.scrollWidth <= innerWidth", true);
            if width == 2560 {
                let used = read(&tab, "document.querySelector('main').clientWidth").as_f64();
                assert!(used > Some(2_300.0), "{used:?}");
            }
        }
    }
    // One style of dates, wherever they stand.
    tab.navigate_to(&format!("{url}/?view=video&video={}", video(1))).unwrap();
    wait_for(&tab, &text("#video-last"), "2023-11-14");
    complaints.assert_none();
}

/// Figures that were wrong once, as the page's own module writes them in this browser; `tests/page` has all of them in Node.
#[test]
fn figures_have_the_units_that_people_say() {
    let Some(browser) = launch() else { return };
    let running = start();
    let (tab, _complaints) = open(&browser, &running.dashboard.url());
    for (call, wanted) in [
        // 72 hours, which stood as 4,320 min; 6.67 min; 1,898 s.
        ("duration(259200000)", "3 d"),
        ("duration(400200)", "6 min 40 s"),
        ("duration(1898000)", "31 min 38 s"),
        ("change(9999, 10000)", "0 %"),
        ("change(10001, 10000)", "0 %"),
        ("dateTime(Date.UTC(2026, 0, 31, 12, 30))", "2026-01-31 12:30"),
        ("tick(Date.UTC(2026, 0, 1), 31 * 86400)", "2026-01"),
        ("tick(Date.UTC(2026, 0, 1), 366 * 86400)", "2026"),
    ] {
        let written = format!("import('./format.js').then((format) => format.{call})");
        let written = tab.evaluate(&written, true).unwrap().value.unwrap();
        assert_eq!(written, json!(wanted), "{call}");
    }
}
