//! Each rule at small trees: one that it refuses and one that it lets pass.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::repository::Repository;
use crate::{check, figures, texts};

/// A tree of these files, each with its text.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        write(directory.path(), path, text);
    }
    directory
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("it is below the root")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// What is wrong with a tree of these files, as `file:line: wrong`, without the details.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let tree = tree(files);
    let found = check(tree.path());
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    found.iter().map(|one| format!("{}:{}: {}", one.file, one.line, first(&one.wrong))).collect()
}

/// Asserts what is wrong with the crate of these modules of lib.rs.
#[track_caller]
fn assert_wrong(case: &str, files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(wrong(files), expected, "{case}");
}

#[test]
fn imports_that_go_one_way_pass() {
    let lib = ("src/lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;\n");
    let cases: &[(&str, &str, &str)] = &[
        ("down", "use crate::b::B;\npub struct A(B);\n", "pub struct B;\n"),
        ("through the root's re-export", "use crate::B;\npub struct A(B);\n", "pub struct B;\n"),
        (
            "back in a test",
            "use crate::b::B;\npub struct A(B);\n",
            "pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }\n",
        ),
        (
            "back in a test's import",
            "pub struct A(crate::b::B);\n",
            "pub struct B;\n#[cfg(all(test, unix))]\nuse crate::a::A;\n",
        ),
        (
            "a module's name only",
            "use crate::b;\npub struct A(b::B);\n",
            "use crate::a as _;\npub struct B;\n",
        ),
        ("another crate's", "use crate::b::B;\npub struct A(B);\n", "pub struct B(std::a::A);\n"),
        ("who may look", "pub struct A(crate::b::B);\n", "pub(in crate) struct B;\nmod c {}\n"),
        ("a comment", "pub struct A(crate::b::B);\n", "/// See [`crate::a::A`].\npub struct B;\n"),
    ];
    for (case, a, b) in cases {
        assert_wrong(case, &[lib, ("src/a.rs", a), ("src/b.rs", b)], &[]);
    }
}

#[test]
fn imports_in_a_circle_are_refused() {
    let lib = ("src/lib.rs", "mod a;\nmod b;\npub use a::A;\n");
    let cases: &[(&str, &str)] = &[
        ("an import", "use crate::a::A;\npub struct B;\n"),
        ("by way of the parent", "use super::a::A;\npub struct B;\n"),
        ("through a re-export", "use crate::A;\npub struct B;\n"),
        ("renamed", "use crate::a::{A as Other};\npub struct B;\n"),
        ("all names", "use crate::a::*;\npub struct B;\n"),
        ("a type", "pub struct B(crate::a::A);\n"),
        ("an expression", "pub struct B;\nfn f() { crate::a::f() }\n"),
        ("by its module", "use crate::a;\npub struct B;\nfn f() { a::f() }\n"),
        ("in a macro", "pub struct B;\nfn f() { println!(\"{}\", crate::a::f()) }\n"),
        ("in a function", "pub struct B;\nfn f() { use crate::a::A; }\n"),
        ("an implementation", "pub struct B;\nimpl crate::a::A { fn g() {} }\n"),
        ("what a macro makes", "pub struct B(crate::a::Made);\n"),
        ("an attribute", "#[derive(crate::a::A)]\npub struct B;\n"),
        ("serde", "pub struct B(#[serde(with = \"crate::a::f\")] u8);\n"),
    ];
    let a = ("src/a.rs", "use crate::b::B;\npub struct A(B);\npub fn f() {}\n");
    for (case, b) in cases {
        assert_wrong(case, &[lib, a, ("src/b.rs", b)], &["src/a.rs:1: imports go in a circle"]);
    }
}

