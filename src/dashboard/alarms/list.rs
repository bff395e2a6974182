//! Which findings are alarms: those that have lasted (pure).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::nsqds::{Finding, Severity};
use crate::model::unix_time::UnixMs;
use crate::model::words::grouped;

/// The most that are shown: each event carries them.
pub(in super::super) const SHOWN_MAX: usize = 8;

/// The longest text of an alarm, in characters; a reason within it may be a stranger's.
const TEXT_MAX: usize = 300;

/// An alarm ends when its finding has been gone for so long; one that comes and goes is one alarm.
const ENDS_AFTER: Duration = Duration::from_secs(5);

/// Something that is wrong, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(in super::super) struct Alarm {
    /// Its stable name, the code of a finding: `channel-paused`. There is one alarm of a name.
    pub(in super::super) name: &'static str,
    /// `error` or `warning`.
    pub(in super::super) severity: Severity,
    /// What is wrong, in sentences, as it was last seen.
    pub(in super::super) text: String,
    /// What to do about it; may be empty.
    pub(in super::super) way_out: &'static str,
    /// How many findings it stands for, 1 at least; the text is that of the worst one.
    pub(in super::super) count: u64,
    /// When it was first seen, in ms since the Unix epoch.
    pub(in super::super) since: UnixMs,
}

/// What one look has changed. An alarm whose text or severity changes has neither begun nor ended.
#[derive(Debug, Default, PartialEq)]
pub(in super::super) struct AlarmChanges {
    /// Alarms that hold now and did not before.
    pub(in super::super) begun: Vec<Alarm>,
    /// Alarms that held before and do not now, as they were last seen.
    pub(in super::super) ended: Vec<Alarm>,
}

/// How long a finding must last to be an alarm: parts that are started again, and what ends by itself, get their time.
fn patience(code: &str) -> Duration {
    Duration::from_secs(match code {
        "no-processor" | "no-consumer" | "no-topic" | "no-channel" | "processor-waits" => 15,
        "behind" | "processor-timed-out" => 60,
        _ => 5,
    })
}

struct LastingFinding {
    alarm: Alarm,
    first: Instant,
    seen: Instant,
    is_on: bool,
}

/// The alarms, and what may become one.
#[derive(Default)]
pub(in super::super) struct AlarmList {
    /// By name.
    known: BTreeMap<&'static str, LastingFinding>,
}

impl AlarmList {
    /// Takes what is found `now`, which is `at` by the clock.
    pub(super) fn observe(&mut self, found: &[Finding], now: Instant, at: UnixMs) -> AlarmChanges {
        let mut changes = AlarmChanges::default();
        for alarm in alarms(found, at) {
            let known = self.known.entry(alarm.name).or_insert_with(|| LastingFinding {
                alarm: alarm.clone(),
                first: now,
                seen: now,
                is_on: false,
            });
            known.alarm = Alarm { since: known.alarm.since, ..alarm };
            known.seen = now;
            if !known.is_on
                && now.saturating_duration_since(known.first) >= patience(known.alarm.name)
            {
                known.is_on = true;
                changes.begun.push(known.alarm.clone());
            }
        }
        self.known.retain(|_, known| {
            let gone = now.saturating_duration_since(known.seen);
            let stays = if known.is_on { gone < ENDS_AFTER } else { gone.is_zero() };
            if known.is_on && !stays {
                changes.ended.push(known.alarm.clone());
            }
            stays
        });
        changes
    }

    /// The alarms that hold, the worst first, the oldest of these first.
    pub(super) fn current(&self) -> Vec<Alarm> {
        let mut on: Vec<_> =
            self.known.values().filter(|known| known.is_on).map(|known| &known.alarm).collect();
        on.sort_by_key(|alarm| (alarm.severity, alarm.since));
        on.into_iter().take(SHOWN_MAX).cloned().collect()
    }
}

/// The findings that are wrong, one alarm for each code, as if all were first seen `at`.
fn alarms(found: &[Finding], at: UnixMs) -> Vec<Alarm> {
    let mut alarms: Vec<Alarm> = Vec::new();
    for Finding { code, severity, text, way_out } in found {
        if *severity == Severity::Info {
            continue;
        }
        if let Some(known) = alarms.iter_mut().find(|alarm| alarm.name == *code) {
            known.count += 1;
            if *severity < known.severity {
                (known.severity, known.text) = (*severity, sentence(text));
            }
        } else {
            let text = sentence(text);
            alarms.push(Alarm {
                name: code,
                severity: *severity,
                text,
                way_out,
                count: 1,
                since: at,
            });
        }
    }
    for alarm in alarms.iter_mut().filter(|alarm| alarm.count > 1) {
        alarm.text += &format!(" And {} more like it.", grouped(alarm.count - 1));
    }
    alarms
}

