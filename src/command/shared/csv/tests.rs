//! What is read of a file, and what is said of what is no row.

use std::io::Cursor;

use indicatif::ProgressBar;

use super::records::{RECORD_MAX, Records};
use super::{CsvColumn, CsvTable};

const COLUMNS: &[CsvColumn] = &[
    CsvColumn { names: &["video_id", "id"], is_required: true },
    CsvColumn { names: &["title"], is_required: true },
    CsvColumn { names: &["url"], is_required: false },
];

/// The rows as `lines: fields`, and how many are refused.
fn read(text: impl Into<Vec<u8>>) -> (Vec<String>, u64) {
    let records = Records::new(Cursor::new(text.into()));
    let mut table = CsvTable::new("a.csv", COLUMNS, records, ProgressBar::hidden());
    let mut rows = Vec::new();
    while let Some(row) = table.next().unwrap() {
        rows.push(format!("{}: {}", row.lines, row.fields.join("|")));
    }
    assert_eq!(table.rows(), rows.len() as u64);
    (rows, table.refused())
}

#[track_caller]
fn check(text: impl Into<Vec<u8>>, rows: &[&str], refused: u64) {
    let (found, wrong) = read(text);
    assert_eq!((found, wrong), (rows.iter().map(|row| (*row).to_owned()).collect(), refused));
}

#[test]
fn rows_have_their_lines_and_quotes_mean_what_they_do_elsewhere() {
    check("a,A\nb,B,http://b\n", &["line 1: a|A|", "line 2: b|B|http://b"], 0);
    check("a,A\r\n\r\n\r\nb,\"B, \"\"b\"\"\"\r\n", &["line 1: a|A|", "line 4: b|B, \"b\"|"], 0);
    check("a,\"1\n2\r\n3\"\nb,B", &["lines 1 to 3: a|1\n2\r\n3|", "line 4: b|B|"], 0);
    check("a,A\rb,B\r", &["line 1: a|A|", "line 1: b|B|"], 0);
    check("", &[], 0);
    check("\n\n", &[], 0);
    check("a,", &["line 1: a||"], 0);
}

#[test]
fn a_header_says_where_the_columns_are() {
    check("video_id,title,url\na,A,\n", &["line 2: a|A|"], 0);
    check("\u{feff}video_id,title\na,A\n", &["line 2: a|A|"], 0);
    check("\u{feff}a,A\n", &["line 1: a|A|"], 0);
    check("plays, Title ,ID\n5,A,a\n", &["line 2: a|A|"], 0);
    check("video_id,title\na,A,B\nb\nc,C\n", &["line 4: c|C|"], 2);
    let records = Records::new(Cursor::new("video_id,name\na,A\n"));
    let mut table = CsvTable::new("-", COLUMNS, records, ProgressBar::hidden());
    assert_eq!(
        table.next().unwrap_err().to_string(),
        "stdin, line 1: the header has no column \"title\"; the columns are video_id,title,url"
    );
}

#[test]
fn what_is_no_row_spoils_no_other() {
    check("a\nb,B\nc,C,http://c,D\nd,D\n", &["line 2: b|B|", "line 4: d|D|"], 2);
    check(b"a,\xff\nb,B\n".as_slice(), &["line 2: b|B|"], 1);
    // A title of 10 MB; a quote that nothing closes; columns without end.
    let long = format!("a,{}\nb,B\n", "x".repeat(10_000_000));
    check(long, &["line 2: b|B|"], 1);
    let rows: String = (0..2000).map(|n| format!("row-{n},title\n")).collect();
    let (found, wrong) = read(format!("a,A\nb,\"B\n{rows}"));
    let lost = (RECORD_MAX / "row-100,title\n".len()) as u64 + 50;
    assert!(found.len() as u64 > 2001 - lost && wrong == 1, "{} rows, {wrong}", found.len());
    assert_eq!(found.last().unwrap(), "line 2002: row-1999|title|");
    check(format!("{}\nb,B\n", ",".repeat(1_000_000)), &["line 2: b|B|"], 1);
}
