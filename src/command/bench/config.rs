//! The arguments of `bench`, and what they mean.

use std::path::PathBuf;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};

use crate::command::shared::nsq;
use crate::command::shared::output::OutputFormat;
use crate::command::shared::values::{self, Count, MAX_ROUNDS, MAX_VIDEOS};
use crate::nsqd::addresses::NsqdAddresses;

/// measures this machine: produce, process, run and the time from enqueued to counted, in rounds; checks every count
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "bench", help_triggers("-h", "--help", "help"))]
pub(in crate::command) struct BenchArgs {
    /// plays in each measurement [default: 1000000]
    #[argh(option, default = "Count(1_000_000)")]
    num_messages: Count,
    /// videos that they are plays of [default: 100]
    #[argh(option, default = "Count(100)")]
    num_videos: Count<MAX_VIDEOS>,
    /// how often to measure everything; the medians are shown [default: 5]
    #[argh(option, default = "Count(5)")]
    rounds: Count<MAX_ROUNDS>,
    /// use the nsqd at this host:port, on topics of its own [default: the embedded broker]
    #[argh(option)]
    nsqd_tcp_address: Option<String>,
    /// that nsqd's HTTP host:port [default: same host, TCP port + 1]
    #[argh(option)]
    nsqd_http_address: Option<String>,
    /// directory for its files, on the disk to measure; they are removed at the end [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// print the report as one JSON object on one line, and nothing else on stdout
    #[argh(switch)]
    json: bool,
}

/// What to measure.
#[derive(Clone, Debug)]
pub(super) struct BenchConfig {
    /// Plays in each measurement.
    pub(super) messages: u64,
    /// Videos that they are plays of.
    pub(super) videos: usize,
    /// How often everything is measured.
    pub(super) rounds: u64,
    /// The nsqd to use; `None`: the embedded broker.
    pub(super) nsqd: Option<NsqdAddresses>,
    /// Where the files of the measurements go, until its end.
    pub(super) data_dir: PathBuf,
    /// How the report is printed.
    pub(super) format: OutputFormat,
}

impl BenchArgs {
    /// # Errors
    /// One line that says which value is out of range, or which option misses another.
    pub(super) fn config(self) -> Result<BenchConfig> {
        let Self { num_messages, num_videos, rounds, .. } = self;
        if self.nsqd_tcp_address.is_none() && self.nsqd_http_address.is_some() {
            bail!("--nsqd-http-address needs the --nsqd-tcp-address that it belongs to");
        }
        let (tcp, http) = (self.nsqd_tcp_address, self.nsqd_http_address);
        let nsqd =
            NsqdAddresses::pair(tcp.into_iter().collect(), http.into_iter().collect())?.pop();
        // The queue is filled before it is drained, and the embedded broker has no disk.
        let most = nsq::embedded_broker_capacity();
        if nsqd.is_none() && num_messages.0 > most {
            bail!(
                "--num-messages {num_messages} is over the {most} that the embedded broker's memory holds; take fewer, or an nsqd with --nsqd-tcp-address"
            );
        }
        Ok(BenchConfig {
            messages: num_messages.0,
            videos: num_videos.get(),
            rounds: rounds.0,
            nsqd,
            data_dir: self.data_dir.into(),
            format: OutputFormat::from_switch(self.json),
        })
    }
}
