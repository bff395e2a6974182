//! The command line: what may be typed, as argh structs, and nothing else. What it means is in `config`.

use argh::FromArgs;

use crate::model::config::{
    ConsumerOption, Count, Durability, HumanDuration, LogLevel, Popularity, ProducerOption, Ratio,
};

/// Counts video plays from an NSQ queue, exactly, and shows them live.
///
/// `--flag value` and `--flag=value` both work. A duration is `30`, `30s`, `500ms`, `0.5`, `1m30s` or `2d`; a bare
/// number is seconds. Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(FromArgs, Debug)]
#[argh(help_triggers("-h", "--help", "help"))]
pub struct Cli {
    #[argh(subcommand)]
    /// what to do
    pub command: Command,
}

/// The commands.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum Command {
    /// The whole simulation.
    Run(Run),
    /// Only the producer.
    Produce(Produce),
    /// Only the processor.
    Process(Process),
    /// Only the dashboard.
    Dashboard(Dashboard),
    /// Only the embedded broker.
    Broker(Broker),
    /// Checks the last run.
    Verify(Verify),
    /// Empties queue and dashboard.
    Reset(Reset),
    /// Lists bodies that were no play.
    DeadLetters(DeadLetters),
    /// Copies the dashboard's database.
    Backup(Backup),
    /// Measures this machine.
    Bench(Bench),
}

