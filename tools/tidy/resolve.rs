//! From paths to files: which file defines what a path names. A re-export is followed to the definition.

use std::collections::BTreeMap;

use crate::modules::{Crate, FileId, ModuleId};
use crate::paths::{self, NamedPath};

/// The imports between the files of a crate: for each pair (who, whom) the first place that makes it.
pub(crate) type Imports = BTreeMap<(FileId, FileId), Place>;

/// A place that imports.
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: usize,
    /// The path as written.
    pub(crate) path: String,
}

/// The imports between the crate's files. A `mod` is none, nor is naming a module without anything in it.
pub(crate) fn imports(krate: &Crate) -> Imports {
    let mut imports = Imports::new();
    for path in paths::paths(krate) {
        let Some(to) = file_of(krate, &path) else { continue };
        if to != path.file {
            let place = Place { line: path.line, path: path.parts.join("::") };
            let entry = imports.entry((path.file, to));
            entry.and_modify(|known| known.line = known.line.min(place.line)).or_insert(place);
        }
    }
    imports
}

fn file_of(krate: &Crate, path: &NamedPath) -> Option<FileId> {
    let (parts, all) = match path.parts.split_last() {
        Some((last, parts)) if last == "*" => (parts, true),
        _ => (path.parts.as_slice(), false),
    };
    match resolve(krate, path.module, parts, !path.is_use && parts.len() == 1, &mut Vec::new())? {
        Target::Item(file) => Some(file),
        // What comes through it is not known by name: it is counted as the module's own.
        Target::Module(module) => all.then(|| krate.modules[module].file),
    }
}

enum Target {
    Module(ModuleId),
    Item(FileId),
}

/// What is being looked up already: names may import each other in circles.
type Asked = Vec<(ModuleId, String)>;

/// `bare`: one name that is no module: a value or a type.
fn resolve(
    krate: &Crate,
    from: ModuleId,
    parts: &[String],
    bare: bool,
    asked: &mut Asked,
) -> Option<Target> {
    let (first, mut rest) = parts.split_first()?;
    let mut target = match first.as_str() {
        "crate" => Target::Module(krate.root_of(from)),
        "self" => Target::Module(from),
        "super" => Target::Module(krate.modules[from].parent?),
        name => match look_up(krate, from, name, bare, asked) {
            Some(target) => target,
            None if name == krate.name => Target::Module(krate.library?),
            None => return None,
        },
    };
    while let Some((part, after)) = rest.split_first() {
        // Below an item are its variants and methods.
        let Target::Module(module) = target else { break };
        target = match part.as_str() {
            "super" => Target::Module(krate.modules[module].parent?),
            "self" => Target::Module(module),
            // What a macro makes in a module is not seen, but it is there.
            name => look_up(krate, module, name, false, asked)
                .unwrap_or(Target::Item(krate.modules[module].file)),
        };
        rest = after;
    }
    Some(target)
}

/// What `name` is in the scope of a module.
fn look_up(
    krate: &Crate,
    module: ModuleId,
    name: &str,
    bare: bool,
    asked: &mut Asked,
) -> Option<Target> {
    let scope = &krate.modules[module];
    if scope.items.contains(name) {
        return Some(Target::Item(scope.file));
    }
    if let Some(child) = scope.children.get(name).filter(|_| !bare) {
        return Some(Target::Module(*child));
    }
    let question = (module, name.to_owned());
    if asked.contains(&question) {
        return None;
    }
    asked.push(question);
    let named = scope.uses.iter().find(|import| import.name == name);
    let target = named.map(|import| {
        // What is brought in from another crate and passed on is this file's.
        resolve(krate, module, &import.path, false, asked).unwrap_or(Target::Item(scope.file))
    });
    let target = target.or_else(|| {
        let globs = scope.uses.iter().filter(|import| import.name == "*");
        globs.into_iter().find_map(|glob| match resolve(krate, module, &glob.path, false, asked)? {
            Target::Module(source) => look_up(krate, source, name, bare, asked),
            Target::Item(_) => None,
        })
    });
    asked.pop();
    target
}
