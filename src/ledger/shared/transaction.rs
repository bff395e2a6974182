//! One commit to the shared ledger, as the database sees it: two round trips. The first locks and reads, the second writes,
//! commits and makes it durable. Blocks the thread that commits.
//!
//! All locks are taken in one order: the processor's own row, dead letters that are looked at again (which nobody waits for),
//! stripes ascending, messages by key. What they guard is read by
//! later statements, whose snapshot is newer than the lock. The commit is asynchronous and a flush follows, so that no lock
//! is held through an fsync. Who only repeats flushes, too: what it saw may not be durable yet.

use uuid::Uuid;

use super::link::{FLUSH, ROLLBACK};
use super::new_messages::{MessageAge, NewMessages};
use super::touched::{ProducerWrites, Touched};
use super::trouble::Trouble;
use crate::ledger::away::LedgerFenced;
use crate::ledger::letter::SavedDeadLetter;
use crate::postgres::{CopyRows, Param, PgConnection, PgError, PgRows};
use crate::storage::failpoint;

const BEGIN: &str = "BEGIN";
pub(super) const COMMIT: &str = "COMMIT";

/// With the hour of the transaction's start, as `INSERT_MESSAGES` has it; and nothing waits for the disk in this transaction.
const LOCK_SELF: &str = "SELECT last_record, extract(epoch FROM now())::int8 / 3600,
        set_config('synchronous_commit', 'off', true)
    FROM playcounts.processors WHERE id = $1 AND epoch = $2 FOR NO KEY UPDATE";

pub(super) const LOCK_STRIPES: &str =
    "SELECT id FROM playcounts.stripes WHERE id = ANY($1::int8[]) ORDER BY id
    FOR NO KEY UPDATE";

const READ_WATERMARKS: &str = "SELECT w.at, p.watermark
    FROM unnest($1::uuid[]) WITH ORDINALITY AS w(producer, at) JOIN playcounts.producers p USING (producer)";

const READ_SEGMENTS: &str = "SELECT w.at, s.bits
    FROM unnest($1::uuid[], $2::int8[]) WITH ORDINALITY AS w(producer, segment, at)
    JOIN playcounts.seen s USING (producer, segment)";

const INSERT_MESSAGES: &str = "INSERT INTO playcounts.messages (slot, kept_in, key)
    SELECT CASE WHEN m.hour - n.now BETWEEN -$3 AND $4 THEN m.hour % $5 ELSE -1 END, n.now, m.key
    FROM (SELECT extract(epoch FROM now())::int8 / 3600 AS now) AS n,
        unnest($1::bytea[], $2::int8[]) AS m(key, hour)
    ON CONFLICT DO NOTHING RETURNING key, slot";

/// Fails where one of them is there. Beside the INSERT it takes PostgreSQL half of the CPU, and 120 B of WAL a message in
/// place of 214.
const COPY_MESSAGES: &str =
    "COPY playcounts.messages (slot, kept_in, key) FROM STDIN (FORMAT binary)";

const WRITE_SEGMENTS: &str = "INSERT INTO playcounts.seen (producer, segment, bits)
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::bytea[])
    ON CONFLICT (producer, segment) DO UPDATE SET bits = excluded.bits";

const WRITE_WATERMARKS: &str = "INSERT INTO playcounts.producers (producer, watermark)
    SELECT * FROM unnest($1::uuid[], $2::int8[])
    ON CONFLICT (producer) DO UPDATE SET watermark = excluded.watermark";

const DELETE_FULL: &str = "DELETE FROM playcounts.seen s
    USING unnest($1::uuid[], $2::int8[], $3::int8[]) AS f(producer, first, behind)
    WHERE s.producer = f.producer AND s.segment >= f.first AND s.segment < f.behind";

const WRITE_RECORD: &str =
    "INSERT INTO playcounts.records (processor, number, record) VALUES ($1, $2, $3)";

/// Who commits needs no other sign of life.
const ADVANCE: &str =
    "UPDATE playcounts.processors SET last_record = $2, lease_until = now() + interval '10 s'
    WHERE id = $1";

