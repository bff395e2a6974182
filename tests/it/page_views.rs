//! What the page's views do beyond being there, in a real Chromium as in `page.rs`: the counter, a video's page, the keys,
//! a long list, and how the page comes back when the dashboard or its reader was away.

use headless_chrome::Tab;
use headless_chrome::browser::tab::ModifierKey;
use headless_chrome::protocol::cdp::Browser::{GrantPermissions, PermissionType};
use playcounts::dashboard::Dashboard;
use serde_json::{Value, json};

use crate::dashboard_support::{Running, ask, config, start, update, video};
use crate::page_support::{PLAYS, click, launch, open, read, text, wait_for};
use crate::streams::ChildDashboard;
use crate::support::wait_until;

/// The metric of the pages that listen.
const STREAMS: &str = "playcounts_dashboard_event_streams";

/// The number for a wall: it moves, keeps its width, and floods no screen reader.
#[test]
fn page_counts_for_a_wall() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 1_070), (video(2), 30)]);
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &url);
    wait_for(&tab, &text("#live-text"), "live");
    click(&tab, "nav a[data-view=counter]");
    wait_for(&tab, "location.search", "?view=counter");
    wait_for(&tab, &text("#counter-figure"), "1,100");
    wait_for(&tab, "document.title.replace('⚠ ', '')", "Counter – playcounts");
    // As wide with ones as with other digits.
    let width = "(() => { const range = new Range(); range.selectNodeContents(document.getElementById('counter-figure')); \
        return Math.round(range.getBoundingClientRect().width * 10); })()";
    let wide = read(&tab, width);
    running.tell(2, &[(video(2), 41)]);
    wait_for(&tab, &text("#counter-figure"), "1,111");
    assert_eq!(read(&tab, width), wide);
    let live = "document.querySelectorAll('#view-counter [aria-live], #view-counter [role=status]').length";
    assert_eq!(read(&tab, live), json!(0));

    // One video, by the address; a stranger's first play is waited for.
    tab.navigate_to(&format!("{url}/?view=counter&video={}", video(2))).unwrap();
    wait_for(&tab, &text("#counter-video-id"), video(2).to_string());
    wait_for(&tab, &text("#counter-figure"), "41");
    wait_for(&tab, &text("#counter-more li:last-child .figure"), "2");
    running.tell(3, &[(video(2), 2_000)]);
    wait_for(&tab, &text("#counter-figure"), "2,000");
    wait_for(&tab, &text("#counter-more li:last-child .figure"), "1");
    click(&tab, "#counter-video-id");
    wait_for(&tab, "location.search", format!("?view=video&video={}", video(2)));
    complaints.assert_none();
    tab.navigate_to(&format!("{url}/?view=counter&video={}", video(3))).unwrap();
    wait_for(&tab, &text("#counter-more .unit"), "no plays yet");
    wait_for(&tab, &text("#counter-figure"), "0");
}

/// Copies the id of video 1 by keyboard, with and without a clipboard.
fn check_copy(tab: &Tab) {
    tab.call_method(GrantPermissions {
        permissions: vec![
            PermissionType::ClipboardReadWrite,
            PermissionType::ClipboardSanitizedWrite,
        ],
        origin: None,
        browser_context_id: None,
    })
    .unwrap();
    read(tab, "document.getElementById('video-copy').focus()");
    tab.press_key("Enter").unwrap();
    wait_for(tab, &text("#video-said"), "The id is copied.");
    assert_eq!(read(tab, &text("#video-copy")), json!("Copied"));
    let copied = tab.evaluate("navigator.clipboard.readText()", true).unwrap().value;
    assert_eq!(copied, Some(json!(video(1).to_string())));
    // Over plain HTTP from elsewhere a browser has no clipboard: the old way does it.
    read(
        tab,
        "Object.defineProperty(navigator, 'clipboard', { value: undefined }); document.getElementById('video-said').textContent = ''",
    );
    tab.press_key("Enter").unwrap();
    wait_for(tab, &text("#video-said"), "The id is copied.");
    assert_eq!(read(tab, "getSelection().toString()"), json!(video(1).to_string()));
}