#[test]
fn a_parent_uses_its_children_or_they_use_it() {
    let lib = ("src/lib.rs", "mod room;\n");
    let uses = "mod one;\nmod two;\npub use one::One;\npub struct Own;\n";
    let sibling = ("src/room/two.rs", "use super::One;\npub struct Two(One);\n");
    let one = ("src/room/one.rs", "pub struct One;\n");
    assert_wrong("a sibling", &[lib, ("src/room/mod.rs", uses), one, sibling], &[]);
    let back = ("src/room/one.rs", "use super::Own;\npub struct One(Own);\n");
    let circle = ["src/room/mod.rs:3: imports go in a circle"];
    assert_wrong("both", &[lib, ("src/room/mod.rs", uses), back, sibling], &circle);
    let declares = "mod one;\nmod two;\npub struct Own;\n";
    let other = ("src/room/two.rs", "pub struct Two;\n");
    assert_wrong("they use it", &[lib, ("src/room/mod.rs", declares), back, other], &[]);
    let glob = ("src/room/one.rs", "use super::*;\npub struct One(Own);\n");
    assert_wrong("all names", &[lib, ("src/room/mod.rs", uses), glob, sibling], &circle);
}

#[test]
fn the_shortest_circle_is_told_with_its_places() {
    let tree = tree(&[
        ("src/lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("src/a.rs", "use crate::b::B;\npub struct A(B);\n"),
        ("src/b.rs", "use crate::c::C;\n\nuse crate::a::A;\npub struct B(C, A);\n"),
        ("src/c.rs", "use crate::a::A;\npub struct C(A);\n"),
    ]);
    let found = check(tree.path());
    assert_eq!(found.len(), 1);
    let details: Vec<&str> = found[0].wrong.lines().skip(1).collect();
    let expected = [
        "src/a.rs:1 takes crate::b::B from src/b.rs",
        "src/b.rs:3 takes crate::a::A from src/a.rs",
        "the 3 files of the knot: src/a.rs src/b.rs src/c.rs",
    ];
    assert_eq!(details, expected);
}

#[test]
fn a_file_must_be_reached_and_parse() {
    let lib = ("src/lib.rs", "mod a;\nmod x { mod y; }\n#[path = \"other/z.rs\"]\nmod z;\n");
    let good = [
        lib,
        ("src/a/mod.rs", ""),
        ("src/x/y.rs", ""),
        ("src/other/z.rs", ""),
        ("src/main.rs", "use playcounts::a;\n"),
    ];
    assert_wrong("all are", &good, &[]);
    let lost = [lib, ("src/a/b.rs", ""), ("src/x/y.rs", ""), ("src/other/z.rs", "")];
    assert_wrong(
        "one is not",
        &lost,
        &["src/a/b.rs:1: no `mod` leads to this file, or it does not parse"],
    );
    let broken = wrong(&[("src/lib.rs", "fn f( {}\n")]);
    assert!(broken[0].starts_with("src/lib.rs:1: it does not parse: "), "{broken:?}");
}

#[test]
fn imports_go_down_the_floors() {
    let files = [
        ("src/lib.rs", "mod high;\nmod one;\nmod two;\npub use high::H;\n"),
        ("src/high.rs", "use crate::one::f;\npub struct H;\n"),
        ("src/one/mod.rs", "pub fn f() { crate::two::g() }\n"),
        ("src/two.rs", "pub fn g() {}\n"),
    ];
    let with = |floors| [files.as_slice(), &[("scripts/tidy-floors", floors)]].concat();
    let cases: &[(&str, &[&str])] = &[
        ("[src]\n# the top\nhigh\none\ntwo\n", &[]),
        ("[nsq-protocol/src]\n", &[]),
        (
            "[src]\nhigh\none two\n",
            &["src/one/mod.rs:1: one takes crate::two::g from two, which is on the same floor"],
        ),
        (
            "[src]\none\nhigh two\n",
            &["src/high.rs:1: high takes crate::one::f from one, which is above it"],
        ),
        (
            "[src]\nhigh\none\n",
            &["src/two.rs:1: the room two is on no floor of scripts/tidy-floors"],
        ),
        ("[src]\nhigh\none\ntwo gone\n", &["scripts/tidy-floors:4: src has no room gone"]),
        ("high\n", &["scripts/tidy-floors:1: a floor of no crate"]),
    ];
    for (floors, expected) in cases {
        assert_wrong(floors, &with(*floors), expected);
    }
}

#[test]
fn what_says_it_is_pure_is_pure() {
    let cases: &[(&str, &[&str])] = &[
        ("use std::net::TcpStream;", &["src/lib.rs:2: std::net::TcpStream"]),
        ("use std::{io, net::{SocketAddr, UdpSocket}};", &["src/lib.rs:2: std::net::UdpSocket"]),
        ("use std::net;", &["src/lib.rs:2: std::net"]),
        ("fn f() { std::thread::yield_now() }", &["src/lib.rs:2: std::thread::yield_now"]),
        ("fn f() { g(Instant::now()) }", &["src/lib.rs:2: Instant::now"]),
        (
            "fn f() { assert!(std::time::SystemTime::now() > g()) }",
            &["src/lib.rs:2: SystemTime::now"],
        ),
        (
            "use std::net::{IpAddr, SocketAddr};\nuse std::time::Instant;\nfn f(now: Instant) {}",
            &[],
        ),
        ("#[cfg(test)]\nmod tests { fn f() { std::time::Instant::now(); } }", &[]),
        ("struct S;\nimpl S { #[cfg(test)] fn f() { std::time::Instant::now(); } }", &[]),
    ];
    for (code, expected) in cases {
        for doc in ["//! Decides (pure).", "//! Decides (pure: `now` is an argument)."] {
            let expected: Vec<String> = expected
                .iter()
                .map(|text| format!("{text} in a file that says it is pure"))
                .collect();
            assert_eq!(wrong(&[("src/lib.rs", &format!("{doc}\n{code}\n"))]), expected, "{code}");
        }
        for doc in ["//! Asks.", "//! Reads an answer (pure), and asks."] {
            assert_eq!(wrong(&[("src/lib.rs", &format!("{doc}\n{code}\n"))]), [""; 0], "{code}");
        }
    }
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let lib = ("src/lib.rs", "mod a;\nmod b;\n");
    let cases: &[(&str, &str, bool)] = &[
        ("struct Row;", "struct Row;", false),
        ("enum Row { A }", "mod c { trait Row {} }", false),
        ("type Row = u8;", "struct Row;", false),
        ("struct Row;", "struct Line;", true),
        ("struct Error;", "enum Error { A }", true),
        ("struct Config;\nstruct Stats;", "struct Config;\nstruct Stats;", true),
        ("struct Row;", "#[cfg(test)]\nmod tests { struct Row; }", true),
        ("struct Row;", "fn f() { struct Row; }", true),
        ("struct Row;", "pub use crate::a::Row;", true),
        ("struct Row;", "pub type Row = crate::a::Row;", true),
        ("#[cfg(unix)]\nstruct Row;\n#[cfg(not(unix))]\nstruct Row;", "", true),
    ];
    for (a, b, good) in cases {
        let found = wrong(&[lib, ("src/a.rs", a), ("src/b.rs", b)]);
        let expected = ["src/a.rs:1: Row is 2 types: src/a.rs:1, src/b.rs:1"];
        assert_eq!(found, if *good { &[][..] } else { &expected }, "{a} {b}");
    }
    let other = ("nsq-protocol/src/lib.rs", "struct Row;\n");
    assert_wrong("another crate", &[("src/lib.rs", "struct Row;\n"), other], &[]);
}

/// A function with that many lines between its braces.
fn function(name: &str, lines: usize) -> String {
    format!("fn {name}() {{\n{}}}\n", "    f();\n".repeat(lines))
}

#[test]
fn files_and_functions_are_not_too_long_without_a_reason() {
    let (short, long) = (function("f", 60), function("f", 61));
    let method = format!("struct S;\nimpl S {{\n{long}}}\n");
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    let (full, over) = ("//\n".repeat(500), "//\n".repeat(501));
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("src/lib.rs", &short, "", &[]),
        ("src/lib.rs", &long, "", &["src/lib.rs:1: f has 61 lines, over 60"]),
        ("tests/it/main.rs", &long, "", &["tests/it/main.rs:1: f has 61 lines, over 60"]),
        ("benches/parts.rs", &long, "", &[]),
        ("src/lib.rs", &long, "src/lib.rs::f a table\n", &[]),
        (
            "src/lib.rs",
            &long,
            "src/lib.rs::f\n",
            &["scripts/tidy-exceptions:1: src/lib.rs::f has no reason"],
        ),
        ("src/lib.rs", &method, "src/lib.rs::S::f a table\n", &[]),
        ("src/lib.rs", &method, "", &["src/lib.rs:3: S::f has 61 lines, over 60"]),
        ("src/lib.rs", &tests, "", &[]),
        ("src/lib.rs", &full, "", &[]),
        (
            "nsq-protocol/tests/it/main.rs",
            &over,
            "",
            &["nsq-protocol/tests/it/main.rs:1: 501 lines, over 500"],
        ),
        ("src/lib.rs", &over, "# kept\nsrc/lib.rs the units are one\n", &[]),
        (
            "src/lib.rs",
            &short,
            "src/lib.rs::f a table\n",
            &["scripts/tidy-exceptions:1: src/lib.rs::f is not too long, or not there"],
        ),
        (
            "src/lib.rs",
            "",
            "src/gone.rs large\n",
            &["scripts/tidy-exceptions:1: src/gone.rs is not too long, or not there"],
        ),
    ];
    for (path, text, exceptions, expected) in cases {
        let files = [(*path, *text), ("scripts/tidy-exceptions", *exceptions)];
        assert_wrong(path, &files, expected);
    }
    let apart = [("src/lib.rs", "#[cfg(test)]\nmod tests;\n"), ("src/tests.rs", long.as_str())];
    assert_wrong("tests in a file of their own", &apart, &[]);
}

