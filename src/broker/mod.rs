//! A broker that NSQ clients take for nsqd 1.3.0, in process or as `playcounts broker`.
//!
//! `core` holds the state and no socket, thread or clock; `session` is one connection's conversation, as pure. The
//! sockets and threads are in `accept`, `reader`, `writer` and `timer`, which share a `hub`; `http` is the HTTP API.
//! It shares the codec with the client and uses nothing else of it.
//!
//! Threads: `broker-accept`; `broker-timer`, which also joins connections that have ended; for each connection
//! `broker-read`, and once it is a consumer `broker-write`; `nsqhttp-…` for the HTTP API.
//!
//! Not here: TLS, compression, AUTH, registration with nsqlookupd, disk. Where it differs from nsqd on
//! purpose: messages of a lost connection are requeued at once, nothing waits in an output buffer, an MPUB is
//! taken whole or not at all, and a publish that finds memory full is refused.

mod accept;
mod api_error;
mod config;
mod core;
mod http;
mod hub;
mod identify;
mod outbox;
mod reader;
mod session;
mod socket;
mod stats;
mod timer;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nsq_protocol::thread::{Crew, stop_pair};

pub use config::BrokerConfig;
pub use stats::{ChannelStats, ClientStats, Latency, MemoryStats, PubCount, Stats, TopicStats};

use crate::http::{Server, ServerConfig};
use crate::runtime::{clock, listen};
use hub::Hub;
use stats::StatsFilter;

/// HTTP requests handled at one time: each takes the core's lock for most of its work.
const HTTP_WORKERS: usize = 2;

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
    http_addr: Option<SocketAddr>,
    http: Option<Server>,
    /// The timer and accept; `None` once stopped.
    threads: Option<Crew<()>>,
}

impl Broker {
    /// Binds the addresses and starts the threads.
    ///
    /// # Errors
    /// An address cannot be resolved or bound, or the system refuses a thread.
    pub fn start(config: BrokerConfig) -> Result<Self> {
        let listener = Arc::new(accept::bind(&config.tcp_address, "--tcp-address")?);
        let tcp_addr = listener.local_addr().context("cannot tell the port that was bound")?;
        let (stop, token) = stop_pair();
        let (hub, inbox) = Hub::new(Arc::new(config), clock::unix_ms(), token);
        let hub = Arc::new(hub);
        // Accept goes last: where a thread is refused there is no connection yet.
        let mut threads = {
            let listener = Arc::clone(&listener);
            Crew::new(move || {
                drop(stop);
                listen::wake(&listener);
            })
        };
        let timer = {
            let hub = Arc::clone(&hub);
            move || timer::timer_loop(&hub, &inbox)
        };
        threads.spawn("broker-timer", timer).context("cannot start the broker")?;
        let accept = {
            let hub = Arc::clone(&hub);
            move || accept::accept_loop(&hub, &listener)
        };
        threads.spawn("broker-accept", accept).context("cannot start the broker")?;
        log::info!("broker: TCP on {tcp_addr}");
        let mut broker =
            Self { hub, tcp_addr, http_addr: None, http: None, threads: Some(threads) };
        // From here on an error drops the broker, which stops it.
        broker.start_http()?;
        Ok(broker)
    }

    fn start_http(&mut self) -> Result<()> {
        let Some(address) = self.hub.config.http_address.clone() else { return Ok(()) };
        let api = http::Api::new(Arc::clone(&self.hub), self.tcp_addr.port());
        let config = ServerConfig {
            workers: HTTP_WORKERS,
            max_body: http::max_body(&self.hub.config),
            ..ServerConfig::new(address.clone(), "nsqhttp")
        };
        let api = Arc::new(api);
        let server = Server::start(config, Arc::clone(&api) as _).with_context(|| {
            format!("cannot serve HTTP on {address}; give another --http-address, port 0 takes a free one")
        })?;
        let address = server.local_addr();
        api.set_http_address(address);
        log::info!("broker: HTTP on {address}");
        self.http_addr = Some(address);
        self.http = Some(server);
        Ok(())
    }

    /// Where NSQ clients connect to.
    pub fn tcp_addr(&self) -> SocketAddr {
        self.tcp_addr
    }

    /// Where the HTTP API is, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Everything that `/stats` shows.
    pub fn stats(&self) -> Stats {
        self.hub.with_core(|core| core.stats(&StatsFilter::default()))
    }

    /// Closes every connection and joins every thread. What is still queued is lost.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // 1. The HTTP API, answers in progress included.
        if let Some(http) = self.http.take() {
            http.shutdown();
        }
        // 2. No new connection, and no deadline is met any more.
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
        // 3. The connections, whatever they are doing.
        self.hub.close_all();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}
