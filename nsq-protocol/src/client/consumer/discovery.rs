//! The links of a consumer that come and go: nsqds that nsqlookupds name.
//!
//! Two threads: `nsq-lookup` asks the nsqlookupds ([`crate::client::lookup::poll`]). `nsq-dial` hears the answers and
//! how connections fare, lets [`crate::client::consumer::directory`] decide, and starts a thread `nsq-read-N` for each
//! connection that is to be made. That thread becomes the connection's reader and ends with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select};

use crate::client::clock::random;
use crate::client::consumer::config::ConsumerConfig;
use crate::client::consumer::directory::{Directory, Next};
use crate::client::consumer::link::Link;
use crate::client::consumer::reader::{Ended, run_connection};
use crate::client::consumer::shared::Shared;
use crate::client::event::Event;
use crate::client::lookup::poll::{Lookup, Lookupds, Polled, Wanted};
use crate::client::lookup::response::LookupResponse;
use crate::error::Error;
use crate::flow::retry::Backoff;
use crate::thread::{Crew, Never, OwnedThread, StopSource, StopToken, stop_pair};

/// Events that wait for `nsq-dial`. It never waits for anything else for long, so a full channel soon has room.
const EVENTS: usize = 256;

/// What `nsq-dial` hears of connections.
enum Heard {
    Live(Arc<str>),
    Ended(Arc<str>, Ended),
    /// Whether a user gave it, so that it is not ours to connect to.
    Given(String, bool),
    /// The nsqlookupd of that number is asked no more.
    LookupdGone(usize),
}

/// Stops asking when dropped: gives the stop signal, and ends a request to an nsqlookupd under way so that its thread
/// sees the signal.
struct Asking {
    stop: Option<StopSource>,
    end_request: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(end_request) = self.end_request.take() {
            end_request();
        }
    }
}

/// The two threads at work.
pub(super) struct Discovery {
    // Dropped in this order: the threads see the stop signal, then they are joined.
    asking: Option<Asking>,
    /// Ended by closing every connection of the consumer: `nsq-dial` joins the threads of those that it started.
    threads: Crew<()>,
    lookupds: Arc<Lookupds>,
    shared: Arc<Shared>,
    events: Sender<Heard>,
    hurry: Sender<()>,
}

impl Discovery {
    /// Starts the threads; `first` learns of the first answer, or that none of the nsqlookupds gave one. `alive`
    /// closes once every connection's thread has ended.
    ///
    /// # Errors
    /// [`Error::Thread`] when the operating system refuses a thread.
    pub(super) fn start(
        shared: &Arc<Shared>,
        first: Option<Sender<Result<(), Error>>>,
        alive: Sender<Never>,
    ) -> Result<Self, Error> {
        let config = &shared.config;
        let lookupds = Arc::new(Lookupds::new(&config.lookup.addresses));
        let (settings, wanted) = (config.lookup.clone(), Wanted::Topic(config.topic));
        let user_agent = &config.connection.user_agent;
        let lookup = Lookup::new(settings, lookupds.clone(), wanted, user_agent);
        let (stop, token) = stop_pair();
        let asking = Asking { stop: Some(stop), end_request: Some(Box::new(lookup.interrupter())) };
        let threads = Crew::new({
            let flow = shared.flow.clone();
            move || flow.links.close_all()
        });
        let (polled_tx, polled) = bounded(EVENTS);
        let (events_tx, events) = bounded(EVENTS);
        // One slot: a second request to hurry adds nothing to the first.
        let (hurry_tx, hurry) = bounded(1);
        let dialer = Dialer::new(shared, &lookupds, &events_tx, &hurry_tx, first, alive);
        let mut discovery = Self {
            asking: Some(asking),
            threads,
            lookupds,
            shared: shared.clone(),
            events: events_tx,
            hurry: hurry_tx,
        };
        let asking = {
            let token = token.clone();
            move || lookup.run(&token, &hurry, |polled| polled_tx.send(polled).is_ok())
        };
        let threads = &mut discovery.threads;
        threads.spawn("nsq-lookup", asking).map_err(Error::thread("nsq-lookup"))?;
        let dialing = move || dialer.run(&polled, events, &token);
        threads.spawn("nsq-dial", dialing).map_err(Error::thread("nsq-dial"))?;
        Ok(discovery)
    }

    /// Asks one more nsqlookupd, soon; false where it is asked already.
    pub(super) fn add_lookupd(&self, address: &str) -> bool {
        let Some(number) = self.lookupds.add(address) else { return false };
        self.shared.discovery.lock().add(number, address);
        let _ = self.hurry.try_send(());
        true
    }

