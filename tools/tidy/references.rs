//! What texts and comments name is in the repository: paths, links, pages.

use crate::finding::Finding;
use crate::modules::normal;
use crate::repository::Repository;
use crate::texts::{self, Line};

/// A word that starts with one of these is a path.
const STARTS: [&str; 9] = [
    "src/",
    "tests/",
    "nsq-protocol/",
    "scripts/",
    "docs/",
    "benches/",
    "examples/",
    "tools/",
    ".ci/",
];
/// A word in backticks with a slash and one of these endings is one.
const ENDINGS: [&str; 6] = [".rs", ".md", ".js", ".sql", ".sh", ".toml"];
/// What is built or fetched.
const BUILT: [&str; 2] = ["target", "tools/bin"];
/// Pages that readers of the repository do not have.
const PAGES: [&str; 3] = ["DESIGN", "RELIABILITY", "ECOSYSTEM"];
/// What stands for several things.
const OPEN: [char; 5] = ['*', '{', '<', '$', '…'];
const NOT_THERE: &str = "name what is there, or say it here";

/// Fails on names of what is not there.
pub(crate) fn check(repository: &Repository, found: &mut Vec<Finding>) {
    for file in repository.files().filter(|file| is_ours(file)) {
        let Some(text) = repository.text(file) else { continue };
        for line in texts::lines(file, &text) {
            let wrong = in_line(repository, file, &line);
            let number = line.number;
            found.extend(wrong.map(|wrong| Finding {
                file: file.into(),
                line: number,
                wrong,
                way_out: NOT_THERE,
            }));
        }
    }
}

/// What others wrote stays as it is.
fn is_ours(file: &str) -> bool {
    !file.contains("/uplot/") && !file.contains("LICENSE")
}

fn in_line<'a>(
    repository: &'a Repository,
    file: &'a str,
    line: &'a Line,
) -> impl Iterator<Item = String> + 'a {
    let paths = words(&line.text).filter(move |word| is_missing(repository, file, word));
    let paths = paths.map(|word| format!("{word} is not in the repository"));
    let ticked = ticked(&line.text).filter(move |word| is_missing_file(repository, file, word));
    let ticked = ticked.map(|word| format!("{word} is not in the repository"));
    let links = links(file, &line.text).filter(move |link| !is_there(repository, file, link));
    let links = links.map(|link| format!("the link {link} leads nowhere"));
    let pages = words(&line.text).filter(move |word| is_page(repository, word));
    let pages = pages.map(|word| format!("{word} is no page of the repository"));
    let number = case_number(line)
        .map(|number| format!("{number}: is a number of no list of the repository"));
    paths.chain(ticked).chain(links).chain(pages).chain(number)
}

/// Words as paths are written, without the dots of sentences.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "_-./*{}<>$…".contains(c)));
    words
        .map(|word| word.trim_end_matches(['.', '>', '}']).trim_start_matches('<'))
        .filter(|word| !word.is_empty())
}

fn is_missing(repository: &Repository, file: &str, word: &str) -> bool {
    let word = word.strip_prefix("./").unwrap_or(word);
    STARTS.iter().any(|start| word.starts_with(start)) && !is_there(repository, file, word)
}

/// Whole words in backticks.
fn ticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| words(word).next() == Some(*word))
}

fn is_missing_file(repository: &Repository, file: &str, word: &str) -> bool {
    let is_path = word.contains('/') && !word.starts_with('/') && !word.contains(OPEN);
    let known = STARTS.iter().any(|start| word.starts_with(start));
    is_path
        && !known
        && ENDINGS.iter().any(|ending| word.ends_with(ending))
        && !repository.has_end(word)
        && !is_there(repository, file, word)
}

/// The targets of links in a page, without places in it.
fn links<'a>(file: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split("](").skip(if file.ends_with(".md") { 1 } else { usize::MAX });
    let targets = parts.filter_map(|part| part.split_once(')')).map(|(target, _)| target);
    let targets = targets.map(|target| target.split_once('#').map_or(target, |(page, _)| page));
    targets.filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Whether the path leads to something: from the root, or from a directory around the file. Of a pattern, what stands
/// before it; a part in capitals may stand for another.
fn is_there(repository: &Repository, file: &str, path: &str) -> bool {
    let is_open = |part: &&str| part.contains(OPEN) || is_shouted(part);
    let open = path.split('/').find(is_open).and_then(|part| path.find(part));
    leads_somewhere(repository, file, path)
        || open.is_some_and(|at| leads_somewhere(repository, file, &path[..at]))
}

fn leads_somewhere(repository: &Repository, file: &str, path: &str) -> bool {
    let mut around = file;
    loop {
        around = around.rsplit_once('/').map_or("", |(directory, _)| directory);
        let whole = normal(&format!("{around}/{path}"));
        let built =
            BUILT.iter().any(|built| whole == *built || whole.starts_with(&format!("{built}/")));
        if built || repository.has(&whole) || repository.is_ignored(&whole) {
            return true;
        }
        if around.is_empty() {
            return false;
        }
    }
}

/// Whether it names a page that is not in the repository.
fn is_page(repository: &Repository, word: &str) -> bool {
    let name = word.rsplit_once('/').map_or(word, |(_, name)| name);
    PAGES.contains(&word)
        || word.contains("../shared")
        || name
            .strip_suffix(".md")
            .is_some_and(|stem| is_shouted(stem) && !repository.has_end(name))
}

fn is_shouted(name: &str) -> bool {
    name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// The number of two digits that a comment starts with, as in a list of cases.
fn case_number(line: &Line) -> Option<&str> {
    let text = line.text.trim_start().trim_start_matches("# ");
    let (number, rest) = text.split_once(':')?;
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    (line.is_comment && is_number && rest.starts_with(' ')).then_some(number)
}
