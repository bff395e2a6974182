//! A producer that is none of ours: plays with an id of their own, one message each. Some it publishes twice, without asking
//! whether the first was taken. Each is of a video of its own, so that what became of each is seen in the ledger.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};
use playcounts::ledger::Snapshot;
use playcounts::model::video_id::VideoId;

/// How long nsqd may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What its videos' ids begin with: half of them are as long as YouTube's.
const VIDEOS: [&str; 2] = ["f:", "a foreign video, number "];

/// Where in its bodies a play's own id is: an option of those who read them.
pub(crate) const ID_FIELD: [&str; 2] = ["--id-field", "/session"];

/// Every so many plays are published twice.
const TWICE_EVERY: usize = 3;

/// It publishes until it is dropped.
pub(crate) struct Foreign {
    shared: Arc<Shared>,
    stop: Option<StopSource>,
    thread: Option<OwnedThread<()>>,
}

struct Shared {
    broker: Mutex<SocketAddr>,
    /// By number, whether nsqd has acknowledged it.
    plays: Mutex<Vec<bool>>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Foreign {
    /// Publishes so many plays a second by HTTP.
    pub(crate) fn start(broker_http: SocketAddr, rate: u64) -> Result<Self> {
        let shared = Arc::new(Shared { broker: Mutex::new(broker_http), plays: Mutex::default() });
        let (stop, stopped) = stop_pair();
        let thread = OwnedThread::spawn("foreign", {
            let shared = Arc::clone(&shared);
            move || shared.run(&stopped, Duration::from_secs(1) / rate as u32)
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The broker is there from now on.
    pub(crate) fn moved_to(&self, broker_http: SocketAddr) {
        *self.shared.broker.lock().unwrap() = broker_http;
    }

    /// Publishes no more.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
        self.thread = None;
    }

    /// Takes its plays out of what the ledger holds, and says what became of them. `kills` of nsqd were no orderly stop: each
    /// loses what was in flight.
    pub(crate) fn settle(&self, ledger: &mut Snapshot, kills: usize) -> Result<String> {
        let mut counted: HashMap<VideoId, u64> = HashMap::new();
        ledger.videos.retain(|video| {
            let is_foreign = VIDEOS.iter().any(|start| video.video_id.starts_with(start));
            if is_foreign {
                *counted.entry(video.video_id).or_default() += video.plays;
            }
            !is_foreign
        });
        // Those are all that are known by their own ids or by their messages.
        let all: u64 = counted.values().sum();
        ledger.counters.counted = ledger.counters.counted.saturating_sub(all);
        ledger.counters.by_message = ledger.counters.by_message.saturating_sub(all);
        let plays = self.shared.plays.lock().unwrap();
        let (mut lost, mut unsure) = (0, 0);
        for (number, is_acknowledged) in plays.iter().enumerate() {
            let times = counted.remove(&video(number as u64)).unwrap_or(0);
            match (times, is_acknowledged) {
                (0, true) => lost += 1,
                (1, false) => unsure += 1,
                (0 | 1, _) => {}
                _ => bail!("play {number} of the foreign producer is counted {times} times"),
            }
        }
        let phantom = counted.len();
        let acknowledged = plays.iter().filter(|is_acknowledged| **is_acknowledged).count();
        let said = format!(
            "foreign: attempted {}, acknowledged {acknowledged}: lost {lost}, phantom {phantom}, double 0; counted without an \
             answer {unsure}; nsqd was killed {kills} times",
            plays.len()
        );
        if phantom > 0 || lost > 0 && kills == 0 {
            bail!("{said}");
        }
        Ok(said)
    }
}

fn video(number: u64) -> VideoId {
    let [short, long] = VIDEOS;
    let text = if number.is_multiple_of(2) {
        format!("{short}{number:09}")
    } else {
        format!("{long}{number}")
    };
    VideoId::parse(&text).expect("it is short and has no control characters")
}

impl Shared {
    fn run(&self, stopped: &StopToken, pause: Duration) {
        let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_LIMIT)).build();
        let agent = ureq::Agent::new_with_config(agent);
        while !stopped.wait(pause) {
            let number = {
                let mut plays = self.plays.lock().unwrap();
                plays.push(false);
                plays.len() - 1
            };
            let url = format!("http://{}/pub?topic=plays", *self.broker.lock().unwrap());
            let video = video(number as u64);
            let body =
                format!(r#"{{"site":"elsewhere","session":"p-{number}","video_id":"{video}"}}"#);
            for _ in 0..if number.is_multiple_of(TWICE_EVERY) { 2 } else { 1 } {
                if agent.post(&url).send(&body).is_ok() {
                    self.plays.lock().unwrap()[number] = true;
                }
            }
        }
    }
}
