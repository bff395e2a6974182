//! What each command does: builds the parts from its options, waits, prints the result. Runs on the main thread.

pub mod bench;
pub mod cli;
pub mod report;
pub mod simulation;
pub mod verify;

use std::io::{BufRead, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::select;
use nsq_protocol::thread::StopToken;
use nsq_protocol::{ConsumerConfig, LookupConfig, NsqdNode, Producer, ProducerConfig};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::broker::{Broker, BrokerConfig};
use crate::command::bench::{BenchConfig, NsqdAddresses};
use crate::command::cli::Command;
use crate::command::report::{ProduceReport, RunReport, grouped};
use crate::command::simulation::{BrokerChoice, RunConfig};
use crate::command::verify::RunFiles;
use crate::dashboard::{self, Dashboard, DashboardConfig, Keep, WatchedQueue};
use crate::ledger::{self, DEAD_LETTERS_MAX, LedgerConfig};
use crate::model::config::{
    self, ConsumerOption, Count, HumanDuration, NSQD_TCP_ADDRESS, ProducerOption,
};
use crate::nsqd::queue::{self, Queue};
use crate::processor::{Processor, ProcessorConfig};
use crate::producer::{self, DiskOutbox, OutboxConfig, Production, ProductionConfig, RunIdentity};
use crate::runtime::signals::SignalWatch;
use crate::storage::data_dir::{DataDir, PROCESSOR};
use crate::wire::client::DashboardClient;

/// Runs a command to its end.
///
/// # Errors
/// One line, with its causes, that says what went wrong and what to do. Exit status 1.
pub fn run(command: Command) -> Result<()> {
    init_log(&command);
    raise_descriptor_limit();
    let (_signals, stop) = SignalWatch::start()?;
    match command {
        Command::Run(options) => run_simulation(options, &stop),
        Command::Produce(options) => produce(options, &stop),
        Command::Process(options) => process(options, &stop),
        Command::Dashboard(options) => serve_dashboard(options, &stop),
        Command::Broker(options) => serve_broker(options, &stop),
        Command::Verify(options) => verify(&options),
        Command::Reset(options) => reset(options),
        Command::DeadLetters(options) => dead_letters(&options),
        Command::Backup(options) => backup(&options),
        Command::Bench(options) => bench(options, &stop),
    }
}

fn init_log(command: &Command) {
    let level = match command {
        Command::Run(options) => options.log_level,
        Command::Produce(options) => options.log_level,
        Command::Process(options) => options.log_level,
        Command::Dashboard(options) => options.log_level,
        Command::Broker(options) => options.log_level,
        Command::Verify(options) => options.log_level,
        Command::Reset(options) => options.log_level,
        Command::DeadLetters(options) => options.log_level,
        Command::Backup(options) => options.log_level,
        Command::Bench(options) => options.log_level,
    };
    env_logger::Builder::new().filter_level(level.0).init();
}

/// Each page, connection and request holds descriptors, and the usual soft limit of 1024 is soon reached; the hard
/// limit is there to be used.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
}

fn run_simulation(options: cli::Run, stop: &StopToken) -> Result<()> {
    let (exit, json) = (options.exit, options.json);
    let config = run_config(options)?;
    for (name, value) in &config.shown {
        note(format_args!("{name:<16} {value}"));
    }
    let run = simulation::run(&config, stop, |url| note(format_args!("{:<16} {url}", "page")))?;
    let shortfall = run.shortfall.clone();
    if shortfall.is_none() {
        print(format_args!("All consumed"))?;
    }
    print_report(json, &run.report)?;
    if !exit && shortfall.is_none() && !stop.is_stopped() {
        note(format_args!("the page is live at {}; Ctrl-C ends it", run.url()));
        let _ = stop.channel().recv();
    }
    run.shutdown()?;
    shortfall.map_or(Ok(()), |shortfall| bail!(shortfall))
}

