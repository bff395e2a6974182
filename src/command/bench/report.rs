//! What `bench` says at its end: medians with their range (pure).

use std::fmt;

use serde::Serialize;

use super::config::BenchConfig;
use super::proc::{Machine, Usage};
use crate::model::words::{grouped, many};

/// The report of `bench`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BenchReport {
    /// The version measured.
    pub(super) playcounts: &'static str,
    /// Where.
    pub(super) machine: Machine,
    /// Compiled without optimisation: the figures say nothing.
    pub(super) debug_build: bool,
    /// Which broker the plays went through.
    pub(super) broker: BrokerKind,
    /// Plays in each measurement of speed.
    pub(super) messages: u64,
    /// Videos that they are plays of.
    pub(super) videos: u64,
    /// How often everything was measured.
    pub(super) rounds: u64,
    /// What was measured, in order.
    pub(super) rows: Vec<Measurement>,
    /// Always true: a wrong count is an error, and nothing is reported.
    pub(super) verified: bool,
}

impl BenchReport {
    /// What the rounds have measured on that machine.
    pub(super) fn new(config: &BenchConfig, machine: Machine, samples: Samples) -> Self {
        Self {
            playcounts: env!("CARGO_PKG_VERSION"),
            machine,
            debug_build: cfg!(debug_assertions),
            broker: config.nsqd.as_ref().map_or(BrokerKind::Embedded, |_| BrokerKind::Nsqd),
            messages: config.messages,
            videos: config.videos as u64,
            rounds: config.rounds,
            rows: samples.rows(),
            verified: true,
        }
    }
}

/// A broker, as the report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BrokerKind {
    /// Our own.
    Embedded,
    /// The nsqd that the user named.
    Nsqd,
}

/// One thing measured: a speed with its cost, or a latency.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Measurement {
    /// What.
    pub(super) work: String,
    /// Plays a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages_per_second: Option<Spread>,
    /// µs of CPU time that one play takes, of all threads of the part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_us: Option<Spread>,
    /// Bytes written to the disk, in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) written_bytes: Option<Spread>,
    /// From enqueued to counted, the median play's, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_ms: Option<Spread>,
    /// The same of the play that 99 % are faster than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99_ms: Option<Spread>,
}

/// One figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    /// Half of the rounds are below.
    pub(super) median: f64,
    /// The lowest round's.
    pub(super) lowest: f64,
    /// The highest round's.
    pub(super) highest: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len().is_multiple_of(2) {
            true => (sorted[middle - 1] + sorted[middle]) / 2.0,
            false => sorted[middle],
        };
        Some(Self { median, lowest, highest })
    }
}

/// What was measured of one work, round by round.
#[derive(Debug, Default)]
struct Sample {
    work: String,
    speed: Vec<f64>,
    cpu_us: Vec<f64>,
    written: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
}

