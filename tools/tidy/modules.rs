//! A crate as its modules: which file each is in, what it defines and what it brings into scope.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, UseTree};

use crate::finding::Finding;
use crate::repository::Repository;
use crate::source;

/// The index of a file in `Crate::files`.
pub(crate) type FileId = usize;
/// The index of a module in `Crate::modules`.
pub(crate) type ModuleId = usize;

/// All that stands in one source directory: the library, and the binary beside it.
pub(crate) struct Crate {
    /// From the root of the repository.
    pub(crate) directory: String,
    /// As it is named in paths.
    pub(crate) name: String,
    /// Those reached from lib.rs and main.rs.
    pub(crate) files: Vec<SourceFile>,
    /// Each root before what is below it.
    pub(crate) modules: Vec<Module>,
    /// The root of the library.
    pub(crate) library: Option<ModuleId>,
}

/// One file, parsed.
pub(crate) struct SourceFile {
    /// From the root of the repository.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its syntax tree.
    pub(crate) tree: syn::File,
    /// Whether it is compiled for tests only.
    pub(crate) test: bool,
}

/// One module outside tests.
pub(crate) struct Module {
    /// Where its items stand.
    pub(crate) file: FileId,
    /// `None` at the root.
    pub(crate) parent: Option<ModuleId>,
    /// Its path in the crate, for messages.
    pub(crate) path: String,
    /// Modules in it.
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// What it defines itself, but for modules.
    pub(crate) items: BTreeSet<String>,
    /// What it brings into scope.
    pub(crate) uses: Vec<Import>,
}

/// One name that a `use` brings into scope.
pub(crate) struct Import {
    /// As it is called here; `*` for all names.
    pub(crate) name: String,
    /// The path as written, without the `*`.
    pub(crate) path: Vec<String>,
}

impl Crate {
    /// The crate in `directory`. A file that does not parse, and one that no `mod` reaches, is a finding.
    pub(crate) fn read(
        repository: &Repository,
        directory: &str,
        name: &str,
        found: &mut Vec<Finding>,
    ) -> Crate {
        let (files, modules) = (Vec::new(), Vec::new());
        let krate =
            Crate { directory: directory.into(), name: name.into(), files, modules, library: None };
        let mut reader = Reader { repository, krate, found };
        for root in ["lib", "main"] {
            let file = format!("{directory}/{root}.rs");
            let module = reader.krate.modules.len();
            if repository.has_file(&file)
                && reader.read_file(&file, None, "", false).is_some()
                && root == "lib"
            {
                reader.krate.library = Some(module);
            }
        }
        let Reader { krate, found, .. } = reader;
        let inside = format!("{directory}/");
        for file in
            repository.files().filter(|file| file.starts_with(&inside) && file.ends_with(".rs"))
        {
            if !krate.files.iter().any(|known| known.path == file) {
                let wrong = "no `mod` leads to this file, or it does not parse".to_owned();
                found.push(Finding {
                    file: file.into(),
                    line: 1,
                    wrong,
                    way_out: "declare it, or delete it",
                });
            }
        }
        krate
    }

    /// The root of the module's crate: the library or the binary.
    pub(crate) fn root_of(&self, module: ModuleId) -> ModuleId {
        self.modules[module].parent.map_or(module, |parent| self.root_of(parent))
    }
}

