//! What the threads of one consumer share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::client::consumer::batch::Batch;
use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::flow_control::FlowControl;
use crate::client::consumer::link::Link;
use crate::client::consumer::link_table::LinkTable;
use crate::client::consumer::open::OpenBatches;
use crate::client::consumer::queue::Queue;
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
    /// Messages given up.
    pub(crate) gave_up: AtomicU64,
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
        let flow = FlowControl::new(LinkTable::new(links), config.max_in_flight, budget);
        Self {
            flow: Arc::new(flow),
            queue: Queue::new(),
            open: OpenBatches::default(),
            gave_up: AtomicU64::new(0),
            config,
        }
    }

    /// Whether the workers are our own: [`crate::Consumer::run`].
    pub(crate) fn has_workers(&self) -> bool {
        self.flow.workers() > 0
    }

    /// Gives back, at once, what nobody received.
    pub(crate) fn requeue_queued(&self) {
        let queued = self.queue.drain();
        queued.into_iter().for_each(|batch| batch.requeue_without_backoff(Duration::ZERO));
    }
}
