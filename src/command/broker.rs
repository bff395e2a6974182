//! `broker`: only the embedded broker. Runs on the main thread, which waits for the stop signal.

mod effect;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;
use nsq_protocol::{TlsConfig, TlsVersion};

use self::tls::{ClientAuthPolicy, TlsMinVersion, TlsOptions, TlsRequiredOption};
use crate::broker::{AuthConfig, AuthServers, Broker, BrokerConfig};
use crate::command::shared::output::status;
use crate::command::shared::tls::reload_on_hangup;
use crate::command::shared::values::{
    Count, HumanDuration, INT32_MAX, Limit, MAX_CONNECTIONS, MAX_DEFLATE_LEVEL, MAX_PORT,
    MAX_RDY_COUNT, OnOff, Shares,
};
use crate::model::config::Durability;
use crate::runtime::{memory, notify};

/// only the embedded broker: an nsqd-compatible server, in memory or on disk, until Ctrl-C; ready when GET
/// /ping answers OK
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "broker", help_triggers("-h", "--help", "help"))]
pub(super) struct BrokerArgs {
    /// host:port for NSQ clients [default: 127.0.0.1:4150]
    #[argh(option, default = "\"127.0.0.1:4150\".into()")]
    tcp_address: String,
    /// host:port for the HTTP API [default: 127.0.0.1:4151]
    #[argh(option, default = "\"127.0.0.1:4151\".into()")]
    http_address: String,
    /// host:port for the HTTP API over TLS, where there is --tls-cert [default: 127.0.0.1:4152]
    #[argh(option)]
    https_address: Option<String>,
    /// PEM file of the certificate to speak TLS with, by which clients may ask for it, and of those between it and its authority;
    /// read again on SIGHUP [default: none]
    #[argh(option)]
    tls_cert: Option<String>,
    /// PEM file of the key of --tls-cert, not encrypted; read again with it [default: none]
    #[argh(option)]
    tls_key: Option<String>,
    /// PEM file of the authorities of clients' certificates, for --tls-client-auth-policy require-verify [default: none]
    #[argh(option)]
    tls_root_ca_file: Option<String>,
    /// whom to take by their certificates, over TLS: require (anyone who has one) or require-verify (of an authority of
    /// --tls-root-ca-file); it implies --tls-required [default: none, everybody]
    #[argh(option)]
    tls_client_auth_policy: Option<ClientAuthPolicy>,
    /// whether clients must speak TLS: true, false, or tcp-https (but for the HTTP API) [default: false]
    #[argh(option)]
    tls_required: Option<TlsRequiredOption>,
    /// the oldest TLS that is spoken: tls1.2 or tls1.3 [default: tls1.2]
    #[argh(option)]
    tls_min_version: Option<TlsMinVersion>,
    /// this host's name, as /info and nsqlookupd give it [default: the host's name]
    #[argh(option)]
    broadcast_address: Option<String>,
    /// the TCP port that nsqlookupd is told; 0: the one that is bound [default: 0]
    #[argh(option)]
    broadcast_tcp_port: Option<Limit<MAX_PORT>>,
    /// likewise for the HTTP API [default: 0]
    #[argh(option)]
    broadcast_http_port: Option<Limit<MAX_PORT>>,
    /// host:port for TCP of an nsqlookupd, 4160 by default, that is told which topics and channels there are; repeatable
    /// [default: none]
    #[argh(option)]
    lookupd_tcp_address: Vec<String>,
    /// how long a connection to nsqlookupd's HTTP API may take to be made: it is asked which channels a new topic has
    /// [default: 2s]
    #[argh(option)]
    http_client_connect_timeout: Option<HumanDuration>,
    /// how long the whole question may take [default: 5s]
    #[argh(option)]
    http_client_request_timeout: Option<HumanDuration>,
    /// a name that the HTTP API is asked for by besides localhost, its addresses and --broadcast-address;
    /// repeatable [default: none]
    #[argh(option)]
    allowed_host: Vec<String>,
    /// the directory that keeps topics, channels and messages, also over kill -9 [default: none, all is in memory]
    #[argh(option)]
    data_path: Option<PathBuf>,
    /// what an acknowledged message survives, with --data-path: process (kill -9 of the broker) or power (a power loss: one
    /// fsync for all who publish at a time) [default: process]
    #[argh(option, default = "Durability::Process")]
    durability: Durability,
    /// bytes that messages may take on disk; a publish beyond it is refused [default: what the disk has]
    #[argh(option)]
    max_disk: Option<Count>,
    /// messages of one topic after which what is written is got to the disk, where no publish waits for that [default: 2500]
    #[argh(option)]
    sync_every: Option<Count>,
    /// how long after it likewise [default: 2s]
    #[argh(option)]
    sync_timeout: Option<HumanDuration>,
    /// messages of one channel that are kept in memory, where the others are read from disk when their turn comes, with
    /// --data-path; and that may wait in one #ephemeral topic or channel, where more are dropped. Without --data-path others
    /// have --max-memory as their limit [default: 10000]
    #[argh(option)]
    mem_queue_size: Option<Limit>,
    /// bytes that all messages together may take in memory; a publish beyond it is refused, or with --data-path goes to disk
    /// only [default: 1073741824, or less:
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
    /// who says what a client of TCP may do: host:port, asked for /auth in clear, or a URL. A client must AUTH then before it
    /// publishes or subscribes; the HTTP API asks nobody. Repeatable: one that does not answer is followed by the next
    /// [default: none, all may do all]
    #[argh(option)]
    auth_http_address: Vec<String>,
    /// whether clients may have their streams in snappy frames [default: true]
    #[argh(option)]
    snappy: Option<OnOff>,
    /// whether clients may have their streams deflated [default: true]
    #[argh(option)]
    deflate: Option<OnOff>,
    /// the highest level of deflate that a client gets; a higher one is lowered to it [default: 6]
    #[argh(option)]
    max_deflate_level: Option<Count<MAX_DEFLATE_LEVEL>>,
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
    /// host:port of a statsd daemon that is told over UDP how things are [default: none]
    #[argh(option)]
    statsd_address: Option<String>,
    /// what each of its keys begins with; %s is --broadcast-address with the HTTP API's port [default: nsq.%s]
    #[argh(option)]
    statsd_prefix: Option<String>,
    /// how often it is told [default: 1m]
    #[argh(option)]
    statsd_interval: Option<HumanDuration>,
    /// whether it is told of memory [default: true]
    #[argh(option)]
    statsd_mem_stats: Option<OnOff>,
    /// bytes of one packet to it; a line is never cut [default: 508]
    #[argh(option)]
    statsd_udp_packet_size: Option<Count<MAX_PORT>>,
    /// leaves #ephemeral topics and channels out there
    #[argh(switch)]
    statsd_exclude_ephemeral: bool,
    /// a share of messages of which /stats and statsd tell within how long they are done, from publication to FIN: 0.99, or 1.0,0.99,0.95;
    /// repeatable [default: none]
    #[argh(option)]
    e2e_processing_latency_percentile: Vec<Shares>,
    /// over how long [default: 10m]
    #[argh(option)]
    e2e_processing_latency_window_time: Option<HumanDuration>,
    /// TCP connections at one time [default: 4096]
    #[argh(option)]
    max_connections: Option<Count<MAX_CONNECTIONS>>,
    /// a file is as large as it must be here [default: none]
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
    /// nothing in nsqd, too
    #[argh(switch)]
    worker_id: bool,
    /// lines of the log name the module [default: none]
    #[argh(option)]
    log_prefix: Option<String>,
    /// nothing in nsqd, too: --log-level says how much is logged
    #[argh(switch)]
    verbose: bool,
}

