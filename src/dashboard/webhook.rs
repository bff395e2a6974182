//! Tells a URL which alarms begin and end. Runs on the thread `dash-webhook`, which nothing waits for: while the URL is away or
//! slow, the newest of each alarm waits there, and is told when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use nsq_protocol::TlsConfig;
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use parking_lot::Mutex;
use serde::Serialize;
use ureq::Agent;
use ureq::http::Uri;

use super::alarms::{Alarm, AlarmChanges};
use super::nsqds::Severity;
use crate::model::unix_time::UnixMs;
use crate::model::words::many;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::unix_ms;
use crate::runtime::links::{LinkState, Links, PartLink};

/// How long one call may take, and so how long a stop waits for it.
const CALL_MAX: Duration = Duration::from_secs(5);

/// How long to wait after calls that failed.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Where alarms are told.
#[derive(Clone)]
pub struct WebhookConfig {
    /// `http` or `https`; a secret may be in it, so that nothing shows more of it than scheme and host.
    pub url: String,
    /// The least time between two calls that were taken; what changes meanwhile is told in one.
    pub pause: Duration,
    /// Whom an `https` URL must prove to be.
    pub tls: TlsConfig,
}

/// The thread that tells. Dropping it stops it.
pub(super) struct Webhook {
    untold: Arc<Mutex<Untold>>,
    // Holds one token at most: "alarms have changed".
    wake: Sender<()>,
    link: PartLink,
    links: Arc<Links>,
    thread: Mutex<Option<Crew<()>>>,
}

/// Alarms by their names, of which there are some dozens.
type ByName = BTreeMap<&'static str, Alarm>;

/// What has changed since the last call that was taken. An alarm that came and went meanwhile is in both.
#[derive(Clone, Default)]
struct Untold {
    begun: ByName,
    ended: ByName,
    /// What holds now.
    current: ByName,
}

/// The body of a call.
#[derive(Debug, Serialize)]
struct AlarmNews<'a> {
    /// All of it in one line for each alarm, which chat programs show.
    text: String,
    /// Where the page is, as its own machine sees it.
    url: &'a str,
    /// Now.
    time: UnixMs,
    /// What has begun since the last call, as it was last seen.
    begun: Vec<&'a Alarm>,
    /// What has ended since the last call, as it was last seen.
    ended: Vec<&'a Alarm>,
    /// All that holds now.
    alarms: Vec<&'a Alarm>,
}

impl Webhook {
    /// Starts the thread; `page` is where the dashboard's page is, for who reads the alarm.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(config: WebhookConfig, page: String) -> Result<Self> {
        let http = Agent::config_builder()
            .http_status_as_error(false)
            // A secret goes to whom the URL names, and to nobody between or behind.
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(CALL_MAX))
            .build();
        let agent = nsq_protocol::http_agent(http, config.tls.clone());
        let (untold, links) = (Arc::<Mutex<Untold>>::default(), Arc::<Links>::default());
        let link = PartLink::Webhook(shown(&config.url));
        let (wake, woken) = bounded(1);
        let (stop, stopped) = stop_pair();
        let teller = Teller {
            agent,
            config,
            page,
            untold: Arc::clone(&untold),
            link: link.clone(),
            links: Arc::clone(&links),
        };
        let mut thread = Crew::stopped_by(stop);
        thread.spawn("dash-webhook", move || teller.run(&stopped, &woken))?;
        Ok(Self { untold, wake, link, links, thread: Mutex::new(Some(thread)) })
    }

    /// Takes what has begun and ended. Never waits.
    pub(super) fn tell(&self, changes: AlarmChanges) {
        if changes.begun.is_empty() && changes.ended.is_empty() {
            return;
        }
        self.untold.lock().add(changes);
        // Full: the thread has yet to look, and will see this change, too.
        let _ = self.wake.try_send(());
    }

    /// Whether it takes what it is told.
    pub(super) fn link(&self) -> (PartLink, LinkState) {
        let state = self.links.states().remove(&self.link).unwrap_or_default();
        (self.link.clone(), state)
    }

    /// Ends the thread, behind the call that is on its way.
    pub(super) fn shutdown(&self) {
        if let Some(thread) = self.thread.lock().take() {
            thread.stop();
        }
    }
}