fn run_config(mut options: cli::Run) -> Result<RunConfig> {
    let (topic, channel) = config::names(&options.topic, &options.channel)?;
    one_kind(&options.nsqd_tcp_address, &options.lookupd_http_address)?;
    if options.start_nsq && !options.lookupd_http_address.is_empty() {
        bail!(
            "--start-nsq and --lookupd-http-address exclude each other: one starts an nsqd, one finds some"
        );
    }
    if !options.nsqd_http_address.is_empty() && !options.lookupd_http_address.is_empty() {
        bail!(
            "--lookupd-http-address finds the nsqds' HTTP ports itself: leave --nsqd-http-address out"
        );
    }
    for node in nodes(&options.lookupd_http_address)? {
        options.nsqd_tcp_address.push(node.tcp_address);
        options.nsqd_http_address.push(node.http_address);
    }
    let broker = match (options.start_nsq, options.nsqd_tcp_address.is_empty()) {
        (true, false) => bail!(
            "--start-nsq and --nsqd-tcp-address exclude each other: one starts an nsqd, one names one"
        ),
        (true, true) => BrokerChoice::StartNsqd,
        (false, true) if !options.nsqd_http_address.is_empty() => {
            bail!("--nsqd-http-address needs the --nsqd-tcp-address that it belongs to")
        }
        (false, true) => BrokerChoice::Embedded,
        (false, false) => BrokerChoice::Named {
            tcp_addresses: options.nsqd_tcp_address,
            http_addresses: options.nsqd_http_address,
            reset: options.reset,
        },
    };
    let threads = options.num_threads.non_zero();
    let producers =
        (options.pc_ratio.0 * threads.get() as f64).round().clamp(1.0, MAX_THREADS as f64) as usize;
    let production = ProductionConfig {
        topic,
        messages: options.num_messages.0,
        videos: options.num_videos.get(),
        threads: NonZeroUsize::new(producers).unwrap_or(NonZeroUsize::MIN),
        rate: options.rate.map(|rate| rate.0),
        popularity: options.popularity,
    };
    check_threads(threads)?;
    let broker_shown = match &broker {
        BrokerChoice::Embedded => "embedded".into(),
        BrokerChoice::StartNsqd => "an nsqd of its own".into(),
        BrokerChoice::Named { tcp_addresses, .. } => {
            format!("nsqd at {}", tcp_addresses.join(", "))
        }
    };
    let rate = production
        .rate
        .map_or("as fast as possible".into(), |rate| format!("{rate} plays a second"));
    let order =
        if options.real_life { "consumed while produced" } else { "queued first, then consumed" };
    let shown = [
        ("broker", broker_shown),
        ("topic, channel", format!("{topic}, {channel}")),
        ("plays", grouped(options.num_messages.0)),
        ("videos", format!("{}, {}", grouped(options.num_videos.0), options.popularity)),
        ("order", order.into()),
        ("rate", rate),
        ("producers", producers.to_string()),
        ("workers", threads.to_string()),
        ("max in flight", grouped(options.max_in_flight.0)),
        ("realtime below", format!("{} plays", grouped(options.realtime_below.0))),
        ("update interval", options.update_interval.to_string()),
        ("durability", options.durability.to_string()),
    ];
    Ok(RunConfig {
        allowed_hosts: options.allowed_host,
        keep: Keep { minutes: options.keep_by_minute.0, hours: options.keep_by_hour.0 },
        lookupds: options.lookupd_http_address,
        depth_alert: options.depth_alert.map(|count| count.0),
        broker,
        production,
        channel,
        threads,
        max_in_flight: max_in_flight(options.max_in_flight)?,
        consumer_options: options.consumer_opt,
        producer_options: options.producer_opt,
        update_interval: options.update_interval.0,
        realtime_below: options.realtime_below.0,
        durability: options.durability,
        republish_after: options.republish_after.0,
        real_life: options.real_life,
        http_address: options.http_address,
        write_token: options.write_token,
        data_dir: options.data_dir.into(),
        shown: shown.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    })
}

/// The most threads of one kind: more would only wait for each other.
const MAX_THREADS: usize = 256;

fn check_threads(threads: NonZeroUsize) -> Result<()> {
    if threads.get() > MAX_THREADS {
        bail!("--num-threads {threads} is over the limit of {MAX_THREADS}");
    }
    Ok(())
}

fn max_in_flight(count: Count) -> Result<u32> {
    u32::try_from(count.0)
        .ok()
        .filter(|count| *count <= MAX_IN_FLIGHT)
        .with_context(|| format!("--max-in-flight {count} is over the limit of {MAX_IN_FLIGHT}"))
}

