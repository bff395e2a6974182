//! Files that go while they are in use: the data directory is removed, moved, covered by a mount, or one file of it is
//! removed. Noticed within a second, also by who has nothing to do: nothing more is finished, health is red and says why.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::dashboard_support::{ask, update, video};
use crate::disk::SmallDisk;
use crate::streams::ChildDashboard;
use crate::support::{self, Broker, Running, assert_exit, get, health, post, wait_until};

/// What is said of a file that is gone.
const GONE: &str = "is not in its directory any more: it was removed, moved, or covered by a mount";

/// The longest that it may take to be noticed: a second, and what a machine under tests is slow by.
const NOTICED: Duration = Duration::from_secs(15);

/// What happens to a data directory.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Removed,
    Moved,
    Covered,
    /// The file that begins with the part's name and ends so.
    File(&'static str),
}

const LOSSES: [Loss; 7] = [
    Loss::Removed,
    Loss::Moved,
    Loss::Covered,
    Loss::File(".sqlite3"),
    Loss::File(".sqlite3-wal"),
    Loss::File(".sqlite3-shm"),
    Loss::File(".journal/0000000001.segment"),
];

/// Keeps a mount as long as it is needed.
struct Lost {
    _cover: Option<SmallDisk>,
}

impl Loss {
    /// Does it to a part's data directory; `None`: it cannot be done here.
    fn happen(self, data: &Path, part: &str) -> Option<Lost> {
        let mut cover = None;
        match self {
            Self::Removed => fs::remove_dir_all(data).unwrap(),
            Self::Moved => fs::rename(data, data.with_extension("aside")).unwrap(),
            Self::Covered => cover = Some(SmallDisk::mount(data, "1m")?),
            Self::File(suffix) => fs::remove_file(data.join(format!("{part}{suffix}"))).unwrap(),
        }
        Some(Lost { _cover: cover })
    }
}

/// Waits for the end of a part that has noticed, which it must say.
#[track_caller]
fn assert_ends(part: Running, since: Instant, what: &str) {
    let ended = part.wait();
    let took = since.elapsed();
    assert_exit(&ended, 1);
    let said = String::from_utf8_lossy(&ended.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("playcounts: ") && last.contains(GONE), "{what}: {said}");
    assert!(!said.contains("playcounts reset"), "{what}: {said}");
    assert!(took < NOTICED, "{what}: {took:?}");
}

/// A processor that has nothing to count.
#[test]
fn an_idle_processor_misses_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    for (loss, durability) in LOSSES.into_iter().zip(["process", "power"].into_iter().cycle()) {
        let what = format!("{loss:?}, {durability}");
        let own = tempfile::tempdir().unwrap();
        let (_dashboard, url) = support::dashboard(own.path());
        let line = format!(
            "process --nsqd-tcp-address {} --dashboard-url {url} --data-dir ledger --durability {durability} --update-interval 100ms",
            broker.tcp()
        );
        let process = Running::start(own.path(), &line.split(' ').collect::<Vec<_>>());
        post(
            &format!("http://{}/pub?topic=plays", broker.http()),
            &format!(r#"{{"video_id":"{}"}}"#, Uuid::new_v4()),
        );
        let counts = format!("{url}/api/counts?limit=1");
        wait_until("the play is counted", || get(&counts)["total_plays"] == 1);
        let since = Instant::now();
        let Some(_lost) = loss.happen(&own.path().join("ledger"), "ledger") else { continue };
        assert_ends(process, since, &what);
        let (status, text) = health(&url);
        assert!(
            status == 503
                && text.contains("a processor has stopped counting")
                && text.contains(GONE),
            "{what}: {text}"
        );
    }
}

