//! A real HTTP server is told which alarms begin and end: also when it was away, slow, or out of order meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::TlsConfig;
use parking_lot::Mutex;
use playcounts::dashboard::{Dashboard, WebhookConfig};
use playcounts::http::{Handler, Request, Response, Server, ServerConfig, ServerTls, TlsFiles};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::certs::Authority;
use crate::dashboard_support::{Running, config, consumption, video};
use crate::ports::free_addrs;
use crate::support::{assert_exit, output, wait_until};

/// What a hook does with a call.
#[derive(Clone, Copy, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    /// 503.
    Ill,
    /// It answers later than anybody waits.
    Slow,
}

/// Keeps what it was told.
#[derive(Default)]
struct Hook {
    told: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    calls: Mutex<u64>,
}

impl Handler for Hook {
    fn handle(&self, request: &Request) -> Response {
        *self.calls.lock() += 1;
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => {
                assert_eq!((&*request.method, &*request.path), ("POST", "/hooks/s3cret"));
                assert_eq!(request.header("content-type"), Some("application/json"));
                self.told.lock().push(serde_json::from_slice(&request.body).unwrap());
                Response::text(200, "ok")
            }
            Mood::Ill => Response::error(503, "ill"),
            Mood::Slow => {
                std::thread::sleep(Duration::from_secs(7));
                Response::text(200, "ok")
            }
        }
    }
}

impl Hook {
    fn serve(self: &Arc<Self>, at: SocketAddr, tls: Option<Arc<ServerTls>>) -> Server {
        let mut config = ServerConfig::new(at.to_string(), "hook");
        config.tls = tls;
        Server::start(config, Arc::clone(self) as Arc<dyn Handler>).unwrap()
    }

    /// Waits until the last call told so many alarms; its name and what it told.
    #[track_caller]
    fn wait_for(&self, calls: usize) -> Value {
        wait_until("it is told", || self.told.lock().len() >= calls);
        self.told.lock()[calls - 1].clone()
    }
}

fn start(url: String, tls: TlsConfig) -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.webhook = Some(WebhookConfig { url, pause: Duration::from_secs(1), tls });
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

/// A processor that has stopped counting, or goes on.
fn report(running: &Running, failure: Option<&str>) {
    let mut told = consumption(None);
    if let Some(failure) = failure {
        told["failure"] = failure.into();
    }
    let report = json!({"processor": Uuid::from_u128(1), "consumption": told});
    running.post("/api/consumption", &report, 200);
}

/// Has an alarm begin, and waits for it.
fn fail(running: &Running) {
    report(running, Some("its disk is full"));
}

#[test]
fn a_begin_and_an_end_are_told_and_what_is_away_or_slow_holds_up_nothing() {
    let at = free_addrs(1).unwrap()[0];
    let hook = Arc::new(Hook::default());
    let running = start(format!("http://{at}/hooks/s3cret"), TlsConfig::new());
    // Nobody listens yet.
    fail(&running);
    wait_until("there is an alarm", || alarms(&running) > 0);
    let server = hook.serve(at, None);
    let first = hook.wait_for(1);
    let begun = &first["begun"][0];
    assert!(begun["text"].as_str().unwrap().contains("its disk is full"), "{first}");
    assert_eq!(first["ended"], json!([]));
    assert!(
        begun["since"].as_u64().unwrap() > 0
            && begun["severity"].is_string()
            && begun["name"].is_string()
    );
    assert!(first["text"].as_str().unwrap().starts_with("playcounts error "), "{first}");
    assert!(first["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    // Out of order, then slow: the dashboard takes counts as ever, and the end is told afterwards.
    *hook.mood.lock() = Mood::Ill;
    let calls = *hook.calls.lock();
    report(&running, None);
    wait_until("the end was tried", || *hook.calls.lock() > calls);
    *hook.mood.lock() = Mood::Slow;
    let calls = *hook.calls.lock();
    wait_until("it is tried again", || *hook.calls.lock() > calls);
    let began = Instant::now();
    running.tell(1, &[(video(1), 10)]);
    assert!(began.elapsed() < Duration::from_secs(4), "a count waits for the webhook");
    *hook.mood.lock() = Mood::Well;
    let second = hook.wait_for(2);
    let names: Vec<_> =
        second["ended"].as_array().unwrap().iter().map(|alarm| alarm["name"].clone()).collect();
    assert!(names.contains(&begun["name"]), "{second}");
    assert!(second["text"].as_str().unwrap().contains("playcounts over "), "{second}");
    server.shutdown();
}

fn alarms(running: &Running) -> usize {
    let answer = running.get("/api/alarms");
    answer.json()["alarms"].as_array().unwrap().len()
}

#[test]
fn it_is_told_over_tls_by_whom_it_trusts() {
    let (at, authority) = (free_addrs(1).unwrap()[0], Authority::new());
    let issued = authority.issue_local();
    let tls = ServerTls::load(TlsFiles { cert: issued.cert, key: issued.key }).unwrap();
    let hook = Arc::new(Hook::default());
    let server = hook.serve(at, Some(Arc::new(tls)));
    let trusted = TlsConfig::new().root_ca_file(authority.ca_file());
    let running = start(format!("https://{at}/hooks/s3cret"), trusted);
    fail(&running);
    assert_eq!(hook.wait_for(1)["begun"].as_array().unwrap().len(), 1);
    drop(running);
    server.shutdown();
}

#[test]
fn what_is_no_url_is_refused_and_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["s3cret", "ftp://h/s3cret"] {
        let args = ["dashboard", "--http-address=127.0.0.1:0", "--alert-webhook", url];
        let refused = output(dir.path(), &args);
        assert_exit(&refused, 1);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("--alert-webhook is no URL") && !said.contains("s3cret"), "{said}");
    }
}