/// The most messages in flight for one nsqd: each is held in memory, up to 1 MiB.
const MAX_IN_FLIGHT: u32 = 1_000_000;

/// As NSQ's tools have it: either nsqds are named, or nsqlookupds that know them.
fn one_kind(nsqds: &[String], lookupds: &[String]) -> Result<()> {
    if !nsqds.is_empty() && !lookupds.is_empty() {
        bail!(
            "--nsqd-tcp-address and --lookupd-http-address exclude each other: name nsqds, or who knows them"
        );
    }
    Ok(())
}

/// The nsqds that the nsqlookupds know now; none of no nsqlookupd.
fn nodes(lookupds: &[String]) -> Result<Vec<NsqdNode>> {
    if lookupds.is_empty() {
        return Ok(Vec::new());
    }
    let mut lookup = LookupConfig::default();
    lookup.addresses = lookupds.to_vec();
    let nodes = lookup.nodes().context("--lookupd-http-address")?;
    if nodes.is_empty() {
        let lookupds = lookupds.join(", ");
        bail!(
            "no nsqd is registered with nsqlookupd {lookupds}; start one with --lookupd-tcp-address"
        );
    }
    Ok(nodes)
}

fn nsqds(addresses: Vec<String>) -> Vec<String> {
    if addresses.is_empty() { vec![NSQD_TCP_ADDRESS.to_owned()] } else { addresses }
}

/// How long between two tries to connect, while no nsqd is there.
const CONNECT_EVERY: Duration = Duration::from_millis(500);

fn produce(options: cli::Produce, stop: &StopToken) -> Result<()> {
    let (topic, _) = config::names(&options.topic, "processor")?;
    let config = ProductionConfig {
        topic,
        messages: options.num_messages.0,
        videos: options.num_videos.get(),
        threads: NonZeroUsize::MIN,
        rate: options.rate.map(|rate| rate.0),
        popularity: options.popularity,
    };
    let data_dir = options.data_dir.as_ref().map(DataDir::open).transpose()?;
    let outbox = data_dir.as_ref().map(|dir| open_outbox(dir, &config, &options)).transpose()?;
    let mut producer = ProducerConfig::new();
    one_kind(&options.nsqd_tcp_address, &options.lookupd_http_address)?;
    producer.nsqd_addresses =
        nodes(&options.lookupd_http_address)?.into_iter().map(|node| node.tcp_address).collect();
    if producer.nsqd_addresses.is_empty() {
        producer.nsqd_addresses = nsqds(options.nsqd_tcp_address);
    }
    ProducerOption::apply(&options.producer_opt, &mut producer)?;
    let producer = match outbox {
        Some(_) => connect_in_the_end(&producer, stop)?,
        None => Producer::connect(producer)?,
    };
    let production = Production::start(&config, &Arc::new(producer), outbox)?;
    select! {
        recv(production.running()) -> _ => {}
        recv(stop.channel()) -> _ => {}
    }
    let report = production.stop()?;
    if let Some(dir) = data_dir {
        RunFiles::new(dir.path()).write_produced(&report.counts)?;
    }
    print_report(options.json, &ProduceReport::from(&report))?;
    let (acknowledged, wanted) = (report.messages, config.messages);
    match report.unconfirmed {
        None if acknowledged < wanted => {
            bail!("stopped: {acknowledged} of {wanted} plays were produced")
        }
        Some(unconfirmed) if acknowledged < wanted || unconfirmed > 0 => bail!(
            "stopped: nsqd has acknowledged {acknowledged} of {wanted} plays, and {unconfirmed} are not known to be counted; the same command goes on"
        ),
        _ => Ok(()),
    }
}

/// Connects to an nsqd, also to one that is not there yet: with an outbox nothing is lost by waiting, and the same
/// command must go on while the nsqd is away.
fn connect_in_the_end(config: &ProducerConfig, stop: &StopToken) -> Result<Producer> {
    let mut waiting = false;
    loop {
        match Producer::connect(config.clone()) {
            Err(error @ nsq_protocol::Error::Connect { .. }) => {
                if !std::mem::replace(&mut waiting, true) {
                    log::warn!("{:#}; trying again", anyhow::Error::from(error));
                }
            }
            connected => return Ok(connected?),
        }
        if stop.wait(CONNECT_EVERY) {
            bail!("stopped: no nsqd was there; the same command goes on");
        }
    }
}

