//! One connection: statements are queued in groups, sent in one piece, and answered in order. Runs on the thread that
//! calls.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::Oid;
use postgres_protocol::message::frontend;

use super::answers::{Answers, AnswersLeft, SentData, SentStatement};
use super::copy::CopyRows;
use super::error::PgError;
use super::param::Param;
use super::rows::PgRows;
use super::wire::{Wire, WireLimit, WireNext};

/// What may be queued for one exchange, bytes: many of the largest commits.
const MAX_QUEUED: usize = 256 << 20;

/// Values of one statement: the protocol counts them in 16 bits.
const MAX_PARAMS: usize = 65_535;

/// Statements that are kept prepared; others are prepared each time. A program has some dozens.
const MAX_PREPARED: usize = 256;

/// A statement that was prepared, for values of these types.
struct PgPrepared {
    number: usize,
    types: Vec<Oid>,
}

/// A connection to one server.
///
/// Statements are queued in groups with [`PgConnection::statement`] and [`PgConnection::sync`], and
/// [`PgConnection::exchange`] sends all of them at once. A group is a transaction of its own, unless SQL says BEGIN.
/// Each wait ends: see [`PgConnection::set_answer_timeout`].
pub struct PgConnection {
    wire: Wire,
    answers: Answers,
    prepared: HashMap<&'static str, Vec<PgPrepared>>,
    answer_timeout: Duration,
    /// Why it is of no use any more.
    broken: Option<PgError>,
}

impl fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnection").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl PgConnection {
    /// `wire` has logged in.
    pub(super) fn new(wire: Wire, answer_timeout: Duration) -> Self {
        let answers = Answers::new(wire.server().clone());
        Self { wire, answers, prepared: HashMap::new(), answer_timeout, broken: None }
    }

    /// `host:port` that it is connected to, or the path of a socket; for messages.
    pub fn server(&self) -> &str {
        self.wire.server()
    }

    /// How long an answer may take, or a piece of 64 KiB of one, or of what is sent (default 10 s, or what the URL
    /// says). A server that is slower is given up.
    pub fn set_answer_timeout(&mut self, limit: Duration) {
        self.answer_timeout = limit;
    }

    /// Queues one statement, with a value for each of `$1`, `$2`, …; nothing is sent yet. It is prepared at its first
    /// use and known by its text.
    ///
    /// # Errors
    /// The connection is broken; or it is too much at once, and then nothing was queued.
    pub fn statement(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<(), PgError> {
        self.queue(sql, params, None)
    }

    /// Queues a `COPY … FROM STDIN (FORMAT binary)` with its rows, as [`PgConnection::statement`] does.
    ///
    /// # Errors
    /// As there.
    pub fn copy(&mut self, sql: &'static str, rows: &CopyRows) -> Result<(), PgError> {
        self.queue(sql, &[], Some(rows))
    }

    fn queue(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
        rows: Option<&CopyRows>,
    ) -> Result<(), PgError> {
        self.check()?;
        let size = params.iter().map(|param| param.size() + 4).sum::<usize>() + sql.len();
        let size = size.saturating_add(rows.map_or(0, CopyRows::size));
        if params.len() > MAX_PARAMS || self.wire.output.len().saturating_add(size) > MAX_QUEUED {
            let what = format!("more than {MAX_PARAMS} values or {} MiB at once", MAX_QUEUED >> 20);
            return Err(PgError::refused(self.server(), what));
        }
        let before = self.wire.output.len();
        let statement = self.prepare(sql, params);
        let output = &mut self.wire.output;
        let queued = put(statement, sql, params, output).and_then(|()| match rows {
            Some(rows) => put_rows(rows, output),
            None => Ok(()),
        });
        if let Err(what) = queued {
            output.truncate(before);
            return Err(PgError::refused(self.server(), what));
        }
        let data = if rows.is_some() { SentData::Rows } else { SentData::Nothing };
        self.answers.expect(statement, data);
        Ok(())
    }

    /// Ends a group of statements: an error in one skips the rest of its group, and no other.
    pub fn sync(&mut self) {
        frontend::sync(&mut self.wire.output);
        self.answers.end_group();
    }

    /// Sends all that is queued, ends the last group where that was not done, and reads the answers: one for each
    /// group, each with the rows of its statements.
    ///
    /// # Errors
    /// The connection is broken, and whether a COMMIT in the exchange took place is not known.
    pub fn exchange(&mut self) -> Result<Vec<Result<Vec<PgRows>, PgError>>, PgError> {
        self.check()?;
        if self.answers.has_open() {
            self.sync();
        }
        if self.answers.left() == AnswersLeft::Some {
            let (wire, answers) = (&mut self.wire, &mut self.answers);
            let done = wire.run(WireLimit::Silence(self.answer_timeout), |message, size, _| {
                Ok(match answers.take(message, size)? {
                    AnswersLeft::Some => WireNext::More,
                    AnswersLeft::None => WireNext::Done,
                })
            });
            if let Err(error) = done {
                self.broken = Some(error.clone());
                return Err(error);
            }
        }
        let answers = &self.answers;
        for all in self.prepared.values_mut() {
            all.retain(|one| answers.is_parsed(one.number));
        }
        Ok(self.answers.finish())
    }

    /// One statement, its own group. Nothing may be queued.
    ///
    /// # Errors
    /// The statement's, or the connection's, which are broken then: every later call says so.
    pub fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<PgRows, PgError> {
        self.nothing_queued()?;
        self.statement(sql, params)?;
        let rows = self.only_answer()?.pop();
        rows.ok_or_else(|| PgError::protocol(self.server(), "it left a statement out"))
    }

    /// Several statements as text, by the simple protocol, in one transaction: for schemas. Their rows are thrown
    /// away. Nothing may be queued.
    ///
    /// # Errors
    /// As [`PgConnection::query`].
    pub fn script(&mut self, sql: &str) -> Result<(), PgError> {
        self.nothing_queued()?;
        if sql.len() > MAX_QUEUED || frontend::query(sql, &mut self.wire.output).is_err() {
            self.wire.output.clear();
            return Err(PgError::refused(
                self.server(),
                "a script that is too long or holds a zero byte",
            ));
        }
        self.answers.expect_script();
        self.only_answer().map(drop)
    }

    /// Whether it is of no use any more: another must be made.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn check(&self) -> Result<(), PgError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn nothing_queued(&self) -> Result<(), PgError> {
        self.check()?;
        if self.answers.has_open() || self.answers.left() == AnswersLeft::Some {
            return Err(PgError::refused(
                self.server(),
                "statements are queued that were not sent",
            ));
        }
        Ok(())
    }

    fn only_answer(&mut self) -> Result<Vec<PgRows>, PgError> {
        let answer = self.exchange()?.pop();
        answer.unwrap_or_else(|| Err(PgError::protocol(self.server(), "it left a group out")))
    }

    /// How a statement is to be sent.
    fn prepare(&mut self, sql: &'static str, params: &[Param<'_>]) -> SentStatement {
        let fits = |one: &&PgPrepared| {
            let pairs = || one.types.iter().zip(params);
            one.types.len() == params.len()
                && pairs().all(|(oid, param)| matches!(param, Param::Null) || *oid == param.oid())
        };
        if let Some(one) = self.prepared.get(sql).and_then(|all| all.iter().find(fits)) {
            let there = self.answers.is_parsed(one.number) || self.answers.is_open(one.number);
            // It was queued in a group that may fail before it comes to be prepared.
            return if there { SentStatement::Bound(one.number) } else { SentStatement::Unnamed };
        }
        if self.prepared.values().map(Vec::len).sum::<usize>() >= MAX_PREPARED {
            return SentStatement::Unnamed;
        }
        let number = self.answers.number();
        let types = params.iter().map(Param::oid).collect();
        self.prepared.entry(sql).or_default().push(PgPrepared { number, types });
        SentStatement::Parsed(number)
    }
}

