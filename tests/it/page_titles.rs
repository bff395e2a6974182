//! The page with titles and ids of a site's own: they are shown first and as text, nothing breaks the layout, links lead to
//! the video, and what is hidden, deleted or corrected says why.

use std::path::PathBuf;

use headless_chrome::Tab;
use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption;
use playcounts::dashboard::Dashboard;
use playcounts::model::video_id::VideoId;
use serde_json::{Value, json};

use crate::dashboard_support::{Running, config};
use crate::page_accessibility::{axe, show_as, violations_in};
use crate::page_support::{Complaints, MARKUP, click, launch, open, read, text, wait_for};

/// Ids that a path, a query or a page could take for something else.
const ODD: [&str; 6] =
    ["-dQw4w9WgXc", "a/../b?c=1&d#e", "100% + é", "17", "<b>id</b>", "https://example.org/v/1"];

/// From right to left.
const ARABIC: &str = "كيف تطبخ الأرز في المنزل بسهولة";

fn id(text: &str) -> VideoId {
    VideoId::parse(text).unwrap()
}

/// As long as an id may be.
fn long_id() -> String {
    "w".repeat(VideoId::MAX_LEN)
}

/// A dashboard with videos of a site's own, each with a title that is hard to show, and some without one.
fn with_titles() -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.video_url = Some("https://example.org/watch?v={id}".to_owned());
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let plain: Vec<String> = (0..7).map(|n| format!("vid{n:08}")).collect();
    let mut ids: Vec<String> = ODD.iter().map(|id| (*id).to_owned()).collect();
    ids.extend(plain);
    ids.push(long_id());
    ids.push("00000000-0000-4000-8000-000000000001".to_owned());
    let counts: Vec<_> =
        ids.iter().enumerate().map(|(at, text)| (id(text), 1000 - at as u64 * 10)).collect();
    running.tell(1, &counts);
    let titled =
        |id: &str, title: &str, url: Value| json!({"video_id": id, "title": title, "url": url});
    let videos = json!({"videos": [
        titled(ODD[0], "How to cook rice", json!("https://example.net/rice")),
        titled(ODD[1], MARKUP, Value::Null),
        titled(ODD[2], ARABIC, Value::Null),
        titled(ODD[3], &"A very long title without an end ".repeat(10)[..300], Value::Null),
        titled(ODD[4], &"W".repeat(300), Value::Null),
        titled(ODD[5], "Rice, and what else to cook on a Sunday", Value::Null),
        titled(&long_id(), "The longest id of all", Value::Null),
    ]});
    running.post("/api/videos", &videos, 200);
    running
}

/// What one of the rows of the list shows: its name, and what is below.
fn names(list: &str) -> String {
    format!(
        "[...document.querySelectorAll({list:?})].sort((a, b) => a.closest('[role=row]').ariaRowIndex - b.closest('[role=row]').ariaRowIndex)\
         .map((cell) => [...cell.children].map((child) => child.hidden ? '' : child.textContent).join('|')).join('\\n')"
    )
}