fn open_outbox(
    dir: &DataDir,
    config: &ProductionConfig,
    options: &cli::Produce,
) -> Result<OutboxConfig> {
    let run = RunIdentity {
        topic: config.topic.to_string(),
        messages: config.messages,
        videos: config.videos,
        popularity: config.popularity.to_string(),
    };
    let dashboard = DashboardClient::new(&options.dashboard_url, None);
    Ok(OutboxConfig {
        confirmations: Arc::new(move |producer, outbox| dashboard.confirmed(producer, outbox)),
        republish_after: options.republish_after.0,
        max: options.max_outbox.0,
        disk: Some(DiskOutbox::open(dir, &run, options.durability)?),
    })
}

fn process(options: cli::Process, stop: &StopToken) -> Result<()> {
    let (topic, channel) = config::names(&options.topic, &options.channel)?;
    let threads = options.num_threads.non_zero();
    check_threads(threads)?;
    let data_dir = DataDir::open(&options.data_dir)?;
    let mut consumer = ConsumerConfig::new(topic, channel);
    one_kind(&options.nsqd_tcp_address, &options.lookupd_http_address)?;
    consumer.max_in_flight = max_in_flight(options.max_in_flight)?;
    if options.lookupd_http_address.is_empty() {
        consumer.nsqd_addresses = nsqds(options.nsqd_tcp_address);
        let nsqds = consumer.nsqd_addresses.len() as u32;
        consumer.max_in_flight = consumer.max_in_flight.saturating_mul(nsqds);
    }
    consumer.lookup.addresses = options.lookupd_http_address;
    ConsumerOption::apply(&options.consumer_opt, &mut consumer)?;
    let target = options.num_messages.map(|count| count.0);
    let lock = match options.standby {
        false => data_dir.lock(PROCESSOR)?,
        true => {
            let waiting = |owner| note(format_args!("standing by: {owner}"));
            let lock = data_dir.lock_when_free(PROCESSOR, stop, waiting)?;
            lock.context("stopped while standing by: nothing was counted")?
        }
    };
    let ledger = LedgerConfig {
        directory: data_dir.path().to_owned(),
        simulation: false,
        adopt: options.adopt_ledger,
    };
    let ledger = ledger::open(&ledger, options.durability)?;
    let before = ledger.counters();
    if before.counted > 0 {
        let (plays, videos) = (before.counted, ledger.videos().len());
        note(format_args!(
            "the ledger holds {plays} plays of {videos} videos; going on from there"
        ));
    }
    let processor = Processor::start(ProcessorConfig {
        consumer,
        threads,
        update_interval: options.update_interval.0,
        realtime_below: options.realtime_below.0,
        dashboard: DashboardClient::new(&options.dashboard_url, options.write_token),
        target,
        ledger,
        lock,
    })?;
    select! {
        recv(processor.reached()) -> _ => {}
        recv(processor.failed()) -> _ => {}
        recv(stop.channel()) -> _ => {}
    }
    let (processed, counts) = processor.stop();
    RunFiles::new(data_dir.path()).write_counted(processed.in_ledger, &counts)?;
    print_report(options.json, &RunReport::new(&processed, processed.seconds, options.durability))?;
    if let Some(failure) = processed.failure {
        bail!(
            "counting ended, and what was not counted went back to nsqd: {failure}; mend it and start again"
        );
    }
    if let Some(error) = processed.publish_error {
        bail!("the counts of {} videos are not published: {error}", processed.unpublished_videos);
    }
    match target {
        Some(target) if processed.in_ledger < target => {
            bail!("stopped: {} of {target} messages were consumed", processed.in_ledger)
        }
        _ => Ok(()),
    }
}

