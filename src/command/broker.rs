//! `broker`: only the embedded broker. Runs on the main thread, which waits for the stop signal.

use anyhow::Result;
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;

use crate::broker::{Broker, BrokerConfig};
use crate::command::shared::output::status;
use crate::command::shared::values::{
    Count, HumanDuration, INT32_MAX, Limit, MAX_CONNECTIONS, MAX_RDY_COUNT,
};
use crate::runtime::{memory, notify};

/// only the embedded broker: an nsqd-compatible server in memory, until Ctrl-C; ready when GET /ping
/// answers OK
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "broker", help_triggers("-h", "--help", "help"))]
pub(super) struct BrokerArgs {
    /// host:port for NSQ clients [default: 127.0.0.1:4150]
    #[argh(option, default = "\"127.0.0.1:4150\".into()")]
    tcp_address: String,
    /// host:port for the HTTP API [default: 127.0.0.1:4151]
    #[argh(option, default = "\"127.0.0.1:4151\".into()")]
    http_address: String,
    /// what /info gives as this host's name [default: the host's name]
    #[argh(option)]
    broadcast_address: Option<String>,
    /// a name that the HTTP API is asked for by besides localhost, its addresses and --broadcast-address;
    /// repeatable [default: none]
    #[argh(option)]
    allowed_host: Vec<String>,
    /// messages that may wait in one #ephemeral topic or channel; more are dropped there. Others have --max-memory as
    /// their limit, where nsqd goes to disk [default: 10000]
    #[argh(option)]
    mem_queue_size: Option<Limit>,
    /// bytes that all messages together may take; a publish beyond it is refused [default: 1073741824, or less:
    /// half of the container's limit, a quarter of the machine's memory]
    #[argh(option)]
    max_memory: Option<Count>,
    /// bytes of one message body [default: 1048576]
    #[argh(option)]
    max_msg_size: Option<Count<INT32_MAX>>,
    /// bytes of the body of one command [default: 5242880]
    #[argh(option)]
    max_body_size: Option<Count<INT32_MAX>>,
    /// largest RDY of a client [default: 65535]
    #[argh(option)]
    max_rdy_count: Option<Count<MAX_RDY_COUNT>>,
    /// how long a message may be in flight, where the client does not say [default: 1m]
    #[argh(option)]
    msg_timeout: Option<HumanDuration>,
    /// the longest that a client may say [default: 15m]
    #[argh(option)]
    max_msg_timeout: Option<HumanDuration>,
    /// the longest delay of REQ and DPUB [default: 1h]
    #[argh(option)]
    max_req_timeout: Option<HumanDuration>,
    /// consumers of one channel; 0: no limit [default: 0]
    #[argh(option)]
    max_channel_consumers: Option<Limit>,
    /// the longest interval of heartbeats that a client may ask for [default: 1m]
    #[argh(option)]
    max_heartbeat_interval: Option<HumanDuration>,
    /// the largest output buffer that a client may ask for, in bytes [default: 65536]
    #[argh(option)]
    max_output_buffer_size: Option<Count<INT32_MAX>>,
    /// what is answered to a client that asks for no output buffer timeout; messages are sent at once in any case
    /// [default: 250ms]
    #[argh(option)]
    output_buffer_timeout: Option<HumanDuration>,
    /// the shortest that a client may ask for [default: 25ms]
    #[argh(option)]
    min_output_buffer_timeout: Option<HumanDuration>,
    /// the longest that a client may ask for [default: 30s]
    #[argh(option)]
    max_output_buffer_timeout: Option<HumanDuration>,
    /// TCP connections at one time [default: 4096]
    #[argh(option)]
    max_connections: Option<Count<MAX_CONNECTIONS>>,
    /// messages are in memory here, not on disk [default: none]
    #[argh(option)]
    sync_every: Option<Count>,
    /// likewise [default: none]
    #[argh(option)]
    sync_timeout: Option<HumanDuration>,
    /// likewise [default: none]
    #[argh(option)]
    max_bytes_per_file: Option<Count>,
    /// nothing is scanned here: each timeout has its place in a queue [default: none]
    #[argh(option)]
    queue_scan_selection_count: Option<Count>,
    /// likewise [default: none]
    #[argh(option)]
    queue_scan_worker_pool_max: Option<Count>,
    /// message ids are numbers that only grow here [default: none]
    #[argh(option)]
    node_id: Option<Limit>,
    /// the old name of --node-id [default: none]
    #[argh(option)]
    worker_id: Option<Limit>,
    /// lines of the log name the module [default: none]
    #[argh(option)]
    log_prefix: Option<String>,
    /// nothing in nsqd, too: --log-level says how much is logged
    #[argh(switch)]
    verbose: bool,
}