#[test]
fn what_is_named_is_there() {
    let gone = |path: &str| vec![format!("{path} is not in the repository")];
    let cases: &[(&str, &str, Vec<String>)] = &[
        ("README.md", "See src/lib.rs, `src/`, src/*.rs and src/room/{a,b}.rs.", vec![]),
        ("README.md", "See src/gone.rs.", gone("src/gone.rs")),
        ("README.md", "See `src/gone.rs`:", gone("src/gone.rs")),
        (
            "README.md",
            "See `gone/a.rs`, or https://nsq.io/docs/a.md and a/src/b.",
            gone("gone/a.rs"),
        ),
        ("README.md", "See `room/a.rs` and `room/*.rs`.", vec![]),
        ("README.md", "See src/gone/*.rs.", gone("src/gone/*.rs")),
        ("README.md", "In target/tools/bin and tools/bin/nsqd.", vec![]),
        ("README.md", "[here](src/lib.rs#a) [there](https://nsq.io/gone) [below](#a)", vec![]),
        ("README.md", "[here](gone.md)", vec!["the link gone.md leads nowhere".into()]),
        ("README.md", "As in DESIGN.md.", vec!["DESIGN.md is no page of the repository".into()]),
        (
            "README.md",
            "As RELIABILITY has it.",
            vec!["RELIABILITY is no page of the repository".into()],
        ),
        (
            "README.md",
            "As in ../shared/cases",
            vec!["../shared/cases is no page of the repository".into()],
        ),
        ("README.md", "See README.md; a page.md may be anywhere.", vec![]),
        ("scripts/run", "#!/bin/sh\nscripts/gone", gone("scripts/gone")),
        ("scripts/run", "#!/bin/sh\nscripts/run scripts/THING \"scripts/$x\"", vec![]),
        ("nsq-protocol/README.md", "See src/other.rs and src/lib.rs.", vec![]),
        ("src/room/b.rs", "// see src/gone.rs", gone("src/gone.rs")),
        ("src/room/b.rs", "const A: &str = \"src/gone.rs\";", vec![]),
        ("src/room/b.rs", "/* see\n src/gone.rs */", gone("src/gone.rs")),
        ("page/b.js", "f('src/gone.js'); // src/gone.rs", gone("src/gone.rs")),
        ("page/b.sql", "-- src/gone.rs", gone("src/gone.rs")),
        (
            "src/room/b.rs",
            "/// 37: a case.\nfn f() {}",
            vec!["37: is a number of no list of the repository".into()],
        ),
        ("src/room/b.rs", "/// 413: too large. 0: none.\nfn f() {}", vec![]),
        ("README.md", "37: a line", vec![]),
    ];
    for (path, text, expected) in cases {
        let mut files = vec![
            ("src/lib.rs", "mod room { mod a; mod b; }\n"),
            ("src/room/a.rs", ""),
            ("src/room/b.rs", ""),
            ("nsq-protocol/src/other.rs", ""),
            ("nsq-protocol/src/lib.rs", "mod other;\n"),
            ("README.md", ""),
        ];
        files.push((path, text));
        let found: Vec<String> =
            wrong(&files).into_iter().filter(|one| one.starts_with(path)).collect();
        let found: Vec<&str> =
            found.iter().filter_map(|one| one.splitn(3, ':').nth(2)).map(str::trim).collect();
        assert_eq!(found, *expected, "{path}: {text}");
    }
}

