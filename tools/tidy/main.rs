//! House rules that clippy does not know, read off the syntax trees of all files. `scripts/tidy` runs it; it starts no
//! thread.
//!
//! What fails, each with file and line, what is wrong, and the way out:
//! - `circles`: imports between the files of one crate that go in a circle;
//! - `floors`: an import from a lower room of a crate to a higher one, by the list in `scripts/tidy-floors`;
//! - `pure`: sockets, threads or clocks in a file whose `//!` says that it is pure;
//! - `names`: one type name for several things in one crate;
//! - `examples`: a public type of the published crate whose documentation shows no use of it;
//! - `sizes`: long files and functions, but for those in the list `scripts/tidy-exceptions`;
//! - `references`: paths and pages named in texts and comments that are not in the repository;
//! - `quotes`: measured figures that are no quote of the page where they were measured, or a wrong one.
//!
//! What `#[cfg(test)]` holds is left out of all but the sizes of files and the references.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod circles;
mod examples;
mod figures;
mod finding;
mod floors;
mod graph;
mod lists;
mod modules;
mod names;
mod paths;
mod pure;
mod quotes;
mod references;
mod repository;
mod resolve;
mod sizes;
mod source;
mod texts;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use finding::Finding;
use lists::{Exceptions, Floors};
use modules::Crate;
use repository::Repository;

/// The crates that are looked at: the directory of their source files, and their name in paths.
const CRATES: [(&str, &str); 2] = [("src", "playcounts"), ("nsq-protocol/src", "nsq_protocol")];

/// The one of them that others use.
const PUBLISHED: &str = "nsq-protocol/src";

fn main() -> ExitCode {
    let mut figures = false;
    let mut home = PathBuf::from(".");
    let mut root = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--figures" => figures = true,
            "--home" => home = args.next().unwrap_or_default().into(),
            _ if arg.starts_with('-') => {
                return refuse(&format!("{arg} is no option; there is --figures"));
            }
            _ => root = Some(PathBuf::from(arg)),
        }
    }
    let root = root.unwrap_or(home);
    if !root.join("src/lib.rs").is_file() {
        return refuse(&format!("{} has no src/lib.rs", root.display()));
    }
    if figures {
        print!("{}", figures::figures(&Repository::open(&root)));
        return ExitCode::SUCCESS;
    }
    let found = check(&root);
    for finding in &found {
        println!("{finding}");
    }
    println!(
        "tidy: {}",
        if found.is_empty() { "all well".into() } else { format!("{} findings", found.len()) }
    );
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refuse(why: &str) -> ExitCode {
    println!("tidy: {why}");
    ExitCode::from(2)
}

/// All that is wrong with the tree at `root`, in the order of files and lines.
fn check(root: &Path) -> Vec<Finding> {
    let repository = Repository::open(root);
    let mut found = Vec::new();
    let exceptions = Exceptions::read(root, &mut found);
    let floors = Floors::read(root, &mut found);
    let mut test_files = Vec::new();
    for (directory, name) in CRATES {
        let krate = Crate::read(&repository, directory, name, &mut found);
        let imports = resolve::imports(&krate);
        circles::check(&krate, &imports, &mut found);
        floors::check(&krate, &imports, &floors, &mut found);
        pure::check(&krate, &mut found);
        names::check(&krate, &mut found);
        if directory == PUBLISHED {
            examples::check(&krate, &mut found);
        }
        test_files.extend(krate.files.into_iter().filter(|file| file.test).map(|file| file.path));
    }
    sizes::check(&repository, &test_files, &exceptions, &mut found);
    references::check(&repository, &mut found);
    quotes::check(&repository, &mut found);
    found.sort();
    found
}
