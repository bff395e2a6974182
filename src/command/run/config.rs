//! The arguments of `run`, and what they mean.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::{ChannelName, ConsumerConfig, TopicName};

use crate::command::shared::https;
use crate::command::shared::nsq::{self, ConsumerOption, ProducerOption};
use crate::command::shared::output::OutputFormat;
use crate::command::shared::tls;
use crate::command::shared::token::{read_token, write_token};
use crate::command::shared::values::{
    self, Count, HumanDuration, MAX_IN_FLIGHT, MAX_THREADS, MAX_VIDEOS, Ratio, VideoUrl,
};
use crate::dashboard::Keep;
use crate::http::TlsFiles;
use crate::ledger::MessageBudget;
use crate::model::config::{Durability, Popularity};
use crate::model::time_window::TimeWindow;
use crate::model::words::{grouped, many};
use crate::nsqd::addresses::NsqdAddresses;
use crate::nsqd::http_tls::HttpTls;
use crate::nsqd::topic::Backlog;
use crate::producer::ProductionConfig;

/// the whole simulation in one process: queue, producer, processor and dashboard; serves the page until
/// Ctrl-C. Without an nsqd it brings its own broker
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub(in crate::command) struct RunArgs {
    // What is simulated.
    /// plays to make [default: 100000]
    #[argh(option, default = "Count(100_000)")]
    num_messages: Count,
    /// videos that they are plays of [default: 100]
    #[argh(option, default = "Count(100)")]
    num_videos: Count<MAX_VIDEOS>,

    // The processor.
    /// worker threads of the processor [default: 2]
    #[argh(option, default = "Count(2)")]
    num_threads: Count<MAX_THREADS>,
    /// how often a video with --realtime-below plays or more is published [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    update_interval: HumanDuration,
    /// below how many plays a video is published at once, at each change [default: 100]
    #[argh(option, default = "Count(100)")]
    realtime_below: Count,
    /// publish a play again when no processor has counted it for that long [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    republish_after: HumanDuration,
    /// how old a play's time may be to be believed; an older one is left out of the consumption times [default: 7d]
    #[argh(option, default = "values::TIME_WINDOW_BACK")]
    time_window_back: HumanDuration,
    /// how far ahead of this machine's clock it may be [default: 1m]
    #[argh(option, default = "values::TIME_WINDOW_AHEAD")]
    time_window_ahead: HumanDuration,
    /// memory for the newest messages of plays without (producer, seq), in MiB, up to 2048: one that nsqd delivers
    /// again is known while it is among them; 32 hold at least a million [default: 32]
    #[argh(option, default = "Count(MessageBudget::DEFAULT_MB)")]
    message_window_mb: Count<{ MessageBudget::MAX_MB }>,
    /// what a count survives: process (kill -9 of any part) or power (a power loss, too); none is for
    /// measurements [default: process]
    #[argh(option, default = "Durability::default()")]
    durability: Durability,

    // The producer.
    /// start producers and processor together, instead of filling the queue first
    #[argh(switch)]
    real_life: bool,
    /// producer threads for each worker thread; all together are 1 to 256 [default: 1]
    #[argh(option, default = "Ratio(1.0)")]
    pc_ratio: Ratio<MAX_THREADS>,
    /// plays a second over all producers [default: as fast as possible]
    #[argh(option)]
    rate: Option<Ratio>,
    /// how plays spread over the videos: uniform, or zipf:S with an exponent S above 0 [default: uniform]
    #[argh(option, default = "Popularity::Uniform")]
    popularity: Popularity,

    // The queue.
    /// start an nsqd from $NSQD or PATH, on free ports and with its data in the data directory
    #[argh(switch)]
    start_nsq: bool,
    /// keep the embedded broker's messages on disk, in the data directory, and not in memory
    #[argh(switch)]
    queue_on_disk: bool,
    /// use the nsqd at this host:port; repeatable [default: the embedded broker]
    #[argh(option)]
    nsqd_tcp_address: Vec<String>,
    /// that nsqd's HTTP host:port, or https://host:port; repeatable, in the same order
    /// [default: same host, TCP port + 1]
    #[argh(option)]
    nsqd_http_address: Vec<String>,
    /// use the nsqds that the nsqlookupd at this HTTP host:port, or https://host:port, knows at the start;
    /// repeatable [default: none]
    #[argh(option)]
    lookupd_http_address: Vec<String>,
    /// PEM file of the certificate authorities of nsqds and nsqlookupds at https://, and no others [default: what options
    /// of the consumer or producer say of TLS, else SSL_CERT_FILE, else those that browsers trust]
    #[argh(option)]
    nsqd_http_ca: Option<String>,
    /// option for the consumer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    consumer_opt: Vec<ConsumerOption>,
    /// option for the producer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    producer_opt: Vec<ProducerOption>,
    /// empty a topic that is not empty, on a named nsqd
    #[argh(switch)]
    reset: bool,
    /// topic that the plays are put on [default: plays]
    #[argh(option, default = "values::TOPIC.into()")]
    topic: String,
    /// channel that the processor reads [default: processor]
    #[argh(option, default = "values::CHANNEL.into()")]
    channel: String,
    /// messages in flight for each nsqd [default: 2500]
    #[argh(option, default = "Count(2500)")]
    max_in_flight: Count<MAX_IN_FLIGHT>,

    // The dashboard.
    /// host:port of the page; port 0 takes a free one [default: 127.0.0.1:8000]
    #[argh(option, default = "values::HTTP_ADDRESS.into()")]
    http_address: String,
    /// token that writes to the dashboard need; a must beyond loopback; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
    /// token that reads need, or that opens the page's form to sign in; others see it in ps, but not --read-token-file
    /// or PLAYCOUNTS_READ_TOKEN [default: none, all may read]
    #[argh(option)]
    read_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    read_token_file: Option<String>,
    /// PEM file of the certificate to serve HTTPS with, and of those between it and its authority; read again on SIGHUP
    /// [default: none, plain HTTP]
    #[argh(option)]
    tls_cert: Option<String>,
    /// PEM file of that certificate's private key, not encrypted [default: none]
    #[argh(option)]
    tls_key: Option<String>,
    /// mark the queue's depth, in the page, the diagnosis and the metrics, while more messages wait [default: never]
    #[argh(option)]
    depth_alert: Option<Count>,
    /// a name that the dashboard is served under besides localhost and its addresses; repeatable [default: none]
    #[argh(option)]
    allowed_host: Vec<String>,
    /// where videos are, for the page's links, with id in braces where the percent-encoded id goes; a url of a video's own goes
    /// before it [default: none]
    #[argh(option)]
    video_url: Option<VideoUrl>,
    /// how long the dashboard keeps plays by minute [default: 2d]
    #[argh(option, default = "values::KEEP_BY_MINUTE")]
    keep_by_minute: HumanDuration,
    /// how long it keeps plays by hour, and the charts; by day it keeps them for ever [default: 90d]
    #[argh(option, default = "values::KEEP_BY_HOUR")]
    keep_by_hour: HumanDuration,

    // Files and output.
    /// directory for the run's files [default: playcounts-run]
    #[argh(option, default = "values::RUN_DIR.into()")]
    data_dir: String,
    /// end when all is counted and published, instead of serving the page on
    #[argh(switch)]
    exit: bool,
    /// print the report as one JSON object on one line, and nothing else on stdout
    #[argh(switch)]
    json: bool,
}