impl Drop for PgConnection {
    fn drop(&mut self) {
        if self.broken.is_none() {
            self.wire.terminate();
        }
    }
}

fn put(
    statement: SentStatement,
    sql: &str,
    params: &[Param<'_>],
    output: &mut BytesMut,
) -> Result<(), &'static str> {
    const ZERO: &str = "SQL cannot hold a zero byte";
    let name = match statement {
        SentStatement::Parsed(number) | SentStatement::Bound(number) => format!("s{number}"),
        SentStatement::Unnamed => String::new(),
    };
    if !matches!(statement, SentStatement::Bound(_)) {
        let types = params.iter().map(Param::oid);
        frontend::parse(&name, sql, types, output).map_err(|_| ZERO)?;
        frontend::describe(b'S', &name, output).map_err(|_| ZERO)?;
    }
    // All values and all columns in binary.
    frontend::bind("", &name, [1], params, |param, output| Ok(param.put(output)), [1], output)
        .map_err(|_| "a value is larger than 2 GiB")?;
    frontend::execute("", 0, output).map_err(|_| ZERO)
}

/// The rows of a COPY, behind it: the server takes them when it is ready, and passes over them where it is not to be.
fn put_rows(rows: &CopyRows, output: &mut BytesMut) -> Result<(), &'static str> {
    for part in rows.parts() {
        let data = frontend::CopyData::new(part).map_err(|_| "rows of more than 2 GiB")?;
        data.write(output);
    }
    frontend::copy_done(output);
    Ok(())
}
