//! Completions of shells: a script for each, which asks this binary what completes the words so far (pure).

use super::catalogue::{Catalogue, CommandSpec, OptionSpec, PRINTERS};
use super::kind::ValueKind;

/// The shells with their scripts.
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("completions/playcounts.bash")),
    ("zsh", include_str!("completions/_playcounts")),
    ("fish", include_str!("completions/playcounts.fish")),
];

/// The name of an argument that is a file.
const FILE: &str = "file";

/// The shells there are.
pub(crate) fn shells() -> impl Iterator<Item = &'static str> {
    SCRIPTS.iter().map(|(shell, _)| *shell)
}

/// The script of a shell.
pub(crate) fn script(shell: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|(known, _)| *known == shell).map(|(_, script)| *script)
}

/// What completes the last of `words`, the words behind the program's name: a line for each candidate, with a tab and what
/// it means behind it. The first line says what else does: `words` nothing, `files` and `directories` those of the disk.
pub(crate) fn candidates(catalogue: &Catalogue, words: &[String]) -> String {
    // Bash takes `--flag=value` for three words.
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (*last, before));
    let last = if last == "=" { "" } else { last };
    let before: Vec<&str> = before.iter().copied().filter(|word| *word != "=").collect();
    let Completed { else_by, found } = complete(catalogue, &before, last);
    let mut text = format!("{else_by}\n");
    for (word, about) in found.into_iter().filter(|(word, _)| word.starts_with(last)) {
        // A line a candidate, and a short one.
        let about = about.split([';', ':', ',']).next().unwrap_or_default();
        text += &format!("{word}\t{}\n", about.replace(['\t', '\n'], " "));
    }
    text
}

/// What completes a word.
struct Completed {
    /// `words`, `files` or `directories`.
    else_by: &'static str,
    /// Words with what they mean.
    found: Vec<(String, String)>,
}

impl Completed {
    fn words(found: Vec<(String, String)>) -> Self {
        Self { else_by: "words", found }
    }
}

fn complete(catalogue: &Catalogue, before: &[&str], last: &str) -> Completed {
    let named = |words: Vec<(&str, &str)>| {
        Completed::words(
            words.into_iter().map(|(word, about)| (word.into(), about.into())).collect(),
        )
    };
    match before {
        [] => named(catalogue.first_words()),
        ["completions"] => named(SCRIPTS.iter().map(|(shell, _)| (*shell, "")).collect()),
        ["config" | "help" | "man"] => {
            let printers = PRINTERS.iter().map(|printer| printer.name);
            let of_commands = catalogue.first_words().into_iter();
            let mut words: Vec<_> = of_commands
                .filter(|(word, _)| !printers.clone().any(|name| name == *word))
                .collect();
            if before == ["config"] {
                words.extend([("--markdown", "the page on all options"), ("--config", "a file")]);
            }
            named(words)
        }
        ["config", rest @ ..] => complete(catalogue, rest, last),
        [first, rest @ ..] => match (catalogue.command(first), rest) {
            (Some(command), rest) => of_command(command, rest, last),
            (None, []) => {
                let members = catalogue.members(first).into_iter();
                named(
                    members
                        .map(|command| (command.words().pop().unwrap_or_default(), command.about))
                        .collect(),
                )
            }
            (None, [second, rest @ ..]) => match catalogue.command(&format!("{first} {second}")) {
                Some(command) => of_command(command, rest, last),
                None => named(Vec::new()),
            },
        },
    }
}

/// An option's value, or an option that may still be given.
fn of_command(command: &CommandSpec, before: &[&str], last: &str) -> Completed {
    let option = |word: &str| command.option(word.trim_start_matches('-'));
    if let Some((flag, _)) = last.split_once('=').filter(|(flag, _)| flag.starts_with('-')) {
        let Completed { else_by: _, found } =
            option(flag).map_or_else(|| Completed::words(Vec::new()), values);
        return Completed::words(
            found.into_iter().map(|(word, about)| (format!("{flag}={word}"), about)).collect(),
        );
    }
    let behind = before.last().filter(|word| word.starts_with('-')).and_then(|word| option(word));
    if let Some(option) = behind.filter(|option| !option.is_switch()) {
        return values(option);
    }
    let is_given = |option: &OptionSpec| before.iter().any(|word| *word == option.flag());
    let may_follow =
        command.options.iter().filter(|option| option.is_repeatable || !is_given(option));
    let mut found: Vec<_> =
        may_follow.map(|option| (option.flag(), option.about.to_owned())).collect();
    found.push(("--help".to_owned(), "prints help".to_owned()));
    let names_file = command.positionals.iter().any(|positional| positional.name == FILE);
    Completed { else_by: if names_file { "files" } else { "words" }, found }
}

fn values(option: &OptionSpec) -> Completed {
    let else_by = match option.row.kind {
        ValueKind::File => "files",
        ValueKind::Directory => "directories",
        _ => "words",
    };
    let found = option.row.kind.words().iter().map(|word| ((*word).to_owned(), String::new()));
    Completed { else_by, found: found.collect() }
}