/// What a video's page lets one choose, and where it leads.
#[test]
fn page_of_a_video_has_spans_a_way_back_and_its_id_to_copy() {
    let Some(browser) = launch() else { return };
    let running = start();
    let counts: Vec<_> = (1..=15).map(|first| (video(first), u64::from(first) * 1000)).collect();
    running.tell(1, &counts);
    let (tab, complaints) =
        open(&browser, &format!("{}/?view=videos&sort=plays&search=0", running.dashboard.url()));
    wait_for(&tab, &format!("({PLAYS}).startsWith('1,000 2,000')"), true);
    click(&tab, "#videos-rows .row:not([hidden]) a");
    let told = |name: &str| text(&format!("#figure-{name} .told"));
    let since = "; plays are known only since ";
    wait_for(&tab, &format!("{}.split({since:?})[0]", told("minutes")), "1,000 in the last hour");
    wait_for(&tab, &text("#video-rank-more"), "of 15 videos, by plays");
    wait_for(&tab, &format!("{}.split({since:?})[0]", told("hours")), "1,000 in the last 7 days");
    wait_for(&tab, &format!("{}.split({since:?})[0]", told("days")), "1,000 in the last 30 days");
    let pressed = "[...document.querySelectorAll('[data-span] [aria-pressed=true]')].map((one) => one.textContent).join(' ')";
    assert_eq!(read(&tab, pressed), json!("1 h 7 d 30 d"));
    let label = "document.querySelector('#figure-minutes .chart').ariaLabel";
    assert_eq!(read(&tab, label), json!("Plays by minute, the last hour. plays: from 0 to 1,000"));
    click(&tab, "[data-span=minutes] [data-value='48']");
    wait_for(
        &tab,
        &format!("{}.split({since:?})[0]", told("minutes")),
        "1,000 in the last 48 hours",
    );
    click(&tab, "[data-span=days] [data-value=all]");
    wait_for(&tab, &told("days"), "1,000 in all of them");
    wait_for(&tab, pressed, "48 h 7 d All");
    let at = format!("?view=video&sort=plays&search=0&video={}&minutes=48&days=all", video(1));
    assert_eq!(read(&tab, "location.search"), json!(at));

    check_copy(&tab);

    // Each download says what it is.
    let names =
        "[...document.querySelectorAll('#video-exports a')].map((one) => one.ariaLabel).join('; ')";
    let wanted = ["minute", "hour", "day"]
        .map(|scale| format!("CSV of the plays by {scale}; JSON of the plays by {scale}"));
    assert_eq!(read(&tab, names), json!(wanted.join("; ")));
    click(&tab, "#video-back");
    wait_for(&tab, "location.search", "?view=videos&sort=plays&search=0");
    wait_for(&tab, &format!("({PLAYS}).startsWith('1,000 2,000')"), true);
    assert_eq!(read(&tab, "document.activeElement.id"), json!("videos"));
    complaints.assert_none();
}

/// A range of one's own: its form opens and closes, says what is wrong, and ends up in the address.
#[test]
fn page_takes_a_range_from_and_to() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 5)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#live-text"), "live");
    let open = "document.querySelector('#custom-button').ariaExpanded + document.querySelector('#custom').hidden";
    for wanted in ["truefalse", "falsetrue", "truefalse"] {
        click(&tab, "#custom-button");
        assert_eq!(read(&tab, open), json!(wanted));
    }
    assert_eq!(read(&tab, "document.activeElement.id"), json!("custom-from"));
    let submit = |from: &str| {
        let script = format!(
            "document.querySelector('#custom-from').value = {from:?}; document.querySelector('#custom').requestSubmit()"
        );
        read(&tab, &script);
    };
    submit("2999-01-01T00:00");
    wait_for(&tab, &text("#custom-error"), "The start must be before the end.");
    assert_eq!(read(&tab, "location.search"), json!(""));
    submit("2020-01-01T00:00");
    wait_for(
        &tab,
        "/^.range=custom&from=20(19|20)-.*&to=20.*Z$/.test(decodeURIComponent(location.search))",
        true,
    );
    wait_for(&tab, "document.querySelector('#custom-button').ariaPressed", "true");
    wait_for(&tab, "document.querySelector('#custom-error').hidden", true);
    wait_for(&tab, &text("#top-summary"), "5 plays of 1 video");
    // It is whole when it is opened by its address, too.
    tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, "document.querySelector('#custom-from').value", "2020-01-01T00:00");
    wait_for(&tab, &text("#live-text"), "live");
    let texts = complaints.texts.lock();
    assert!(
        texts.iter().all(|text| text.contains("EventSource") || text.contains("ABORTED")),
        "{texts:?}"
    );
}

