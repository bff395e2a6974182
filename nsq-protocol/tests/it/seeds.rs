//! Each seed of each fuzz target, on stable; see `bodies` for what is checked.

use std::path::Path;

mod bodies;

/// Runs all of `data/seeds/<target>`; each file's name says what it is.
fn check(target: &str, body: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/seeds").join(target);
    let mut count = 0;
    for seed in std::fs::read_dir(&seeds).unwrap() {
        let path = seed.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| body(&data)).is_err() {
            panic!("the seed {}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no seed in {}", seeds.display());
}

#[test]
fn frame() {
    check("frame", bodies::frame);
}

#[test]
fn message() {
    check("message", bodies::message);
}

#[test]
fn identify() {
    check("identify", bodies::identify);
}

#[test]
fn command() {
    check("command", bodies::command);
}

#[test]
fn snappy() {
    check("snappy", bodies::snappy);
}

#[test]
fn deflate() {
    check("deflate", bodies::deflate);
}

#[test]
fn lookup() {
    check("lookup", bodies::lookup);
}