struct Reader<'a> {
    repository: &'a Repository,
    krate: Crate,
    found: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    /// Reads a file and what it declares; its module, or `None` where it does not parse or is for tests only.
    fn read_file(
        &mut self,
        path: &str,
        parent: Option<ModuleId>,
        name: &str,
        test: bool,
    ) -> Option<ModuleId> {
        let text = self.repository.text(path)?;
        let tree = match syn::parse_file(&text) {
            Ok(tree) => tree,
            Err(error) => {
                let (line, wrong) =
                    (error.span().start().line, format!("it does not parse: {error}"));
                self.found.push(Finding {
                    file: path.into(),
                    line,
                    wrong,
                    way_out: "see what rustc says",
                });
                return None;
            }
        };
        let test = test || source::is_test(&tree.attrs);
        let file = self.krate.files.len();
        let items = tree.items.clone();
        self.krate.files.push(SourceFile { path: path.into(), text, tree, test });
        let module = (!test).then(|| self.new_module(file, parent, name));
        self.read_items(&items, file, module, &home_of(path));
        module
    }

    fn new_module(&mut self, file: FileId, parent: Option<ModuleId>, name: &str) -> ModuleId {
        let path = parent.map_or_else(
            || "crate".into(),
            |parent| format!("{}::{name}", self.krate.modules[parent].path),
        );
        let (children, items, uses) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        self.krate.modules.push(Module { file, parent, path, children, items, uses });
        self.krate.modules.len() - 1
    }

    /// `home`: the directory of the files of modules declared here. `module`: `None` in tests.
    fn read_items(&mut self, items: &[Item], file: FileId, module: Option<ModuleId>, home: &str) {
        for item in items {
            let outside = module.filter(|_| !source::is_test(source::attributes(item)));
            match item {
                Item::Mod(item) => self.read_module(item, file, outside, home),
                item => {
                    let Some(module) = outside else { continue };
                    let module = &mut self.krate.modules[module];
                    module.items.extend(name_of(item));
                    ScopeReader { uses: &mut module.uses }.visit_item(item);
                }
            }
        }
    }

    fn read_module(&mut self, item: &ItemMod, file: FileId, outside: Option<ModuleId>, home: &str) {
        let name = item.ident.to_string();
        let given = item.attrs.iter().find_map(|attribute| source::string_of(attribute, "path"));
        let child = if let Some((_, items)) = &item.content {
            let child = outside.map(|parent| self.new_module(file, Some(parent), &name));
            self.read_items(items, file, child, &format!("{home}/{name}"));
            child
        } else {
            let directory =
                self.krate.files[file].path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let candidates = match given {
                Some(path) => vec![normal(&format!("{directory}/{path}"))],
                None => vec![format!("{home}/{name}.rs"), format!("{home}/{name}/mod.rs")],
            };
            let path = candidates.into_iter().find(|path| self.repository.has_file(path));
            path.and_then(|path| self.read_file(&path, outside, &name, outside.is_none()))
        };
        if let (Some(parent), Some(child)) = (outside, child) {
            self.krate.modules[parent].children.insert(name, child);
        }
    }
}

/// Where the modules that a file declares have their files.
fn home_of(path: &str) -> String {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    match file {
        "mod.rs" | "lib.rs" | "main.rs" => directory.into(),
        file => format!("{directory}/{}", file.trim_end_matches(".rs")),
    }
}

/// A path without `.` and `..`.
pub(crate) fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            // Above the root there is nothing to find.
            Component::ParentDir if parts.pop().is_none() => parts.push("..".into()),
            _ => {}
        }
    }
    parts.join("/")
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Collects what is brought into scope, inside functions, too: as if it were the whole module's.
struct ScopeReader<'a> {
    uses: &'a mut Vec<Import>,
}

impl<'ast> Visit<'ast> for ScopeReader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        flatten(&item.tree, &mut Vec::new(), &mut |name, path| {
            let path = path[..path.len() - usize::from(name == "*")].to_vec();
            self.uses.push(Import { name: name.to_owned(), path });
        });
    }

    fn visit_item(&mut self, item: &'ast Item) {
        if !source::is_test(source::attributes(item)) {
            visit::visit_item(self, item);
        }
    }
}

/// Tells each name of a `use` and its whole path, `*` included.
pub(crate) fn flatten(
    tree: &UseTree,
    before: &mut Vec<String>,
    tell: &mut impl FnMut(&str, &[String]),
) {
    let depth = before.len();
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, tell);
        }
        // `use a::{self}` is `use a`.
        UseTree::Name(name) if name.ident == "self" => {
            tell(&before.last().cloned().unwrap_or_default(), before)
        }
        UseTree::Name(name) => {
            before.push(name.ident.to_string());
            tell(&name.ident.to_string(), before);
        }
        UseTree::Rename(rename) => {
            if rename.ident != "self" {
                before.push(rename.ident.to_string());
            }
            tell(&rename.rename.to_string(), before);
        }
        UseTree::Glob(_) => {
            before.push("*".into());
            tell("*", before);
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, tell)),
    }
    before.truncate(depth);
}
