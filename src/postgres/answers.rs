//! What was sent, and which answer belongs to which statement of it. (pure)
//!
//! A server answers in order, group by group; an error skips the rest of its group. Anything else that it sends is a
//! fault of the connection, which is given up then. Here also is the limit on what an exchange may answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Header, Message, RowDescriptionBody};

use super::error::PgError;
use super::rows::{MAX_COLUMNS, PgColumns, PgRows};

/// What one exchange may answer, bytes of messages: four million rows. In memory a value costs 8 bytes more where the
/// message has 4, so at most three times that much.
const MAX_ANSWER: usize = 256 << 20;

/// One message, bytes: a quarter of an answer may be one row.
const MAX_MESSAGE: usize = MAX_ANSWER / 4;

/// What a message counts for at least, bytes: an empty row costs time and a place, too.
const MIN_MESSAGE: usize = 64;

/// The next message that is there as a whole, with its size.
///
/// # Errors
/// It is none, or too long.
pub(super) fn next_message(
    server: &str,
    input: &mut BytesMut,
) -> Result<Option<(Message, usize)>, PgError> {
    let nonsense = |_| PgError::protocol(server, "it sends something that is not a message");
    let Some(header) = Header::parse(input).map_err(nonsense)? else { return Ok(None) };
    let size = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
    if size > MAX_MESSAGE {
        let what = format!("it sends a message of more than {} MiB", MAX_MESSAGE >> 20);
        return Err(PgError::protocol(server, &what));
    }
    // The codec would reserve room for all of it at its first byte.
    if input.len() < size {
        return Ok(None);
    }
    Ok(Message::parse(input).map_err(nonsense)?.map(|message| (message, size)))
}

/// One statement that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentStatement {
    /// Parse and Describe before Bind and Execute; the number under which its columns are kept.
    Parsed(usize),
    /// Parse and Describe without a name, before Bind and Execute.
    Unnamed,
    /// Bind and Execute of one that was parsed under that number before.
    Bound(usize),
}

/// What was sent behind a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentData {
    Nothing,
    /// Rows for a COPY, and their end.
    Rows,
}

#[derive(Debug)]
enum SentGroup {
    Statements(Vec<(SentStatement, SentData)>),
    /// SQL as text, by the simple protocol, whose rows nobody wants.
    Script,
}

/// Which message comes next, of the statement that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerStep {
    Parse,
    Describe,
    Bind,
    /// The server is ready for the rows of a COPY.
    Copy,
    Rows,
}

/// Whether more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswersLeft {
    Some,
    None,
}

/// The groups of one exchange, and what has come of their answers.
#[derive(Debug)]
pub(super) struct Answers {
    server: Arc<str>,
    /// By the numbers of the statements that the server has, as far as is known.
    columns: HashMap<usize, PgColumns>,
    /// The next statement's.
    number: usize,
    /// Not ended yet.
    open: Vec<(SentStatement, SentData)>,
    groups: VecDeque<SentGroup>,
    done: Vec<Result<Vec<PgRows>, PgError>>,
    /// Of the first of `groups`.
    results: Vec<PgRows>,
    failed: Option<PgError>,
    step: Option<AnswerStep>,
    rows: PgRows,
    size: usize,
}

impl Answers {
    pub(super) fn new(server: Arc<str>) -> Self {
        let rows = PgRows::new(server.clone(), Arc::new([]));
        Self {
            server,
            columns: HashMap::new(),
            number: 0,
            open: Vec::new(),
            groups: Default::default(),
            done: Vec::new(),
            results: Vec::new(),
            failed: None,
            step: None,
            rows,
            size: 0,
        }
    }

    /// A number for a statement that is to be parsed.
    pub(super) fn number(&mut self) -> usize {
        self.number += 1;
        self.number
    }

    /// Whether the server has the statement with that number.
    pub(super) fn is_parsed(&self, number: usize) -> bool {
        self.columns.contains_key(&number)
    }

    /// Whether a statement with that number was sent in the group that is not ended.
    pub(super) fn is_open(&self, number: usize) -> bool {
        self.open.iter().any(|(statement, _)| *statement == SentStatement::Parsed(number))
    }

