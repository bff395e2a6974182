//! The lines that a command prints: its result on stdout, all else on stderr. All of it passes through [`PlainText`],
//! because it may quote what strangers say.

use std::fmt::{Arguments, Display};
use std::io::{self, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::command::shared::log as logs;
use crate::model::plain_text::PlainText;
use crate::model::words::many;
use crate::runtime::notify;

/// The most names in a status line.
const LISTED_MAX: usize = 3;

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// For people.
    Text,
    /// One JSON object on one line, and nothing else on stdout.
    Json,
}

impl OutputFormat {
    /// What the switch `--json` asks for.
    pub(crate) fn from_switch(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// A line for people, on stderr, in the format of the log.
pub(crate) fn note(line: Arguments<'_>) {
    logs::write(log::Level::Info, line);
}

/// What a part is connected to, or that this has changed, in one line on stderr: `process: …`; the service manager is told, too.
pub(crate) fn status(part: &str, text: Arguments<'_>) {
    note(format_args!("{part}: {text}"));
    notify::status(&text.to_string());
}

/// `nsqd a:1`, `2 nsqds (a:1, b:1)`, `9 nsqds (a:1, b:1, c:1, …)`.
pub(crate) fn listed(what: &str, names: &[impl AsRef<str>]) -> String {
    if let [one] = names {
        return format!("{what} {}", one.as_ref());
    }
    let shown: Vec<_> = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    let more = if names.len() > LISTED_MAX { ", …" } else { "" };
    format!("{} ({}{more})", many(names.len() as u64, what), shown.join(", "))
}

/// Lines of the result, on stdout.
///
/// # Errors
/// When stdout is closed or its disk is full.
pub(crate) fn print(line: Arguments<'_>) -> Result<()> {
    write_result(PlainText::Lines(line))
}

fn write_result(text: impl Display) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write the result to stdout")
}

/// The result as one line of JSON.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    write_result(PlainText::Json(serde_json::to_string(value)?))
}

/// The result in the format that is asked for.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_report(
    format: OutputFormat,
    report: &(impl Serialize + Display),
) -> Result<()> {
    match format {
        OutputFormat::Json => print_json(report),
        OutputFormat::Text => print(format_args!("{report}")),
    }
}

/// A configuration as the dashboard's page shows it: names and values.
pub(crate) fn configuration(shown: &[(&str, String)]) -> serde_json::Value {
    shown.iter().map(|(name, value)| serde_json::json!({ "name": name, "value": value })).collect()
}
