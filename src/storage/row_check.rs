//! The check of a row in SQLite: what tells a row that was changed behind our back from one that was written.
//!
//! SQLite has no checksums of its own. So each row that matters has a column `row_check`, which is written as
//! `row_check(…)` of the others and read with `row_check = row_check(…)`.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

/// Adds the function `row_check(…)` of any number of values to a connection's SQL: a CRC-32C over them.
///
/// # Errors
/// SQLite's.
pub fn add_function(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("row_check", -1, flags, |values| {
        let check = (0..values.len()).fold(0, |check, index| add(check, values.get_raw(index)));
        Ok(i64::from(check))
    })
}

/// Adds a value, with its type and its length.
fn add(check: u32, value: ValueRef<'_>) -> u32 {
    let number;
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(integer) => {
            number = integer.to_le_bytes();
            (1, &number)
        }
        ValueRef::Real(real) => {
            number = real.to_le_bytes();
            (2, &number)
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    let check = crc32c::crc32c_append(check, &[kind]);
    let check = crc32c::crc32c_append(check, &(bytes.len() as u64).to_le_bytes());
    crc32c::crc32c_append(check, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_tells_values_types_and_borders_apart() {
        let connection = Connection::open_in_memory().unwrap();
        add_function(&connection).unwrap();
        let check = |values: &str| -> i64 {
            let sql = format!("SELECT row_check({values})");
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        let lists = [
            "",
            "NULL",
            "0",
            "0.0",
            "''",
            "x''",
            "1",
            "'1'",
            "x'31'",
            "1, 2",
            "2, 1",
            "'ab', 'c'",
            "'a', 'bc'",
            "1, NULL",
            "NULL, 1",
        ];
        let checks: std::collections::HashSet<i64> = lists.iter().map(|list| check(list)).collect();
        assert_eq!(checks.len(), lists.len());
        assert_eq!(check("7, 'seven', x'07'"), check("7, 'seven', x'07'"));
    }
}
