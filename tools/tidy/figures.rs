//! The figures of a tree: how large, how knotted, how high.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::finding::Finding;
use crate::graph::{self, Arrows};
use crate::modules::Crate;
use crate::repository::Repository;
use crate::resolve::Imports;
use crate::{CRATES, circles, floors, names, resolve, sizes};

/// The figures of each crate, as text.
pub(crate) fn figures(repository: &Repository) -> String {
    let mut out = String::new();
    for (directory, name) in CRATES {
        let mut found: Vec<Finding> = Vec::new();
        let krate = Crate::read(repository, directory, name, &mut found);
        let imports = resolve::imports(&krate);
        let _ = writeln!(out, "{directory}/");
        show_sizes(&krate, &mut out);
        show_circles(&krate, &imports, &mut out);
        show_names(&krate, &mut out);
        show_rooms(&krate, &imports, &mut out);
    }
    out
}

fn show_sizes(krate: &Crate, out: &mut String) {
    let (mut files, mut functions, mut long) = (Vec::new(), Vec::new(), Vec::new());
    for file in &krate.files {
        let lines = file.text.lines().count();
        if lines > sizes::FILE_MAX {
            long.push((lines, file.path.clone()));
        }
        if !file.test {
            let measured = sizes::measure(&file.tree);
            files.push((lines - measured.test_lines, file.path.clone()));
            functions.extend(
                measured
                    .functions
                    .into_iter()
                    .map(|one| (one.lines, format!("{}::{}", file.path, one.name))),
            );
        }
    }
    let over = functions.iter().filter(|(lines, _)| *lines > sizes::FUNCTION_MAX).count();
    let _ = writeln!(out, "  files without tests: {}, lines: {}", files.len(), spread(&mut files));
    let _ = writeln!(out, "  files over {} lines, tests included: {}", sizes::FILE_MAX, long.len());
    long.sort_by(|a, b| b.cmp(a));
    long.iter().for_each(|(lines, path)| _ = writeln!(out, "    {lines} {path}"));
    let _ = writeln!(out, "  functions: {}, lines: {}", functions.len(), spread(&mut functions));
    let _ = writeln!(out, "  functions over {} lines: {over}", sizes::FUNCTION_MAX);
    functions
        .iter()
        .rev()
        .take(over)
        .for_each(|(lines, name)| _ = writeln!(out, "    {lines} {name}"));
}

/// Median, ninth tenth and the largest; sorts the list.
fn spread(list: &mut [(usize, String)]) -> String {
    list.sort();
    let at = |part: usize| list.get((list.len() * part / 10).min(list.len().saturating_sub(1)));
    let lines = |one: Option<&(usize, String)>| one.map_or(0, |(lines, _)| *lines);
    let largest = list.last().map_or("", |(_, name)| name);
    format!(
        "median {}, p90 {}, largest {} ({largest})",
        lines(at(5)),
        lines(at(9)),
        lines(list.last())
    )
}

fn show_circles(krate: &Crate, imports: &Imports, out: &mut String) {
    let knots = graph::knots(&circles::arrows(imports));
    let files: usize = knots.iter().map(Vec::len).sum();
    let _ = writeln!(out, "  circles of imports: {}, files in them: {files}", knots.len());
    for knot in knots {
        let paths =
            knot.iter().map(|&file| krate.files[file].path.trim_start_matches(&krate.directory));
        let _ = writeln!(
            out,
            "    {}: {}",
            knot.len(),
            paths.map(|path| &path[1..]).collect::<Vec<_>>().join(" ")
        );
    }
}

fn show_names(krate: &Crate, out: &mut String) {
    let twice = names::names_used_twice(krate);
    let _ = writeln!(out, "  type names used for several things: {}", twice.len());
    if !twice.is_empty() {
        let list = twice.iter().map(|(name, places)| format!("{name} {}", places.len()));
        let _ = writeln!(out, "    {}", list.collect::<Vec<_>>().join(", "));
    }
}

fn show_rooms(krate: &Crate, imports: &Imports, out: &mut String) {
    let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
    for file in krate.files.iter().filter(|file| !file.test) {
        let next = rooms.len();
        floors::room_of(krate, &file.path).map(|room| *rooms.entry(room).or_insert(next));
    }
    let mut arrows = Arrows::new();
    for &(from, to) in imports.keys() {
        let room = |file: usize| {
            floors::room_of(krate, &krate.files[file].path).and_then(|room| rooms.get(room))
        };
        if let (Some(&from), Some(&to)) = (room(from), room(to))
            && from != to
        {
            arrows.entry(from).or_default().insert(to);
        }
    }
    let count: usize = arrows.values().map(|to| to.len()).sum();
    let floors = graph::floors(&arrows, rooms.values().copied());
    let _ = writeln!(
        out,
        "  rooms: {}, floors: {}, arrows between rooms: {count}",
        rooms.len(),
        floors.len()
    );
    for floor in floors {
        let names = rooms.iter().filter(|(_, id)| floor.contains(id)).map(|(name, _)| *name);
        let _ = writeln!(out, "    {}", names.collect::<Vec<_>>().join(" "));
    }
    for knot in graph::knots(&arrows) {
        let names = rooms.iter().filter(|(_, id)| knot.contains(id)).map(|(name, _)| *name);
        let _ = writeln!(out, "    in a circle: {}", names.collect::<Vec<_>>().join(" "));
    }
}
