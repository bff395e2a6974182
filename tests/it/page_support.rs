//! A Chromium that the tests of the page look through, and what they read of it.
//!
//! Chromium is `$CHROME` or /usr/bin/chromium. Without one the test says so and passes, except where it is
//! required: with `CI=true` or `REQUIRE_CHROMIUM=1` it fails.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::{Browser, LaunchOptions, Tab};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::timing::DEADLINE;

/// Runs wherever it is shown as markup.
pub(crate) const MARKUP: &str = "<img src=x onerror=\"document.title='broken in'\">";

/// How often the page is asked whether it has come so far. What it shows has no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One for each core: each has a dozen processes and more, and starved of time none shows anything in time. A test has one.
static TURNS: LazyLock<(Sender<()>, Receiver<()>)> =
    LazyLock::new(|| bounded(std::thread::available_parallelism().map_or(1, Into::into)));

/// A running Chromium and the one directory that it writes to; both are gone after drop.
pub(crate) struct Chromium {
    browser: Option<Browser>,
    home: Option<TempDir>,
    _turn: Turn,
}

/// Held while a Chromium runs.
struct Turn;

impl Turn {
    fn wait() -> Self {
        TURNS.0.send(()).unwrap();
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = TURNS.1.try_recv();
    }
}

impl Deref for Chromium {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        self.browser.as_ref().expect("it runs until drop")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        drop(self.browser.take());
        let Some(home) = self.home.take().map(TempDir::keep) else { return };
        // What it had started ends a moment after it, and writes until then.
        let deadline = Instant::now() + DEADLINE;
        while std::fs::remove_dir_all(&home).is_err() && home.exists() && Instant::now() < deadline
        {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Where it keeps its profile, and what it would write to the user's and the system's directories.
fn places(home: &Path) -> HashMap<String, String> {
    let names = ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"];
    names.map(|name| (name.to_owned(), home.display().to_string())).into()
}

/// Chromium, or `None` where its absence is excused.
pub(crate) fn launch() -> Option<Chromium> {
    launch_with(&[])
}

/// The same with more arguments.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn launch_with(more: &[&str]) -> Option<Chromium> {
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
    let turn = Turn::wait();
    let quiet = [
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ];
    let home = tempfile::tempdir().unwrap();
    let options = LaunchOptions::default_builder()
        .path(Some(path))
        .user_data_dir(Some(home.path().join("profile")))
        .process_envs(Some(places(home.path())))
        // Chromium's own sandbox refuses to run as root, as containers do.
        .sandbox(false)
        .window_size(Some((1280, 900)))
        // The default of 30 s ends the session while a loaded machine still starts it.
        .idle_browser_timeout(Duration::from_secs(120))
        .args(quiet.iter().chain(more).map(OsStr::new).collect())
        .build()
        .unwrap();
    let browser = Some(Browser::new(options).unwrap());
    Some(Chromium { browser, home: Some(home), _turn: turn })
}

/// What went wrong in the page: failed loads, refusals, errors on the console.
#[derive(Clone, Default)]
pub(crate) struct Complaints {
    pub(crate) texts: Arc<Mutex<Vec<String>>>,
    pub(crate) loaded: Arc<Mutex<Vec<String>>>,
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
                // What the page itself has ended is no failure.
                Event::NetworkLoadingFailed(failed) if failed.params.canceled == Some(true) => {
                    return;
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

/// How long one call may look in the page; longer than any answer takes, shorter than a reader of a failed test waits.
const LOOK_MS: u128 = 2000;

/// Waits until `expression` is `wanted` in the page. The page itself looks, so that each look is no call to the browser: a call
/// takes up to 100 ms where the browser has nothing to tell.
#[track_caller]
pub(crate) fn wait_for(tab: &Tab, expression: &str, wanted: impl Into<Value>) {
    let wanted = wanted.into();
    let look_every = LOOK_EVERY.as_millis();
    // A tab in the background may look once a second only: it is asked again from here.
    let look = format!(
        "new Promise((done) => {{
            const [wanted, end] = [JSON.stringify({wanted}), performance.now() + {LOOK_MS}];
            const found = () => {{ try {{ return ({expression}) ?? null; }} catch {{ return null; }} }};
            const look = () => {{
                const now = found();
                if (JSON.stringify(now) === wanted || document.hidden || performance.now() > end) done(now);
                else setTimeout(look, {look_every});
            }};
            look();
        }})"
    );
    let deadline = Instant::now() + DEADLINE;
    let (_source, never) = nsq_protocol::thread::stop_pair();
    loop {
        // Where the page goes elsewhere meanwhile the next look is at the new one.
        let found = tab.evaluate(&look, true).ok().and_then(|found| found.value);
        let found = found.unwrap_or(Value::Null);
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

/// Whether a canvas has a pixel of that colour, or nearly: an array of red, green and blue, as the page computes it.
pub(crate) fn has_pixel(canvas: &str, colour: &str) -> String {
    format!("{} >= 0", highest_pixel(canvas, colour))
}

/// How far below the top of the canvas, in its pixels, the first pixel of that colour is; -1 if there is none. It looks at a copy:
/// Chromium complains about what is read again and again.
pub(crate) fn highest_pixel(canvas: &str, colour: &str) -> String {
    format!(
        "(() => {{ const canvas = document.querySelector({canvas:?}); \
            const copy = Object.assign(document.createElement('canvas'), {{ width: canvas.width, height: canvas.height }}); \
            const context = copy.getContext('2d', {{ willReadFrequently: true }}); \
            context.drawImage(canvas, 0, 0); \
            const wanted = {colour}; \
            const {{ data }} = context.getImageData(0, 0, copy.width, copy.height); \
            for (let at = 0; at < data.length; at += 4) if (wanted.every((part, index) => Math.abs(data[at + index] - part) < 8)) return Math.floor(at / 4 / copy.width); \
            return -1; }})()"
    )
}

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