/// Which broker a run goes through.
#[derive(Clone, Debug)]
pub(super) enum BrokerChoice {
    /// Our own, in this process: its messages are in memory, or on disk.
    Embedded { on_disk: bool },
    /// A real nsqd, started for the run.
    StartNsqd,
    /// Running nsqds.
    Named { nsqds: Vec<NsqdAddresses>, backlog: Backlog },
}

/// When producers and processor start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartOrder {
    /// The processor when the queue is filled.
    QueueFirst,
    /// Both at once.
    Together,
}

/// What a run does when all is counted and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// Goes on serving the page, until it is stopped.
    ServePage,
    /// Ends.
    Exit,
}

/// What to simulate.
#[derive(Clone, Debug)]
pub(in super::super) struct RunConfig {
    /// Which broker.
    pub(super) broker: BrokerChoice,
    /// What is produced.
    pub(super) production: ProductionConfig,
    /// More settings of the producer.
    pub(super) producer_options: Vec<ProducerOption>,
    /// After how long a play that is not counted is published again.
    pub(super) republish_after: Duration,
    /// The processor's channel.
    pub(super) channel: ChannelName,
    /// The processor's worker threads.
    pub(super) threads: NonZeroUsize,
    /// Which times of plays are believed.
    pub(super) time_window: TimeWindow,
    /// Memory for the messages of plays without an identity.
    pub(super) message_budget: MessageBudget,
    /// Messages in flight for each nsqd.
    pub(super) max_in_flight: u32,
    /// More settings of the consumer.
    pub(super) consumer_options: Vec<ConsumerOption>,
    /// How often a video with `realtime_below` plays or more is published.
    pub(super) update_interval: Duration,
    /// Up to how many plays a video is published at each change.
    pub(super) realtime_below: u64,
    /// What a count survives.
    pub(super) durability: Durability,
    /// Where the page is.
    pub(super) http_address: String,
    /// The dashboard's token for writes.
    pub(super) write_token: Option<String>,
    /// Its token for reads.
    pub(super) read_token: Option<String>,
    /// What it serves HTTPS with.
    pub(super) served: Option<TlsFiles>,
    /// nsqlookupds that the dashboard shows, with the nsqds that they know.
    pub(super) lookupds: Vec<String>,
    /// Whom HTTP APIs at `https://` must prove to be.
    pub(super) tls: HttpTls,
    /// With more messages waiting than these the dashboard says so.
    pub(super) depth_alert: Option<u64>,
    /// Where videos are, as the page links to them.
    pub(super) video_url: Option<String>,
    /// How long the dashboard keeps history.
    pub(super) keep: Keep,
    /// More names that the dashboard is served under.
    pub(super) allowed_hosts: Vec<String>,
    /// When the parts start.
    pub(super) order: StartOrder,
    /// What happens behind the last count.
    pub(super) at_end: AtEnd,
    /// Where the run keeps its files.
    pub(super) data_dir: PathBuf,
    /// How the report is printed.
    pub(super) format: OutputFormat,
}