/// Changes something of a video.
#[track_caller]
fn put(running: &Running, path: &str, body: Value) {
    let answer = running.ask("PUT", path, "", body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// A stream that is left by a reload is no complaint.
#[track_caller]
fn assert_none_but_left_streams(complaints: &Complaints) {
    let texts = complaints.texts.lock();
    let is_left = |text: &&String| text.contains("EventSource") || text.contains("ABORTED");
    let texts: Vec<_> = texts.iter().filter(|text| !is_left(text)).collect();
    assert_eq!(texts, Vec::<&String>::new());
}

#[test]
fn page_shows_titles_first_and_as_text() {
    let Some(browser) = launch() else { return };
    let running = with_titles();
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &url);
    let first = format!("How to cook rice|{}\n{MARKUP}|{}\n{ARABIC}|{}", ODD[0], ODD[1], ODD[2]);
    wait_for(
        &tab,
        &format!("{}.split('\\n').slice(0, 3).join('\\n')", names("#top-rows td.video")),
        first.clone(),
    );
    click(&tab, "nav a[data-view=videos]");
    let rows = names("#videos-rows .row:not([hidden]) .cell.video_id");
    wait_for(&tab, &format!("{rows}.split('\\n').slice(0, 3).join('\\n')"), first);
    // One without a title is its id alone.
    wait_for(&tab, &format!("{rows}.split('\\n')[6]"), "vid00000000|");
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    assert_eq!(read(&tab, "document.querySelectorAll('#videos b').length"), json!(0));

    // Words of the title, in any case, or the start of an id.
    for (search, want) in [
        (
            "RICE cook",
            format!(
                "How to cook rice|{}\nRice, and what else to cook on a Sunday|{}",
                ODD[0], ODD[5]
            ),
        ),
        ("sunday", format!("Rice, and what else to cook on a Sunday|{}", ODD[5])),
        ("-dQw", format!("How to cook rice|{}", ODD[0])),
        // A pasted address: by --video-url, by what is usual, and one that is an id.
        (
            "https://example.org/watch?v=a%2F..%2Fb%3Fc%3D1%26d%23e&t=9",
            format!("{MARKUP}|{}", ODD[1]),
        ),
        ("https://other.example/embed/-dQw4w9WgXc?t=9", format!("How to cook rice|{}", ODD[0])),
        (ODD[5], format!("Rice, and what else to cook on a Sunday|{}", ODD[5])),
        ("a/../b", format!("{MARKUP}|{}", ODD[1])),
    ] {
        let set = format!(
            "(() => {{ const box = document.getElementById('search'); box.focus(); box.value = {}; box.dispatchEvent(new Event('input')); }})()",
            json!(search)
        );
        read(&tab, &set);
        wait_for(&tab, &rows, want);
    }
    complaints.assert_none();
}

#[test]
fn page_of_a_video_takes_any_id_and_links_to_the_video() {
    let Some(browser) = launch() else { return };
    let running = with_titles();
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    click(&tab, "nav a[data-view=videos]");
    wait_for(
        &tab,
        "document.querySelectorAll('#videos-rows .row:not([hidden]) a[href]').length",
        15,
    );
    let link = "document.getElementById('video-link')";
    let by_template = |encoded: &str| format!("https://example.org/watch?v={encoded}");
    for (at, id, want) in [
        (0, ODD[0], "https://example.net/rice".to_owned()),
        (1, ODD[1], by_template("a%2F..%2Fb%3Fc%3D1%26d%23e")),
        (2, ODD[2], by_template("100%25%20%2B%20%C3%A9")),
        (4, ODD[4], by_template("%3Cb%3Eid%3C%2Fb%3E")),
        (5, ODD[5], by_template("https%3A%2F%2Fexample.org%2Fv%2F1")),
        (13, &long_id(), by_template(&long_id())),
    ] {
        let open_row = format!(
            "[...document.querySelectorAll('#videos-rows .row:not([hidden])')].find((row) => row.ariaRowIndex == {}).querySelector('a').click()",
            at + 2
        );
        read(&tab, &open_row);
        wait_for(&tab, &text("#video-id"), id);
        wait_for(
            &tab,
            &text("#video-plays"),
            (1000 - at * 10).to_string().replace("1000", "1,000"),
        );
        wait_for(&tab, &format!("{link}.href"), want);
        wait_for(&tab, "document.getElementById('video-title').hidden", false);
        // The charts and the exports are this video's, too.
        wait_for(&tab, "document.querySelector('#heat-text').textContent.length > 0", true);
        let export = "fetch(document.querySelector('#video-exports a').href).then((answer) => answer.status)";
        assert_eq!(tab.evaluate(export, true).unwrap().value, Some(json!(200)), "{id}");
        assert_eq!(read(&tab, "document.querySelector('#video-error').hidden"), json!(true));
        // The address alone leads there.
        tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
        wait_for(&tab, &text("#video-id"), id);
        wait_for(
            &tab,
            &text("#video-plays"),
            (1000 - at * 10).to_string().replace("1000", "1,000"),
        );
        read(&tab, "history.back()");
        wait_for(
            &tab,
            "document.querySelectorAll('#videos-rows .row:not([hidden]) a[href]').length",
            15,
        );
    }
    assert_eq!(read(&tab, &format!("{link}.rel")), json!("noopener noreferrer"));
    assert_none_but_left_streams(&complaints);
}

#[test]
fn page_says_what_is_hidden_deleted_or_corrected_and_why() {
    let Some(browser) = launch() else { return };
    let running = with_titles();
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    click(&tab, "nav a[data-view=videos]");
    wait_for(
        &tab,
        "document.querySelectorAll('#videos-rows .row:not([hidden]) a[href]').length",
        15,
    );
    assert_eq!(read(&tab, "document.getElementById('changed').hidden"), json!(true));
    put(
        &running,
        "/api/videos/vid00000000/visibility",
        json!({"visibility": "hidden", "reason": MARKUP}),
    );
    put(
        &running,
        "/api/videos/17/visibility",
        json!({"visibility": "deleted", "reason": "not ours"}),
    );
    put(&running, "/api/videos/-dQw4w9WgXc/correction", json!({"plays": -500, "reason": "bots"}));
    wait_for(
        &tab,
        "document.querySelectorAll('#videos-rows .row:not([hidden]) a[href]').length",
        13,
    );
    tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, &text("#changed-title"), "3 videos hidden, deleted or corrected");
    click(&tab, "#changed-title");
    let listed = "[...document.querySelectorAll('#changed-rows li')].map((row) => row.textContent).join('\\n')";
    wait_for(&tab, &format!("{listed}.includes('Corrected by −500 plays since ')"), true);
    assert_eq!(
        read(
            &tab,
            &format!(
                "{listed}.includes({})",
                json!(format!(": {MARKUP}. Its plays stay in the totals."))
            )
        ),
        json!(true)
    );
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    // Each leads to its video, which says so, too.
    for (id, want) in [
        ("vid00000000", format!(": {MARKUP}. Its plays stay in the totals.")),
        ("17", ": not ours. Its plays are in no total.".to_owned()),
        ("-dQw4w9WgXc", ": bots. Counted: 1,000.".to_owned()),
    ] {
        let open_one = format!(
            "[...document.querySelectorAll('#changed-rows a')].find((link) => new URL(link.href).searchParams.get('video') === {}).click()",
            json!(id)
        );
        read(&tab, &open_one);
        wait_for(&tab, &text("#video-id"), id);
        wait_for(&tab, &format!("{}.endsWith({})", text("#video-changes"), json!(want)), true);
        read(&tab, "history.back()");
        wait_for(&tab, "document.getElementById('view-videos').hidden", false);
    }
    assert_none_but_left_streams(&complaints);
}

