//! Takes a ledger in files over into the shared one, as one processor of it. Blocks the thread of the command `ledger import`.
//!
//! The data directory is marked as one of the shared ledger's before anything is written there: from then on no processor
//! counts in its files, however the import ends. All is written in one transaction; it is there or not, and the next try finds
//! out which. Then the files get other names.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail};
use uuid::Uuid;

use super::holder::{Holder, HolderFile};
use super::link::connect;
use super::membership::given_back;
use super::messages::key_of;
use super::new_messages::{AskTables, NewMessages};
use super::schema;
use super::segments::{SEGMENT_PLAYS, STRIPES, SegmentBits, joined, segment_of};
use super::transaction::{COMMIT, LOCK_STRIPES, insert_messages, write_letters};
use super::trouble::Trouble;
use crate::ledger::checkpoint::SavedVideo;
use crate::ledger::dead_letters::KeptLetters;
use crate::ledger::letter::SavedDeadLetter;
use crate::ledger::owner::LedgerConfig;
use crate::ledger::snapshot::put_imported_aside;
use crate::ledger::whole::{WholeLedger, read_whole};
use crate::postgres::{Param, PgConfig, PgConnection, PgError};

/// Rows of one statement: some 100 KB.
const ROWS: usize = 2_000;

/// Producers that are looked up at once.
const PRODUCERS: usize = 500;

/// Dead letters of one statement, each of up to 16 KiB.
const LETTERS: usize = 50;

/// The one record that an imported processor has: all of it is in the videos already.
const RECORD: i64 = 1;

const BEGIN: &str = "BEGIN";

/// Its lease is given back: whoever starts next may count on under its id.
const MAKE: &str = concat!(
    "INSERT INTO playcounts.processors (id, holder, epoch, starts, last_record, swept, as_of,
        counted, by_message, recovered, duplicates, conflicting, rejected, lease_until)
    VALUES ($1, $2, 1, $3, $4, $4, $4, $5, $6, $7, $8, $9, $10, ",
    given_back!(),
    ") ON CONFLICT DO NOTHING RETURNING id"
);

const READ_HOLDER: &str = "SELECT holder FROM playcounts.processors WHERE id = $1";

const WRITE_VIDEOS: &str =
    "INSERT INTO playcounts.videos (processor, video, number, plays, last_played_at, as_of)
    SELECT $1, v.video, v.number, v.plays, v.last_played_at, $2
    FROM unnest($3::bytea[], $4::int8[], $5::int8[], $6::int8[]) AS v(video, number, plays, last_played_at)";

const READ_WATERMARKS: &str =
    "SELECT producer, watermark FROM playcounts.producers WHERE producer = ANY($1::uuid[])";

const READ_SEGMENTS: &str = "SELECT producer, segment, bits FROM playcounts.seen
    WHERE producer = ANY($1::uuid[])";

const DELETE_SEGMENTS: &str = "DELETE FROM playcounts.seen WHERE producer = ANY($1::uuid[])";

const WRITE_SEGMENTS: &str = "INSERT INTO playcounts.seen (producer, segment, bits)
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::bytea[])";

const WRITE_WATERMARKS: &str = "INSERT INTO playcounts.producers (producer, watermark)
    SELECT * FROM unnest($1::uuid[], $2::int8[])
    ON CONFLICT (producer) DO UPDATE SET watermark = excluded.watermark";

/// A ledger in files that is taken over.
#[derive(Clone, Debug)]
pub struct ImportConfig {
    /// Where the shared ledger is.
    pub database: PgConfig,
    /// The ledger in files. The caller holds its directory's processor lock.
    pub files: LedgerConfig,
}

/// What was taken over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Under which id.
    pub processor: Uuid,
    /// Into which shared ledger, by its life.
    pub ledger: Uuid,
    /// Another try had written it all, and only the files had to be put aside.
    pub was_written: bool,
    /// Plays.
    pub plays: u64,
    /// Videos.
    pub videos: u64,
    /// Producers of which plays are known.
    pub producers: u64,
    /// Plays that the shared ledger had counted, too: they are counted twice, and were before.
    pub counted_twice: u64,
    /// Messages of plays without an identity.
    pub messages: u64,
    /// Of those, messages of which the old ledger kept no time: the shared one does not know them again.
    pub undated: u64,
    /// Bodies that were no play.
    pub dead_letters: u64,
    /// What the files are called now.
    pub aside: Vec<String>,
}

