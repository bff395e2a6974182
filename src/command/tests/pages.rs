//! What is printed of all options: help, the page of the documentation, manual pages, completions.

use super::*;

/// What is printed for these words.
#[track_caller]
fn printed(words: &[&str]) -> String {
    match parse_words(words, &[]) {
        Err(EarlyExit::Asked(text)) => text,
        other => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn help_fits_a_terminal_and_has_every_option_under_its_heading() {
    let catalogue = catalogue();
    let mut pages = vec![printed(&["--help"]), printed(&["config", "--help"])];
    for command in &catalogue.commands {
        let help = printed(&[&command.words()[..], &["--help"]].concat());
        for (title, options) in command.sections() {
            let (_, section) = help.split_once(&format!("\n{title}:\n")).unwrap();
            let section = section.split("\n\n").next().unwrap();
            for option in options {
                let start = format!("\n  {}", help::with_placeholder(option));
                assert!(format!("\n{section}").contains(&start), "{start} is not in\n{help}");
            }
        }
        pages.push(help);
    }
    for page in pages {
        for line in page.lines() {
            assert!(line.chars().count() <= 80 && line == line.trim_end(), "{line:?} in\n{page}");
        }
    }
    for (word, _) in catalogue.first_words() {
        assert!(printed(&["help"]).contains(&format!("\n  {word} ")), "{word}");
    }
}

#[test]
fn the_page_of_the_documentation_is_what_the_binary_prints() {
    let page = printed(&["config", "--markdown"]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let all_features = cfg!(feature = "postgres");
    assert!(
        kept == page || !all_features,
        "docs/configuration.md is not what the options say: playcounts config --markdown > docs/configuration.md"
    );
    assert!(page.contains("| `--num-videos` | `PLAYCOUNTS_NUM_VIDEOS`<br>`num_videos` | whole number from 1 to 10000000 | `100` |"));
    // The example in it is a file that is taken.
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    check_config_text(example).unwrap();
}

#[test]
fn every_command_has_a_manual_page_with_its_options() {
    let catalogue = catalogue();
    for command in &catalogue.commands {
        let page = printed(&[&["man"], &command.words()[..]].concat());
        let name = command.name.replace(' ', "-").replace('-', "\\-");
        assert!(page.contains(&format!("playcounts\\-{name} \\- ")), "{page}");
        for option in &command.options {
            let flag = format!("\\fB{}\\fR", option.flag().replace('-', "\\-"));
            assert!(page.contains(&flag), "{flag} is not in {page}");
        }
    }
    assert!(printed(&["man"]).contains(".SH COMMANDS"));
    let changes = concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md");
    let changes = std::fs::read_to_string(changes).unwrap();
    let newest = changes
        .lines()
        .find(|line| line.starts_with("## ") && line.contains(env!("CARGO_PKG_VERSION")));
    assert!(newest.unwrap().contains(manual::RELEASED), "{newest:?}");
}

/// What completes the last of these words: what else does, and the words.
fn completed(words: &[&str]) -> (String, Vec<String>) {
    let text = printed(&[&["completions", "candidates"], words].concat());
    let mut lines = text.lines().map(|line| line.split('\t').next().unwrap().to_owned());
    (lines.next().unwrap(), lines.collect())
}

#[test]
fn completions_know_commands_options_and_values() {
    let check = |words: &[&str], else_by: &str, want: &[&str]| {
        let (by, found) = completed(words);
        assert_eq!(
            (&*by, found),
            (else_by, want.iter().map(|word| (*word).to_owned()).collect()),
            "{words:?}"
        );
    };
    check(&["pro"], "words", &["produce", "process"]);
    check(&["run", "--num-"], "words", &["--num-messages", "--num-videos", "--num-threads"]);
    check(&["run", "--num-videos", "5", "--num-"], "words", &["--num-messages", "--num-threads"]);
    check(&["process", "--nsqd-tcp-address", "a", "--nsqd-t"], "words", &["--nsqd-tcp-address"]);
    check(&["process", "--durability", "p"], "words", &["process", "power"]);
    check(&["process", "--durability", "=", "po"], "words", &["power"]);
    check(&["process", "--durability", "="], "words", &["process", "power", "none"]);
    check(&["process", "--durability=po"], "words", &["--durability=power"]);
    check(&["config", "process", "--dur"], "words", &["--durability"]);
    check(&["dashboard", "--write-token-file", ""], "files", &[]);
    check(&["dashboard", "--data-dir", ""], "directories", &[]);
    check(&["run", "--exit", "--js"], "words", &["--json"]);
    check(&["completions", ""], "words", &["bash", "zsh", "fish"]);
    check(&["titles", ""], "words", &["import", "export"]);
    check(&["titles", "import", "--j"], "files", &["--json"]);
    check(&["video", "hide", "--rea"], "words", &["--reason"]);
    check(&["nonsense", ""], "words", &[]);
    check(&["help", "dash"], "words", &["dashboard"]);
    if cfg!(feature = "postgres") {
        check(&["ledger", ""], "words", &["init", "status", "import"]);
        check(&["ledger", "status", "--l"], "words", &["--ledger", "--log-level", "--log-format"]);
    }
    assert!(completed(&[""]).1.contains(&"dead-letters".to_owned()));
    assert!(completed(&[]).1.contains(&"dead-letters".to_owned()));
}