/// Turns the keys off, also after a reload, and on again.
fn check_keys_off_and_on(tab: &Tab) {
    read(tab, "document.activeElement.blur()");
    let shortcut =
        "document.querySelector('nav a[data-view=videos]').getAttribute('aria-keyshortcuts')";
    assert_eq!(read(tab, shortcut), json!("v"));
    tab.press_key("h").unwrap();
    wait_for(tab, "location.search", "?view=help");
    click(tab, "#keys-on");
    tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
    wait_for(tab, "document.getElementById('keys-on').checked", false);
    wait_for(tab, shortcut, Value::Null);
    for key in ["v", "o", "/", "c"] {
        tab.press_key(key).unwrap();
    }
    assert_eq!(read(tab, "location.search"), json!("?view=help"));
    click(tab, "#keys-on");
    read(tab, "document.activeElement.blur()");
    tab.press_key("v").unwrap();
    wait_for(tab, "location.search", "?view=videos");
}

/// Single keys change the view and the range, never while something is typed, and not at all once turned off.
#[test]
fn page_takes_single_keys_and_lets_them_be_turned_off() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 5)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#live-text"), "live");
    wait_for(&tab, "document.querySelector('nav a[data-view=queue]').hidden", false);
    for (key, there) in [
        ("v", "?view=videos"),
        ("c", "?view=counter"),
        ("q", "?view=queue"),
        ("?", "?view=help"),
        ("o", ""),
        ("3", "?range=7d"),
        ("1", ""),
    ] {
        tab.press_key(key).unwrap();
        wait_for(&tab, "location.search", there);
    }
    // With a modifier it is the browser's.
    for modifier in [ModifierKey::Ctrl, ModifierKey::Alt, ModifierKey::Meta] {
        tab.press_key_with_modifiers("v", Some(&[modifier])).unwrap();
    }
    assert_eq!(read(&tab, "location.search"), json!(""));
    // From here to the search, where every key is a letter.
    tab.press_key("/").unwrap();
    wait_for(&tab, "document.activeElement.id", "search");
    tab.type_str("ovc/?1").unwrap();
    assert_eq!(read(&tab, "document.getElementById('search').value"), json!("ovc/?1"));
    assert_eq!(read(&tab, "document.activeElement.id"), json!("search"));
    wait_for(&tab, "location.search", "?view=videos&search=ovc%2F%3F1");
    read(&tab, "document.getElementById('search').select()");
    tab.type_str("01").unwrap();
    wait_for(&tab, PLAYS, "5");
    // A choice is made with keys, too.
    tab.navigate_to(&running.dashboard.url()).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, &text("#live-text"), "live");
    read(&tab, "document.getElementById('top-limit').focus()");
    tab.press_key("v").unwrap();
    assert_eq!(read(&tab, "location.search"), json!(""));

    check_keys_off_and_on(&tab);
    let texts = complaints.texts.lock();
    // The search for what is no id was refused, and streams were left.
    assert!(
        texts.iter().all(|text| text.contains("&search=o")
            || text.contains("EventSource")
            || text.contains("ABORTED")),
        "{texts:?}"
    );
}

/// The dashboard is killed and started again, at another time of its own: the page comes back without a reload.
#[test]
fn page_says_that_it_is_stale_and_comes_back() {
    let Some(browser) = launch() else { return };
    let data = tempfile::tempdir().unwrap();
    let dashboard = ChildDashboard::start(data.path(), "");
    let address = dashboard.address;
    let tell = |version: u64, plays: u64| {
        let body = update(version, &[(video(1), plays), (video(2), 7)]).to_string();
        assert_eq!(ask(address, "POST", "/api/counts", "", body.as_bytes()).status, 200);
    };
    tell(1, 3);
    let (tab, complaints) = open(&browser, &format!("http://{address}"));
    wait_for(&tab, &text("#live-text"), "live");
    wait_for(&tab, &text("#total-plays"), "10");
    wait_for(&tab, &format!("/; as of \\d\\d:\\d\\d:\\d\\d/.test({})", text("#top-age")), true);
    complaints.assert_none();
    read(&tab, "window.mark = true");
    drop(dashboard);
    wait_for(&tab, "document.getElementById('live').dataset.state", "stale");
    wait_for(&tab, &format!("{}.startsWith('stale since ')", text("#live-text")), true);
    wait_for(&tab, &format!("parseInt({}) >= 4", text("#live-age")), true);
    assert_eq!(read(&tab, &text("#total-plays")), json!("10"));
    let _again = ChildDashboard::start_at(data.path(), "", &address.to_string());
    tell(2, 93);
    wait_for(&tab, "document.getElementById('live').dataset.state", "live");
    wait_for(&tab, &text("#total-plays"), "100");
    wait_for(&tab, &text("#live-age"), "");
    wait_for(&tab, &text("#top-rows .plays"), "93");
    assert_eq!(read(&tab, "window.mark"), json!(true));
    // Nothing but what could not be reached.
    let texts = complaints.texts.lock();
    let is_cut = |text: &String| text.contains("net::ERR_") || text.contains("EventSource");
    assert!(texts.iter().all(is_cut), "{texts:?}");
}

