//! The dashboard's view of the queue, and what may be done to it, on our broker and on a real nsqd.

use std::net::TcpListener;
use std::path::Path;

use nsq_protocol::{Admin, Producer, ProducerConfig, StatsFilter, TopicName};
use playcounts::dashboard::{Dashboard, WatchedQueue};
use playcounts::nsqd::http_tls::HttpTls;
use serde_json::{Value, json};

use crate::dashboard_support::{Running, config};
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::support::{self, on_both_brokers, wait_until};

const TOKEN: &str = "the-secret";

fn watching(nsqds: &[&str], lookupds: &[&str]) -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    config.write_token = Some(TOKEN.to_owned());
    let list = |addresses: &[&str]| addresses.iter().map(|one| (*one).to_owned()).collect();
    config.watched = Some(WatchedQueue {
        nsqds: list(nsqds),
        lookupds: list(lookupds),
        tls: HttpTls::default(),
        topic: "plays".parse().unwrap(),
        channel: "processor".parse().unwrap(),
        depth_alert: Some(4),
    });
    Running { dashboard: Dashboard::start(config).unwrap(), data }
}

/// Makes the queue at an nsqd, with that many messages in it.
fn fill(tcp: &str, http: &str, messages: usize) -> Admin {
    let topic: TopicName = "plays".parse().unwrap();
    let admin = Admin::new(http);
    admin.create_topic(&topic).unwrap();
    admin.create_channel(&topic, &"processor".parse().unwrap()).unwrap();
    let producer = Producer::connect(ProducerConfig::default().nsqd(tcp)).unwrap();
    (0..messages).for_each(|_| producer.publish(&topic, b"{}").unwrap());
    admin
}

/// Code and severity of each finding.
fn findings(running: &Running) -> Vec<(String, String)> {
    let told = running.get("/api/diagnosis").json();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = told["findings"].as_array().unwrap().iter();
    findings.map(|finding| (text(finding, "code"), text(finding, "severity"))).collect()
}

fn peek(running: &Running, body: &Value) -> (u16, Value) {
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = running.ask("POST", "/api/queue/peek", &token, body.to_string().as_bytes());
    (answer.status, answer.json())
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

/// The first channel of the first topic of the first nsqd, as it is shown.
fn channel(running: &Running) -> Value {
    running.get("/api/queue").json()["nsqds"][0]["topics"][0]["channels"][0].clone()
}

/// The code of each finding.
fn codes(running: &Running) -> Vec<String> {
    findings(running).into_iter().map(|(code, _)| code).collect()
}

/// What goes to every page.
fn present(running: &Running) -> Value {
    running.get("/api/stats").json()
}

/// Five messages are more than the alert of 4.
fn check_alert(running: &Running, found: &[String]) {
    assert!(found.contains(&"depth-alert".to_owned()), "{found:?}");
    wait_until("it is in the present", || {
        present(running)["depth_alert"] == json!({ "above": 4, "on": true })
    });
    let metrics = String::from_utf8(running.get("/metrics").body).unwrap();
    for line in ["playcounts_queue_depth 5", "playcounts_queue_depth_alert 1"] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is not in {metrics}");
    }
}

/// What is typed must be the name, and the nsqd one that is shown.
fn check_what_is_typed(running: &Running, http: &str) {
    let (status, answer) = order(running, http, "empty", Some("processor"), "plays");
    assert_eq!(status, 400);
    assert_eq!(
        answer["error"],
        r#"confirm must be "plays/processor", the name of what is touched"#
    );
    let (status, answer) =
        order(running, "127.0.0.1:1", "empty", Some("processor"), "plays/processor");
    assert_eq!(
        (status, &answer["error"]),
        (400, &json!("nsqd must be one that GET /api/queue shows"))
    );
    assert_eq!(order(running, http, "empty", Some("x"), "plays/x").0, 404);
    assert_eq!(channel(running)["depth"], 5);
}

/// Paused and not, emptied, deleted.
fn check_orders(running: &Running, http: &str) {
    assert_eq!(order(running, http, "pause", Some("processor"), "plays/processor").0, 200);
    wait_until("it is paused", || channel(running)["paused"] == true);
    assert!(codes(running).contains(&"channel-paused".to_owned()));
    let paused = json!([format!("channel at {http}")]);
    wait_until("it is in the present", || present(running)["queue_paused"] == paused);
    assert_eq!(order(running, http, "unpause", Some("processor"), "plays/processor").0, 200);
    wait_until("it goes on", || channel(running)["paused"] == false);
    assert_eq!(order(running, http, "empty", Some("processor"), "plays/processor").0, 200);
    wait_until("it is empty", || channel(running)["depth"] == 0);
    wait_until("the alert ends", || present(running)["depth_alert"]["on"] == false);
    assert_eq!(order(running, http, "pause", None, "plays").0, 200);
    wait_until("the topic is paused", || codes(running).contains(&"topic-paused".to_owned()));
    assert_eq!(order(running, http, "delete", None, "plays").0, 200);
    wait_until("it is gone", || codes(running).contains(&"no-topic".to_owned()));
}

