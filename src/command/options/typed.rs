//! What the words of a command line ask for (pure). `--flag value`, `--flag=value`, and as NSQ's tools take them
//! `-flag value` and `-switch=true`. Behind `--` no word is an option.

use std::collections::BTreeMap;

use super::catalogue::{Catalogue, CommandSpec, OptionSpec, PRINTERS};
use super::kind::go_bool;
use super::suggest::{nearest, with_hints};

/// The words that ask for help.
const HELP: [&str; 3] = ["--help", "-h", "-help"];

/// The words that ask for the version.
const VERSION: [&str; 3] = ["--version", "-V", "-version"];

/// Behind it no word is an option: an id may begin with a dash.
pub(crate) const OPTIONS_END: &str = "--";

/// What is asked for.
#[derive(Debug)]
pub(crate) enum TypedRequest<'c> {
    /// A command is to run.
    Run(TypedCommand<'c>),
    /// What holds for a command is to be shown.
    Config(TypedCommand<'c>),
    /// What holds for each command is to be shown, with that file.
    ConfigOfAll(Option<String>),
    /// The page on all options.
    Markdown,
    /// The completions of a shell.
    Completions(String),
    /// What completes these words.
    Candidates(Vec<String>),
    /// The manual page of the program, or of what is named: a command or a group.
    Manual(Option<String>),
    /// The help of the program, or of what is named: a command, a group, or a printer.
    Help(Option<String>),
    /// The version.
    Version,
    /// The version of the broker, as nsqd tells its own.
    NsqdVersion,
}

/// A command with what was typed behind it.
#[derive(Debug)]
pub(crate) struct TypedCommand<'c> {
    /// Which.
    pub(crate) command: &'c CommandSpec,
    /// The values of its options, by their names; of a switch `true` or `false`.
    pub(crate) options: BTreeMap<&'c str, Vec<String>>,
    /// What stood between them.
    pub(crate) positionals: Vec<String>,
    /// Whether it is to be shown only: what must be given is not missed then.
    pub(crate) misses_nothing: bool,
}

impl<'c> TypedCommand<'c> {
    /// A command with nothing typed behind it.
    pub(crate) fn of(command: &'c CommandSpec) -> Self {
        let (options, positionals) = (BTreeMap::new(), Vec::new());
        Self { command, options, positionals, misses_nothing: false }
    }
}

/// Why words of a command are not taken.
enum ParseStop {
    /// Help is asked for.
    Help,
    /// The version is asked for.
    Version,
    /// They are wrong, as the line says.
    Wrong(String),
}

/// Reads the words behind the program's name.
///
/// # Errors
/// One line that says which word is wrong, what was probably meant, and where to look on.
pub(crate) fn read<'c>(
    catalogue: &'c Catalogue,
    words: &[String],
) -> Result<TypedRequest<'c>, String> {
    let Some((first, rest)) = words.split_first() else { return Ok(TypedRequest::Help(None)) };
    match (first.as_str(), rest) {
        (word, _) if HELP.contains(&word) => Ok(TypedRequest::Help(None)),
        (word, _) if VERSION.contains(&word) || word == "version" => Ok(TypedRequest::Version),
        (word, _) if word.starts_with('-') => Err(format!(
            "{word} stands in front of the command: put it behind; see playcounts --help"
        )),
        ("help", rest) => about(catalogue, rest).map(TypedRequest::Help),
        (printer, rest) if PRINTERS.iter().any(|known| known.name == printer) => {
            match rest.iter().find(|word| HELP.contains(&word.as_str())) {
                Some(_) => Ok(TypedRequest::Help(Some(printer.to_owned()))),
                None if printer == "config" => config(catalogue, rest),
                None if printer == "man" => about(catalogue, rest).map(TypedRequest::Manual),
                None => completions(rest),
            }
        }
        _ => {
            let (command, rest) = match command(catalogue, words) {
                Ok(found) => found,
                Err(ParseStop::Help) => return Ok(TypedRequest::Help(Some(first.clone()))),
                Err(ParseStop::Version) => return Ok(TypedRequest::Version),
                Err(ParseStop::Wrong(error)) => return Err(error),
            };
            typed_or_asked(command, rest, TypedRequest::Run)
        }
    }
}

