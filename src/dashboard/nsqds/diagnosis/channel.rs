//! What is wrong with a channel at one nsqd: paused, without a consumer, in backoff, or behind (pure).

use nsq_protocol::ChannelStats;

use super::finding::{Finding, Severity};
use crate::model::words::{grouped, lasting, many, of_number};

/// So few waiting messages are no backlog, however slowly they leave.
const FEW: i64 = 100;

/// What leaves within so many seconds is no backlog, however much it is.
const SOON_SECONDS: f64 = 10.0;

/// A number of nsqd's, which are never below 0.
pub(super) fn told(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// `1 message waits`.
pub(super) fn waits(messages: u64) -> String {
    format!("{} {}", many(messages, "message"), of_number(messages, "waits", "wait"))
}

/// Adds what it finds at the channel called `name`, of which `rate_out` messages leave a second.
pub(super) fn diagnose(
    name: &str,
    channel: &ChannelStats,
    rate_out: f64,
    found: &mut Vec<Finding>,
) {
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    let waiting = told(channel.depth.saturating_add(channel.deferred_count));
    if channel.paused {
        find(
            "channel-paused",
            Severity::Error,
            format!("{name} is paused; {}.", waits(waiting)),
            "Unpause it on the page's queue view.",
        );
    }
    let rdy: i64 = channel.clients.iter().map(|client| client.ready_count).sum();
    if channel.client_count == 0 && waiting > 0 {
        let text = format!("{name} has no consumer, and {}.", waits(waiting));
        find("no-consumer", Severity::Error, text, "Start `playcounts process`.");
    } else if channel.client_count > 0 && rdy == 0 && waiting > 0 {
        let text = format!(
            "{name}: {}, but its consumers ask for none (RDY 0): they are in backoff.",
            waits(waiting)
        );
        find(
            "backoff",
            Severity::Error,
            text,
            "The processor's log says which messages it could not handle, and why.",
        );
    } else if rdy > 0 && channel.in_flight_count >= rdy && is_behind(channel.depth, rate_out) {
        let text = format!(
            "{name}: {}, and its consumers already hold {}, as many as they ask for. {}",
            waits(told(channel.depth)),
            grouped(told(channel.in_flight_count)),
            leaving(channel.depth, rate_out)
        );
        find(
            "behind",
            Severity::Warning,
            text,
            "The processors work at their limit. Use more --num-threads, or a larger --max-in-flight.",
        );
    }
}

/// Whether so many waiting messages matter: more than [`FEW`], and more than leave in [`SOON_SECONDS`].
fn is_behind(depth: i64, rate_out: f64) -> bool {
    depth > FEW && depth as f64 > rate_out * SOON_SECONDS
}

/// How soon what waits is gone, if nothing comes to it.
fn leaving(depth: i64, rate_out: f64) -> String {
    if rate_out < 1.0 {
        return "None left in the last second.".to_owned();
    }
    let takes = lasting((depth as f64 / rate_out * 1000.0) as u64);
    format!("{} leave a second: those that wait take {takes}.", grouped(rate_out as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_behind_when_its_depth_matters() {
        for (depth, rate_out, want) in [
            (0, 0.0, false),
            (5, 0.0, false),
            (100, 0.0, false),
            (101, 0.0, true),
            (101, 11.0, false),
            (1_000, 100.0, false),
            (1_001, 100.0, true),
            (300_000, 2_000.0, true),
            (300_000, 50_000.0, false),
            (-1, 0.0, false),
        ] {
            assert_eq!(is_behind(depth, rate_out), want, "{depth} at {rate_out} a second");
        }
    }

    #[test]
    fn it_is_told_how_soon_they_are_gone() {
        for (depth, rate_out, want) in [
            (300_000, 2_000.0, "2,000 leave a second: those that wait take 2 min 30 s."),
            (101, 0.0, "None left in the last second."),
        ] {
            assert_eq!(leaving(depth, rate_out), want);
        }
    }
}