/// Made anew, the topic before its channel; there is nothing to tombstone.
fn check_creation(running: &Running, http: &str) {
    let whole = "plays/processor";
    let (status, answer) = order(running, http, "create", Some("processor"), whole);
    let reason = answer["error"].as_str().unwrap();
    assert!(status == 404 && reason.starts_with("there is no topic plays at"), "{answer}");
    assert_eq!(order(running, http, "create", None, whole).0, 400);
    assert_eq!(order(running, http, "create", None, "plays").0, 200);
    assert_eq!(order(running, http, "create", Some("processor"), whole).0, 200);
    wait_until("it is there", || channel(running)["channel_name"] == "processor");
    assert_eq!(order(running, http, "tombstone", Some("processor"), whole).0, 400);
    let (status, answer) = order(running, http, "tombstone", None, "plays");
    let reason = answer["error"].as_str().unwrap();
    assert!(status == 404 && reason.starts_with("no nsqlookupd names"), "{answer}");
}

/// Every order was written down when it was asked for and when it was done or refused; gives the dashboard, started again.
fn check_audit(running: Running, http: &str) -> Running {
    let audit = running.get("/api/audit").json();
    let lines: Vec<_> = audit["audit"].as_array().unwrap().iter().collect();
    // Asked and done; the refused ones, too.
    assert_eq!(lines.len(), 2 * 14);
    let deleted = &lines[12];
    assert_eq!((&deleted["action"], &deleted["outcome"]), (&json!("delete"), &json!("done")));
    assert_eq!(deleted["target"], json!(format!("{http} plays")));
    assert_eq!(lines[13]["outcome"], "asked");
    assert!(lines[27]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    // It is there after a restart, and after a reset.
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    let running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    assert_eq!(running.ask("DELETE", "/api/counts", "", b"").status, 200);
    let audit = running.get("/api/audit").json();
    assert_eq!(
        (audit["audit"].as_array().unwrap().len(), &audit["audit"][0]["action"]),
        (29, &json!("reset"))
    );
    running
}

#[test]
fn the_queue_is_shown_paused_emptied_and_deleted() {
    on_both_brokers(|_, broker| {
        let http = broker.http();
        fill(&broker.tcp(), &http, 5);
        let running = watching(&[&http], &[]);
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

        check_alert(&running, &found);
        check_what_is_typed(&running, &http);
        check_orders(&running, &http);
        check_creation(&running, &http);
        let running = check_audit(running, &http);
        assert_eq!(running.get("/api/queue").json()["nsqds"], json!([]));
    });
}

#[test]
fn an_nsqd_that_is_away_is_told() {
    let running = watching(&["127.0.0.1:1"], &[]);
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

#[test]
fn an_nsqd_that_hangs_holds_up_no_other() {
    on_both_brokers(|_, broker| {
        // Takes connections and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let hangs = silent.local_addr().unwrap().to_string();
        let http = broker.http();
        fill(&broker.tcp(), &http, 4);
        let running = watching(&[&hangs, &http], &[]);
        let error =
            |running: &Running| running.get("/api/queue").json()["nsqds"][0]["error"].clone();
        let depth = |running: &Running| running.get("/api/stats").json()["queue"]["depth"].clone();
        wait_until("the depth of the other is there", || depth(&running) == 4);
        assert_eq!(error(&running), Value::Null, "it has not even been given up");
        wait_until("it is told", || error(&running).is_string());
        assert_eq!(depth(&running), 4);
        let missing = format!("nsqd {hangs}: ");
        wait_until("the sum says what it misses", || {
            let told = running.get("/api/stats").json()["queue_error"].clone();
            told.as_str().is_some_and(|told| told.starts_with(&missing))
        });
    });
}

/// Starts a processor that asks an nsqlookupd, and waits until the dashboard knows from it that it gets answers.
fn start_processor(dir: &Path, at: &str, running: &Running) -> support::Running {
    let url = running.dashboard.url();
    let args = ["process", "--lookupd-http-address", at, "--channel", "other"];
    let more = ["--dashboard-url", &url, "--write-token", TOKEN];
    let often = ["--consumer-opt", "lookupd_poll_interval,100ms"];
    let processor = support::Running::start(dir, &[&args[..], &more, &often].concat());
    let asked = || connections(running, "lookupds", "lookupd").pop().map(|(_, told)| told);
    wait_until("it answers the processor", || {
        asked().is_some_and(|told| told["answering"] == true && told["nsqds"] == 1)
    });
    processor
}

#[test]
fn nsqds_are_followed_through_nsqlookupd() {
    let Some(mut lookupd) = Nsqlookupd::start() else { return };
    let program = nsqd::find().unwrap();
    let register = format!("--lookupd-tcp-address={}", lookupd.tcp);
    let first = Nsqd::start(&program, &[&register]);
    fill(&first.addr(), &first.http_addr(), 3);
    let at = lookupd.http.to_string();
    let running = watching(&[], &[&at]);
    let shown = || running.get("/api/queue").json();
    let addresses = || -> Vec<String> {
        let shown = shown();
        let nsqds = shown["nsqds"].as_array().unwrap().iter();
        nsqds.map(|nsqd| nsqd["address"].as_str().unwrap().to_owned()).collect()
    };
    let depth = || running.get("/api/stats").json()["queue"]["depth"].clone();
    wait_until("the first one is found", || depth() == 3);
    assert_eq!(addresses(), [first.http_addr()]);
    assert_eq!(shown()["nsqds"][0]["found_by"], json!([at]));

    // Another one comes, and what it has is added.
    let mut second = Nsqd::start(&program, &[&register]);
    fill(&second.addr(), &second.http_addr(), 4);
    wait_until("both are summed", || depth() == 7);
    let told = &shown()["lookupds"][0];
    assert_eq!(
        (&told["address"], &told["answering"], &told["nsqds"]),
        (&json!(at), &json!(true), &json!(2))
    );
    let totals = shown()["totals"].clone();
    assert_eq!((&totals[0]["topic_name"], &totals[0]["nsqds"]), (&json!("plays"), &json!(2)));
    assert_eq!((&totals[1]["channel_name"], &totals[1]["depth"]), (&json!("processor"), &json!(7)));

    // It goes, and is forgotten.
    second.kill();
    wait_until("it is gone", || addresses() == [first.http_addr()] && depth() == 3);

    let dir = tempfile::tempdir().unwrap();
    let processor = start_processor(dir.path(), &at, &running);

    // Tombstoned, it is named to nobody who asks for the topic.
    let named = || {
        let told = support::get(&format!("http://{at}/lookup?topic=plays"));
        told["producers"].as_array().unwrap().len()
    };
    assert_eq!(named(), 1);
    let (status, answer) = order(&running, &first.http_addr(), "tombstone", None, "plays");
    assert_eq!((status, answer), (200, json!({ "done": true })));
    assert_eq!(named(), 0);

    // Without the nsqlookupd what is known stays, and it is told.
    lookupd.kill();
    let away = ("lookupd-away".to_owned(), "warning".to_owned());
    wait_until("it is told", || findings(&running).contains(&away));
    let told = &shown()["lookupds"][0];
    assert!(told["error"].as_str().unwrap().starts_with("cannot ask nsqlookupd"), "{told}");
    assert_eq!((addresses(), depth()), (vec![first.http_addr()], json!(3)));
    let away = ("processor-lookupd".to_owned(), "warning".to_owned());
    wait_until("the processor tells so", || findings(&running).contains(&away));
    drop(processor);
}

/// The connections that the one processor tells of, by the name of the other end.
fn connections(running: &Running, list: &str, name: &str) -> Vec<(String, Value)> {
    let told = running.get("/api/processors").json();
    let list = told["processors"][0]["consumer"][list].as_array().cloned().unwrap_or_default();
    list.into_iter().map(|one| (one[name].as_str().unwrap().to_owned(), one)).collect()
}

#[test]
fn processors_tell_of_their_connections() {
    on_both_brokers(|dir, broker| {
        let (tcp, http) = (broker.tcp(), broker.http());
        fill(&tcp, &http, 1);
        let running = watching(&[&http], &[]);
        let url = running.dashboard.url();
        let away = "127.0.0.1:1";
        let args = ["process", "--nsqd-tcp-address", &tcp, "--nsqd-tcp-address", away];
        let more = ["--dashboard-url", &url, "--write-token", TOKEN];
        let processor = support::Running::start(dir, &[&args[..], &more].concat());
        let told = || connections(&running, "connections", "nsqd");
        // A report may be of the moment between the connection and its first RDY.
        let mut both = Vec::new();
        wait_until("both are told of", || {
            both = told();
            both.len() == 2
                && both[0].1["last_error"].is_string()
                && both[1].1["rdy"].as_u64() >= Some(1)
        });
        let [(first, lost), (second, there)] = &both[..] else { panic!("two") };
        assert_eq!((&first[..], &second[..]), (away, &tcp[..]));
        assert_eq!((&lost["connected"], &lost["pause"]), (&json!(false), &json!("not_connected")));
        assert_eq!((&there["connected"], &there["pause"]), (&json!(true), &Value::Null));
        let warned = ("processor-nsqd".to_owned(), "warning".to_owned());
        assert!(findings(&running).contains(&warned), "{:?}", findings(&running));
        // Events go to every page, four times a second: they do without.
        let stats = running.get("/api/stats").json();
        assert_eq!(stats["processors"][0]["consumption"].get("consumer"), None);
        // Once it has stopped it has no connections, and that is no trouble.
        processor.signal(rustix::process::Signal::TERM);
        support::assert_exit(&processor.wait(), 0);
        assert_eq!(told(), []);
        assert!(!findings(&running).contains(&warned));
    });
}

#[test]
fn a_peek_shows_what_passes_by_and_takes_nothing() {
    on_both_brokers(|_, broker| {
        let (tcp, http) = (broker.tcp(), broker.http());
        let admin = fill(&tcp, &http, 3);
        let other: TopicName = "other".parse().unwrap();
        admin.create_topic(&other).unwrap();
        let running = watching(&[&http], &[]);
        for (body, status, reason) in [
            (json!({ "nsqd": "127.0.0.1:1", "topic": "plays" }), 400, "nsqd must be one that"),
            (json!({ "nsqd": http, "topic": "no such" }), 400, "name"),
            (json!({ "nsqd": http, "topic": "plays", "limit": 21 }), 400, "from 1 to 20"),
            (json!({ "nsqd": http, "topic": "plays", "limit": 0 }), 400, "from 1 to 20"),
            (json!({ "nsqd": http, "topic": "plays", "channel": "x" }), 400, "unknown field"),
            (json!({ "nsqd": http, "topic": "nowhere" }), 404, "there is no nowhere"),
            (json!({ "nsqd": http, "topic": "other" }), 409, "has no channel"),
        ] {
            let (got, answer) = peek(&running, &body);
            let error = answer["error"].as_str().unwrap_or_default();
            assert!(got == status && error.contains(reason), "{body}: {got} {answer}");
        }
        let whole = json!({ "nsqd": http, "topic": "plays", "limit": 4 }).to_string();
        assert_eq!(running.ask("POST", "/api/queue/peek", "", whole.as_bytes()).status, 401);
        // It waits for what is published from now on: what waits is the channel's.
        let (status, answer) = peek(&running, &json!({ "nsqd": http, "topic": "plays" }));
        assert_eq!((status, &answer["messages"]), (200, &json!([])));

        let producer = Producer::connect(ProducerConfig::default().nsqd(tcp)).unwrap();
        let topic: TopicName = "plays".parse().unwrap();
        let (mut published, mut found) = (0, Value::Null);
        std::thread::scope(|scope| {
            let peeks = scope
                .spawn(|| peek(&running, &json!({ "nsqd": http, "topic": "plays", "limit": 4 })));
            while !peeks.is_finished() {
                let body = [&b"<b>\xff"[..], &[b'x'; 10_000]].concat();
                producer.publish(&topic, &body).unwrap();
                published += 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            found = peeks.join().unwrap().1;
        });
        let messages = found["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 4, "{published} were published");
        let first = &messages[0];
        assert_eq!((&first["attempts"], &first["bytes"]), (&json!(1), &json!(10_004)));
        assert_eq!(first["id"].as_str().unwrap().len(), 16);
        let body = first["body"].as_str().unwrap();
        assert!(body.starts_with("<b>\u{fffd}x") && body.chars().count() == 4096, "{body}");
        // The channel has every message, and the other one is gone.
        let channel = "processor".parse().unwrap();
        let stats = || admin.stats(&StatsFilter::default()).unwrap();
        wait_until("its channel is gone", || stats().topic(&topic).unwrap().channels.len() == 1);
        assert_eq!(stats().channel(&topic, &channel).unwrap().depth, 3 + published);
        assert!(stats().topic(&other).unwrap().channels.is_empty());
        let audit = running.get("/api/audit").json();
        let lines = audit["audit"].as_array().unwrap();
        // What was no order, or had no token, is not written down.
        assert_eq!(lines.len(), 8, "{lines:?}");
        assert_eq!((&lines[0]["action"], &lines[0]["outcome"]), (&json!("peek"), &json!("done")));
        assert_eq!(lines[0]["target"], json!(format!("{http} plays")));
    });
}
