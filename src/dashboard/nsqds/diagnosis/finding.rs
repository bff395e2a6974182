//! What a diagnosis is made of (pure).

use schemars::JsonSchema;
use serde::Serialize;

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Nothing moves.
    Error,
    /// It may soon not.
    Warning,
    /// It is so, and that is all.
    Info,
}

/// One thing that may keep plays from moving, or that all is well.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Finding {
    /// Which cause it is: `no-consumer`.
    pub(crate) code: &'static str,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// A sentence that names who and how much.
    pub(crate) text: String,
    /// What to do about it; empty where there is nothing to do.
    pub(crate) way_out: &'static str,
}
