//! Videos side by side, favourites and movers on the page: chosen in the list or by id, kept in the address or the browser.

use headless_chrome::Tab;
use serde_json::json;

use crate::dashboard_support::{start, video};
use crate::page_support::{click, has_pixel, highest_pixel, launch, open, read, text, wait_for};

/// How many videos are compared.
const ROWS: &str = "document.querySelectorAll('#compare-rows > li').length";

/// The box, or the star, of a video in the list.
fn of_video(number: u8, part: &str) -> String {
    format!(
        "[...document.querySelectorAll('#videos-rows .row:not([hidden])')].find((row) => row.dataset.video === '{}')?.querySelector('{part}')",
        video(number)
    )
}

fn press(tab: &Tab, node: &str) {
    wait_for(tab, &format!("{node} != null"), true);
    read(tab, &format!("{node}.click()"));
}

const CHART: &str = "#figure-compare canvas";

/// The colour of that line, as its swatch has it.
fn colour(line: u8) -> String {
    format!(
        "getComputedStyle(document.querySelector('#compare-rows .swatch-{line}')).borderTopColor.match(/[0-9]+/g).map(Number)"
    )
}

/// Whether the chart has a pixel of that line.
fn draws(line: u8) -> String {
    has_pixel(CHART, &colour(line))
}

/// Submits the form that adds a video by id.
fn add(tab: &Tab, typed: &str) {
    read(tab, &format!("document.getElementById('compare-id').value = {}", json!(typed)));
    read(tab, "document.getElementById('compare-add').requestSubmit()");
}

/// Adds by id and by a pasted address; what is not there, and a sixth one, are refused with the reason.
fn check_adding(tab: &Tab) {
    // By id, by a pasted address; what is not there says so.
    add(tab, &format!("https://example.org/watch?v={}", video(5)));
    wait_for(tab, ROWS, 3);
    add(tab, "nothing");
    wait_for(tab, "document.querySelector('#compare-error').hidden", false);
    assert!(read(tab, &text("#compare-error")).as_str().unwrap().contains("nothing"));
    for number in [1, 2] {
        add(tab, &video(number).to_string());
        wait_for(tab, ROWS, i32::from(number) + 3);
    }
    add(tab, &video(4).to_string());
    wait_for(tab, &format!("{}.startsWith('At most 5 videos')", text("#compare-error")), true);
    wait_for(tab, &draws(4), true);
}

/// The address is enough for a reload; in the list no sixth can be chosen.
fn check_address(tab: &Tab) {
    // The address is enough; in the list no sixth can be chosen.
    tab.reload(false, None).unwrap();
    tab.wait_until_navigated().unwrap();
    wait_for(tab, ROWS, 5);
    click(tab, "nav a[data-view=videos]");
    wait_for(tab, &format!("{}?.disabled", of_video(4, "input")), true);
    wait_for(tab, &format!("{}?.checked", of_video(2, "input")), true);
    press(tab, &of_video(2, "input"));
    wait_for(tab, &format!("{}?.disabled", of_video(4, "input")), false);
    click(tab, "#chosen-compare");
    wait_for(tab, ROWS, 4);
    click(tab, "#compare-rows button");
    wait_for(tab, ROWS, 3);
    click(tab, "#compare-span button[data-value='30d']");
    wait_for(
        tab,
        &format!("{}.includes('in the last 30 days')", text("#compare-rows .note")),
        true,
    );
    wait_for(tab, "new URLSearchParams(location.search).get('span')", "30d");
}

