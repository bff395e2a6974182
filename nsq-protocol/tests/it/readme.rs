//! What the README says is so: its table names tests that are there, and its first lines this version.

use std::path::Path;

#[test]
fn every_test_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let table = readme.lines().filter(|line| line.starts_with("| "));
    let mut named = 0;
    for code in table.flat_map(|line| line.split('`').skip(1).step_by(2)) {
        let Some((file, test)) = code.split_once("::") else { continue };
        let source = std::fs::read_to_string(root.join("tests/it").join(format!("{file}.rs")));
        let source = source.unwrap_or_else(|error| panic!("{code}: {error}"));
        // An ellipsis stands for several that begin alike.
        let wanted = match test.strip_suffix('…') {
            Some(start) => format!("\nfn {start}"),
            None => format!("\nfn {test}()"),
        };
        assert!(source.contains(&wanted), "{code}");
        named += 1;
    }
    assert!(named > 20, "only {named} tests named");
}

#[test]
fn the_readme_begins_with_the_dependency_on_this_version() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let line = format!("nsq-protocol = \"{major}.{minor}\"");
    let wanted = format!("# nsq-protocol\n\n```toml\n[dependencies]\n{line}\n```\n");
    assert!(readme.starts_with(&wanted), "{:?}", readme.lines().take(6).collect::<Vec<_>>());
}
