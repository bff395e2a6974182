//! What the arguments of `process` mean.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use nsq_protocol::ConsumerConfig;

use crate::command::shared::ledger_choice::LedgerChoice;
use crate::command::shared::output::OutputFormat;
use crate::ledger::MessageBudget;
use crate::model::config::Durability;
use crate::model::play::PlayShape;
use crate::model::time_window::TimeWindow;
use crate::nsqd::neighbours::Neighbours;
use crate::processor::OnLoss;
use crate::wire::client::DashboardClient;

/// What its status lines begin with.
pub(super) const PART: &str = "process";

/// What to count, where the counts go, and where they are kept.
pub(super) struct ProcessConfig {
    pub(super) consumer: ConsumerConfig,
    /// After which the start fails while no nsqd is there; `None`: never.
    pub(super) connect_timeout: Option<Duration>,
    /// Where to look for other processors; `None`: it may start beside them.
    pub(super) neighbours: Option<Neighbours>,
    pub(super) threads: NonZeroUsize,
    pub(super) time_window: TimeWindow,
    pub(super) shape: PlayShape,
    pub(super) update_interval: Duration,
    pub(super) realtime_below: u64,
    pub(super) dashboards: Vec<DashboardClient>,
    /// Messages in the ledger at which it ends; `None`: never.
    pub(super) target: Option<u64>,
    pub(super) data_dir: PathBuf,
    pub(super) takeover: Takeover,
    /// Take a ledger that was made on another machine.
    pub(super) adopt: bool,
    pub(super) on_loss: OnLoss,
    pub(super) durability: Durability,
    pub(super) message_budget: MessageBudget,
    pub(super) ledger: LedgerChoice,
    pub(super) format: OutputFormat,
}

/// What to do when another processor holds the data directory.
pub(super) enum Takeover {
    /// Fail.
    Never,
    /// Wait until it ends.
    WhenFree,
}
