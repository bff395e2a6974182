//! Each measured figure stands on one page, and other pages quote it as the text of a link to that page, rounded at will.

use crate::finding::Finding;
use crate::modules::normal;
use crate::repository::Repository;

/// Where measured figures stand, with how they were measured.
const MEASURED: [&str; 3] = ["docs/performance.md", "docs/growth.md", "docs/cluster.md"];
/// Units that stand right behind a number. A rate, `… a second`, may have words between.
const UNITS: [&str; 11] = ["µs", "ms", "s", "min", "B", "KB", "MB", "MiB", "GB", "×", "%"];
/// Words that may stand between a number and `a second`.
const WORDS_OF_RATE: usize = 2;
/// As many digits of a number in a quote count at least: 300 may stand for 296, not for 251.
const DIGITS_MIN: usize = 2;

/// Fails on quotes that are not on the page they link to, and on measured figures outside of such links.
pub(crate) fn check(repository: &Repository, found: &mut Vec<Finding>) {
    for file in repository.files().filter(|file| is_page(file)) {
        let Some(text) = repository.text(file) else { continue };
        let mut prose = without_code(&text);
        for link in links(&prose) {
            let Some(page) = measured_page(file, &link.target) else { continue };
            let words = words(&link.text);
            let quotes = (0..words.len()).filter_map(|at| Figure::at(&words, at));
            let text = repository.text(page).unwrap_or_default();
            let missing = quotes.filter(|quote| !stands_on(&text, quote));
            found.extend(missing.map(|quote| Finding {
                file: file.into(),
                line: line_of(&prose, link.from),
                wrong: format!("{} does not stand on {page}", quote.shown),
                way_out: "quote what was measured, with its unit",
            }));
            blank(&mut prose, link.from, link.from + link.text.len());
        }
        if !MEASURED.contains(&file) {
            found.extend(unquoted(&prose).map(|(line, shown)| Finding {
                file: file.into(),
                line,
                wrong: format!("the measured figure {shown} is no quote"),
                way_out: "make it the text of a link to the page where it was measured",
            }));
        }
    }
}

fn is_page(file: &str) -> bool {
    file == "README.md" || (file.starts_with("docs/") && file.ends_with(".md"))
}

/// The page with measured figures that a link of `file` leads to.
fn measured_page(file: &str, target: &str) -> Option<&'static str> {
    let target = target.split_once('#').map_or(target, |(page, _)| page);
    let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let path = normal(&format!("{directory}/{target}"));
    MEASURED.into_iter().find(|page| *page == path)
}

/// A link as it stands in a text.
struct Link {
    /// Where its text starts, in bytes.
    from: usize,
    text: String,
    target: String,
}

fn links(prose: &str) -> Vec<Link> {
    let ends = prose.match_indices("](").map(|(at, _)| at);
    let link = |end: usize| {
        let from = prose[..end].rfind('[')? + 1;
        let (target, _) = prose[end + 2..].split_once(')')?;
        Some(Link { from, text: prose[from..end].into(), target: target.into() })
    };
    ends.filter_map(link).collect()
}

/// The text with blanks for what stands in backticks: commands, options, and the output of programs are no claims.
fn without_code(text: &str) -> String {
    let mut prose = text.to_owned();
    let mut from = 0;
    while let Some(start) = prose[from..].find('`').map(|at| from + at) {
        let ticks = prose[start..].len() - prose[start..].trim_start_matches('`').len();
        let inside = start + ticks;
        let close = "`".repeat(ticks);
        let end = prose[inside..].find(&close).map_or(prose.len(), |at| inside + at + ticks);
        blank(&mut prose, start, end);
        from = end;
    }
    prose
}

/// Puts blanks, and the lines' ends that were there, in the place of some bytes.
fn blank(text: &mut String, from: usize, to: usize) {
    let blanks: String =
        text[from..to].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(from..to, &blanks);
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// What stands between the cells of a table.
const CELL: &str = "|";

/// A word, and where it starts.
struct Word<'a> {
    at: usize,
    text: &'a str,
}

fn words(text: &str) -> Vec<Word<'_>> {
    let is_between = |c: char| c.is_whitespace() || "()[]*;:_".contains(c);
    let words = text.split(is_between).map(|word| word.trim_end_matches([',', '.']));
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    words.filter(|word| !word.is_empty()).map(|text| Word { at: start(text), text }).collect()
}

