//! The counts of processors of the same ledger that are gone: the ledger says whose, the publishers publish them, and the
//! ledger is told what came of it. Runs on the thread `ledger`.

use std::sync::Arc;

use uuid::Uuid;

use super::dead::{DeadList, DeadProcessor, PublishedForDead, ToldOfDead};
use crate::ledger::{DeadLedger, DeadLedgers, Ledger, ToldOfLedger};

/// Those that are published here.
pub(super) struct Takeovers {
    /// Of the ledger that all of them count in.
    life: Uuid,
    list: Arc<DeadList>,
    each: Vec<(Uuid, PublishedForDead)>,
}

impl Takeovers {
    /// None yet.
    pub(super) fn new(life: Uuid, list: Arc<DeadList>) -> Self {
        Self { life, list, each: Vec::new() }
    }

    /// Tells the ledger what has come of it, and does what it says.
    pub(super) fn look(&mut self, ledger: &mut dyn Ledger) {
        let told = self.each.iter().map(|(processor, published)| told(*processor, published));
        let DeadLedgers { begun, ended } = ledger.look_at_dead(told.collect());
        self.each.retain(|(processor, _)| !ended.contains(processor));
        for dead in begun {
            let DeadLedger { processor, first_version, videos } = dead;
            let dead = DeadProcessor { processor, life: self.life, first_version, videos };
            self.each.push((processor, self.list.publish(dead)));
        }
    }
}

fn told(processor: Uuid, published: &PublishedForDead) -> ToldOfLedger {
    let each = published.told();
    let is_done = each.iter().all(|told| *told != ToldOfDead::NotYet);
    let databases = each.into_iter().filter_map(|told| match told {
        ToldOfDead::All(database) => database,
        ToldOfDead::NotYet | ToldOfDead::Refused(_) => None,
    });
    ToldOfLedger { processor, databases: databases.collect(), is_done }
}