    /// Asks an nsqlookupd no more; false where it was not asked.
    pub(super) fn remove_lookupd(&self, address: &str) -> bool {
        let Some(number) = self.lookupds.remove(address) else { return false };
        // Without a receiver, `nsq-dial` has ended.
        let _ = self.events.send(Heard::LookupdGone(number));
        true
    }

    /// A user gave that nsqd, or took it back.
    pub(super) fn nsqd_is_given(&self, address: &str, given: bool) {
        let _ = self.events.send(Heard::Given(address.to_owned(), given));
    }

    /// No nsqlookupd is asked any more, and no connection made; a request under way ends.
    pub(super) fn interrupt(&mut self) {
        self.asking = None;
    }

    /// Ends every connection and joins the threads.
    pub(super) fn join(self) {
        let Self { asking, threads, .. } = self;
        drop(asking);
        threads.stop();
    }
}

/// What `nsq-dial` owns.
struct Dialer {
    directory: Directory,
    /// Those that are asked.
    lookupds: Arc<Lookupds>,
    /// Those that were heard of, by their numbers.
    names: HashMap<usize, Arc<str>>,
    shared: Arc<Shared>,
    /// Of nsqds that are connected, being connected to, or were connected once and are named still.
    links: HashMap<Arc<str>, Arc<Link>>,
    threads: HashMap<Arc<str>, OwnedThread<()>>,
    events: Sender<Heard>,
    hurry: Sender<()>,
    first: Option<Sender<Result<(), Error>>>,
    /// nsqlookupds that were not yet asked.
    unheard: usize,
    telling: Option<Error>,
    alive: Sender<Never>,
}

impl Dialer {
    fn new(
        shared: &Arc<Shared>,
        lookupds: &Arc<Lookupds>,
        events: &Sender<Heard>,
        hurry: &Sender<()>,
        first: Option<Sender<Result<(), Error>>>,
        alive: Sender<Never>,
    ) -> Self {
        let ConsumerConfig { lookup, connection, .. } = &shared.config;
        let asked = lookup.addresses.len();
        let backoff = Backoff::new(connection.reconnect_min, connection.reconnect_max);
        let given: Vec<_> = shared.flow.links.iter().map(|link| link.addr.to_string()).collect();
        Self {
            directory: Directory::new(asked, &given, backoff),
            unheard: asked,
            lookupds: lookupds.clone(),
            names: HashMap::new(),
            shared: shared.clone(),
            links: HashMap::new(),
            threads: HashMap::new(),
            events: events.clone(),
            hurry: hurry.clone(),
            first,
            telling: None,
            alive,
        }
    }

    /// The body of the thread. Joins the threads of the connections that are left, which end when those are closed.
    fn run(mut self, polled: &Receiver<Polled>, events: Receiver<Heard>, stop: &StopToken) {
        while !stop.is_stopped() {
            self.dial_due();
            let due = self.directory.next_due().map_or_else(never, at);
            select! {
                recv(stop.channel()) -> _ => break,
                recv(polled) -> polled => match polled {
                    Ok(polled) => self.on_polled(polled),
                    // `nsq-lookup` has ended, and nothing new is found any more.
                    Err(_) => break,
                },
                recv(events) -> event => match event {
                    Ok(event) => self.on_event(event),
                    Err(_) => break,
                },
                recv(due) -> _ => {}
            }
        }
        let threads = std::mem::take(&mut self.threads);
        // The last events are not needed; without a receiver, no thread waits to send one.
        drop((self, events));
        threads.into_values().for_each(OwnedThread::join);
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        while let Some((nsqd, lookupd)) = self.directory.next_dial(now) {
            let link = self.links.entry(nsqd.clone()).or_insert_with(|| {
                let links = &self.shared.flow.links;
                let lookupd = self.names.get(&lookupd).cloned().unwrap_or_else(|| "".into());
                let link = Arc::new(Link::new(&nsqd, Some(lookupd), links.next_number(), now));
                links.add(&link);
                link
            });
            let name = format!("nsq-read-{}", link.number % 100_000);
            let thread = {
                let (link, shared) = (link.clone(), self.shared.clone());
                let (events, alive) = (self.events.clone(), self.alive.clone());
                let nsqd = nsqd.clone();
                OwnedThread::spawn(&name, move || {
                    // During a stop there is no receiver, which is no fault.
                    let ended = run_connection(&shared, &link, &mut || {
                        let _ = events.send(Heard::Live(nsqd.clone()));
                    });
                    let _ = events.send(Heard::Ended(nsqd, ended));
                    drop(alive);
                })
            };
            match thread {
                Ok(thread) => drop(self.threads.insert(nsqd, thread)),
                Err(source) => {
                    let error = Error::thread(&name)(source);
                    self.on_ended(nsqd, Ended { error, was_good: false });
                }
            }
        }
    }