impl BrokerArgs {
    /// The options of nsqd that are given and change nothing here.
    fn without_effect(&self) -> Vec<&'static str> {
        [
            ("--sync-every", self.sync_every.is_some()),
            ("--sync-timeout", self.sync_timeout.is_some()),
            ("--max-bytes-per-file", self.max_bytes_per_file.is_some()),
            ("--queue-scan-selection-count", self.queue_scan_selection_count.is_some()),
            ("--queue-scan-worker-pool-max", self.queue_scan_worker_pool_max.is_some()),
            ("--node-id", self.node_id.is_some()),
            ("--worker-id", self.worker_id.is_some()),
            ("--log-prefix", self.log_prefix.is_some()),
            ("--verbose", self.verbose),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }

    /// What is not given stays the broker's default.
    fn config(self) -> BrokerConfig {
        let defaults = BrokerConfig::default();
        let time =
            |given: Option<HumanDuration>, default| given.map_or(default, |duration| duration.0);
        BrokerConfig {
            tcp_address: self.tcp_address,
            http_address: Some(self.http_address),
            broadcast_address: self.broadcast_address.unwrap_or(defaults.broadcast_address),
            allowed_hosts: self.allowed_host,
            mem_queue_size: limit(self.mem_queue_size, defaults.mem_queue_size),
            max_memory: size(self.max_memory, defaults.max_memory),
            max_msg_size: size(self.max_msg_size, defaults.max_msg_size),
            max_body_size: size(self.max_body_size, defaults.max_body_size),
            max_rdy_count: self.max_rdy_count.map_or(defaults.max_rdy_count, |most| most.0 as u32),
            msg_timeout: time(self.msg_timeout, defaults.msg_timeout),
            max_msg_timeout: time(self.max_msg_timeout, defaults.max_msg_timeout),
            max_req_timeout: time(self.max_req_timeout, defaults.max_req_timeout),
            max_channel_consumers: limit(
                self.max_channel_consumers,
                defaults.max_channel_consumers,
            ),
            max_heartbeat_interval: time(
                self.max_heartbeat_interval,
                defaults.max_heartbeat_interval,
            ),
            max_output_buffer_size: size(
                self.max_output_buffer_size,
                defaults.max_output_buffer_size,
            ),
            output_buffer_timeout: time(self.output_buffer_timeout, defaults.output_buffer_timeout),
            min_output_buffer_timeout: time(
                self.min_output_buffer_timeout,
                defaults.min_output_buffer_timeout,
            ),
            max_output_buffer_timeout: time(
                self.max_output_buffer_timeout,
                defaults.max_output_buffer_timeout,
            ),
            max_connections: size(self.max_connections, defaults.max_connections),
            ..defaults
        }
    }
}

/// Serves until `stop`.
pub(super) fn run(args: BrokerArgs, stop: &StopToken) -> Result<()> {
    let without_effect = args.without_effect();
    if !without_effect.is_empty() {
        log::warn!(
            "{}: taken as nsqd takes it, and without effect here",
            without_effect.join(", ")
        );
    }
    let asked = args.max_memory;
    let broker = Broker::start(args.config())?;
    let given = match asked {
        None => format!("{} (--max-memory changes it)", memory::for_messages()),
        Some(asked) => {
            warn_of_container(asked);
            format!("{asked} bytes")
        }
    };
    let http = broker.http_addr().map(|address| format!("; HTTP: listening on {address}"));
    status(
        "broker",
        format_args!(
            "TCP: listening on {}{}; keeps messages in memory, up to {given}; Ctrl-C ends it, and the messages with it",
            broker.tcp_addr(),
            http.unwrap_or_default(),
        ),
    );
    notify::ready();
    let _ = stop.channel().recv();
    broker.shutdown();
    Ok(())
}

/// A number that is given, or the broker's default.
fn size<const MAX: u64>(given: Option<Count<MAX>>, default: usize) -> usize {
    given.map_or(default, Count::get)
}

/// The same of one that may be 0.
fn limit(given: Option<Limit>, default: usize) -> usize {
    given.map_or(default, Limit::get)
}

/// Warns where the system would end the broker, with all it holds, before it refuses a message.
fn warn_of_container(asked: Count) {
    if let Some(limit) = memory::container_limit().filter(|limit| *limit <= asked.0) {
        log::warn!(
            "--max-memory {asked} is not below the container's limit, {limit}: the system may end the broker before it refuses a message"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Giving the documented default of an option changes nothing.
    #[test]
    fn help_tells_the_defaults() {
        let config = |options: &[&str]| {
            let args = BrokerArgs::from_args(&["broker"], options).unwrap();
            format!("{:?}", args.config())
        };
        for option in BrokerArgs::get_args_info().flags {
            let Some((_, behind)) = option.description.split_once("[default: ") else { continue };
            let default = behind.strip_suffix(']').unwrap();
            if !default.contains(' ') && default != "none" {
                assert_eq!(config(&[option.long, default]), config(&[]), "{}", option.long);
            }
        }
    }
}
