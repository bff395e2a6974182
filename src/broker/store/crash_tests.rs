//! A topic's log on a disk that is killed, loses its power, and fills up, at any call: what was acknowledged is delivered, and
//! nothing that nobody has published.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::{ChannelName, MessageId, TopicName};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::keeper::{CoreAccess, TopicOf, changes, keep, moment};
use super::open::{LogConfig, open_on};
use super::topic_log::{LogBatch, LogTime, TopicLog};
use super::usage::DiskUsage;
use crate::broker::config::BrokerConfig;
use crate::broker::core::{Core, NewBatch};
use crate::journal::tests::sim::{Crash, Fault, SimDisk};
use crate::journal::{JournalError, Sync, SyncPolicy};
use crate::model::unix_time::UnixMs;

const CONSUMER: u64 = 7;

/// The core, as the hub has it.
struct Desk(Mutex<Core>);

impl CoreAccess for Desk {
    fn ask<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.0.lock();
        let done = work(&mut core);
        core.take_effects();
        done
    }
}

/// A broker with one topic and one channel, and what must become of its messages.
struct Site {
    disk: SimDisk,
    rng: StdRng,
    sync: SyncPolicy,
    segment_bytes: u64,
    boot: u128,
    /// What was published, numbered; and what of it was acknowledged and has not come yet.
    sent: u64,
    missing: BTreeSet<u64>,
    /// Those below it have got to the disk.
    synced_below: u64,
    starts: u32,
    refused: u32,
}

fn name() -> TopicName {
    TopicName::new("plays").unwrap()
}

fn channel() -> ChannelName {
    ChannelName::new("a").unwrap()
}

impl Site {
    fn new(seed: u64, sync: SyncPolicy) -> Self {
        Self {
            disk: SimDisk::new(seed ^ 0x5eed),
            rng: StdRng::seed_from_u64(seed),
            sync,
            segment_bytes: 8192,
            boot: 1,
            sent: 0,
            missing: BTreeSet::new(),
            synced_below: 0,
            starts: 0,
            refused: 0,
        }
    }

