//! `bench`: how fast this machine produces and counts, without any peer. Runs on the main thread.
//!
//! The processor, `run` and the brokers are children, this very binary, so that each one's CPU time is its own; only
//! the producer runs in this process. What is measured is also checked: a wrong count ends it.

mod config;
mod own;
mod part;
mod proc;
mod report;
mod round;

use anyhow::{Context, Result};
use nsq_protocol::thread::StopToken;

use crate::command::shared::output::{note, print_report};
use crate::model::config::Durability;
pub(super) use config::BenchArgs;
use config::BenchConfig;
use own::Scratch;
use proc::Machine;
use report::{BenchReport, Samples};
use round::Round;

/// The rates at which the time from enqueued to counted is measured, in plays a second.
const RATES: [u64; 2] = [100, 1_000];

/// Measures and prints the report; tells on stderr what comes next.
pub(super) fn run(args: BenchArgs, stop: &StopToken) -> Result<()> {
    let config = args.config()?;
    let samples = measure(&config, stop)?;
    print_report(config.format, &BenchReport::new(&config, Machine::this(), samples))
}

/// # Errors
/// What kept a part from starting or ending well, a count that is wrong, or `stop`.
fn measure(config: &BenchConfig, stop: &StopToken) -> Result<Samples> {
    let scratch = Scratch::make(&config.data_dir)?;
    let mut samples = Samples::default();
    let round = Round { config, scratch: &scratch, stop };
    for number in 1..=config.rounds {
        let of = format!("round {number} of {}", config.rounds);
        for durability in [Durability::None, Durability::Process, Durability::Power] {
            let work = format!("process, durability {durability}");
            note(format_args!("{of}: produce, then {work}"));
            round.produce_and_process(durability, &work, &mut samples).context(work)?;
        }
        note(format_args!("{of}: run, end to end"));
        round.run(&mut samples).context("run, end to end")?;
        for rate in RATES {
            let work = format!("at {rate} plays a second");
            note(format_args!("{of}: {work}"));
            round.latency(rate, &work, &mut samples).context(work)?;
        }
    }
    Ok(samples)
}
