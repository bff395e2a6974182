//! The producer's outbox: what was published, and which plays nsqd has taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use playcounts::model::config::Durability;
use playcounts::producer::{self, DiskOutbox, RunIdentity};
use playcounts::storage::data_dir::DataDir;
use rustix::process::Signal;
use uuid::Uuid;

use super::{Part, State, copy};
use crate::support::{Broker, Running, wait_until};
use playcounts::model::video_id::VideoId;

/// Plays of the run.
const PLAYS: u64 = 3000;

pub(super) struct OutboxPart;

/// What an outbox tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    producer: Uuid,
    plays: u64,
    acknowledged: u64,
    counts: BTreeMap<VideoId, u64>,
}

impl Part for OutboxPart {
    type Facts = Facts;
    type Opened = DiskOutbox;
    const FILES: &'static [&'static str] = &["outbox.sqlite3", "outbox.journal", ".segment"];

    /// A run whose plays nobody counts: they are all held.
    fn build(directory: &Path, image: &Path, state: State) -> Vec<Facts> {
        assert_ne!(state, State::Killed, "its commits are its own");
        std::fs::create_dir_all(directory).unwrap();
        let broker = Broker::ours(directory);
        let (messages, tcp) = (PLAYS.to_string(), broker.tcp());
        let args = [
            "produce",
            "--num-messages",
            &messages,
            "--num-videos",
            "50",
            "--rate",
            "3000",
            "--data-dir",
            "kept",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            "http://127.0.0.1:9",
        ];
        let produce = Running::start(directory, &args);
        let kept = directory.join("kept");
        wait_until("all is published", || {
            Self::read(&kept).is_ok_and(|facts| facts.plays == PLAYS)
        });
        // Some seconds without work.
        std::thread::sleep(Duration::from_secs(4));
        if state == State::Closed {
            produce.signal(Signal::TERM);
            produce.wait();
        }
        copy(&kept, image);
        vec![Self::read(&kept).unwrap()]
    }

    fn read(image: &Path) -> Result<Facts, String> {
        let found = producer::read_outbox(image).map_err(|error| format!("{error:#}"))?;
        let found = found.ok_or("there is no outbox.sqlite3")?;
        Ok(Facts {
            producer: found.producer,
            plays: found.plays,
            acknowledged: found.acknowledged,
            counts: found.counts.into_iter().collect(),
        })
    }

    fn open(image: &Path) -> Result<(DiskOutbox, Facts, Option<String>), String> {
        let run = RunIdentity {
            topic: "plays".into(),
            messages: PLAYS,
            videos: 50,
            popularity: "uniform".into(),
        };
        let directory = DataDir::open(image).map_err(|error| format!("{error:#}"))?;
        let is_new = !image.join("outbox.sqlite3").exists();
        let opened = DiskOutbox::open(&directory, &run, Durability::Process);
        let opened = opened.map_err(|error| format!("{error:#}"))?;
        assert!(!is_new, "a new outbox is begun beside an old journal");
        Ok((opened, Self::read(image)?, None))
    }

    fn check_goes_on(opened: DiskOutbox, facts: &Facts, image: &Path) -> Result<(), String> {
        drop(opened);
        let (again, found, _) = Self::open(image).unwrap();
        assert_eq!(found, *facts, "after a new start");
        drop(again);
        Ok(())
    }
}
