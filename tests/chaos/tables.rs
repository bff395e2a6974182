//! What a shared ledger holds, read by SQL from its tables.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use playcounts::ledger::{Counters, Record, Snapshot};
use playcounts::model::seq_set::SeqSet;
use playcounts::model::video::VideoState;
use uuid::Uuid;

use crate::postgres_server::Postgres;
use playcounts::model::video_id::VideoId;

/// All of it as of one moment, a kind of row and its fields a line.
const ALL: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ;
    SELECT 'processor', id, as_of, counted, by_message, recovered, duplicates, rejected FROM playcounts.processors;
    SELECT 'video', processor, number, encode(video, 'hex'), plays, as_of FROM playcounts.videos;
    SELECT 'record', processor, number, encode(record, 'hex') FROM playcounts.records ORDER BY processor, number;
    SELECT 'producer', producer, watermark FROM playcounts.producers;
    SELECT 'seen', producer, segment, encode(bits, 'hex') FROM playcounts.seen;
    COMMIT";

/// Plays in one row of `seen`.
const SEGMENT: u64 = 1024;

/// What one processor has counted.
#[derive(Default)]
struct OfProcessor {
    /// Its counters are as of that record.
    as_of: u64,
    counters: Counters,
    /// By number: its id, its plays, and as of which record.
    videos: HashMap<u32, (VideoId, u64, u64)>,
}

impl OfProcessor {
    /// Adds a record; in order.
    fn add(&mut self, number: u64, record: &Record) -> Result<()> {
        if number > self.as_of {
            self.counters.add(&record.counters);
        }
        for (at, id) in (record.first_video..).zip(&record.new_videos) {
            self.videos.entry(at).or_insert((*id, 0, 0));
        }
        for delta in &record.deltas {
            let (_, plays, as_of) =
                self.videos.get_mut(&delta.number).context("a record names a video")?;
            if number > *as_of {
                *plays += delta.plays;
            }
        }
        Ok(())
    }
}

/// Reads it, whether or not processors count meanwhile.
pub(crate) fn read(server: &Postgres) -> Result<Snapshot> {
    let mut processors: HashMap<Uuid, OfProcessor> = HashMap::new();
    let mut producers: HashMap<Uuid, SeqSet> = HashMap::new();
    for line in server.sql(ALL).lines() {
        let fields: Vec<&str> = line.split('|').collect();
        match fields[..] {
            ["processor", id, as_of, counted, by_message, recovered, duplicates, rejected] => {
                let one = processors.entry(id.parse()?).or_default();
                one.as_of = as_of.parse()?;
                one.counters = Counters {
                    counted: counted.parse()?,
                    by_message: by_message.parse()?,
                    recovered: recovered.parse()?,
                    duplicates: duplicates.parse()?,
                    rejected: rejected.parse()?,
                    ..Counters::default()
                };
            }
            ["video", processor, number, video, plays, as_of] => {
                let video = VideoId::from_bytes(&bytes(video)?).context("a video's id")?;
                let row = (video, plays.parse()?, as_of.parse()?);
                processors
                    .entry(processor.parse()?)
                    .or_default()
                    .videos
                    .insert(number.parse()?, row);
            }
            ["record", processor, number, record] => {
                let record = Record::decode(&bytes(record)?)?;
                processors.entry(processor.parse()?).or_default().add(number.parse()?, &record)?;
            }
            ["producer", producer, watermark] => {
                let below = 0..watermark.parse()?;
                producers.entry(producer.parse()?).or_default().insert_run(below);
            }
            ["seen", producer, segment, bits] => {
                let (bits, first) = (bytes(bits)?, segment.parse::<u64>()? * SEGMENT);
                let set = producers.entry(producer.parse()?).or_default();
                let is_set = |at: &u64| bits[*at as usize / 8] >> (at % 8) & 1 == 1;
                (0..SEGMENT)
                    .filter(is_set)
                    .for_each(|at| set.insert_run(first + at..first + at + 1));
            }
            _ => bail!("not a row: {line}"),
        }
    }
    let (mut counters, mut plays) = (Counters::default(), HashMap::<VideoId, u64>::new());
    for one in processors.values() {
        counters.add(&one.counters);
        one.videos.values().for_each(|(id, more, _)| *plays.entry(*id).or_default() += more);
    }
    let state = |(video_id, plays)| VideoState { video_id, plays, published: 0, last_played_at: 0 };
    Ok(Snapshot {
        processor: Uuid::nil(),
        counters,
        videos: plays.into_iter().map(state).collect(),
        producers: producers.into_iter().collect(),
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|two| Ok(u8::from_str_radix(std::str::from_utf8(two)?, 16)?)).collect()
}
