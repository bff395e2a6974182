//! A type name stands for one thing in a crate.

use std::collections::BTreeMap;

use syn::Item;

use crate::finding::Finding;
use crate::modules::{Crate, FileId};
use crate::source;

/// Names that every module may have, since they are said with the module's name before them.
const OF_MODULES: [&str; 3] = ["Config", "Error", "Stats"];

/// Where a type is defined.
pub(crate) struct Definition {
    file: FileId,
    line: usize,
    module: String,
}

/// One finding for each name with several definitions.
pub(crate) fn check(krate: &Crate, found: &mut Vec<Finding>) {
    for (name, definitions) in names_used_twice(krate) {
        let places =
            definitions.iter().map(|one| format!("{}:{}", krate.files[one.file].path, one.line));
        let (file, line) = (krate.files[definitions[0].file].path.clone(), definitions[0].line);
        let wrong = format!(
            "{name} is {} types: {}",
            definitions.len(),
            places.collect::<Vec<_>>().join(", ")
        );
        found.push(Finding { file, line, wrong, way_out: "give each thing its own name" });
    }
}

/// The names that several modules define, each with its definitions.
pub(crate) fn names_used_twice(krate: &Crate) -> Vec<(String, Vec<Definition>)> {
    let mut known: BTreeMap<String, Vec<Definition>> = BTreeMap::new();
    for (file, source) in krate.files.iter().enumerate().filter(|(_, source)| !source.test) {
        collect(&source.tree.items, file, &source.path, &mut known);
    }
    known.retain(|name, list| list.len() > 1 && !OF_MODULES.contains(&name.as_str()));
    known.into_iter().collect()
}

fn collect(
    items: &[Item],
    file: FileId,
    module: &str,
    known: &mut BTreeMap<String, Vec<Definition>>,
) {
    for item in items.iter().filter(|item| !source::is_test(source::attributes(item))) {
        let name = match item {
            Item::Enum(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Union(item) => &item.ident,
            // Another path to a thing of that name is the same thing.
            Item::Type(item) if !names_itself(item) => &item.ident,
            Item::Mod(item) => {
                let items = item.content.as_ref().map_or(&[][..], |(_, items)| items);
                collect(items, file, &format!("{module}::{}", item.ident), known);
                continue;
            }
            _ => continue,
        };
        let list = known.entry(name.to_string()).or_default();
        // One module has it twice for two platforms.
        if !list.iter().any(|one| one.module == module) {
            list.push(Definition {
                file,
                line: name.span().start().line,
                module: module.to_owned(),
            });
        }
    }
}

fn names_itself(item: &syn::ItemType) -> bool {
    let syn::Type::Path(path) = &*item.ty else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == item.ident)
}
