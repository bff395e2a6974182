//! The nsqlookupds of a broker, and the question which channels a new topic has.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use nsq_protocol::thread::{OwnedThread, StopSource};
use nsq_protocol::{ChannelName, LookupConfig, TopicName, chain};
use parking_lot::{Condvar, Mutex};

use super::link::LookupdLink;
use super::wire::Node;
use crate::broker::core::RegistrationChange;

/// The most nsqlookupds: each has a thread.
const MAX_LOOKUPDS: usize = 64;

/// How long a new topic waits for the first attempt to reach an nsqlookupd: a connection and an answer.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);

/// The nsqlookupds of a broker, perhaps none.
#[derive(Default)]
pub(in crate::broker) struct Lookupds {
    links: Mutex<Vec<RunningLink>>,
    /// Whether there are any; without the lock, because each publish looks.
    is_any: AtomicBool,
    /// Set once all ports are bound.
    node: OnceLock<Arc<Node>>,
    /// Topics that are being made, by as many threads.
    making: Mutex<Vec<TopicName>>,
    made: Condvar,
}

/// A topic that this thread makes; others who want it wait until this is dropped.
pub(in crate::broker) struct TopicMaking<'l> {
    lookupds: &'l Lookupds,
    topic: TopicName,
}

impl Drop for TopicMaking<'_> {
    fn drop(&mut self) {
        self.lookupds.making.lock().retain(|topic| *topic != self.topic);
        self.lookupds.made.notify_all();
    }
}

/// How long a question may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct AskLimits {
    /// To make the connection.
    pub(in crate::broker) connect: Duration,
    /// The whole of it.
    pub(in crate::broker) request: Duration,
}

/// Dropped in this order: the thread is told to stop, and joined.
pub(super) struct RunningLink {
    link: Arc<LookupdLink>,
    stop: Option<StopSource>,
    _thread: OwnedThread<()>,
}

