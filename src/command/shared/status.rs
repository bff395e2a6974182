//! Says on stderr what becomes of what a part depends on: the thread `status`, which looks twice a second. What it says is
//! decided in [`StatusLines`], which has no clock: one line for each change, and for what flaps one in 10 s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nsq_protocol::thread::{Crew, stop_pair};

use crate::command::shared::output::status;
use crate::model::words::many;
use crate::runtime::links::{LinkState, Links, PartLink};

/// How often it is looked: how late a line may be.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After a line for a second change within that time nothing is said of the same thing for as long.
const CALM: Duration = Duration::from_secs(10);

/// The same where only the reason is another one: a reason may hold what changes each time.
const OTHER_REASON: Duration = Duration::from_secs(60);

/// The most lines in [`CALM`], whatever happens to how many things; what is left out is said later, if it still holds.
const LINES_MAX: usize = 20;

/// Says what changes, until it is dropped.
pub(crate) struct StatusWatch {
    _thread: Crew<()>,
}

impl StatusWatch {
    /// Says of a `part`, `process`, what changes in its links.
    ///
    /// # Errors
    /// The operating system's, when it refuses the thread.
    pub(crate) fn start(part: &'static str, links: &Arc<Links>) -> Result<Self> {
        let links = links.clone();
        let (source, stop) = stop_pair();
        let mut thread = Crew::stopped_by(source);
        thread.spawn("status", move || {
            let mut lines = StatusLines::default();
            loop {
                let is_over = stop.wait(LOOK_EVERY);
                let which = if is_over { LinkLook::Last } else { LinkLook::Again };
                let found = lines.look(Instant::now(), links.states(), which);
                found.iter().for_each(|line| status(part, format_args!("{line}")));
                if is_over {
                    return;
                }
            }
        })?;
        Ok(Self { _thread: thread })
    }
}

/// Which look it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkLook {
    /// Another one follows: what flaps can wait.
    Again,
    /// What is not said now never is.
    Last,
}

/// What was said of each thing, and so what is to be said now.
#[derive(Debug, Default)]
struct StatusLines {
    said: BTreeMap<PartLink, Said>,
    /// When the newest lines were said.
    lines: VecDeque<Instant>,
}

/// What was said of one thing.
#[derive(Debug, Default)]
struct Said {
    /// Why it was away; `None`: it was there.
    away: Option<String>,
    /// How often it had been away.
    losses: u64,
    /// When; `None`: nothing was said yet.
    at: Option<Instant>,
    /// It was the first line for a while: another change is said at once.
    was_calm: bool,
}

impl StatusLines {
    /// The lines to say now.
    fn look(
        &mut self,
        now: Instant,
        mut states: BTreeMap<PartLink, LinkState>,
        which: LinkLook,
    ) -> Vec<String> {
        let is_nsqd_away = states
            .iter()
            .any(|(link, state)| matches!(link, PartLink::Nsqd(_)) && state.away.is_some());
        if is_nsqd_away {
            // That says it already.
            states.remove(&PartLink::Publishing);
        }
        // A publishing that is left out is not gone: it would be news again.
        self.said.retain(|link, _| states.contains_key(link) || *link == PartLink::Publishing);
        while self.lines.front().is_some_and(|at| now.saturating_duration_since(*at) >= CALM) {
            self.lines.pop_front();
        }
        let mut found = Vec::new();
        for (link, state) in states {
            if self.lines.len() >= LINES_MAX {
                break;
            }
            let line = match self.said.get_mut(&link) {
                Some(said) => said.change(now, &link, state, which),
                None => {
                    let line = first_line(&link, &state);
                    let at = line.is_some().then_some(now);
                    let LinkState { away, losses, .. } = state;
                    self.said.insert(link, Said { away, losses, at, was_calm: true });
                    line
                }
            };
            if let Some(line) = line {
                self.lines.push_back(now);
                found.push(line);
            }
        }
        found
    }
}

impl Said {
    /// What to say of its state, if it has changed and may be said.
    fn change(
        &mut self,
        now: Instant,
        link: &PartLink,
        state: LinkState,
        which: LinkLook,
    ) -> Option<String> {
        let LinkState { away, losses, .. } = state;
        // A source that begins anew counts from 0 again.
        let more = losses.saturating_sub(self.losses);
        if self.away == away && more == 0 {
            self.losses = losses;
            return None;
        }
        let is_reason_only = self.away.is_some() && away.is_some() && more == 0;
        let gap = if is_reason_only { OTHER_REASON } else { CALM };
        let is_calm = self.at.is_none_or(|at| now.saturating_duration_since(at) >= gap);
        if !is_calm && !self.was_calm && which == LinkLook::Again {
            return None;
        }
        let line = match (&self.away, &away) {
            // It was away between two looks, or all those for which nothing could be said.
            (None, None) => Some(format!(
                "{} was away {} and is there again",
                name(link),
                if more == 1 { "for a moment".to_owned() } else { many(more, "time") }
            )),
            (_, Some(reason)) => Some(with_count(away_line(link, reason), more.saturating_sub(1))),
            (Some(_), None) => back_line(link).map(|line| with_count(line, more)),
        };
        *self =
            Self { away, losses, at: Some(now), was_calm: is_calm && more <= 1 && !is_reason_only };
        line
    }
}