const WRITE_LETTERS: &str = "INSERT INTO playcounts.dead_letters
    (processor, at, nsqd, message_id, reason, size, body)
    SELECT $1, l.at, convert_from(l.nsqd, 'UTF8'), convert_from(l.message_id, 'UTF8'),
        convert_from(l.reason, 'UTF8'), l.size, l.body
    FROM unnest($2::int8[], $3::bytea[], $4::bytea[], $5::bytea[], $6::int8[], $7::bytea[])
        AS l(at, nsqd, message_id, reason, size, body)";

const DELETE_LETTERS: &str = "DELETE FROM playcounts.dead_letters WHERE number = ANY($1::int8[])";

/// Versions of one start's messages to a dashboard: those of the next start lie above.
pub(super) const VERSIONS_PER_START: i64 = 1 << 32;

/// Under which id and epoch a processor commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// The processor's id.
    pub(super) id: Uuid,
    /// Another one in its row: somebody has taken the id over.
    pub(super) epoch: i64,
    /// Which start of the id it is: raised by all that take it over, but not by a new connection of the same processor.
    pub(super) starts: i64,
}

/// What a commit writes.
#[derive(Debug)]
pub(super) struct CommitWrites<'a> {
    /// One more than the newest record.
    pub(super) number: u64,
    pub(super) record: &'a [u8],
    pub(super) producers: ProducerWrites<'a>,
    /// Messages that were taken for new, and are not written yet.
    pub(super) messages: Option<CopyRows>,
    pub(super) letters: &'a [SavedDeadLetter],
    /// Numbers of dead letters whose plays it counts, and that it has locked.
    pub(super) retried: &'a [i64],
}

/// How the second round trip ended.
pub(super) enum Ending {
    /// It is committed, and durable.
    Durable,
    /// The transaction has failed: one of the messages that were taken for new was not.
    Repeated,
    /// Something failed, or the connection broke: whether it is committed and durable is not known.
    InDoubt(PgError),
}

/// The first round trip: locks, reads what `touched` and `messages` ask for, and returns the newest record of this
/// processor. The transaction is open afterwards, unless it fails.
pub(super) fn begin(
    connection: &mut PgConnection,
    own: &Own,
    touched: &mut Touched,
    messages: &mut NewMessages,
) -> Result<u64, Trouble> {
    queue_begin(connection, own)?;
    queue_reads(connection, touched)?;
    let asks = messages.must_ask();
    if asks {
        insert_messages(connection, messages)?;
    }
    connection.sync();
    let answer = only(connection.exchange()?)?;
    let mut rows = answer.iter().skip(1);
    let (last_record, hour) = own_row(rows.next())?;
    take_reads(&mut rows, touched)?;
    if asks {
        set_new(rows.next(), messages)?;
    } else if !messages.take_for_new(hour) {
        insert_messages(connection, messages)?;
        connection.sync();
        let answer = only(connection.exchange()?)?;
        set_new(answer.first(), messages)?;
    }
    Ok(last_record)
}

/// Queues what opens a commit, with the lock of the processor's own row.
///
/// # Errors
/// As [`PgConnection::statement`].
pub(super) fn queue_begin(connection: &mut PgConnection, own: &Own) -> Result<(), PgError> {
    connection.statement(BEGIN, &[])?;
    connection.statement(LOCK_SELF, &[Param::Uuid(own.id), Param::Int(own.epoch)])
}

/// What that says: the newest record of the processor, and the hour of the database's clock.
///
/// # Errors
/// Fenced, or the database's.
pub(super) fn own_row(rows: Option<&PgRows>) -> Result<(u64, i64), Trouble> {
    let row = rows.and_then(|rows| rows.get(0)).ok_or(LedgerFenced)?;
    Ok((row.int(0)?.cast_unsigned(), row.int(1)?))
}

/// Queues the locks and the reads that `touched` asks for.
///
/// # Errors
/// As [`PgConnection::statement`].
pub(super) fn queue_reads(connection: &mut PgConnection, touched: &Touched) -> Result<(), PgError> {
    if touched.is_empty() {
        return Ok(());
    }
    let (producers, (of_segments, numbers)) = (touched.producers(), touched.segments());
    connection.statement(LOCK_STRIPES, &[Param::Ints(&touched.stripes())])?;
    connection.statement(READ_WATERMARKS, &[Param::Uuids(&producers)])?;
    connection.statement(READ_SEGMENTS, &[Param::Uuids(&of_segments), Param::Ints(&numbers)])
}

