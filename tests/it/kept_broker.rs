//! `playcounts broker --data-path`, as a process of its own.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::broker_support::{Client, http};
use crate::support::{Running, command};

/// A broker that keeps its messages below a directory.
pub(crate) struct KeptBroker {
    pub(crate) process: Running,
    pub(crate) tcp: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl KeptBroker {
    pub(crate) fn start(dir: &Path, options: &[&str]) -> Self {
        let data = dir.join("messages");
        let mut args =
            vec!["broker", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
        args.extend(["--data-path", data.to_str().unwrap()]);
        args.extend(options);
        let mut command = command(dir, &args);
        // Some thousand messages are many segments.
        command.env("PLAYCOUNTS_TOPIC_SEGMENT", "65536");
        let mut process = Running::spawn(command, "broker");
        let tcp = process.wait_for("TCP: listening on").parse().unwrap();
        let http = process.has_said("HTTP: listening on").parse().unwrap();
        Self { process, tcp, http }
    }

    pub(crate) fn kill(self) {
        self.process.signal(Signal::KILL);
        let _ = self.process.wait();
    }

    pub(crate) fn stop(self) {
        self.process.signal(Signal::TERM);
        assert!(self.process.wait().status.success());
    }

    /// Makes a topic with the channel `a`, and publishes so many messages of 100 bytes: these.
    pub(crate) fn fill(&self, topic: &str, count: usize) -> Vec<String> {
        self.post(&format!("/topic/create?topic={topic}"));
        self.post(&format!("/channel/create?topic={topic}&channel=a"));
        let mut producer = Client::connect(self.tcp);
        let all: Vec<String> = (0..count).map(|id| format!("{id:<100}")).collect();
        for chunk in all.chunks(100) {
            let chunk: Vec<&[u8]> = chunk.iter().map(|body| body.as_bytes()).collect();
            producer.publish_many(topic, &chunk);
        }
        all
    }

    pub(crate) fn post(&self, target: &str) {
        assert_eq!(http(self.http, "POST", target, b"").0, 200, "{target}");
    }

    /// The channel's part of `/stats`.
    pub(crate) fn channel(&self, topic: &str, channel: &str) -> Value {
        let target = format!("/stats?format=json&topic={topic}&channel={channel}");
        let stats: Value = serde_json::from_str(&http(self.http, "GET", &target, b"").2).unwrap();
        stats["topics"][0]["channels"][0].clone()
    }

    pub(crate) fn depth(&self, topic: &str, channel: &str) -> u64 {
        self.channel(topic, channel)["depth"].as_u64().unwrap_or(0)
    }
}