    fn on_polled(&mut self, Polled { lookupd, address, answer }: Polled) {
        self.shared.flow.links.clear_slots();
        if !self.lookupds.has(lookupd) {
            return;
        }
        self.names.insert(lookupd, address);
        match answer {
            Ok(answer) => self.on_answer(lookupd, answer),
            Err(error) => self.on_failure(lookupd, error),
        }
    }

    fn on_event(&mut self, event: Heard) {
        // Links whose last held message was answered since the last event leave their slots now.
        self.shared.flow.links.clear_slots();
        match event {
            Heard::Live(nsqd) => {
                self.directory.on_live(&nsqd);
                self.shared.discovery.lock().unreachable.remove(&nsqd);
            }
            Heard::Ended(nsqd, ended) => {
                // The thread ends right behind this event, so that the join is short.
                drop(self.threads.remove(&nsqd));
                self.on_ended(nsqd, ended);
            }
            Heard::Given(nsqd, given) => {
                if self.directory.set_given(&nsqd, given) {
                    self.forget(&[nsqd.into()]);
                }
            }
            Heard::LookupdGone(lookupd) => {
                self.names.remove(&lookupd);
                self.shared.discovery.lock().lookupds.remove(&lookupd);
                let gone = self.directory.remove_lookupd(lookupd);
                self.forget(&gone);
            }
        }
    }

    fn on_answer(&mut self, lookupd: usize, answer: LookupResponse) {
        self.unheard = self.unheard.saturating_sub(1);
        if let Some(first) = self.first.take() {
            // The receiver is gone only when the start has given up.
            let _ = first.send(Ok(()));
        }
        let gone = self.directory.on_answer(lookupd, answer.nsqds, Instant::now());
        let mut told = None;
        if let Some(stats) = self.shared.discovery.lock().lookupds.get_mut(&lookupd) {
            if !stats.answering && stats.failures > 0 {
                told = Some(Event::LookupdAnswers { lookupd: stats.address.clone() });
            }
            stats.nsqds = self.directory.named_by(lookupd);
            stats.answering = true;
            stats.answers += 1;
        }
        told.into_iter().for_each(|event| self.shared.config.events.tell(event));
        self.forget(&gone);
    }

    fn on_failure(&mut self, lookupd: usize, error: Error) {
        log::debug!("{}", error.to_line());
        let mut told = None;
        if let Some(stats) = self.shared.discovery.lock().lookupds.get_mut(&lookupd) {
            if stats.answering || stats.failures == 0 {
                let lookupd = stats.address.clone();
                told = Some(Event::LookupdFailed { lookupd, error: error.clone() });
            }
            stats.failures += 1;
            stats.answering = false;
            stats.last_error = Some(error.to_line());
        }
        told.into_iter().for_each(|event| self.shared.config.events.tell(event));
        let gone = self.directory.on_failure(lookupd);
        self.forget(&gone);
        self.unheard = self.unheard.saturating_sub(1);
        self.telling.get_or_insert(error);
        if self.unheard == 0
            && let (Some(first), Some(error)) = (self.first.take(), self.telling.take())
        {
            let _ = first.send(Err(error));
        }
    }

    fn on_ended(&mut self, nsqd: Arc<str>, ended: Ended) {
        let Ended { error, was_good } = ended;
        let next = self.directory.on_ended(&nsqd, was_good, Instant::now(), random());
        // It may be back already at another address, which the nsqlookupds know.
        if self.links.get(&nsqd).is_some_and(|link| link.was_connected()) {
            let _ = self.hurry.try_send(());
        }
        match next {
            Next::Retry(delay) => {
                log::debug!("nsqd {}; the next attempt is in {delay:?}", error.to_line());
                if let Some(link) = self.links.get(&nsqd) {
                    let lookupd = link.lookupd.clone().unwrap_or_else(|| "".into());
                    let mut stats = self.shared.discovery.lock();
                    stats.unreachable.insert(nsqd.clone(), (lookupd, error));
                }
                // A link that never had a connection takes no slot while it waits.
                if self.links.get(&nsqd).is_some_and(|link| !link.was_connected()) {
                    self.remove_link(&nsqd);
                }
            }
            Next::Forget => {
                log::info!("nsqd {}; no nsqlookupd names it any more", error.to_line());
                self.forget(&[nsqd]);
            }
        }
    }

    fn forget(&mut self, gone: &[Arc<str>]) {
        for nsqd in gone {
            self.shared.discovery.lock().unreachable.remove(nsqd);
            self.remove_link(nsqd);
        }
    }

    fn remove_link(&mut self, nsqd: &Arc<str>) {
        if let Some(link) = self.links.remove(nsqd) {
            self.shared.flow.links.remove(&link);
        }
    }
}