#[test]
fn page_compares_up_to_five_videos() {
    let Some(browser) = launch() else { return };
    let running = start();
    let counts: Vec<_> = (1..=7).map(|number| (video(number), u64::from(number) * 100)).collect();
    running.tell(1, &counts);
    let (tab, complaints) = open(&browser, &format!("{}/?view=videos", running.dashboard.url()));
    press(&tab, &of_video(7, "input"));
    press(&tab, &of_video(3, "input"));
    wait_for(&tab, &text("#chosen-said"), "2 videos of at most 5 chosen");
    click(&tab, "#chosen-compare");
    wait_for(&tab, ROWS, 2);
    let address = format!("?view=compare&videos={}%2C{}", video(7), video(3));
    assert_eq!(read(&tab, "location.search"), json!(address));
    let told = "[...document.querySelectorAll('#compare-rows .note')].map((note) => note.textContent).join('; ')";
    wait_for(
        &tab,
        told,
        "700 plays in the last 2 days, 700 in all; 300 plays in the last 2 days, 300 in all",
    );
    let legend = "[...document.querySelectorAll('#figure-compare .key:not([hidden])')].map((key) => key.children[1].textContent).join()";
    wait_for(&tab, legend, format!("{},{}", video(7), video(3)));
    for line in [0, 1] {
        wait_for(&tab, &draws(line), true);
    }
    // On a scale on which both are seen, as soon as they are drawn.
    let tops = [0, 1].map(|line| read(&tab, &highest_pixel(CHART, &colour(line))).as_i64());
    assert!(tops[0] < tops[1], "{tops:?}");
    complaints.assert_none();
    check_adding(&tab);
    complaints.texts.lock().clear();
    check_address(&tab);
}

#[test]
fn page_keeps_favourites_in_the_browser() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 50), (video(2), 70)]);
    let (tab, _complaints) = open(&browser, &format!("{}/?view=videos", running.dashboard.url()));
    wait_for(&tab, &format!("{}?.textContent", of_video(1, ".star")), "☆");
    wait_for(&tab, "document.querySelector('#favourites').hidden", true);
    press(&tab, &of_video(1, ".star"));
    let rows = "[...document.querySelectorAll('#favourite-rows > li')].map((row) => row.querySelector('a').textContent + ' ' + row.querySelector('.note').textContent).join('; ')";
    wait_for(&tab, rows, format!("{} 50 plays", video(1)));
    // By key, in the list.
    read(&tab, "document.getElementById('videos').focus()");
    tab.press_key("Home").unwrap();
    tab.press_key("f").unwrap();
    wait_for(&tab, rows, format!("{} 70 plays; {} 50 plays", video(2), video(1)));
    // On its page, and after a reload.
    tab.navigate_to(&format!("{}/?view=video&video={}", running.dashboard.url(), video(1)))
        .unwrap();
    tab.wait_until_navigated().unwrap();
    let pressed = "document.querySelector('#video-favourite').getAttribute('aria-pressed')";
    wait_for(&tab, pressed, "true");
    click(&tab, "#video-favourite");
    wait_for(&tab, pressed, "false");
    click(&tab, "nav a[data-view=videos]");
    wait_for(&tab, rows, format!("{} 70 plays", video(2)));
    click(&tab, "#favourite-rows .star");
    wait_for(&tab, "document.querySelector('#favourites').hidden", true);
}

/// A reset is marked in the charts, and listed below them.
#[test]
fn page_marks_what_happened_on_the_time_axis() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 50)]);
    assert_eq!(running.ask("DELETE", "/api/counts", "", b"").status, 200);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#marks-title"), "2 events marked in the charts");
    let rows = "[...document.querySelectorAll('#marks-rows li')].map((row) => row.textContent.split(': ')[1]).sort().join()";
    wait_for(&tab, rows, "Counts reset,Dashboard started");
    // The colour of marks on a light page.
    wait_for(&tab, &has_pixel("#figure-depth canvas", "[166, 91, 0]"), true);
    complaints.assert_none();
}

#[test]
fn page_says_where_the_time_before_is_not_known() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 50)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    let said = text("#movers-said");
    wait_for(&tab, &format!("{said}.startsWith('Not known: the time before this range')"), true);
    assert_eq!(read(&tab, "document.querySelectorAll('#movers-rows li').length"), json!(0));
    complaints.assert_none();
}