/// A number with its unit.
struct Figure {
    /// As it is written.
    shown: String,
    value: f64,
    /// How far what it stands for may be from it.
    within: f64,
    unit: Option<Unit>,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Rate,
    Symbol(&'static str),
}

impl Figure {
    /// The figure that starts at a word.
    fn at(words: &[Word<'_>], at: usize) -> Option<Figure> {
        let text = words[at].text;
        let number = text.replace(',', "");
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let value: f64 = number.parse().ok()?;
        let step = match number.split_once('.') {
            Some((_, decimals)) => 0.1_f64.powi(decimals.len() as i32),
            None => {
                let zeros = number.len() - number.trim_end_matches('0').len();
                10_f64.powi(zeros.min(number.len().saturating_sub(DIGITS_MIN)) as i32)
            }
        };
        let behind = &words[at + 1..];
        let is_million = behind.first().is_some_and(|word| word.text == "million");
        let (times, behind) = if is_million { (1e6, &behind[1..]) } else { (1.0, behind) };
        let unit = unit(behind);
        let shown = match unit {
            Some(Unit::Symbol(symbol)) => format!("{text} {symbol}"),
            Some(Unit::Rate) => {
                format!("{text}{} a second", if is_million { " million" } else { "" })
            }
            None => text.to_owned(),
        };
        Some(Figure { shown, value: value * times, within: step * times * 0.5001, unit })
    }
}

/// The unit of a number, by the words behind it.
fn unit(behind: &[Word<'_>]) -> Option<Unit> {
    let first = behind.first()?.text;
    if let Some(symbol) = UNITS.into_iter().find(|symbol| *symbol == first) {
        return Some(Unit::Symbol(symbol));
    }
    let is_other =
        |word: &Word<'_>| word.text == CELL || word.text.starts_with(|c: char| c.is_ascii_digit());
    let words = behind.iter().take_while(|word| !is_other(word)).take(WORDS_OF_RATE + 2);
    let words: Vec<&str> = words.map(|word| word.text).collect();
    let is_rate = words.contains(&"msg/s") || words.windows(2).any(|two| two == ["a", "second"]);
    is_rate.then_some(Unit::Rate)
}

/// Whether a paragraph, item or table row (with its head) of a page has the figure: a number that rounds to it, and the unit.
fn stands_on(page: &str, quote: &Figure) -> bool {
    passages(page).iter().any(|passage| {
        let passage = without_ranges(passage);
        let words = words(&passage);
        let has_unit = match quote.unit {
            None => true,
            Some(Unit::Symbol(symbol)) => words.iter().any(|word| word.text == symbol),
            Some(Unit::Rate) => (0..words.len()).any(|at| unit(&words[at..]) == Some(Unit::Rate)),
        };
        let mut figures = (0..words.len()).filter_map(|at| Figure::at(&words, at));
        has_unit && figures.any(|figure| (figure.value - quote.value).abs() <= quote.within)
    })
}

/// Without `(lowest to highest)`: what is quoted is the median before it.
fn without_ranges(passage: &str) -> String {
    let mut text = passage.to_owned();
    for (at, _) in passage.match_indices('(') {
        let length = passage[at..].find(')').unwrap_or(0);
        if passage[at..at + length].contains(" to ") {
            blank(&mut text, at, at + length);
        }
    }
    text
}

fn passages(page: &str) -> Vec<String> {
    let mut passages: Vec<String> = Vec::new();
    let mut head: Option<&str> = None;
    let mut goes_on = false;
    for line in page.lines().map(str::trim) {
        if line.starts_with('|') {
            let head = head.get_or_insert(line);
            passages.push(format!("{head} {line}"));
            goes_on = false;
            continue;
        }
        head = None;
        match passages.last_mut().filter(|_| goes_on && !line.starts_with("- ")) {
            Some(last) => last.extend([" ", line]),
            None => passages.push(line.to_owned()),
        }
        goes_on = !line.is_empty();
    }
    passages
}

/// What was measured, by its unit: a rate, µs, a percentile of a time. Each with its line.
fn unquoted(prose: &str) -> impl Iterator<Item = (usize, String)> {
    let words = words(prose);
    let mut found = Vec::new();
    for at in 0..words.len() {
        let figure = Figure::at(&words, at);
        let is_measured =
            |figure: &Figure| matches!(figure.unit, Some(Unit::Rate | Unit::Symbol("µs")));
        if let Some(figure) = figure.filter(is_measured) {
            found.push((line_of(prose, words[at].at), figure.shown));
        } else if matches!(words[at].text, "p50" | "p99")
            && let Some(figure) = words.get(at + 1).and_then(|_| Figure::at(&words, at + 1))
        {
            found.push((
                line_of(prose, words[at].at),
                format!("{} {}", words[at].text, figure.shown),
            ));
        }
    }
    found.into_iter()
}
