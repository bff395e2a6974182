//! The values of options: their units, ranges and defaults (pure). A value that is refused says what it must be; where it
//! stands is said by who reads it.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use nsq_protocol::{HARD_MAX_FRAME, MESSAGE_HEAD_LEN};

use crate::model::time_window::TimeWindow;
use crate::model::title::check_url;

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

/// The least time between two calls of a webhook.
pub(crate) const ALERT_PAUSE: HumanDuration = HumanDuration::from_secs(60);

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
pub(crate) const MAX_THREADS: u64 = 256;

/// The most messages in flight for one nsqd: each is held in memory, up to 1 MiB.
pub(crate) const MAX_IN_FLIGHT: u64 = 1_000_000;

/// The largest message that a consumer can be told to take, in bytes: what its client's largest frame holds.
pub(crate) const MAX_MSG_SIZE: u64 = (HARD_MAX_FRAME - MESSAGE_HEAD_LEN - 4) as u64;

/// The most of what is only counted: more messages than a machine counts in a week at a million a second.
pub(crate) const MAX_WHOLE: u64 = 1_000_000_000_000;

/// The most videos that are made plays of: a simulation keeps each in memory, in the producer, the ledger and the
/// dashboard, with about 1 KiB altogether.
pub(crate) const MAX_VIDEOS: u64 = 10_000_000;

/// The highest rate, in plays a second: far beyond what a machine makes.
pub(crate) const RATE_MAX: u64 = 1_000_000_000;

/// The most rounds of `bench`: at its default size a week of them.
pub(crate) const MAX_ROUNDS: u64 = 10_000;

/// The largest message and body of a broker, in bytes: a size is 32 bits with a sign in NSQ's protocol.
pub(crate) const INT32_MAX: u64 = i32::MAX as u64;

/// The most connections of a broker: each has a thread, and a place that is kept for its end.
pub(crate) const MAX_CONNECTIONS: u64 = 100_000;

/// The highest level of deflate.
pub(crate) const MAX_DEFLATE_LEVEL: u64 = 9;

/// The largest RDY: 32 bits without a sign.
pub(crate) const MAX_RDY_COUNT: u64 = u32::MAX as u64;

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count<const MAX: u64 = MAX_WHOLE>(pub(crate) u64);

impl<const MAX: u64> Count<MAX> {
    /// As a size.
    pub(crate) fn get(self) -> usize {
        self.0 as usize
    }
}

/// What stands for a video's id in the address of videos.
const ID_PLACE: &str = "{id}";

/// Where videos are: an address with `{id}` behind its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VideoUrl(pub(crate) String);

impl FromStr for VideoUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Whoever publishes plays chooses the id, and must not choose the host.
        let behind_scheme = text.split_once("://").map_or("", |(_, rest)| rest);
        let host_end = behind_scheme.find(['/', '?', '#']).unwrap_or(behind_scheme.len());
        let (host, rest) = behind_scheme.split_at(host_end);
        if host.contains(ID_PLACE) || !rest.contains(ID_PLACE) {
            return Err(format!(
                "must be an address with {ID_PLACE} in place of the video's id, such as https://example.org/watch/{ID_PLACE}"
            ));
        }
        match check_url(&text.replace(ID_PLACE, "id")) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!("is no such address: {error}")),
        }
    }
}

/// Sites that may show figures in frames: `https://a.example,https://b.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmbedSites(pub(crate) Vec<String>);

/// The most sites: they stand in a header of each frame.
const SITES_MAX: usize = 32;

/// The longest name of a host with its port, in bytes.
const HOST_MAX: usize = 260;

impl FromStr for EmbedSites {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // It becomes a part of a policy in a header, in which a space or a semicolon would begin another rule.
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let is_site = |site: &str| {
            let host = site.strip_prefix("https://").or_else(|| site.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty() && host.len() <= HOST_MAX && host.bytes().all(is_of_host)
            })
        };
        let sites = text.split(',').map(|site| site.trim().trim_end_matches('/').to_owned());
        let sites: Vec<String> = sites.collect();
        if sites.len() > SITES_MAX || !sites.iter().all(|site| is_site(site)) {
            return Err(format!(
                "must be up to {SITES_MAX} addresses of sites without a path, such as https://blog.example.org,https://www.example.org"
            ));
        }
        Ok(Self(sites))
    }
}

/// Numbers above 0 and up to 1: `0.99`, or `1.0,0.99,0.95`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shares(pub(crate) Vec<f64>);

/// The most of them: each is told of every channel.
const SHARES_MAX: usize = 16;

impl FromStr for Shares {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let share =
            |word: &str| word.trim().parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
        match text.split(',').map(share).collect::<Option<Vec<f64>>>() {
            Some(shares) if shares.len() <= SHARES_MAX => Ok(Self(shares)),
            _ => Err(format!(
                "must be a number above 0 and up to 1, or up to {SHARES_MAX} of them with commas, such as 1.0,0.99,0.95"
            )),
        }
    }
}

/// On or off, where on is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnOff(pub(crate) bool);

impl FromStr for OnOff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "must be true or false".to_owned())
    }
}

/// A whole number from -`MAX` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed<const MAX: u64>(pub(crate) i64);

impl<const MAX: u64> FromStr for Signed<MAX> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.replace('_', "").parse::<i64>() {
            Ok(number) if number.unsigned_abs() <= MAX => Ok(Self(number)),
            _ => Err(format!("must be a whole number from -{MAX} to {MAX}")),
        }
    }
}

/// The largest port.
pub(crate) const MAX_PORT: u64 = u16::MAX as u64;

/// A whole number from 0 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<const MAX: u64 = MAX_WHOLE>(pub(crate) u64);

impl<const MAX: u64> Limit<MAX> {
    /// As a size.
    pub(crate) fn get(self) -> usize {
        self.0 as usize
    }
}

impl Limit<MAX_PORT> {
    /// As a port.
    pub(crate) fn port(self) -> u16 {
        self.0 as u16
    }
}

impl<const MAX: u64> FromStr for Limit<MAX> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.replace('_', "").parse() {
            Ok(number) if number <= MAX => Ok(Self(number)),
            _ => Err(format!("must be a whole number from 0 to {MAX}")),
        }
    }
}

impl Count<MAX_THREADS> {
    /// As a number of threads.
    pub(crate) fn threads(self) -> NonZeroUsize {
        NonZeroUsize::new(self.get()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Count<MAX_IN_FLIGHT> {
    /// As messages in flight.
    pub(crate) fn max_in_flight(self) -> u32 {
        self.0 as u32
    }
}

impl<const MAX: u64> FromStr for Count<MAX> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Grouping as people type it: 1_000_000.
        match text.replace('_', "").parse() {
            Ok(number) if (1..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("must be a whole number from 1 to {MAX}")),
        }
    }
}

impl<const MAX: u64> fmt::Display for Count<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number from 0.001 to `MAX`. One that is smaller makes waits that no clock can tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio<const MAX: u64 = RATE_MAX>(pub(crate) f64);

impl<const MAX: u64> FromStr for Ratio<MAX> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (0.001..=MAX as f64).contains(&number) => Ok(Self(number)),
            _ => Err(format!("must be a number from 0.001 to {MAX}")),
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
            _ => Err(
                "must be a duration from 1ms to 3650d, such as 30, 30s, 500ms, 0.5, 1m30s or 2d"
                    .to_owned(),
            ),
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