impl Untold {
    fn add(&mut self, AlarmChanges { begun, ended }: AlarmChanges) {
        for alarm in ended {
            self.current.remove(alarm.name);
            self.ended.insert(alarm.name, alarm);
        }
        for alarm in begun {
            self.current.insert(alarm.name, alarm.clone());
            self.begun.insert(alarm.name, alarm);
        }
    }

    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.ended.is_empty()
    }

    /// Forgets what `told` has; what has changed behind it stays.
    fn forget(&mut self, told: &Self) {
        self.begun.retain(|name, alarm| told.begun.get(name) != Some(alarm));
        self.ended.retain(|name, alarm| told.ended.get(name) != Some(alarm));
    }

    fn news<'a>(&'a self, page: &'a str) -> AlarmNews<'a> {
        let begin = self.begun.values().map(|alarm| {
            let line =
                format!("{} {}: {} {}", severity(alarm), alarm.name, alarm.text, alarm.way_out);
            line.trim_end().to_owned()
        });
        let end =
            self.ended.values().map(|alarm| format!("over {}: it was: {}", alarm.name, alarm.text));
        let lines: Vec<_> = begin.chain(end).map(|line| format!("playcounts {line}")).collect();
        AlarmNews {
            text: lines.join("\n"),
            url: page,
            time: unix_ms(),
            begun: self.begun.values().collect(),
            ended: self.ended.values().collect(),
            alarms: self.current.values().collect(),
        }
    }
}

struct Teller {
    agent: Agent,
    config: WebhookConfig,
    page: String,
    untold: Arc<Mutex<Untold>>,
    link: PartLink,
    links: Arc<Links>,
}

impl Teller {
    fn run(self, stop: &StopToken, woken: &Receiver<()>) {
        let mut next = Instant::now();
        loop {
            select! {
                recv(stop.channel()) -> _ => break,
                recv(woken) -> token => if token.is_err() { break },
            }
            if !self.tell(&mut next, stop) {
                break;
            }
        }
        let left = self.untold.lock().clone();
        if !left.is_empty() {
            let what = many((left.begun.len() + left.ended.len()) as u64, "change");
            log::warn!("{} of alarms will never be told to {}", what, shown(&self.config.url));
        }
    }

    /// Tells until nothing is left, not before `next`, behind which the next call may be; whether it was not stopped meanwhile.
    fn tell(&self, next: &mut Instant, stop: &StopToken) -> bool {
        let mut backoff = BACKOFF;
        loop {
            if stop.wait_until(*next) {
                return false;
            }
            let untold = self.untold.lock().clone();
            if untold.is_empty() {
                return true;
            }
            match self.post(&untold.news(&self.page)) {
                Ok(()) => {
                    self.links.there(self.link.clone());
                    self.untold.lock().forget(&untold);
                    *next = Instant::now() + self.config.pause;
                    backoff.succeeded();
                }
                Err(reason) => {
                    self.links.away(self.link.clone(), &reason);
                    *next = Instant::now() + backoff.failed();
                }
            }
        }
    }

    /// The error has nothing of the URL but scheme and host.
    fn post(&self, news: &AlarmNews<'_>) -> Result<(), String> {
        let url = &self.config.url;
        let body = serde_json::to_vec(news).map_err(|error| error.to_string())?;
        match self.agent.post(url).header("Content-Type", "application/json").send(body) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) => Err(error.to_string().replace(url.as_str(), &shown(url))),
        }
    }
}

fn severity(alarm: &Alarm) -> &'static str {
    if alarm.severity == Severity::Error { "error" } else { "warning" }
}

/// Scheme and host of a URL, without what may be a secret.
fn shown(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(name: &'static str, since: i64) -> Alarm {
        let (text, way_out) = ("It is full.".to_owned(), "Make room.");
        Alarm { name, severity: Severity::Error, text, way_out, count: 1, since: UnixMs(since) }
    }

    fn begin(alarm: Alarm) -> AlarmChanges {
        AlarmChanges { begun: vec![alarm], ended: Vec::new() }
    }

    fn end(alarm: Alarm) -> AlarmChanges {
        AlarmChanges { begun: Vec::new(), ended: vec![alarm] }
    }

    #[test]
    fn what_came_and_went_before_a_call_is_told_with_both() {
        let mut untold = Untold::default();
        untold.add(begin(alarm("disk-low", 1)));
        untold.add(end(alarm("disk-low", 1)));
        let news = untold.news("http://h");
        assert_eq!((news.begun.len(), news.ended.len(), news.alarms.len()), (1, 1, 0));
        let lines = "playcounts error disk-low: It is full. Make room.\nplaycounts over disk-low: it was: It is full.";
        assert_eq!(news.text, lines);
    }

    #[test]
    fn what_changes_during_a_call_is_told_by_the_next() {
        let mut untold = Untold::default();
        untold.add(begin(alarm("disk-low", 1)));
        let told = untold.clone();
        untold.add(end(alarm("disk-low", 1)));
        untold.add(begin(alarm("disk-low", 9)));
        untold.forget(&told);
        let news = untold.news("http://h");
        assert_eq!(
            (&*news.begun, &*news.ended),
            (&[&alarm("disk-low", 9)][..], &[&alarm("disk-low", 1)][..])
        );
        let told = untold.clone();
        untold.forget(&told);
        assert!(untold.is_empty());
        assert_eq!(untold.current.len(), 1);
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(
            shown("https://chat.example.org/hooks/SECRET?token=SECRET"),
            "https://chat.example.org"
        );
        assert_eq!(shown("https://user:SECRET@chat.example.org:8443/"), "https://chat.example.org");
    }
}