    /// A statement was queued, and what it takes.
    pub(super) fn expect(&mut self, statement: SentStatement, data: SentData) {
        self.open.push((statement, data));
    }

    /// The end of a group was queued.
    pub(super) fn end_group(&mut self) {
        self.groups.push_back(SentGroup::Statements(std::mem::take(&mut self.open)));
    }

    /// A script was queued.
    pub(super) fn expect_script(&mut self) {
        self.groups.push_back(SentGroup::Script);
    }

    /// Whether statements were queued behind the last end of a group.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether anything is queued.
    pub(super) fn left(&self) -> AnswersLeft {
        if self.groups.is_empty() { AnswersLeft::None } else { AnswersLeft::Some }
    }

    /// The answers, one for each group, of an exchange that is complete.
    pub(super) fn finish(&mut self) -> Vec<Result<Vec<PgRows>, PgError>> {
        self.size = 0;
        std::mem::take(&mut self.done)
    }

    /// Takes a message of `size` bytes in.
    ///
    /// # Errors
    /// The connection is of no use any more: the server ends it, or makes no sense.
    pub(super) fn take(&mut self, message: &Message, size: usize) -> Result<AnswersLeft, PgError> {
        self.size = self.size.saturating_add(size.max(MIN_MESSAGE));
        if self.size > MAX_ANSWER {
            let what = format!("it answers with more than {} MiB at once", MAX_ANSWER >> 20);
            return Err(PgError::refused(&self.server, what));
        }
        match message {
            Message::NoticeResponse(_)
            | Message::ParameterStatus(_)
            | Message::NotificationResponse(_) => {}
            Message::ErrorResponse(body) => {
                self.error(PgError::of_server(&self.server, body.fields()))?
            }
            Message::ReadyForQuery(_) => self.ready()?,
            _ => match self.groups.front() {
                Some(SentGroup::Script) => self.script(message)?,
                Some(SentGroup::Statements(_)) if self.failed.is_none() => {
                    self.statement(message)?
                }
                _ => return Err(self.nonsense()),
            },
        }
        Ok(self.left())
    }

    fn nonsense(&self) -> PgError {
        PgError::protocol(&self.server, "it sends a message that is not due")
    }

    fn error(&mut self, error: PgError) -> Result<(), PgError> {
        if error.is_fatal() || self.groups.is_empty() || self.failed.is_some() {
            return Err(error);
        }
        let stale = matches!(error.sqlstate(), Some("26000" | "0A000"));
        if let (true, Some((SentStatement::Bound(number), _))) = (stale, self.current()) {
            self.columns.remove(&number);
        }
        self.failed = Some(error);
        Ok(())
    }

    fn ready(&mut self) -> Result<(), PgError> {
        let complete = match self.groups.front() {
            None => false,
            Some(SentGroup::Script) => true,
            Some(SentGroup::Statements(all)) => {
                self.failed.is_some() || all.len() == self.results.len()
            }
        };
        if !complete {
            return Err(self.nonsense());
        }
        self.groups.pop_front();
        let results = std::mem::take(&mut self.results);
        self.done.push(self.failed.take().map_or(Ok(results), Err));
        self.step = None;
        Ok(())
    }

