//! The values of options: their units, ranges and defaults (pure).

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nsq_protocol::{HARD_MAX_FRAME, MESSAGE_HEAD_LEN};

use crate::ledger::MessageBudget;
use crate::model::time_window::TimeWindow;

/// Where the dashboard listens.
pub(crate) const HTTP_ADDRESS: &str = "127.0.0.1:8000";

/// Where the processor finds it.
pub(crate) const DASHBOARD_URL: &str = "http://127.0.0.1:8000";

/// Where the parts keep their files.
pub(crate) const DATA_DIR: &str = "playcounts-data";

/// Where `run` keeps its files: it throws away what it finds there, and a part does not go on from it.
pub(crate) const RUN_DIR: &str = "playcounts-run";

/// The topic that plays are on.
pub(crate) const TOPIC: &str = "plays";

/// The channel that the processor reads.
pub(crate) const CHANNEL: &str = "processor";

/// How long the dashboard keeps plays by minute.
pub(crate) const KEEP_BY_MINUTE: HumanDuration = HumanDuration::from_secs(2 * 86_400);

/// How long the dashboard keeps plays by hour.
pub(crate) const KEEP_BY_HOUR: HumanDuration = HumanDuration::from_secs(90 * 86_400);

/// How old a play's time may be.
pub(crate) const TIME_WINDOW_BACK: HumanDuration = HumanDuration(TimeWindow::BACK);

/// How far ahead of ours it may be.
pub(crate) const TIME_WINDOW_AHEAD: HumanDuration = HumanDuration(TimeWindow::AHEAD);

/// The window of both.
pub(crate) fn time_window(back: HumanDuration, ahead: HumanDuration) -> TimeWindow {
    TimeWindow { back: back.0, ahead: ahead.0 }
}

/// The most threads of one kind: more would only wait for each other.
pub(crate) const MAX_THREADS: usize = 256;

/// The most messages in flight for one nsqd: each is held in memory, up to 1 MiB.
const MAX_IN_FLIGHT: u32 = 1_000_000;

/// The largest message that a consumer can be told to take, in bytes: what its client's largest frame holds.
const MAX_MSG_SIZE: usize = HARD_MAX_FRAME - MESSAGE_HEAD_LEN - 4;

/// A whole number from 1 to 10^12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl Count {
    /// More messages than a machine counts in a week at a million a second.
    const MAX: u64 = 1_000_000_000_000;

    /// As a size.
    pub(crate) fn get(self) -> usize {
        self.0 as usize
    }

    /// As the number of threads of `--num-threads`.
    ///
    /// # Errors
    /// When they are more than [`MAX_THREADS`].
    pub(crate) fn threads(self) -> Result<NonZeroUsize> {
        if self.get() > MAX_THREADS {
            bail!("--num-threads {self} is over the limit of {MAX_THREADS}");
        }
        Ok(NonZeroUsize::new(self.get()).unwrap_or(NonZeroUsize::MIN))
    }

    /// As the memory of `--message-window-mb`.
    ///
    /// # Errors
    /// When it is more than [`MessageBudget::MAX_MB`].
    pub(crate) fn message_budget(self) -> Result<MessageBudget> {
        if self.0 > MessageBudget::MAX_MB {
            bail!("--message-window-mb {self} is over the limit of {}", MessageBudget::MAX_MB);
        }
        Ok(MessageBudget::from_mb(self.0))
    }

    /// As the messages in flight of `--max-in-flight`.
    ///
    /// # Errors
    /// When they are more than 1,000,000.
    pub(crate) fn max_in_flight(self) -> Result<u32> {
        u32::try_from(self.0)
            .ok()
            .filter(|count| *count <= MAX_IN_FLIGHT)
            .with_context(|| format!("--max-in-flight {self} is over the limit of {MAX_IN_FLIGHT}"))
    }

    /// As the bytes of `--max-msg-size`, of a consumer.
    ///
    /// # Errors
    /// When they are more than 16,777,186.
    pub(crate) fn max_msg_size(self) -> Result<usize> {
        if self.get() > MAX_MSG_SIZE {
            bail!("--max-msg-size {self} is over the limit of {MAX_MSG_SIZE}");
        }
        Ok(self.get())
    }
}

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Grouping as people type it: 1_000_000.
        match text.replace('_', "").parse() {
            Ok(number @ 1..=Self::MAX) => Ok(Self(number)),
            _ => Err(format!("{text:?} is not a whole number from 1 to {}", Self::MAX)),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number above 0, at most 10^9.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio(pub(crate) f64);

impl FromStr for Ratio {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if number > 0.0 && number <= 1e9 => Ok(Self(number)),
            _ => Err(format!("{text:?} is not a number above 0")),
        }
    }
}

/// A duration as people and Go's tools write it: `30`, `0.5`, `30s`, `500ms`, `1m30s`; from 1 ms to 3650 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HumanDuration(pub(crate) Duration);

impl HumanDuration {
    /// That many seconds.
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// The longest [`HumanDuration`], in seconds: 3650 days.
const DURATION_MAX: f64 = 3650.0 * 86_400.0;

impl FromStr for HumanDuration {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = match text.parse::<f64>() {
            Ok(seconds) => Some(seconds),
            Err(_) => sum_of_units(text),
        };
        match seconds {
            Some(seconds) if (0.001..=DURATION_MAX).contains(&seconds) => {
                Ok(Self(Duration::from_secs_f64(seconds)))
            }
            _ => Err(format!(
                "{text:?} is not a duration from 1ms to 3650d, such as 30, 30s, 500ms, 0.5, 1m30s or 2d"
            )),
        }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// `1m30s` in seconds.
fn sum_of_units(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, behind) = rest.split_at(unit_at);
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let unit = match &behind[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = &behind[end..];
    }
    Some(seconds)
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) log::LevelFilter);

impl Default for LogLevel {
    fn default() -> Self {
        Self(log::LevelFilter::Warn)
    }
}

impl FromStr for LogLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let level = text
            .parse()
            .map_err(|_| format!("{text:?} is not one of off, error, warn, info, debug, trace"))?;
        Ok(Self(level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want_ms: Option<u64>) {
        let got = text.parse().ok().map(|HumanDuration(duration)| duration.as_millis() as u64);
        assert_eq!(got, want_ms, "{text:?}");
    }

    #[test]
    fn durations() {
        check("30", Some(30_000));
        check("30s", Some(30_000));
        check("0.5", Some(500));
        check("500ms", Some(500));
        check("1.5s", Some(1_500));
        check("1m30s", Some(90_000));
        check("2h", Some(7_200_000));
        check("", None);
        check("s", None);
        check("0", None);
        check("-1", None);
        check("2d12h", Some(216_000_000));
        check("3651d", None);
        check("NaN", None);
        check("inf", None);
        check("3 s", None);
        check("3w", None);
        check("3s4", None);
    }
}
