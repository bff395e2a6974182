//! The links of a consumer that come and go: nsqds that nsqlookupds name.
//!
//! Two threads: `nsq-lookup` asks the nsqlookupds ([`crate::client::lookup::poll`]); `nsq-dial` hears the answers and how
//! connections fare, lets [`crate::client::consumer::directory`] decide, and starts a thread `nsq-read-N` for each connection that is
//! to be made. That thread becomes the connection's reader and ends with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, at, bounded, never, select};
use parking_lot::Mutex;

use crate::client::consumer::directory::{Directory, Next};
use crate::client::consumer::session::{Ended, Link, Shared, run_connection};
use crate::client::lookup::poll::{Answer, Lookup, Polled};
use crate::error::Error;
use crate::flow::retry::{Backoff, random};
use crate::thread::{Never, OwnedThread, StopToken};

/// Events that wait for `nsq-dial`. It never waits for anything else for long, so a full channel soon has room.
const EVENTS: usize = 256;

/// nsqds without a connection that statistics name; of the others they tell the number.
const MAX_SHOWN: usize = 100;

/// What `nsq-dial` hears.
enum Event {
    Polled(Polled),
    Live(Arc<str>),
    Ended(Arc<str>, Ended),
}

impl From<Polled> for Event {
    fn from(polled: Polled) -> Self {
        Event::Polled(polled)
    }
}

/// What one nsqlookupd told, as statistics show it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LookupdStats {
    /// As configured.
    pub address: String,
    /// Whether it gave a proper answer when it was asked last.
    pub answering: bool,
    /// nsqds that it named last.
    pub nsqds: usize,
    /// Answers so far.
    pub answers: u64,
    /// Requests without a proper answer so far.
    pub failures: u64,
    /// Why the last such request failed; kept when a later one works.
    pub last_error: Option<String>,
}

/// An nsqd that an nsqlookupd names and that could not be connected to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unreachable {
    /// Where it was tried.
    pub address: String,
    /// The nsqlookupd that named it first.
    pub lookupd: String,
    /// Why it did not work.
    pub last_error: String,
}

/// What the threads tell whoever asks.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) lookupds: Vec<LookupdStats>,
    unreachable: HashMap<Arc<str>, (Arc<str>, Error)>,
}

impl Told {
    pub(crate) fn unreachable(&self) -> Vec<Unreachable> {
        let mut shown: Vec<_> = self
            .unreachable
            .iter()
            .take(MAX_SHOWN)
            .map(|(address, (lookupd, error))| Unreachable {
                address: address.to_string(),
                lookupd: lookupd.to_string(),
                last_error: error.to_line(),
            })
            .collect();
        shown.sort_by(|one, other| one.address.cmp(&other.address));
        shown
    }
}

/// Ends a request to an nsqlookupd under way when dropped, so that its thread sees the stop.
struct Interrupt(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(interrupt) = self.0.take() {
            interrupt();
        }
    }
}

/// The two threads at work.
pub(crate) struct Discovery {
    // Drop order is load-bearing: the request must end before its thread is joined.
    interrupt: Interrupt,
    lookup: OwnedThread<()>,
    dial: OwnedThread<Vec<OwnedThread<()>>>,
    pub(crate) told: Arc<Mutex<Told>>,
}

impl Discovery {
    /// Starts the threads; `first` learns of the first answer, or that none of the nsqlookupds gave one. `alive`
    /// closes once every connection's thread has ended.
    ///
    /// # Errors
    /// The operating system's, when it refuses a thread.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        stop: &StopToken,
        first: Sender<Result<(), Error>>,
        alive: Sender<Never>,
    ) -> Result<Self, Error> {
        let config = &shared.config;
        let lookupds: Vec<Arc<str>> =
            config.lookup.addresses.iter().map(|address| address.as_str().into()).collect();
        let stats = |address: &Arc<str>| LookupdStats {
            address: address.to_string(),
            ..LookupdStats::default()
        };
        let told = Told { lookupds: lookupds.iter().map(stats).collect(), ..Told::default() };
        let told = Arc::new(Mutex::new(told));
        let lookup =
            Lookup::new(config.lookup.clone(), config.topic, &config.connection.user_agent);
        let interrupt = Interrupt(Some(Box::new(lookup.interrupter())));
        let (events_tx, events) = bounded(EVENTS);
        // One slot: "soon" need not be said twice.
        let (hurry_tx, hurry) = bounded(1);
        let spawned =
            |name: &str, source| Error::Thread { name: name.to_owned(), source: Arc::new(source) };
        let backoff =
            Backoff::new(config.connection.reconnect_min, config.connection.reconnect_max);
        let dialer = Dialer {
            directory: Directory::new(lookupds.len(), &config.nsqd_addresses, backoff),
            unheard: lookupds.len(),
            lookupds,
            shared: shared.clone(),
            told: told.clone(),
            links: HashMap::new(),
            threads: HashMap::new(),
            numbers: AtomicU64::new(config.nsqd_addresses.len() as u64),
            events: events_tx.clone(),
            hurry: hurry_tx,
            first: Some(first),
            telling: None,
            alive,
        };
        // In this order: should the second not start, the first ends, because nobody hears it.
        let lookup = OwnedThread::spawn("nsq-lookup", {
            let stop = stop.clone();
            move || lookup.run(&stop, &hurry, &events_tx)
        })
        .map_err(|source| spawned("nsq-lookup", source))?;
        let dial = OwnedThread::spawn("nsq-dial", {
            let stop = stop.clone();
            move || dialer.run(&events, &stop)
        })
        .map_err(|source| spawned("nsq-dial", source))?;
        Ok(Self { interrupt, lookup, dial, told })
    }

    /// Ends a request under way, once the stop signal is given.
    pub(crate) fn interrupt(&mut self) {
        self.interrupt = Interrupt(None);
    }

    /// Waits for the threads, once the stop signal is given and every connection is closed.
    pub(crate) fn join(self) {
        let Self { interrupt, lookup, dial, told: _ } = self;
        drop(interrupt);
        dial.join().into_iter().for_each(OwnedThread::join);
        lookup.join();
    }
}

