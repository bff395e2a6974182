//! How every SQLite file of ours is opened: its pragmas, whose file it is, and which schema it has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rusqlite::{Connection, OpenFlags, Transaction};

use super::private::refuse_link;
use super::way_out::way_out;
use super::{directory, row_check};

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
    /// What to do with a file that is damaged: the end of a sentence.
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
        if file.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.usable(file, self.make(file, first_rows))?;
        }
        let mut connection = self.usable(file, connect(file, OpenFlags::default()))?;
        // Nothing is done to somebody else's.
        self.check_not_empty(&connection, file)?;
        self.check(&connection, file)?;
        self.usable(file, connection.execute_batch("PRAGMA journal_mode = WAL;"))?;
        self.usable(file, connection.execute_batch(pragmas))?;
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
        let transaction = self.usable(file, transaction)?;
        let found = self.check(&transaction, file)?;
        let done = self.bring_forward(&transaction, found);
        self.usable(file, done)?;
        let done = transaction.commit();
        self.usable(file, done)?;
        Ok(connection)
    }

    /// Makes the newest schema, of that which was found.
    fn bring_forward(&self, transaction: &Transaction<'_>, found: i64) -> Result<()> {
        for migration in &self.migrations[found as usize - 1..] {
            transaction.execute_batch(migration)?;
        }
        // A start that is refused later has written nothing.
        if found < self.version {
            (self.migrate)(transaction, found)?;
            transaction.pragma_update(None, "user_version", self.version)?;
        }
        Ok(())
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
        let mut connection = connect(new, OpenFlags::default())?;
        connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL;")?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(self.sql)?;
        transaction.pragma_update(None, "application_id", self.application)?;
        transaction.pragma_update(None, "user_version", self.version)?;
        first_rows(&transaction)?;
        transaction.commit()?;
        drop(connection);
        std::fs::rename(new, file)?;
        Ok(directory::sync(directory::of(file))?)
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
        if !self.usable(file, file.try_exists())? {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.usable(file, connect(file, flags))?;
        self.check_not_empty(&connection, file)?;
        self.check(&connection, file)?;
        Ok(Some(connection))
    }

    /// Refuses a file that is there and has no tables: a new one has them from its first moment on.
    fn check_not_empty(&self, connection: &Connection, file: &Path) -> Result<()> {
        match self.usable(file, is_empty(connection))? {
            true => self.usable(file, Err(anyhow!(LOST_CONTENT))),
            false => Ok(()),
        }
    }

    /// The schema of a file, which this code can read or migrate.
    fn check(&self, connection: &Connection, file: &Path) -> Result<i64> {
        let pragma = |name| {
            let value = connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            self.usable(file, value)
        };
        let (application, found) = (pragma("application_id")?, pragma("user_version")?);
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

    /// Checks what reading all rows does not tell: the tables are declared as they were made, for SQLite believes what it
    /// finds; and its pages hold together, for rows that can all be read may be found by no key. As long as reading them.
    ///
    /// # Errors
    /// They are not; or SQLite's.
    pub fn check_structure(&self, connection: &Connection) -> Result<()> {
        self.check_declarations(connection)?;
        match quick_check(connection, 1)?.first() {
            Some(line) => bail!("{line}"),
            None => Ok(()),
        }
    }

    /// As [`Schema::check_structure`], but looks at the pages of these tables alone: what a start does not read may be large.
    ///
    /// # Errors
    /// As there.
    pub fn check_structure_of(&self, connection: &Connection, tables: &[&str]) -> Result<()> {
        self.check_declarations(connection)?;
        for table in tables {
            if let Some(line) =
                found_by(connection, &format!("PRAGMA quick_check('{table}')"))?.first()
            {
                bail!("{line}");
            }
        }
        Ok(())
    }

    /// The first half of [`Schema::check_structure`].
    ///
    /// # Errors
    /// As there.
    pub fn check_declarations(&self, connection: &Connection) -> Result<()> {
        let own = Connection::open_in_memory()?;
        row_check::add_function(&own)?;
        own.execute_batch(self.sql)?;
        if declarations(connection)? != declarations(&own)? {
            bail!("its tables are not declared as they were made");
        }
        Ok(())
    }

    /// Says in an error which file cannot be used, and the way out: [`Schema::way_out`] only where the file is damaged.
    ///
    /// # Errors
    /// The result's.
    pub fn usable<T, E: Into<anyhow::Error>>(
        &self,
        file: &Path,
        result: Result<T, E>,
    ) -> Result<T> {
        result.map_err(|error| {
            let error = error.into();
            let way_out = way_out(&error, self.way_out);
            let what = format!("cannot use {}, {}; {way_out}", self.name, file.display());
            error.context(what)
        })
    }
}

/// Opens a file that is no symbolic link, in a directory that may be one.
fn connect(file: &Path, flags: OpenFlags) -> Result<Connection> {
    let name = file.file_name().context("it has no name")?;
    // SQLite refuses a link anywhere in the path.
    let resolved = directory::of(file).canonicalize()?.join(name);
    for path in all_files(file) {
        refuse_link(&path)?;
    }
    let connection =
        Connection::open_with_flags(resolved, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    row_check::add_function(&connection)?;
    Ok(connection)
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// A database's file, its WAL, and what its connections share.
pub(crate) fn all_files(file: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    })
}

/// Every table and index, and its SQL without comments and line breaks, which a migration need not repeat.
fn declarations(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        let sql: Option<String> = row.get(1)?;
        let plain = sql.map(|sql| {
            let code = sql.lines().map(|line| line.split("--").next().unwrap_or(line));
            code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
        });
        Ok((row.get(0)?, plain))
    })?;
    rows.collect()
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
    found_by(connection, &format!("PRAGMA quick_check({most})"))
}

fn found_by(connection: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let lines = connection
        .prepare(pragma)?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// As [`quick_check`], of a file, which is only read.
///
/// # Errors
/// As [`quick_check`].
pub fn quick_check_file(file: &Path, most: usize) -> Result<Vec<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(quick_check(&connect(file, flags)?, most)?)
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
    for path in all_files(file) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
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
    fn tables_that_are_declared_otherwise_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.sqlite3");
        let connection = OLD.open(&file, "").unwrap();
        OLD.check_structure(&connection).unwrap();
        let change = |sql: &str| {
            connection
                .execute_batch(&format!(
                    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = '{sql}'"
                ))
                .unwrap();
            OLD.check_structure(&connection).map_err(|error| error.to_string())
        };
        assert_eq!(change("CREATE TABLE t (a INTEGER) -- a note\n STRICT"), Ok(()));
        let otherwise = Err("its tables are not declared as they were made".to_owned());
        for sql in ["CREATE TABLE t (b INTEGER) STRICT", "CREATE TABLE t (a -- INTEGER\n) STRICT"] {
            assert_eq!(change(sql), otherwise, "{sql}");
        }
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
