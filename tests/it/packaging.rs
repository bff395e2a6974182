//! The units of systemd: well-formed, and hardened. What a booted machine makes of them is `scripts/package/try`'s.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The exposure, of 10, that each unit must stay below.
const EXPOSURE_MAX: f64 = 2.0;

/// The units, by path.
fn units() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package/units");
    let mut units: Vec<_> =
        fs::read_dir(folder).unwrap().map(|unit| unit.unwrap().path()).collect();
    units.sort();
    assert_eq!(units.len(), 3, "{units:?}");
    units
}

/// Runs systemd-analyze; `None`, said loudly, where there is none.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn analyze(args: &[&str]) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(args).output();
    if output.is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no systemd-analyze");
        eprintln!("SKIPPED: no systemd-analyze: install systemd; the units are not checked");
    }
    output.ok()
}

#[test]
fn units_are_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_playcounts");
    for unit in units() {
        // The program need not be installed.
        let text = fs::read_to_string(&unit).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/playcounts "), "{unit:?}");
        let copy = dir.path().join(unit.file_name().unwrap());
        fs::write(&copy, text.replace("/usr/bin/playcounts", program)).unwrap();
        let args = ["verify", "--man=no", "--recursive-errors=no", copy.to_str().unwrap()];
        let Some(verified) = analyze(&args) else { return };
        let said = [&verified.stdout[..], &verified.stderr].concat();
        assert!(
            verified.status.success() && said.is_empty(),
            "{unit:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[test]
fn units_are_hardened() {
    for unit in units() {
        let args = ["security", "--no-pager", "--offline=true", unit.to_str().unwrap()];
        let Some(looked) = analyze(&args) else { return };
        let said = String::from_utf8_lossy(&looked.stdout).into_owned();
        let level = said
            .split_once("Overall exposure level for ")
            .and_then(|(_, level)| level.split_whitespace().nth(1)?.parse::<f64>().ok());
        let level = level.unwrap_or_else(|| panic!("{unit:?}: {looked:?}"));
        assert!(level < EXPOSURE_MAX, "{unit:?}: {level}\n{said}");
        // It would hide which start of the machine this is, which journals must know.
        let text = fs::read_to_string(&unit).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("ProcSubset=")), "{unit:?}");
    }
}
