//! Imports go one way: no file of a crate leads back to itself.

use crate::finding::Finding;
use crate::graph::{self, Arrows};
use crate::modules::Crate;
use crate::resolve::Imports;

const WAY_OUT: &str =
    "import from the file that defines the name, or move what both need to a file below both";

/// One finding for each knot of files, with its shortest circle.
pub(crate) fn check(krate: &Crate, imports: &Imports, found: &mut Vec<Finding>) {
    let arrows = arrows(imports);
    for knot in graph::knots(&arrows) {
        let circle = graph::shortest_circle(&arrows, &knot);
        let mut wrong = "imports go in a circle".to_owned();
        for (index, &from) in circle.iter().enumerate() {
            let to = circle[(index + 1) % circle.len()];
            let place = &imports[&(from, to)];
            let (from, to) = (&krate.files[from].path, &krate.files[to].path);
            wrong.push_str(&format!("\n{from}:{} takes {} from {to}", place.line, place.path));
        }
        if knot.len() > circle.len() {
            let files: Vec<&str> =
                knot.iter().map(|&file| krate.files[file].path.as_str()).collect();
            wrong.push_str(&format!(
                "\nthe {} files of the knot: {}",
                files.len(),
                files.join(" ")
            ));
        }
        let (first, second) = (circle[0], circle[1 % circle.len()]);
        let (file, line) = (krate.files[first].path.clone(), imports[&(first, second)].line);
        found.push(Finding { file, line, wrong, way_out: WAY_OUT });
    }
}

/// The imports without their places.
pub(crate) fn arrows(imports: &Imports) -> Arrows {
    let mut arrows = Arrows::new();
    for &(from, to) in imports.keys() {
        arrows.entry(from).or_default().insert(to);
    }
    arrows
}
