//! `/api/openapi.json`: what this program's calls are.

use schemars::json_schema;

use crate::dashboard::answer::CallResult;
use crate::dashboard::app::App;
use crate::dashboard::operation::{JSON, Operation, PLAIN};
use crate::dashboard::query::Call;

pub(in super::super) const GET: Operation = Operation {
    id: "getOpenApi",
    summary: "This document",
    success: "OpenAPI 3.1",
    media: &[(JSON, |_| json_schema!({ "type": "object" }))],
    refusals: &[],
    ..PLAIN
};

pub(in super::super) fn get(app: &App, call: Call<'_>) -> CallResult {
    Ok(app.document.answer(call.request))
}
