//! Looks at the files of a ledger as a start would, without one: what is whole, what is lost, how to go on. And goes on
//! with what is left, where somebody has decided so. Runs on the thread of the command `check`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;

use super::letter::DEAD_LETTERS_MAX;
use super::load::LoadedLedger;
use super::rewrite::write_whole;
use super::schema::{FILE, SCHEMA};
use super::snapshot::{JOURNAL, check_generation, read_with};
use super::table_rows::{TABLES, drop_misfits, find_misfits, row_counts};
use super::tables::{LedgerRow, finish, read_left};
use crate::journal::{self, Cut, FsDisk, JournalError, OnDamage, SyncPolicy};
use crate::model::words::{grouped, many, many_are, of_number};
use crate::storage::aside::put_aside;
use crate::storage::data_dir::{self, PROCESSOR};
use crate::storage::part_check::{PLACES_MAX, PartCheck};
use crate::storage::sqlite::{self, LOST_CONTENT};
use crate::storage::way_out::{may_pass, way_out};

/// What `check` calls it.
const PART: &str = "ledger";

/// Where the journal goes that somebody has accepted the loss of: nothing is thrown away.
const DROPPED: &str = "ledger.journal.dropped";

/// The way out where nothing less would be honest.
const BACKUP: &str = "bring back a backup of the directory, or `playcounts reset` throws the counts away; what is left does \
                      not tell how often a video was played, or which plays are counted";

/// What is left of a ledger that is damaged.
struct Left {
    row: LedgerRow,
    loaded: LoadedLedger,
    cut: Option<Cut>,
}

/// Looks at the ledger of a data directory, whether or not a processor uses it; `None` where there is none. Changes
/// nothing.
///
/// # Errors
/// The operating system's; what is wrong with the ledger is in what it returns.
pub fn check(directory: &Path) -> Result<Option<PartCheck>> {
    let file = directory.join(FILE);
    if !file.exists() && !directory.join(JOURNAL).exists() {
        return Ok(None);
    }
    let mut check = PartCheck::new(PART);
    if !file.exists() {
        check.add_damage(format!("{FILE} is missing, and {JOURNAL} is there"));
        check.way_out = Some(BACKUP.into());
        return Ok(Some(check));
    }
    match SCHEMA.open_any(&file) {
        Ok(Some(connection)) => check_file(directory, &connection, &mut check)?,
        // It has been removed meanwhile.
        Ok(None) => return Ok(None),
        Err(error) => {
            check.add_damage(format!("{error:#}"));
            check.way_out = Some(way_out(&error, BACKUP).into());
        }
    }
    Ok(Some(check))
}

fn check_file(directory: &Path, connection: &Connection, check: &mut PartCheck) -> Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < SCHEMA.version {
        check_structure(connection, check);
        check.notes.push(format!(
            "{FILE} has schema {version}, of an older playcounts: its rows are looked at by the next start, which takes it over"
        ));
        check.way_out = (!check.is_whole()).then(|| BACKUP.into());
        return Ok(());
    }
    if let Some(user) = data_dir::user(directory, PROCESSOR) {
        check_running(directory, connection, check);
        check.notes.push(format!("{user}: what it writes at this moment is not looked at"));
        return Ok(());
    }
    let left = examine(directory, connection, check);
    if check.is_whole() {
        return Ok(());
    }
    check.way_out.get_or_insert_with(|| match left {
        Some(Left { loaded, .. }) => format!(
            "bring back a backup of the directory; or `playcounts check --accept-loss` goes on with the {} \
             left: what was counted after them, and is not counted again, is lost",
            many(loaded.state.counts.counters().counted, "play")
        ),
        None => BACKUP.into(),
    });
    Ok(())
}

/// Looks at a ledger while its processor writes it.
fn check_running(directory: &Path, connection: &Connection, check: &mut PartCheck) {
    check_structure(connection, check);
    let read = read_with(directory, |connection, _, loaded| holds(connection, &loaded));
    match read {
        Ok(Some(holds)) => check.holds = Some(holds),
        Ok(None) => check.add_damage(format!("{FILE}: {LOST_CONTENT}")),
        Err(error) => check.add_damage(format!("{error:#}")),
    }
    check.way_out = (!check.is_whole()).then(|| "stop the processor and check again".into());
}

/// Has SQLite look at its file.
fn check_structure(connection: &Connection, check: &mut PartCheck) {
    match sqlite::quick_check(connection, PLACES_MAX) {
        Ok(lines) => lines.iter().for_each(|line| check.add_damage(format!("{FILE}: {line}"))),
        Err(error) => check.add_damage(format!("{FILE}: {error}")),
    }
}

