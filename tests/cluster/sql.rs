//! What is read from the shared database.

use anyhow::{Result, bail};
use playcounts::ledger::Snapshot;

use crate::parts::Cluster;

pub(crate) fn snapshot(_cluster: &Cluster) -> Result<Snapshot> {
    bail!("not yet")
}

impl Cluster {
    pub(crate) fn commits(&self) -> Option<u64> {
        None
    }
}