/// What `nsq-dial` owns.
struct Dialer {
    directory: Directory,
    lookupds: Vec<Arc<str>>,
    shared: Arc<Shared>,
    told: Arc<Mutex<Told>>,
    /// Of nsqds that are connected, being connected to, or were connected once and are named still.
    links: HashMap<Arc<str>, Arc<Link>>,
    threads: HashMap<Arc<str>, OwnedThread<()>>,
    numbers: AtomicU64,
    events: Sender<Event>,
    hurry: Sender<()>,
    first: Option<Sender<Result<(), Error>>>,
    /// nsqlookupds that were not yet asked.
    unheard: usize,
    telling: Option<Error>,
    alive: Sender<Never>,
}

impl Dialer {
    /// The body of the thread; gives the threads of the connections that are left back.
    fn run(mut self, events: &Receiver<Event>, stop: &StopToken) -> Vec<OwnedThread<()>> {
        while !stop.is_stopped() {
            self.dial_due();
            let due = self.directory.next_due().map_or_else(never, at);
            select! {
                recv(stop.channel()) -> _ => break,
                recv(events) -> event => match event {
                    Ok(event) => self.on_event(event),
                    Err(_) => break,
                },
                recv(due) -> _ => {}
            }
        }
        self.threads.into_values().collect()
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        while let Some((nsqd, lookupd)) = self.directory.next_dial(now) {
            let link = self.links.entry(nsqd.clone()).or_insert_with(|| {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed) as usize;
                let link = Link::new(&nsqd, Some(self.lookupds[lookupd].clone()), number);
                let link = Arc::new(link);
                // Refused only during a stop, which also keeps the link from connecting.
                self.shared.add_link(&link);
                link
            });
            let name = format!("nsq-read-{}", link.number() % 100_000);
            let thread = {
                let (link, shared) = (link.clone(), self.shared.clone());
                let (events, alive) = (self.events.clone(), self.alive.clone());
                let nsqd = nsqd.clone();
                OwnedThread::spawn(&name, move || {
                    // Nobody hears it during a stop.
                    let ended = run_connection(&shared, &link, &mut || {
                        let _ = events.send(Event::Live(nsqd.clone()));
                    });
                    let _ = events.send(Event::Ended(nsqd, ended));
                    drop(alive);
                })
            };
            match thread {
                Ok(thread) => drop(self.threads.insert(nsqd, thread)),
                Err(source) => {
                    let error = Error::Thread { name, source: Arc::new(source) };
                    self.on_ended(nsqd, Ended { error, was_good: false });
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        // Whose last message was answered since; until the next event they cost their place in a list.
        self.shared.clear_slots();
        match event {
            Event::Polled((lookupd, Ok(answer))) => self.on_answer(lookupd, answer),
            Event::Polled((lookupd, Err(error))) => self.on_failure(lookupd, error),
            Event::Live(nsqd) => {
                self.directory.on_live(&nsqd);
                self.told.lock().unreachable.remove(&nsqd);
                log::debug!("nsqd {nsqd} is connected");
            }
            Event::Ended(nsqd, ended) => {
                // It ends right behind this event.
                drop(self.threads.remove(&nsqd));
                self.on_ended(nsqd, ended);
            }
        }
    }

    fn on_answer(&mut self, lookupd: usize, answer: Answer) {
        self.unheard = self.unheard.saturating_sub(1);
        if let Some(first) = self.first.take() {
            // The receiver waits for it; gone means that it gave up.
            let _ = first.send(Ok(()));
        }
        let gone = self.directory.on_answer(lookupd, answer.nsqds, Instant::now());
        {
            let mut told = self.told.lock();
            let stats = &mut told.lookupds[lookupd];
            stats.nsqds = self.directory.named_by(lookupd);
            stats.answering = true;
            stats.answers += 1;
        }
        self.forget(&gone);
    }

    fn on_failure(&mut self, lookupd: usize, error: Error) {
        // Whoever starts the consumer is told.
        let level = if self.first.is_some() { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "{}", error.to_line());
        {
            let mut told = self.told.lock();
            let stats = &mut told.lookupds[lookupd];
            stats.failures += 1;
            stats.answering = false;
            stats.last_error = Some(error.to_line());
        }
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
        // It may be back already, somewhere else.
        if self.links.get(&nsqd).is_some_and(|link| link.was_connected()) {
            let _ = self.hurry.try_send(());
        }
        match next {
            Next::Retry(delay) => {
                log::warn!("nsqd {}; the next attempt is in {delay:?}", error.to_line());
                if let Some(link) = self.links.get(&nsqd) {
                    let lookupd = link.lookupd.clone().unwrap_or_else(|| "".into());
                    let mut told = self.told.lock();
                    told.unreachable.insert(nsqd.clone(), (lookupd, error));
                }
                // One that never worked takes no place meanwhile.
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
            self.told.lock().unreachable.remove(nsqd);
            self.remove_link(nsqd);
        }
    }

    fn remove_link(&mut self, nsqd: &Arc<str>) {
        if let Some(link) = self.links.remove(nsqd) {
            self.shared.remove_link(&link);
        }
    }
}