/// Takes in what they say.
///
/// # Errors
/// The tables say what cannot be, or the database's.
pub(super) fn take_reads<'a>(
    rows: &mut impl Iterator<Item = &'a PgRows>,
    touched: &mut Touched,
) -> Result<(), Trouble> {
    if touched.is_empty() {
        return Ok(());
    }
    let _stripes = rows.next();
    for row in rows.next().into_iter().flat_map(PgRows::iter) {
        touched.set_watermark(place(row.int(0)?), row.int(1)?)?;
    }
    for row in rows.next().into_iter().flat_map(PgRows::iter) {
        touched.set_bits(place(row.int(0)?), row.bytes(1)?)?;
    }
    Ok(())
}

/// The rows of a group that is alone.
///
/// # Errors
/// The database's.
pub(super) fn only(mut answers: Vec<Result<Vec<PgRows>, PgError>>) -> Result<Vec<PgRows>, PgError> {
    answers.pop().unwrap_or_else(|| Ok(Vec::new()))
}

/// Takes in what the tables say of messages.
///
/// # Errors
/// The tables say what cannot be, or the database's.
pub(super) fn set_new(rows: Option<&PgRows>, messages: &mut NewMessages) -> Result<(), Trouble> {
    for row in rows.into_iter().flat_map(PgRows::iter) {
        let age = if row.int(1)? < 0 { MessageAge::Outside } else { MessageAge::InWindow };
        messages.set_new(row.bytes(0)?, age)?;
    }
    Ok(())
}

/// Queues messages to be kept.
///
/// # Errors
/// As [`PgConnection::statement`].
pub(super) fn insert_messages(
    connection: &mut PgConnection,
    messages: &NewMessages,
) -> Result<(), PgError> {
    use super::messages::{AHEAD_HOURS, SHARED_WINDOW_HOURS, SLOTS};
    let params = [
        Param::ByteArrays(&messages.keys()),
        Param::Ints(&messages.hours()),
        Param::Int(SHARED_WINDOW_HOURS),
        Param::Int(AHEAD_HOURS),
        Param::Int(SLOTS),
    ];
    connection.statement(INSERT_MESSAGES, &params)
}

/// SQL counts from 1.
fn place(ordinality: i64) -> usize {
    usize::try_from(ordinality - 1).unwrap_or(usize::MAX)
}

/// The second round trip, for a commit that changes something.
pub(super) fn commit(
    connection: &mut PgConnection,
    own: &Own,
    writes: &CommitWrites<'_>,
) -> Ending {
    failpoint::hit("ledger-before-commit");
    let sent = queue(connection, own, writes).and_then(|()| connection.exchange());
    failpoint::hit("ledger-after-commit");
    match sent.and_then(only) {
        Ok(_) => Ending::Durable,
        Err(error) if is_repeat(&error, writes) => Ending::Repeated,
        Err(error) => Ending::InDoubt(error),
    }
}

/// Whether a table has refused a row that it has, where messages were taken for new: of all that a commit writes only they
/// can be there.
fn is_repeat(error: &PgError, writes: &CommitWrites<'_>) -> bool {
    writes.messages.is_some() && error.sqlstate() == Some("23505")
}

