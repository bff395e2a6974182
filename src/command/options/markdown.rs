//! The page of the documentation on all options, in Markdown (pure).

use std::fmt::Write;

use super::catalogue::{Catalogue, CommandSpec, OptionSpec};
use super::help::{sentence, usage};
use super::table::DefaultValue;

/// What stands above the tables.
const HEAD: &str = include_str!("configuration-head.md");

/// The whole page.
pub(crate) fn page(catalogue: &Catalogue) -> String {
    let mut text = HEAD.to_owned();
    let common = catalogue.commands.first().into_iter().flat_map(|command| &command.options);
    let common: Vec<_> = common.filter(|option| option.is_common).collect();
    let _ = write!(text, "\n## Every command\n\n{}", table(&common));
    for command in &catalogue.commands {
        let _ = write!(text, "\n{}", of_command(command));
    }
    text
}

fn of_command(command: &CommandSpec) -> String {
    let own: Vec<_> = command.options.iter().filter(|option| !option.is_common).collect();
    let about = escaped(&sentence(command.about));
    let (name, table_name, usage) = (&command.name, command.table(), usage(command));
    format!(
        "## {name}\n\n{about}.\n\n`{usage}`; its table in a file is `[{table_name}]`.\n\n{}",
        table(&own)
    )
}

fn table(options: &[&OptionSpec]) -> String {
    let mut text = String::from(
        "| option | variable and key | value | default | what it does |\n|---|---|---|---|---|\n",
    );
    for option in options {
        let default = match option.row.default {
            DefaultValue::Required => "must be given".to_owned(),
            DefaultValue::Off => "`false`".to_owned(),
            DefaultValue::Value(value) => format!("`{value}`"),
            DefaultValue::Unset(what) => escaped(what),
        };
        let repeatable = if option.is_repeatable { "list of " } else { "" };
        let key = match option.name {
            // A file names no other.
            "config" => String::new(),
            _ => format!("<br>`{}`", option.key()),
        };
        let _ = writeln!(
            text,
            "| `{}` | `{}`{key} | {repeatable}{} | {default} | {} |",
            option.flag(),
            option.variable(),
            escaped(&option.row.kind.described()),
            escaped(option.about),
        );
    }
    text
}

/// Text in which nothing is taken for a mark of a table or for HTML.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}