/// A tab that nobody sees does not listen, and has caught up when it is seen again.
#[test]
fn page_in_the_background_does_not_listen_and_catches_up() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 3)]);
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#total-plays"), "3");
    let streams = || {
        let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(STREAMS));
        line.expect("it is told").trim().parse::<f64>().unwrap()
    };
    assert_eq!(streams(), 1.0);
    let other = browser.new_tab().unwrap();
    other.bring_to_front().unwrap();
    wait_for(&tab, "document.visibilityState", "hidden");
    wait_until("nobody listens", || streams() == 0.0);
    running.tell(2, &[(video(1), 1_003)]);
    assert_eq!(read(&tab, &text("#total-plays")), json!("3"));
    tab.bring_to_front().unwrap();
    wait_for(&tab, &text("#total-plays"), "1,003");
    wait_for(&tab, &text("#top-rows .plays"), "1,003");
    wait_for(&tab, &text("#live-text"), "live");
    wait_until("it listens", || streams() == 1.0);
    // But that it stopped listening.
    let texts = complaints.texts.lock();
    assert!(texts.iter().all(|text| text.contains("EventSource")), "{texts:?}");
}

/// A dashboard of 200,001 videos: video n of 200,000 has 10 n plays, and video 1 of the tests has one.
fn with_200_000_videos() -> Running {
    let running = start();
    running.tell(1, &[(video(1), 1)]);
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    // Told over HTTP they would take longer than all else here: plays of video n are 10 n.
    let database = rusqlite::Connection::open(data.path().join("dashboard.sqlite3")).unwrap();
    playcounts::storage::row_check::add_function(&database).unwrap();
    let many = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)
        INSERT INTO counts
        SELECT id, number, plays, updated, played, row_check(id, number, plays, updated, played) FROM (
          SELECT unhex(printf('%032x', n)) AS id, number, 10 * n AS plays, 1700000000000 + n AS updated,
                 1700000000000 - n AS played
          FROM numbers, processors);
        UPDATE identity SET count_rows = s.n, count_plays = s.plays,
          row_check = row_check(only, dashboard, boot, closed, life, segment, number, s.n, s.plays, catalog_rows)
        FROM (SELECT count(*) AS n, sum(plays) AS plays FROM counts) AS s";
    database.execute_batch(many).unwrap();
    drop(database);
    Running { dashboard: Dashboard::start(config(&data)).unwrap(), data }
}

/// Whether the rows in sight are there, with nothing between: row n + 2 has video n, which has 10 n plays.
const RIGHT: &str = "(() => { const head = document.querySelector('#videos-head').getBoundingClientRect().bottom; \
        const end = document.querySelector('#videos').getBoundingClientRect().bottom; \
        const rows = [...document.querySelectorAll('#videos-rows .row:not([hidden])')].filter((row) => { \
            const box = row.getBoundingClientRect(); return box.bottom > head + 1 && box.top < end - 1; }) \
            .map((row) => [Number(row.ariaRowIndex) - 2, row.querySelector('.plays').textContent.replaceAll(',', '')]) \
            .sort(([one], [other]) => one - other); \
        return rows.length > 10 && rows.every(([index, plays], at) => index === rows[0][0] + at && Number(plays) === Math.max(1, 10 * index)); })()";

/// The row that the keys have reached.
const ACTIVE_ROW: &str = "document.getElementById(document.querySelector('#videos').getAttribute('aria-activedescendant'))";

/// Its number.
fn active() -> String {
    format!("{ACTIVE_ROW}.ariaRowIndex")
}

/// Moves the bar of the list to a part of its height.
fn bar(part: &str) -> String {
    format!(
        "(() => {{ const box = document.querySelector('#videos'); box.scrollTop = box.scrollHeight {part}; }})()"
    )
}

