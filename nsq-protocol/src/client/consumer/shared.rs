//! What the threads of one consumer share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::client::consumer::batch::Batch;
use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::delivery::Delivery;
use crate::client::consumer::discovery_stats::DiscoveryStats;
use crate::client::consumer::flow_control::FlowControl;
use crate::client::consumer::giving_up::GivingUp;
use crate::client::consumer::link::Link;
use crate::client::consumer::link_table::LinkTable;
use crate::client::consumer::open::OpenBatches;
use crate::client::consumer::queue::Queue;
use crate::client::consumer::source::Source;
use crate::flow::backoff::FailureBackoff;
use crate::flow::budget::Budget;
use crate::flow::rdy::Planner;

/// One of it for each consumer.
pub(crate) struct Shared {
    pub(crate) config: ConsumerConfig,
    pub(crate) flow: Arc<FlowControl>,
    /// From the reader threads to the workers.
    pub(crate) queue: Queue<Batch>,
    /// What the workers of [`crate::Consumer::run`] have begun.
    pub(crate) open: OpenBatches,
    /// Messages that are given up.
    pub(crate) giving_up: GivingUp,
    /// How discovery goes.
    pub(super) discovery: Mutex<DiscoveryStats>,
}

impl Shared {
    /// With a link for each nsqd of the configuration, none of them connected yet.
    pub(crate) fn new(config: ConsumerConfig) -> Self {
        let now = Instant::now();
        let addresses = config.nsqd_addresses.iter().enumerate();
        let links = addresses.map(|(number, addr)| Link::new(addr, None, number, now));
        let planner = Planner::new(
            u64::from(config.max_in_flight),
            config.low_rdy_timeout,
            config.low_rdy_idle_timeout,
        );
        let budget =
            Budget::new(planner, FailureBackoff::new(config.backoff_min, config.backoff_max));
        let (links, events) = (LinkTable::new(links), config.events.clone());
        let flow = FlowControl::new(links, config.max_in_flight, budget, events);
        Self {
            flow: Arc::new(flow),
            queue: Queue::new(),
            open: OpenBatches::default(),
            giving_up: GivingUp::new(config.give_up.clone()),
            discovery: Mutex::new(DiscoveryStats::new(&config.lookup.addresses)),
            config,
        }
    }

    /// Whether the workers are our own: [`crate::Consumer::run`].
    pub(crate) fn has_workers(&self) -> bool {
        self.flow.workers() > 0
    }

    /// Gives up all messages of `source`, without waiting.
    pub(super) fn give_up_all(&self, source: &Arc<Source>) {
        let over = Delivery::rest_of(source);
        // Known to a stop, which may have to give back what is being decided.
        self.open.begin(source);
        over.into_iter().for_each(|delivery| self.giving_up.add(delivery, None));
    }

    /// Gives back, at once, what nobody received.
    pub(crate) fn requeue_queued(&self) {
        let queued = self.queue.drain();
        queued.into_iter().for_each(|batch| batch.requeue_without_backoff(Duration::ZERO));
    }
}
