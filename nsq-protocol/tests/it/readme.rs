//! The README's table names tests: they must be there.

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