#[test]
fn a_measured_figure_is_quoted() {
    let page = "# Speed\n\n| work | unit | ours |\n|---|---|---|\n| count | msg/s | 393,540 (380,919 to 396,205) |\n\
        | the same | µs | 1.08 |\n\nA start takes\n29.2 ms.\n- A list takes 0.7 ms.\n";
    let no = |figure: &str| vec![format!("{figure} does not stand on docs/performance.md")];
    let bare = |figure: &str| vec![format!("the measured figure {figure} is no quote")];
    let cases: &[(&str, Vec<String>)] = &[
        ("It counts [393,540 plays a second](docs/performance.md).", vec![]),
        ("It counts [394,000 plays\na second](docs/performance.md#count).", vec![]),
        ("It counts [0.39 million a second](docs/performance.md).", vec![]),
        ("It counts [400,000 a second](docs/performance.md).", no("400,000 a second")),
        ("It counts [394,001 a second](docs/performance.md).", no("394,001 a second")),
        ("It takes [1.1 µs](docs/performance.md).", vec![]),
        ("It takes [1.2 µs](docs/performance.md).", no("1.2 µs")),
        ("It takes [1.08 ms](docs/performance.md).", no("1.08 ms")),
        (
            "It starts in [29 ms](docs/performance.md), a list takes [0.7 ms](docs/performance.md).",
            vec![],
        ),
        ("[1.1 µs and 2 µs](docs/performance.md)", no("2 µs")),
        ("It takes 1.08 µs.", bare("1.08 µs")),
        ("It counts 394,000 plays a second.", bare("394,000 a second")),
        ("It counts 1.3 million of plays\na second.", bare("1.3 million a second")),
        ("| 400 | a second request | 1 a second |", bare("1 a second")),
        ("It has a p99 of 2, or p99 2.5 ms.", bare("p99 2.5 ms")),
        ("Say `--rate 5000`, ```\n5,000 a second\n``` or once a second, in 30 s.", vec![]),
        ("[1.08 µs](docs/other.md)", bare("1.08 µs")),
    ];
    for (text, expected) in cases {
        let files = [
            ("src/lib.rs", ""),
            ("docs/performance.md", page),
            ("docs/other.md", ""),
            ("README.md", *text),
        ];
        let found = wrong(&files);
        let found: Vec<&str> =
            found.iter().filter_map(|one| one.splitn(3, ':').nth(2)).map(str::trim).collect();
        assert_eq!(found, *expected, "{text}");
    }
    let at = wrong(&[("src/lib.rs", ""), ("docs/guide.md", "\n\nIt takes\n3 µs.\n")]);
    assert_eq!(at, ["docs/guide.md:4: the measured figure 3 µs is no quote"]);
}