impl RunArgs {
    /// Asks the nsqlookupds of `--lookupd-http-address` for their nsqds.
    ///
    /// # Errors
    /// One line that says which options contradict each other, or which value is out of range.
    pub(in super::super) fn config(self) -> Result<RunConfig> {
        let (topic, channel) = (nsq::topic(&self.topic)?, nsq::channel(&self.channel)?);
        let nsqd_tls = self.http_tls(topic, channel)?;
        let broker = self.broker(&nsqd_tls)?;
        let threads = self.num_threads.threads();
        let production = ProductionConfig {
            topic,
            messages: self.num_messages.0,
            videos: self.num_videos.get(),
            threads: producers(self.pc_ratio, threads)?,
            rate: self.rate.map(|rate| rate.0),
            popularity: self.popularity,
        };
        Ok(RunConfig {
            broker,
            production,
            producer_options: self.producer_opt,
            republish_after: self.republish_after.0,
            channel,
            threads,
            time_window: values::time_window(self.time_window_back, self.time_window_ahead),
            message_budget: MessageBudget::from_mb(self.message_window_mb.0),
            max_in_flight: self.max_in_flight.max_in_flight(),
            consumer_options: self.consumer_opt,
            update_interval: self.update_interval.0,
            realtime_below: self.realtime_below.0,
            durability: self.durability,
            http_address: self.http_address,
            write_token: write_token(self.write_token, self.write_token_file)?,
            read_token: read_token(self.read_token, self.read_token_file)?,
            served: tls::files(self.tls_cert, self.tls_key)?,
            lookupds: self.lookupd_http_address,
            tls: nsqd_tls,
            depth_alert: self.depth_alert.map(|count| count.0),
            video_url: self.video_url.map(|url| url.0),
            keep: Keep { minutes: self.keep_by_minute.0, hours: self.keep_by_hour.0 },
            allowed_hosts: self.allowed_host,
            order: if self.real_life { StartOrder::Together } else { StartOrder::QueueFirst },
            at_end: if self.exit { AtEnd::Exit } else { AtEnd::ServePage },
            data_dir: self.data_dir.into(),
            format: OutputFormat::from_switch(self.json),
        })
    }

    /// Whom HTTP APIs at `https://` must prove to be.
    fn http_tls(&self, topic: TopicName, channel: ChannelName) -> Result<HttpTls> {
        let mut consumer = ConsumerConfig::new(topic, channel);
        ConsumerOption::apply(&self.consumer_opt, &mut consumer)?;
        let (nsqds, lookupds) = (&self.nsqd_http_address, &self.lookupd_http_address);
        let own = consumer.get_tls();
        https::nsq_tls(self.nsqd_http_ca.clone(), own, nsqds, lookupds)
    }