    fn script(&self, message: &Message) -> Result<(), PgError> {
        match message {
            Message::RowDescription(_)
            | Message::DataRow(_)
            | Message::CommandComplete(_)
            | Message::EmptyQueryResponse => Ok(()),
            Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                Err(PgError::refused(&self.server, "a script with COPY: that is not done here"))
            }
            _ => Err(self.nonsense()),
        }
    }

    /// The statement that is answered.
    fn current(&self) -> Option<(SentStatement, SentData)> {
        match self.groups.front() {
            Some(SentGroup::Statements(all)) => all.get(self.results.len()).copied(),
            _ => None,
        }
    }

    fn statement(&mut self, message: &Message) -> Result<(), PgError> {
        let Some((current, data)) = self.current() else { return Err(self.nonsense()) };
        let first = match current {
            SentStatement::Bound(_) => AnswerStep::Bind,
            _ => AnswerStep::Parse,
        };
        match (self.step.unwrap_or(first), message) {
            (AnswerStep::Parse, Message::ParseComplete) => self.step = Some(AnswerStep::Describe),
            (AnswerStep::Describe, Message::ParameterDescription(_)) => {}
            (AnswerStep::Describe, Message::RowDescription(body)) => {
                let columns = self.columns_of(body)?;
                self.describe(current, columns);
            }
            (AnswerStep::Describe, Message::NoData) => self.describe(current, Arc::new([])),
            (AnswerStep::Bind, Message::BindComplete) => self.bound(current, data)?,
            (AnswerStep::Copy, Message::CopyInResponse(_)) => self.step = Some(AnswerStep::Rows),
            (AnswerStep::Rows, Message::DataRow(row)) => self.row(row)?,
            (AnswerStep::Rows, Message::CommandComplete(_) | Message::EmptyQueryResponse) => {
                let none = PgRows::new(self.server.clone(), Arc::new([]));
                self.results.push(std::mem::replace(&mut self.rows, none));
                self.step = None;
            }
            (_, Message::CopyInResponse(_) | Message::CopyOutResponse(_)) => {
                return Err(PgError::refused(
                    &self.server,
                    "a statement with COPY for which no rows were given",
                ));
            }
            _ => return Err(self.nonsense()),
        }
        Ok(())
    }

    fn columns_of(&self, body: &RowDescriptionBody) -> Result<PgColumns, PgError> {
        let mut fields = body.fields();
        let mut columns = Vec::new();
        while let Some(field) = fields.next().map_err(|_| self.nonsense())? {
            if columns.len() == MAX_COLUMNS {
                return Err(PgError::protocol(&self.server, "it announces too many columns"));
            }
            columns.push(field.type_oid());
        }
        Ok(columns.into())
    }

    fn describe(&mut self, statement: SentStatement, columns: PgColumns) {
        if let SentStatement::Parsed(number) = statement {
            self.columns.insert(number, columns.clone());
        }
        self.rows = PgRows::new(self.server.clone(), columns);
        self.step = Some(AnswerStep::Bind);
    }

    fn bound(&mut self, statement: SentStatement, data: SentData) -> Result<(), PgError> {
        if let SentStatement::Bound(number) = statement {
            // Parsed in an exchange before, or earlier in this group, which did not fail.
            let Some(columns) = self.columns.get(&number).cloned() else {
                return Err(self.nonsense());
            };
            self.rows = PgRows::new(self.server.clone(), columns);
        }
        self.step = Some(match data {
            SentData::Nothing => AnswerStep::Rows,
            SentData::Rows => AnswerStep::Copy,
        });
        Ok(())
    }

    fn row(&mut self, row: &DataRowBody) -> Result<(), PgError> {
        let count = row.ranges().size_hint().0;
        let pushed = self.rows.push(count, row.buffer());
        pushed.map_err(|what| PgError::protocol(&self.server, what))
    }
}

/// Any bytes of a server as the answer to statements that `plan` chooses: taken or refused, and read. For fuzzing.
#[doc(hidden)]
pub fn fuzz_answers(plan: u8, bytes: &[u8]) {
    let mut answers = Answers::new("fuzz".into());
    let number = answers.number();
    for bit in 0..8 {
        match (bit, plan >> bit & 1) {
            (0, _) | (4, 1) => answers.expect(SentStatement::Parsed(number), SentData::Nothing),
            (3 | 6, 1) => answers.end_group(),
            (5, 1) => answers.expect(SentStatement::Unnamed, SentData::Rows),
            (7, 1) => answers.expect_script(),
            _ => answers.expect(SentStatement::Bound(number), SentData::Nothing),
        }
    }
    answers.end_group();
    let mut input = BytesMut::from(bytes);
    while let Ok(Some((message, size))) = next_message("fuzz", &mut input) {
        if !matches!(answers.take(&message, size), Ok(AnswersLeft::Some)) {
            break;
        }
    }
    for rows in answers.finish().into_iter().flatten().flatten() {
        for row in rows.iter() {
            for column in 0..=rows.columns() {
                let _ = (row.int(column), row.bool(column), row.text(column));
                let _ = (row.bytes(column), row.uuid(column));
            }
        }
    }
}

#[cfg(test)]
mod tests;