fn serve_dashboard(options: cli::Dashboard, stop: &StopToken) -> Result<()> {
    let (topic, channel) = config::names(&options.topic, &options.channel)?;
    let mut lookup = LookupConfig::default();
    lookup.addresses = options.lookupd_http_address;
    lookup.check()?;
    let shown = [
        ("topic, channel", format!("{topic}, {channel}")),
        ("data directory", options.data_dir.clone()),
    ];
    let shown = shown.map(|(name, value)| (name.to_owned(), value));
    let dashboard = Dashboard::start(DashboardConfig {
        http_address: options.http_address,
        data_dir: options.data_dir.into(),
        write_token: options.write_token,
        configuration: simulation::shown_as_json(&shown),
        clean: false,
        keep: Keep { minutes: options.keep_by_minute.0, hours: options.keep_by_hour.0 },
        watched: Some(WatchedQueue {
            nsqds: options.nsqd_http_address,
            lookupds: lookup.addresses,
            topic,
            channel,
            depth_alert: options.depth_alert.map(|count| count.0),
        }),
        allowed_hosts: options.allowed_host,
    })?;
    note(format_args!("the page is live at {}; Ctrl-C ends it", dashboard.url()));
    let _ = stop.channel().recv();
    dashboard.shutdown()
}

fn serve_broker(options: cli::Broker, stop: &StopToken) -> Result<()> {
    let broker = Broker::start(broker_config(options)?)?;
    note(format_args!("TCP: listening on {}", broker.tcp_addr()));
    if let Some(address) = broker.http_addr() {
        note(format_args!(
            "HTTP: listening on {address}; Ctrl-C ends it, and the messages with it"
        ));
    }
    let _ = stop.channel().recv();
    broker.shutdown();
    Ok(())
}

fn broker_config(options: cli::Broker) -> Result<BrokerConfig> {
    let defaults = BrokerConfig::default();
    let size = |given: Option<Count>, default| given.map_or(default, Count::get);
    let time = |given: Option<HumanDuration>, default| given.map_or(default, |duration| duration.0);
    let max_rdy_count = size(options.max_rdy_count, defaults.max_rdy_count as usize);
    Ok(BrokerConfig {
        tcp_address: options.tcp_address,
        http_address: Some(options.http_address),
        broadcast_address: options.broadcast_address.unwrap_or(defaults.broadcast_address),
        mem_queue_size: options.mem_queue_size.map(Count::get),
        max_memory: size(options.max_memory, defaults.max_memory),
        max_msg_size: size(options.max_msg_size, defaults.max_msg_size),
        max_body_size: size(options.max_body_size, defaults.max_body_size),
        max_rdy_count: u32::try_from(max_rdy_count)
            .context("--max-rdy-count is over 4294967295")?,
        msg_timeout: time(options.msg_timeout, defaults.msg_timeout),
        max_msg_timeout: time(options.max_msg_timeout, defaults.max_msg_timeout),
        max_req_timeout: time(options.max_req_timeout, defaults.max_req_timeout),
        max_channel_consumers: size(options.max_channel_consumers, defaults.max_channel_consumers),
        max_connections: size(options.max_connections, defaults.max_connections),
        ..defaults
    })
}

fn verify(options: &cli::Verify) -> Result<()> {
    if !Path::new(&options.data_dir).is_dir() {
        bail!(
            "there is no data directory {}; give --data-dir the one of the run",
            options.data_dir
        );
    }
    let verification = RunFiles::new(&options.data_dir).verify()?;
    if options.json {
        print_json(&verification)?;
    } else {
        for check in &verification.checks {
            print(format_args!("{check}"))?;
        }
    }
    if let Some(check) = verification.first_failure() {
        bail!("the last run does not add up: {check}");
    }
    Ok(())
}

