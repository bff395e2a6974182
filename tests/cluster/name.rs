//! The names of a cluster's parts, as `nsqd-2` (pure).

use std::fmt;
use std::str::FromStr;

/// What a part is. In the order in which they start; they stop the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Postgres,
    Nsqlookupd,
    Nsqd,
    Dashboard,
    Process,
    Produce,
    /// A producer that is none of ours: go-nsq.
    GoNsq,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Postgres,
        Self::Nsqlookupd,
        Self::Nsqd,
        Self::Dashboard,
        Self::Process,
        Self::Produce,
        Self::GoNsq,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nsqlookupd => "nsqlookupd",
            Self::Nsqd => "nsqd",
            Self::Dashboard => "dashboard",
            Self::Process => "process",
            Self::Produce => "produce",
            Self::GoNsq => "go-nsq",
        }
    }

    /// Whether there is only one, which has no number.
    fn is_single(self) -> bool {
        matches!(self, Self::Postgres | Self::GoNsq)
    }
}

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    /// From 1; 0 of what there is only one of.
    pub(crate) number: usize,
}

impl Name {
    pub(crate) const POSTGRES: Self = Self { kind: Kind::Postgres, number: 0 };
    pub(crate) const GO_NSQ: Self = Self { kind: Kind::GoNsq, number: 0 };

    pub(crate) fn new(kind: Kind, number: usize) -> Self {
        Self { kind, number }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.is_single() {
            true => f.pad(self.kind.name()),
            false => f.pad(&format!("{}-{}", self.kind.name(), self.number)),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let known: Vec<_> = Kind::ALL
                .iter()
                .map(|kind| format!("{}{}", kind.name(), if kind.is_single() { "" } else { "-N" }))
                .collect();
            format!("{text:?} names no part; there are {}", known.join(", "))
        };
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == text) {
            return if kind.is_single() { Ok(Self::new(kind, 0)) } else { Err(wrong()) };
        }
        let (kind, number) = text.rsplit_once('-').ok_or_else(wrong)?;
        let kind = Kind::ALL.into_iter().find(|of| of.name() == kind && !of.is_single());
        let number = number.parse().ok().filter(|number| *number > 0);
        Ok(Self::new(kind.ok_or_else(wrong)?, number.ok_or_else(wrong)?))
    }
}

/// What one may do to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Cont,
    /// Its link is taken down: nothing comes through, and nothing is refused.
    Cut,
    /// It is started again, or its link is up again.
    Start,
}

impl Act {
    const ALL: [Self; 5] = [Self::Kill, Self::Stop, Self::Cont, Self::Cut, Self::Start];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cont => "cont",
            Self::Cut => "cut",
            Self::Start => "start",
        }
    }
}

impl FromStr for Act {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|act| act.word() == text);
        found.ok_or_else(|| format!("{text:?} is none of kill, stop, cont, cut, start"))
    }
}
