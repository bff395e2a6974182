//! What an error about a file says to do (pure). What is damaged may be brought back or thrown away; an error that may pass
//! must never cost a file that is whole.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

/// The way out of what may pass: it throws nothing away.
const MAY_PASS: &str = "what is there may be whole: make room on the disk, or fix it or its permissions, and start again";

/// `when_damaged`, where the error says that a file is damaged; else what throws nothing away.
pub fn way_out<'a>(error: &anyhow::Error, when_damaged: &'a str) -> &'a str {
    if may_pass(error) { MAY_PASS } else { when_damaged }
}

/// What to do where the counts in a data directory are somebody else's than who finds them.
pub fn other_directory(directory: &Path) -> String {
    format!(
        "give --data-dir another directory, or `playcounts reset --data-dir {}` throws them away",
        directory.display()
    )
}

/// Whether the error tells of the disk, the permissions or somebody else at the file, and not of what is in it: no room,
/// a read that failed, a lock.
pub fn may_pass(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<rusqlite::Error>() {
            return error.sqlite_error_code().is_some_and(code_may_pass);
        }
        // The operating system does not say what is in a file.
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        })
    })
}

fn code_may_pass(code: ErrorCode) -> bool {
    use ErrorCode as Code;
    match code {
        Code::NotADatabase
        | Code::DatabaseCorrupt
        | Code::ConstraintViolation
        | Code::TypeMismatch
        | Code::TooBig
        | Code::NotFound
        | Code::Unknown => false,
        // Full, unreadable, forbidden, locked, out of memory; and what is new to this code.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<anyhow::Error>, passes: bool) {
        let error = error.into().context("the ledger");
        assert_eq!(may_pass(&error), passes, "{error:#}");
        let said = way_out(&error, "`playcounts reset`");
        assert_eq!(said == "`playcounts reset`", !passes, "{error:#}");
    }

    #[test]
    fn only_damage_is_ever_thrown_away() {
        // ENOSPC, EIO, EACCES, EROFS, EMFILE, EDQUOT, ELOOP, ENOTDIR, ENOMEM.
        for errno in [28, 5, 13, 30, 24, 122, 40, 20, 12] {
            check(io::Error::from_raw_os_error(errno), true);
        }
        let sqlite = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_PERM,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_PROTOCOL,
        ] {
            check(sqlite(code), true);
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CONSTRAINT] {
            check(sqlite(code), false);
        }
        check(io::Error::other("a symbolic link"), true);
        check(io::Error::from(io::ErrorKind::UnexpectedEof), false);
        // SQL that the file does not know: it is another one's. And what we say ourselves.
        check(sqlite(ffi::SQLITE_ERROR), false);
        check(rusqlite::Error::QueryReturnedNoRows, false);
        check(anyhow::anyhow!("a row does not fit its check"), false);
    }
}
