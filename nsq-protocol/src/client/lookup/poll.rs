//! The thread `nsq-lookup`, which asks every nsqlookupd for a topic again and again.
//!
//! Whom to connect to is decided, and connections are made, by whoever receives the answers.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, select};

use crate::client::clock::random;
use crate::client::lookup::config::LookupConfig;
use crate::client::lookup::http::{agent, get, no_answer};
use crate::client::lookup::response::{LookupResponse, read_response};
use crate::codec::names::TopicName;
use crate::error::Error;
use crate::flow::retry::Backoff;
use crate::thread::StopToken;

/// How soon the nsqlookupds are asked again once a connection was lost; it doubles up to the poll interval. A
/// restarted nsqd registers within milliseconds, and may have another port.
const HURRY: Duration = Duration::from_millis(250);

/// What the asking thread tells: which nsqlookupd, and what came of it.
pub(crate) type Polled = (usize, Result<LookupResponse, Error>);

/// Asks nsqlookupds.
pub(crate) struct Lookup {
    config: LookupConfig,
    topic: TopicName,
    agent: ureq::Agent,
}

impl Lookup {
    pub(crate) fn new(config: LookupConfig, topic: TopicName, user_agent: &str) -> Self {
        let agent = agent(&config, user_agent);
        Self { config, topic, agent }
    }

    /// Ends a request under way, but for a connection that is being made: that has its own limit.
    pub(crate) fn interrupter(&self) -> impl FnOnce() + Send + use<> {
        let agent = self.agent.clone();
        move || agent.shutdown()
    }

    /// The body of the thread: asks all of them, at once and then in intervals, until stopped. `hurry` is told when
    /// a connection was lost.
    pub(crate) fn run(self, stop: &StopToken, hurry: &Receiver<()>, polled: &Sender<Polled>) {
        let mut soon: Option<Backoff> = None;
        loop {
            for index in 0..self.config.addresses.len() {
                let answer = self.ask(&self.config.addresses[index]);
                if stop.is_stopped() || polled.send((index, answer)).is_err() {
                    return;
                }
            }
            let regular = self.config.wait(random());
            let mut wait = regular;
            if let Some(backoff) = &mut soon {
                wait = backoff.next_delay(random());
                if wait >= regular {
                    (wait, soon) = (regular, None);
                }
            }
            select! {
                recv(stop.channel()) -> _ => return,
                recv(hurry) -> lost => {
                    if lost.is_err() {
                        return;
                    }
                    let mut backoff = Backoff::new(HURRY, self.config.poll_interval);
                    // Not in step with everybody else who lost it.
                    if stop.wait(backoff.next_delay(random()).min(wait)) {
                        return;
                    }
                    soon = Some(backoff);
                }
                recv(after(wait)) -> _ => {}
            }
        }
    }

    fn ask(&self, address: &str) -> Result<LookupResponse, Error> {
        let query = [("topic", self.topic.as_str())];
        let (status, body) = get(&self.agent, address, "/lookup", &query)?;
        let answer = read_response(status, &body, &self.config.broadcast_map)
            .map_err(|reason| no_answer(address, &reason))?;
        if answer.left_out > 0 {
            let (count, reasons) = (answer.left_out, answer.reasons.join("; "));
            log::warn!("nsqlookupd {address}: {count} entries are left out: {reasons}");
        }
        Ok(answer)
    }
}
