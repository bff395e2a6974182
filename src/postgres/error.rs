//! What can go wrong with a server, in one line: what, where, and the way out. (pure)

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

/// Of a server's text, characters: a line of a log, not a page.
const MAX_TEXT: usize = 300;

/// What an error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgErrorKind {
    /// Two transactions were in each other's way: the same again, at once.
    Retry,
    /// The connection is gone or cannot be made, or the server starts, is full or read-only: it goes on by itself
    /// once that is mended.
    Away,
    /// Password, rights, no such database, bad SQL: somebody must act.
    Refused,
}

/// What went wrong: one line that says what, where and, where there is one, the way out. Holds no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError {
    kind: PgErrorKind,
    sqlstate: Option<String>,
    server: String,
    what: String,
    fatal: bool,
}

impl std::error::Error for PgError {}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL at {}: {}", self.server, self.brief())
    }
}

/// What and the way out, without the server.
struct Brief<'a>(&'a PgError);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        f.write_str(&error.what)?;
        if let Some(code) = &error.sqlstate {
            write!(f, " (SQLSTATE {code})")?;
        }
        match error.sqlstate.as_deref().and_then(way_out) {
            Some(way_out) => write!(f, ": {way_out}"),
            None => Ok(()),
        }
    }
}

impl PgError {
    /// The server's five characters for what went wrong; `None` where it was not the server that said it.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// What it calls for.
    pub fn kind(&self) -> PgErrorKind {
        self.kind
    }

    fn brief(&self) -> Brief<'_> {
        Brief(self)
    }

    /// Why none of several servers let us in.
    pub(super) fn of_all(servers: &str, mut errors: Vec<Self>) -> Self {
        if errors.len() == 1 {
            return errors.remove(0);
        }
        let is_away = errors.iter().any(|error| error.kind == PgErrorKind::Away);
        let kind = if is_away { PgErrorKind::Away } else { PgErrorKind::Refused };
        let all = errors.iter().map(|error| format!("{}: {}", error.server, error.brief()));
        Self::own(kind, servers, all.collect::<Vec<_>>().join("; "))
    }

    /// The same, if a server should say the password that it was told.
    pub(super) fn without(mut self, password: &str) -> Self {
        if !password.is_empty() && self.what.contains(password) {
            self.what = self.what.replace(password, "…");
        }
        self
    }

    /// Whether the server ends the connection behind it.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// An error that no server said.
    pub(super) fn own(kind: PgErrorKind, server: &str, what: impl Into<String>) -> Self {
        Self { kind, sqlstate: None, server: server.to_owned(), what: what.into(), fatal: false }
    }

    /// The connection cannot be made, or broke.
    pub(super) fn away(server: &str, what: impl Into<String>) -> Self {
        Self::own(PgErrorKind::Away, server, what)
    }

    /// Somebody must act.
    pub(super) fn refused(server: &str, what: impl Into<String>) -> Self {
        Self::own(PgErrorKind::Refused, server, what)
    }

    /// What came makes no sense.
    pub(super) fn protocol(server: &str, what: &str) -> Self {
        Self::refused(server, format!("{what}: is it a PostgreSQL server?"))
    }

    /// What a server's ErrorResponse says.
    pub(super) fn of_server(server: &str, mut fields: ErrorFields<'_>) -> Self {
        let (mut severity, mut code) = (String::new(), String::new());
        let (mut what, mut detail, mut routine) = (String::new(), String::new(), String::new());
        while let Ok(Some(field)) = fields.next() {
            let into = match field.type_() {
                b'V' => &mut severity,
                b'C' => &mut code,
                b'M' => &mut what,
                b'D' => &mut detail,
                b'R' => &mut routine,
                _ => continue,
            };
            *into = plain(field.value_bytes());
        }
        if !detail.is_empty() {
            what = format!("{what}; {detail}");
        }
        if code.len() != 5 || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            code = "XX000".to_owned();
        }
        let kind = kind_of(&code, &routine);
        let fatal = severity == "FATAL" || severity == "PANIC";
        Self { kind, sqlstate: Some(code), server: server.to_owned(), what, fatal }
    }
}

/// What of a server's text can stand in one line.
pub(super) fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_TEXT)]);
    let clean = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(MAX_TEXT).map(clean).collect()
}

fn kind_of(code: &str, routine: &str) -> PgErrorKind {
    match code {
        // Serialization, deadlock, a lock that was asked for without waiting.
        "40001" | "40P01" | "55P03" => PgErrorKind::Retry,
        // A prepared statement of before a migration; it is prepared anew.
        "0A000" if routine == "RevalidateCachedQuery" => PgErrorKind::Retry,
        // The database was dropped.
        "57P04" => PgErrorKind::Refused,
        // Read-only, and the two timeouts of a session that did nothing.
        "25006" | "25P03" | "25P04" => PgErrorKind::Away,
        _ => match &code[..2] {
            // Connection, resources, an operator's act, the system's errors.
            "08" | "53" | "57" | "58" => PgErrorKind::Away,
            _ => PgErrorKind::Refused,
        },
    }
}

fn way_out(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => {
            "set the right password in the URL, PGPASSWORD or the file that PGPASSFILE names"
        }
        "28000" => {
            "the server's pg_hba.conf does not let this user in from here, or not without TLS (sslmode=require)"
        }
        "3D000" => "create it with createdb, or name another one in the URL",
        "42501" => "GRANT the right to this user, or take the user that owns the tables",
        "57P03" => "wait; it is tried again",
        "53300" => "raise max_connections, or end other connections; it is tried again",
        "25006" => {
            "give all servers as hosts and target_session_attrs=read-write, so that the primary is found"
        }
        "53100" => "free space on the server's disk; it goes on by itself",
        "57P01" | "57P02" => "it is connected to again",
        "25P03" => {
            "the transaction was rolled back, because this process was stopped for longer than \
                    idle_in_transaction_session_timeout"
        }
        "26000" | "42P05" => {
            "the session is not ours alone, as behind PgBouncer in transaction mode: connect to \
                              the server itself, or use pool_mode = session"
        }
        _ => return None,
    })
}
