//! The links that a user gave, in the configuration or later: each has a thread, `nsq-read-N`, for as long as it is wanted.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::client::consumer::flow_control::FlowControl;
use crate::client::consumer::link::Link;
use crate::client::consumer::reader::run_link;
use crate::client::consumer::shared::Shared;
use crate::error::Error;
use crate::thread::{Never, OwnedThread, StopSource, stop_pair};

/// All of them. Dropped, it closes every connection of the consumer and joins the threads.
pub(super) struct FixedLinks {
    links: Vec<FixedLink>,
    flow: Arc<FlowControl>,
}

/// One link and its thread.
pub(super) struct FixedLink {
    pub(super) link: Arc<Link>,
    /// Dropped, no connection is made any more.
    stop: Option<StopSource>,
    /// Disconnected when the thread is about to end.
    ended: Receiver<Never>,
    thread: OwnedThread<()>,
}

impl FixedLinks {
    pub(super) fn new(flow: &Arc<FlowControl>) -> Self {
        Self { links: Vec::new(), flow: flow.clone() }
    }

    /// Starts the thread of `link`, which has its slot. `first` learns how the first connection went; the thread holds
    /// `alive`.
    ///
    /// # Errors
    /// [`Error::Thread`] when the operating system refuses it.
    pub(super) fn start(
        &mut self,
        shared: &Arc<Shared>,
        link: Arc<Link>,
        first: Sender<Result<(), Error>>,
        alive: Sender<Never>,
    ) -> Result<(), Error> {
        let name = format!("nsq-read-{}", link.number % 100_000);
        let (stop, token) = stop_pair();
        let (open, ended) = bounded(0);
        let reading = {
            let (shared, link) = (shared.clone(), link.clone());
            move || {
                run_link(&shared, &link, &token, first);
                drop((open, alive));
            }
        };
        let thread = OwnedThread::spawn(&name, reading).map_err(Error::thread(&name))?;
        self.links.push(FixedLink { link, stop: Some(stop), ended, thread });
        Ok(())
    }

    /// Takes out the link of that address.
    pub(super) fn take(&mut self, address: &str) -> Option<FixedLink> {
        let index = self.links.iter().position(|fixed| *fixed.link.addr == *address)?;
        Some(self.links.remove(index))
    }

    /// No link connects again.
    pub(super) fn interrupt(&mut self) {
        self.links.iter_mut().for_each(|fixed| fixed.stop = None);
    }
}

impl Drop for FixedLinks {
    fn drop(&mut self) {
        self.interrupt();
        self.flow.links.close_all();
        // The threads are joined as they are dropped.
    }
}

impl FixedLink {
    /// Waits for what is held of it to be answered, until `deadline`; then for nsqd to read the answers, until `linger`
    /// after that, closes the connection and joins the thread.
    pub(super) fn end(
        mut self,
        flow: &FlowControl,
        deadline: Instant,
        linger: std::time::Duration,
    ) {
        self.stop = None;
        flow.drain_link(&self.link, deadline);
        if let Some(session) = self.link.live() {
            session.connection().outbox.finish();
            let _ = self.ended.recv_deadline(deadline.min(Instant::now()) + linger);
        }
        if let Some(session) = self.link.live() {
            session.connection().close();
        }
        self.thread.join();
        flow.links.remove(&self.link);
        flow.rebalance();
    }
}