/// A command's words, or the help or version that they ask for.
fn typed_or_asked<'c>(
    command: &'c CommandSpec,
    words: &[String],
    request: impl FnOnce(TypedCommand<'c>) -> TypedRequest<'c>,
) -> Result<TypedRequest<'c>, String> {
    match options(command, words) {
        Ok(typed) => Ok(request(typed)),
        Err(ParseStop::Help) => Ok(TypedRequest::Help(Some(command.name.clone()))),
        Err(ParseStop::Version) if command.name == "broker" => Ok(TypedRequest::NsqdVersion),
        Err(ParseStop::Version) => Ok(TypedRequest::Version),
        // Who asks for help is not told what else is wrong.
        Err(ParseStop::Wrong(_)) if words.iter().any(|word| HELP.contains(&word.as_str())) => {
            Ok(TypedRequest::Help(Some(command.name.clone())))
        }
        Err(ParseStop::Wrong(error)) => Err(error),
    }
}

/// The command that the first words name, and the words behind.
fn command<'c, 'w>(
    catalogue: &'c Catalogue,
    words: &'w [String],
) -> Result<(&'c CommandSpec, &'w [String]), ParseStop> {
    let first = &words[0];
    let both = words.get(1).and_then(|second| catalogue.command(&format!("{first} {second}")));
    if let Some(command) = both {
        return Ok((command, &words[2..]));
    }
    if let Some(command) = catalogue.command(first) {
        return Ok((command, &words[1..]));
    }
    let members = catalogue.members(first);
    if members.is_empty() {
        let known = catalogue.first_words().into_iter().map(|(word, _)| word);
        let meant = nearest(first, known).map(str::to_owned);
        let error = format!("there is no command {first:?}");
        return Err(ParseStop::Wrong(with_hints(&error, meant, "playcounts --help")));
    }
    let see = format!("playcounts {first} --help");
    let names: Vec<&str> = members.iter().filter_map(|command| command.words().pop()).collect();
    let Some(second) = words.get(1) else {
        let error = format!("{first} needs a command: {}", names.join(", "));
        return Err(ParseStop::Wrong(with_hints(&error, None, &see)));
    };
    match second.as_str() {
        word if HELP.contains(&word) || word == "help" => return Err(ParseStop::Help),
        word if VERSION.contains(&word) => return Err(ParseStop::Version),
        _ => {}
    }
    let meant = nearest(second, names).map(|name| format!("{first} {name}"));
    let error = format!("there is no command \"{first} {second}\"");
    Err(ParseStop::Wrong(with_hints(&error, meant, &see)))
}

/// The words behind a command.
fn options<'c>(command: &'c CommandSpec, words: &[String]) -> Result<TypedCommand<'c>, ParseStop> {
    let mut typed = TypedCommand::of(command);
    let mut words = words.iter().enumerate().peekable();
    while let Some((at, word)) = words.next() {
        match word.as_str() {
            word if HELP.contains(&word) => return Err(ParseStop::Help),
            "help" if at == 0 => return Err(ParseStop::Help),
            word if VERSION.contains(&word) => return Err(ParseStop::Version),
            OPTIONS_END if !command.positionals.is_empty() => {
                words.try_for_each(|(_, word)| positional(&mut typed, word))?;
                break;
            }
            _ => {}
        }
        let Some(name) = option_name(word) else {
            positional(&mut typed, word)?;
            continue;
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(option) = command.option(name) else {
            let known = command.options.iter().map(|option| option.name);
            let meant = nearest(name, known).map(|meant| format!("--{meant}"));
            let behind = behind(command);
            let error = format!("{} has no option --{name}{behind}", command.name);
            return Err(ParseStop::Wrong(with_hints(&error, meant, &see(command))));
        };
        let value = match value {
            Some(value) => given(option, value).map_err(|error| wrong(command, error))?,
            None if option.is_switch() => "true".to_owned(),
            None if option.row.kind.stands_alone() => {
                let known = option.row.kind.words();
                let value = words.next_if(|(_, next)| known.contains(&next.as_str()));
                value.map_or_else(|| "true".to_owned(), |(_, value)| value.clone())
            }
            None => {
                let is_option = |word: &str| {
                    option_name(word).is_some_and(|name| command.option(name).is_some())
                };
                match words.next_if(|(_, next)| !is_option(next)) {
                    Some((_, value)) => value.clone(),
                    None => return Err(wrong(command, format!("--{name} needs a value"))),
                }
            }
        };
        let values = typed.options.entry(option.name).or_default();
        values.push(value);
        if values.len() > 1 && !option.is_repeatable && !option.is_switch() {
            return Err(wrong(command, format!("--{name} is given twice")));
        }
    }
    // Of a switch the last holds, as of NSQ's tools.
    for (name, values) in &mut typed.options {
        if command.option(name).is_some_and(|option| option.is_switch()) {
            values.drain(..values.len() - 1);
        }
    }
    Ok(typed)
}