#[test]
fn comments_are_told_from_texts() {
    let cases: &[(&str, &[&str])] = &[
        ("a // b\n//! c\n/// d", &["b", "c", "d"]),
        ("\"// no\" // b", &["b"]),
        ("\"\\\"// no\" // b", &["b"]),
        ("r\"\\\" // b", &["b"]),
        ("r#\"\"// no\"# // b", &["b"]),
        ("br#\"// no\"# // b", &["b"]),
        ("'\"' // b\n'\\'' // c\n'\\\\' // d", &["b", "c", "d"]),
        ("fn f<'a>(x: &'a str) {} // b", &["b"]),
        ("b'\"' // b", &["b"]),
        ("/* a /* b */ c */ \"// no\"", &["a /* b */ c"]),
        ("order\"// no\"", &[]),
        ("\"line\n// no\" // b", &["b"]),
        ("'é' // b", &["b"]),
    ];
    for (code, expected) in cases {
        let lines = texts::lines("a.rs", code);
        let found: Vec<&str> = lines.iter().map(|line| line.text.trim()).collect();
        assert_eq!(found, *expected, "{code}");
    }
    let numbers: Vec<usize> =
        texts::lines("a.rs", "\"\n\"\n// a\n/*\n*/ // b").iter().map(|line| line.number).collect();
    assert_eq!(numbers, [3, 4, 5, 5]);
}