impl BrokerArgs {
    fn tls_options(&self) -> TlsOptions {
        TlsOptions {
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            root_ca_file: self.tls_root_ca_file.clone(),
            client_auth_policy: self.tls_client_auth_policy,
            asks_over_https: self.asks_over_https(),
            min_version: self.tls_min_version,
        }
    }

    /// Whether an authorization server is asked over TLS.
    fn asks_over_https(&self) -> bool {
        self.auth_http_address.iter().any(|url| url.starts_with("https://"))
    }

    /// Whom authorization servers must prove to be.
    fn auth_tls(&self) -> TlsConfig {
        let mut tls = TlsConfig::new();
        if let Some(path) = &self.tls_root_ca_file {
            tls = tls.root_ca_file(path);
        }
        if self.tls_min_version == Some(TlsMinVersion::Tls13) {
            tls = tls.min_version(TlsVersion::Tls13);
        }
        tls
    }

    /// What becomes of connections beyond plain TCP.
    fn set_upgrades(&self, config: &mut BrokerConfig) {
        if let Some(address) = &self.https_address {
            config.https_address = Some(address.clone()).filter(|address| !address.is_empty());
        }
        config.tls_required = tls::required(self.tls_required, self.tls_client_auth_policy);
        config.snappy = self.snappy.map_or(config.snappy, |on| on.0);
        config.deflate = self.deflate.map_or(config.deflate, |on| on.0);
        if let Some(level) = self.max_deflate_level {
            config.max_deflate_level = level.0 as u8;
        }
    }

