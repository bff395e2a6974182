//! Alarms over HTTP: they begin and end with what the nsqd really tells, and every call says the same.

use std::time::Duration;

use nsq_protocol::Admin;
use playcounts::dashboard::Dashboard;
use playcounts::nsqd::depth::QueueDepth;
use serde_json::{Value, json};

use crate::dashboard_support::{Queue, Running, config, consumption, start};
use crate::support::wait_until;

/// The names of what `path` lists.
fn names(running: &Running, path: &str) -> Vec<String> {
    let answer = running.get(path).json();
    let listed = answer["alarms"].as_array().cloned().unwrap_or_default();
    let name = |alarm: &Value| alarm["name"].as_str().or(alarm.as_str()).unwrap().to_owned();
    listed.iter().map(name).collect()
}

#[test]
fn a_paused_channel_is_an_alarm_everywhere_until_it_moves() {
    let queue = Queue::start(QueueDepth { depth: 3, in_flight: 0, deferred: 0 });
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.watched = Some(queue.watched.clone());
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let report = json!({"processor": uuid::Uuid::from_u128(1), "consumption": consumption(None)});
    running.post("/api/consumption", &report, 200);
    assert_eq!(running.get("/api/alarms").json()["alarms"], json!([]));

    let admin = Admin::new(&queue.watched.nsqds[0]);
    let (topic, channel) = (queue.watched.topic, queue.watched.channel);
    admin.pause_channel(&topic, &channel).unwrap();
    let is_on = || names(&running, "/api/alarms").contains(&"channel-paused".to_owned());
    wait_until("the alarm begins", is_on);
    let told = running.get("/api/alarms").json();
    let alarm =
        told["alarms"].as_array().unwrap().iter().find(|one| one["name"] == "channel-paused");
    let alarm = alarm.unwrap();
    assert_eq!((&alarm["severity"], &alarm["count"]), (&json!("error"), &json!(1)));
    assert!(alarm["text"].as_str().unwrap().ends_with("is paused; 3 messages wait."), "{alarm}");
    let lasted = told["time"].as_i64().unwrap() - alarm["since"].as_i64().unwrap();
    assert!((5_000..60_000).contains(&lasted), "{lasted} ms");
    // One truth.
    for path in ["/api/stats", "/healthz"] {
        assert!(names(&running, path).contains(&"channel-paused".to_owned()), "{path}");
    }
    assert_eq!(running.get("/healthz").json()["status"], "ok");

    admin.unpause_channel(&topic, &channel).unwrap();
    wait_until("the alarm ends", || !is_on());
}

#[test]
fn rejected_plays_are_an_alarm_and_those_of_before_are_none() {
    let running = start();
    let report = |rejected: u64| {
        let mut told = consumption(Some("no video_id"));
        told["rejected"] = rejected.into();
        told["received"] = (2_000 + rejected).into();
        let report = json!({"processor": uuid::Uuid::from_u128(1), "consumption": told});
        running.post("/api/consumption", &report, 200);
    };
    report(5);
    // A look later than this report sees the next one as news.
    let looked = || running.get("/api/stats").json()["time"].as_i64().unwrap();
    let until = looked() + Duration::from_secs(3).as_millis() as i64;
    wait_until("it was looked", || looked() > until);
    assert_eq!(names(&running, "/api/alarms"), Vec::<String>::new());
    wait_until("the alarm begins", || {
        report(9);
        names(&running, "/api/alarms") == ["plays-rejected"]
    });
    let text = running.get("/api/alarms").json()["alarms"][0]["text"].clone();
    assert!(text.as_str().unwrap().contains("rejected 4 messages lately"), "{text}");
}

#[test]
fn an_empty_queue_is_an_alarm_where_that_is_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.idle_alert = Some(Duration::from_secs(1));
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    wait_until("the alarm begins", || {
        names(&running, "/api/alarms").contains(&"nothing-counted".to_owned())
    });
}