#[test]
fn figures_count_without_tests() {
    let body = function("f", 3);
    let a = format!(
        "use crate::b::B;\npub struct A(B);\n{body}#[cfg(test)]\nmod tests {{\n    fn g() {{}}\n}}\n"
    );
    let files = [
        ("src/lib.rs", "mod a;\nmod b;\n"),
        ("src/a.rs", a.as_str()),
        ("src/b.rs", "pub struct B(crate::a::A);\ntrait A {}\n"),
    ];
    let told = figures::figures(&Repository::open(tree(&files).path()));
    let src = told.split("nsq-protocol").next().unwrap_or_default();
    let expected = "src/
  files without tests: 3, lines: median 2, p90 7, largest 7 (src/a.rs)
  files over 500 lines, tests included: 0
  functions: 1, lines: median 3, p90 3, largest 3 (src/a.rs::f)
  functions over 60 lines: 0
  circles of imports: 1, files in them: 2
    2: a.rs b.rs
  type names used for several things: 1
    A 2
  rooms: 2, floors: 1, arrows between rooms: 2
    a b
    in a circle: a b
";
    assert_eq!(src, expected);
}

#[test]
fn a_public_type_without_an_example_is_refused() {
    let lib = "mod a;\npub use a::{A, B as C, f};\n#[doc(hidden)]\npub use a::D;\nuse a::E;\n";
    let example = "/// What it is.\n///\n/// ```\n/// it();\n/// ```\n#[derive(Clone)]\n";
    let rest = "/// B.\npub enum B {}\n/// f.\npub fn f() {}\npub struct D;\npub struct E;\n";
    let a = format!("{example}pub struct A;\n{rest}");
    let files = [("nsq-protocol/src/lib.rs", lib), ("nsq-protocol/src/a.rs", &a)];
    assert_wrong("B", &files, &["nsq-protocol/src/a.rs:9: B is public and has no example"]);
    let shown = format!("{example}pub struct A;\n{example}{}", rest.replacen("/// B.\n", "", 1));
    assert_wrong("all shown", &[files[0], ("nsq-protocol/src/a.rs", &shown)], &[]);
    // Of a crate that nobody else uses nothing is asked.
    assert_wrong("not published", &[("src/lib.rs", lib), ("src/a.rs", &a)], &[]);
}