    fn broker(&self, tls: &HttpTls) -> Result<BrokerChoice> {
        let (mut tcp, mut http) = (self.nsqd_tcp_address.clone(), self.nsqd_http_address.clone());
        nsq::nsqds_or_lookupds(&tcp, &self.lookupd_http_address)?;
        if self.start_nsq && !self.lookupd_http_address.is_empty() {
            bail!(
                "--start-nsq and --lookupd-http-address cannot be used together: one starts an nsqd, one finds some"
            );
        }
        if !http.is_empty() && !self.lookupd_http_address.is_empty() {
            bail!(
                "--lookupd-http-address finds the nsqds' HTTP ports itself: leave --nsqd-http-address out"
            );
        }
        for node in nsq::nodes(&self.lookupd_http_address, &tls.lookupd)? {
            tcp.push(node.tcp_address);
            http.push(node.http_address);
        }
        if self.queue_on_disk && (self.start_nsq || !tcp.is_empty()) {
            bail!("--queue-on-disk is about the embedded broker: an nsqd has a disk of its own");
        }
        match (self.start_nsq, tcp.is_empty()) {
            (true, false) => bail!(
                "--start-nsq and --nsqd-tcp-address cannot be used together: one starts an nsqd, one names one"
            ),
            (true, true) => Ok(BrokerChoice::StartNsqd),
            (false, true) if !http.is_empty() => {
                bail!("--nsqd-http-address needs the --nsqd-tcp-address that it belongs to")
            }
            (false, true) => Ok(BrokerChoice::Embedded { on_disk: self.queue_on_disk }),
            (false, false) => {
                let backlog = if self.reset { Backlog::Discard } else { Backlog::Refuse };
                Ok(BrokerChoice::Named { nsqds: NsqdAddresses::pair(tcp, http)?, backlog })
            }
        }
    }
}

/// Producer threads for that many worker threads: at least one.
///
/// # Errors
/// They are more than [`MAX_THREADS`].
fn producers(for_each_worker: Ratio<MAX_THREADS>, workers: NonZeroUsize) -> Result<NonZeroUsize> {
    let wanted = (for_each_worker.0 * workers.get() as f64).round();
    if wanted > MAX_THREADS as f64 {
        let ratio = for_each_worker.0;
        bail!(
            "--pc-ratio {ratio} with --num-threads {workers} makes {wanted} producer threads; at most there are {MAX_THREADS}"
        );
    }
    Ok(NonZeroUsize::new(wanted as usize).unwrap_or(NonZeroUsize::MIN))
}

impl RunConfig {
    /// The configuration as terminal and page show it: names and values.
    pub(super) fn shown(&self) -> [(&'static str, String); 12] {
        let production = &self.production;
        let broker = match &self.broker {
            BrokerChoice::Embedded { on_disk: false } => "embedded".into(),
            BrokerChoice::Embedded { on_disk: true } => "embedded, on disk".into(),
            BrokerChoice::StartNsqd => "an nsqd of its own".into(),
            BrokerChoice::Named { nsqds, .. } => {
                let addresses: Vec<_> = nsqds.iter().map(|nsqd| nsqd.tcp.as_str()).collect();
                format!("nsqd at {}", addresses.join(", "))
            }
        };
        let order = match self.order {
            StartOrder::QueueFirst => "queued first, then consumed",
            StartOrder::Together => "consumed while produced",
        };
        let rate = production
            .rate
            .map_or("as fast as possible".into(), |rate| format!("{rate} plays a second"));
        let videos = grouped(production.videos as u64);
        [
            ("broker", broker),
            ("topic, channel", format!("{}, {}", production.topic, self.channel)),
            ("plays", grouped(production.messages)),
            ("videos", format!("{videos}, {}", production.popularity)),
            ("order", order.into()),
            ("rate", rate),
            ("producers", production.threads.to_string()),
            ("workers", self.threads.to_string()),
            ("max in flight", grouped(self.max_in_flight.into())),
            ("realtime below", many(self.realtime_below, "play")),
            ("update interval", format!("{:?}", self.update_interval)),
            ("durability", self.durability.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_as_many_as_is_asked_for_or_it_is_refused() {
        let config = |words: &[&str]| RunArgs::from_args(&["run"], words).unwrap().config();
        let threads = |words: &[&str]| config(words).unwrap().production.threads.get();
        assert_eq!(threads(&["--pc-ratio", "0.001"]), 1);
        assert_eq!(threads(&["--pc-ratio", "128", "--num-threads", "2"]), 256);
        let error = config(&["--pc-ratio", "200", "--num-threads", "2"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--pc-ratio 200 with --num-threads 2 makes 400 producer threads; at most there are 256"
        );
    }
}
