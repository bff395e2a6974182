//! CSV as people have it (RFC 4180), read a row at a time with bounded memory: `records` cuts a file into rows, `table`
//! finds the columns, and says of each row that is none where it stands and why. Runs on the thread of who reads.

mod records;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use records::Lines;
pub(crate) use table::{CsvColumn, CsvTable, quoted};