/// the whole simulation in one process: queue, producer, processor and dashboard; serves the page until
/// Ctrl-C. Without an nsqd it brings its own broker
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub struct Run {
    /// plays to make [default: 100000]
    #[argh(option, default = "Count(100_000)")]
    pub num_messages: Count,
    /// videos that they are plays of [default: 100]
    #[argh(option, default = "Count(100)")]
    pub num_videos: Count,
    /// worker threads of the processor [default: 2]
    #[argh(option, default = "Count(2)")]
    pub num_threads: Count,
    /// how often a video with --realtime-below plays or more is published [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    pub update_interval: HumanDuration,
    /// below how many plays a video is published at once, at each change [default: 100]
    #[argh(option, default = "Count(100)")]
    pub realtime_below: Count,
    /// publish a play again when no processor has counted it for that long [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    pub republish_after: HumanDuration,
    /// what a count survives: process (kill -9 of any part) or power (a power loss, too); none is for
    /// measurements [default: process]
    #[argh(option, default = "Durability::default()")]
    pub durability: Durability,
    /// start producers and processor together, instead of filling the queue first
    #[argh(switch)]
    pub real_life: bool,
    /// producer threads for each worker thread [default: 1]
    #[argh(option, default = "Ratio(1.0)")]
    pub pc_ratio: Ratio,
    /// plays a second over all producers [default: as fast as possible]
    #[argh(option)]
    pub rate: Option<Ratio>,
    /// how plays spread over the videos: uniform, or zipf:S with an exponent S above 0 [default: uniform]
    #[argh(option, default = "Popularity::Uniform")]
    pub popularity: Popularity,
    /// start an nsqd from $NSQD or PATH, on free ports and with its data in the data directory
    #[argh(switch)]
    pub start_nsq: bool,
    /// use the nsqd at this host:port; repeatable [default: the embedded broker]
    #[argh(option)]
    pub nsqd_tcp_address: Vec<String>,
    /// that nsqd's HTTP host:port; repeatable, in the same order [default: same host, TCP port + 1]
    #[argh(option)]
    pub nsqd_http_address: Vec<String>,
    /// use the nsqds that the nsqlookupd at this HTTP host:port knows at the start; repeatable [default: none]
    #[argh(option)]
    pub lookupd_http_address: Vec<String>,
    /// option for the consumer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    pub consumer_opt: Vec<ConsumerOption>,
    /// option for the producer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    pub producer_opt: Vec<ProducerOption>,
    /// empty a topic that is not empty, on a named nsqd
    #[argh(switch)]
    pub reset: bool,
    /// topic that the plays are put on [default: plays]
    #[argh(option, default = "\"plays\".into()")]
    pub topic: String,
    /// channel that the processor reads [default: processor]
    #[argh(option, default = "\"processor\".into()")]
    pub channel: String,
    /// messages in flight for each nsqd [default: 2500]
    #[argh(option, default = "Count(2500)")]
    pub max_in_flight: Count,
    /// host:port of the page; port 0 takes a free one [default: 127.0.0.1:8000]
    #[argh(option, default = "crate::model::config::HTTP_ADDRESS.into()")]
    pub http_address: String,
    /// token that writes to the dashboard need; a must beyond loopback [default: none]
    #[argh(option)]
    pub write_token: Option<String>,
    /// mark the queue's depth, in the page, the diagnosis and the metrics, while more messages wait [default: never]
    #[argh(option)]
    pub depth_alert: Option<Count>,
    /// a name that the dashboard is served under besides localhost and its addresses; repeatable [default: none]
    #[argh(option)]
    pub allowed_host: Vec<String>,
    /// how long the dashboard keeps plays by minute [default: 2d]
    #[argh(option, default = "HumanDuration::from_secs(2 * 86_400)")]
    pub keep_by_minute: HumanDuration,
    /// how long it keeps plays by hour, and the charts; by day it keeps them for ever [default: 90d]
    #[argh(option, default = "HumanDuration::from_secs(90 * 86_400)")]
    pub keep_by_hour: HumanDuration,
    /// directory for the run's files [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// end when all is counted and published, instead of serving the page on
    #[argh(switch)]
    pub exit: bool,
    /// print the report as one JSON object, as the last line
    #[argh(switch)]
    pub json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// only the producer: puts plays on a running nsqd and ends when it has acknowledged them all
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "produce", help_triggers("-h", "--help", "help"))]
pub struct Produce {
    /// plays to make [default: 100000]
    #[argh(option, default = "Count(100_000)")]
    pub num_messages: Count,
    /// videos that they are plays of [default: 100]
    #[argh(option, default = "Count(100)")]
    pub num_videos: Count,
    /// plays a second [default: as fast as possible]
    #[argh(option)]
    pub rate: Option<Ratio>,
    /// how plays spread over the videos: uniform, or zipf:S with an exponent S above 0 [default: uniform]
    #[argh(option, default = "Popularity::Uniform")]
    pub popularity: Popularity,
    /// use the nsqd at this host:port; repeatable [default: 127.0.0.1:4150]
    #[argh(option)]
    pub nsqd_tcp_address: Vec<String>,
    /// use the nsqds that the nsqlookupd at this HTTP host:port knows at the start, instead; repeatable
    /// [default: none]
    #[argh(option)]
    pub lookupd_http_address: Vec<String>,
    /// option for the producer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    pub producer_opt: Vec<ProducerOption>,
    /// topic that the plays are put on [default: plays]
    #[argh(option, default = "\"plays\".into()")]
    pub topic: String,
    /// directory to keep every play in until it is counted, so that none is lost whatever is killed; the same
    /// command goes on after a kill. It ends when all is counted [default: none, ends when nsqd has all]
    #[argh(option)]
    pub data_dir: Option<String>,
    /// the dashboard to ask which plays are counted, with --data-dir [default: http://127.0.0.1:8000]
    #[argh(option, default = "crate::model::config::DASHBOARD_URL.into()")]
    pub dashboard_url: String,
    /// publish a play again when no processor has counted it for that long [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    pub republish_after: HumanDuration,
    /// what a play in the outbox survives, before nsqd has it: process (kill -9) or power (a power loss, too)
    /// [default: process]
    #[argh(option, default = "Durability::default()")]
    pub durability: Durability,
    /// plays that may wait to be counted; then the producer waits, too [default: 10000000]
    #[argh(option, default = "Count(crate::producer::OUTBOX_MAX)")]
    pub max_outbox: Count,
    /// print the report as one JSON object, as the last line
    #[argh(switch)]
    pub json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// only the processor: counts plays from a running nsqd and publishes the counts to the dashboard, until
/// Ctrl-C or --num-messages
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "process", help_triggers("-h", "--help", "help"))]
pub struct Process {
    /// end when the ledger holds that many messages, those of earlier starts included, and they are
    /// published [default: none, runs until Ctrl-C]
    #[argh(option)]
    pub num_messages: Option<Count>,
    /// worker threads [default: 2]
    #[argh(option, default = "Count(2)")]
    pub num_threads: Count,
    /// how often a video with --realtime-below plays or more is published [default: 30s]
    #[argh(option, default = "HumanDuration::from_secs(30)")]
    pub update_interval: HumanDuration,
    /// below how many plays a video is published at once, at each change [default: 100]
    #[argh(option, default = "Count(100)")]
    pub realtime_below: Count,
    /// use the nsqd at this host:port; repeatable [default: 127.0.0.1:4150]
    #[argh(option)]
    pub nsqd_tcp_address: Vec<String>,
    /// find the nsqds through the nsqlookupd at this HTTP host:port, instead, also later ones; repeatable
    /// [default: none]
    #[argh(option)]
    pub lookupd_http_address: Vec<String>,
    /// option for the consumer by go-nsq's name, as name,value; repeatable [default: none]
    #[argh(option)]
    pub consumer_opt: Vec<ConsumerOption>,
    /// topic that the plays are on [default: plays]
    #[argh(option, default = "\"plays\".into()")]
    pub topic: String,
    /// channel to read [default: processor]
    #[argh(option, default = "\"processor\".into()")]
    pub channel: String,
    /// messages in flight for each nsqd; with nsqlookupd, for all [default: 2500]
    #[argh(option, default = "Count(2500)")]
    pub max_in_flight: Count,
    /// where the dashboard is [default: http://127.0.0.1:8000]
    #[argh(option, default = "crate::model::config::DASHBOARD_URL.into()")]
    pub dashboard_url: String,
    /// the dashboard's token for writes [default: none]
    #[argh(option)]
    pub write_token: Option<String>,
    /// what a count survives: process (kill -9 of any part) or power (a power loss, too); none is for
    /// measurements [default: process]
    #[argh(option, default = "Durability::default()")]
    pub durability: Durability,
    /// wait for the data directory's processor to end, then take its place at once
    #[argh(switch)]
    pub standby: bool,
    /// take a ledger that was made on another machine, whose processor will never run again
    #[argh(switch)]
    pub adopt_ledger: bool,
    /// directory for the ledger and the processor's other files [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// print the report as one JSON object, as the last line
    #[argh(switch)]
    pub json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// only the dashboard: stores what processors publish and serves the page, until Ctrl-C
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "dashboard", help_triggers("-h", "--help", "help"))]
pub struct Dashboard {
    /// host:port of the page; port 0 takes a free one [default: 127.0.0.1:8000]
    #[argh(option, default = "crate::model::config::HTTP_ADDRESS.into()")]
    pub http_address: String,
    /// token that writes need; a must beyond loopback [default: none]
    #[argh(option)]
    pub write_token: Option<String>,
    /// HTTP host:port of an nsqd whose queue to show; repeatable [default: none]
    #[argh(option)]
    pub nsqd_http_address: Vec<String>,
    /// show the nsqds that the nsqlookupd at this HTTP host:port knows, as they come and go; repeatable
    /// [default: none]
    #[argh(option)]
    pub lookupd_http_address: Vec<String>,
    /// topic whose depth to show [default: plays]
    #[argh(option, default = "\"plays\".into()")]
    pub topic: String,
    /// channel whose depth to show [default: processor]
    #[argh(option, default = "\"processor\".into()")]
    pub channel: String,
    /// mark the queue's depth, in the page, the diagnosis and the metrics, while more messages wait [default: never]
    #[argh(option)]
    pub depth_alert: Option<Count>,
    /// a name that the dashboard is served under besides localhost and its addresses; repeatable [default: none]
    #[argh(option)]
    pub allowed_host: Vec<String>,
    /// how long the dashboard keeps plays by minute [default: 2d]
    #[argh(option, default = "HumanDuration::from_secs(2 * 86_400)")]
    pub keep_by_minute: HumanDuration,
    /// how long it keeps plays by hour, and the charts; by day it keeps them for ever [default: 90d]
    #[argh(option, default = "HumanDuration::from_secs(90 * 86_400)")]
    pub keep_by_hour: HumanDuration,
    /// directory for the counts [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// checks the last run from its files: all messages consumed, the processor's and the dashboard's counts
/// correct
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "verify", help_triggers("-h", "--help", "help"))]
pub struct Verify {
    /// directory of the run's files [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// print the result as one JSON object, as the last line
    #[argh(switch)]
    pub json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// writes a copy of the dashboard's database to a new file, also while the dashboard runs; to restore it, put it in an
/// empty data directory as dashboard.sqlite3
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "backup", help_triggers("-h", "--help", "help"))]
pub struct Backup {
    /// the file to write; it must not exist
    #[argh(option)]
    pub output: String,
    /// directory of the counts [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// empties the queue, the dashboard's database and the processor's ledger; asks first
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "reset", help_triggers("-h", "--help", "help"))]
pub struct Reset {
    /// the nsqd's HTTP host:port whose topic to empty; repeatable [default: none, only the dashboard]
    #[argh(option)]
    pub nsqd_http_address: Vec<String>,
    /// empty the topic of every nsqd that the nsqlookupd at this HTTP host:port knows; repeatable [default: none]
    #[argh(option)]
    pub lookupd_http_address: Vec<String>,
    /// topic to empty, with all its channels [default: plays]
    #[argh(option, default = "\"plays\".into()")]
    pub topic: String,
    /// the running dashboard to empty [default: none, the database in the data directory]
    #[argh(option)]
    pub dashboard_url: Option<String>,
    /// the dashboard's token for writes [default: none]
    #[argh(option)]
    pub write_token: Option<String>,
    /// directory whose dashboard database and ledger to empty [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// do not ask
    #[argh(switch)]
    pub yes: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// lists the bodies that were no play, which a processor keeps in its ledger: the newest 10000
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "dead-letters", help_triggers("-h", "--help", "help"))]
pub struct DeadLetters {
    /// directory of the ledger [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// print each with its body as one JSON object a line: "body" as text, or "body_base64"
    #[argh(switch)]
    pub json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// measures this machine: produce, process, run and the time from enqueued to counted, in rounds; checks every count
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "bench", help_triggers("-h", "--help", "help"))]
pub struct Bench {
    /// plays in each measurement [default: 1000000]
    #[argh(option, default = "Count(1_000_000)")]
    pub num_messages: Count,
    /// videos that they are plays of [default: 100]
    #[argh(option, default = "Count(100)")]
    pub num_videos: Count,
    /// how often to measure everything; the medians are shown [default: 5]
    #[argh(option, default = "Count(5)")]
    pub rounds: Count,
    /// use the nsqd at this host:port, on topics of its own [default: the embedded broker]
    #[argh(option)]
    pub nsqd_tcp_address: Option<String>,
    /// that nsqd's HTTP host:port [default: same host, TCP port + 1]
    #[argh(option)]
    pub nsqd_http_address: Option<String>,
    /// directory for its files, on the disk to measure; they are removed at the end [default: playcounts-data]
    #[argh(option, default = "crate::model::config::DATA_DIR.into()")]
    pub data_dir: String,
    /// print the report as one JSON object, as the last line
    #[argh(switch)]
    pub json: bool,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// only the embedded broker: an nsqd-compatible server in memory, until Ctrl-C; ready when GET /ping
/// answers OK
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "broker", help_triggers("-h", "--help", "help"))]
pub struct Broker {
    /// host:port for NSQ clients [default: 127.0.0.1:4150]
    #[argh(option, default = "\"127.0.0.1:4150\".into()")]
    pub tcp_address: String,
    /// host:port for the HTTP API [default: 127.0.0.1:4151]
    #[argh(option, default = "\"127.0.0.1:4151\".into()")]
    pub http_address: String,
    /// what /info gives as this host's name [default: the host's name]
    #[argh(option)]
    pub broadcast_address: Option<String>,
    /// messages that may wait in one topic or channel [default: no limit but --max-memory]
    #[argh(option)]
    pub mem_queue_size: Option<Count>,
    /// bytes that all messages together may take; a publish beyond it is refused [default: 1073741824]
    #[argh(option)]
    pub max_memory: Option<Count>,
    /// bytes of one message body [default: 1048576]
    #[argh(option)]
    pub max_msg_size: Option<Count>,
    /// bytes of the body of one command [default: 5242880]
    #[argh(option)]
    pub max_body_size: Option<Count>,
    /// largest RDY of a client [default: 65535]
    #[argh(option)]
    pub max_rdy_count: Option<Count>,
    /// how long a message may be in flight, where the client does not say [default: 1m]
    #[argh(option)]
    pub msg_timeout: Option<HumanDuration>,
    /// the longest that a client may say [default: 15m]
    #[argh(option)]
    pub max_msg_timeout: Option<HumanDuration>,
    /// the longest delay of REQ and DPUB [default: 1h]
    #[argh(option)]
    pub max_req_timeout: Option<HumanDuration>,
    /// consumers of one channel [default: no limit]
    #[argh(option)]
    pub max_channel_consumers: Option<Count>,
    /// TCP connections at one time [default: 4096]
    #[argh(option)]
    pub max_connections: Option<Count>,
    /// what to log: off, error, warn, info, debug or trace [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    pub log_level: LogLevel,
}

