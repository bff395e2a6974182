//! The commands with their options: what argh knows of them, joined with the table (pure).

use argh::{CommandInfoWithArgs, FlagInfo, Optionality, PositionalInfo, SubCommandInfo};

use super::kind::ValueKind;
use super::table::{self, DefaultValue, OptionRow, SECTIONS};

/// How the variables of options begin.
pub(crate) const VARIABLE_PREFIX: &str = "PLAYCOUNTS_";

/// A command that prints and ends, of which argh knows nothing: how it is written, and what it does.
pub(crate) struct Printer {
    /// Its name.
    pub(crate) name: &'static str,
    /// What stands behind its name.
    pub(crate) usage: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
}

/// Those there are.
pub(crate) const PRINTERS: [Printer; 5] = [
    Printer {
        name: "config",
        usage: "[COMMAND [OPTIONS]] | --markdown",
        about: "prints what holds for a command, and where it comes from, as a configuration file; secrets are hidden; --markdown prints the page on all options",
    },
    Printer {
        name: "completions",
        usage: "bash|zsh|fish",
        about: "prints the completions of a shell",
    },
    Printer {
        name: "man",
        usage: "[COMMAND]",
        about: "prints the manual page, or that of a command",
    },
    Printer { name: "help", usage: "[COMMAND]", about: "prints this, or the help of a command" },
    Printer { name: "version", usage: "", about: "prints the version" },
];

/// An option of a command.
#[derive(Clone, Debug)]
pub(crate) struct OptionSpec {
    /// Without dashes in front.
    pub(crate) name: &'static str,
    /// What it is for, without its default.
    pub(crate) about: &'static str,
    /// Whether it may be given more than once.
    pub(crate) is_repeatable: bool,
    /// Its line in the table.
    pub(crate) row: &'static OptionRow,
    /// The section of help that it stands in.
    pub(crate) section: usize,
    /// Whether every command has it.
    pub(crate) is_common: bool,
}

impl OptionSpec {
    fn new(command: &str, flag: &FlagInfo<'static>, is_common: bool) -> Self {
        let name = flag.long.trim_start_matches('-');
        let (section, row) =
            table::find(command, name).unwrap_or((SECTIONS.len() - 1, &table::UNKNOWN));
        let about = flag.description.split("[default:").next().unwrap_or_default().trim_end();
        let is_repeatable = matches!(flag.optionality, Optionality::Repeating);
        Self { name, about, is_repeatable, row, section, is_common }
    }

    /// As it is typed, `--num-videos`.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// Its key in a file, `num_videos`.
    pub(crate) fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its variable in the environment, `PLAYCOUNTS_NUM_VIDEOS`.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key().to_uppercase())
    }

    /// Whether it takes no value.
    pub(crate) fn is_switch(&self) -> bool {
        self.row.kind == ValueKind::Switch
    }

    /// The text of its default; `None`: there is nothing to say.
    pub(crate) fn default_text(&self) -> Option<&'static str> {
        match self.row.default {
            DefaultValue::Value(text) | DefaultValue::Unset(text) => Some(text),
            DefaultValue::Off | DefaultValue::Required => None,
        }
    }

    /// That value, or what stands for it where it is not to be seen.
    pub(crate) fn shown(&self, value: &str) -> String {
        if self.row.secrecy.hides(value) { HIDDEN.to_owned() } else { value.to_owned() }
    }
}

/// What stands where a secret would.
pub(crate) const HIDDEN: &str = "(hidden)";

/// What stands between a command's options, known by its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PositionalSpec {
    /// Its name, `file`.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    /// Whether the command needs it.
    pub(crate) is_required: bool,
    /// Whether there may be more than one; of the last only.
    pub(crate) is_repeatable: bool,
}

impl PositionalSpec {
    fn new(info: &PositionalInfo<'static>) -> Self {
        let is_repeatable = matches!(info.optionality, Optionality::Repeating);
        let is_required = is_repeatable || matches!(info.optionality, Optionality::Required);
        Self { name: info.name, about: info.description, is_required, is_repeatable }
    }

    /// As help names it: `FILE`, `[FILE]`, `ID...`.
    pub(crate) fn placeholder(&self) -> String {
        let name = self.name.to_uppercase();
        match (self.is_required, self.is_repeatable) {
            (_, true) => format!("{name}..."),
            (true, false) => name,
            (false, false) => format!("[{name}]"),
        }
    }
}