/// Looks at every row. Whether what is wrong can be done without: message IDs and dead letters.
fn check_rows(connection: &Connection, check: &mut PartCheck) -> bool {
    let mut is_spare = true;
    for table in &TABLES {
        let name = table.name;
        let (keys, misfits) = match find_misfits(connection, table, PLACES_MAX) {
            Ok(found) => found,
            Err(error) => {
                check.add_damage(format!("{FILE}: the table {name} cannot be read: {error}"));
                (Vec::new(), 1)
            }
        };
        is_spare &= table.is_spare || misfits == 0;
        for key in &keys {
            check.add_damage(format!(
                "{FILE}: the row {key} of the table {name} does not fit its check"
            ));
        }
        if misfits > keys.len() as u64 && !keys.is_empty() {
            let more = misfits - keys.len() as u64;
            let (rows, do_not) = (many(more, "more row"), of_number(more, "does", "do"));
            check.add_damage(format!("{FILE}: and {rows} of the table {name} {do_not} not"));
        }
    }
    is_spare
}

/// Looks at all that nobody writes now. What is left, if it can be gone on with.
fn examine(directory: &Path, connection: &Connection, check: &mut PartCheck) -> Option<Left> {
    check_structure(connection, check);
    if let Err(error) = SCHEMA.check_declarations(connection) {
        check.add_damage(format!("{FILE}: {error:#}"));
    }
    let is_sound = check.is_whole();
    let row = match LedgerRow::read(connection) {
        Ok(Some(row)) => row,
        Ok(None) => {
            check.add_damage(format!("{FILE}: {LOST_CONTENT}"));
            return None;
        }
        Err(error) => {
            check.add_damage(format!("{FILE}: {error:#}"));
            return None;
        }
    };
    let mut can_go_on = check_rows(connection, check) && is_sound;
    match row_counts(connection) {
        Ok(found) => {
            for (table, found, wanted) in found.differences(&row.rows) {
                let name = table.name;
                check.add_damage(format!(
                    "{FILE}: the table {name} has {}, and must have {}",
                    many(found, "row"),
                    grouped(wanted)
                ));
                can_go_on &= table.is_spare;
            }
        }
        Err(error) => check.add_damage(format!("{FILE}: {error}")),
    }
    let mut loaded = load(directory, connection, &row, OnDamage::Refuse);
    if let Err(error) = &loaded {
        check.add_damage(format!("{error:#}"));
        if may_pass(error) {
            check.way_out = Some(way_out(error, BACKUP).into());
            return None;
        }
        loaded = load(directory, connection, &row, OnDamage::Cut);
    }
    let (loaded, cut) = loaded.ok()?;
    if let Some(cut) = &cut {
        check.notes.push(match check.is_whole() {
            true => format!("{JOURNAL}: the next start says, and goes on: {cut}"),
            false => format!("{JOURNAL}: {}", left_out(cut)),
        });
    }
    if !can_go_on {
        return None;
    }
    check.holds = holds(connection, &loaded).ok();
    Some(Left { row, loaded, cut })
}

/// Loads tables and journal, or what is left of the journal.
fn load(
    directory: &Path,
    connection: &Connection,
    row: &LedgerRow,
    on_damage: OnDamage,
) -> Result<(LoadedLedger, Option<Cut>)> {
    let mut loader = read_left(connection, row)?;
    let disk = FsDisk::open_reader(&directory.join(JOURNAL));
    let mut cut = None;
    match (disk, row.position, on_damage) {
        // They never had one. One of another life is what an accepted loss has left.
        (None, None, _) => {}
        (Some(disk), None, OnDamage::Cut)
            if journal::any_head(&*disk)?.is_none_or(|head| head.life != row.life) => {}
        (None, Some(_), OnDamage::Refuse) => bail!("{JOURNAL} is missing"),
        (None, Some(_), OnDamage::Cut) => {}
        (Some(disk), position, on_damage) => {
            let config = row.journal_config(SyncPolicy::Process, on_damage);
            let each = |number, payload: &[u8]| {
                loader.entry(number, payload).map_err(|damaged| damaged.to_string())
            };
            let (next, found) =
                journal::examine(&*disk, &config, position, each).map_err(in_journal)?;
            if next <= row.as_of.as_of && on_damage == OnDamage::Refuse {
                bail!(
                    "{JOURNAL} ends at frame {}, and {FILE} has taken in frame {}",
                    next - 1,
                    row.as_of.as_of
                );
            }
            cut = found;
        }
    }
    let loaded = finish(connection, loader)
        .with_context(|| format!("{FILE} and {JOURNAL} do not add up"))?;
    if on_damage == OnDamage::Refuse {
        check_generation(&loaded, row)?;
    }
    Ok((loaded, cut))
}

