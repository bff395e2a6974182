//! What a cluster is made of, from the command line (pure).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use argh::FromArgs;

use crate::name::{Act, Kind, Name};

/// Plays of a producer that has no end: more than any run makes.
const ENDLESS: u64 = 1_000_000_000_000;

/// Where the counts are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LedgerKind {
    /// One database, shared by all processors.
    Postgres,
    /// The files of one processor.
    Files,
}

/// a cluster on this machine: nsqlookupds, nsqds, PostgreSQL, processors, dashboards and producers, until Ctrl-C. Then `kill`,
/// `stop`, `cont`, `cut` and `start` with a name such as nsqd-2, process-3, postgres or dashboard-1, `status` and `down` act on
/// it from another terminal
#[derive(FromArgs, Clone, Debug)]
pub(crate) struct Options {
    /// kill, stop, cont, cut or start with a NAME; status; down
    #[argh(positional, greedy)]
    pub(crate) act: Vec<String>,
    /// the cluster's directory [default: target/cluster]
    #[argh(option, default = "\"target/cluster\".into()")]
    pub(crate) dir: PathBuf,
    /// postgres, or files: those of the only processor [default: postgres]
    #[argh(option, default = "LedgerKind::Postgres", from_str_fn(ledger))]
    pub(crate) ledger: LedgerKind,
    /// how many nsqlookupds [default: 2]
    #[argh(option, default = "2")]
    pub(crate) nsqlookupds: usize,
    /// how many nsqds [default: 3]
    #[argh(option, default = "3")]
    pub(crate) nsqds: usize,
    /// how many processors; with files one [default: 3]
    #[argh(option, default = "3")]
    pub(crate) processors: usize,
    /// how many dashboards [default: 2]
    #[argh(option, default = "2")]
    pub(crate) dashboards: usize,
    /// how many producers of ours, each with an outbox [default: 2]
    #[argh(option, default = "2")]
    pub(crate) producers: usize,
    /// plays a second of all of these together; 0: as fast as possible [default: 2000]
    #[argh(option, default = "2000")]
    pub(crate) plays: u64,
    /// plays a second of a go-nsq producer, which has no outbox; 0: none [default: 200]
    #[argh(option, default = "200")]
    pub(crate) foreign: u64,
    /// videos of each producer [default: 100]
    #[argh(option, default = "100")]
    pub(crate) num_videos: u64,
    /// run so long, then check every play, and end: 1 if one is lost, doubled or made up [default: until Ctrl-C, no check]
    #[argh(option, long = "for", from_str_fn(duration))]
    pub(crate) run_for: Option<Duration>,
    /// with --for: how many kills in that time, of nsqds, processors, dashboards and the database [default: 0]
    #[argh(option, default = "0")]
    pub(crate) kills: usize,
    /// what decides which and when [default: 1]
    #[argh(option, default = "1")]
    pub(crate) seed: u64,
    /// show rates each second
    #[argh(switch)]
    pub(crate) watch: bool,
    /// a network namespace for each machine; needs root
    #[argh(switch)]
    pub(crate) netns: bool,
    /// with --netns: what each machine sends and gets at most, as tc writes it, such as 100mbit [default: no limit]
    #[argh(option)]
    pub(crate) rate: Option<String>,
    /// by how much each round trip between processors and database is longer [default: 0]
    #[argh(option, from_str_fn(duration))]
    pub(crate) db_delay: Option<Duration>,
    /// without --netns: no proxies between the parts, so that nothing can be cut and nothing costs more than it must
    #[argh(switch)]
    pub(crate) direct: bool,
    /// whether there is a go-nsq; else one of ours takes its place
    #[argh(switch, hidden_help)]
    pub(crate) has_go_nsq: bool,
}

impl Options {
    /// All parts, in the order in which they start.
    pub(crate) fn parts(&self) -> Vec<Name> {
        let how_many = |kind| match kind {
            Kind::Postgres => usize::from(self.ledger == LedgerKind::Postgres),
            Kind::Nsqlookupd => self.nsqlookupds,
            Kind::Nsqd => self.nsqds,
            Kind::Dashboard => self.dashboards,
            Kind::Process => self.processors,
            Kind::Produce => self.producers,
            // Only where it can be had.
            Kind::GoNsq => usize::from(self.foreign > 0 && self.has_go_nsq),
        };
        let of = |kind| {
            let numbers = 1..=how_many(kind);
            numbers.map(move |number| match kind {
                Kind::Postgres => Name::POSTGRES,
                Kind::GoNsq => Name::GO_NSQ,
                _ => Name::new(kind, number),
            })
        };
        Kind::ALL.into_iter().flat_map(of).collect()
    }

    /// Refuses what makes no cluster.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.ledger == LedgerKind::Files {
            self.processors = 1;
        }
        let least = [
            ("nsqlookupds", self.nsqlookupds),
            ("nsqds", self.nsqds),
            ("processors", self.processors),
            ("dashboards", self.dashboards),
            ("producers", self.producers),
        ];
        for (what, count) in least {
            // Each has a byte of an address.
            ensure!((1..=30).contains(&count), "--{what} must be 1 to 30");
        }
        ensure!(self.rate.is_none() || self.netns, "--rate needs --netns");
        ensure!(self.kills == 0 || self.run_for.is_some(), "--kills needs --for");
        ensure!(
            self.run_for.is_none() || self.plays > 0,
            "--for needs --plays: how many there are to be is known before"
        );
        Ok(())
    }

    /// What was asked to be done to a part of a cluster that runs.
    pub(crate) fn asked(&self) -> Result<Option<(Act, Name)>> {
        match &self.act[..] {
            [] => Ok(None),
            [act, name] => {
                let wrong = |why: String| anyhow::anyhow!(why);
                Ok(Some((act.parse().map_err(wrong)?, name.parse().map_err(wrong)?)))
            }
            _ => bail!("give kill, stop, cont, cut or start and a name, or status, or down"),
        }
    }

    /// How many plays each producer of ours makes.
    pub(crate) fn plays_of_producer(&self) -> u64 {
        let rate = self.plays.div_ceil(self.producers as u64);
        self.run_for.map_or(ENDLESS, |long| (rate as f64 * long.as_secs_f64()).ceil() as u64)
    }
}

fn ledger(text: &str) -> Result<LedgerKind, String> {
    match text {
        "postgres" => Ok(LedgerKind::Postgres),
        "files" => Ok(LedgerKind::Files),
        _ => Err(format!("{text:?} is neither postgres nor files")),
    }
}

/// `20`, `20s`, `5m`, `500ms` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is no duration: try 20s, 5m or 500ms")),
    };
    let seconds =
        digits.parse::<f64>().ok().and_then(|of| Duration::try_from_secs_f64(of * unit).ok());
    seconds.ok_or_else(|| format!("{text:?} is no duration: try 20s, 5m or 500ms"))
}
