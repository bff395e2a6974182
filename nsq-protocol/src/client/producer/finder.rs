//! Finds a producer's nsqds: the thread `nsq-lookup` asks the nsqlookupds for all that there are.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::client::lookup::poll::{Lookup, Lookupds, Polled, Wanted};
use crate::client::producer::config::ProducerConfig;
use crate::client::producer::dispatcher::Dispatcher;
use crate::error::Error;
use crate::thread::{OwnedThread, StopSource, stop_pair};

/// The thread at work. Dropped, it ends, and with it a request under way.
pub(super) struct Finder {
    // Dropped in this order, behind `drop`.
    stop: Option<StopSource>,
    end_request: Option<Box<dyn FnOnce() + Send + Sync>>,
    _thread: OwnedThread<()>,
}

impl Finder {
    /// Asks each nsqlookupd once, on this thread.
    ///
    /// # Errors
    /// The first one's, where none answers.
    pub(super) fn ask_once(
        dispatcher: &Dispatcher,
        lookup: &Lookup,
        lookupds: &Lookupds,
    ) -> Result<(), Error> {
        let (mut answered, mut first) = (false, None);
        for (lookupd, address) in lookupds.all() {
            let answer = lookup.ask(&address);
            answered |= answer.is_ok();
            first = first.or(answer.as_ref().err().cloned());
            dispatcher.on_polled(Polled { lookupd, address, answer });
        }
        first.filter(|_| !answered).map_or(Ok(()), Err)
    }

    /// Of the nsqlookupds of the configuration.
    pub(super) fn lookup(config: &ProducerConfig) -> (Lookup, Arc<Lookupds>) {
        let lookupds = Arc::new(Lookupds::new(&config.lookup.addresses));
        let (settings, user_agent) = (config.lookup.clone(), &config.connection.user_agent);
        (Lookup::new(settings, lookupds.clone(), Wanted::Nodes, user_agent), lookupds)
    }

    /// Goes on asking on a thread of its own. What is returned has it ask soon.
    ///
    /// # Errors
    /// [`Error::Thread`] when the operating system refuses the thread.
    pub(super) fn start(
        dispatcher: &Arc<Dispatcher>,
        lookup: Lookup,
    ) -> Result<(Self, Sender<()>), Error> {
        let (stop, token) = stop_pair();
        let end_request = Box::new(lookup.interrupter());
        // One slot: a second request to hurry adds nothing to the first.
        let (hurry, hurried) = bounded(1);
        let asking = {
            let dispatcher = dispatcher.clone();
            move || {
                lookup.run(&token, &hurried, |polled| {
                    dispatcher.on_polled(polled);
                    true
                });
            }
        };
        let thread =
            OwnedThread::spawn("nsq-lookup", asking).map_err(Error::thread("nsq-lookup"))?;
        let finder = Self { stop: Some(stop), end_request: Some(end_request), _thread: thread };
        Ok((finder, hurry))
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(end_request) = self.end_request.take() {
            end_request();
        }
    }
}
