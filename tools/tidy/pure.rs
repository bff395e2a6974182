//! A file whose `//!` says that it is pure holds no socket, no thread and no clock.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::modules::{Crate, SourceFile};
use crate::{paths, source};

/// What of `std::net` is a value and no socket.
const ADDRESSES: [&str; 7] = [
    "AddrParseError",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];
/// Types whose `now` is a clock.
const CLOCKS: [&str; 4] = ["Instant", "SystemTime", "Timestamp", "Zoned"];

/// One finding for each line of a pure file that names one of them.
pub(crate) fn check(krate: &Crate, found: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for path in paths::paths(krate) {
        let file = &krate.files[path.file];
        if !is_pure(file) {
            continue;
        }
        if let Some(name) = impure(&path.parts)
            && seen.insert((path.file, path.line, name.clone()))
        {
            let wrong = format!("{name} in a file that says it is pure");
            let way_out = "take it as an argument, or do not call the file pure";
            found.push(Finding { file: file.path.clone(), line: path.line, wrong, way_out });
        }
    }
}

/// Whether the first paragraph of the file's documentation says that all of it is pure. `(pure)` before a comma speaks of
/// what stands before it.
pub(crate) fn is_pure(file: &SourceFile) -> bool {
    let lines = source::documentation(&file.tree.attrs).take_while(|line| !line.trim().is_empty());
    let text = lines.collect::<String>();
    let said = |mark: &str| {
        text.match_indices(mark).any(|(at, _)| !text[at + mark.len()..].starts_with(','))
    };
    said("(pure)") || text.contains("(pure: ") || text.contains("(pure, ")
}

fn impure(parts: &[String]) -> Option<String> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["std", "net", name, ..] if ADDRESSES.contains(name) => None,
        ["std", "net" | "thread", ..] => Some(parts.join("::")),
        [.., clock, "now"] if CLOCKS.contains(clock) => Some(format!("{clock}::now")),
        _ => None,
    }
}
