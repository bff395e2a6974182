//! Cuts CSV into records, with the lines that each stands on.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use csv_core::{ReadRecordResult, Reader};

/// The name that stands for what is piped in.
pub(crate) const STDIN: &str = "-";

/// The most of a file that is read at a time, in bytes: as the kernel reads ahead.
const READ_SIZE: usize = 64 * 1024;

/// The longest record, in bytes without its quotes: an id, a title and a URL are under 4 KiB together. What is longer has a
/// quote that nothing closes, or is no such file.
pub(super) const RECORD_MAX: usize = 16 * 1024;

/// The most columns. Programs export many.
pub(super) const COLUMNS_MAX: usize = 64;

/// The lines that a record stands on, the first of a file is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Where it begins.
    pub(crate) first: u64,
    /// Where it ends: behind `first` where a quoted text has line breaks.
    pub(crate) last: u64,
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "line {}", self.first),
            false => write!(f, "lines {} to {}", self.first, self.last),
        }
    }
}

/// Why a record is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRecord {
    /// It does not end. What follows is read from the next line on.
    #[error("over {RECORD_MAX} bytes without an end; a quote is perhaps not closed")]
    TooLong,
    /// It has columns without end.
    #[error("over {COLUMNS_MAX} columns")]
    TooWide,
    /// It is in another encoding.
    #[error("no UTF-8; save the file as CSV in UTF-8")]
    NotUtf8,
}

/// One record.
pub(super) struct CsvRecord {
    /// Where it stands.
    pub(super) lines: Lines,
    /// Its fields, without their quotes.
    pub(super) fields: Result<Vec<String>, NoRecord>,
}

/// The records of a file, or of what is piped in.
pub(super) struct Records {
    input: Box<dyn BufRead>,
    parser: Reader,
    fields: Box<[u8]>,
    ends: [usize; COLUMNS_MAX],
    /// The line that the next byte stands on.
    line: u64,
    /// How many bytes were read.
    read: u64,
}

impl Records {
    /// Those of the file at `path`, or of stdin; with the file's size in bytes, where it has one.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &str) -> io::Result<(Self, Option<u64>)> {
        if path == STDIN {
            return Ok((Self::new(BufReader::with_capacity(READ_SIZE, io::stdin())), None));
        }
        let file = File::open(path)?;
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let size = about.is_file().then_some(about.len());
        Ok((Self::new(BufReader::with_capacity(READ_SIZE, file)), size))
    }

    /// Those of what is read.
    pub(super) fn new(input: impl BufRead + 'static) -> Self {
        Self {
            input: Box::new(input),
            parser: Reader::new(),
            fields: vec![0; RECORD_MAX].into(),
            ends: [0; COLUMNS_MAX],
            line: 1,
            read: 0,
        }
    }

    /// How many bytes were read so far.
    pub(super) fn position(&self) -> u64 {
        self.read
    }

    /// The next record; `None`: there is none. Lines without anything are passed over.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<CsvRecord>> {
        self.skip_line_ends()?;
        let first = self.line;
        let (mut filled, mut columns) = (0, 0);
        loop {
            let input = self.input.fill_buf()?;
            let (fields, ends) = (&mut self.fields[filled..], &mut self.ends[columns..]);
            let (result, taken, written, ended) = self.parser.read_record(input, fields, ends);
            let breaks = input[..taken].iter().filter(|byte| **byte == b'\n').count() as u64;
            let ends_line = taken > 0 && input[taken - 1] == b'\n';
            self.consume(taken, breaks);
            (filled, columns) = (filled + written, columns + ended);
            let no_record = match result {
                ReadRecordResult::InputEmpty => continue,
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => {
                    let last = self.line - u64::from(ends_line);
                    let fields = self.fields(columns);
                    return Ok(Some(CsvRecord { lines: Lines { first, last }, fields }));
                }
                ReadRecordResult::OutputFull => NoRecord::TooLong,
                ReadRecordResult::OutputEndsFull => NoRecord::TooWide,
            };
            let lines = Lines { first, last: self.line };
            if !ends_line {
                self.skip_line()?;
            }
            self.parser.reset();
            return Ok(Some(CsvRecord { lines, fields: Err(no_record) }));
        }
    }

    fn fields(&self, columns: usize) -> Result<Vec<String>, NoRecord> {
        let mut start = 0;
        let field = |end: &usize| {
            let text = str::from_utf8(&self.fields[start..*end]).map_err(|_| NoRecord::NotUtf8)?;
            start = *end;
            Ok(text.to_owned())
        };
        self.ends[..columns].iter().map(field).collect()
    }

    fn consume(&mut self, bytes: usize, breaks: u64) {
        self.input.consume(bytes);
        self.line += breaks;
        self.read += bytes as u64;
    }

    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let input = self.input.fill_buf()?;
            let ends = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
            let (bytes, breaks) = ends.fold((0, 0), |(bytes, breaks), end| {
                (bytes + 1, breaks + u64::from(*end == b'\n'))
            });
            if bytes == 0 {
                return Ok(());
            }
            self.consume(bytes, breaks);
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let input = self.input.fill_buf()?;
            let (bytes, breaks) = match input.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, 1),
                None => (input.len(), 0),
            };
            self.consume(bytes, breaks);
            if breaks > 0 || bytes == 0 {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("line", &self.line).finish_non_exhaustive()
    }
}
