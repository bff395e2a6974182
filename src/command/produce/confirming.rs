//! What `produce` waits for behind the last publish: that its plays are counted. Asked on the thread `confirm`; said on the
//! main thread, when nothing has moved for some seconds, and then seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use uuid::Uuid;

use crate::model::words::{many, of_number};
use crate::runtime::links::{Links, PartLink};
use crate::wire::client::DashboardClient;
use crate::wire::{ConfirmedAnswer, OutboxFigures};

/// How long nothing may move before it is said what is waited for: a commit and a round of reports take a second.
const FIRST_LINE: Duration = Duration::from_secs(5);

/// How long from one such line to the next.
const NEXT_LINE: Duration = Duration::from_secs(60);

/// The dashboard that says which plays are counted, and what it has said.
#[derive(Clone)]
pub(super) struct Confirming {
    dashboard: DashboardClient,
    links: Arc<Links>,
    heard: Arc<HeardAnswers>,
}

/// What was heard last.
#[derive(Default)]
struct HeardAnswers {
    /// Plays that are not known to be counted.
    waiting: AtomicU64,
    /// Processors that report to the dashboard.
    processors: AtomicUsize,
    /// Whether it has answered the last question.
    is_there: AtomicBool,
}

impl Confirming {
    /// By that dashboard; whether it is there is told to `links`.
    pub(super) fn new(dashboard: DashboardClient, links: &Arc<Links>) -> Self {
        Self { dashboard, links: links.clone(), heard: Arc::default() }
    }

    /// Where it asks.
    pub(super) fn url(&self) -> &str {
        self.dashboard.url()
    }

    /// Asks.
    ///
    /// # Errors
    /// As [`DashboardClient::confirmed`].
    pub(super) fn ask(&self, producer: &Uuid, figures: OutboxFigures) -> Result<ConfirmedAnswer> {
        let answer = self.dashboard.confirmed(producer, figures);
        let link = PartLink::Confirmations(self.url().to_owned());
        self.heard.waiting.store(figures.plays, Ordering::Relaxed);
        match &answer {
            Ok(answer) => {
                self.heard.processors.store(answer.processors, Ordering::Relaxed);
                self.links.there(link);
            }
            Err(error) => self.links.away(link, &format!("{error:#}")),
        }
        self.heard.is_there.store(answer.is_ok(), Ordering::Relaxed);
        answer
    }

    /// Plays that are not known to be counted.
    pub(super) fn waiting(&self) -> u64 {
        self.heard.waiting.load(Ordering::Relaxed)
    }

    /// What it waits for, in one line.
    pub(super) fn waits_for(&self) -> String {
        let plays = self.waiting();
        let url = self.url();
        let why = if !self.heard.is_there.load(Ordering::Relaxed) {
            format!("the dashboard {url} does not answer")
        } else if self.heard.processors.load(Ordering::Relaxed) == 0 {
            format!(
                "no processor reports to {url}: start `playcounts process`, or see why it ended"
            )
        } else {
            format!("a processor reports to {url}, but has not counted them yet")
        };
        format!(
            "waits until {} {} counted: {why}; Ctrl-C is safe, the same command goes on",
            many(plays, "play"),
            of_number(plays, "is", "are")
        )
    }
}

/// When to say that nothing moves (pure).
#[derive(Debug)]
pub(super) struct StallNotice {
    /// What had been done when something moved last: the OKs of nsqd, and the plays that wait.
    seen: (u64, u64),
    say_at: Instant,
}

impl StallNotice {
    pub(super) fn new(now: Instant) -> Self {
        Self { seen: (0, 0), say_at: now + FIRST_LINE }
    }

    /// Whether it is to be said now, with so many plays acknowledged and so many waiting to be counted.
    pub(super) fn is_over(&mut self, now: Instant, acknowledged: u64, waiting: u64) -> bool {
        if self.seen != (acknowledged, waiting) || waiting == 0 {
            self.seen = (acknowledged, waiting);
            self.say_at = now + FIRST_LINE;
            return false;
        }
        let is_over = now >= self.say_at;
        if is_over {
            self.say_at = now + NEXT_LINE;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_after_some_seconds_and_then_seldom() {
        let began = Instant::now();
        let mut patience = StallNotice::new(began);
        let mut said = Vec::new();
        for second in 0..200 {
            // All is published after 3 s; a play is counted after 100 s, the others never.
            let (acknowledged, waiting) = (second.min(3), if second < 100 { 9 } else { 8 });
            if patience.is_over(began + Duration::from_secs(second), acknowledged, waiting) {
                said.push(second);
            }
        }
        assert_eq!(said, [8, 68, 105, 165]);
    }

    #[test]
    fn who_waits_for_nothing_says_nothing() {
        let began = Instant::now();
        let mut patience = StallNotice::new(began);
        // A play a minute, each counted at once.
        assert!((0..600).all(|second| {
            !patience.is_over(began + Duration::from_secs(second), second / 60, 0)
        }));
    }
}