/// What is lost with the damage.
fn left_out(cut: &Cut) -> String {
    let Cut { file, offset, number, .. } = cut;
    format!("left out are frame {number}, at byte {offset} of {file}, and all that is behind it")
}

/// Says in which directory the file is.
fn in_journal(error: JournalError) -> anyhow::Error {
    anyhow::Error::msg(format!("{JOURNAL}: {error}"))
}

/// What a ledger holds, for people.
fn holds(connection: &Connection, loaded: &LoadedLedger) -> Result<String> {
    let first = loaded.letters.first().map_or(i64::MAX, |letter| letter.number);
    let saved: i64 = connection.query_row(
        "SELECT count(*) FROM dead_letters WHERE number < ?1",
        [first],
        |row| row.get(0),
    )?;
    let mut gone = 0;
    for [start, end] in loaded.gone.runs() {
        gone += connection
            .prepare_cached("SELECT count(*) FROM dead_letters WHERE number >= ?1 AND number < ?2")?
            .query_row([start, end.min(first)], |row| row.get::<_, i64>(0))?;
    }
    let letters = (saved - gone + loaded.letters.len() as i64).min(DEAD_LETTERS_MAX);
    let (plays, videos) = (loaded.state.counts.counters().counted, loaded.state.counts.len());
    let (plays, videos) = (many(plays, "play"), many(videos as u64, "video"));
    Ok(format!("{plays} of {videos}, {}", many(letters.cast_unsigned(), "dead letter")))
}

/// Goes on with what is left of a damaged ledger: rows that do not fit are dropped, the tables are written anew under
/// another life, and the journal is put aside as `ledger.journal.dropped`. What was done, in lines. The caller holds the
/// directory's processor lock.
///
/// # Errors
/// Nothing is damaged, or what is left is no ledger; then nothing is changed. Or the operating system's or SQLite's.
pub fn accept_loss(directory: &Path) -> Result<Vec<String>> {
    let file = directory.join(FILE);
    let mut connection = SCHEMA.open(&file, "PRAGMA synchronous = FULL;")?;
    let mut check = PartCheck::new(PART);
    let left = examine(directory, &connection, &mut check);
    if check.is_whole() {
        bail!("the ledger is whole: there is no loss to accept");
    }
    let Some(Left { mut row, loaded, cut }) = left else {
        let way_out = check.way_out.as_deref().unwrap_or(BACKUP);
        bail!("the ledger cannot be used any more: {way_out}");
    };
    let (plays, before) = (loaded.state.counts.counters().counted, row.rows);
    row.life = Uuid::new_v4();
    // Of tables that are of before: no number of a start may come again.
    row.starts += loaded.generation.saturating_sub(row.generation);
    row.generation = row.generation.max(loaded.generation) + 1;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    drop_misfits(&transaction)?;
    let kept = row_counts(&transaction)?;
    // The producers' rows stay: those that the journal tells of are written over.
    transaction.execute_batch("DELETE FROM videos; DELETE FROM messages;")?;
    row.rows = row_counts(&transaction)?;
    write_whole(&transaction, &mut row, loaded)?;
    SCHEMA.usable(&file, transaction.commit())?;
    let mut lines = vec![format!("{} left, and counted on from", many_are(plays, "play"))];
    if let Some(cut) = cut {
        lines.push(left_out(&cut));
    }
    if kept.letters < before.letters {
        let dropped = before.letters - kept.letters;
        let were = of_number(dropped, "was", "were");
        lines.push(format!("{} {were} dropped", many(dropped, "dead letter")));
    }
    if kept.messages < before.messages {
        let dropped = before.messages - kept.messages;
        lines.push(format!(
            "{} of {} of message IDs {} dropped: their plays, which have no identity, are counted again should \
             nsqd give them out again",
            grouped(dropped),
            many(before.messages, "row"),
            of_number(dropped, "was", "were")
        ));
    }
    if let Some(aside) = put_aside(directory, JOURNAL, DROPPED)? {
        lines.push(format!("the journal that was there is {} now", aside.display()));
    }
    Ok(lines)
}