    /// What others are told of the broker, and what is measured for it.
    fn told(&mut self, defaults: BrokerConfig) -> BrokerConfig {
        let shares = std::mem::take(&mut self.e2e_processing_latency_percentile);
        let mut percentiles: Vec<f64> = shares.into_iter().flat_map(|some| some.0).collect();
        // As nsqd tells them.
        percentiles.sort_unstable_by(|one, other| other.total_cmp(one));
        BrokerConfig {
            broadcast_address: self.broadcast_address.take().unwrap_or(defaults.broadcast_address),
            broadcast_tcp_port: self.broadcast_tcp_port.map_or(0, Limit::port),
            broadcast_http_port: self.broadcast_http_port.map_or(0, Limit::port),
            lookupd_tcp_addresses: std::mem::take(&mut self.lookupd_tcp_address),
            http_client_connect_timeout: time(
                self.http_client_connect_timeout,
                defaults.http_client_connect_timeout,
            ),
            http_client_request_timeout: time(
                self.http_client_request_timeout,
                defaults.http_client_request_timeout,
            ),
            statsd_address: self.statsd_address.take(),
            statsd_prefix: self.statsd_prefix.take().unwrap_or(defaults.statsd_prefix),
            statsd_interval: time(self.statsd_interval, defaults.statsd_interval),
            statsd_mem_stats: self.statsd_mem_stats.is_none_or(|on| on.0),
            statsd_udp_packet_size: size(
                self.statsd_udp_packet_size,
                defaults.statsd_udp_packet_size,
            ),
            statsd_exclude_ephemeral: self.statsd_exclude_ephemeral,
            e2e_processing_latency_percentiles: percentiles,
            e2e_processing_latency_window_time: time(
                self.e2e_processing_latency_window_time,
                defaults.e2e_processing_latency_window_time,
            ),
            ..defaults
        }
    }

    /// What is not given stays the broker's default.
    fn config(mut self) -> BrokerConfig {
        let mut defaults = self.told(BrokerConfig::default());
        self.set_upgrades(&mut defaults);
        BrokerConfig {
            tcp_address: self.tcp_address,
            // As nsqd has it: an empty one is none.
            http_address: Some(self.http_address).filter(|address| !address.is_empty()),
            allowed_hosts: self.allowed_host,
            data_path: self.data_path,
            durability: self.durability,
            max_disk: self.max_disk.map_or(defaults.max_disk, |most| most.0),
            sync_every: size(self.sync_every, defaults.sync_every),
            sync_timeout: time(self.sync_timeout, defaults.sync_timeout),
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
pub(super) fn run(mut args: BrokerArgs, stop: &StopToken) -> Result<()> {
    args.warn_of_no_effect();
    let asked = args.max_memory;
    if args.durability == Durability::None {
        bail!("--durability none is not for the broker: give process or power, or no --data-path");
    }
    if args.durability == Durability::Power && args.data_path.is_none() {
        bail!(
            "--durability power needs --data-path: without it messages are in memory only; give --data-path, or no --durability"
        );
    }
    let tls = tls::certificate(args.tls_options())?;
    let (addresses, auth_tls) = (std::mem::take(&mut args.auth_http_address), args.auth_tls());
    let mut config = BrokerConfig { tls, ..args.config() };
    config.auth = auth_servers(addresses, auth_tls, &config)?;
    let data_path = config.data_path.clone();
    let broker = Broker::start(config)?;
    let _reload = reload_on_hangup("broker", broker.certificate().cloned())?;
    let given = match asked {
        None => format!("{} (--max-memory changes it)", memory::for_messages()),
        Some(asked) => {
            warn_of_container(asked);
            format!("{asked} bytes")
        }
    };
    let keeps = match data_path {
        None => format!(
            "keeps messages in memory, up to {given}; Ctrl-C ends it, and the messages with it"
        ),
        Some(path) => format!("keeps messages in {}; Ctrl-C ends it", path.display()),
    };
    // A line for each, as nsqd's log has it and some read it. TCP's is the last: who waits for it has been told all.
    let others = [("HTTP", broker.http_addr()), ("HTTPS", broker.https_addr())];
    for (name, address) in others {
        if let Some(address) = address {
            status("broker", format_args!("{name}: listening on {address}"));
        }
    }
    status("broker", format_args!("TCP: listening on {}; {keeps}", broker.tcp_addr()));
    notify::ready();
    let _ = stop.channel().recv();
    broker.shutdown();
    Ok(())
}

/// Whom to ask what a client may do.
///
/// # Errors
/// An address is none, or the authorities cannot be read.
fn auth_servers(
    addresses: Vec<String>,
    tls: TlsConfig,
    config: &BrokerConfig,
) -> Result<Option<Arc<AuthServers>>> {
    if addresses.is_empty() {
        return Ok(None);
    }
    let (connect_timeout, request_timeout) =
        (config.http_client_connect_timeout, config.http_client_request_timeout);
    let servers =
        AuthServers::new(AuthConfig { addresses, connect_timeout, request_timeout, tls })?;
    Ok(Some(Arc::new(servers)))
}

/// A time that is given, or the broker's default.
fn time(given: Option<HumanDuration>, default: Duration) -> Duration {
    given.map_or(default, |given| given.0)
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
