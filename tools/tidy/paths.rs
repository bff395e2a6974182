//! Every path that a crate's code names outside tests: in imports, types, expressions, patterns, attributes and the
//! tokens of macros.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Field, ImplItem, Item, ItemMod, ItemUse, Lit, Local, Macro, Meta, Path, TraitItem,
    Visibility,
};

use crate::modules::{self, Crate, FileId, ModuleId};
use crate::source;

/// One path in the code.
pub(crate) struct NamedPath {
    /// Where it stands.
    pub(crate) file: FileId,
    /// The module whose scope it is read in.
    pub(crate) module: ModuleId,
    /// From 1.
    pub(crate) line: usize,
    /// Its parts; `*` at the end of an import of all names.
    pub(crate) parts: Vec<String>,
    /// Whether it is in a `use`.
    pub(crate) is_use: bool,
}

/// All paths of a crate outside tests, in the order of the files.
pub(crate) fn paths(krate: &Crate) -> Vec<NamedPath> {
    let mut roots: BTreeMap<FileId, ModuleId> = BTreeMap::new();
    for (id, module) in krate.modules.iter().enumerate() {
        roots.entry(module.file).or_insert(id);
    }
    let mut collector = Collector { krate, file: 0, module: 0, paths: Vec::new() };
    for (file, module) in roots {
        (collector.file, collector.module) = (file, module);
        krate.files[file].tree.items.iter().for_each(|item| collector.visit_item(item));
    }
    collector.paths
}

struct Collector<'a> {
    krate: &'a Crate,
    file: FileId,
    module: ModuleId,
    paths: Vec<NamedPath>,
}

impl Collector<'_> {
    fn add(&mut self, parts: Vec<String>, line: usize, is_use: bool) {
        self.paths.push(NamedPath { file: self.file, module: self.module, line, parts, is_use });
    }

    /// Paths in tokens that are not parsed: names joined by `::`. What follows a `.` is a field or a method.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut parts: Vec<String> = Vec::new();
        let (mut line, mut colons, mut dot) = (0, 0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    let joined = colons == 2 && !parts.is_empty();
                    if !joined {
                        self.add_found(&mut parts, line);
                        line = name.span().start().line;
                    }
                    if joined || !dot {
                        parts.push(name.to_string());
                    }
                    (colons, dot) = (0, false);
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                // `$crate` is `crate`.
                TokenTree::Punct(mark) if mark.as_char() == '$' => dot = false,
                other => {
                    self.add_found(&mut parts, line);
                    colons = 0;
                    dot = matches!(&other, TokenTree::Punct(mark) if mark.as_char() == '.');
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add_found(&mut parts, line);
    }

    fn add_found(&mut self, parts: &mut Vec<String>, line: usize) {
        if !parts.is_empty() {
            self.add(std::mem::take(parts), line, false);
        }
    }

    /// `#[serde(with = "a::b")]` names a path in a text.
    fn add_texts(&mut self, tokens: TokenStream) {
        for token in tokens {
            let line = token.span().start().line;
            if let TokenTree::Literal(literal) = &token
                && let Lit::Str(text) = Lit::new(literal.clone())
                && let Ok(path) = text.parse::<Path>()
            {
                self.add(parts_of(&path), line, false);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !source::is_test(source::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !source::is_test(source::impl_attributes(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !source::is_test(source::trait_attributes(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if !source::is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if !source::is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some((_, items)) = &item.content else { return };
        let Some(child) = self.krate.modules[self.module].children.get(&item.ident.to_string())
        else {
            return;
        };
        let outer = std::mem::replace(&mut self.module, *child);
        items.iter().for_each(|item| self.visit_item(item));
        self.module = outer;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let line = item.span().start().line;
        modules::flatten(&item.tree, &mut Vec::new(), &mut |_, path| {
            self.add(path.to_vec(), line, true)
        });
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add(parts_of(path), path.span().start().line, false);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add(parts_of(&call.path), call.path.span().start().line, false);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let Meta::List(list) = &attribute.meta else { return };
        if list.path.is_ident("cfg") || list.path.is_ident("allow") || list.path.is_ident("expect")
        {
            return;
        }
        self.add_tokens(list.tokens.clone());
        if list.path.is_ident("serde") {
            self.add_texts(list.tokens.clone());
        }
    }

    // `pub(in crate::a)` says who may look, and uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn parts_of(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}