/// What happened besides what the line says.
fn with_count(line: String, more: u64) -> String {
    match more {
        0 => line,
        more => format!("{line} (and was away {} more since the last line)", many(more, "time")),
    }
}

/// What to say of something that is seen for the first time.
fn first_line(link: &PartLink, state: &LinkState) -> Option<String> {
    match &state.away {
        Some(reason) => Some(away_line(link, reason)),
        None if state.is_news => Some(match link {
            PartLink::Processor(_) => format!("{} reports", name(link)),
            _ => format!("{} is connected", name(link)),
        }),
        None => None,
    }
}

fn name(link: &PartLink) -> String {
    match link {
        PartLink::Start => "what the start waits for".to_owned(),
        PartLink::Ledger => "the ledger".to_owned(),
        PartLink::Nsqd(address) => format!("nsqd {address}"),
        PartLink::Lookupd(address) => format!("nsqlookupd {address}"),
        PartLink::Dashboard(url) | PartLink::Confirmations(url) => format!("the dashboard {url}"),
        PartLink::Publishing => "the nsqd that takes plays".to_owned(),
        PartLink::Outbox => "the outbox's room".to_owned(),
        PartLink::Writers => "somebody who may not write".to_owned(),
        PartLink::Webhook(host) => format!("the webhook at {host}"),
        PartLink::Processor(id) => format!("processor {id}"),
    }
}

fn away_line(link: &PartLink, reason: &str) -> String {
    match link {
        PartLink::Start => format!("waits: {reason}; trying again"),
        PartLink::Ledger => {
            format!("the ledger is away: {reason}; nothing is counted until it is back")
        }
        PartLink::Nsqd(_) => format!("{} is away: {reason}", name(link)),
        PartLink::Lookupd(_) => {
            format!(
                "{} does not answer: {reason}; new nsqds are not found until it does",
                name(link)
            )
        }
        PartLink::Dashboard(url) => {
            let reason = without(reason, &format!("no dashboard at {url}: "));
            format!("cannot publish to {url}: {reason}; trying again, and counting goes on")
        }
        PartLink::Confirmations(url) => {
            let reason = without(reason, &format!("no dashboard at {url}: "));
            format!("cannot ask {url} which plays are counted: {reason}; asking again")
        }
        PartLink::Publishing => format!("cannot publish: {reason}; the plays stay in the outbox"),
        PartLink::Outbox => {
            format!("the outbox is {reason}; waiting for a processor to count some")
        }
        PartLink::Writers => format!("refuses writes: {reason}"),
        PartLink::Webhook(_) => {
            format!("{} was not told of alarms: {reason}; trying again", name(link))
        }
        PartLink::Processor(_) => format!("{} {reason}", name(link)),
    }
}

/// `None`: what goes on says it.
fn back_line(link: &PartLink) -> Option<String> {
    Some(match link {
        PartLink::Start | PartLink::Writers => return None,
        PartLink::Ledger => "the ledger is there again; counting goes on".to_owned(),
        PartLink::Nsqd(_) => format!("{} is back", name(link)),
        PartLink::Lookupd(_) => format!("{} answers again", name(link)),
        PartLink::Dashboard(url) => format!("publishes to {url} again"),
        PartLink::Confirmations(url) => format!("{url} says again which plays are counted"),
        PartLink::Publishing => "publishes again".to_owned(),
        PartLink::Outbox => "the outbox has room again".to_owned(),
        PartLink::Webhook(_) => format!("{} takes alarms again", name(link)),
        PartLink::Processor(_) => format!("{} reports again", name(link)),
    })
}