/// Takes it over.
///
/// # Errors
/// One line with the way out: there is no ledger in files, or it is a simulation's, of another machine or damaged; the shared
/// one has a processor of that id; or the database is away or refuses. Nothing is taken over then, and the files may be used
/// as before; but where the database went away in the middle of the commit the line says to try again.
pub fn import_files(config: &ImportConfig) -> Result<Imported> {
    let directory = &config.files.directory;
    let mut connection = connect(&config.database)?;
    let ledger = schema::ensure(&mut connection)?.life;
    let file = HolderFile::in_directory(directory);
    let marked = file.read()?;
    if let Some(holder) = marked
        && holder.ledger != ledger
    {
        bail!(
            "the data directory {} belongs to another shared ledger ({}) than this one ({ledger}): give the right --ledger",
            directory.display(),
            holder.ledger
        );
    }
    let Some((whole, mut letters)) = read_whole(&config.files)? else {
        let shown = directory.display();
        let Some(holder) = marked else {
            bail!("there is no ledger in {shown}; give --data-dir the one of `process`")
        };
        // A try that was killed may have left some.
        put_imported_aside(directory)?;
        bail!(
            "the data directory {shown} has no ledger in files: it counts as processor {} of the shared one",
            holder.processor
        );
    };
    check_marked(directory, marked, &whole)?;
    let holder = Holder {
        holder: marked.map_or_else(Uuid::new_v4, |known| known.holder),
        processor: whole.processor,
        ledger,
        record: 0,
    };
    let mut imported = Imported::of(&whole, ledger);
    match find_holder(&mut connection, whole.processor)? {
        Some(found) if marked.is_some() && found == holder.holder => {
            imported.was_written = true;
            imported.dead_letters = each_page(&mut letters, |_| Ok(()))?;
        }
        Some(_) => bail!(
            "the shared ledger has a processor {} already: a copy of this ledger was taken over before",
            whole.processor
        ),
        None => {
            file.write(&holder)?;
            write(&mut connection, &holder, &whole, &mut letters, &mut imported)
                .map_err(|failure| unmark(&file, failure))?;
        }
    }
    // Durable now: the processor must not go on with less.
    file.write(&Holder { record: RECORD.unsigned_abs(), ..holder })?;
    imported.aside = put_imported_aside(directory)?;
    Ok(imported)
}

/// Checks that the files are of the processor that the data directory counts as, if it is marked.
///
/// # Errors
/// They are another one's.
fn check_marked(directory: &Path, marked: Option<Holder>, whole: &WholeLedger) -> Result<()> {
    if let Some(holder) = marked
        && holder.processor != whole.processor
    {
        bail!(
            "the data directory {} counts as processor {} of the shared ledger, and has the files of processor {}: move \
             these to a directory of their own",
            directory.display(),
            holder.processor,
            whole.processor
        );
    }
    Ok(())
}

/// Whoever counts under that id, if the shared ledger has it.
fn find_holder(connection: &mut PgConnection, processor: Uuid) -> Result<Option<Uuid>> {
    let rows = connection.query(READ_HOLDER, &[Param::Uuid(processor)])?;
    Ok(rows.get(0).map(|row| row.uuid(0)).transpose()?)
}

/// Why it is not written.
enum WriteFailure {
    /// It is rolled back.
    RolledBack(anyhow::Error),
    /// The commit may have taken place.
    InDoubt(PgError),
}

impl<T: Into<Trouble>> From<T> for WriteFailure {
    fn from(error: T) -> Self {
        Self::RolledBack(error.into().at_start())
    }
}

/// Takes the mark back where nothing was written; what to say.
fn unmark(file: &HolderFile, failure: WriteFailure) -> anyhow::Error {
    match failure {
        WriteFailure::RolledBack(error) => match file.remove() {
            Ok(()) => error.context("nothing was taken over"),
            Err(failed) => failed,
        },
        WriteFailure::InDoubt(error) => anyhow::Error::from(error).context(
            "whether the ledger was taken over is not known: import it again, which finds out",
        ),
    }
}