/// With `power` what is published behind it is not finished: it is there for the next start.
#[test]
fn with_power_nothing_is_finished_behind_it() {
    for suffix in [".sqlite3", ".journal/0000000001.segment"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let broker = Broker::ours(dir);
        let (_dashboard, url) = support::dashboard(dir);
        let line = format!(
            "process --nsqd-tcp-address {} --dashboard-url {url} --data-dir ledger --durability power --update-interval 100ms",
            broker.tcp()
        );
        let process = Running::start(dir, &line.split(' ').collect::<Vec<_>>());
        let publish = || {
            let play = format!(r#"{{"video_id":"{}"}}"#, Uuid::new_v4());
            post(&format!("http://{}/pub?topic=plays", broker.http()), &play);
        };
        publish();
        let counts = format!("{url}/api/counts?limit=1");
        wait_until("the play is counted", || get(&counts)["total_plays"] == 1);
        let since = Instant::now();
        fs::remove_file(dir.join(format!("ledger/ledger{suffix}"))).unwrap();
        publish();
        assert_ends(process, since, suffix);
        let stats: Value = get(&format!("http://{}/stats?format=json&topic=plays", broker.http()));
        let channel = &stats["topics"][0]["channels"][0];
        let left =
            channel["depth"].as_u64().unwrap() + channel["in_flight_count"].as_u64().unwrap();
        assert_eq!(left, 1, "{suffix}: {channel}");
    }
}

/// A producer whose plays all wait to be counted.
#[test]
fn an_idle_producer_misses_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    for loss in LOSSES {
        let own = tempfile::tempdir().unwrap();
        let (_dashboard, url) = support::dashboard(own.path());
        let line = format!(
            "produce --num-messages 10 --republish-after 600s --nsqd-tcp-address {} --dashboard-url {url} --data-dir outbox",
            broker.tcp()
        );
        let produce = Running::start(own.path(), &line.split(' ').collect::<Vec<_>>());
        let waiting = format!("{url}/api/stats");
        wait_until("all is published", || {
            get(&waiting).to_string().contains("\"outbox\"")
                || own.path().join("outbox/outbox.sqlite3-wal").exists()
        });
        std::thread::sleep(Duration::from_millis(500));
        let since = Instant::now();
        let Some(_lost) = loss.happen(&own.path().join("outbox"), "outbox") else { continue };
        assert_ends(produce, since, &format!("{loss:?}"));
    }
}

/// A dashboard that nobody tells anything: red, and what is told is refused, until the files are back.
#[test]
fn an_idle_dashboard_misses_its_files() {
    for loss in LOSSES {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut dashboard = ChildDashboard::start(&data, "");
        let address = dashboard.address;
        let tell = |version: u64| {
            let body = update(version, &[(video(1), version)]).to_string();
            ask(address, "POST", "/api/counts", "", body.as_bytes())
        };
        assert_eq!(tell(1).status, 200);
        assert_eq!(ask(address, "GET", "/healthz", "", b"").status, 200);
        let since = Instant::now();
        let Some(lost) = loss.happen(&data, "dashboard") else { continue };
        let mut text = String::new();
        wait_until("health is red", || {
            let answer = ask(address, "GET", "/healthz", "", b"");
            text = String::from_utf8_lossy(&answer.body).into_owned();
            answer.status == 503
        });
        assert!(text.contains(GONE), "{loss:?}: {text}");
        assert!(since.elapsed() < NOTICED, "{loss:?}: {:?}", since.elapsed());
        let refused = tell(2);
        assert_eq!(refused.status, 503);
        assert!(refused.error().contains(GONE), "{loss:?}: {}", refused.error());
        assert!(!dashboard.has_ended());
        // What is back where it was is as good as before.
        match loss {
            Loss::Moved => fs::rename(data.with_extension("aside"), &data).unwrap(),
            Loss::Covered => drop(lost),
            Loss::Removed | Loss::File(_) => continue,
        }
        assert_eq!(ask(address, "GET", "/healthz", "", b"").status, 200);
        assert_eq!(tell(2).status, 200);
    }
}
