//! Every play delivered twice, each time in another order: counted once, and what memory that takes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::seq::SliceRandom;
use uuid::Uuid;

use crate::parts::{BrokerKind, Parts};
use crate::schedule::Part;
use crate::{start_all, wait};

/// Plays of one POST.
const BATCH: usize = 5000;

pub(crate) fn run(dir: &Path, kind: BrokerKind, plays: u64) -> Result<()> {
    let mut parts = Parts::new(dir, kind, 0, 0)?;
    start_all(&mut parts)?;
    let producer = Uuid::new_v4();
    let play = |seq: u64| {
        let video = Uuid::from_u128(u128::from(seq % 100));
        format!(r#"{{"video_id":"{video}","producer":"{producer}","seq":{seq}}}"#)
    };
    let mut bodies: Vec<String> = (0..plays).map(play).collect();
    let started = Instant::now();
    let before = parts.peak_memory(Part::Processor(0))?;
    for _ in 0..2 {
        bodies.shuffle(&mut rand::rng());
        for lines in bodies.chunks(BATCH) {
            let url = format!("{}/mpub?topic=plays", parts.broker_url());
            ureq::post(&url).send(lines.join("\n")).context("the broker takes them")?;
        }
    }
    wait("every message is finished", || {
        let url = format!("{}/stats?format=json&topic=plays", parts.broker_url());
        let text = ureq::get(&url).call()?.body_mut().read_to_string()?;
        let stats: serde_json::Value = serde_json::from_str(&text)?;
        let channel = &stats["topics"][0]["channels"][0];
        Ok(channel["message_count"] == 2 * plays
            && channel["depth"] == 0
            && channel["in_flight_count"] == 0)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let peak = parts.peak_memory(Part::Processor(0))?;
    let ledger = parts.read_ledger()?;
    let (counted, duplicates) = (ledger.counters.counted, 2 * plays - ledger.counters.counted);
    println!(
        "  counted {counted}, not counted again {duplicates}, in {seconds:.1} s; peak memory of the processor {peak} KiB, \
         {before} KiB before"
    );
    if counted != plays {
        bail!("{plays} plays were counted {counted} times");
    }
    Ok(())
}
