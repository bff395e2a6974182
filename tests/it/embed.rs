//! Figures in frames of other sites: of those that are named, at one address, and nowhere else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nsq_protocol::thread::{OwnedThread, StopSource, stop_pair};
use playcounts::dashboard::Dashboard;
use tempfile::TempDir;

use crate::dashboard_support::{Answer, Running, ask, config, video};
use crate::page_accessibility::{axe, violations_in};
use crate::page_support::{launch, open, read, text, wait_for};
use crate::support::{assert_exit, output};

/// A site of somebody's: one page, whatever is asked for; it ends on drop.
struct Site {
    at: SocketAddr,
    stop: Option<StopSource>,
    _accept: OwnedThread<()>,
}

impl Site {
    fn start() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another name of this machine: a site of its own.
        let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        (listener, origin)
    }

    fn serve(listener: TcpListener, body: String) -> Self {
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = stop_pair();
        let accept = OwnedThread::spawn("site", move || {
            for socket in listener.incoming() {
                if stopped.is_stopped() {
                    return;
                }
                let mut socket = socket.unwrap();
                let _ = socket.read(&mut [0; 4096]);
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n";
                let _ = socket.write_all(
                    format!("{head}<!doctype html><title>site</title>{body}").as_bytes(),
                );
            }
        });
        Self { at, stop: Some(stop), _accept: accept.unwrap() }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = TcpStream::connect(self.at);
    }
}

fn start(sites: &[&str], read_token: Option<&str>) -> Running {
    let data: TempDir = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.embed = sites.iter().map(|site| (*site).to_owned()).collect();
    config.read_token = read_token.map(str::to_owned);
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

fn get(running: &Running, path: &str) -> Answer {
    ask(running.dashboard.local_addr(), "GET", path, "", b"")
}

#[test]
fn nothing_but_the_frame_may_be_framed_and_that_by_named_sites() {
    let running = start(&["https://a.example", "https://b.example:8443"], None);
    let frame = get(&running, "/embed?view=counter");
    assert_eq!(frame.status, 200);
    assert!(
        frame.head.contains("frame-ancestors https://a.example https://b.example:8443\r\n"),
        "{}",
        frame.head
    );
    assert!(
        frame.head.contains("form-action 'none'") && !frame.head.contains("X-Frame-Options"),
        "{}",
        frame.head
    );
    for path in ["/", "/?view=counter", "/sign-in", "/api/stats", "/embed.js", "/nothing"] {
        let answer = get(&running, path);
        let head = &answer.head;
        assert!(head.contains("frame-ancestors 'none'"), "{path}: {head}");
        assert!(head.contains("X-Frame-Options: DENY"), "{path}: {head}");
    }
    assert_eq!(get(&start(&[], None), "/embed").status, 404);
}

#[test]
fn a_site_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for site in [
        "a.example",
        "https://a.example/path",
        "https://*",
        "https://a b",
        "https://a;x",
        "'self'",
        "",
        "https://a.example,,",
    ] {
        let refused =
            output(dir.path(), &["dashboard", "--http-address=127.0.0.1:0", "--embed", site]);
        assert_exit(&refused, 2);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("https://blog.example.org"), "{site}: {said}");
    }
}

/// The body of the first frame, which is of another site than its page.
const FRAME: &str = "[...document.querySelectorAll('iframe')].length";

#[test]
fn a_named_site_shows_the_live_counter_and_another_one_nothing() {
    let Some(browser) = launch() else { return };
    let ((named, origin), (other, _)) = (Site::start(), Site::start());
    let running = start(&[&origin], None);
    running.tell(1, &[(video(1), 40_000), (video(2), 10_000)]);
    let url = running.dashboard.url();
    let frames = format!("<iframe src='{url}/embed?view=counter'></iframe>");
    let (named, other) = (Site::serve(named, frames.clone()), Site::serve(other, frames));
    let at = |site: &Site| format!("http://localhost:{}/", site.at.port());
    let streams = || get(&running, "/metrics").body;
    let listening = |wanted: &str| {
        crate::support::wait_until(wanted, || {
            String::from_utf8(streams()).unwrap().contains(wanted)
        });
    };
    // The site that is not named: the browser shows no frame, so that nobody listens.
    let (tab, refused) = open(&browser, &at(&other));
    wait_for(&tab, FRAME, 1);
    crate::support::wait_until("the browser refuses it", || {
        refused.texts.lock().iter().any(|text| text.contains("frame-ancestors"))
    });
    listening("playcounts_dashboard_event_streams 0\n");
    let (tab, complaints) = open(&browser, &at(&named));
    wait_for(&tab, FRAME, 1);
    listening("playcounts_dashboard_event_streams 1\n");
    complaints.assert_none();
}

#[test]
fn the_frame_shows_all_plays_or_a_video_with_its_days_and_leads_nowhere() {
    let Some(browser) = launch() else { return };
    let running = start(&["https://a.example"], None);
    running.tell(1, &[(video(1), 40_000), (video(2), 10_000)]);
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &format!("{url}/embed?view=counter"));
    wait_for(&tab, &text("#plays"), "50,000");
    running.tell(2, &[(video(1), 40_001)]);
    wait_for(&tab, &text("#plays"), "50,001");
    let leads = "document.querySelectorAll('a, form, button, input').length";
    assert_eq!(read(&tab, leads), 0);
    let (one, more) = open(&browser, &format!("{url}/embed?view=video&video={}", video(1)));
    wait_for(&one, &text("#plays"), "40,001");
    wait_for(&one, "document.querySelector('#days').hidden", false);
    wait_for(&one, "document.querySelectorAll('#days canvas').length", 1);
    assert_eq!(read(&one, leads), 0);
    running.tell(3, &[(video(1), 40_002)]);
    wait_for(&one, &text("#plays"), "40,002");
    for tab in [&tab, &one] {
        if let Some(axe) = axe() {
            assert_eq!(violations_in(tab, &axe), Vec::<String>::new());
        }
    }
    complaints.assert_none();
    more.assert_none();
    // Away: since when, by the clock of before.
    running.dashboard.shutdown().unwrap();
    let lately = "[...Array(120).keys()].map((s) => new Date(Date.now() - s * 1000).toLocaleTimeString('en-GB'))";
    let told = format!(
        "{lately}.some((at) => {} === `These figures stand since ${{at}}.`)",
        text("#wrong")
    );
    wait_for(&one, &told, true);
}

#[test]
fn a_private_dashboard_shows_a_frame_to_whom_it_knows_alone() {
    let running = start(&["https://a.example"], Some("r3ad"));
    let refused = get(&running, "/embed?view=counter");
    assert_eq!(refused.status, 401);
    let read = "Authorization: Bearer r3ad\r\n";
    let shown = ask(running.dashboard.local_addr(), "GET", "/embed", read, b"");
    assert_eq!(shown.status, 200);
}
