//! How every SQLite file of ours is opened: its pragmas, whose file it is, and which schema it has.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rusqlite::{Connection, OpenFlags, Transaction};

use super::row_check;

/// Below 3.51.3 SQLite can corrupt a WAL database at a checkpoint (sqlite.org/wal.html, "WAL-reset bug").
const SQLITE_MIN: i32 = 3_051_003;

/// Why a file is none of ours that lacks what it had from its first moment on.
pub const LOST_CONTENT: &str =
    "it is there and holds nothing: it was copied without its WAL, or cut";

/// Whose file it is, and what is in it.
#[derive(Debug)]
pub struct Schema {
    /// What its errors call it: "the ledger".
    pub name: &'static str,
    /// In `application_id`.
    pub application: i64,
    /// The newest schema, in `user_version`; 1 or more.
    pub version: i64,
    /// Makes the newest schema in an empty file.
    pub sql: &'static str,
    /// `migrations[n]` turns schema n + 1 into n + 2: one less than `version` of them.
    pub migrations: &'static [&'static str],
    /// Does of a migration what SQL cannot: behind the last of `migrations`, in their transaction, with the schema that
    /// was found. [`nothing_more`] where there is nothing.
    pub migrate: fn(&Transaction<'_>, i64) -> Result<()>,
    /// What to do with a file that is broken beyond repair: the end of a sentence.
    pub way_out: &'static str,
}

impl Schema {
    /// Opens `file` to write, made if missing, migrated if old; then runs `pragmas`.
    ///
    /// # Errors
    /// One line that names the file and the way out: it is empty, broken, somebody else's, or of a newer version.
    pub fn open(&self, file: &Path, pragmas: &str) -> Result<Connection> {
        self.open_or_make(file, pragmas, |_| Ok(()))
    }

    /// As [`Schema::open`]; one that is made has what `first_rows` writes from its first moment on: what has not is none that
    /// was made here.
    ///
    /// # Errors
    /// As there.
    pub fn open_or_make(
        &self,
        file: &Path,
        pragmas: &str,
        first_rows: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<Connection> {
        check_library()?;
        let unusable = || self.unusable(file);
        if file.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.make(file, first_rows).with_context(unusable)?;
        }
        let mut connection = Connection::open(file).with_context(unusable)?;
        row_check::add_function(&connection).with_context(unusable)?;
        connection.execute_batch("PRAGMA journal_mode = WAL;").with_context(unusable)?;
        connection.execute_batch(pragmas).with_context(unusable)?;
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .with_context(unusable)?;
        self.check_not_empty(&transaction, file)?;
        let found = self.check(&transaction, file)?;
        for migration in &self.migrations[found as usize - 1..] {
            transaction.execute_batch(migration).with_context(unusable)?;
        }
        // A start that is refused later has written nothing.
        if found < self.version {
            (self.migrate)(&transaction, found).with_context(unusable)?;
            transaction.pragma_update(None, "user_version", self.version)?;
        }
        transaction.commit().with_context(unusable)?;
        Ok(connection)
    }

    /// Makes the file with all that a new one has; it has its name when all of that is on the disk.
    fn make(
        &self,
        file: &Path,
        first_rows: impl FnOnce(&Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        // A WAL of one that is gone would be taken for its own.
        remove(file)?;
        let mut name = file.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        // What a kill has left.
        remove(new)?;
        let mut connection = Connection::open(new)?;
        row_check::add_function(&connection)?;
        connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL;")?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(self.sql)?;
        transaction.pragma_update(None, "application_id", self.application)?;
        transaction.pragma_update(None, "user_version", self.version)?;
        first_rows(&transaction)?;
        transaction.commit()?;
        drop(connection);
        std::fs::rename(new, file)?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?)
    }

    /// Opens a file of the newest schema to read; `None` where there is none.
    ///
    /// # Errors
    /// As [`Schema::open`]; and when it is of an older version, which only a writer can migrate.
    pub fn open_reader(&self, file: &Path) -> Result<Option<Connection>> {
        let Some(connection) = self.open_any(file)? else { return Ok(None) };
        let found = self.check(&connection, file)?;
        if found < self.version {
            bail!(
                "{} has schema {found}, of an older playcounts; it is brought to {} by the next start of its owner",
                file.display(),
                self.version
            );
        }
        Ok(Some(connection))
    }

    /// As [`Schema::open_reader`], but of an older schema as well.
    ///
    /// # Errors
    /// As [`Schema::open`].
    pub fn open_any(&self, file: &Path) -> Result<Option<Connection>> {
        if !file.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(file, flags).with_context(|| self.unusable(file))?;
        row_check::add_function(&connection).with_context(|| self.unusable(file))?;
        self.check_not_empty(&connection, file)?;
        self.check(&connection, file)?;
        Ok(Some(connection))
    }

    /// Refuses a file that is there and has no tables: a new one has them from its first moment on.
    fn check_not_empty(&self, connection: &Connection, file: &Path) -> Result<()> {
        let is_empty: bool = connection
            .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
            .with_context(|| self.unusable(file))?;
        if is_empty {
            return Err(anyhow!(LOST_CONTENT)).with_context(|| self.unusable(file));
        }
        Ok(())
    }

