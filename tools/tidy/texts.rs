//! What people read in a file: all of a page or a script, the comments of code.

/// One line of text for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    /// Without the marks of a comment.
    pub(crate) text: String,
    /// Whether a comment starts here, or goes on from the line above.
    pub(crate) is_comment: bool,
}

/// The lines for people in a file, by the ending of its name; none where the kind is not known.
pub(crate) fn lines(file: &str, text: &str) -> Vec<Line> {
    let name = file.rsplit_once('/').map_or(file, |(_, name)| name);
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("md") => all(text),
        Some("rs") => comments(text, &RUST),
        Some("js" | "mjs" | "go") => comments(text, &SCRIPT),
        Some("css") => comments(text, &STYLE),
        Some("sql") => after(text, "--"),
        Some("toml" | "yml" | "py") => after(text, "#"),
        _ if text.starts_with("#!") => all(text),
        _ => Vec::new(),
    }
}

fn all(text: &str) -> Vec<Line> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| Line {
            number: index + 1,
            text: line.into(),
            is_comment: line.starts_with("# "),
        })
        .collect()
}

/// What stands after a mark at the start of a line, or behind a space.
fn after(text: &str, mark: &str) -> Vec<Line> {
    let behind = format!(" {mark} ");
    let comment = |line: &str| {
        let line = line.trim_start();
        let text = line
            .strip_prefix(mark)
            .or_else(|| line.split_once(&behind).map(|(_, comment)| comment));
        text.map(str::to_owned)
    };
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            Some(Line { number: index + 1, text: comment(line)?, is_comment: true })
        })
        .collect()
}

/// How a language writes comments and texts.
struct Syntax {
    line: Option<&'static str>,
    quotes: &'static [char],
    /// Block comments in block comments, raw strings, and `'` as the start of a lifetime.
    rust: bool,
}

const RUST: Syntax = Syntax { line: Some("//"), quotes: &['"'], rust: true };
const SCRIPT: Syntax = Syntax { line: Some("//"), quotes: &['"', '\'', '`'], rust: false };
const STYLE: Syntax = Syntax { line: None, quotes: &['"', '\''], rust: false };

fn comments(text: &str, syntax: &Syntax) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut number = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if syntax.line.is_some_and(|mark| rest.starts_with(mark)) {
            let length = rest.find('\n').unwrap_or(rest.len());
            lines.push(comment(number, &rest[..length]));
            length
        } else if rest.starts_with("/*") {
            let length = block(rest, syntax.rust);
            lines.extend(
                rest[..length]
                    .lines()
                    .enumerate()
                    .map(|(index, line)| comment(number + index, line)),
            );
            length
        } else if syntax.quotes.contains(&first) {
            quoted(rest, first)
        } else if syntax.rust {
            raw(rest).unwrap_or_else(|| if first == '\'' { character(rest) } else { word(rest) })
        } else {
            first.len_utf8()
        };
        number += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    lines
}

fn comment(number: usize, text: &str) -> Line {
    let marks = |c: char| matches!(c, '/' | '!' | '*');
    let text = text.trim().trim_start_matches(marks).trim_end_matches("*/");
    Line { number, text: text.into(), is_comment: true }
}

/// The length of a block comment.
fn block(text: &str, nested: bool) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 || !nested {
                return at;
            }
        } else if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a text in quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// The length of a raw string, if one starts here.
fn raw(text: &str) -> Option<usize> {
    let start = ["br", "cr", "r"].iter().find(|start| text.starts_with(**start))?.len();
    let hashes = text[start..].len() - text[start..].trim_start_matches('#').len();
    let inside = text[start + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(start + hashes + 1 + length)
}

/// The length of a character literal, or of the `'` of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3.min(text.len())..].find('\'').map_or(1, |at| 3 + at + 1),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        None => 1,
    }
}

/// The length of a name or number, or of one other character: an `r` inside a name starts no raw string.
fn word(text: &str) -> usize {
    let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    if length > 0 { length } else { text.chars().next().map_or(1, char::len_utf8) }
}