/// What is wrong with addresses of nsqlookupds, if anything is.
pub(in crate::broker) fn check_addresses(addresses: &[String]) -> Result<(), String> {
    if addresses.len() > MAX_LOOKUPDS {
        return Err(format!(
            "there are {} nsqlookupds, and the most is {MAX_LOOKUPDS}",
            addresses.len()
        ));
    }
    let is_address = |address: &str| {
        let parts = address.rsplit_once(':');
        let is_host = |host: &str| {
            !host.is_empty()
                && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
        };
        parts.is_some_and(|(host, port)| {
            is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    match addresses.iter().find(|address| !is_address(address)) {
        Some(wrong) => Err(format!(
            "{wrong:?} is no address of an nsqlookupd: give its host:port for TCP, such as 127.0.0.1:4160"
        )),
        None => Ok(()),
    }
}

impl Lookupds {
    /// Says where we are found; the first time counts.
    pub(in crate::broker) fn set_node(&self, node: Node) {
        let _ = self.node.set(Arc::new(node));
    }

    /// Where we are found; `None`: not all ports are bound yet.
    pub(in crate::broker) fn node(&self) -> Option<&Node> {
        self.node.get().map(|node| &**node)
    }

    /// Whether there are any.
    pub(in crate::broker) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Their addresses.
    pub(in crate::broker) fn addresses(&self) -> Vec<String> {
        self.links.lock().iter().map(|running| running.link.address.clone()).collect()
    }

    /// Registers with these from now on, and with no others. Those that were there already keep their connection.
    pub(super) fn set(
        &self,
        addresses: &[String],
        start: impl Fn(Arc<Node>, String) -> io::Result<RunningLink>,
    ) -> io::Result<()> {
        let Some(node) = self.node.get() else { return Ok(()) };
        let mut links = self.links.lock();
        let (kept, left): (Vec<_>, Vec<_>) =
            links.drain(..).partition(|running| addresses.contains(&running.link.address));
        *links = kept;
        let mut outcome = Ok(());
        for address in addresses {
            if links.iter().any(|running| running.link.address == *address) {
                continue;
            }
            match start(Arc::clone(node), address.clone()) {
                Ok(running) => links.push(running),
                Err(error) => outcome = Err(error),
            }
        }
        self.is_any.store(!links.is_empty(), Ordering::Release);
        drop(links);
        end(left);
        outcome
    }

    /// Ends all; their nsqlookupds forget us at once.
    pub(in crate::broker) fn close(&self) {
        let links = std::mem::take(&mut *self.links.lock());
        self.is_any.store(false, Ordering::Release);
        end(links);
    }

    /// Says what has changed.
    pub(in crate::broker) fn tell(&self, changes: &[RegistrationChange]) {
        self.links.lock().iter().for_each(|running| running.link.tell(changes));
    }

    /// Whether a topic is there, and nobody is still making it: [`Lookupds::begin`] waits for nobody.
    pub(in crate::broker) fn is_made(
        &self,
        topic: &TopicName,
        is_there: impl Fn() -> bool,
    ) -> bool {
        let making = self.making.lock();
        !making.contains(topic) && is_there()
    }

    /// Begins to make a topic, unless it is there. Waits while somebody else makes it, which takes as long as
    /// [`Lookupds::channels`]: so nobody publishes to a topic that has only some of its channels.
    pub(in crate::broker) fn begin(
        &self,
        topic: &TopicName,
        is_there: impl Fn() -> bool,
    ) -> Option<TopicMaking<'_>> {
        let mut making = self.making.lock();
        while making.contains(topic) {
            self.made.wait(&mut making);
        }
        if is_there() {
            return None;
        }
        making.push(*topic);
        Some(TopicMaking { lookupds: self, topic: *topic })
    }

    /// The channels of that topic that nsqlookupds know, at whatever nsqd. Waits as long as they may take, so hold no lock.
    pub(in crate::broker) fn channels(
        &self,
        topic: TopicName,
        limits: AskLimits,
    ) -> Vec<ChannelName> {
        let deadline = Instant::now() + FIRST_ATTEMPT;
        let links: Vec<_> =
            self.links.lock().iter().map(|running| Arc::clone(&running.link)).collect();
        let addresses: Vec<String> =
            links.iter().filter_map(|link| link.http_address(deadline)).collect();
        if addresses.is_empty() && !links.is_empty() {
            log::warn!(
                "broker: no nsqlookupd can be asked which channels the new topic {topic} has"
            );
        }
        let (told, answers) = bounded(addresses.len());
        let asking: Vec<io::Result<OwnedThread<()>>> = addresses
            .into_iter()
            .map(|address| {
                let config = LookupConfig::new()
                    .address(address)
                    .connect_timeout(limits.connect)
                    .request_timeout(limits.request);
                let told = told.clone();
                OwnedThread::spawn("broker-ask", move || {
                    // There is room for one answer of each.
                    let _ = told.try_send(config.channels(&topic));
                })
            })
            .collect();
        drop(told);
        let mut channels = Vec::new();
        for answer in answers {
            match answer {
                Ok(names) => channels.extend(names.into_iter().filter(|name| !name.is_ephemeral())),
                Err(error) => {
                    log::warn!("broker: the new topic {topic} may lack channels: {}", chain(&error))
                }
            }
        }
        for refused in asking.into_iter().filter_map(Result::err) {
            log::warn!("broker: the new topic {topic} may lack channels: {refused}");
        }
        channels
    }
}

impl RunningLink {
    /// One whose thread ends when `stop` is dropped.
    pub(super) fn new(link: Arc<LookupdLink>, stop: StopSource, thread: OwnedThread<()>) -> Self {
        Self { link, stop: Some(stop), _thread: thread }
    }
}

/// Stops all before it joins any: each may be in the middle of a wait.
fn end(mut links: Vec<RunningLink>) {
    links.iter_mut().for_each(|running| running.stop = None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_and_not_too_many() {
        let check = |addresses: &[&str]| {
            check_addresses(&addresses.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["127.0.0.1:4160", "[::1]:4160", "lookup-1.example:1"]), Ok(()));
        for wrong in
            ["", ":4160", "host", "host:", "host:0", "host:65536", "http://host:4160", "a b:1"]
        {
            assert!(check(&["host:1", wrong]).unwrap_err().contains("4160"), "{wrong}");
        }
        assert!(check(&["host:1"; 65]).is_err());
    }

    #[test]
    fn a_topic_is_made_by_one_and_the_others_wait_until_it_is_whole() {
        let lookupds = Lookupds::default();
        let topic: TopicName = "t".parse().unwrap();
        let made = AtomicBool::new(false);
        let first = lookupds.begin(&topic, || false).unwrap();
        // Another topic has no part in it.
        drop(lookupds.begin(&"other".parse().unwrap(), || false).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let there = || made.load(Ordering::SeqCst);
                    assert!(lookupds.begin(&topic, there).is_none(), "it was made meanwhile");
                });
            }
            made.store(true, Ordering::SeqCst);
            drop(first);
        });
        // Where it could not be made, the next one tries.
        drop(lookupds.begin(&topic, || false).unwrap());
        assert!(lookupds.begin(&topic, || false).is_some());
        assert!(lookupds.making.lock().is_empty());
    }
}