/// At most [`TEXT_MAX`] characters, and a full stop behind a reason.
fn sentence(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.ends_with('.') => text.to_owned(),
        None => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn finding(code: &'static str, severity: Severity, text: &str) -> Finding {
        Finding { code, severity, text: text.to_owned(), way_out: "Mend it." }
    }

    fn names(alarms: &[Alarm]) -> Vec<&str> {
        alarms.iter().map(|alarm| alarm.name).collect()
    }

    /// Looks once a second from `seconds.start` on, and tells what began and ended in which second.
    fn look(
        list: &mut AlarmList,
        start: Instant,
        seconds: std::ops::Range<u32>,
        found: &[Finding],
    ) -> Vec<(u32, String)> {
        let mut told = Vec::new();
        for second in seconds {
            let at = UnixMs(i64::from(second) * 1000);
            let changes = list.observe(found, start + SECOND * second, at);
            told.extend(
                changes.begun.iter().map(|alarm| (second, format!("{} begins", alarm.name))),
            );
            told.extend(changes.ended.iter().map(|alarm| (second, format!("{} ends", alarm.name))));
        }
        told
    }

    #[test]
    fn what_lasts_is_an_alarm_until_it_has_been_gone_for_a_while() {
        let (mut list, start) = (AlarmList::default(), Instant::now());
        let paused = [finding("channel-paused", Severity::Error, "It is paused")];
        let mut told = look(&mut list, start, 0..3, &paused);
        told.extend(look(&mut list, start, 3..5, &[]));
        assert_eq!(told, [], "a moment is no alarm");
        told.extend(look(&mut list, start, 5..20, &paused));
        told.extend(look(&mut list, start, 20..23, &[]));
        assert_eq!(list.current()[0].since, UnixMs(5_000));
        told.extend(look(&mut list, start, 23..30, &paused));
        told.extend(look(&mut list, start, 30..60, &[]));
        let want =
            [(10, "channel-paused begins".to_owned()), (34, "channel-paused ends".to_owned())];
        assert_eq!(told, want);
        assert_eq!(list.current(), []);
    }

    #[test]
    fn parts_that_start_again_get_their_time_and_notes_are_no_alarms() {
        let (mut list, start) = (AlarmList::default(), Instant::now());
        let found = [
            finding("no-consumer", Severity::Error, "a"),
            finding("behind", Severity::Warning, "b"),
            finding("idle", Severity::Info, "c"),
        ];
        let told = look(&mut list, start, 0..100, &found);
        assert_eq!(told, [(15, "no-consumer begins".to_owned()), (60, "behind begins".to_owned())]);
    }

    #[test]
    fn one_name_is_one_alarm_with_the_newest_text_and_the_worst_is_first() {
        let (mut list, start) = (AlarmList::default(), Instant::now());
        let found = |text: &str| {
            [
                finding("oversized", Severity::Warning, "Too large."),
                finding("lookupd-away", Severity::Warning, "One"),
                finding("lookupd-away", Severity::Error, text),
            ]
        };
        look(&mut list, start, 0..6, &found("Two"));
        look(&mut list, start, 6..7, &found("Three"));
        let alarms = list.current();
        assert_eq!(names(&alarms), ["lookupd-away", "oversized"]);
        let Alarm { severity, text, count, since, .. } = &alarms[0];
        assert_eq!((*severity, &**text), (Severity::Error, "Three. And 1 more like it."));
        assert_eq!((*count, *since), (2, UnixMs(0)));
        assert_eq!(alarms[1].text, "Too large.");
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let (mut list, start) = (AlarmList::default(), Instant::now());
        let codes = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let found = codes.map(|code| finding(code, Severity::Error, &"é".repeat(1_000)));
        look(&mut list, start, 0..6, &found);
        let alarms = list.current();
        assert_eq!(alarms.len(), SHOWN_MAX);
        assert_eq!(alarms[0].text.chars().count(), TEXT_MAX + 1);
    }
}
