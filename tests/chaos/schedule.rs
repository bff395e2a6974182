//! What goes wrong, and when: a function of the seed alone.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Processors that share a ledger.
pub(crate) const PROCESSORS: usize = 3;

/// Dashboards that those processors tell of their counts.
pub(crate) const DASHBOARDS: usize = 2;

/// A part of the system, each a process of its own. Of a ledger in files there is one processor, and one dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Broker,
    Processor(usize),
    Dashboard(usize),
    Producer,
    /// PostgreSQL, all its processes.
    Database,
}

impl Part {
    /// Of a ledger in files.
    const OF_FILES: [Self; 4] =
        [Self::Broker, Self::Processor(0), Self::Dashboard(0), Self::Producer];

    /// Of a ledger that is shared.
    const OF_SHARED: [Self; 8] = [
        Self::Broker,
        Self::Processor(0),
        Self::Processor(1),
        Self::Processor(2),
        Self::Dashboard(0),
        Self::Dashboard(1),
        Self::Producer,
        Self::Database,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Processor(0) => "processor",
            Self::Processor(1) => "processor 2",
            Self::Processor(_) => "processor 3",
            Self::Dashboard(0) => "dashboard",
            Self::Dashboard(_) => "dashboard 2",
            Self::Producer => "producer",
            Self::Database => "database",
        }
    }
}

/// Where the counts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LedgerKind {
    /// In files of one processor.
    Files,
    /// In a PostgreSQL that three processors share.
    Postgres,
}

impl LedgerKind {
    pub(crate) fn parts(self) -> &'static [Part] {
        match self {
            Self::Files => &Part::OF_FILES,
            Self::Postgres => &Part::OF_SHARED,
        }
    }
}

/// Which connections the fault proxy resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    ProducerToBroker,
    BrokerToProcessor,
    /// Of all processors that share a ledger.
    ProcessorToDatabase,
}

/// What happens to a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL; the same command again after a pause.
    Kill { part: Part, down: Duration },
    /// It kills itself at the n-th pass of a point, and is started again.
    Failpoint { part: Part, point: &'static str, pass: u64 },
    /// SIGSTOP, and SIGCONT after longer than the message timeout.
    Freeze { part: Part, frozen: Duration },
    /// A standby waits while the processor is killed, and takes its place.
    TakeOver,
    /// A processor is killed and never comes back: one with an empty data directory takes its place.
    Abandon(Part),
    /// The dashboard is killed, and a backup that is older takes the place of its files.
    OlderDashboard,
    /// The processor is killed, and a backup that is older takes the place of its ledger: refused. Then the ledger comes back.
    OlderLedger,
    /// The part's directory is moved away under it, which it must notice; and comes back.
    TakeAway(Part),
    /// The broker is stopped, in order or not, and comes back with the same disk under another address.
    MoveBroker {
        /// Whether it is told to stop, and not killed.
        in_order: bool,
    },
    /// Every connection is reset.
    Reset(Link),
}

impl Fault {
    /// Whether the broker ends without an orderly stop.
    pub(crate) fn kills_broker(&self) -> bool {
        self.killed() == Some(Part::Broker) && *self != Self::MoveBroker { in_order: true }
    }

    /// The part that is killed, if one is.
    pub(crate) fn killed(&self) -> Option<Part> {
        match self {
            Self::Kill { part, .. } | Self::Failpoint { part, .. } | Self::Abandon(part) => {
                Some(*part)
            }
            Self::TakeOver | Self::OlderLedger => Some(Part::Processor(0)),
            Self::OlderDashboard => Some(Part::Dashboard(0)),
            Self::TakeAway(part) => Some(*part),
            Self::MoveBroker { .. } => Some(Part::Broker),
            Self::Freeze { .. } | Self::Reset(_) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { part, down } => write!(f, "kill {}, down for {down:?}", part.name()),
            Self::Failpoint { part, point, pass } => {
                write!(f, "{} dies at {point}, pass {pass}", part.name())
            }
            Self::Freeze { part, frozen } => write!(f, "stop {} for {frozen:?}", part.name()),
            Self::TakeOver => write!(f, "kill processor, a standby takes over"),
            Self::Abandon(part) => {
                write!(f, "kill {} for good, another one starts", part.name())
            }
            Self::OlderDashboard => write!(f, "an older dashboard comes back"),
            Self::OlderLedger => {
                write!(f, "an older ledger comes back, and the newer one after it")
            }
            Self::TakeAway(part) => write!(f, "the directory of the {} goes away", part.name()),
            Self::MoveBroker { in_order: true } => write!(f, "the broker moves"),
            Self::MoveBroker { in_order: false } => write!(f, "the broker is killed and moves"),
            Self::Reset(link) => write!(f, "reset {link:?}"),
        }
    }
}

