//! The manual pages, in roff (pure).

use roff::{Inline, Roff, bold, italic, roman};

use super::catalogue::{Catalogue, CommandSpec, OptionSpec, PRINTERS};
use super::help::{about_with_default, sentence};
use super::table::DefaultValue;

/// The section of the manual for commands.
const SECTION: &str = "1";

/// When this version was released, as CHANGELOG.md says; a test holds both together. No clock: the same version is the
/// same page.
pub(crate) const RELEASED: &str = "2026-11-26";

/// The page of the program; or of what is named: a command, or a group of commands.
pub(crate) fn page(catalogue: &Catalogue, name: Option<&str>) -> String {
    let mut page = Roff::new();
    match name.map(|name| (name, catalogue.command(name))) {
        Some((_, Some(command))) => of_command(&mut page, command),
        Some((name, None)) => {
            let group = catalogue.groups.iter().find(|group| group.name == name);
            let members = catalogue.members(name);
            let words: Vec<_> =
                members.iter().map(|command| (command.name.as_str(), command.about)).collect();
            head(&mut page, &format!("playcounts-{name}"), group.map_or("", |group| group.about));
            usage(
                &mut page,
                &[
                    bold(format!("playcounts {name}")),
                    roman(" "),
                    italic("COMMAND"),
                    roman(" [OPTIONS]"),
                ],
            );
            commands(&mut page, &words);
        }
        None => {
            let about = catalogue.about.split('.').next().unwrap_or_default();
            head(&mut page, "playcounts", about);
            usage(
                &mut page,
                &[bold("playcounts"), roman(" "), italic("COMMAND"), roman(" [OPTIONS]")],
            );
            commands(&mut page, &catalogue.first_words());
            ending(&mut page);
        }
    }
    page.render()
}

/// Whether there is a page of its own for that name.
pub(crate) fn is_page(catalogue: &Catalogue, name: &str) -> bool {
    catalogue.command(name).is_some() || catalogue.groups.iter().any(|group| group.name == name)
}

fn of_command(page: &mut Roff, command: &CommandSpec) {
    head(page, &format!("playcounts-{}", command.name.replace(' ', "-")), command.about);
    let mut words = vec![bold(format!("playcounts {}", command.name))];
    for option in
        command.options.iter().filter(|option| option.row.default == DefaultValue::Required)
    {
        words.push(roman(" "));
        words.extend(flag(option));
    }
    let positionals = command.positionals.iter();
    words.extend(positionals.flat_map(|one| [roman(" "), italic(one.placeholder())]));
    words.push(roman(" [OPTIONS]"));
    usage(page, &words);
    page.control("SH", ["DESCRIPTION"]).text([roman(sentence(command.about) + ".")]);
    if !command.positionals.is_empty() {
        page.control("SH", ["ARGUMENTS"]);
    }
    for positional in &command.positionals {
        page.control("TP", []);
        page.text([italic(positional.placeholder())]).text([roman(positional.about)]);
    }
    page.control("SH", ["OPTIONS"]);
    for (title, options) in command.sections() {
        page.control("SS", [title]);
        for option in options {
            page.control("TP", []).text(flag(option)).text([roman(about_with_default(option))]);
        }
    }
    ending(page);
}

fn head(page: &mut Roff, name: &str, about: &str) {
    let version = concat!("playcounts ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name, SECTION, RELEASED, version, "User Commands"]);
    // What `apropos` shows is one line.
    let short = about.split([';', ':', ',']).next().unwrap_or_default();
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {short}"))]);
}

fn usage(page: &mut Roff, words: &[Inline]) {
    page.control("SH", ["SYNOPSIS"]).text(words.to_vec());
}

fn flag(option: &OptionSpec) -> Vec<Inline> {
    let mut words = vec![bold(option.flag())];
    if !option.is_switch() {
        words.extend([roman(" "), italic(option.row.kind.placeholder())]);
    }
    words
}

fn commands(page: &mut Roff, words: &[(&str, &str)]) {
    page.control("SH", ["COMMANDS"]);
    for (word, about) in words {
        let printer = PRINTERS.iter().find(|printer| printer.name == *word);
        let mut name = vec![bold(*word)];
        if let Some(usage) = printer.map(|printer| printer.usage).filter(|usage| !usage.is_empty())
        {
            name.push(roman(format!(" {usage}")));
        }
        page.control("TP", []).text(name).text([roman(*about)]);
    }
}

/// What holds for all commands.
fn ending(page: &mut Roff) {
    page.control("SH", ["ENVIRONMENT"]);
    page.text([
        roman("Each option may be given as a variable: "),
        bold("PLAYCOUNTS_NUM_VIDEOS"),
        roman(" for "),
        bold("--num-videos"),
        roman(". Words of a list are separated by blanks."),
    ]);
    page.control("SH", ["FILES"]);
    page.text([
        roman("The file of "),
        bold("--config"),
        roman(" is TOML; its keys are the options with underscores, "),
        bold("num_videos"),
        roman(". Keys at the top hold for every command that has the option, those of a table with a command's name, "),
        bold("[process]"),
        roman(", for that command. A flag goes before a variable, a variable before the file."),
    ]);
    page.control("SH", ["EXIT STATUS"]);
    page.text([roman("0: done. 1: failed, and the last line on stderr says why. 2: wrong usage or configuration.")]);
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("playcounts"),
        roman("(1); "),
        bold("playcounts help"),
        roman(" lists all commands."),
    ]);
}
