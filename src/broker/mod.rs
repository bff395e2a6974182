//! A broker that NSQ clients take for nsqd 1.3.0, in process or as `playcounts broker`.
//!
//! `core` holds the state and no socket, thread or clock; `session` is one connection's conversation, as pure. The
//! sockets and threads are in `accept`, `reader`, `writer` and `timer`, which share a `hub`; `http` is the HTTP API.
//! It shares with the client the codec, and what lies between a socket and its bytes (`nsq_protocol::Inbound`, `Outbound`):
//! `upgrade` puts it there once IDENTIFY agrees on it, and a plain connection passes it by.
//!
//! Threads: `broker-accept`; `broker-timer`, which also joins connections that have ended; for each connection
//! `broker-read`, and once it is a consumer `broker-write`; `broker-lookup` for each nsqlookupd, and `broker-ask` while one
//! is asked for a new topic's channels; `broker-statsd`; `nsqhttp-…` and `nsqhttps-…` for HTTP.
//!
//! With `--data-path` topics are on disk: `store` keeps a log for each, and `apply` writes to it before the core has the
//! messages. Its threads are `broker-keep` and `broker-load`.
//!
//! With `--auth-http-address` `auth` asks a server what each client may do.
//!
//! Where it differs from nsqd on purpose: messages of a lost connection are requeued at once,
//! nothing waits in an output buffer, an MPUB is taken whole or not at all, a publish that finds memory full is refused where
//! there is no disk, and what is in flight is there after a kill.

mod accept;
mod api_error;
mod apply;
mod auth;
mod config;
mod core;
mod http;
mod hub;
mod identify;
mod lookupd;
mod options_api;
mod outbox;
mod reader;
mod session;
mod socket;
mod stats;
mod statsd;
mod store;
mod timer;
mod upgrade;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use crossbeam_channel::Receiver;
use nsq_protocol::thread::{Crew, stop_pair};

pub use auth::{AuthConfig, AuthServers};
pub(crate) use config::NSQD_VERSION;
use config::hostname;
pub use config::{BrokerConfig, TlsRequired};
pub use stats::{
    ChannelStats, ClientStats, Latency, MemoryStats, Percentile, PubCount, Stats, TopicStats,
};

use crate::http::{Server, ServerConfig, ServerTls};
use crate::runtime::{clock, listen};
use http::Ports;
use hub::Hub;
use lookupd::register::register_with;
use lookupd::registry::check_addresses;
use lookupd::wire::Node;
use stats::StatsFilter;

/// How long the core takes for `rounds` times `size` messages that are published, pulled and finished; for the micro
/// benches.
#[doc(hidden)]
pub fn bench_core(rounds: usize, size: usize) -> Duration {
    core::bench(rounds, size)
}

/// A running broker. Dropping it stops it.
pub struct Broker {
    hub: Arc<Hub>,
    tcp_addr: SocketAddr,
    /// The HTTP API, in clear and over TLS.
    http: Option<Server>,
    https: Option<Server>,
    /// The timer and accept; `None` once stopped.
    threads: Option<Crew<()>>,
}

impl Broker {
    /// Binds the addresses and starts the threads.
    ///
    /// # Errors
    /// An address cannot be resolved or bound, the system refuses a thread, or TLS is required without a certificate.
    pub fn start(config: BrokerConfig) -> Result<Self> {
        check_addresses(&config.lookupd_tcp_addresses)
            .map_err(|error| anyhow!("--lookupd-tcp-address: {error}"))?;
        ensure!(
            config.tls.is_some() || config.tls_required == TlsRequired::No,
            "TLS cannot be required (--tls-required, --tls-client-auth-policy) without a certificate: give --tls-cert and --tls-key"
        );
        let listener = Arc::new(accept::bind(&config.tcp_address, "--tcp-address")?);
        let tcp_addr = listener.local_addr().context("cannot tell the port that was bound")?;
        let (stop, token) = stop_pair();
        let (hub, inbox) = Hub::new(Arc::new(config), clock::unix_ms(), token);
        hub.open_logs()?;
        let hub = Arc::new(hub);
        let mut threads = {
            let listener = Arc::clone(&listener);
            Crew::new(move || {
                drop(stop);
                listen::wake(&listener);
            })
        };
        start_logs(&hub, &mut threads, inbox.load.clone(), inbox.keep.clone())
            .context("cannot start the broker")?;
        let timer = {
            let hub = Arc::clone(&hub);
            move || timer::timer_loop(&hub, &inbox)
        };
        threads.spawn("broker-timer", timer).context("cannot start the broker")?;
        let mut broker = Self { hub, tcp_addr, http: None, https: None, threads: Some(threads) };
        // From here on an error drops the broker, which stops it.
        broker.start_http()?;
        broker.register()?;
        // Accept goes last: a client's first topic needs the nsqlookupds, and where a thread is refused there is no connection yet.
        let accept = {
            let hub = Arc::clone(&broker.hub);
            move || accept::accept_loop(&hub, &listener)
        };
        broker.start_statsd()?;
        if let Some(threads) = &mut broker.threads {
            threads.spawn("broker-accept", accept).context("cannot start the broker")?;
        }
        log::info!("broker: TCP on {tcp_addr}");
        Ok(broker)
    }