/// What is wider than the screen, or than the box it stands in without being cut.
fn too_wide(tab: &Tab) -> Value {
    read(
        tab,
        "document.documentElement.scrollWidth > innerWidth ? `page ${document.documentElement.scrollWidth}` : \
         [...document.querySelectorAll('.title, .id, .changes p, .note')].filter((one) => one.offsetParent && \
         one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.textContent.slice(0, 40)).join('; ')",
    )
}

/// Views with what is hardest to show, where they are, and what is true once they are whole.
fn hard_views() -> [(&'static str, String, &'static str); 6] {
    [
        ("overview", "/".to_owned(), "document.querySelectorAll('#top-rows tr').length === 10"),
        (
            "videos",
            "/?view=videos".to_owned(),
            "document.querySelectorAll('#videos-rows .row:not([hidden]) a[href]').length > 5 && !document.getElementById('changed').hidden && (document.getElementById('changed').open = true)",
        ),
        (
            "video-17",
            "/?view=video&video=17".to_owned(),
            "!document.getElementById('video-changes').hidden",
        ),
        (
            "video-long",
            format!("/?view=video&video={}", long_id()),
            "!document.getElementById('video-title').hidden",
        ),
        (
            "video-rtl",
            "/?view=video&video=100%25%20%2B%20%C3%A9".to_owned(),
            "!document.getElementById('video-title').hidden",
        ),
        (
            "counter",
            format!("/?view=counter&video={}", long_id()),
            "!document.getElementById('counter-video-below').hidden",
        ),
    ]
}

/// Light and dark, wide and on a phone: nothing is wider than the screen, and axe-core finds nothing. A picture of each is in
/// `target/screenshots`.
#[test]
fn page_keeps_its_layout_whatever_titles_and_ids_are() {
    let Some(browser) = launch() else { return };
    let running = with_titles();
    put(&running, "/api/videos/17/correction", json!({"plays": -100, "reason": "b".repeat(300)}));
    put(
        &running,
        "/api/videos/vid00000003/visibility",
        json!({"visibility": "hidden", "reason": "rights"}),
    );
    let axe = axe();
    let pictures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    let (tab, _complaints) = open(&browser, &running.dashboard.url());
    let views = hard_views();
    let mut wrong = Vec::new();
    for (look, dark, width, height) in [
        ("light", false, 1440, 900),
        ("dark", true, 1440, 900),
        ("middle", false, 700, 900),
        ("phone", false, 390, 844),
        ("phone-dark", true, 390, 844),
    ] {
        show_as(&tab, dark, width, height);
        for (view, path, ready) in &views {
            let url = format!("{}{path}", running.dashboard.url());
            tab.navigate_to(&url).unwrap().wait_until_navigated().unwrap();
            wait_for(&tab, ready, true);
            wait_for(&tab, &text("#live-text"), "live");
            let picture =
                tab.capture_screenshot(CaptureScreenshotFormatOption::Png, None, None, true);
            std::fs::write(pictures.join(format!("titles-{view}-{look}.png")), picture.unwrap())
                .unwrap();
            let wide = too_wide(&tab);
            if wide != json!("") {
                wrong.push(format!("{view} {look}: too wide: {wide}"));
            }
            let found = axe.as_ref().map(|axe| violations_in(&tab, axe)).unwrap_or_default();
            wrong.extend(found.into_iter().map(|one| format!("{view} {look}: {one}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