/// Where a part may kill itself, and up to which pass of the point.
const FAILPOINTS: [(Part, &str, u64); 12] = [
    (Part::Processor(0), "worker-after-receive", 20),
    (Part::Processor(0), "ledger-before-commit", 20),
    (Part::Processor(0), "ledger-in-commit", 20),
    (Part::Processor(0), "ledger-after-commit", 20),
    (Part::Processor(0), "ledger-mid-fins", 20),
    (Part::Processor(0), "ledger-in-checkpoint", 1),
    (Part::Processor(0), "ledger-after-checkpoint", 1),
    (Part::Dashboard(0), "dashboard-before-commit", 10),
    (Part::Dashboard(0), "dashboard-after-commit", 10),
    (Part::Dashboard(0), "dashboard-before-checkpoint-commit", 1),
    (Part::Dashboard(0), "dashboard-after-checkpoint-commit", 1),
    (Part::Producer, "outbox-after-write", 20),
];

/// The faults in their order, each with the time of peace before it. As many as it takes for `kills` kills.
pub(crate) fn schedule(seed: u64, kills: usize, ledger: LedgerKind) -> Vec<(Duration, Fault)> {
    let next = match ledger {
        LedgerKind::Files => fault_of_files,
        LedgerKind::Postgres => fault_of_shared,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults: Vec<(Duration, Fault)> = Vec::new();
    let mut killed = 0;
    while killed < kills {
        let fault = next(&mut rng);
        killed += usize::from(fault.killed().is_some());
        faults.push((Duration::from_millis(rng.random_range(50..600)), fault));
    }
    faults
}

fn fault_of_files(rng: &mut StdRng) -> Fault {
    let part = Part::OF_FILES[rng.random_range(0..Part::OF_FILES.len())];
    match rng.random_range(0..26) {
        0..10 => Fault::Kill { part, down: Duration::from_millis(rng.random_range(0..300)) },
        10..15 => {
            let (part, point, passes) = FAILPOINTS[rng.random_range(0..FAILPOINTS.len())];
            Fault::Failpoint { part, point, pass: rng.random_range(1..=passes) }
        }
        15 => Fault::Freeze { part, frozen: Duration::from_millis(rng.random_range(1200..2000)) },
        16 => Fault::TakeOver,
        17..19 => Fault::Reset(Link::BrokerToProcessor),
        19 => Fault::Reset(Link::ProducerToBroker),
        20 => Fault::OlderDashboard,
        21 => Fault::OlderLedger,
        22..24 => {
            let with_files = [Part::Processor(0), Part::Dashboard(0), Part::Producer];
            Fault::TakeAway(with_files[rng.random_range(0..with_files.len())])
        }
        _ => Fault::MoveBroker { in_order: rng.random_range(0..2) == 0 },
    }
}

/// Where a processor of a shared ledger may kill itself.
const SHARED_FAILPOINTS: [&str; 4] =
    ["worker-after-receive", "ledger-before-commit", "ledger-after-commit", "ledger-mid-fins"];

/// Longer than a lease, and than others wait until they publish for one whose lease has run out.
const LEASE_RUNS_OUT: Duration = Duration::from_secs(18);

fn fault_of_shared(rng: &mut StdRng) -> Fault {
    let part = Part::OF_SHARED[rng.random_range(0..Part::OF_SHARED.len())];
    let processor = Part::Processor(rng.random_range(0..PROCESSORS));
    match rng.random_range(0..40) {
        0..15 => Fault::Kill { part, down: Duration::from_millis(rng.random_range(0..300)) },
        15..19 => Fault::Kill {
            part: Part::Database,
            down: Duration::from_millis(rng.random_range(0..3_000)),
        },
        19..25 => Fault::Failpoint {
            part: processor,
            point: SHARED_FAILPOINTS[rng.random_range(0..SHARED_FAILPOINTS.len())],
            pass: rng.random_range(1..=20),
        },
        25..28 => {
            Fault::Freeze { part, frozen: Duration::from_millis(rng.random_range(1_200..2_000)) }
        }
        // Longer than a transaction may idle.
        28..30 => Fault::Freeze {
            part: processor,
            frozen: Duration::from_millis(rng.random_range(5_000..7_000)),
        },
        30 => Fault::Freeze { part: processor, frozen: LEASE_RUNS_OUT },
        31 => Fault::Abandon(processor),
        32..35 => Fault::Reset(Link::ProcessorToDatabase),
        35 => Fault::Reset(Link::BrokerToProcessor),
        36 => Fault::Reset(Link::ProducerToBroker),
        37 => Fault::OlderDashboard,
        _ => Fault::MoveBroker { in_order: rng.random_range(0..2) == 0 },
    }
}