/// What was measured, by work, in the order of the first round.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    /// `messages` at a speed, and what that has used.
    pub(super) fn speed(&mut self, work: &str, speed: f64, usage: Usage, messages: u64) {
        let sample = self.of(work);
        sample.speed.push(speed);
        sample.cpu_us.extend(usage.cpu_seconds.map(|seconds| seconds * 1e6 / messages as f64));
        sample.written.extend(usage.written_bytes.map(|bytes| bytes as f64));
    }

    /// The time from enqueued to counted.
    pub(super) fn latency(&mut self, work: &str, p50_ms: f64, p99_ms: f64) {
        let sample = self.of(work);
        sample.p50_ms.push(p50_ms);
        sample.p99_ms.push(p99_ms);
    }

    fn of(&mut self, work: &str) -> &mut Sample {
        let at = self.0.iter().position(|sample| sample.work == work).unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push(Sample { work: work.to_owned(), ..Sample::default() });
        }
        &mut self.0[at]
    }

    pub(super) fn rows(self) -> Vec<Measurement> {
        let row = |sample: Sample| Measurement {
            work: sample.work,
            messages_per_second: Spread::of(&sample.speed),
            cpu_us: Spread::of(&sample.cpu_us),
            written_bytes: Spread::of(&sample.written),
            p50_ms: Spread::of(&sample.p50_ms),
            p99_ms: Spread::of(&sample.p99_ms),
        };
        self.0.into_iter().map(row).collect()
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { playcounts, machine, messages, videos, rounds, .. } = self;
        let (cpus, processor) = (machine.cpus, machine.processor.as_deref().unwrap_or("?"));
        writeln!(f, "playcounts {playcounts} on {cpus} x {processor}")?;
        if self.debug_build {
            writeln!(f, "A DEBUG BUILD: these figures say nothing; build with --release")?;
        }
        let broker = match self.broker {
            BrokerKind::Embedded => "the embedded broker",
            BrokerKind::Nsqd => "nsqd",
        };
        writeln!(
            f,
            "{} of {} on {broker}; medians of {}, lowest to highest; all counts correct",
            many(*messages, "play"),
            many(*videos, "video"),
            many(*rounds, "round"),
        )?;
        let head = ["plays a second", "CPU a play", "written"];
        write!(f, "\n{:<28}{:>36}{:>26}{:>12}", "", head[0], head[1], head[2])?;
        for row in self.rows.iter().filter(|row| row.messages_per_second.is_some()) {
            let whole = |value: f64| grouped(value as u64);
            let speed = shown(row.messages_per_second, whole, "");
            let cpu = shown(row.cpu_us, |us| format!("{us:.2}"), " µs");
            let written = row
                .written_bytes
                .map_or("-".into(), |bytes| format!("{:.1} MB", bytes.median / 1e6));
            write!(f, "\n{:<28}{speed:>36}{cpu:>26}{written:>12}", row.work)?;
        }
        write!(f, "\n\n{:<28}{:>36}{:>26}", "from enqueued to counted", "p50", "p99")?;
        for row in self.rows.iter().filter(|row| row.p50_ms.is_some()) {
            let ms = |value: f64| format!("{value:.2}");
            let (p50, p99) = (shown(row.p50_ms, ms, " ms"), shown(row.p99_ms, ms, " ms"));
            write!(f, "\n{:<28}{p50:>36}{p99:>26}", row.work)?;
        }
        Ok(())
    }
}

/// `2.0 ms (1.5 to 9.0)`; a dash where nothing was measured.
fn shown(spread: Option<Spread>, number: impl Fn(f64) -> String, unit: &str) -> String {
    spread.map_or("-".into(), |Spread { median, lowest, highest }| {
        format!("{}{unit} ({} to {})", number(median), number(lowest), number(highest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], want: Option<(f64, f64, f64)>| {
            let got =
                Spread::of(values).map(|spread| (spread.median, spread.lowest, spread.highest));
            assert_eq!(got, want, "{values:?}");
        };
        check(&[], None);
        check(&[3.0], Some((3.0, 3.0, 3.0)));
        check(&[4.0, 1.0], Some((2.5, 1.0, 4.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
    }

    #[test]
    fn the_table_shows_what_was_measured() {
        let mut samples = Samples::default();
        let usage = Usage { cpu_seconds: Some(0.5), written_bytes: None };
        samples.speed("produce", 2_000_000.0, usage, 1_000_000);
        samples.latency("at 100 plays a second", 0.25, 1.5);
        let report = BenchReport {
            playcounts: "1.2.3",
            machine: Machine { processor: None, cpus: 2 },
            debug_build: false,
            broker: BrokerKind::Embedded,
            messages: 1_000_000,
            videos: 100,
            rounds: 1,
            rows: samples.rows(),
            verified: true,
        };
        let text = report.to_string();
        for want in [
            "playcounts 1.2.3 on 2 x ?",
            "1,000,000 plays of 100 videos on the embedded broker; medians of 1 round,",
            "2,000,000 (2,000,000 to 2,000,000)",
            "0.50 µs (0.50 to 0.50)           -",
            "0.25 ms (0.25 to 0.25)",
        ] {
            assert!(text.contains(want), "{text}\ndoes not say {want:?}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][1]["p99_ms"]["median"], 1.5);
        assert!(json["rows"][1].get("cpu_us").is_none());
    }
}
