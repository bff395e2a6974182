//! What the arguments mean: values with units and ranges, checked once (pure).

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use nsq_protocol::{ChannelName, ConsumerConfig, ProducerConfig, TopicName};

/// Where the dashboard listens.
pub const HTTP_ADDRESS: &str = "127.0.0.1:8000";

/// Where the processor finds it.
pub const DASHBOARD_URL: &str = "http://127.0.0.1:8000";

/// Where the parts keep their files.
pub const DATA_DIR: &str = "playcounts-data";

/// Where an nsqd listens.
pub const NSQD_TCP_ADDRESS: &str = "127.0.0.1:4150";

/// A whole number from 1 to 10^12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl Count {
    /// More messages than a machine counts in a week at a million a second.
    const MAX: u64 = 1_000_000_000_000;

    /// As a size.
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// As a number of threads.
    pub fn non_zero(self) -> NonZeroUsize {
        NonZeroUsize::new(self.get()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Grouping as people type it: 1_000_000.
        match text.replace('_', "").parse() {
            Ok(number @ 1..=Self::MAX) => Ok(Self(number)),
            _ => Err(format!("{text:?} is no whole number from 1 to {}", Self::MAX)),
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
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if number > 0.0 && number <= 1e9 => Ok(Self(number)),
            _ => Err(format!("{text:?} is no number above 0")),
        }
    }
}

/// A duration as people and Go's tools write it: `30`, `0.5`, `30s`, `500ms`, `1m30s`; from 1 ms to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// That many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
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
                "{text:?} is no duration from 1ms to 3650d, such as 30, 30s, 500ms, 0.5, 1m30s or 2d"
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

/// How plays spread over the videos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The n-th video is played in proportion to n^-S: few are popular, as in life.
    Zipf(f64),
}

impl FromStr for Popularity {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        match text.strip_prefix("zipf:").map(str::parse) {
            Some(Ok(exponent)) if exponent > 0.0 && exponent <= 10.0 => Ok(Self::Zipf(exponent)),
            _ => {
                Err(format!("{text:?} is neither uniform nor zipf:S with S above 0 and at most 10"))
            }
        }
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// What a count survives once its message is finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: to measure what durability costs.
    None,
    /// The end of the process, by kill -9 too; the newest commits may be lost with the machine's power.
    #[default]
    Process,
    /// A power loss: one fsync a commit.
    Power,
}

impl Durability {
    const ALL: [(&str, Self); 3] =
        [("none", Self::None), ("process", Self::Process), ("power", Self::Power)];
}

impl Durability {
    /// SQLite's `synchronous` for it, with a WAL.
    pub fn synchronous(self) -> &'static str {
        match self {
            Self::None => "OFF",
            Self::Process => "NORMAL",
            Self::Power => "FULL",
        }
    }
}

impl FromStr for Durability {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, durability)| *durability)
            .ok_or_else(|| format!("{text:?} is none of process, power, none"))
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, durability)| durability == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub log::LevelFilter);

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
            .map_err(|_| format!("{text:?} is none of off, error, warn, info, debug, trace"))?;
        Ok(Self(level))
    }
}

/// A `name,value` of `--consumer-opt`, known to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOption(String);

impl FromStr for ConsumerOption {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let any = (TopicName::new("t"), ChannelName::new("c"));
        if let (Ok(topic), Ok(channel)) = any {
            let mut config = ConsumerConfig::new(topic, channel);
            config.parse_option(text).map_err(|error| error.to_string())?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl ConsumerOption {
    /// Applies all of `options`, in their order.
    ///
    /// # Errors
    /// When two of them contradict each other.
    pub fn apply(options: &[Self], config: &mut ConsumerConfig) -> anyhow::Result<()> {
        options.iter().try_for_each(|option| {
            config
                .parse_option(&option.0)
                .map_err(|error| anyhow::anyhow!("--consumer-opt: {error}"))
        })
    }
}

/// A `name,value` of `--producer-opt`, known to make sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerOption(String);

impl FromStr for ProducerOption {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        ProducerConfig::new().parse_option(text).map_err(|error| error.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

impl ProducerOption {
    /// Applies all of `options`, in their order.
    ///
    /// # Errors
    /// When two of them contradict each other.
    pub fn apply(options: &[Self], config: &mut ProducerConfig) -> anyhow::Result<()> {
        options.iter().try_for_each(|option| {
            config
                .parse_option(&option.0)
                .map_err(|error| anyhow::anyhow!("--producer-opt: {error}"))
        })
    }
}

/// The topic and channel that an `--topic` and a `--channel` name.
///
/// # Errors
/// One line that says which of them is no name, and what a name is.
pub fn names(topic: &str, channel: &str) -> anyhow::Result<(TopicName, ChannelName)> {
    let topic = TopicName::new(topic).map_err(|error| anyhow::anyhow!("--topic: {error}"))?;
    let channel =
        ChannelName::new(channel).map_err(|error| anyhow::anyhow!("--channel: {error}"))?;
    Ok((topic, channel))
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
