//! A type that the published crate gives to everybody shows in its documentation how it is used.

use std::collections::BTreeSet;

use syn::{Attribute, Item, Meta, Visibility};

use crate::finding::Finding;
use crate::modules::{Crate, flatten};
use crate::source;

/// What an example in a documentation begins and ends with.
const FENCE: &str = "```";

/// One finding for each type that the library's root re-exports and that has no example. Types that a macro makes are not
/// seen.
pub(crate) fn check(krate: &Crate, found: &mut Vec<Finding>) {
    let public = public_names(krate);
    for file in krate.files.iter().filter(|file| !file.test) {
        for item in &file.tree.items {
            let Some(name) = type_name(item).filter(|name| public.contains(&name.to_string()))
            else {
                continue;
            };
            let documentation = source::documentation(source::attributes(item));
            if !documentation.into_iter().any(|line| line.trim_start().starts_with(FENCE)) {
                found.push(Finding {
                    file: file.path.clone(),
                    line: name.span().start().line,
                    wrong: format!("{name} is public and has no example"),
                    way_out: "show in its documentation how it is used",
                });
            }
        }
    }
}

/// What the root brings into scope for everybody, by the names that it has where it is defined.
fn public_names(krate: &Crate) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let root = krate.library.map(|library| krate.modules[library].file);
    for item in root.iter().flat_map(|file| &krate.files[*file].tree.items) {
        let Item::Use(item) = item else { continue };
        if matches!(item.vis, Visibility::Public(_)) && !item.attrs.iter().any(is_hidden) {
            flatten(&item.tree, &mut Vec::new(), &mut |_, path| names.extend(path.last().cloned()));
        }
    }
    names
}

/// `#[doc(hidden)]`
fn is_hidden(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::List(list)
        if list.path.is_ident("doc") && list.tokens.to_string().contains("hidden"))
}

fn type_name(item: &Item) -> Option<&syn::Ident> {
    let (name, visibility) = match item {
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        Item::Union(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    matches!(visibility, Visibility::Public(_)).then_some(name)
}
