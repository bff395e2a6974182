//! What the diagnosis needs of the past: since when nothing is counted, and who rejects plays (pure).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::dashboard::nsqds::{Finding, NOTHING_COUNTED, Severity};
use crate::model::words::{lasting, many};
use crate::nsqd::depth::QueueDepth;
use crate::wire::Consumption;

/// So long nothing may be counted while messages wait. A processor that holds a full batch answers far sooner.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// How long after the newest rejected message it is told.
const REJECTED_SHOWN: Duration = Duration::from_secs(600);

/// What a processor had told at the last look.
struct Told {
    /// Plays answered as plays: counted or known before.
    plays: u64,
    rejected: u64,
    /// How many of them are told now, those of before the processor's last start included.
    lately: u64,
    /// When the newest was rejected, if that is told now.
    rejected_at: Option<Instant>,
    reason: Option<String>,
}

/// What was told so far.
pub(super) struct PastProgress {
    /// After so long without a counted play it is told even if nothing waits.
    idle_alert: Option<Duration>,
    /// When a play was last counted, or, before the first, when the dashboard began.
    counted_at: Instant,
    /// Since when messages wait, if they do, and how many.
    waiting: Option<(Instant, u64)>,
    /// As many as there are known processors.
    told: BTreeMap<Uuid, Told>,
}

impl PastProgress {
    pub(super) fn new(idle_alert: Option<Duration>, now: Instant) -> Self {
        Self { idle_alert, counted_at: now, waiting: None, told: BTreeMap::new() }
    }

    /// Takes what each known processor said last, and where the messages are.
    pub(super) fn observe<'a>(
        &mut self,
        processors: impl Iterator<Item = (&'a Uuid, &'a Consumption)>,
        queue: Option<QueueDepth>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.told);
        for (id, said) in processors {
            let plays = said.counted.saturating_add(said.duplicates);
            let known = before.remove(id);
            // Another number, not a larger one: a processor that was started again begins at 0.
            let moved = known.as_ref().map_or(said.per_second > 0.0, |known| known.plays != plays);
            if moved && plays > 0 {
                self.counted_at = now;
            }
            self.told.insert(*id, Told::of(said, known, plays, now));
        }
        let messages = queue.map_or(0, |queue| queue.depth.saturating_add(queue.in_flight));
        let since = self.waiting.map_or(now, |(since, _)| since);
        self.waiting = (messages > 0).then_some((since, messages));
    }

    /// What there is to tell.
    pub(super) fn findings(&self, now: Instant) -> Vec<Finding> {
        self.stalled(now).into_iter().chain(self.rejected(now)).collect()
    }

    fn stalled(&self, now: Instant) -> Option<Finding> {
        let quiet = now.saturating_duration_since(self.counted_at);
        let waited = self
            .waiting
            .map(|(since, messages)| (quiet.min(now.saturating_duration_since(since)), messages));
        let way_out = "Look at the processor's log. If nothing else is told here, it may hang, or all messages may be rejected.";
        if let Some((lasted, messages)) = waited.filter(|(lasted, _)| *lasted >= STALLED_AFTER) {
            let (for_long, messages) = (told_time(lasted), many(messages, "message"));
            let text = format!(
                "Nothing has been counted for {for_long}, although there are {messages} in the queue."
            );
            return Some(Finding {
                code: NOTHING_COUNTED,
                severity: Severity::Error,
                text,
                way_out,
            });
        }
        let alert = self.idle_alert.filter(|alert| quiet >= *alert)?;
        let text = format!(
            "Nothing has been counted for {}, longer than the {} of --idle-alert.",
            told_time(quiet),
            told_time(alert)
        );
        let way_out = "Check that plays are being made, and that their producers publish to these nsqds and this topic.";
        Some(Finding { code: NOTHING_COUNTED, severity: Severity::Error, text, way_out })
    }

    fn rejected(&self, now: Instant) -> impl Iterator<Item = Finding> {
        self.told.iter().filter_map(move |(id, told)| {
            let ago = now.saturating_duration_since(told.rejected_at?);
            let many = many(told.lately, "message");
            let reason = told.reason.as_deref().unwrap_or("no reason was told");
            (ago < REJECTED_SHOWN).then(|| Finding {
                code: "plays-rejected",
                severity: Severity::Warning,
                text: format!("Processor {id} rejected {many} lately that are no plays, the newest: {reason}"),
                way_out: "`playcounts dead-letters` lists them. Mend the processor's options, or tell who publishes them.",
            })
        })
    }
}