/// Why parsing ends before a command runs.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// Help or version was asked for: to stdout, exit status 0.
    Asked(String),
    /// Wrong usage: what is wrong, and the usage of that command; to stderr, exit status 2.
    Usage(String),
}

/// Options that take no value, of any command.
const SWITCHES: [&str; 8] = [
    "--real-life",
    "--start-nsq",
    "--reset",
    "--exit",
    "--json",
    "--yes",
    "--standby",
    "--adopt-ledger",
];

/// Parses the arguments behind the program's name.
///
/// # Errors
/// [`EarlyExit`] with the text to print.
pub fn parse(args: &[String]) -> Result<Cli, EarlyExit> {
    if let Some("--version" | "-V" | "-version" | "version") = args.first().map(String::as_str) {
        return Err(EarlyExit::Asked(format!("playcounts {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let args = normalise(args).map_err(|error| EarlyExit::Usage(with_usage(args, &error)))?;
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    Cli::from_args(&["playcounts"], &words).map_err(|exit| match exit.status {
        Ok(()) => EarlyExit::Asked(exit.output),
        Err(()) => EarlyExit::Usage(with_usage(&args, exit.output.trim_end())),
    })
}

/// The error, and behind it the usage of the command that was meant.
fn with_usage(args: &[String], error: &str) -> String {
    // argh points to --help; the help itself follows here.
    let error = error
        .lines()
        .filter(|line| !line.contains("for more information"))
        .collect::<Vec<_>>()
        .join("\n");
    let command = args.first().map(String::as_str).unwrap_or_default();
    let help = |words: &[&str]| {
        Cli::from_args(&["playcounts"], words).err().map(|exit| (exit.status, exit.output))
    };
    let (_, usage) = help(&[command, "--help"])
        .filter(|(status, _)| status.is_ok())
        .or_else(|| help(&["--help"]))
        .unwrap_or((Ok(()), String::new()));
    format!("{}\n\n{usage}", error.trim_end())
}

/// Writes the forms that NSQ's tools take (`--flag=value`, `-flag value`, `-switch=true`) as argh wants them.
fn normalise(args: &[String]) -> Result<Vec<String>, String> {
    let mut out = Vec::with_capacity(args.len());
    for arg in args {
        let is_word =
            |text: &str| text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic());
        let arg = match arg.strip_prefix('-') {
            Some(name) if is_word(name) => format!("-{arg}"),
            _ => arg.clone(),
        };
        let Some((flag, value)) = arg.split_once('=').filter(|(flag, _)| flag.starts_with("--"))
        else {
            out.push(arg);
            continue;
        };
        match (SWITCHES.contains(&flag), value) {
            (true, "true") => out.push(flag.into()),
            (true, "false") => {}
            (true, _) => return Err(format!("{flag} takes no value, got {value:?}")),
            (false, _) => out.extend([flag.into(), value.into()]),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Cli, EarlyExit> {
        parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[track_caller]
    fn run(line: &str) -> Run {
        match parse_line(line).map(|cli| cli.command) {
            Ok(Command::Run(run)) => run,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn refuses(line: &str, want: &str) {
        match parse_line(line) {
            Err(EarlyExit::Usage(text)) => {
                assert!(text.contains(want), "{text}\ndoes not say {want:?}");
                let command = line.split(' ').next().unwrap();
                let known = ["run", "process", "bench"].contains(&command);
                let usage =
                    format!("Usage: playcounts {}", if known { command } else { "<command>" });
                assert!(text.contains(&usage), "{text}\ndoes not say {usage:?}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_a_flag_works() {
        for line in [
            "run --num-messages 7 --exit",
            "run --num-messages=7 --exit=true",
            "run -num-messages=7 -exit",
        ] {
            let run = run(line);
            assert_eq!((run.num_messages, run.exit, run.json), (Count(7), true, false), "{line}");
        }
        assert!(!run("run --exit=false").exit);
        let nsqds = run("run --nsqd-tcp-address a:1 --nsqd-tcp-address=b:2").nsqd_tcp_address;
        assert_eq!(nsqds, ["a:1", "b:2"]);
    }

    #[test]
    fn wrong_usage_is_answered_with_the_usage_of_that_command() {
        refuses("run --nonsense", "--nonsense");
        refuses("run --num-messages x", "--num-messages");
        refuses("run --num-messages -5", "--num-messages");
        refuses("run --num-threads 0", "--num-threads");
        refuses("run --update-interval 3x", "3x");
        refuses("run --popularity zipf:-1", "zipf:-1");
        refuses("run --exit=maybe", "--exit takes no value");
        refuses("process --log-level loud", "loud");
        refuses("process --consumer-opt colour,red", "no consumer option \"colour\"; there are ");
        refuses("run --producer-opt=snappy,maybe", "option snappy is \"maybe\"");
        refuses("bench --rounds 0", "--rounds");
        refuses("bench --num-messages many", "--num-messages");
        refuses("nonsense", "nonsense");
        refuses("", "");
    }

    #[test]
    fn help_and_version_go_to_stdout() {
        for line in ["--help", "-h", "run --help", "run -h", "broker -h", "verify help"] {
            match parse_line(line) {
                Err(EarlyExit::Asked(text)) => {
                    assert!(text.contains("Usage: playcounts"), "{text}")
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert_eq!(
            parse_line("--version").unwrap_err(),
            EarlyExit::Asked("playcounts 0.1.0\n".into())
        );
    }

    /// Every documented default is the real one.
    #[test]
    fn help_tells_the_defaults() {
        let run = run("run");
        let Err(EarlyExit::Asked(help)) = parse_line("run --help") else { panic!("no help") };
        for (flag, default) in [
            ("--num-messages", run.num_messages.to_string()),
            ("--num-videos", run.num_videos.to_string()),
            ("--num-threads", run.num_threads.to_string()),
            ("--realtime-below", run.realtime_below.to_string()),
            ("--max-in-flight", run.max_in_flight.to_string()),
            ("--http-address", run.http_address),
            ("--data-dir", run.data_dir),
            ("--topic", run.topic),
            ("--channel", run.channel),
        ] {
            let options = help.split("\nOptions:").nth(1).unwrap();
            let text = options
                .split(&format!("\n  {flag}"))
                .nth(1)
                .unwrap_or_else(|| panic!("no {flag} in the help"));
            let text: String = text
                .split("\n  -")
                .next()
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            assert!(text.contains(&format!("[default: {default}]")), "{flag}: {text}");
        }
    }
}
