//! A ledger of a test: how it is opened, and what arrives.

use std::path::Path;
use std::time::{Duration, Instant};

use nsq_protocol::MessageId;
use playcounts::journal::SyncPolicy;
use playcounts::ledger::{
    Arrivals, ArrivedPlay, DeadLetter, DurableLedger, Ledger, LedgerConfig, MessageBudget,
    MessageKey, NextUpkeep, PartOf,
};
use playcounts::model::play::{Play, PlayIdentity};
use playcounts::model::video_id::VideoId;
use uuid::Uuid;

/// Small segments, so that there are several.
pub(crate) const SEGMENT: u64 = 16 * 1024;

pub(crate) fn open(directory: &Path) -> anyhow::Result<DurableLedger> {
    let config = LedgerConfig {
        directory: directory.to_owned(),
        simulation: false,
        adopt: false,
        message_budget: MessageBudget::default(),
    };
    DurableLedger::open_with(&config, SyncPolicy::Process, SEGMENT)
}

fn key(message: u64) -> MessageKey {
    MessageKey::new(MessageId::from_u64(message), message as i64 * 1_000_000)
}

/// A play of `video`: number `seq` of a producer, or without identity, in that message, which tells its time, too.
pub(crate) fn play(video: u128, identity: Option<(u128, u64)>, message: u64) -> (Play, MessageKey) {
    let identity =
        identity.map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq });
    let enqueued_at_ns = Some(message * 1_000_000);
    let play =
        Play { video_id: VideoId::from_u128(video), enqueued_at_ns, identity, resent: false };
    (play, key(message))
}

pub(crate) fn letter(message: u64) -> DeadLetter {
    DeadLetter {
        part_of: PartOf::Alone,
        nsqd: "nsqd:4150".into(),
        message: key(message),
        reason: Play::decode(b"{}").unwrap_err(),
        size: 40,
        body: vec![message as u8; 40],
    }
}

pub(crate) fn arrivals(plays: Vec<(Play, MessageKey)>, rejected: Vec<DeadLetter>) -> [Arrivals; 1] {
    let plays = plays.into_iter().map(|(play, message)| ArrivedPlay::new(play, message)).collect();
    [Arrivals { plays, rejected }]
}

/// Does one upkeep at that time, as the thread `ledger` does.
pub(crate) fn upkeep(ledger: &mut DurableLedger, now: Instant) -> NextUpkeep {
    let Some(work) = ledger.upkeep(now) else { return NextUpkeep::Later };
    let done = work.run().unwrap();
    ledger.upkept(done).unwrap()
}

/// So many hours from now: when a checkpoint is due again.
pub(crate) fn hours(hours: u64) -> Instant {
    Instant::now() + Duration::from_secs(3600 * hours)
}