/// The value of an option behind its `=`.
fn given(option: &OptionSpec, value: &str) -> Result<String, String> {
    match go_bool(value) {
        Some(is_on) if option.is_switch() || option.row.kind.stands_alone() => Ok(is_on.to_owned()),
        None if option.is_switch() => {
            let name = option.name;
            Err(format!("--{name} takes no value but true or false, and got {value:?}"))
        }
        _ => Ok(value.to_owned()),
    }
}

/// Where a word stands that begins as an option does and is none.
fn behind(command: &CommandSpec) -> String {
    match command.positionals.is_empty() {
        true => String::new(),
        false => format!(" (what is none stands behind {OPTIONS_END})"),
    }
}

/// Takes a word that is no option.
fn positional(typed: &mut TypedCommand<'_>, word: &str) -> Result<(), ParseStop> {
    let known = &typed.command.positionals;
    let has_room = typed.positionals.len() < known.len()
        || known.last().is_some_and(|last| last.is_repeatable);
    if !has_room {
        return Err(wrong(typed.command, format!("nothing is known to do with {word:?}")));
    }
    typed.positionals.push(word.to_owned());
    Ok(())
}

/// The name in a word that is an option, with what stands behind its `=`.
fn option_name(word: &str) -> Option<&str> {
    let is_name =
        |text: &&str| text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-').filter(is_name))?;
    Some(name)
}

fn see(command: &CommandSpec) -> String {
    format!("playcounts {} --help", command.name)
}

fn wrong(command: &CommandSpec, error: String) -> ParseStop {
    ParseStop::Wrong(with_hints(&error, None, &see(command)))
}

/// Whom `help` or `man` asks about: nobody, a command or a group.
fn about(catalogue: &Catalogue, words: &[String]) -> Result<Option<String>, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = words.join(" ");
    match words.as_slice() {
        [] => Ok(None),
        [word] if HELP.contains(word) => Ok(None),
        [word] if PRINTERS.iter().any(|printer| printer.name == *word) => Ok(Some(name)),
        _ if catalogue.command(&name).is_some() || !catalogue.members(&name).is_empty() => {
            Ok(Some(name))
        }
        _ => {
            let known = catalogue.commands.iter().map(|command| command.name.as_str());
            let meant = nearest(&name, known).map(str::to_owned);
            Err(with_hints(&format!("there is no command {name:?}"), meant, "playcounts --help"))
        }
    }
}

/// The words behind `config`.
fn config<'c>(catalogue: &'c Catalogue, words: &[String]) -> Result<TypedRequest<'c>, String> {
    const CONFIG: &str = "--config";
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(TypedRequest::ConfigOfAll(None)),
        [word, ..] if VERSION.contains(word) => Ok(TypedRequest::Version),
        ["--markdown"] => Ok(TypedRequest::Markdown),
        [CONFIG, file] => Ok(TypedRequest::ConfigOfAll(Some((*file).to_owned()))),
        [word] if word.starts_with("--config=") => {
            Ok(TypedRequest::ConfigOfAll(word.split_once('=').map(|(_, file)| file.to_owned())))
        }
        [word, ..] if word.starts_with('-') => Err(format!(
            "config takes {word} behind the command that it is an option of; see playcounts config --help"
        )),
        _ => match command(catalogue, words) {
            Ok((command, rest)) => typed_or_asked(command, rest, TypedRequest::Config),
            Err(ParseStop::Wrong(error)) => Err(error),
            Err(ParseStop::Help) => Ok(TypedRequest::Help(Some("config".to_owned()))),
            Err(ParseStop::Version) => Ok(TypedRequest::Version),
        },
    }
}

/// The words behind `completions`.
fn completions<'c>(words: &[String]) -> Result<TypedRequest<'c>, String> {
    match words {
        [first, rest @ ..] if first == "candidates" => Ok(TypedRequest::Candidates(rest.to_vec())),
        [shell] => Ok(TypedRequest::Completions(shell.clone())),
        _ => {
            Err("completions needs one shell: bash, zsh or fish; see playcounts completions --help"
                .to_owned())
        }
    }
}
