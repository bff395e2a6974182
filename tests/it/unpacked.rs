//! Programs of others that tests run: those of this machine, or Debian's, unpacked by `scripts/unpack` into target/tools.
#![allow(dead_code, reason = "each test binary that includes this file uses its own part of it")]

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Such a program.
pub(crate) struct Program {
    /// As it is called on `$PATH`.
    pub(crate) name: &'static str,
    /// The environment variable that says where it is.
    pub(crate) variable: &'static str,
    /// Where it is in target/tools.
    pub(crate) unpacked: &'static str,
}

impl Program {
    /// Without it the test says so and passes; it fails where `CI=true`.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
        let found = match std::env::var_os(self.variable).filter(|path| !path.is_empty()) {
            Some(path) => Some(PathBuf::from(path)),
            None => std::env::split_paths(&path)
                .map(|dir| dir.join(self.name))
                .chain([tools.join(self.unpacked)])
                .find(|path| path.is_file()),
        };
        if found.is_none() {
            let Self { name, variable, .. } = self;
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "no {name}: set {variable} (CI=true forbids to skip)");
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Past the test harness, which keeps what the print macros of a passing test say to itself.
            let skipped = format!("\n*** SKIPPED {test}: no {name}; see scripts/test --plan ***\n");
            let _ = std::io::stderr().write_all(skipped.as_bytes());
        }
        found
    }
}

/// Such a program at its path, with its libraries.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.envs(libraries(program).map(|paths| ("LD_LIBRARY_PATH", paths)));
    command
}

/// Unpacked, its libraries lie beside it, in directories named after the machine: `LD_LIBRARY_PATH` for it. `None` for one
/// that is installed.
pub(crate) fn libraries(program: &Path) -> Option<OsString> {
    let usr = program.ancestors().find(|dir| dir.ends_with("usr"))?;
    if usr == Path::new("/usr") {
        return None;
    }
    let libs = [usr.join("lib"), usr.join("../lib")];
    let all = libs.iter().filter_map(|lib| std::fs::read_dir(lib).ok()).flatten().flatten();
    let dirs = all.map(|entry| entry.path()).filter(|path| path.is_dir());
    std::env::join_paths(dirs).ok()
}