/// A reason without what the line has said before it.
fn without<'a>(reason: &'a str, said: &str) -> &'a str {
    reason.strip_prefix(said).unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nsqd() -> PartLink {
        PartLink::Nsqd("a:1".to_owned())
    }

    /// The lines of one thing that is there or away, so often lost so far, at that time in ms.
    struct Watched {
        lines: StatusLines,
        began: Instant,
    }

    impl Watched {
        fn new() -> Self {
            Self { lines: StatusLines::default(), began: Instant::now() }
        }

        fn at(&mut self, ms: u64, away: Option<&str>, losses: u64) -> Vec<String> {
            let state = LinkState { away: away.map(str::to_owned), losses, is_news: false };
            let now = self.began + Duration::from_millis(ms);
            self.lines.look(now, BTreeMap::from([(nsqd(), state)]), LinkLook::Again)
        }
    }

    #[test]
    fn a_loss_and_the_return_are_said_at_once_and_once() {
        let mut watched = Watched::new();
        assert!(watched.at(0, None, 0).is_empty());
        for loss in 1..4 {
            let ms = loss * 60_000;
            assert_eq!(watched.at(ms, Some("gone"), loss), ["nsqd a:1 is away: gone"]);
            assert!(watched.at(ms + 500, Some("gone"), loss).is_empty());
            assert_eq!(watched.at(ms + 1_000, None, loss), ["nsqd a:1 is back"]);
            assert!(watched.at(ms + 1_500, None, loss).is_empty());
        }
        // Between two looks.
        let line = "nsqd a:1 was away for a moment and is there again";
        assert_eq!(watched.at(300_000, None, 4), [line]);
    }

    #[test]
    fn what_flaps_is_said_once_in_ten_seconds_with_a_count() {
        let mut watched = Watched::new();
        let mut said = Vec::new();
        // Away in each second second, for a minute.
        for look in 0..120_u64 {
            let second = look / 2;
            let away = (second % 2 == 1).then_some("gone");
            let losses = second.div_ceil(2);
            said.extend(
                watched.at(look * 500, away, losses).into_iter().map(|line| (second, line)),
            );
        }
        let seconds: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [1, 2, 12, 22, 32, 42, 52]);
        assert_eq!(said[2].1, "nsqd a:1 was away 5 times and is there again");
        // What is left unsaid is said in the end.
        let last = watched.at(100_000, Some("gone"), 31);
        assert_eq!(
            last,
            ["nsqd a:1 is away: gone (and was away 4 times more since the last line)"]
        );
        // At the end nothing is held back.
        assert!(watched.at(101_000, None, 31).is_empty());
        let state = LinkState { away: None, losses: 31, is_news: false };
        let (now, states) = (watched.began + Duration::from_secs(102), [(nsqd(), state)]);
        assert_eq!(watched.lines.look(now, states.into(), LinkLook::Last), ["nsqd a:1 is back"]);
    }

    #[test]
    fn another_reason_is_told_and_one_that_always_changes_seldom() {
        let mut watched = Watched::new();
        assert_eq!(watched.at(0, Some("refused"), 1), ["nsqd a:1 is away: refused"]);
        assert_eq!(watched.at(500, Some("no token"), 1), ["nsqd a:1 is away: no token"]);
        let said: usize =
            (2..240).map(|look| watched.at(look * 500, Some(&look.to_string()), 1).len()).sum();
        assert_eq!(said, 1);
    }

    #[test]
    fn many_at_once_are_no_flood_and_none_is_forgotten() {
        let mut lines = StatusLines::default();
        let began = Instant::now();
        let states = || {
            let state = LinkState { away: Some("gone".to_owned()), losses: 1, is_news: true };
            (0..50).map(|index| (PartLink::Nsqd(format!("{index}:1")), state.clone())).collect()
        };
        let mut said = Vec::new();
        for second in 0..30 {
            said.push(
                lines.look(began + Duration::from_secs(second), states(), LinkLook::Again).len(),
            );
        }
        assert_eq!((said[0], said[10], said[20]), (20, 20, 10));
        assert_eq!(said.iter().sum::<usize>(), 50);
    }

    #[test]
    fn a_publish_that_fails_because_an_nsqd_is_away_is_not_said_twice() {
        let mut lines = StatusLines::default();
        let now = Instant::now();
        let away = LinkState { away: Some("gone".to_owned()), losses: 1, is_news: false };
        let both = BTreeMap::from([(nsqd(), away.clone()), (PartLink::Publishing, away.clone())]);
        assert_eq!(lines.look(now, both, LinkLook::Again), ["nsqd a:1 is away: gone"]);
        let there = LinkState { away: None, losses: 1, is_news: false };
        let both = BTreeMap::from([(nsqd(), there.clone()), (PartLink::Publishing, there)]);
        assert_eq!(lines.look(now, both, LinkLook::Again), ["nsqd a:1 is back"]);
        let alone = BTreeMap::from([(PartLink::Publishing, away)]);
        let line = "cannot publish: gone; the plays stay in the outbox";
        assert_eq!(lines.look(now, alone, LinkLook::Again), [line]);
    }
}
