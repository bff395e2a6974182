//! The rows of one statement, as the server sent them: binary, checked when they are taken in and read by type. (pure)

use std::sync::Arc;

use postgres_protocol::Oid;
use uuid::Uuid;

use super::error::PgError;
use super::param::oid;

/// Columns of a row: PostgreSQL's own limit for what a SELECT gives.
pub(super) const MAX_COLUMNS: usize = 1664;

/// The type of each column of a statement's rows.
pub(super) type PgColumns = Arc<[Oid]>;

/// Where a value lies in the bytes of its rows; NULL has a start beyond them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PgPlace {
    start: u32,
    len: u32,
}

const NULL: u32 = u32::MAX;

/// The rows of one statement, in the server's order; none for one that gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgRows {
    server: Arc<str>,
    columns: PgColumns,
    count: usize,
    bytes: Vec<u8>,
    places: Vec<PgPlace>,
}

impl PgRows {
    pub(super) fn new(server: Arc<str>, columns: PgColumns) -> Self {
        Self { server, columns, count: 0, bytes: Vec::new(), places: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each row, in the server's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PgRow<'_>> {
        (0..self.count).map(|index| PgRow { rows: self, index })
    }

    /// The row with that index from 0; `None` behind the last.
    pub fn get(&self, index: usize) -> Option<PgRow<'_>> {
        (index < self.count).then_some(PgRow { rows: self, index })
    }

    /// The first row.
    ///
    /// # Errors
    /// There is none.
    pub fn first(&self) -> Result<PgRow<'_>, PgError> {
        self.get(0).ok_or_else(|| {
            PgError::refused(&self.server, "a statement gave no row where one is expected")
        })
    }

    /// Takes the body of a DataRow in; what is wrong with it, if it is.
    pub(super) fn push(&mut self, count: usize, body: &[u8]) -> Result<(), &'static str> {
        if count != self.columns.len() {
            return Err("a row has another number of columns than was announced");
        }
        let (before, mut rest) = (self.places.len(), body);
        for _ in 0..count {
            let Some((len, behind)) = rest.split_first_chunk::<4>() else {
                self.places.truncate(before);
                return Err("a row is cut short");
            };
            rest = behind;
            let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
                self.places.push(PgPlace { start: NULL, len: 0 });
                continue;
            };
            // An answer has fewer than 2³² bytes by far, `answers` sees to it.
            let (Some(value), Ok(start)) = (rest.get(..len), u32::try_from(self.bytes.len()))
            else {
                self.places.truncate(before);
                return Err("a row's value is longer than the row");
            };
            self.places.push(PgPlace { start, len: len as u32 });
            self.bytes.extend_from_slice(value);
            rest = &rest[len..];
        }
        if !rest.is_empty() {
            self.places.truncate(before);
            return Err("a row has more bytes than values");
        }
        self.count += 1;
        Ok(())
    }
}

/// One row. Columns are counted from 0. Each value is read as what it is: another type than the server announced is
/// an error, and so is NULL, but for the calls whose names end in `_opt`.
#[derive(Clone, Copy, Debug)]
pub struct PgRow<'a> {
    rows: &'a PgRows,
    index: usize,
}

impl<'a> PgRow<'a> {
    /// int2, int4, int8 or oid.
    pub fn int(&self, column: usize) -> Result<i64, PgError> {
        self.not_null(column, self.int_opt(column)?)
    }

    /// As [`PgRow::int`]; `None` for NULL.
    pub fn int_opt(&self, column: usize) -> Result<Option<i64>, PgError> {
        let Some((kind, value)) = self.value(column)? else { return Ok(None) };
        let number = match kind {
            oid::INT8 => value.try_into().ok().map(i64::from_be_bytes),
            oid::INT4 => value.try_into().ok().map(i32::from_be_bytes).map(i64::from),
            oid::INT2 => value.try_into().ok().map(i16::from_be_bytes).map(i64::from),
            oid::OID => value.try_into().ok().map(u32::from_be_bytes).map(i64::from),
            _ => None,
        };
        self.of_type(column, number, "an integer").map(Some)
    }

    /// bool.
    pub fn bool(&self, column: usize) -> Result<bool, PgError> {
        self.not_null(column, self.bool_opt(column)?)
    }

    /// As [`PgRow::bool`]; `None` for NULL.
    pub fn bool_opt(&self, column: usize) -> Result<Option<bool>, PgError> {
        let Some((kind, value)) = self.value(column)? else { return Ok(None) };
        let value = match (kind, value) {
            (oid::BOOL, [value @ (0 | 1)]) => Some(*value == 1),
            _ => None,
        };
        self.of_type(column, value, "a bool").map(Some)
    }

    /// text, varchar or name.
    pub fn text(&self, column: usize) -> Result<&'a str, PgError> {
        self.not_null(column, self.text_opt(column)?)
    }

    /// As [`PgRow::text`]; `None` for NULL.
    pub fn text_opt(&self, column: usize) -> Result<Option<&'a str>, PgError> {
        let Some((kind, value)) = self.value(column)? else { return Ok(None) };
        let is_text = matches!(kind, oid::TEXT | oid::VARCHAR | oid::NAME);
        let value = is_text.then(|| std::str::from_utf8(value).ok()).flatten();
        self.of_type(column, value, "text").map(Some)
    }

    /// bytea.
    pub fn bytes(&self, column: usize) -> Result<&'a [u8], PgError> {
        self.not_null(column, self.bytes_opt(column)?)
    }

    /// As [`PgRow::bytes`]; `None` for NULL.
    pub fn bytes_opt(&self, column: usize) -> Result<Option<&'a [u8]>, PgError> {
        let Some((kind, value)) = self.value(column)? else { return Ok(None) };
        self.of_type(column, (kind == oid::BYTEA).then_some(value), "bytea").map(Some)
    }

    /// uuid.
    pub fn uuid(&self, column: usize) -> Result<Uuid, PgError> {
        self.not_null(column, self.uuid_opt(column)?)
    }

    /// As [`PgRow::uuid`]; `None` for NULL.
    pub fn uuid_opt(&self, column: usize) -> Result<Option<Uuid>, PgError> {
        let Some((kind, value)) = self.value(column)? else { return Ok(None) };
        let value = (kind == oid::UUID).then(|| Uuid::from_slice(value).ok()).flatten();
        self.of_type(column, value, "a uuid").map(Some)
    }

    /// Type and bytes; `None` for NULL.
    fn value(&self, column: usize) -> Result<Option<(Oid, &'a [u8])>, PgError> {
        let rows = self.rows;
        let Some(kind) = rows.columns.get(column) else {
            let what =
                format!("a row has {} columns, none with index {column}", rows.columns.len());
            return Err(PgError::refused(&rows.server, what));
        };
        let PgPlace { start, len } = rows.places[self.index * rows.columns.len() + column];
        let (start, len) = (start as usize, len as usize);
        Ok(rows.bytes.get(start..start.saturating_add(len)).map(|value| (*kind, value)))
    }

    fn not_null<T>(&self, column: usize, value: Option<T>) -> Result<T, PgError> {
        value.ok_or_else(|| PgError::refused(&self.rows.server, format!("column {column} is NULL")))
    }

    fn of_type<T>(&self, column: usize, value: Option<T>, wanted: &str) -> Result<T, PgError> {
        value.ok_or_else(|| {
            let oid = self.rows.columns.get(column).copied().unwrap_or_default();
            PgError::refused(
                &self.rows.server,
                format!("column {column} (type {oid}) is not {wanted}"),
            )
        })
    }
}
