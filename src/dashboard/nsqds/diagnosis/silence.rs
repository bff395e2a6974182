//! Which processors are not heard, and how those have ended that said so (pure).

use super::finding::{Finding, Severity};
use super::heartbeat::{Heartbeat, SILENT_MS};
use super::ledgers::LapsedProcessor;
use crate::model::words::lasting;
use crate::wire::ProcessorEnding;

/// Where others count on, one that is silent for so long is missed; until then it may just be started again.
const MISSED_MS: u64 = 30_000;

/// One that has been silent for a day is taken to be gone for good.
const GONE_MS: u64 = 86_400_000;

/// The code of the finding that a processor is not heard.
const PROCESSOR_SILENT: &str = "processor-silent";

/// That no processor is missed yet.
pub(super) fn fills() -> Finding {
    Finding {
        code: "run-fills",
        severity: Severity::Info,
        text: "The simulation fills its queue. Its processor starts when that is done.".to_owned(),
        way_out: "",
    }
}

/// Adds who is not heard, and how the last ones have ended. What becomes of those that are dead, its ledger tells.
pub(super) fn diagnose(
    processors: &[Heartbeat],
    dead: &[LapsedProcessor],
    found: &mut Vec<Finding>,
) {
    if processors.is_empty() {
        found.push(Finding {
            code: "no-processor",
            severity: Severity::Error,
            text: "No processor has reported since this dashboard started.".to_owned(),
            way_out: "Start `playcounts process` with this dashboard as its --dashboard-url.",
        });
        return;
    }
    // One that has said goodbye is not missed.
    let (ended, others): (Vec<_>, Vec<_>) =
        processors.iter().partition(|known| known.ended.is_some());
    match others.iter().map(|known| known.silent_ms).min() {
        Some(..=SILENT_MS) => {
            let is_dead = |id: &str| dead.iter().any(|dead| dead.id.to_string() == id);
            let missed = others.iter().filter(|known| (MISSED_MS..GONE_MS).contains(&known.silent_ms));
            found.extend(missed.filter(|known| !is_dead(&known.id)).map(|known| missing(known)));
        }
        Some(quietest) => found.push(Finding {
            code: PROCESSOR_SILENT,
            severity: Severity::Error,
            text: format!("No processor has reported for {}.", lasting(quietest)),
            way_out: "Check that it runs and reaches this dashboard. If it does not, its log says why.",
        }),
        None => ended.into_iter().for_each(|known| diagnose_ended(known, found)),
    }
}

/// That one is not heard while others are.
fn missing(known: &Heartbeat) -> Finding {
    Finding {
        code: PROCESSOR_SILENT,
        severity: Severity::Warning,
        text: format!(
            "Processor {} has not reported for {}; others count on.",
            known.id,
            lasting(known.silent_ms)
        ),
        way_out: "Start it again with its --data-dir: what it has counted and not yet published is there.",
    }
}

/// Says that a processor has ended in order, where none goes on.
fn diagnose_ended(known: &Heartbeat, found: &mut Vec<Finding>) {
    let (id, Some((how, at))) = (&known.id, known.ended) else { return };
    found.push(match how {
        ProcessorEnding::Finished => Finding {
            code: "processor-finished",
            severity: Severity::Info,
            text: format!("Processor {id} finished at {at}: it has counted its --num-messages."),
            way_out: "",
        },
        ProcessorEnding::Stopped => Finding {
            code: "processor-stopped",
            severity: Severity::Warning,
            text: format!("Processor {id} was stopped in order at {at}, and none counts now."),
            way_out: "Start it again to go on; until then messages wait in nsqd, and nothing is lost.",
        },
    });
}
