//! What the processors report and the points of the charts; in memory, the time is an argument (pure).

mod letters;
mod minute;
mod points;
mod reports;
mod rivals;
mod run_outcome;
mod shared_ledgers;
mod show;
mod starts;
#[cfg(test)]
mod tests;
mod times;
mod undrawn;

pub(super) use letters::LettersShown;
pub(super) use points::{LiveSeries, Measure, POINTS_MS};
pub(super) use reports::Live;
pub use run_outcome::{RunFigure, RunOutcome};
pub(super) use shared_ledgers::SharedLedgerShown;
pub(super) use show::{LiveStats, ProcessorShown, ProducerShown};