/// Writes all of it in one transaction. Locks are taken in the order of commits: the own row, stripes, messages.
fn write(
    connection: &mut PgConnection,
    holder: &Holder,
    whole: &WholeLedger,
    letters: &mut KeptLetters,
    imported: &mut Imported,
) -> Result<(), WriteFailure> {
    connection.query(BEGIN, &[])?;
    let fields = whole.counters.fields().map(|field| Param::Int(field.cast_signed()));
    let mut params = vec![
        Param::Uuid(holder.processor),
        Param::Uuid(holder.holder),
        Param::Int(whole.starts.cast_signed() + 1),
        Param::Int(RECORD),
    ];
    params.extend(fields);
    if connection.query(MAKE, &params)?.is_empty() {
        let id = holder.processor;
        let reason = format!("processor {id} is in the shared ledger already");
        return Err(Trouble::Damaged(reason).into());
    }
    for videos in whole.videos.chunks(ROWS) {
        write_videos(connection, holder.processor, videos)?;
    }
    let write_page = |page: &[SavedDeadLetter]| {
        let mut chunks = page.chunks(LETTERS);
        chunks.try_for_each(|some| Ok(write_letters(connection, holder.processor, some)?))
    };
    imported.dead_letters = each_page(letters, write_page).map_err(WriteFailure::RolledBack)?;
    let stripes: Vec<i64> = (0..i64::from(STRIPES)).collect();
    connection.query(LOCK_STRIPES, &[Param::Ints(&stripes)])?;
    for producers in whole.producers.chunks(PRODUCERS) {
        imported.counted_twice += write_producers(connection, producers)?;
    }
    let mut messages = whole.messages.clone();
    messages.retain(|message| message.timestamp_ns().is_some());
    messages.sort_by_cached_key(key_of);
    messages.dedup();
    imported.messages = messages.len() as u64;
    for messages in messages.chunks(ROWS) {
        insert_messages(connection, &NewMessages::new(messages.to_vec(), AskTables::Always))?;
        connection.sync();
        super::link::all(connection.exchange())?;
    }
    connection.query(COMMIT, &[]).map(drop).map_err(WriteFailure::InDoubt)
}

/// Calls `each` for all dead letters, a part at a time; how many there are.
fn each_page(
    letters: &mut KeptLetters,
    mut each: impl FnMut(&[SavedDeadLetter]) -> Result<()>,
) -> Result<u64> {
    let mut count = 0;
    loop {
        let page = letters.next_page()?;
        if page.is_empty() {
            return Ok(count);
        }
        count += page.len() as u64;
        each(&page)?;
    }
}

fn write_videos(
    connection: &mut PgConnection,
    processor: Uuid,
    videos: &[SavedVideo],
) -> Result<(), PgError> {
    let ids: Vec<_> = videos.iter().map(|video| video.id.to_bytes()).collect();
    let ids: Vec<&[u8]> = ids.iter().map(AsRef::as_ref).collect();
    let column = |of: fn(&SavedVideo) -> u64| -> Vec<i64> {
        videos.iter().map(|video| of(video).cast_signed()).collect()
    };
    let params = [
        Param::Uuid(processor),
        Param::Int(RECORD),
        Param::ByteArrays(&ids),
        Param::Ints(&column(|video| u64::from(video.number))),
        Param::Ints(&column(|video| video.plays)),
        Param::Ints(&column(|video| video.last_played_at)),
    ];
    connection.query(WRITE_VIDEOS, &params).map(drop)
}

/// Adds what is counted of some producers to what the shared ledger knows of them; how many plays it had counted, too.
fn write_producers(
    connection: &mut PgConnection,
    producers: &[(Uuid, Vec<Range<u64>>)],
) -> Result<u64, Trouble> {
    let ids: Vec<Uuid> = producers.iter().map(|(id, _)| *id).collect();
    let mut known: HashMap<Uuid, Vec<Range<u64>>> = HashMap::new();
    for row in connection.query(READ_WATERMARKS, &[Param::Uuids(&ids)])?.iter() {
        let watermark = row.int(1)?.cast_unsigned();
        known.entry(row.uuid(0)?).or_default().push(0..watermark);
    }
    for row in connection.query(READ_SEGMENTS, &[Param::Uuids(&ids)])?.iter() {
        let runs = SegmentBits::from_bytes(row.bytes(2)?)?;
        known.entry(row.uuid(0)?).or_default().extend(runs.runs(row.int(1)?.cast_unsigned()));
    }
    let (mut twice, mut rows) = (0, ImportedProducers::default());
    for (id, counted) in producers {
        let known = known.remove(id).unwrap_or_default();
        let sum = |runs: &[Range<u64>]| runs.iter().map(|run| run.end - run.start).sum::<u64>();
        let all = union(&known, counted);
        twice += sum(&known) + sum(counted) - sum(&all);
        rows.add(*id, &all);
    }
    connection.query(DELETE_SEGMENTS, &[Param::Uuids(&ids)])?;
    let ImportedProducers { watermarks, segments } = rows;
    let (ids, numbers): (Vec<_>, Vec<_>) = watermarks.into_iter().unzip();
    connection.query(WRITE_WATERMARKS, &[Param::Uuids(&ids), Param::Ints(&numbers)])?;
    for segments in segments.chunks(ROWS) {
        let ids: Vec<_> = segments.iter().map(|(id, ..)| *id).collect();
        let numbers: Vec<_> = segments.iter().map(|(_, number, _)| *number).collect();
        let bits: Vec<_> = segments.iter().map(|(.., bits)| bits.as_bytes()).collect();
        let params = [Param::Uuids(&ids), Param::Ints(&numbers), Param::ByteArrays(&bits)];
        connection.query(WRITE_SEGMENTS, &params)?;
    }
    Ok(twice)
}