fn queue(
    connection: &mut PgConnection,
    own: &Own,
    writes: &CommitWrites<'_>,
) -> Result<(), PgError> {
    let ProducerWrites { segments, watermarks, full } = &writes.producers;
    if !full.is_empty() {
        let ids: Vec<_> = full.iter().map(|(id, ..)| *id).collect();
        let firsts: Vec<_> = full.iter().map(|(_, first, _)| *first as i64).collect();
        let behind: Vec<_> = full.iter().map(|(.., behind)| *behind as i64).collect();
        let params = [Param::Uuids(&ids), Param::Ints(&firsts), Param::Ints(&behind)];
        connection.statement(DELETE_FULL, &params)?;
    }
    if !segments.is_empty() {
        let ids: Vec<_> = segments.iter().map(|(id, ..)| *id).collect();
        let numbers: Vec<_> = segments.iter().map(|(_, number, _)| *number as i64).collect();
        let bits: Vec<_> = segments.iter().map(|(.., bits)| *bits).collect();
        let params = [Param::Uuids(&ids), Param::Ints(&numbers), Param::ByteArrays(&bits)];
        connection.statement(WRITE_SEGMENTS, &params)?;
    }
    if !watermarks.is_empty() {
        let (ids, numbers): (Vec<_>, Vec<_>) =
            watermarks.iter().map(|(id, watermark)| (*id, *watermark as i64)).unzip();
        connection.statement(WRITE_WATERMARKS, &[Param::Uuids(&ids), Param::Ints(&numbers)])?;
    }
    if !writes.letters.is_empty() {
        queue_letters(connection, own.id, writes.letters)?;
    }
    if !writes.retried.is_empty() {
        connection.statement(DELETE_LETTERS, &[Param::Ints(writes.retried)])?;
    }
    if let Some(rows) = &writes.messages {
        connection.copy(COPY_MESSAGES, rows)?;
    }
    let number = Param::Int(writes.number as i64);
    connection
        .statement(WRITE_RECORD, &[Param::Uuid(own.id), number, Param::Bytes(writes.record)])?;
    connection.statement(ADVANCE, &[Param::Uuid(own.id), number])?;
    connection.statement(COMMIT, &[])?;
    queue_flush(connection)
}

/// Writes dead letters of a processor; the transaction is open.
///
/// # Errors
/// The database's.
pub(super) fn write_letters(
    connection: &mut PgConnection,
    processor: Uuid,
    letters: &[SavedDeadLetter],
) -> Result<(), PgError> {
    queue_letters(connection, processor, letters)?;
    connection.sync();
    super::link::all(connection.exchange()).map(drop)
}

fn queue_letters(
    connection: &mut PgConnection,
    processor: Uuid,
    letters: &[SavedDeadLetter],
) -> Result<(), PgError> {
    // The server takes no zero byte in a text.
    let text = |text: &str| text.replace('\0', "\u{fffd}").into_bytes();
    let texts = |of: fn(&SavedDeadLetter) -> &str| -> Vec<Vec<u8>> {
        letters.iter().map(|letter| text(of(letter))).collect()
    };
    let nsqds = texts(|letter| &letter.nsqd);
    let ids = texts(|letter| &letter.message_id);
    let reasons = texts(|letter| &letter.reason);
    let at: Vec<_> = letters.iter().map(|letter| letter.at.0).collect();
    let sizes: Vec<_> = letters.iter().map(|letter| letter.size).collect();
    let bodies: Vec<_> = letters.iter().map(|letter| letter.body.as_slice()).collect();
    let params = [
        Param::Uuid(processor),
        Param::Ints(&at),
        Param::ByteArrays(&borrowed(&nsqds)),
        Param::ByteArrays(&borrowed(&ids)),
        Param::ByteArrays(&borrowed(&reasons)),
        Param::Ints(&sizes),
        Param::ByteArrays(&bodies),
    ];
    connection.statement(WRITE_LETTERS, &params)
}

fn borrowed(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

/// Ends a transaction that has failed.
///
/// # Errors
/// The database's.
pub(super) fn roll_back(connection: &mut PgConnection) -> Result<(), Trouble> {
    connection.query(ROLLBACK, &[])?;
    Ok(())
}

/// The second round trip, for a commit of nothing but repeats.
pub(super) fn end_without_change(connection: &mut PgConnection) -> Result<(), PgError> {
    connection.statement(ROLLBACK, &[])?;
    queue_flush(connection)?;
    super::link::all(connection.exchange()).map(drop)
}

/// A transaction of its own, behind the one that has ended in the same group; its commit is synchronous.
fn queue_flush(connection: &mut PgConnection) -> Result<(), PgError> {
    if !failpoint::is_left_out("ledger-flush") {
        connection.statement(FLUSH, &[])?;
    }
    connection.sync();
    Ok(())
}
