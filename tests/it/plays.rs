//! What stands in a play's body, and when it was made: whatever a producer writes beside a good `video_id`, the play counts,
//! and what is odd about it is told.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nsq_protocol::Command;
use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::broker_support::Client;
use crate::support::{self, Broker, Running, assert_exit, get, on_both_brokers, post, wait_until};

/// A processor on a broker, and its dashboard.
struct Site {
    _dashboard: Running,
    process: Option<Running>,
    url: String,
    publish: String,
}

impl Site {
    fn start(dir: &Path, broker: &Broker, more: &[&str]) -> Self {
        let (dashboard, url) = support::dashboard(dir);
        let publish = format!("http://{}/pub?topic=plays", broker.http());
        let mut site = Self { _dashboard: dashboard, process: None, url, publish };
        site.count(dir, broker, more);
        site
    }

    /// Starts the processor.
    fn count(&mut self, dir: &Path, broker: &Broker, more: &[&str]) {
        let tcp = broker.tcp();
        let args = ["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &self.url];
        self.process = Some(Running::start(dir, &[&args, more].concat()));
    }

    /// Publishes a play of a video with these optional fields.
    fn play(&self, video: u128, fields: &str) {
        let comma = if fields.is_empty() { "" } else { "," };
        let video = Uuid::from_u128(video);
        post(&self.publish, &format!("{{\"video_id\":\"{video}\"{comma}{fields}}}"));
    }

    /// What the one processor says, once it has received so many messages and reported it.
    fn processor(&self, received: u64) -> Value {
        let mut found = Value::Null;
        wait_until("the messages are received", || {
            found = self.processor_now();
            found["received"] == received && found["in_flight"] == 0
        });
        found
    }

    /// The same, as it is.
    fn processor_now(&self) -> Value {
        get(&format!("{}/api/processors", self.url))["processors"][0].clone()
    }

    /// The texts of the findings of this code.
    fn findings(&self, code: &str) -> Vec<String> {
        let found = get(&format!("{}/api/diagnosis", self.url))["findings"].take();
        let found = found.as_array().cloned().unwrap_or_default();
        let texts = found.iter().filter(|one| one["code"] == code);
        texts.map(|one| one["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.url);
        ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()
    }

    fn video(&self, video: u128) -> Value {
        let id = Uuid::from_u128(video);
        let mut found = Value::Null;
        wait_until("the video is there", || {
            let all = get(&format!("{}/api/counts?search={id}", self.url));
            found = all["counts"][0].clone();
            !found.is_null()
        });
        found
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[test]
fn a_play_counts_whatever_stands_in_its_optional_fields() {
    on_both_brokers(|dir, broker| {
        let site = Site::start(dir, broker, &[]);
        let (now, producer) = (now_ns(), Uuid::from_u128(9));
        let fields = [
            // What is understood.
            format!(r#""enqueued_at":{:e}"#, now as f64),
            format!(r#""enqueued_at":{:.3}"#, now as f64 / 1e9),
            format!(r#""enqueued_at":"{now}""#),
            format!(r#""enqueued_at":{}"#, now / 1_000_000),
            format!(r#""enqueued_at":"{}""#, time_text(now)),
            format!(r#""producer":"{producer}","seq":3.0"#),
            format!(r#""producer":"{producer}","seq":"7""#),
            r#""enqueued_at":null,"producer":null,"seq":null,"resent":null"#.to_owned(),
            // What is not.
            r#""enqueued_at":true"#.to_owned(),
            r#""enqueued_at":[1],"resent":0"#.to_owned(),
            r#""producer":"web-1","seq":4"#.to_owned(),
            r#""producer":"","seq":null"#.to_owned(),
            format!(r#""producer":"{producer}","seq":-1"#),
            r#""resent":"false""#.to_owned(),
        ];
        for (video, fields) in fields.iter().enumerate() {
            site.play(video as u128, fields);
        }
        let all = fields.len() as u64;
        let told = site.processor(all);
        assert_eq!((&told["counted"], &told["rejected"]), (&all.into(), &0.into()), "{told}");
        let ignored = &told["arrivals"]["ignored"];
        for (field, count, samples) in [
            ("enqueued_at", 2, ["true", "[1]"]),
            ("producer", 2, ["\"web-1\"", "\"\""]),
            ("seq", 1, ["-1", "-1"]),
            ("resent", 2, ["0", "\"false\""]),
        ] {
            assert_eq!(ignored[field]["count"], count, "{field}: {told}");
            let sample = ignored[field]["sample"].as_str().unwrap();
            assert!(samples.contains(&sample), "{field}: {told}");
            let line = format!("field=\"{field}\"}} {count}\n");
            let metrics = site.metrics();
            assert!(metrics.contains(&line), "{line}{metrics}");
        }
        let texts = site.findings("ignored-fields");
        assert_eq!(texts.len(), 4, "{texts:?}");
        let seq = "could not read the field seq of 1 play, such as -1. It counts as missing, and the play is counted.";
        assert!(texts.iter().any(|text| text.ends_with(seq)), "{texts:?}");
        assert_eq!(told["arrivals"]["skewed"]["behind"], 0, "{told}");
        // The identities that were understood: their plays count once.
        site.play(100, &format!(r#""producer":"{producer}","seq":3"#));
        site.play(101, &format!(r#""producer":"{producer}","seq":7.00"#));
        assert_eq!(site.processor(all + 2)["duplicates"], 2);
    });
}

/// RFC 3339 in UTC.
fn time_text(ns: u64) -> String {
    playcounts::model::unix_time::UnixMs::from_ns(ns).to_string()
}

/// Whatever a producer's clock or unit says, the consumption times and the last play are of this world.
#[test]
fn no_clock_and_no_unit_poisons_the_times() {
    on_both_brokers(|dir, broker| {
        let site = Site::start(dir, broker, &[]);
        let now = now_ns();
        const HOUR: u64 = 3_600_000_000_000;
        // Right, in each unit: µs, ms, s. The last is cut by up to a second.
        for enqueued_at in [now / 1_000, now / 1_000_000, now / 1_000_000_000] {
            site.play(1, &format!(r#""enqueued_at":{enqueued_at}"#));
        }
        // Wrong: an hour ahead, in 2262, thirty days ago.
        for enqueued_at in [now + HOUR, i64::MAX as u64, now - 30 * 24 * HOUR] {
            site.play(2, &format!(r#""enqueued_at":{enqueued_at}"#));
        }
        // None, and no moment at all.
        site.play(3, "");
        site.play(4, r#""enqueued_at":0"#);
        let told = site.processor(8);
        assert_eq!(told["counted"], 8, "{told}");
        let skewed = &told["arrivals"]["skewed"];
        assert_eq!((&skewed["ahead"], &skewed["behind"]), (&2.into(), &1.into()), "{told}");
        assert_eq!(told["arrivals"]["ignored"]["enqueued_at"]["sample"], "0");
        let stats = get(&format!("{}/api/stats", site.url));
        let consumption = &stats["processors"][0]["consumption"];
        // Those that are believed: three of the producer, two of nsqd.
        assert_eq!(consumption["histogram"]["count"], 5, "{consumption}");
        assert!(consumption["since_start"]["max"].as_f64().unwrap() < 60_000.0, "{consumption}");
        let texts = site.findings("skewed-times");
        let text = "1 play with a time long ago and 2 with one in the future";
        assert!(texts.len() == 1 && texts[0].contains(text), "{texts:?}");
        let metrics = site.metrics();
        assert!(metrics.contains("side=\"ahead\"} 2\n"), "{metrics}");
        for video in 1..=4 {
            let played = site.video(video)["last_played_at"].as_u64().unwrap() * 1_000_000;
            assert!(played + HOUR > now && played <= now_ns(), "{video}: {played}");
        }
    });
}

#[test]
fn the_window_of_times_is_an_option() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let window = ["--time-window-back", "1h", "--time-window-ahead", "2h"];
    let site = Site::start(dir.path(), &broker, &window);
    let now = now_ns();
    const HOUR: u64 = 3_600_000_000_000;
    for enqueued_at in [now + HOUR, now + 3 * HOUR, now - HOUR / 2, now - 2 * HOUR] {
        site.play(1, &format!(r#""enqueued_at":{enqueued_at}"#));
    }
    let skewed = &site.processor(4)["arrivals"]["skewed"];
    assert_eq!((&skewed["ahead"], &skewed["behind"]), (&1.into(), &1.into()), "{skewed}");
    let consumption = &get(&format!("{}/api/stats", site.url))["processors"][0]["consumption"];
    assert_eq!(consumption["histogram"]["count"], 2, "{consumption}");
}

/// A foreign producer that begins its numbers at 0 again, with other videos or with the same one.
#[test]
fn a_producer_that_gives_its_numbers_twice_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let site = Site::start(dir.path(), &broker, &[]);
    let (producer, began) = (Uuid::from_u128(9), now_ns() / 1_000_000 - 100_000);
    let play = |video: u128, seq: u64, second: u64| {
        let at = began + second * 1000;
        site.play(video, &format!(r#""producer":"{producer}","seq":{seq},"enqueued_at":{at}"#));
    };
    (0..10).for_each(|seq| play(1, seq, seq));
    assert_eq!(site.processor(10)["arrivals"]["reused"]["producers"], Value::Array(Vec::new()));
    assert_eq!(site.findings("reused-numbers"), Vec::<String>::new());
    (0..4).for_each(|seq| play(2, seq, 50 + seq));
    site.processor(14);
    let text = format!(
        "4 plays of producer {producer} have numbers (seq) that it has used before, for other videos. They are not counted."
    );
    assert_eq!(site.findings("reused-numbers"), [text]);
    (0..6).for_each(|seq| play(1, seq, 60 + seq));
    let told = site.processor(20);
    assert_eq!(told["duplicates"], 10);
    // One in 256 is taken for a copy.
    let unproven = told["arrivals"]["reused"]["unproven"].as_u64().unwrap();
    assert!((4..=6).contains(&unproven), "{told}");
    let total = 4 + unproven;
    let texts = site.findings("reused-numbers");
    let text =
        format!("{total} plays of producer {producer} have numbers (seq) that it has used before");
    assert!(texts.len() == 1 && texts[0].starts_with(&text), "{texts:?}");
    assert!(site.metrics().contains(&format!(
        "reused_numbers_total{{processor=\"{}\"}} {total}\n",
        told["processor"].as_str().unwrap()
    )));
    // The window of messages is told, too: no play was without an identity.
    assert_eq!(told["arrivals"]["window"]["messages"], 0);
    site.play(3, "");
    let window = &site.processor(21)["arrivals"]["window"];
    assert_eq!((&window["messages"], &window["redelivered_unknown"]), (&1.into(), &0.into()));
    assert!(window["bytes"].as_u64().unwrap() > 0, "{window}");
    assert!(window["oldest_ms"].as_u64().unwrap() < 60_000, "{window}");
}

/// A play without an identity that nsqd delivers again, when the window has forgotten as many as it holds.
#[test]
fn a_delivery_again_that_may_have_been_forgotten_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let window = ["--message-window-mb", "1"];
    let mut site = Site::start(dir.path(), &broker, &window);
    let line = format!("{{\"video_id\":\"{}\"}}\n", Uuid::from_u128(1));
    let mpub = format!("http://{}/mpub?topic=plays", broker.http());
    // Four times what a MiB holds at least.
    let messages = 132_000;
    (0..messages / 6_000).for_each(|_| post(&mpub, &line.repeat(6_000)));
    let told = site.processor(messages);
    let of_window = &told["arrivals"]["window"];
    assert!(of_window["bytes"].as_u64().unwrap() <= 1 << 20, "{told}");
    let remembered = of_window["messages"].as_u64().unwrap();
    assert!((32_768..=65_536).contains(&remembered), "{told}");
    assert_eq!(of_window["redelivered_unknown"], 0, "{told}");
    let process = site.process.take().unwrap();
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
    // Another consumer takes it first, and gives it back.
    site.play(2, "");
    let mut other = Client::consumer(broker.tcp().parse().unwrap(), "plays", "processor", 1);
    let message = other.message();
    other.send(Command::Req(message.id, 0));
    drop(other);
    site.count(dir.path(), &broker, &window);
    let told = site.processor(1);
    let of_window = &told["arrivals"]["window"];
    assert_eq!(of_window["redelivered_unknown"], 1, "{of_window}");
    assert!(of_window["messages"].as_u64().unwrap() >= 32_768, "{of_window}");
    let texts = site.findings("messages-forgotten");
    assert!(
        texts.len() == 1 && texts[0].contains("delivered 1 play without an identity again"),
        "{texts:?}"
    );
    assert!(site.metrics().contains("redelivered_unknown_total{"));
    wait_until("it is published", || {
        get(&format!("{}/api/stats", site.url))["total_plays"] == messages + 1
    });
}

/// Between two publications the number of plays moves with the reports, and stays with the publication. Percentiles over all
/// processors are those that the processor tells, to 2 %.
#[test]
fn plays_are_shown_before_they_are_published() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let site =
        Site::start(dir.path(), &broker, &["--update-interval", "1h", "--realtime-below", "10"]);
    // What is published first may be all there is by then; from 9 plays on the others wait.
    (0..12).for_each(|_| site.play(1, ""));
    wait_until("9 are published", || {
        get(&format!("{}/api/stats", site.url))["total_plays"].as_u64() >= Some(9)
    });
    (0..13).for_each(|_| site.play(1, ""));
    site.play(2, "");
    let mut stats = Value::Null;
    wait_until("all 26 are shown", || {
        stats = get(&format!("{}/api/stats", site.url));
        assert!(stats["counted_plays"].as_u64() <= Some(26), "{stats}");
        stats["counted_plays"] == 26
    });
    let published = stats["total_plays"].as_u64().unwrap();
    assert!((9..=13).contains(&published), "{stats}");
    let publication = &stats["publication"];
    assert_eq!(
        (&publication["from_plays"], &publication["every_ms"]),
        (&10.into(), &3_600_000.into())
    );
    assert!((3_000_000..=3_600_000).contains(&publication["next_ms"].as_u64().unwrap()), "{stats}");
    site.processor(26);
    let stats = get(&format!("{}/api/stats", site.url));
    let told = stats["processors"][0]["consumption"]["since_start"]["p99"].as_f64().unwrap();
    let shown = stats["consumption"]["p99_ms"].as_f64().unwrap();
    assert!((shown - told).abs() <= told * 0.02, "{shown} for {told}");
    // Its stop publishes all.
    let mut site = site;
    let process = site.process.take().unwrap();
    process.signal(Signal::TERM);
    process.wait();
    let stats = get(&format!("{}/api/stats", site.url));
    assert_eq!((&stats["total_plays"], &stats["counted_plays"]), (&26.into(), &26.into()));
    assert_eq!(stats["publication"], Value::Null);
}
