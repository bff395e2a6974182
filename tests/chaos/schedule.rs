//! What goes wrong, and when: a function of the seed alone.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A part of the system, each a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Broker,
    Processor,
    Dashboard,
    Producer,
}

impl Part {
    pub(crate) const ALL: [Self; 4] =
        [Self::Broker, Self::Processor, Self::Dashboard, Self::Producer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Processor => "processor",
            Self::Dashboard => "dashboard",
            Self::Producer => "producer",
        }
    }
}

/// Which connections the fault proxy resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    ProducerToBroker,
    BrokerToProcessor,
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
            Self::Kill { part, .. } | Self::Failpoint { part, .. } => Some(*part),
            Self::TakeOver | Self::OlderLedger => Some(Part::Processor),
            Self::OlderDashboard => Some(Part::Dashboard),
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
    (Part::Processor, "worker-after-receive", 20),
    (Part::Processor, "ledger-before-commit", 20),
    (Part::Processor, "ledger-in-commit", 20),
    (Part::Processor, "ledger-after-commit", 20),
    (Part::Processor, "ledger-mid-fins", 20),
    (Part::Processor, "ledger-in-checkpoint", 1),
    (Part::Processor, "ledger-after-checkpoint", 1),
    (Part::Dashboard, "dashboard-before-commit", 10),
    (Part::Dashboard, "dashboard-after-commit", 10),
    (Part::Dashboard, "dashboard-before-checkpoint-commit", 1),
    (Part::Dashboard, "dashboard-after-checkpoint-commit", 1),
    (Part::Producer, "outbox-after-write", 20),
];

/// The faults in their order, each with the time of peace before it. As many as it takes for `kills` kills.
pub(crate) fn schedule(seed: u64, kills: usize) -> Vec<(Duration, Fault)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults: Vec<(Duration, Fault)> = Vec::new();
    let mut killed = 0;
    while killed < kills {
        let part = Part::ALL[rng.random_range(0..Part::ALL.len())];
        let fault = match rng.random_range(0..26) {
            0..10 => Fault::Kill { part, down: Duration::from_millis(rng.random_range(0..300)) },
            10..15 => {
                let (part, point, passes) = FAILPOINTS[rng.random_range(0..FAILPOINTS.len())];
                Fault::Failpoint { part, point, pass: rng.random_range(1..=passes) }
            }
            15 => {
                Fault::Freeze { part, frozen: Duration::from_millis(rng.random_range(1200..2000)) }
            }
            16 => Fault::TakeOver,
            17..19 => Fault::Reset(Link::BrokerToProcessor),
            19 => Fault::Reset(Link::ProducerToBroker),
            20 => Fault::OlderDashboard,
            21 => Fault::OlderLedger,
            22..24 => {
                let with_files = [Part::Processor, Part::Dashboard, Part::Producer];
                Fault::TakeAway(with_files[rng.random_range(0..with_files.len())])
            }
            _ => Fault::MoveBroker { in_order: rng.random_range(0..2) == 0 },
        };
        killed += usize::from(fault.killed().is_some());
        faults.push((Duration::from_millis(rng.random_range(50..600)), fault));
    }
    faults
}
