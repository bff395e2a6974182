//! What a consumer tells of nsqlookupds and of the nsqds that they name. `nsq-dial` writes it, any thread reads it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::error::Error;

/// nsqds without a connection that statistics name; of the others they tell the number.
const MAX_SHOWN: usize = 100;

/// What one nsqlookupd told, as statistics show it.
///
/// # Example
/// ```
/// fn silent(stats: &nsq_protocol::ConsumerStats) {
///     for lookupd in stats.lookupds.iter().filter(|of| !of.answering) {
///         println!("{}: {}", lookupd.address, lookupd.last_error.as_deref().unwrap_or("not asked yet"));
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, Serialize)]
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
///
/// # Example
/// ```
/// fn out_of_reach(stats: &nsq_protocol::ConsumerStats) {
///     for nsqd in &stats.unreachable {
///         println!("{} names {}: {}", nsqd.lookupd, nsqd.address, nsqd.last_error);
///     }
/// }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Unreachable {
    /// Where it was tried.
    pub address: String,
    /// The nsqlookupd that named it first.
    pub lookupd: String,
    /// Why it did not work.
    pub last_error: String,
}

/// How discovery goes, kept by its threads for whoever asks.
pub(super) struct DiscoveryStats {
    /// By their numbers.
    pub(super) lookupds: BTreeMap<usize, LookupdStats>,
    /// The nsqlookupd that named it first, and why it did not work.
    pub(super) unreachable: HashMap<Arc<str>, (Arc<str>, Error)>,
}

impl DiscoveryStats {
    /// Of nsqlookupds that were not asked yet.
    pub(super) fn new(lookupds: &[String]) -> Self {
        let mut stats = Self { lookupds: BTreeMap::new(), unreachable: HashMap::new() };
        lookupds.iter().enumerate().for_each(|(number, address)| stats.add(number, address));
        stats
    }

    /// One more is asked.
    pub(super) fn add(&mut self, number: usize, address: &str) {
        let stats = LookupdStats { address: address.to_owned(), ..LookupdStats::default() };
        self.lookupds.insert(number, stats);
    }

    /// As statistics show it.
    pub(super) fn unreachable(&self) -> Vec<Unreachable> {
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
