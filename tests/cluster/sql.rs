//! What is read from the shared database, by statements that are not the processors' own: what is counted, and how many
//! transactions there were.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use playcounts::ledger::{Counters, Record, Snapshot};
use playcounts::model::seq_set::SeqSet;
use playcounts::model::video::VideoState;
use playcounts::model::video_id::VideoId;
use playcounts::postgres::{Param, PgConfig, PgConnection};
use uuid::Uuid;

/// Plays in one row of `seen`.
const SEGMENT: u64 = 1024;

/// How long the database may take for a statement. It is on this machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

const COMMITS: &str = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";

/// A sweep moves plays from records to rows meanwhile.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const END: &str = "COMMIT";

const PROCESSORS: &str = "SELECT id, recovered, duplicates FROM playcounts.processors";

const VIDEOS: &str =
    "SELECT number, video, plays, as_of FROM playcounts.videos WHERE processor = $1";

const RECORDS: &str =
    "SELECT number, record FROM playcounts.records WHERE processor = $1 ORDER BY number";

const PRODUCERS: &str = "SELECT producer, watermark FROM playcounts.producers";

const SEEN: &str = "SELECT producer, segment, bits FROM playcounts.seen";

/// A connection that is made again when it breaks.
pub(crate) struct Observer {
    config: PgConfig,
    connection: Option<PgConnection>,
}

impl Observer {
    pub(crate) fn new(url: &str, passwords: &Path) -> Result<Self> {
        let passwords = passwords.display().to_string();
        let env = |name: &str| (name == "PGPASSFILE").then(|| passwords.clone());
        let url = format!("{url}?connect_timeout=2");
        Ok(Self { config: PgConfig::parse(&url, &env)?, connection: None })
    }

    /// A database that does not answer holds nobody up for long.
    fn connect(&self) -> Result<PgConnection> {
        let mut connection = PgConnection::connect(&self.config)?;
        connection.set_answer_timeout(ANSWER_LIMIT);
        Ok(connection)
    }

    fn with<T>(&mut self, ask: impl FnOnce(&mut PgConnection) -> Result<T>) -> Result<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = ask(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Transactions since the server's statistics began.
    pub(crate) fn commits(&mut self) -> Result<u64> {
        self.with(|connection| Ok(connection.query(COMMITS, &[])?.first()?.int(0)?.cast_unsigned()))
    }

    /// What is counted at one moment, by all processors together.
    pub(crate) fn snapshot(&mut self) -> Result<Snapshot> {
        self.with(|connection| {
            connection.query(BEGIN, &[])?;
            let mut counters = Counters::default();
            let mut counts: HashMap<VideoId, u64> = HashMap::new();
            for row in connection.query(PROCESSORS, &[])?.iter() {
                let id = row.uuid(0)?;
                counters.recovered += row.int(1)?.cast_unsigned();
                counters.duplicates += row.int(2)?.cast_unsigned();
                for (video, plays) in
                    counted_by(connection, id).with_context(|| format!("processor {id}"))?
                {
                    *counts.entry(video).or_default() += plays;
                }
            }
            let state =
                |(video_id, plays)| VideoState { video_id, plays, published: 0, last_played_at: 0 };
            let videos = counts.into_iter().map(state).collect();
            let producers = producers(connection)?;
            connection.query(END, &[])?;
            Ok(Snapshot { processor: Uuid::nil(), counters, videos, producers })
        })
    }
}

/// The videos of a processor: their rows, and what its records add to them.
fn counted_by(connection: &mut PgConnection, processor: Uuid) -> Result<Vec<(VideoId, u64)>> {
    let id = [Param::Uuid(processor)];
    // By number: video, plays, and as of which record.
    let mut videos: HashMap<u32, (VideoId, u64, i64)> = HashMap::new();
    for row in connection.query(VIDEOS, &id)?.iter() {
        let video = VideoId::from_bytes(row.bytes(1)?).context("a video's id")?;
        videos
            .insert(u32::try_from(row.int(0)?)?, (video, row.int(2)?.cast_unsigned(), row.int(3)?));
    }
    let mut last = None;
    for row in connection.query(RECORDS, &id)?.iter() {
        let number = row.int(0)?;
        ensure!(last.is_none_or(|last| number == last + 1), "record {number} follows {last:?}");
        last = Some(number);
        let record = Record::decode(row.bytes(1)?)
            .map_err(|error| anyhow::anyhow!("record {number}: {error:?}"))?;
        for (place, video) in (record.first_video..).zip(&record.new_videos) {
            videos.entry(place).or_insert((*video, 0, 0));
        }
        for delta in &record.deltas {
            let (_, plays, as_of) =
                videos.get_mut(&delta.number).context("a video that is not there")?;
            if number > *as_of {
                *plays += delta.plays;
            }
        }
    }
    Ok(videos.into_values().map(|(video, plays, _)| (video, plays)).collect())
}

/// Which plays of each producer are counted.
fn producers(connection: &mut PgConnection) -> Result<Vec<(Uuid, SeqSet)>> {
    let mut producers: HashMap<Uuid, SeqSet> = HashMap::new();
    for row in connection.query(PRODUCERS, &[])?.iter() {
        let watermark = row.int(1)?.cast_unsigned();
        if watermark > 0 {
            producers.entry(row.uuid(0)?).or_default().insert_run(0..watermark);
        }
    }
    for row in connection.query(SEEN, &[])?.iter() {
        let set = producers.entry(row.uuid(0)?).or_default();
        let first = row.int(1)?.cast_unsigned() * SEGMENT;
        for (index, byte) in (0..).zip(row.bytes(2)?) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                // False: below the watermark, which says it, too.
                set.insert(first + 8 * index + bit);
            }
        }
    }
    Ok(producers.into_iter().collect())
}