    /// Tells a statsd daemon from now on, if there is one.
    fn start_statsd(&mut self) -> Result<()> {
        let config = &self.hub.config;
        let Some(address) = config.statsd_address.clone() else { return Ok(()) };
        let prefix = statsd::prefix(config, self.told_http_port());
        let hub = Arc::clone(&self.hub);
        let body = move || statsd::statsd_loop(&hub, &address, &prefix, &hub.stop);
        if let Some(threads) = &mut self.threads {
            threads.spawn("broker-statsd", body).context("cannot start the broker")?;
        }
        Ok(())
    }

    /// The port of the HTTP API that others are told; 0: there is none.
    fn told_http_port(&self) -> u16 {
        match self.hub.config.broadcast_http_port {
            0 => self.http_addr().map_or(0, |address| address.port()),
            told => told,
        }
    }

    /// Registers with nsqlookupds from now on.
    fn register(&self) -> Result<()> {
        let config = &self.hub.config;
        if self.http.is_none() && !config.lookupd_tcp_addresses.is_empty() {
            return Err(anyhow!(
                "nsqlookupds are told where the HTTP API is: --lookupd-tcp-address needs --http-address"
            ));
        }
        let node = Node {
            version: NSQD_VERSION.to_owned(),
            tcp_port: match config.broadcast_tcp_port {
                0 => self.tcp_addr.port(),
                told => told,
            },
            http_port: self.told_http_port(),
            hostname: hostname(),
            broadcast_address: config.broadcast_address.clone(),
        };
        self.hub.lookupds.set_node(node);
        register_with(&self.hub, &config.lookupd_tcp_addresses)
            .context("cannot register with --lookupd-tcp-address")
    }

    fn start_http(&mut self) -> Result<()> {
        let config = Arc::clone(&self.hub.config);
        let ports = Arc::new(Ports::new(self.tcp_addr.port()));
        if let Some((address, tls)) = config.https_address.as_ref().zip(config.tls.clone()) {
            self.https = Some(self.serve_http(address, &ports, Some(tls))?);
        }
        if let Some(address) = &config.http_address {
            self.http = Some(self.serve_http(address, &ports, None)?);
        }
        Ok(())
    }

    fn serve_http(
        &self,
        address: &str,
        ports: &Arc<Ports>,
        tls: Option<Arc<ServerTls>>,
    ) -> Result<Server> {
        let (name, flag, scheme) = match tls {
            None => ("nsqhttp", "--http-address", "HTTP"),
            Some(_) => ("nsqhttps", "--https-address", "HTTPS"),
        };
        let api = Arc::new(http::Api::new(Arc::clone(&self.hub), Arc::clone(ports), tls.is_some()));
        let config = ServerConfig {
            workers: http::WORKERS,
            max_body: http::max_body(&self.hub.config),
            tls,
            ..ServerConfig::new(address, name)
        };
        let server = Server::start(config, Arc::clone(&api) as _).with_context(|| {
            format!(
                "cannot serve {scheme} on {address}; give another {flag}, port 0 takes a free one"
            )
        })?;
        api.set_address(server.local_addr());
        log::info!("broker: {scheme} on {}", server.local_addr());
        Ok(server)
    }

    /// Where NSQ clients connect to.
    pub fn tcp_addr(&self) -> SocketAddr {
        self.tcp_addr
    }

    /// Where the HTTP API is, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Server::local_addr)
    }

    /// Where it is over TLS, if there is one.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(Server::local_addr)
    }

    /// The certificate that it shows, if it has one; [`ServerTls::reload`] reads it again.
    pub fn certificate(&self) -> Option<&Arc<ServerTls>> {
        self.hub.config.tls.as_ref()
    }

    /// Everything that `/stats` shows.
    pub fn stats(&self) -> Stats {
        let filter = StatsFilter { now_ns: hub::timestamp_ns(), ..StatsFilter::default() };
        self.hub.with_core(|core| core.stats(&filter))
    }

    /// Closes every connection and joins every thread. What is still queued is lost, unless it is on disk.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // 1. The HTTP API, answers in progress included.
        [self.http.take(), self.https.take()].into_iter().flatten().for_each(Server::shutdown);
        // 2. Nobody is sent here any more.
        self.hub.lookupds.close();
        if let Some(servers) = &self.hub.config.auth {
            servers.stop();
        }
        // 3. No new connection, and no deadline is met any more.
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
        // 4. The connections, whatever they are doing.
        self.hub.close_all();
        // 5. What they have left, with how far the channels are.
        if let Some(logs) = self.hub.logs() {
            store::keep_all(&*self.hub, logs);
            logs.close();
        }
    }
}

/// Starts the threads of topics on disk, if there are any.
fn start_logs(
    hub: &Arc<Hub>,
    threads: &mut Crew<()>,
    load: Receiver<()>,
    keep: Receiver<()>,
) -> io::Result<()> {
    if hub.logs().is_none() {
        return Ok(());
    }
    let loader = Arc::clone(hub);
    threads.spawn("broker-load", move || {
        if let Some(logs) = loader.logs() {
            store::load_loop(&*loader, logs, &load, &loader.stop);
        }
    })?;
    let keeper = Arc::clone(hub);
    threads.spawn("broker-keep", move || {
        if let Some(logs) = keeper.logs() {
            let timeout = keeper.config.sync_timeout;
            store::keep_loop(&*keeper, logs, timeout, &keep, &keeper.stop);
        }
    })
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}
