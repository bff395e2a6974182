//! What several commands need: values of options, which ledger, the nsqds that options name, HTTPS of a dashboard, whom is
//! trusted over TLS, a run's files and their check, reports, what a part says of its connections, the log,
//! the lines that commands print, and files in CSV.

pub(super) mod csv;
pub(super) mod https;
pub(super) mod ledger_choice;
pub(super) mod log;
pub(super) mod nsq;
pub(super) mod output;
pub(super) mod report;
pub(super) mod run_files;
pub(super) mod status;
pub(super) mod tls;
pub(super) mod token;
pub(super) mod values;
pub(super) mod verification;