    /// One start; `None`: the disk ended before.
    fn start(&mut self) -> Option<(Desk, TopicLog)> {
        let config = BrokerConfig {
            data_path: Some("plays".into()),
            mem_queue_size: 4,
            ..BrokerConfig::default()
        };
        let mut core = Core::new(config, UnixMs(0));
        let log_config = LogConfig {
            sync: self.sync,
            segment_bytes: self.segment_bytes,
            sync_every: 20,
            boot: Uuid::from_u128(self.boot),
        };
        let usage = Arc::new(DiskUsage::new(u64::MAX));
        let opened = open_on(self.disk.shared(), name(), log_config, core.body_bytes(), usage);
        let (log, saved) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let is_io = matches!(error.downcast_ref(), Some(JournalError::Io { .. }));
                assert!(is_io, "a start is refused: {error:#}");
                return None;
            }
        };
        self.starts += 1;
        core.restore(&saved, moment());
        core.connect(CONSUMER, "127.0.0.1:1".into(), UnixMs(0));
        let desk = Desk(Mutex::new(core));
        let make = |core: &mut Core| core.create_channel(&name(), &channel(), Instant::now());
        // Before it is kept nothing else is done: as SUB does.
        let (made, kept) = log.change(|| desk.ask(make), || changes(&desk, &log, true));
        made.unwrap();
        kept.ok()?;
        desk.ask(|core| core.subscribe(CONSUMER, &name(), &channel(), Instant::now())).unwrap();
        Some((desk, log))
    }

    fn publish(&mut self, desk: &Desk, log: &TopicLog) {
        let count = self.rng.random_range(1..4);
        let mut numbers = Vec::new();
        let batches = (0..count).map(|_| {
            let size = self.rng.random_range(8..400);
            let mut body = self.sent.to_be_bytes().to_vec();
            body.resize(size, b'x');
            numbers.push(self.sent);
            self.sent += 1;
            let batch = NewBatch::one(&body);
            let is_late = self.rng.random_range(0..9) == 0;
            let delay = if is_late { Duration::from_millis(1) } else { Duration::ZERO };
            LogBatch { publisher: None, batch, delay }
        });
        let batches: Vec<_> = batches.collect();
        let time = || LogTime { now: Instant::now(), unix_ns: 1 };
        let done = log.publish(batches, time, |kept, _| {
            desk.ask(|core| kept.into_iter().for_each(|one| core.publish_kept(&name(), one)));
        });
        match done {
            Ok(()) => self.missing.extend(numbers),
            Err(_) => self.refused += 1,
        }
    }

    /// Gets what there is, and finishes most of it; one in 64 is given back each time, unless it is to be `all`.
    fn consume(&mut self, desk: &Desk, log: &TopicLog, all: bool) {
        desk.ask(|core| core.set_ready(CONSUMER, if all { 1000 } else { 20 }));
        while let Some(plan) = desk.ask(Core::next_load) {
            match log.load(&plan) {
                Ok(loaded) => desk.ask(|core| core.loaded(&plan, loaded, moment())),
                Err(_) => return desk.ask(|core| core.load_failed(&plan, false)),
            }
        }
        let mut runs = Vec::new();
        desk.ask(|core| {
            core.tick(Instant::now(), 1000);
            core.pull(CONSUMER, Instant::now(), 1 << 20, &mut runs)
        });
        for (id, body) in runs.iter().flat_map(|run| run.messages()) {
            let number = u64::from_be_bytes(*body.first_chunk().unwrap());
            assert!(number < self.sent, "nobody has published {number}");
            let id = MessageId::from_u64(id);
            if !all && number.is_multiple_of(64) {
                let now = Instant::now();
                desk.ask(|core| core.requeue(CONSUMER, id, Duration::ZERO, now)).unwrap();
            } else if all || self.rng.random_range(0..100) > 0 {
                self.missing.remove(&number);
                let ids = std::iter::once(id);
                desk.ask(|core| core.finish(CONSUMER, 0, ids, |_, why| panic!("{why}")));
            }
        }
    }

    fn keep(&mut self, desk: &Desk, log: &TopicLog) {
        let sync = if self.rng.random() { Sync::All } else { Sync::Closed };
        // It says so where the disk has ended, and goes on.
        if keep(desk, log, sync).is_ok() && sync == Sync::All {
            self.synced_below = self.sent;
        }
    }

    /// A start, and what is done until the disk ends.
    fn live(&mut self) {
        let calls = self.rng.random_range(1..600);
        self.disk.crash_in(calls);
        if self.rng.random_range(0..4) == 0 {
            let from = self.disk.calls() + self.rng.random_range(0..calls);
            let to = from + self.rng.random_range(1..40);
            let fault = if self.rng.random() { Fault::Full } else { Fault::Short };
            self.disk.fail(from, to, fault);
        }
        let Some((desk, log)) = self.start() else { return };
        for _ in 0..2000 {
            if self.disk.is_dead() {
                return;
            }
            match self.rng.random_range(0..8) {
                0..4 => self.publish(&desk, &log),
                4..6 => self.consume(&desk, &log, false),
                _ => self.keep(&desk, &log),
            }
        }
    }

    /// All that was acknowledged comes.
    fn check_all(&mut self) {
        let (desk, log) = self.start().expect("the disk works");
        let until = Instant::now() + Duration::from_secs(20);
        while !self.missing.is_empty() {
            self.consume(&desk, &log, true);
            let missing = &self.missing;
            assert!(Instant::now() < until, "{} never come: {missing:?}", missing.len());
        }
    }
}

