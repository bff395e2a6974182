//! Finds the columns of a CSV file, and says what is wrong with a row.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::records::{CsvRecord, Lines, Records, STDIN};
use crate::command::shared::output::note;
use crate::model::words::many;

/// The most rows that are told one by one; of the others their number.
const TOLD_MAX: u64 = 20;

/// The most of what stands in a file that is quoted, in characters.
const QUOTED_MAX: usize = 60;

/// How a bar of progress looks.
const BAR: &str = "{wide_bar} {percent:>3}% {msg}";

/// The same where nobody knows how much there is.
const NO_BAR: &str = "{spinner} {msg}";

/// A column of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CsvColumn {
    /// Its names in a header, the usual one first.
    pub(crate) names: &'static [&'static str],
    /// Whether each file has it.
    pub(crate) is_required: bool,
}

/// A row that could be read.
#[derive(Debug)]
pub(crate) struct CsvRow {
    /// Where it stands.
    pub(crate) lines: Lines,
    /// Its fields, in the order of the columns that were asked for; empty where the file has no such column.
    pub(crate) fields: Vec<String>,
}

/// Where the columns stand.
#[derive(Debug)]
enum Layout {
    /// A header says so: of each column its place, and how many the header has.
    Header(Vec<Option<usize>>, usize),
    /// There is no header: they stand in their usual order.
    Usual,
}

/// A CSV file with known columns; what is wrong with it is told on stderr, with the line.
#[derive(Debug)]
pub(crate) struct CsvTable {
    path: String,
    columns: &'static [CsvColumn],
    records: Records,
    layout: Option<Layout>,
    /// The rows that could be read.
    rows: u64,
    /// The rows that were refused.
    refused: u64,
    progress: ProgressBar,
}

impl CsvTable {
    /// The file at `path`, or what is piped in for `-`. Its first row may be a header.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(path: &str, columns: &'static [CsvColumn]) -> Result<Self> {
        let (records, size) = Records::open(path).with_context(|| format!("cannot read {path}"))?;
        // Drawn on a terminal alone, and gone at the end.
        let progress = size.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template = if size.is_some() { BAR } else { NO_BAR };
        let style = ProgressStyle::with_template(template);
        progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Self::new(path, columns, records, progress))
    }

    /// The same of records that are read already.
    pub(super) fn new(
        path: &str,
        columns: &'static [CsvColumn],
        records: Records,
        progress: ProgressBar,
    ) -> Self {
        let path = if path == STDIN { "stdin" } else { path }.to_owned();
        Self { path, columns, records, layout: None, rows: 0, refused: 0, progress }
    }

    /// What the file is called.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The next row that could be read; what is none is told and passed over. `None`: that was the last.
    ///
    /// # Errors
    /// The file cannot be read, or its header lacks a column.
    pub(crate) fn next(&mut self) -> Result<Option<CsvRow>> {
        loop {
            let record =
                self.records.next().with_context(|| format!("cannot read {}", self.path))?;
            let Some(CsvRecord { lines, fields }) = record else {
                self.progress.finish_and_clear();
                return Ok(None);
            };
            let fields = match fields {
                Ok(fields) => fields,
                Err(why) => {
                    self.refuse(lines, &why.to_string());
                    continue;
                }
            };
            let layout = match self.layout.take() {
                Some(layout) => layout,
                None => match header(self.columns, &fields) {
                    Some(places) => {
                        self.check_header(lines, &places)?;
                        self.layout = Some(Layout::Header(places, fields.len()));
                        continue;
                    }
                    None => Layout::Usual,
                },
            };
            let arranged = self.arrange(&layout, fields);
            self.layout = Some(layout);
            match arranged {
                Ok(fields) => {
                    self.rows += 1;
                    return Ok(Some(CsvRow { lines, fields }));
                }
                Err(why) => self.refuse(lines, &why),
            }
        }
    }

    /// Says that a row is not taken, and why. A row that [`CsvTable::next`] has given is no row then.
    pub(crate) fn refuse_row(&mut self, lines: Lines, why: &str) {
        self.rows -= 1;
        self.refuse(lines, why);
    }

    fn refuse(&mut self, lines: Lines, why: &str) {
        self.refused += 1;
        let path = &self.path;
        self.progress.suspend(|| match self.refused {
            ..=TOLD_MAX => note(format_args!("{path}, {lines}: {why}")),
            TOLD_MAX_NEXT => {
                note(format_args!("{path}: more rows are wrong, which are only counted"))
            }
            _ => {}
        });
    }

    /// The rows that were taken.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The rows that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Shows how far it has come, with a few words; on a terminal.
    pub(crate) fn show_progress(&self, done: String) {
        self.progress.set_position(self.records.position());
        self.progress.set_message(done);
    }

    fn check_header(&self, lines: Lines, places: &[Option<usize>]) -> Result<()> {
        let all = self.columns.iter().zip(places);
        let missing = all.filter(|(column, place)| column.is_required && place.is_none());
        match missing.map(|(column, _)| column.names[0]).next() {
            Some(name) => bail!(
                "{}, {lines}: the header has no column {name:?}; the columns are {}",
                self.path,
                names(self.columns)
            ),
            None => Ok(()),
        }
    }

    fn arrange(&self, layout: &Layout, mut fields: Vec<String>) -> Result<Vec<String>, String> {
        let (found, most) = (fields.len() as u64, self.columns.len());
        match layout {
            Layout::Header(_, columns) if fields.len() != *columns => {
                Err(format!("{}, and the header has {columns}", many(found, "column")))
            }
            Layout::Header(places, _) => {
                let take = |place: &Option<usize>| {
                    place.map(|place| std::mem::take(&mut fields[place])).unwrap_or_default()
                };
                Ok(places.iter().map(take).collect())
            }
            Layout::Usual => {
                let least = self.columns.iter().filter(|column| column.is_required).count();
                if !(least..=most).contains(&fields.len()) {
                    let columns = names(self.columns);
                    return Err(format!(
                        "{}; there must be {columns}, with commas between them",
                        many(found, "column")
                    ));
                }
                fields.resize(most, String::new());
                Ok(fields)
            }
        }
    }
}

/// The first row behind those that are told one by one.
const TOLD_MAX_NEXT: u64 = TOLD_MAX + 1;

/// The usual names.
fn names(columns: &[CsvColumn]) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.names[0]).collect();
    names.join(",")
}

/// Of each column its place, where the row is a header: it names the first of them.
fn header(columns: &[CsvColumn], fields: &[String]) -> Option<Vec<Option<usize>>> {
    let place = |column: &CsvColumn| {
        let is_it = |field: &String| {
            column.names.iter().any(|name| field.trim().eq_ignore_ascii_case(name))
        };
        fields.iter().position(is_it)
    };
    let places: Vec<_> = columns.iter().map(place).collect();
    places.first().copied().flatten().map(|_| places)
}

/// What stands in a file, as a refusal quotes it.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
