//! The dashboard's view of the queue, and what may be done to it, on our broker and on a real nsqd.

use nsq_protocol::{Admin, Producer, ProducerConfig, TopicName};
use playcounts::dashboard::{Dashboard, WatchedQueue};
use serde_json::{Value, json};

use crate::dashboard_support::{Running, config};
use crate::support::{on_both_brokers, wait_until};

const TOKEN: &str = "the-secret";

fn watching(http: &str) -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.write_token = Some(TOKEN.to_owned());
    config.watched = Some(WatchedQueue {
        nsqds: vec![http.to_owned()],
        topic: "plays".parse().unwrap(),
        channel: "processor".parse().unwrap(),
    });
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

fn order(
    running: &Running,
    http: &str,
    action: &str,
    channel: Option<&str>,
    confirm: &str,
) -> (u16, Value) {
    let body = json!({ "action": action, "nsqd": http, "topic": "plays", "channel": channel, "confirm": confirm });
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = running.ask("POST", "/api/queue", &token, body.to_string().as_bytes());
    (answer.status, answer.json())
}

#[test]
fn the_queue_is_shown_paused_emptied_and_deleted() {
    on_both_brokers(|_, broker| {
        let http = broker.http();
        let topic: TopicName = "plays".parse().unwrap();
        let admin = Admin::new(&http);
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &"processor".parse().unwrap()).unwrap();
        let producer = Producer::connect(ProducerConfig::default().nsqd(broker.tcp())).unwrap();
        (0..5).for_each(|_| producer.publish(&topic, b"{}").unwrap());
        let running = watching(&http);
        let channel = |running: &Running| {
            running.get("/api/queue").json()["nsqds"][0]["topics"][0]["channels"][0].clone()
        };
        let codes = |running: &Running| -> Vec<String> {
            let findings = running.get("/api/diagnosis").json();
            let findings = findings["findings"].as_array().unwrap().iter();
            findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
        };
        wait_until("the depth is seen", || channel(&running)["depth"] == 5);
        let shown = running.get("/api/queue").json();
        assert_eq!(
            (&shown["topic"], &shown["nsqds"][0]["address"]),
            (&json!("plays"), &json!(http))
        );
        assert_eq!(shown["nsqds"][0]["topics"][0]["message_count"], 5);
        let found = codes(&running);
        assert!(
            found.contains(&"no-consumer".to_owned()) && found.contains(&"no-processor".to_owned()),
            "{found:?}"
        );

        // What is typed must be the name.
        let (status, answer) = order(&running, &http, "empty", Some("processor"), "plays");
        assert_eq!(status, 400);
        assert_eq!(
            answer["error"],
            r#"confirm must be "plays/processor", the name of what is touched"#
        );
        let (status, answer) =
            order(&running, "127.0.0.1:1", "empty", Some("processor"), "plays/processor");
        assert_eq!(
            (status, &answer["error"]),
            (400, &json!("nsqd must be one that GET /api/queue shows"))
        );
        assert_eq!(order(&running, &http, "empty", Some("x"), "plays/x").0, 404);
        assert_eq!(channel(&running)["depth"], 5);

        assert_eq!(order(&running, &http, "pause", Some("processor"), "plays/processor").0, 200);
        wait_until("it is paused", || channel(&running)["paused"] == true);
        assert!(codes(&running).contains(&"channel-paused".to_owned()));
        assert_eq!(order(&running, &http, "unpause", Some("processor"), "plays/processor").0, 200);
        wait_until("it goes on", || channel(&running)["paused"] == false);
        assert_eq!(order(&running, &http, "empty", Some("processor"), "plays/processor").0, 200);
        wait_until("it is empty", || channel(&running)["depth"] == 0);
        assert_eq!(order(&running, &http, "pause", None, "plays").0, 200);
        wait_until("the topic is paused", || codes(&running).contains(&"topic-paused".to_owned()));
        assert_eq!(order(&running, &http, "delete", None, "plays").0, 200);
        wait_until("it is gone", || codes(&running).contains(&"no-topic".to_owned()));

        let audit = running.get("/api/audit").json();
        let lines: Vec<_> = audit["audit"].as_array().unwrap().iter().collect();
        // Asked and done; the refused ones, too.
        assert_eq!(lines.len(), 2 * 8);
        assert_eq!((&lines[0]["action"], &lines[0]["outcome"]), (&json!("delete"), &json!("done")));
        assert_eq!(lines[0]["target"], json!(format!("{http} plays")));
        assert_eq!(lines[1]["outcome"], "asked");
        assert!(lines[15]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        // It is there after a restart, and after a reset.
        let Running { dashboard, data } = running;
        dashboard.shutdown().unwrap();
        let running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
        assert_eq!(running.ask("DELETE", "/api/counts", "", b"").status, 200);
        let audit = running.get("/api/audit").json();
        assert_eq!(
            (audit["audit"].as_array().unwrap().len(), &audit["audit"][0]["action"]),
            (17, &json!("reset"))
        );
        assert_eq!(running.get("/api/queue").json()["nsqds"], json!([]));
    });
}

#[test]
fn an_nsqd_that_is_away_is_told() {
    let running = watching("127.0.0.1:1");
    wait_until("it is told", || {
        let nsqd = &running.get("/api/queue").json()["nsqds"][0];
        nsqd["error"].as_str().is_some_and(|error| error.starts_with("cannot reach"))
    });
    let findings = running.get("/api/diagnosis").json();
    assert_eq!(
        (&findings["findings"][0]["severity"], &findings["findings"][0]["code"]),
        (&json!("error"), &json!("no-processor"))
    );
    assert_eq!(findings["findings"][1]["code"], "nsqd-away");
}
