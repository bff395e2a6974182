//! What holds for each option of a command, and where it comes from: flag over environment over file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalogue::{CommandSpec, OptionSpec, VARIABLE_PREFIX};
use super::file::ConfigFile;
use super::kind::ValueKind;
use super::suggest::{hint, nearest, with_hints};
use super::table::{DefaultValue, EXCLUSIVE};
use super::typed::{OPTIONS_END, TypedCommand};

/// The longest value that an error shows, in characters.
const SHOWN_MAX: usize = 60;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// A line of the file.
    File { path: Arc<str>, line: usize },
    /// The environment.
    Variable,
    /// The command line.
    Flag,
}

impl Origin {
    /// The one with the higher rank holds.
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable => 2,
            Self::Flag => 3,
        }
    }
}

/// What holds for an option.
#[derive(Clone, Debug)]
pub(crate) struct Setting<'c> {
    /// Which.
    pub(crate) option: &'c OptionSpec,
    /// Where its values come from.
    pub(crate) origin: Origin,
    /// Its values; of the default none.
    pub(crate) values: Vec<String>,
    /// Whether its default is of no meaning, because an option is given that says the same in another way.
    pub(crate) is_set_aside: bool,
}

/// What holds for a command.
#[derive(Clone, Debug)]
pub(crate) struct Settings<'c> {
    /// Which.
    pub(crate) command: &'c CommandSpec,
    /// Each of its options, in their order.
    pub(crate) all: Vec<Setting<'c>>,
    positionals: Vec<String>,
}

/// The variables of the environment whose names begin as those of options do.
pub(crate) type Variables = BTreeMap<String, String>;

/// Those of this process. What is no UTF-8 is no value, and shows as such in the refusal.
pub(crate) fn variables() -> Variables {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect()
}

/// Says what is wrong with the value of an option, if anything is.
pub(crate) type Probe<'p> = &'p dyn Fn(&CommandSpec, &OptionSpec, &str) -> Result<(), String>;

impl<'c> Settings<'c> {
    /// Takes together what was typed, the environment, and the file. (pure)
    ///
    /// # Errors
    /// One line that says where a wrong value stands, and what it must be; or which option is missing.
    pub(crate) fn merge(
        typed: TypedCommand<'c>,
        variables: &Variables,
        file: Option<&ConfigFile>,
        probe: Probe<'_>,
    ) -> Result<Self, String> {
        let command = typed.command;
        let all = command.options.iter().map(|option| setting(&typed, variables, file, option));
        let mut made =
            Self { command, all: all.collect::<Result<_, _>>()?, positionals: Vec::new() };
        made.set_aside();
        let misses_nothing = typed.misses_nothing;
        made.positionals = typed.positionals;
        for setting in &made.all {
            setting.check(command, probe)?;
        }
        let (needed, given) = (&command.positionals, made.positionals.len());
        if let Some(missing) = needed.get(given).filter(|missing| missing.is_required)
            && !misses_nothing
        {
            let error = format!("{} needs {}", command.name, missing.placeholder());
            return Err(with_hints(&error, None, &format!("playcounts {} --help", command.name)));
        }
        let is_missing = |setting: &&Setting<'_>| {
            setting.option.row.default == DefaultValue::Required && setting.values.is_empty()
        };
        match made.all.iter().find(is_missing) {
            Some(setting) if !misses_nothing => {
                let error = format!("{} needs --{}", command.name, setting.option.name);
                Err(with_hints(&error, None, &format!("playcounts {} --help", command.name)))
            }
            _ => Ok(made),
        }
    }

    /// Leaves out what the environment or the file says of an option when one that excludes it is given nearer to the
    /// command line.
    fn set_aside(&mut self) {
        for (of, pair) in EXCLUSIVE {
            if of.is_some_and(|command| command != self.command.name) {
                continue;
            }
            let rank = |name: &str| {
                let setting = self.all.iter().find(|setting| setting.option.name == name);
                setting.map_or(0, |setting| setting.origin.rank())
            };
            let ranks = pair.map(rank);
            let highest = ranks[0].max(ranks[1]);
            for (name, rank) in pair.into_iter().zip(ranks) {
                if let Some(setting) =
                    self.all.iter_mut().find(|setting| setting.option.name == name)
                    && rank < highest
                {
                    (setting.origin, setting.is_set_aside) = (Origin::Default, true);
                    setting.values.clear();
                }
            }
        }
    }

    /// The words that argh takes: the command with its own options, and those that every command has.
    pub(crate) fn words(&self) -> (Vec<String>, Vec<String>) {
        let (mut own, mut common) = (Vec::new(), Vec::new());
        own.extend(self.command.words().into_iter().map(str::to_owned));
        for Setting { option, values, .. } in &self.all {
            let words = if option.is_common { &mut common } else { &mut own };
            for value in values {
                match (option.is_switch(), value.as_str()) {
                    (true, "false") => {}
                    (true, _) => words.push(option.flag()),
                    (false, value) => words.extend([option.flag(), value.to_owned()]),
                }
            }
        }
        if !self.positionals.is_empty() {
            own.push(OPTIONS_END.to_owned());
            own.extend(self.positionals.iter().cloned());
        }
        (own, common)
    }

    /// Whose values do not stand on the command line, and where they do.
    pub(crate) fn sources(&self) -> Sources {
        let source = |setting: &Setting<'c>| {
            let place = match &setting.origin {
                Origin::Default | Origin::Flag => return None,
                Origin::Variable => setting.option.variable(),
                Origin::File { path, line } => format!("{} ({path}:{line})", setting.option.key()),
            };
            Some((setting.option.flag(), place))
        };
        Sources(self.all.iter().filter_map(source).collect())
    }
}

