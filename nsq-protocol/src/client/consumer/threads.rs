//! The threads of a consumer, but for those that a user runs: how they are started, and in which order they end. Runs on
//! the caller's thread.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::client::consumer::discovery::Discovery;
use crate::client::consumer::fixed::FixedLinks;
use crate::client::consumer::shared::Shared;
use crate::client::consumer::worker::{END, Worker};
use crate::error::Error;
use crate::thread::{Crew, Never, stop_pair};

/// All of them.
pub(super) struct Threads {
    // Dropped in this order: each part ends its threads and joins them.
    pub(super) discovery: Option<Discovery>,
    /// `nsq-read-N` of the links that a user gave.
    pub(super) links: FixedLinks,
    /// `nsq-flow`, which touches what is held until a stop has waited for it.
    pub(super) flow: Crew<()>,
    /// For the threads of links that are still to come.
    pub(super) alive: Sender<Never>,
    /// Disconnected once every link's thread has ended, and `alive` is dropped.
    pub(super) ended: Receiver<Never>,
    pub(super) give_up: Option<GiveUpThread>,
}

/// `nsq-give-up`. It ends when nothing is given up any more, which its drop sees to.
pub(super) struct GiveUpThread {
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

impl GiveUpThread {
    fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let running = shared.clone();
        let worker = Worker::spawn("nsq-give-up".to_owned(), move || running.giving_up.run())?;
        Ok(Self { shared: shared.clone(), worker: Some(worker) })
    }

    /// Its name, where it is left behind.
    pub(super) fn end(mut self) -> Option<String> {
        self.worker.take()?.end(Instant::now() + END)
    }
}

impl Drop for GiveUpThread {
    fn drop(&mut self) {
        drop(self.shared.giving_up.stop());
    }
}

impl Threads {
    /// Starts them. `first` learns how the first connection of each link went, and the first answer of discovery.
    ///
    /// Where a thread is refused, those that are there end first.
    pub(super) fn start(
        shared: &Arc<Shared>,
        first: &Sender<Result<(), Error>>,
    ) -> Result<Self, Error> {
        let (stop_flow, flow_token) = stop_pair();
        let (alive, ended) = bounded(0);
        let links = FixedLinks::new(&shared.flow);
        let flow = Crew::stopped_by(stop_flow);
        let mut threads = Self { discovery: None, links, flow, alive, ended, give_up: None };
        let keeping_time = {
            let flow = shared.flow.clone();
            move || flow.run(&flow_token)
        };
        threads.flow.spawn("nsq-flow", keeping_time).map_err(Error::thread("nsq-flow"))?;
        if shared.giving_up.has_handler() {
            threads.give_up = Some(GiveUpThread::start(shared)?);
        }
        for link in shared.flow.links.iter() {
            threads.links.start(shared, link, first.clone(), threads.alive.clone())?;
        }
        if !shared.config.lookup.addresses.is_empty() {
            threads.discover(shared, Some(first.clone()))?;
        }
        Ok(threads)
    }

    /// Discovery, which is started where there was none; `first` learns of its first answer then.
    pub(super) fn discover(
        &mut self,
        shared: &Arc<Shared>,
        first: Option<Sender<Result<(), Error>>>,
    ) -> Result<&mut Discovery, Error> {
        let discovery = match self.discovery.take() {
            Some(discovery) => discovery,
            None => Discovery::start(shared, first, self.alive.clone())?,
        };
        Ok(self.discovery.insert(discovery))
    }
}