/// All plays of both, as runs that ascend and do not touch.
fn union(one: &[Range<u64>], other: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut runs: Vec<_> = one.iter().chain(other).filter(|run| !run.is_empty()).cloned().collect();
    runs.sort_unstable_by_key(|run| run.start);
    joined(0, runs.into_iter()).collect()
}

/// Producers as their tables have them.
#[derive(Debug, Default, PartialEq, Eq)]
struct ImportedProducers {
    watermarks: Vec<(Uuid, i64)>,
    segments: Vec<(Uuid, i64, SegmentBits)>,
}

impl ImportedProducers {
    /// A producer with these plays, as runs that ascend and do not touch.
    fn add(&mut self, id: Uuid, counted: &[Range<u64>]) {
        let first = counted.first().filter(|run| run.start == 0).map_or(0, |run| run.end);
        let watermark = first / SEGMENT_PLAYS * SEGMENT_PLAYS;
        self.watermarks.push((id, watermark.cast_signed()));
        let mut newest: Option<(u64, SegmentBits)> = None;
        for seq in counted.iter().flat_map(|run| run.start.max(watermark)..run.end) {
            let segment = segment_of(seq);
            if newest.as_ref().is_none_or(|(number, _)| *number != segment) {
                self.segments
                    .extend(newest.take().map(|(number, bits)| (id, number.cast_signed(), bits)));
            }
            let (_, bits) = newest.get_or_insert((segment, SegmentBits::EMPTY));
            bits.insert(seq);
        }
        self.segments.extend(newest.map(|(number, bits)| (id, number.cast_signed(), bits)));
    }
}

impl Imported {
    /// What will have been taken over.
    fn of(whole: &WholeLedger, ledger: Uuid) -> Self {
        let undated = whole.messages.iter().filter(|key| key.timestamp_ns().is_none()).count();
        Self {
            processor: whole.processor,
            ledger,
            was_written: false,
            plays: whole.counters.counted,
            videos: whole.videos.len() as u64,
            producers: whole.producers.len() as u64,
            counted_twice: 0,
            messages: (whole.messages.len() - undated) as u64,
            undated: undated as u64,
            dead_letters: 0,
            aside: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_a_watermark_and_the_segments_above() {
        let id = Uuid::from_u128(1);
        let mut rows = ImportedProducers::default();
        rows.add(id, &[0..2_050, 3_000..3_073, 9_000..9_001]);
        assert_eq!(rows.watermarks, [(id, 2_048)]);
        let numbers: Vec<_> = rows.segments.iter().map(|(_, number, _)| *number).collect();
        assert_eq!(numbers, [2, 3, 8]);
        let runs =
            rows.segments.iter().flat_map(|(_, number, bits)| bits.runs(number.cast_unsigned()));
        let runs: Vec<_> = joined(0, runs).collect();
        assert_eq!(runs, [2_048..2_050, 3_000..3_073, 9_000..9_001]);
        let mut rows = ImportedProducers::default();
        rows.add(id, std::slice::from_ref(&(1..2)));
        rows.add(id, &[]);
        rows.add(id, std::slice::from_ref(&(0..1_024)));
        assert_eq!(rows.watermarks, [(id, 0), (id, 0), (id, 1_024)]);
        assert_eq!(rows.segments.len(), 1);
    }

    #[test]
    fn a_union_has_each_play_once() {
        assert_eq!(union(&[0..10, 20..30], &[5..21, 40..41]), [0..30, 40..41]);
        assert_eq!(union(&[0..0, 3..4], &[]).len(), 1);
        assert_eq!(union(&[], &[]), []);
    }
}
