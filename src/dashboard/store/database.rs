//! The files: tables in SQLite, and beside them the journal of the changes that the tables do not have. How they are
//! opened, and removed.
//!
//! What was accepted is in the journal, and survives a kill -9. After a power loss the newest changes may be missing; then
//! the database takes another id, and every processor tells its whole counts again.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use uuid::Uuid;

use super::identity::{self, CountSums, TablesIdentity};
use super::memory::Memory;
use super::migrate::migrate;
use super::tables;
use crate::journal::{
    self, Cut, FsDisk, Journal, JournalConfig, JournalKind, JournalOwner, OnDamage, Position,
    SEGMENT_BYTES, SyncPolicy,
};
use crate::model::video::MAX_PLAYS;
use crate::storage::row_check;
use crate::storage::sqlite::{self, LOST_CONTENT, Schema};

/// The tables' file in the data directory.
pub(super) const FILE: &str = "dashboard.sqlite3";

/// The journal's directory there.
pub(super) const JOURNAL: &str = "dashboard.journal";

/// Whose file it is, and what is in it.
pub(super) const SCHEMA: Schema = Schema {
    name: "the dashboard's database",
    // "play" in ASCII.
    application: 0x706c_6179,
    version: 6,
    sql: include_str!("schema.sql"),
    migrations: &[
        include_str!("schema_2.sql"),
        include_str!("schema_3.sql"),
        include_str!("schema_4.sql"),
        include_str!("schema_5.sql"),
        include_str!("schema_6.sql"),
    ],
    migrate,
    way_out: "`playcounts reset` makes a new one",
};

/// How the checkpoints' connection works, at first: what a start writes is on the disk. The WAL goes back into the file
/// between commits.
const PRAGMAS: &str =
    "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
    PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;";

/// When a commit of the tables is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitSync {
    /// When it returns: the journal may forget what it has.
    Each,
    /// When the WAL goes back into the file, or with the next one of the other kind. An fsync for each slice would hold up
    /// the journal: the file system stops its writes meanwhile.
    WithTheWal,
}

