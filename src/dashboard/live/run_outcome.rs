//! How a simulation has ended, as its own dashboard shows it for as long as it is served (pure).

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::nsqds::{Finding, Severity};
use crate::model::words::grouped;

/// How a simulation has ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunOutcome {
    /// Plays that were counted.
    pub counted: u64,
    /// Plays that were to be.
    pub wanted: u64,
    /// What does not add up; null where the counts of all parts agree.
    pub fault: Option<String>,
    /// What it has printed at its end.
    pub report: Vec<RunFigure>,
}

/// A line of a simulation's report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunFigure {
    /// What it tells of.
    pub name: &'static str,
    /// What it tells.
    pub value: String,
}

impl RunOutcome {
    /// For the diagnosis.
    pub(in super::super) fn finding(&self) -> Finding {
        let text = self.text();
        match self.fault {
            None => Finding { code: "run-finished", severity: Severity::Info, text, way_out: "" },
            Some(_) => Finding {
                code: "run-not-verified",
                severity: Severity::Error,
                text,
                way_out: "Look whether somebody else published to the topic or told this dashboard counts; `playcounts verify` compares the run's files again.",
            },
        }
    }

    /// In one sentence.
    pub(in super::super) fn text(&self) -> String {
        let (counted, wanted) = (grouped(self.counted), grouped(self.wanted));
        match &self.fault {
            None => format!("Run finished: {counted} of {wanted}, verified."),
            Some(fault) => format!("Run finished: {counted} of {wanted}, NOT verified: {fault}"),
        }
    }
}
