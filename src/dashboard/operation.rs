//! What the OpenAPI document says of a call, in a form that stands beside the call's handler (pure).

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::answer::Status;
use super::query::Parameter;

/// Makes the schema of one type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`, among the named ones of the document.
pub(super) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Any text.
pub(super) fn text(generator: &mut SchemaGenerator) -> Schema {
    of::<String>(generator)
}

/// One call.
pub(super) struct Operation {
    /// Its name in generated clients.
    pub(super) id: &'static str,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    /// More of it; may be empty.
    pub(super) description: &'static str,
    pub(super) parameters: &'static [&'static dyn Parameter],
    /// The JSON that it takes.
    pub(super) body: Option<SchemaOf>,
    /// What a status of 200 says.
    pub(super) success: &'static str,
    /// The types of such an answer and what they hold.
    pub(super) media: &'static [(&'static str, SchemaOf)],
    /// How it may be refused; a write also for its token, its origin and its size.
    pub(super) refusals: &'static [Status],
}

/// JSON alone.
pub(super) const JSON: &str = "application/json";

/// How most calls may be refused.
pub(super) const USUAL: &[Status] = &[Status::BadRequest, Status::Damaged, Status::Unavailable];

/// How calls about one thing may be refused.
pub(super) const USUAL_OR_UNKNOWN: &[Status] =
    &[Status::BadRequest, Status::NotFound, Status::Damaged, Status::Unavailable];

/// A call without parameters and body, to be refused as most are.
pub(super) const PLAIN: Operation = Operation {
    id: "",
    summary: "",
    description: "",
    parameters: &[],
    body: None,
    success: "",
    media: &[],
    refusals: USUAL,
};
