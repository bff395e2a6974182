//! Light, dark or as the system is: chosen on the page, kept, there from the first moment, and readable in both.

use headless_chrome::Tab;
use headless_chrome::protocol::cdp::Page::AddScriptToEvaluateOnNewDocument;
use serde_json::json;

use crate::dashboard_support::{start, video};
use crate::page_accessibility::show_as;
use crate::page_support::{click, has_pixel, launch, open, read, wait_for};

const GROUND: &str = "getComputedStyle(document.body).backgroundColor";
const LIGHT: &str = "rgb(244, 245, 248)";
const DARK: &str = "rgb(17, 20, 27)";

fn choose(tab: &Tab, theme: &str) {
    read(
        tab,
        &format!(
            "(() => {{ const choice = document.getElementById('theme'); choice.value = '{theme}'; choice.dispatchEvent(new Event('change')); }})()"
        ),
    );
}

/// Of each pair of those variables of style.css: how much one stands out from the other, as WCAG measures it.
fn contrasts(pairs: &[(&str, &str)]) -> String {
    format!(
        "(() => {{ \
            const probe = document.body.appendChild(document.createElement('span')); \
            const light = (name) => {{ \
                probe.style.color = `var(${{name}})`; \
                const [r, g, b] = getComputedStyle(probe).color.match(/[0-9.]+/g).map((part) => part / 255) \
                    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)); \
                return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; \
            }}; \
            const found = {}.map(([one, other]) => [light(one), light(other)]).map(([a, b]) => Math.max(a, b) / Math.min(a, b)); \
            probe.remove(); \
            return JSON.stringify(found); \
        }})()",
        json!(pairs)
    )
}

/// Whether the chart of plays by minute has a pixel of just that colour.
fn draws(colour: [u8; 3]) -> String {
    has_pixel("#figure-minutes canvas", &json!(colour).to_string())
}

#[test]
fn page_keeps_the_theme_that_was_chosen() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 50)]);
    let url = format!("{}/?view=video&video={}", running.dashboard.url(), video(1));
    let (tab, complaints) = open(&browser, &url);
    show_as(&tab, false, 1280, 900);
    wait_for(&tab, GROUND, LIGHT);
    let (in_light, in_dark) = (draws([59, 91, 219]), draws([138, 164, 255]));
    wait_for(&tab, &in_light, true);
    // The system's, at once.
    show_as(&tab, true, 1280, 900);
    wait_for(&tab, GROUND, DARK);
    wait_for(&tab, &in_dark, true);
    wait_for(&tab, &in_light, false);
    // The reader's choice goes before it, in every window.
    let (other, _) = open(&browser, &running.dashboard.url());
    show_as(&other, true, 1280, 900);
    wait_for(&other, GROUND, DARK);
    choose(&tab, "light");
    wait_for(&tab, GROUND, LIGHT);
    wait_for(&tab, &in_light, true);
    wait_for(&other, GROUND, LIGHT);
    wait_for(&other, "document.getElementById('theme').value", "light");
    // Before anything is drawn: when the body comes, the theme is there.
    tab.call_method(AddScriptToEvaluateOnNewDocument {
        source: "new MutationObserver((_, observer) => { if (!document.body) return; observer.disconnect(); \
            window.firstTheme = document.documentElement.dataset.theme ?? 'none'; })\
            .observe(document, { childList: true, subtree: true });"
            .to_owned(),
        world_name: None,
        include_command_line_api: None,
        run_immediately: None,
    })
    .unwrap();
    tab.navigate_to(&running.dashboard.url()).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, "window.firstTheme", "light");
    wait_for(&tab, "document.getElementById('theme').value", "light");
    choose(&tab, "system");
    wait_for(&tab, GROUND, DARK);
    assert_eq!(read(&tab, "localStorage.getItem('theme')"), json!(null));
    click(&tab, "nav a[data-view=help]");
    let left = |text: &&String| text.contains("EventSource") || text.contains("ABORTED");
    let texts = complaints.texts.lock();
    assert_eq!(texts.iter().filter(|text| !left(text)).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// WCAG 2.1, 1.4.11: what must be seen stands out from its ground by 3:1; 1.4.3: text by 4.5:1.
#[test]
fn page_stands_out_from_its_ground_in_both_themes() {
    let Some(browser) = launch() else { return };
    let running = start();
    let (tab, _complaints) = open(&browser, &running.dashboard.url());
    let series = ["--series-0", "--series-1", "--series-2", "--series-3", "--series-4"];
    let text = ["--ink", "--faint", "--accent", "--good", "--warn", "--bad"];
    let mut pairs: Vec<_> = series.iter().map(|name| (*name, "--card")).collect();
    pairs.extend(text.iter().flat_map(|name| [(*name, "--card"), (*name, "--ground")]));
    for theme in ["light", "dark"] {
        choose(&tab, theme);
        let found = read(&tab, &contrasts(&pairs));
        let found: Vec<f64> = serde_json::from_str(found.as_str().unwrap()).unwrap();
        assert_eq!(found.len(), pairs.len());
        for ((name, ground), contrast) in pairs.iter().zip(found) {
            let least = if name.starts_with("--series") { 3.0 } else { 4.5 };
            assert!(
                contrast >= least,
                "{theme}: {name} on {ground} has {contrast:.2}, not {least}"
            );
        }
    }
}