impl Told {
    fn of(said: &Consumption, known: Option<Self>, plays: u64, now: Instant) -> Self {
        let Consumption { rejected, last_rejection, .. } = said;
        let before = match &known {
            // What a processor has rejected before this dashboard first heard of it is no news.
            None => *rejected,
            // It was started again, and began at 0.
            Some(known) if known.rejected > *rejected => 0,
            Some(known) => known.rejected,
        };
        let news = rejected.saturating_sub(before);
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < REJECTED_SHOWN;
        let told = known.filter(|known| known.rejected_at.as_ref().is_some_and(is_fresh));
        let (last, lately, reason) =
            told.map(|told| (told.rejected_at, told.lately, told.reason)).unwrap_or_default();
        let rejected_at = if news > 0 { Some(now) } else { last };
        let reason = last_rejection.clone().or(reason).filter(|_| rejected_at.is_some());
        let lately = lately.saturating_add(news);
        Self { plays, rejected: *rejected, lately, rejected_at, reason }
    }
}

/// A time as people say it, from whole seconds on.
fn told_time(time: Duration) -> String {
    lasting(time.as_secs().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WAITING: Option<QueueDepth> = Some(QueueDepth { depth: 4, in_flight: 1, deferred: 0 });
    const EMPTY: Option<QueueDepth> = Some(QueueDepth { depth: 0, in_flight: 0, deferred: 7 });

    fn said(counted: u64, rejected: u64) -> Consumption {
        let last_rejection = (rejected > 0).then(|| "no video_id".to_owned());
        Consumption { counted, rejected, last_rejection, ..Consumption::default() }
    }

    /// What is told at each second of `seconds` at which it changes.
    #[track_caller]
    fn check(
        idle_alert: Option<u64>,
        seconds: u32,
        at: impl Fn(u32) -> (Consumption, Option<QueueDepth>),
        want: &[(u32, &str)],
    ) {
        let start = Instant::now();
        let mut progress = PastProgress::new(idle_alert.map(Duration::from_secs), start);
        let (mut last, mut told) = (String::new(), Vec::new());
        for second in 0..seconds {
            let (said, queue) = at(second);
            let now = start + SECOND * second;
            progress.observe([(&Uuid::nil(), &said)].into_iter(), queue, now);
            let found = progress.findings(now);
            let codes = found.iter().map(|finding| finding.code).collect::<Vec<_>>().join(" ");
            if codes != last {
                told.push((second, codes.clone()));
                last = codes;
            }
        }
        let told: Vec<_> = told.iter().map(|(second, codes)| (*second, &**codes)).collect();
        assert_eq!(told, want);
    }

    #[test]
    fn nothing_counted_is_told_while_messages_wait() {
        let stalled = NOTHING_COUNTED;
        // Waiting from second 10 on; the last play is counted in second 30, and again in second 200.
        let counted = |second: u32| match second {
            ..=30 => u64::from(second) + 1,
            31..200 => 31,
            _ => 32,
        };
        let at = |second| (said(counted(second), 0), if second < 10 { EMPTY } else { WAITING });
        check(None, 300, at, &[(90, stalled), (200, ""), (260, stalled)]);
        // A queue that fills after a quiet time gets as long.
        let at = |second| (said(5, 0), if second < 100 { EMPTY } else { WAITING });
        check(None, 200, at, &[(160, stalled)]);
        // An empty queue is no alarm, nor is one that nobody knows.
        check(None, 400, |_| (said(5, 0), EMPTY), &[]);
        check(None, 400, |_| (said(5, 0), None), &[]);
        check(Some(300), 400, |_| (said(5, 0), None), &[(300, stalled)]);
        // Copies are work, too.
        let at = |second| (Consumption { duplicates: u64::from(second), ..said(5, 0) }, WAITING);
        check(None, 400, at, &[]);
    }

    #[test]
    fn rejected_plays_are_told_for_a_while_and_none_that_were_before() {
        let at = |second: u32| (said(u64::from(second), 3 + u64::from(second >= 50)), EMPTY);
        check(None, 700, at, &[(50, "plays-rejected"), (650, "")]);
        // A processor that starts again begins at 0.
        let at = |second: u32| (said(u64::from(second), if second < 50 { 9 } else { 0 }), EMPTY);
        check(None, 100, at, &[]);
        // Those of before its last start are still told, and those since are more of them.
        let mut progress = PastProgress::new(None, Instant::now());
        let now = Instant::now();
        for (rejected, told) in [(2, 0), (5, 3), (9, 7), (0, 7), (4, 11)] {
            progress.observe([(&Uuid::nil(), &said(1, rejected))].into_iter(), EMPTY, now);
            let texts: Vec<_> = progress.findings(now).into_iter().map(|one| one.text).collect();
            let wanted = format!(
                "Processor 00000000-0000-0000-0000-000000000000 rejected {told} messages lately that are no plays, the newest: no video_id"
            );
            assert_eq!(texts, if told > 0 { vec![wanted] } else { Vec::new() });
        }
    }
}
