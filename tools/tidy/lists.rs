//! The lists beside `scripts/tidy`: exceptions, and the floors of each crate. Lines that start with `#` are comments.

use std::fs;
use std::path::Path;

use crate::finding::Finding;

/// Where the exceptions are, from the root of the repository.
pub(crate) const EXCEPTIONS: &str = "scripts/tidy-exceptions";
/// Where the floors are.
pub(crate) const FLOORS: &str = "scripts/tidy-floors";

/// What may be longer than others: lines of `path reason` or `path::function reason`.
#[derive(Default)]
pub(crate) struct Exceptions {
    /// Each with its line.
    pub(crate) entries: Vec<(usize, String)>,
}

impl Exceptions {
    /// The list in `root`; none where there is no file.
    pub(crate) fn read(root: &Path, found: &mut Vec<Finding>) -> Exceptions {
        let mut exceptions = Exceptions::default();
        for (line, text) in lines(root, EXCEPTIONS) {
            let (key, reason) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
            if reason.trim().is_empty() {
                let wrong = format!("{key} has no reason");
                found.push(Finding {
                    file: EXCEPTIONS.into(),
                    line,
                    wrong,
                    way_out: "write it behind the name",
                });
            }
            exceptions.entries.push((line, key.to_owned()));
        }
        exceptions
    }
}

/// The rooms of each crate, floor by floor.
#[derive(Default)]
pub(crate) struct Floors {
    crates: Vec<(String, Vec<Floor>)>,
}

/// The rooms of one floor, and the line that lists them.
pub(crate) struct Floor {
    /// From 1.
    pub(crate) line: usize,
    /// A room is a directory or a file of the crate's source directory, without its ending.
    pub(crate) rooms: Vec<String>,
}

impl Floors {
    /// The list in `root`; none where there is no file.
    pub(crate) fn read(root: &Path, found: &mut Vec<Finding>) -> Floors {
        let mut floors = Floors::default();
        for (line, text) in lines(root, FLOORS) {
            if let Some(directory) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            {
                floors.crates.push((directory.to_owned(), Vec::new()));
            } else if let Some((_, list)) = floors.crates.last_mut() {
                list.push(Floor {
                    line,
                    rooms: text.split_whitespace().map(String::from).collect(),
                });
            } else {
                let wrong = "a floor of no crate".to_owned();
                found.push(Finding {
                    file: FLOORS.into(),
                    line,
                    wrong,
                    way_out: "put [directory] above it",
                });
            }
        }
        floors
    }

    /// The floors of the crate in `directory`, the highest first.
    pub(crate) fn of(&self, directory: &str) -> Option<&[Floor]> {
        self.crates.iter().find(|(name, _)| name == directory).map(|(_, floors)| floors.as_slice())
    }
}

fn lines(root: &Path, file: &str) -> Vec<(usize, String)> {
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}