fn reset(mut options: cli::Reset) -> Result<()> {
    let (topic, channel) = config::names(&options.topic, "processor")?;
    let found = nodes(&options.lookupd_http_address)?;
    options.nsqd_http_address.extend(found.into_iter().map(|node| node.http_address));
    let mut targets = Vec::new();
    if !options.nsqd_http_address.is_empty() {
        targets.push(format!("topic {topic} at {}", options.nsqd_http_address.join(", ")));
    }
    targets.push(match &options.dashboard_url {
        Some(url) => format!("the counts of the dashboard at {url}"),
        None => format!("the dashboard's counts in {}", options.data_dir),
    });
    let data_dir = Path::new(&options.data_dir);
    let with_ledger = ledger::exists(data_dir);
    if with_ledger {
        targets.push(format!("the processor's ledger in {}", options.data_dir));
    }
    let with_outbox = producer::outbox_exists(data_dir);
    if with_outbox {
        targets.push(format!("the producer's outbox in {}", options.data_dir));
    }
    if !options.yes {
        confirm(&format!("This throws away {}. Go on?", targets.join(" and ")))?;
    }
    if !options.nsqd_http_address.is_empty() {
        Queue::new(&options.nsqd_http_address, topic, channel).empty()?;
    }
    match &options.dashboard_url {
        Some(url) => DashboardClient::new(url, options.write_token).clear()?,
        None if data_dir.is_dir() => dashboard::clear(data_dir)?,
        None => {}
    }
    if with_ledger {
        let _lock = DataDir::open(data_dir)?.lock(PROCESSOR)?;
        ledger::remove(data_dir, false)?;
    }
    if with_outbox {
        producer::remove_outbox(&DataDir::open(data_dir)?)?;
    }
    RunFiles::new(&options.data_dir).clear()?;
    targets.iter().try_for_each(|target| print(format_args!("emptied {target}")))
}

fn dead_letters(options: &cli::DeadLetters) -> Result<()> {
    let mut kept = 0;
    let there = ledger::dead_letters(Path::new(&options.data_dir), |letter| {
        kept += 1;
        if options.json { print_json(&letter) } else { print(format_args!("{letter}")) }
    })?;
    if !there {
        let dir = &options.data_dir;
        bail!("no processor has kept a ledger in {dir}; give --data-dir the one of `process`");
    }
    note(format_args!("{kept} dead letters; the newest {DEAD_LETTERS_MAX} are kept"));
    Ok(())
}

fn backup(options: &cli::Backup) -> Result<()> {
    if !dashboard::backup(Path::new(&options.data_dir), Path::new(&options.output))? {
        bail!(
            "no dashboard has kept counts in {}; give --data-dir another directory",
            options.data_dir
        );
    }
    print(format_args!("wrote {}", options.output))
}

fn bench(options: cli::Bench, stop: &StopToken) -> Result<()> {
    let json = options.json;
    let report = bench::run(&bench_config(options)?, stop, |work| note(format_args!("{work}")))?;
    print_report(json, &report)
}

/// The most rounds: at the default size a week of them.
const MAX_ROUNDS: u64 = 10_000;

fn bench_config(options: cli::Bench) -> Result<BenchConfig> {
    let cli::Bench { num_messages, num_videos, rounds, nsqd_tcp_address, .. } = options;
    if rounds.0 > MAX_ROUNDS {
        bail!("--rounds {rounds} is over the limit of {MAX_ROUNDS}");
    }
    let http: Vec<String> = options.nsqd_http_address.into_iter().collect();
    let nsqd = match nsqd_tcp_address {
        None if !http.is_empty() => {
            bail!("--nsqd-http-address needs the --nsqd-tcp-address that it belongs to")
        }
        None => None,
        Some(tcp) => {
            let http = queue::http_addresses(std::slice::from_ref(&tcp), &http)?.remove(0);
            Some(NsqdAddresses { tcp, http })
        }
    };
    // The queue is filled before it is drained, and the embedded broker has no disk.
    let most = BrokerConfig::default().max_memory as u64 / simulation::QUEUED_PLAY;
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
        data_dir: options.data_dir.into(),
    })
}

/// Asks on the terminal; without one only `--yes` will do.
fn confirm(question: &str) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on; say --yes to go on without being asked");
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).context("cannot ask")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("cannot read the answer")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was thrown away");
    }
    Ok(())
}

/// A line for people, on stderr.
fn note(line: std::fmt::Arguments<'_>) {
    // A closed stderr is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line of the result, on stdout.
fn print(line: std::fmt::Arguments<'_>) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write the result to stdout")
}

fn print_json(value: &impl Serialize) -> Result<()> {
    print(format_args!("{}", serde_json::to_string(value)?))
}

fn print_report<R: Serialize + std::fmt::Display>(json: bool, report: &R) -> Result<()> {
    if json { print_json(report) } else { print(format_args!("{report}")) }
}