    /// The schema of a file, which this code can read or migrate.
    fn check(&self, connection: &Connection, file: &Path) -> Result<i64> {
        let unusable = || self.unusable(file);
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let application = pragma("application_id").with_context(unusable)?;
        let found = pragma("user_version").with_context(unusable)?;
        let (name, file) = (self.name, file.display());
        if application != self.application || found < 1 {
            bail!(
                "{file} is not {name} but somebody else's database; give --data-dir another directory"
            );
        }
        let newest = self.version;
        if found > newest {
            bail!(
                "{file} has schema {found}, of a newer playcounts; this one knows {newest}: use the newer, or give --data-dir another directory"
            );
        }
        Ok(found)
    }

    /// What stands before SQLite's own error about a file.
    pub fn unusable(&self, file: &Path) -> String {
        format!("cannot use {}, {}; {}", self.name, file.display(), self.way_out)
    }
}

/// All that a migration does is in its SQL.
///
/// # Errors
/// None.
pub fn nothing_more(_: &Transaction<'_>, _: i64) -> Result<()> {
    Ok(())
}

/// What SQLite finds wrong with the structure of a database, at most so many lines.
///
/// # Errors
/// It is so broken that SQLite cannot look.
pub fn quick_check(connection: &Connection, most: usize) -> rusqlite::Result<Vec<String>> {
    let sql = format!("PRAGMA quick_check({most})");
    let lines = connection
        .prepare(&sql)?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// As [`quick_check`], of a file, which is only read.
///
/// # Errors
/// As [`quick_check`].
pub fn quick_check_file(file: &Path, most: usize) -> rusqlite::Result<Vec<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    quick_check(&Connection::open_with_flags(file, flags)?, most)
}

fn check_library() -> Result<()> {
    if rusqlite::version_number() < SQLITE_MIN {
        bail!(
            "SQLite {} can corrupt its WAL; 3.51.3 or later is needed: build with the bundled one",
            rusqlite::version()
        );
    }
    Ok(())
}

/// Writes the WAL back into the file, as far as nobody reads an older moment, and empties it.
///
/// # Errors
/// SQLite's.
pub fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Removes a database with what SQLite keeps beside it. The caller holds its owner's lock.
///
/// # Errors
/// The file that cannot be removed, and why.
pub fn remove(file: &Path) -> Result<()> {
    // The database first: a WAL left without it is thrown away, a database left without its WAL is old.
    for suffix in ["", "-wal", "-shm"] {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot remove {}", Path::new(&path).display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Schema = Schema {
        name: "the test's file",
        application: 77,
        version: 1,
        sql: "CREATE TABLE t (a INTEGER) STRICT; INSERT INTO t VALUES (1);",
        migrations: &[],
        migrate: nothing_more,
        way_out: "remove it",
    };

    const NEW: Schema = Schema {
        version: 2,
        sql: "CREATE TABLE t (a INTEGER, b INTEGER) STRICT;",
        migrations: &["ALTER TABLE t ADD COLUMN b INTEGER;"],
        ..OLD
    };

    #[track_caller]
    fn refuses(schema: &Schema, file: &Path, want: &str) {
        let errors = [schema.open(file, "").unwrap_err(), schema.open_reader(file).unwrap_err()];
        for text in errors.map(|error| format!("{error:#}")) {
            assert!(text.contains(want) && text.contains(file.to_str().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_file_is_made_migrated_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.sqlite3");
        drop(OLD.open(&file, "PRAGMA synchronous = FULL;").unwrap());
        let reader = NEW.open_reader(&file).unwrap_err().to_string();
        assert!(reader.contains("has schema 1, of an older playcounts"), "{reader}");
        for _ in 0..2 {
            let new = NEW.open(&file, "").unwrap();
            let row: (i64, Option<i64>) = new
                .query_row("SELECT a, b FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            assert_eq!(row, (1, None));
        }
        refuses(&OLD, &file, "has schema 2, of a newer playcounts; this one knows 1");
        assert!(NEW.open_reader(&file).unwrap().is_some());
        remove(&file).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(NEW.open_reader(&file).unwrap().is_none());
    }

    #[test]
    fn a_file_that_holds_nothing_is_never_new() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.sqlite3");
        std::fs::write(&file, "").unwrap();
        refuses(&OLD, &file, "; remove it: it is there and holds nothing");
        // Its header alone.
        Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 1").unwrap();
        refuses(&OLD, &file, "it is there and holds nothing");
        // What is made has its first rows at once; what a kill has left of an earlier try, or of one before, is not in it.
        std::fs::remove_file(&file).unwrap();
        let mut wal = file.clone().into_os_string();
        wal.push("-wal");
        std::fs::write(&wal, "of one that is gone").unwrap();
        std::fs::write(dir.path().join("x.sqlite3.new"), "half").unwrap();
        let first = |transaction: &Transaction<'_>| {
            Ok(transaction.execute("INSERT INTO t VALUES (2)", []).map(drop)?)
        };
        drop(OLD.open_or_make(&file, "", first).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let again = OLD.open_or_make(&file, "", |_| anyhow::bail!("not made again")).unwrap();
        let rows: i64 = again.query_row("SELECT sum(a) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 3);
    }

    #[test]
    fn foreign_and_broken_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.sqlite3");
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
        refuses(&OLD, &file, "somebody else's database");
        remove(&file).unwrap();
        std::fs::write(
            &file,
            "no database at all, but text that is long enough to be read as a header",
        )
        .unwrap();
        refuses(&OLD, &file, "; remove it");
        assert!(OLD.open(dir.path().join("none/x").as_path(), "").is_err());
    }
}