/// A command that does something.
#[derive(Clone, Debug)]
pub(crate) struct CommandSpec {
    /// As it is typed, `run`, `ledger init`.
    pub(crate) name: String,
    /// What it does.
    pub(crate) about: &'static str,
    /// Its options, section by section.
    pub(crate) options: Vec<OptionSpec>,
    /// What stands between its options, in their order.
    pub(crate) positionals: Vec<PositionalSpec>,
}

impl CommandSpec {
    fn new(name: String, info: &CommandInfoWithArgs, common: &[FlagInfo<'static>]) -> Self {
        let own = info.flags.iter().map(|flag| OptionSpec::new(&name, flag, false));
        let common = common.iter().map(|flag| OptionSpec::new(&name, flag, true));
        let mut options: Vec<_> =
            own.chain(common).filter(|option| option.name != "help").collect();
        options.sort_by_key(|option| option.section);
        let positionals = info.positionals.iter().map(PositionalSpec::new).collect();
        Self { about: info.description, positionals, options, name }
    }

    /// Whether its options are those of nsqd, and its file may be one of nsqd.
    pub(crate) fn is_nsqd(&self) -> bool {
        self.name == "broker"
    }

    /// Its words, `ledger`, `init`.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.name.split(' ').collect()
    }

    /// Its table in a file, `ledger_init`.
    pub(crate) fn table(&self) -> String {
        self.name.replace([' ', '-'], "_")
    }

    /// The option of that name, without dashes.
    pub(crate) fn option(&self, name: &str) -> Option<&OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Its options by the sections that it has, with their titles.
    pub(crate) fn sections(&self) -> Vec<(&'static str, Vec<&OptionSpec>)> {
        let of = |at| self.options.iter().filter(|option| option.section == at).collect::<Vec<_>>();
        let sections = SECTIONS.iter().enumerate().map(|(at, section)| (section.title, of(at)));
        sections.filter(|(_, options)| !options.is_empty()).collect()
    }
}

/// A name with commands of its own below it.
#[derive(Clone, Debug)]
pub(crate) struct CommandGroup {
    /// As it is typed, `ledger`.
    pub(crate) name: &'static str,
    /// What they do.
    pub(crate) about: &'static str,
}

/// Everything that may be typed.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    /// What the program is.
    pub(crate) about: &'static str,
    /// The commands that do something.
    pub(crate) commands: Vec<CommandSpec>,
    /// The names of several.
    pub(crate) groups: Vec<CommandGroup>,
}

impl Catalogue {
    /// Of what argh knows of the program, and of the options that every command has.
    pub(crate) fn new(info: CommandInfoWithArgs, common: &[FlagInfo<'static>]) -> Self {
        let mut made = Self { about: info.description, commands: Vec::new(), groups: Vec::new() };
        for SubCommandInfo { name, command } in info.commands {
            // One with commands below it may do something by itself, too: then it has options.
            let has_options = command.flags.iter().any(|flag| flag.long != "--help");
            if command.commands.is_empty() || has_options {
                made.commands.push(CommandSpec::new(name.to_owned(), &command, common));
            }
            if command.commands.is_empty() {
                continue;
            }
            made.groups.push(CommandGroup { name, about: command.description });
            for own in &command.commands {
                let name = format!("{name} {}", own.name);
                made.commands.push(CommandSpec::new(name, &own.command, common));
            }
        }
        made
    }

    /// The command of that name.
    pub(crate) fn command(&self, name: &str) -> Option<&CommandSpec> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// The commands of a group.
    pub(crate) fn members(&self, group: &str) -> Vec<&CommandSpec> {
        let is_member = |command: &&CommandSpec| {
            command
                .words()
                .split_first()
                .is_some_and(|(first, rest)| *first == group && !rest.is_empty())
        };
        self.commands.iter().filter(is_member).collect()
    }

    /// The first words that may be typed, in the order of help, with what they do.
    pub(crate) fn first_words(&self) -> Vec<(&str, &str)> {
        let mut words: Vec<(&str, &str)> = Vec::new();
        for command in &self.commands {
            let first = command.words()[0];
            let group = self.groups.iter().find(|group| group.name == first);
            let about = group.map_or(command.about, |group| group.about);
            if words.last().is_none_or(|(last, _)| *last != first) {
                words.push((first, about));
            }
        }
        words.extend(PRINTERS.iter().map(|printer| (printer.name, printer.about)));
        words
    }

    /// An option of that name that any command has.
    pub(crate) fn any_option(&self, name: &str) -> Option<&OptionSpec> {
        self.commands.iter().find_map(|command| command.option(name))
    }
}