/// Rows that are known are never shown as unknown while counts flow.
fn check_nothing_pending_while_counts_flow(tab: &Tab, running: &Running) {
    read(
        tab,
        "window.pending = 0; new MutationObserver((changes) => changes.forEach(({ target }) => { \
            if (target.classList.contains('pending') && !target.hidden) window.pending += 1; \
        })).observe(document.querySelector('#videos-rows'), { attributes: true, subtree: true, attributeFilter: ['class'] })",
    );
    for version in 2..6u64 {
        running.tell(version, &[(video(1), version)]);
        wait_for(tab, &format!("({PLAYS}).split(' ')[0]"), version.to_string());
    }
    assert_eq!(read(tab, "window.pending"), json!(0));
    running.tell(6, &[(video(1), 9)]);
}

/// To a video far down and back, while another one has come in before it: the row is that of the video.
fn check_way_back_to_a_row_that_moved(tab: &Tab, running: &Running) {
    read(tab, &bar("/ 2"));
    wait_for(tab, RIGHT, true);
    tab.press_key("ArrowDown").unwrap();
    wait_for(tab, &format!("{ACTIVE_ROW}?.classList.contains('pending')"), false);
    let id = read(tab, &format!("{ACTIVE_ROW}.querySelector('a').textContent"));
    let index: u64 = read(tab, &active()).as_str().unwrap().parse().unwrap();
    tab.press_key("Enter").unwrap();
    wait_for(tab, &text("#video-id"), id.clone());
    running.tell(7, &[(video(2), 5)]);
    read(tab, "history.back()");
    wait_for(tab, "document.querySelector('#videos').ariaRowCount", "200003");
    wait_for(tab, &format!("{ACTIVE_ROW}?.querySelector('a').textContent"), id);
    assert_eq!(read(tab, &active()), json!((index + 1).to_string()));
    assert_eq!(read(tab, "document.activeElement.id"), json!("videos"));
}

/// A list that nobody reads from end to end: the bar, the keys, every order, and the way back to a row that moved.
#[test]
fn page_scrolls_through_200_000_videos() {
    let Some(browser) = launch() else { return };
    let running = with_200_000_videos();
    let (tab, complaints) =
        open(&browser, &format!("{}/?view=videos&sort=plays", running.dashboard.url()));
    wait_for(&tab, "document.querySelector('#videos').ariaRowCount", "200002");
    let place = text("#videos-place");
    wait_for(&tab, RIGHT, true);
    check_nothing_pending_while_counts_flow(&tab, &running);
    read(&tab, &bar("/ 2"));
    wait_for(&tab, &format!("/^(99,9|100,0)\\d\\d–/.test({place})"), true);
    wait_for(&tab, RIGHT, true);
    read(&tab, &bar("* 0.9"));
    wait_for(&tab, &format!("{place}.startsWith('180,0')"), true);
    wait_for(&tab, RIGHT, true);
    read(&tab, "document.querySelector('#videos').focus()");
    tab.press_key("End").unwrap();
    wait_for(&tab, &format!("{place}.endsWith('–200,001 of 200,001')"), true);
    wait_for(&tab, RIGHT, true);
    assert_eq!(read(&tab, &active()), json!("200002"));
    tab.press_key("PageUp").unwrap();
    tab.press_key("PageUp").unwrap();
    wait_for(&tab, RIGHT, true);
    tab.press_key("Home").unwrap();
    wait_for(&tab, &format!("{place}.startsWith('1–')"), true);
    wait_for(&tab, &format!("({PLAYS}).startsWith('9 10 20 ')"), true);
    assert_eq!(read(&tab, &active()), json!("2"));
    tab.press_key("PageDown").unwrap();
    tab.press_key("PageDown").unwrap();
    wait_for(&tab, RIGHT, true);

    check_way_back_to_a_row_that_moved(&tab, &running);

    // Every order begins with another video.
    for (column, first) in [
        ("plays", "2,000,000"),
        ("video_id", "10"),
        ("video_id", "5"),
        ("last_played_at", "5"),
        ("last_played_at", "2,000,000"),
        ("updated_at", "5"),
        ("updated_at", "10"),
    ] {
        click(&tab, &format!("[data-sort={column}] button"));
        wait_for(&tab, &format!("({PLAYS}).split(' ')[0]"), first);
        wait_for(&tab, &format!("{place}.startsWith('1–')"), true);
    }
    complaints.assert_none();
}
