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
    /// Every connection is reset.
    Reset(Link),
}

impl Fault {
    /// The part that is killed, if one is.
    pub(crate) fn killed(&self) -> Option<Part> {
        match self {
            Self::Kill { part, .. } | Self::Failpoint { part, .. } => Some(*part),
            Self::TakeOver => Some(Part::Processor),
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
    (Part::Processor, "ledger-in-fold", 1),
    (Part::Processor, "ledger-after-fold", 1),
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
        let fault = match rng.random_range(0..20) {
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
            _ => Fault::Reset(Link::ProducerToBroker),
        };
        killed += usize::from(fault.killed().is_some());
        faults.push((Duration::from_millis(rng.random_range(50..600)), fault));
    }
    faults
}
