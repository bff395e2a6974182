//! What is wrong with what was counted, although plays move (pure).

use uuid::Uuid;

use super::{Finding, Severity};
use crate::wire::CrowdedPlays;

/// What the parts told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedTold {
    /// Producers as which plays are counted that they never made, and how many.
    pub(crate) foreign: Vec<(Uuid, u64)>,
    /// Processors that know plays by their messages only, and which.
    pub(crate) crowded: Vec<(Uuid, CrowdedPlays)>,
    /// Why counts were refused within the last minute, if any were.
    pub(crate) refused: Option<String>,
}

/// Adds what it finds.
pub(super) fn diagnose(told: &CountedTold, found: &mut Vec<Finding>) {
    for (producer, plays) in &told.foreign {
        found.push(Finding {
            code: "foreign-plays",
            severity: Severity::Warning,
            text: format!("Producer {producer}: {plays} plays are counted that it never made."),
            way_out: "Look who publishes under its id, or whether its outbox was put back from a copy; it goes on under another id.",
        });
    }
    for (processor, CrowdedPlays { producer, plays }) in &told.crowded {
        found.push(Finding {
            code: "crowded-producer",
            severity: Severity::Warning,
            text: format!(
                "Processor {processor} knows {plays} plays by their messages only, the newest of producer {producer}: its \
                 numbers have too many holes, so a play that it publishes again counts again."
            ),
            way_out: "Number each producer's plays 0, 1, 2, … without a gap, or leave producer and seq out.",
        });
    }
    if let Some(reason) = &told.refused {
        found.push(Finding {
            code: "counts-refused",
            severity: Severity::Error,
            text: format!("Counts that a processor told were refused: {reason}"),
            way_out: "Find who tells them; `playcounts reset` begins anew, and real processors tell all again.",
        });
    }
}