fn crashes(sync: SyncPolicy, crash: Crash, seeds: std::ops::Range<u64>) {
    let (mut starts, mut refused) = (0, 0);
    for seed in seeds {
        let mut site = Site::new(seed, sync);
        for _ in 0..6 {
            site.live();
            site.disk.reboot(crash);
            site.disk.fail(u64::MAX, u64::MAX, Fault::Full);
            if (sync, crash) == (SyncPolicy::Process, Crash::Power) {
                let synced_below = site.synced_below;
                site.missing.retain(|number| *number < synced_below);
            }
            site.boot += u128::from(crash == Crash::Power);
        }
        site.disk.crash_in(u64::MAX / 2);
        site.check_all();
        starts += site.starts;
        refused += site.refused;
    }
    assert!(
        starts > 100 && refused > 10,
        "{starts} starts, {refused} refused: it tries too little"
    );
}

#[test]
fn what_is_acknowledged_survives_a_kill_at_any_call() {
    crashes(SyncPolicy::Process, Crash::Kill, 0..40);
}

#[test]
fn what_is_acknowledged_with_power_survives_a_power_loss_at_any_call() {
    crashes(SyncPolicy::Power, Crash::Power, 100..140);
}

/// Also where nobody asked for that: nothing that was kept before is lost with the segments that go.
#[test]
fn what_had_got_to_the_disk_survives_a_power_loss_at_any_call() {
    crashes(SyncPolicy::Process, Crash::Power, 200..240);
}

/// All of it is told each time.
#[test]
fn much_that_is_out_of_order_is_told_less_often() {
    let mut site = Site { segment_bytes: 1 << 20, ..Site::new(1, SyncPolicy::Process) };
    let (desk, log) = site.start().unwrap();
    let time = || LogTime { now: Instant::now(), unix_ns: 1 };
    let publish = |count: usize, delay| {
        let one = || LogBatch { publisher: None, batch: NewBatch::one(b"x"), delay };
        let batches = (0..count).map(|_| one()).collect();
        log.publish(batches, time, |kept, _| {
            desk.ask(|core| kept.into_iter().for_each(|one| core.publish_kept(&name(), one)));
        })
    };
    let now = Instant::now();
    let keep = |sync, later| {
        // Each is a change.
        desk.ask(|core| core.pause_channel(&name(), &channel())).unwrap();
        let before = log.writer.lock().journal.written();
        let topic = TopicOf { core: &desk, log: &log };
        log.keep(&topic, sync, now + Duration::from_millis(later)).unwrap();
        let has_told = log.writer.lock().journal.written() > before;
        (has_told, log.has_untold())
    };
    for (deferred, pause) in [(0, 0), (9_000, 0), (22_000, 300)] {
        publish(deferred, Duration::from_secs(3600)).unwrap();
        assert_eq!(keep(Sync::All, 0), (true, false), "{deferred}");
        if pause > 0 {
            assert_eq!(keep(Sync::Closed, pause - 1), (false, true), "{deferred}");
            assert_eq!(keep(Sync::All, pause - 1), (true, false), "{deferred}");
            assert_eq!(keep(Sync::Closed, pause), (false, true), "{deferred}: told since");
        }
        assert_eq!(keep(Sync::Closed, 2 * pause), (true, false), "{deferred}");
    }
}

/// Though nobody publishes any more.
#[test]
fn a_sync_that_fails_is_tried_again_and_all_is_well_then() {
    let mut site = Site::new(3, SyncPolicy::Process);
    let (desk, log) = site.start().unwrap();
    keep(&desk, &log, Sync::All).unwrap();
    site.publish(&desk, &log);
    let now = site.disk.calls();
    site.disk.fail(now, u64::MAX, Fault::Full);
    keep(&desk, &log, Sync::All).unwrap_err();
    assert!(log.usage.failure().is_some() && log.is_to_be_kept());
    site.disk.fail(u64::MAX, u64::MAX, Fault::Full);
    keep(&desk, &log, Sync::All).unwrap();
    assert_eq!((log.usage.failure(), log.is_to_be_kept()), (None, false));
}
