//! The rooms of a crate stand on floors, and imports go downwards.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::lists::{FLOORS, Floors};
use crate::modules::Crate;
use crate::resolve::Imports;

/// Fails on imports upwards or between rooms of one floor, and where list and rooms differ. A crate without a list has
/// no floors.
pub(crate) fn check(krate: &Crate, imports: &Imports, floors: &Floors, found: &mut Vec<Finding>) {
    let Some(list) = floors.of(&krate.directory) else { return };
    let mut floor_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (floor, rooms) in list.iter().enumerate() {
        for room in &rooms.rooms {
            floor_of.insert(room, floor);
            if !krate.files.iter().any(|file| room_of(krate, &file.path) == Some(room)) {
                let wrong = format!("{} has no room {room}", krate.directory);
                found.push(Finding {
                    file: FLOORS.into(),
                    line: rooms.line,
                    wrong,
                    way_out: "take it off the list",
                });
            }
        }
    }
    let mut unknown: BTreeMap<&str, &str> = BTreeMap::new();
    for file in &krate.files {
        if let Some(room) = room_of(krate, &file.path).filter(|room| !floor_of.contains_key(room)) {
            unknown.entry(room).or_insert(&file.path);
        }
    }
    for (room, file) in unknown {
        let wrong = format!("the room {room} is on no floor of {FLOORS}");
        found.push(Finding { file: file.into(), line: 1, wrong, way_out: "give it one" });
    }
    for (&(from, to), place) in imports {
        let (from, to) = (&krate.files[from].path, &krate.files[to].path);
        let (Some(room), Some(other)) = (room_of(krate, from), room_of(krate, to)) else {
            continue;
        };
        let (Some(floor), Some(floor_below)) = (floor_of.get(room), floor_of.get(other)) else {
            continue;
        };
        if room != other && floor >= floor_below {
            let how = if floor == floor_below { "on the same floor" } else { "above it" };
            let wrong = format!("{room} takes {} from {other}, which is {how}", place.path);
            let way_out = "move it to a room below both, or pass it as an argument";
            found.push(Finding { file: from.clone(), line: place.line, wrong, way_out });
        }
    }
}

/// The room a file is in; lib.rs and main.rs stand in none.
pub(crate) fn room_of<'a>(krate: &Crate, file: &'a str) -> Option<&'a str> {
    let inside = file.strip_prefix(&krate.directory)?.strip_prefix('/')?;
    match inside.split_once('/') {
        Some((room, _)) => Some(room),
        None => inside.strip_suffix(".rs").filter(|name| *name != "lib" && *name != "main"),
    }
}
