//! The broker of a run: started for it, or named by the user.

use anyhow::Result;
use nsq_protocol::LookupConfig;

use super::config::{BrokerChoice, RunConfig};
use crate::broker::{Broker, BrokerConfig};
use crate::journal;
use crate::model::config::Durability;
use crate::nsqd::addresses::NsqdAddresses;
use crate::nsqd::child::ChildNsqd;
use crate::nsqd::neighbours::Neighbours;
use crate::nsqd::topic::{Backlog, RemoteTopic};
use crate::storage::data_dir::DataDir;

/// Where a run's plays are queued. Dropping it stops what was started for the run.
pub(super) enum RunBroker {
    /// Our own.
    Embedded(Box<Broker>),
    /// An nsqd that was started for the run.
    Child(ChildNsqd),
    /// Running nsqds.
    Named(Vec<NsqdAddresses>),
}

impl RunBroker {
    /// Starts it if need be, and makes sure that the topic and its channel are there and empty.
    ///
    /// # Errors
    /// What kept it from starting, messages that the topic holds, or a processor that would take them.
    pub(super) fn start(config: &RunConfig, data_dir: &DataDir) -> Result<Self> {
        let (broker, backlog) = match &config.broker {
            BrokerChoice::Embedded { on_disk } => {
                let kept = data_dir.path().join("broker");
                // Each run begins anew.
                journal::remove(&kept)?;
                // Free ports: nobody but this run needs to know them.
                let any = || "127.0.0.1:0".to_owned();
                let broker = BrokerConfig {
                    tcp_address: any(),
                    http_address: Some(any()),
                    data_path: on_disk.then_some(kept),
                    durability: match config.durability {
                        Durability::None => Durability::Process,
                        given => given,
                    },
                    ..Default::default()
                };
                (Self::Embedded(Box::new(Broker::start(broker)?)), Backlog::Refuse)
            }
            BrokerChoice::StartNsqd => {
                let nsqd = ChildNsqd::start(&data_dir.path().join("nsqd"))?;
                (Self::Child(nsqd), Backlog::Refuse)
            }
            BrokerChoice::Named { nsqds, backlog } => (Self::Named(nsqds.clone()), *backlog),
        };
        let topic = config.production.topic;
        if let Self::Named(_) = broker {
            let (tcp, http) = (broker.tcp_addresses(), broker.http_addresses());
            let lookup = LookupConfig::default();
            Neighbours::new(&tcp, http, config.tls.nsqd.clone(), lookup, topic, config.channel)?
                .look()
                .refuse_others(None)?;
        }
        RemoteTopic::new(&broker.http_addresses(), &config.tls.nsqd, topic, config.channel)
            .prepare(backlog)?;
        Ok(broker)
    }

    /// Each nsqd's `host:port` for clients.
    pub(super) fn tcp_addresses(&self) -> Vec<String> {
        match self {
            Self::Embedded(broker) => vec![broker.tcp_addr().to_string()],
            Self::Child(nsqd) => vec![nsqd.addresses.tcp.clone()],
            Self::Named(nsqds) => nsqds.iter().map(|nsqd| nsqd.tcp.clone()).collect(),
        }
    }

    /// Each nsqd's `host:port` of its HTTP API, in the same order.
    pub(super) fn http_addresses(&self) -> Vec<String> {
        match self {
            Self::Embedded(broker) => broker.http_addr().iter().map(ToString::to_string).collect(),
            Self::Child(nsqd) => vec![nsqd.addresses.http.clone()],
            Self::Named(nsqds) => nsqds.iter().map(|nsqd| nsqd.http.clone()).collect(),
        }
    }
}
