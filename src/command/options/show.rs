//! What holds for a command as a configuration file, with where each value comes from (pure). Read back as a file it says
//! the same, but for what is hidden.

use std::fmt::Write;

use super::catalogue::{Catalogue, OptionSpec, VARIABLE_PREFIX};
use super::kind::ValueKind;
use super::settings::{Origin, Setting, Settings, Variables};
use super::suggest::{hint, nearest};
use super::table::DefaultValue;

/// Where the comments begin, unless a value is longer.
const COMMENT_COLUMN: usize = 44;

/// The lines of a command.
pub(crate) fn of_command(settings: &Settings<'_>) -> String {
    let mut text = format!("# What holds for playcounts {}.\n", settings.command.name);
    settings.all.iter().for_each(|setting| lines(&mut text, setting));
    text
}

/// The lines of a command, below its table's name.
pub(crate) fn of_table(settings: &Settings<'_>) -> String {
    let mut text = format!("[{}]\n", settings.command.table());
    let own = settings
        .all
        .iter()
        .filter(|setting| !setting.option.is_common || setting.origin != Origin::Default);
    own.for_each(|setting| lines(&mut text, setting));
    text
}

/// The variables that look like those of options and are of none.
pub(crate) fn passed_over(catalogue: &Catalogue, variables: &Variables) -> String {
    let options = || catalogue.commands.iter().flat_map(|command| &command.options);
    let known: Vec<String> = options().map(OptionSpec::variable).collect();
    let bare = |name: &str| name.trim_start_matches(VARIABLE_PREFIX).to_owned();
    let names: Vec<String> = known.iter().map(|name| bare(name)).collect();
    let mut text = String::new();
    for name in variables.keys().filter(|name| !known.contains(name)) {
        let meant = nearest(&bare(name), names.iter().map(String::as_str));
        let hint = hint(meant.map(|meant| format!("{VARIABLE_PREFIX}{meant}")));
        let _ = writeln!(text, "# {name} is passed over: no option has that name{hint}");
    }
    text
}

/// One option.
fn lines(text: &mut String, setting: &Setting<'_>) {
    let Setting { option, origin, values, is_set_aside } = setting;
    let from = match origin {
        Origin::Default => "default".to_owned(),
        Origin::Flag => "flag".to_owned(),
        Origin::Variable => option.variable(),
        Origin::File { path, line } => format!("{path}:{line}"),
    };
    let key = option.key();
    let (value, from) = match (option.row.default, origin) {
        _ if option.name == "config" && *origin != Origin::Default => {
            // No key: a file names no other.
            (format!("# {key} = {}", list(option, values)), from)
        }
        (DefaultValue::Off, Origin::Default) => (format!("{key} = false"), from),
        (_, Origin::Default) if *is_set_aside => {
            (format!("# {key} ="), "not needed here".to_owned())
        }
        (DefaultValue::Value(default), Origin::Default) => {
            (format!("{key} = {}", list(option, &[default.to_owned()])), from)
        }
        (DefaultValue::Required, Origin::Default) => {
            (format!("# {key} ="), "must be given".to_owned())
        }
        (DefaultValue::Unset(what), Origin::Default) => {
            (format!("# {key} ="), format!("default: {what}"))
        }
        _ => (format!("{key} = {}", list(option, values)), from),
    };
    let _ = writeln!(text, "{value:<COMMENT_COLUMN$}  # {from}");
}

/// Values as a file has them.
fn list(option: &OptionSpec, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| toml_value(option, value)).collect();
    if option.is_repeatable { format!("[{}]", values.join(", ")) } else { values.join(", ") }
}

fn toml_value(option: &OptionSpec, value: &str) -> String {
    let is_plain = match option.row.kind {
        ValueKind::Switch => true,
        // A number of TOML has no zeros in front, and no more digits than this.
        ValueKind::Whole(_) | ValueKind::Limit(_) => {
            value.parse::<i64>().is_ok_and(|number| number.to_string() == value)
        }
        _ => false,
    };
    if is_plain { value.to_owned() } else { toml::Value::String(option.shown(value)).to_string() }
}
