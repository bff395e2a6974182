//! The help that is printed, for a terminal of 80 columns (pure).

use textwrap::{Options, WordSplitter, WrapAlgorithm};

use super::catalogue::{Catalogue, CommandSpec, OptionSpec, PRINTERS};
use super::table::DefaultValue;

/// The widest line.
const WIDTH: usize = 80;

/// Where the second column begins.
const COLUMN: usize = 24;

/// What is said below the options of a command.
const BELOW: &str = "Each option may also be given as a variable, PLAYCOUNTS_NUM_VIDEOS for --num-videos, or as a key of the file that --config names, num_videos. A flag goes before a variable, a variable before the file.";

/// What is said of values below the commands.
const VALUES: &str = "`--flag value` and `--flag=value` both work. A duration is 30, 30s, 500ms, 0.5, 1m30s or 2d; a bare number is seconds. Exit status: 0 done, 1 failed, 2 wrong usage.";

/// The help of the program.
pub(crate) fn of_program(catalogue: &Catalogue) -> String {
    let mut text =
        wrapped(catalogue.about.split("`--flag").next().unwrap_or_default().trim(), "", "");
    text += "\n\nUsage: playcounts COMMAND [OPTIONS]\n\nCommands:\n";
    for (word, about) in catalogue.first_words() {
        text += &entry(word, in_short(about));
    }
    format!(
        "{text}\nplaycounts COMMAND --help tells a command's options.\n\n{}\n",
        wrapped(VALUES, "", "")
    )
}

/// The help of what is named: a command, a group of commands, or a printer.
pub(crate) fn of(catalogue: &Catalogue, name: &str) -> String {
    if let Some(command) = catalogue.command(name) {
        return of_command(command);
    }
    if let Some(printer) = PRINTERS.iter().find(|printer| printer.name == name) {
        let usage = format!("Usage: playcounts {name} {}", printer.usage);
        return format!("{}\n\n{}\n", usage.trim_end(), wrapped(&sentence(printer.about), "", ""));
    }
    let Some(group) = catalogue.groups.iter().find(|group| group.name == name) else {
        return of_program(catalogue);
    };
    let mut text = format!(
        "Usage: playcounts {name} COMMAND [OPTIONS]\n\n{}\n\nCommands:\n",
        wrapped(&sentence(group.about), "", "")
    );
    for command in catalogue.members(name) {
        text += &entry(command.words().pop().unwrap_or_default(), in_short(command.about));
    }
    format!("{text}\nplaycounts {name} COMMAND --help tells a command's options.\n")
}

/// How a command is typed: what it must have, and that it takes more.
pub(crate) fn usage(command: &CommandSpec) -> String {
    let required =
        command.options.iter().filter(|option| option.row.default == DefaultValue::Required);
    let required = required.map(|option| format!(" {}", with_placeholder(option)));
    let positionals =
        command.positionals.iter().map(|positional| format!(" {}", positional.placeholder()));
    let more: String = required.chain(positionals).collect();
    format!("playcounts {}{more} [OPTIONS]", command.name)
}

fn of_command(command: &CommandSpec) -> String {
    let about = wrapped(&sentence(command.about), "", "");
    let mut text = format!("Usage: {}\n\n{about}\n", usage(command));
    if !command.positionals.is_empty() {
        text += "\nArguments:\n";
    }
    for positional in &command.positionals {
        text += &entry(&positional.placeholder(), positional.about);
    }
    for (title, options) in command.sections() {
        text += &format!("\n{title}:\n");
        for option in options {
            text += &entry(&with_placeholder(option), &about_with_default(option));
        }
    }
    format!("{text}\n{}\n", wrapped(BELOW, "", ""))
}

/// An option as help names it, `--num-videos N`.
pub(crate) fn with_placeholder(option: &OptionSpec) -> String {
    format!("{} {}", option.flag(), option.row.kind.placeholder()).trim_end().to_owned()
}

/// What an option is for, with its default.
pub(crate) fn about_with_default(option: &OptionSpec) -> String {
    let default = option.default_text().map(|default| format!(" [default: {default}]"));
    format!("{}{}", option.about, default.unwrap_or_default())
}

/// A text of an option or command as a sentence begins.
pub(crate) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}

/// What a command does, without how.
pub(crate) fn in_short(about: &str) -> &str {
    about.split([';', ':']).next().unwrap_or_default()
}

/// A name with what it means beside it, or below where the name is too long.
fn entry(name: &str, about: &str) -> String {
    let indent = " ".repeat(COLUMN);
    let first = format!("  {name:<width$}", width = COLUMN - 2);
    match first.chars().count() > COLUMN || name.len() + 2 > COLUMN - 2 {
        true => format!("  {name}\n{}\n", wrapped(about, &indent, &indent)),
        false => format!("{}\n", wrapped(about, &first, &indent)),
    }
}

fn wrapped(text: &str, first: &str, others: &str) -> String {
    let options = Options::new(WIDTH)
        .initial_indent(first)
        .subsequent_indent(others)
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::fill(text, options)
}