/// Where the values of options stand that were not typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<(String, String)>);

impl Sources {
    /// Names in an error those places instead of flags that nobody typed.
    pub(crate) fn named_in(&self, error: &str) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let mut named = String::with_capacity(error.len());
        let mut rest = error;
        while let Some(at) = rest.find("--") {
            let (before, flag) = rest.split_at(at);
            let (flag, behind) = flag.split_at(flag.find(|c| !is_part(c)).unwrap_or(flag.len()));
            let place =
                self.0.iter().find(|(name, _)| name == flag).map(|(_, place)| place.as_str());
            named.push_str(before);
            named.push_str(place.unwrap_or(flag));
            rest = behind;
        }
        named + rest
    }
}

impl Setting<'_> {
    fn check(&self, command: &CommandSpec, probe: Probe<'_>) -> Result<(), String> {
        let Self { option, origin, values, .. } = self;
        for value in values {
            let checked = match option.is_switch() {
                true if value != "true" && value != "false" => {
                    Err("must be true or false".to_owned())
                }
                true => Ok(()),
                false => probe(command, option, value),
            };
            let Err(error) = checked else { continue };
            let meant = nearest(value, option.row.kind.words().iter().copied());
            let (shown, hint) = match option.row.secrecy.hides(value) {
                true => (option.shown(value), String::new()),
                false => (shortened(value), hint(meant.map(str::to_owned))),
            };
            return Err(match origin {
                Origin::Default | Origin::Flag => {
                    format!("--{} {shown}: {error}{hint}", option.name)
                }
                Origin::Variable => format!("{}={shown}: {error}{hint}", option.variable()),
                Origin::File { path, line } => {
                    format!("{path}:{line}: {} = \"{shown}\": {error}{hint}", option.key())
                }
            });
        }
        Ok(())
    }
}

/// What holds for one option, whatever the others say.
fn setting<'c>(
    typed: &TypedCommand<'c>,
    variables: &Variables,
    file: Option<&ConfigFile>,
    option: &'c OptionSpec,
) -> Result<Setting<'c>, String> {
    let of = |origin, values| Ok(Setting { option, origin, values, is_set_aside: false });
    if let Some(values) = typed.options.get(option.name) {
        // As `-statsd-address=` of a script whose variable is empty: nsqd takes it for nothing.
        if is_nothing(typed.command, option, values) {
            return of(Origin::Default, Vec::new());
        }
        return of(Origin::Flag, with_units(typed.command, option, values.clone()));
    }
    if let Some(value) = variables.get(&option.variable()) {
        let values =
            match option.is_repeatable && !(value.trim().is_empty() && fails_closed(option)) {
                true => value.split_whitespace().map(str::to_owned).collect(),
                false => vec![value.clone()],
            };
        return of(Origin::Variable, with_units(typed.command, option, values));
    }
    let found = file.and_then(|file| Some((file, file.entry(typed.command, option)?)));
    let Some((file, entry)) = found else { return of(Origin::Default, Vec::new()) };
    let origin = Origin::File { path: file.path.clone(), line: entry.line };
    let wrong = |error: String| format!("{}:{}: {error}", file.path, entry.line);
    let values = entry.values(typed.command, option).map_err(wrong)?;
    if is_nothing(typed.command, option, &values) {
        return of(Origin::Default, Vec::new());
    }
    if typed.command.is_nsqd() {
        check_unit(option, &values).map_err(wrong)?;
    }
    of(origin, values)
}

/// Whether nsqd takes these values as if the option were not given. (pure)
fn is_nothing(command: &CommandSpec, option: &OptionSpec, values: &[String]) -> bool {
    let kind = option.row.kind;
    // A default that is an address or a text is not what nsqd has for an empty one.
    let is_none =
        matches!(option.row.default, DefaultValue::Unset(_)) || matches!(kind, ValueKind::OneOf(_));
    command.is_nsqd()
        && kind.may_be_empty()
        && is_none
        && !fails_closed(option)
        && values.iter().all(String::is_empty)
}

/// Whether a value that is empty, or nothing but blanks, is refused: nsqd takes that of `--auth-http-address` for a server, and then
/// refuses every client. Taken for nothing it would let everybody in. (pure)
fn fails_closed(option: &OptionSpec) -> bool {
    option.name == "auth-http-address"
}

/// Says that a bare number is seconds, where a file must say so: what `playcounts config` prints is one. (pure)
fn with_units(command: &CommandSpec, option: &OptionSpec, mut values: Vec<String>) -> Vec<String> {
    let is_bare =
        |value: &str| !value.is_empty() && value.chars().all(|c| c.is_ascii_digit() || c == '.');
    if command.is_nsqd() && option.row.kind == ValueKind::Duration {
        values.iter_mut().filter(|value| is_bare(value)).for_each(|value| value.push('s'));
    }
    values
}

/// Refuses a duration without a unit, because nsqd would take it for something else. (pure)
fn check_unit(option: &OptionSpec, values: &[String]) -> Result<(), String> {
    let bare = |value: &&String| value.parse::<f64>().is_ok();
    match values.iter().find(bare) {
        Some(value) if option.row.kind == ValueKind::Duration => Err(format!(
            "{} = {value} has no unit: nsqd takes that for milliseconds, a command line for seconds; write \"{value}ms\" or \"{value}s\"",
            option.key()
        )),
        _ => Ok(()),
    }
}

/// A value as an error shows it.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
