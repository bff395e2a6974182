//! What several commands need: a run's files and their check, reports.

pub mod report;
pub mod run_files;