/// Sets when the commits that follow are on the disk.
pub(super) fn sync_commits(connection: &Connection, sync: CommitSync) -> rusqlite::Result<()> {
    let synchronous = match sync {
        CommitSync::Each => "FULL",
        CommitSync::WithTheWal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// What was opened.
pub(super) struct OpenedFiles {
    /// The connection that writes.
    pub(super) connection: Connection,
    pub(super) identity: TablesIdentity,
    pub(super) memory: Memory,
    pub(super) journal: Journal,
    /// The number of the next change.
    pub(super) next: u64,
    /// What a crash has left unfinished.
    pub(super) cut: Option<Cut>,
}

/// Opens the files of that owner in `directory`, made if missing, in the start of the machine called `boot`: nil if it is not known, and
/// then it is never the one of before.
///
/// # Errors
/// One line with the way out: a file is damaged, of somebody else, missing, or of a newer version.
pub(super) fn open(directory: &Path, owner: JournalOwner, boot: Uuid) -> Result<OpenedFiles> {
    let file = directory.join(FILE);
    // SQLite removes it when the last connection closes in order.
    let had_wal = file.with_extension("sqlite3-wal").exists();
    let first_row = |transaction: &Transaction<'_>| TablesIdentity::new().write(transaction);
    let mut connection = SCHEMA.open_or_make(&file, PRAGMAS, first_row)?;
    let (mut identity, mut memory) = SCHEMA.usable(&file, read_tables(&connection))?;
    memory.id = identity.id;
    let (journal, cut) = open_journal(
        directory,
        config(owner, identity.life, boot),
        identity.position,
        &mut memory,
    )?;
    if memory.index.most() > MAX_PLAYS {
        bail!(
            "{}: its counts add up to more than {MAX_PLAYS}, which no processor can have counted: `playcounts reset` starts from zero, and \
             processors tell it everything again",
            file.display()
        );
    }
    memory.index.loaded();
    let was_closed = identity.closed.unwrap_or(!had_wal);
    let is_same_boot = !boot.is_nil() && identity.boot == boot_text(boot);
    if cut.is_some() || !(was_closed || is_same_boot) {
        memory.id = Uuid::new_v4();
    }
    (identity.boot, identity.closed) = (boot_text(boot), Some(false));
    let had_journal = identity.position.is_some();
    let transaction = begin(&mut connection)?;
    bring_forward(&transaction, &mut identity, &mut memory, &journal)?;
    transaction.commit()?;
    if !had_journal {
        // From here on the file says by itself that there is a journal: alone it is never taken for a whole database.
        sqlite::write_back(&connection)?;
    }
    let next = journal.next();
    Ok(OpenedFiles { connection, identity, memory, journal, next, cut })
}

/// Writes which database it is; and empties the tables, if a reset is the newest that the journal says of them.
fn bring_forward(
    transaction: &Transaction<'_>,
    identity: &mut TablesIdentity,
    memory: &mut Memory,
    journal: &Journal,
) -> Result<()> {
    identity.id = memory.id;
    if let Some(cleared) = memory.pending.cleared() {
        tables::clear(transaction)?;
        let mut sums = CountSums { catalog: identity.sums().catalog, ..CountSums::default() };
        // The frames that are given up with it may be all that says of titles.
        tables::write_catalog(transaction, memory.index.catalog_mut(), &mut sums)?;
        identity.set_sums(sums);
        identity.position = Some(journal.position(cleared.next));
        memory.pending.tables_cleared(cleared);
    }
    identity.position.get_or_insert_with(|| journal.position(journal.next()));
    identity.write(transaction)
}

/// The tables that a start reads. History may have gigabytes; a row of it that does not fit is refused when it is read.
const READ_AT_START: [&str; 8] =
    ["identity", "processors", "counts", "confirmed", "ledgers", "titles", "changes", "imports"];

/// Reads and checks the tables.
fn read_tables(connection: &Connection) -> Result<(TablesIdentity, Memory)> {
    SCHEMA.check_structure_of(connection, &READ_AT_START)?;
    let identity = identity::read(connection)?.context(LOST_CONTENT)?;
    let (memory, sums) = tables::load(connection)?;
    tables::check_sums(connection, &identity, sums)?;
    Ok((identity, memory))
}

/// Opens the journal, and plays into memory what it has and the tables have not.
fn open_journal(
    directory: &Path,
    config: JournalConfig,
    position: Option<Position>,
    memory: &mut Memory,
) -> Result<(Journal, Option<Cut>)> {
    let path = directory.join(JOURNAL);
    let disk = FsDisk::open(&path);
    let disk = disk.with_context(|| unusable_journal(&path))?;
    let replay = |number, payload: &[u8]| memory.replay(number, payload);
    let opened = Journal::open(disk, config, position, replay);
    opened.with_context(|| unusable_journal(&path))
}

/// What stands before an error of the journal.
pub(super) fn unusable_journal(path: &Path) -> String {
    format!("cannot use the dashboard's journal in {}", path.display())
}

/// Removes the files. The caller holds the directory's dashboard lock.
///
/// # Errors
/// What cannot be removed, and why.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    // The tables first: a journal without them is refused, where tables without a journal would be those of before.
    sqlite::remove(&directory.join(FILE))?;
    journal::remove(&directory.join(JOURNAL))
}

/// A database in memory that holds nothing: what there is while the tables are to be emptied.
///
/// # Errors
/// SQLite's.
pub(super) fn empty() -> Result<Connection> {
    let connection = Connection::open_in_memory()?;
    row_check::add_function(&connection)?;
    connection.execute_batch(SCHEMA.sql)?;
    Ok(connection)
}

/// Begins a transaction that writes.
pub(super) fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// How the journal is opened.
pub(super) fn config(owner: JournalOwner, life: Uuid, boot: Uuid) -> JournalConfig {
    JournalConfig {
        kind: JournalKind::Dashboard,
        owner,
        life,
        boot,
        sync: SyncPolicy::Process,
        segment_bytes: SEGMENT_BYTES,
        on_damage: OnDamage::Refuse,
    }
}

/// The start of the machine as the table has it: as the kernel writes it.
fn boot_text(boot: Uuid) -> String {
    if boot.is_nil() { String::new() } else { boot.to_string() }
}
