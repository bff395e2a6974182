//! The dashboard: the counts that processors have told it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use playcounts::dashboard::{self, Dashboard, DashboardConfig, Keep};
use serde_json::json;

use super::{Part, State, copy};
use crate::dashboard_support::{ask, update, video};
use playcounts::model::video_id::VideoId;

/// Videos that are told of.
const VIDEOS: u8 = 60;

pub(super) struct DashboardPart;

/// Plays by video.
type Counts = BTreeMap<VideoId, u64>;

fn start(directory: &Path) -> Result<Dashboard, String> {
    let config = DashboardConfig {
        http_address: "127.0.0.1:0".to_owned(),
        data_dir: directory.to_owned(),
        write_token: None,
        read_token: None,
        configuration: json!([]),
        clean: false,
        keep: Keep::default(),
        watched: None,
        allowed_hosts: Vec::new(),
        video_url: None,
        idle_alert: None,
        webhook: None,
        embed: Vec::new(),
        tls: None,
    };
    Dashboard::start(config).map_err(|error| format!("{error:#}"))
}

/// Tells 20 counts, which grow with the version.
fn tell(dashboard: &Dashboard, version: u64, counts: &mut Counts) {
    let told: Vec<_> = (0..20)
        .map(|n| video(((version * 7 + n) % u64::from(VIDEOS)) as u8))
        .map(|id| (id, version * 100))
        .collect();
    let body = update(version, &told).to_string();
    let answer = ask(dashboard.local_addr(), "POST", "/api/counts", "", body.as_bytes());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    counts.extend(told);
}

/// Sets a title. An error is what it says where the table of the action log is damaged, without whose line nothing is done.
fn set_title(dashboard: &Dashboard, version: u64) -> Result<(), String> {
    let id = video((version % u64::from(VIDEOS)) as u8);
    let body = json!({"title": title(&id)}).to_string();
    let answer =
        ask(dashboard.local_addr(), "PUT", &format!("/api/videos/{id}"), "", body.as_bytes());
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(
        answer.status == 200
            || (answer.status == 503 && text.contains("the database cannot be written")),
        "{}: {text}",
        answer.status
    );
    if answer.status == 200 { Ok(()) } else { Err(text) }
}

/// Tells counts, and what is kept of videos besides, which lies between them.
fn tell_both(dashboard: &Dashboard, version: u64, counts: &mut Counts) {
    tell(dashboard, version, counts);
    set_title(dashboard, version).unwrap();
}

/// The only title that a video ever gets.
fn title(id: &VideoId) -> String {
    format!("title of {id}")
}

/// No title is another than the one that was set.
fn check_titles(dashboard: &Dashboard) {
    let list = ask(dashboard.local_addr(), "GET", "/api/counts?limit=500", "", b"").json();
    for row in list["counts"].as_array().unwrap() {
        let id: VideoId = row["video_id"].as_str().unwrap().parse().unwrap();
        assert!(row["title"].is_null() || row["title"] == title(&id), "{row}");
    }
}

impl Part for DashboardPart {
    type Facts = Counts;
    type Opened = Dashboard;
    /// The history, and the action log.
    const MAY_BE_LATE: bool = true;
    const FILES: &'static [&'static str] = &["dashboard.sqlite3", "dashboard.journal", ".segment"];

    fn build(directory: &Path, image: &Path, state: State) -> Vec<Counts> {
        let mut counts = Counts::new();
        // What the tables have.
        let dashboard = start(directory).unwrap();
        (1..30).for_each(|version| tell_both(&dashboard, version, &mut counts));
        dashboard.shutdown().unwrap();
        // What the journal has.
        let dashboard = start(directory).unwrap();
        (30..60).for_each(|version| tell_both(&dashboard, version, &mut counts));
        let mut history = vec![counts.clone()];
        match state {
            State::Closed => dashboard.shutdown().unwrap(),
            State::Sealed | State::Killed => {
                // Some seconds without work.
                std::thread::sleep(Duration::from_secs(4));
                for version in 60..if state == State::Killed { 75 } else { 60 } {
                    tell_both(&dashboard, version, &mut counts);
                    history.push(counts.clone());
                }
            }
        }
        copy(directory, image);
        history
    }

    fn read(image: &Path) -> Result<Counts, String> {
        let found = dashboard::read_counts(image).map_err(|error| format!("{error:#}"))?;
        Ok(found.ok_or("there is no dashboard.sqlite3")?.into_iter().collect())
    }

    fn open(image: &Path) -> Result<(Dashboard, Counts, Option<String>), String> {
        let is_new = !image.join("dashboard.sqlite3").exists();
        let dashboard = start(image)?;
        assert!(!is_new, "a new database is begun beside an old journal");
        let health = ask(dashboard.local_addr(), "GET", "/healthz", "", b"").json();
        check_titles(&dashboard);
        let counts = dashboard.counts().into_iter().collect();
        Ok((dashboard, counts, health["cut"].as_str().map(str::to_owned)))
    }

    fn check_goes_on(opened: Dashboard, facts: &Counts, image: &Path) -> Result<(), String> {
        let mut counts = facts.clone();
        let mut titled = Ok(());
        for version in 1000..1004 {
            tell(&opened, version, &mut counts);
            titled = titled.and(set_title(&opened, version));
        }
        let done = opened.shutdown().map_err(|error| format!("{error:#}"));
        assert_eq!(Self::read(image), Ok(counts), "after it went on");
        titled.and(done)
    }
}
