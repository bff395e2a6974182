//! Bodies of a site's own: fields by JSON Pointers, arrays of plays, gzip, ids of plays, titles; and what is wrong with them.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Broker, Running, assert_exit, dashboard, get, on_both_brokers, output, total, wait_until,
    wait_until_is,
};

/// A processor of bodies of some shape, and its dashboard.
struct Site<'a> {
    dir: &'a Path,
    broker: &'a Broker,
    options: Vec<String>,
    _dashboard: Running,
    process: Option<Running>,
    url: String,
}

impl<'a> Site<'a> {
    fn start(dir: &'a Path, broker: &'a Broker, options: &[&str]) -> Self {
        let (dashboard, url) = dashboard(dir);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut site = Self { dir, broker, options, _dashboard: dashboard, process: None, url };
        site.count();
        site
    }

    /// Starts the processor.
    fn count(&mut self) {
        let tcp = self.broker.tcp();
        let mut args = vec!["process", "--nsqd-tcp-address", &tcp, "--dashboard-url", &self.url];
        args.extend(["--update-interval", "500ms"]);
        args.extend(self.options.iter().map(String::as_str));
        self.process = Some(Running::start(self.dir, &args));
    }

    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        process.wait();
    }

    /// Publishes a message.
    fn publish(&self, body: impl AsRef<[u8]>) {
        let url = format!("http://{}/pub?topic=plays", self.broker.http());
        ureq::post(&url).send(body.as_ref()).unwrap();
    }

    /// Waits until so many plays and dead letters were counted, and that many copies were dropped.
    fn wait(&self, counted: u64, rejected: u64, duplicates: u64) {
        let wanted = json!([counted, rejected, duplicates, 0]);
        wait_until_is("counted, rejected, duplicates and in flight", &wanted, || {
            let found = &get(&format!("{}/api/processors", self.url))["processors"][0];
            json!(["counted", "rejected", "duplicates", "in_flight"].map(|key| &found[key]))
        });
    }

    /// The plays and the title of a video.
    fn video(&self, id: &str) -> (u64, Value) {
        let mut found = Value::Null;
        wait_until("the video is there", || {
            let all = get(&format!("{}/api/counts?search={id}", self.url));
            found = all["counts"][0].clone();
            found["video_id"] == id
        });
        (found["plays"].as_u64().unwrap(), found["title"].clone())
    }

    /// Ends the processor in order; its report.
    fn stop(&mut self) -> String {
        let process = self.process.take().unwrap();
        process.signal(Signal::INT);
        let ended = process.wait();
        assert_exit(&ended, 0);
        String::from_utf8(ended.stdout).unwrap()
    }

    /// The reasons and bodies of the dead letters of a processor that has ended, oldest first.
    fn letters(&self) -> Vec<(String, String)> {
        let listed = output(self.dir, &["dead-letters", "--json"]);
        assert_exit(&listed, 0);
        let lines = String::from_utf8(listed.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or("(bytes)").to_owned();
        lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|letter| (text(&letter["reason"]), text(&letter["body"])))
            .collect()
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

const NESTED: [&str; 8] = [
    "--video-field",
    "/event/video/hashed_id",
    "--time-field",
    "/event/at_ms",
    "--id-field",
    "/id",
    "--title-field",
    "/event/video/name",
];

fn nested(id: &str, video: &str, title: &str) -> Value {
    json!({
        "id": id, "type": "play", "viewer": {"ip": "192.0.2.7", "tags": []},
        "event": {"at_ms": 1_790_000_000_000_u64, "video": {"hashed_id": video, "name": title}},
    })
}

#[test]
fn bodies_of_a_sites_own_are_counted_by_their_ids() {
    on_both_brokers(|dir, broker| {
        let mut site = Site::start(dir, broker, &NESTED);
        site.publish(nested("p1", "abc123DEF0", "Cats & dogs").to_string());
        site.publish(nested("p2", "abc123DEF0", "Cats & dogs").to_string());
        site.publish(nested("p3", "xyz", "A\u{7}\n<b>").to_string());
        site.publish(nested("p4", "long", &"ü".repeat(300_000)).to_string());
        // The same plays in other messages.
        site.publish(nested("p2", "abc123DEF0", "Cats & dogs").to_string());
        site.publish(gzip(nested("p3", "xyz", "A\u{7}\n<b>").to_string().as_bytes()));
        site.wait(4, 0, 2);
        assert_eq!(site.video("abc123DEF0"), (2, "Cats & dogs".into()));
        assert_eq!(site.video("xyz"), (1, "A\u{fffd}\u{fffd}<b>".into()));
        assert_eq!(site.video("long"), (1, "ü".repeat(300).into()));
        // And after a kill.
        site.kill();
        site.count();
        site.publish(nested("p1", "abc123DEF0", "Cats and dogs").to_string());
        site.publish(nested("p5", "abc123DEF0", "Cats and dogs").to_string());
        site.wait(1, 0, 1);
        wait_until("the newest title is there", || {
            site.video("abc123DEF0") == (3, "Cats and dogs".into())
        });
        assert_eq!(total(&site.url), 5);
        let report = site.stop();
        let remembered = "remembered   1 play: repeats known by their id while it is remembered";
        assert!(report.contains(remembered), "{report}");
        assert_eq!(site.letters(), []);
    });
}

#[test]
fn an_array_counts_play_by_play_and_what_is_wrong_is_told() {
    let plays = |count| format!("[{}]", vec![r#"{"v":"b"}"#; count].join(","));
    let (most, many) = (plays(10_000), plays(10_001));
    let whole = gzip(most.as_bytes());
    let million = gzip(plays(1_000_000).as_bytes());
    let bomb = gzip(&vec![b' '; 64 << 20]);
    on_both_brokers(|dir, broker| {
        let mut site =
            Site::start(dir, broker, &["--video-field", "/v", "--plays-field", "/batch"]);
        site.publish(r#"{"batch":[{"v":"a"},{"v":"a"},{"w":1},{"v":7},{"v":null}],"n":5}"#);
        site.publish(gzip(br#"[{"v":"a"},{"v":"7"}]"#));
        site.wait(5, 2, 0);
        assert_eq!(site.video("a").0, 3);
        assert_eq!(site.video("7").0, 2);
        let long = format!(r#"[{{"v":"{}"}}]"#, "x".repeat(129));
        for body in [r#"{"other":[]}"#.as_bytes(), long.as_bytes(), many.as_bytes(), b"[", b"[]"] {
            site.publish(body);
        }
        site.publish(&million);
        site.publish(&bomb);
        site.publish(&whole[..whole.len() / 2]);
        // All is well behind it.
        site.publish(&most);
        site.publish(&whole);
        site.wait(20_005, 10, 0);
        wait_until("all of it is published", || site.video("b").0 == 20_000);
        site.stop();
        let letters = site.letters();
        let wants = [
            ("element 2: nothing is at /v, --video-field", r#"[{"w":1}]"#),
            ("element 4: what is at /v, --video-field, is null: a text or", r#"[{"v":null}]"#),
            ("no array is at /batch, --plays-field", ""),
            ("at most 128 bytes, not 129", ""),
            ("more than 10000 plays in one message", ""),
            ("EOF while parsing a list at line 1 column 1", "["),
            ("an array without a play", "[]"),
            ("more than 10000 plays in one message", "(bytes)"),
            ("the gzip'd body is longer than 16777216 bytes", "(bytes)"),
            ("the gzip'd body is damaged", "(bytes)"),
        ];
        for (reason, body) in wants {
            let is_it = |letter: &&(String, String)| {
                letter.0.contains(reason) && (body.is_empty() || letter.1 == body)
            };
            assert!(letters.iter().any(|letter| is_it(&letter)), "{reason}: {letters:?}");
        }
        assert_eq!(letters.len(), wants.len());
    });
}

/// One message cannot push out all other dead letters.
#[test]
fn many_broken_elements_make_a_hundred_dead_letters() {
    on_both_brokers(|dir, broker| {
        let mut site = Site::start(dir, broker, &[]);
        let broken: Vec<_> = (0..500).map(|n| n.to_string()).collect();
        site.publish(format!(r#"[{},{{"video_id":"a"}}]"#, broken.join(",")));
        site.wait(1, 100, 0);
        site.stop();
        let letters = site.letters();
        let kept: Vec<String> =
            letters.iter().map(|(_, body)| body[1..body.len() - 1].to_owned()).collect();
        assert_eq!(kept.join(","), broken.join(","));
    });
}

/// What was finished is counted, and what comes again is dropped whole.
#[test]
fn arrays_are_counted_once_whatever_is_killed() {
    const MESSAGES: u64 = 600;
    const PLAYS: u64 = 100;
    on_both_brokers(|dir, broker| {
        // What a killed processor held comes again after a while.
        let options = ["--video-field", "", "--consumer-opt", "msg_timeout,5s"];
        let mut site = Site::start(dir, broker, &options);
        let array = |message: u64| {
            let videos: Vec<_> =
                (0..PLAYS).map(|n| format!("\"v{}\"", (message + n) % 7)).collect();
            format!("[{},null]", videos.join(","))
        };
        for message in 0..MESSAGES {
            site.publish(array(message));
            if message % 150 == 100 {
                site.kill();
                site.count();
            }
        }
        wait_until("all is counted", || total(&site.url) >= MESSAGES * PLAYS);
        site.stop();
        assert_eq!(site.letters().len() as u64, MESSAGES);
        assert_eq!(total(&site.url), MESSAGES * PLAYS);
    });
}
