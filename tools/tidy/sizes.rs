//! Files and functions that can be read at once.

use std::collections::BTreeSet;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Block, ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, ItemTrait, TraitItem, TraitItemFn, Type,
};

use crate::finding::Finding;
use crate::lists::{EXCEPTIONS, Exceptions};
use crate::repository::Repository;
use crate::source;

/// Lines of a file, tests included.
pub(crate) const FILE_MAX: usize = 500;
/// Lines between the braces of a function.
pub(crate) const FUNCTION_MAX: usize = 60;
/// Where they are counted.
const DIRECTORIES: [&str; 5] =
    ["src/", "nsq-protocol/src/", "tests/", "nsq-protocol/tests/", "tools/"];

/// One function.
pub(crate) struct Function {
    /// `function` or `Type::function`.
    pub(crate) name: String,
    /// Where it starts, from 1.
    pub(crate) line: usize,
    /// Between its braces.
    pub(crate) lines: usize,
}

/// What is measured of one file.
#[derive(Default)]
pub(crate) struct Measured {
    /// Those outside `#[cfg(test)]`.
    pub(crate) functions: Vec<Function>,
    /// Lines of what is for tests only.
    pub(crate) test_lines: usize,
}

/// Fails on what is too long and on the list by mistake.
///
/// `test_files`: files of the crates that are compiled for tests only; their functions may be long.
pub(crate) fn check(
    repository: &Repository,
    test_files: &[String],
    exceptions: &Exceptions,
    found: &mut Vec<Finding>,
) {
    let mut needed = BTreeSet::new();
    let excepted: BTreeSet<&str> = exceptions.entries.iter().map(|(_, key)| key.as_str()).collect();
    let mut take = |key: String, file: &str, line: usize, wrong: String, way_out: &'static str| {
        if !excepted.contains(key.as_str()) {
            found.push(Finding { file: file.into(), line, wrong, way_out });
        }
        needed.insert(key);
    };
    for file in repository.files().filter(|file| is_measured(file)) {
        let Some(text) = repository.text(file) else { continue };
        let lines = text.lines().count();
        if lines > FILE_MAX {
            let wrong = format!("{lines} lines, over {FILE_MAX}");
            take(
                file.into(),
                file,
                1,
                wrong,
                "split it by what it does, or move its tests to a file of their own",
            );
        }
        let Ok(tree) = syn::parse_file(&text) else { continue };
        if test_files.iter().any(|test| test == file) {
            continue;
        }
        for function in measure(&tree).functions.into_iter().filter(|one| one.lines > FUNCTION_MAX)
        {
            let Function { name, line, lines } = function;
            let wrong = format!("{name} has {lines} lines, over {FUNCTION_MAX}");
            take(
                format!("{file}::{name}"),
                file,
                line,
                wrong,
                "name its parts, or say in scripts/tidy-exceptions why it is one",
            );
        }
    }
    for (line, key) in exceptions.entries.iter().filter(|(_, key)| !needed.contains(key)) {
        let wrong = format!("{key} is not too long, or not there");
        found.push(Finding {
            file: EXCEPTIONS.into(),
            line: *line,
            wrong,
            way_out: "take it off the list",
        });
    }
}

fn is_measured(file: &str) -> bool {
    file.ends_with(".rs") && DIRECTORIES.iter().any(|directory| file.starts_with(directory))
}

/// The functions of a file, and how much of it is for tests.
pub(crate) fn measure(tree: &syn::File) -> Measured {
    let mut measurer = Measurer { measured: Measured::default(), owner: Vec::new() };
    measurer.visit_file(tree);
    measurer.measured
}

struct Measurer {
    measured: Measured,
    /// The type or trait that functions belong to, innermost last.
    owner: Vec<String>,
}

impl Measurer {
    /// Whether it is for tests only; then its lines are counted and it is not looked into.
    fn is_test(&mut self, attributes: &[syn::Attribute], span: proc_macro2::Span) -> bool {
        let test = source::is_cfg_test(attributes);
        if test {
            self.measured.test_lines += span.end().line - span.start().line + 1;
        }
        test
    }

    fn add(&mut self, name: &syn::Ident, block: &Block) {
        let owner = self.owner.last().map_or(String::new(), |owner| format!("{owner}::"));
        let span = block.brace_token.span;
        let (open, close) = (span.open().start().line, span.close().end().line);
        let function = Function {
            name: format!("{owner}{name}"),
            line: name.span().start().line,
            lines: (close - open).saturating_sub(1).max(1),
        };
        self.measured.functions.push(function);
    }
}

impl<'ast> Visit<'ast> for Measurer {
    fn visit_item(&mut self, item: &'ast Item) {
        if !self.is_test(source::attributes(item), item.span()) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !self.is_test(source::impl_attributes(item), item.span()) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !self.is_test(source::trait_attributes(item), item.span()) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let outer = std::mem::take(&mut self.owner);
        self.add(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
        self.owner = outer;
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let name = match &*item.self_ty {
            Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        self.owner.push(name.unwrap_or_default());
        visit::visit_item_impl(self, item);
        self.owner.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.owner.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.owner.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
