//! A cluster on this machine, to try and to test: `scripts/cluster`. As `cargo test` runs it, a short run with one kill each of
//! an nsqd, a processor and the database, and one with a machine that is cut off.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]
#![allow(clippy::disallowed_methods, reason = "it waits for processes")]

mod check;
mod commands;
mod control;
mod database;
mod faults;
mod figures;
#[path = "../chaos/foreign.rs"]
#[allow(dead_code, reason = "shared with chaos")]
mod foreign;
mod http;
mod link;
mod name;
mod network;
#[path = "../../nsq-protocol/tests/it/nsqd.rs"]
mod nsqd;
mod options;
mod parts;
#[path = "../chaos/ports.rs"]
mod ports;
#[path = "../it/postgres_server.rs"]
#[allow(unused_macros, unused_imports, reason = "shared with the tests")]
mod postgres_server;
mod programs;
mod run;
mod sql;
mod state;
#[path = "../it/unpacked.rs"]
mod unpacked;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use argh::FromArgs;
use faults::Timed;
use options::Options;
use playcounts::runtime::signals::SignalWatch;
use programs::Programs;

/// The word that `scripts/cluster` puts first: without it this is a test, and words are names of tests.
const SCRIPT: &str = "--script";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((first, args)) if first == SCRIPT => script(args),
        // `cargo test NAME` gives every test program the name.
        Some((first, _)) if !first.starts_with('-') && !"cluster".contains(&first[..]) => Ok(()),
        _ => test(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runs of the test: over loopback one kill each of an nsqd, a processor and the database; where namespaces can be made, a
/// processor's machine that is cut off, too.
fn test() -> Result<()> {
    if std::env::args().any(|arg| arg == "--list") {
        return Ok(());
    }
    let Some(programs) = Programs::find()? else { return Ok(()) };
    if postgres_server::find().is_none() {
        return Ok(());
    }
    let (_watch, stopped) = SignalWatch::start()?;
    let run = |line: &str, faults: fn(&Options) -> Vec<Timed>| {
        let line: Vec<String> = line.split(' ').map(String::from).collect();
        let mut options = parse(&line)?;
        options.check()?;
        options.has_go_nsq = programs.go_nsq.is_some();
        let dir = tempfile::tempdir()?;
        let faults = faults(&options);
        let outcome = run::run(dir.path(), options, programs.clone(), faults, stopped.clone());
        outcome
            .map_err(|error| anyhow::anyhow!("{error:#}; files kept in {}", dir.keep().display()))
    };
    run("--for 9s --plays 1500 --foreign 100", faults::once_each)?;
    if network::can_be_made() {
        run(
            "--for 9s --plays 1500 --foreign 100 --netns --rate 100mbit --db-delay 1ms",
            faults::one_cut,
        )?;
    } else {
        println!("SKIPPED: no network namespaces can be made here, so no machine is cut off");
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match Options::from_args(&["scripts/cluster"], &args) {
        Ok(options) => Ok(options),
        Err(exit) => {
            println!("{}", exit.output);
            std::process::exit(if exit.status.is_ok() { 0 } else { 2 });
        }
    }
}

fn script(args: &[String]) -> Result<()> {
    let mut options = parse(args)?;
    match options.act.join(" ").as_str() {
        "" => {}
        "down" => return down(&options.dir),
        line => {
            if line != "status" {
                options.asked()?;
            }
            let answer = control::ask(&options.dir, line)?;
            println!("{}", answer.with_context(|| nobody(&options.dir))?);
            return Ok(());
        }
    }
    options.check()?;
    let programs = Programs::find()?.context("no nsqd: set $NSQD, or use scripts/with-nsqd")?;
    options.has_go_nsq = programs.go_nsq.is_some();
    prepare(&options.dir)?;
    let faults = faults::schedule(&options);
    let dir = options.dir.canonicalize()?;
    let (_watch, stopped) = SignalWatch::start()?;
    run::run(&dir, options, programs, faults, stopped)
        .with_context(|| format!("files are kept in {}", dir.display()))
}

/// Makes the directory empty. What an earlier cluster has left there goes; anything else is left alone.
fn prepare(dir: &Path) -> Result<()> {
    ensure!(
        control::ask(dir, "status").is_ok_and(|answer| answer.is_none()),
        "a cluster runs in {} already: `scripts/cluster down` ends it, --dir takes another place",
        dir.display()
    );
    if !dir.exists() {
        std::fs::create_dir_all(dir)?;
    }
    let is_empty = std::fs::read_dir(dir)?.next().is_none();
    ensure!(is_empty || state::is_there(dir), "{} is not empty, and no cluster's", dir.display());
    clean(dir);
    std::fs::remove_dir_all(dir)?;
    Ok(std::fs::create_dir_all(dir)?)
}

/// Ends and removes what an earlier cluster has left; whether there was anything.
fn clean(dir: &Path) -> bool {
    let killed = state::clean(dir);
    if !killed.is_empty() {
        println!("killed what was left: {}", killed.join(", "));
    }
    let had_network = network::remove_left();
    if had_network {
        println!("removed the network of a cluster that was killed");
    }
    had_network || !killed.is_empty()
}

fn down(dir: &Path) -> Result<()> {
    if control::ask(dir, "down")?.is_some() {
        println!("down");
    } else if !state::is_there(dir) || !clean(dir) {
        println!("{}", nobody(dir));
    }
    Ok(())
}

fn nobody(dir: &Path) -> String {
    format!("no cluster runs in {}", dir.display())
}
