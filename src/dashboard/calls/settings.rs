//! `/api/settings`: how the dashboard was started, as far as its page must know.

use schemars::JsonSchema;
use serde::Serialize;

use crate::dashboard::answer::{CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;
use crate::model::unix_time::UnixMs;

pub(in super::super) const GET: Operation = Operation {
    id: "getSettings",
    summary: "How the dashboard was started",
    success: "what a page must know",
    media: &[(JSON, of::<PageSettings>)],
    ..PLAIN
};

/// How the dashboard was started.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Settings")]
pub(in super::super) struct PageSettings<'a> {
    /// Where videos are, with `{id}` in place of the percent-encoded id; null: nowhere but where `url` of a video says.
    video_url: Option<&'a str>,
    /// Whether the page was opened by signing in, and can be left by signing out.
    signed_in: bool,
    /// When the dashboard was started.
    started_at: UnixMs,
}

pub(in super::super) fn get(app: &App, call: Call<'_>) -> CallResult {
    let signed_in = app.guard.session(call.request).is_some();
    let (video_url, started_at) = (app.video_url.as_deref(), app.started_at);
    json(&PageSettings { video_url, signed_in, started_at })
}
