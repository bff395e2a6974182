//! Connections to the shared ledger's database, as all that use it have them. Block the thread that asks; every wait has a
//! limit.

use super::trouble::Trouble;
use crate::postgres::{Param, PgConfig, PgConnection, PgError, PgErrorKind, PgRows};

/// What a session is set to. A transaction whose processor stopped in the middle is rolled back after 5 s: so long others
/// may wait for its locks, and no lock is waited for much longer. A statement ends before the client's patience does.
/// Plans are made once: the tables grow, so that none may read one from end to end.
const SETTINGS: &str = "
    SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '7s'; SET statement_timeout = '9s';
    SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET jit = off; SET default_transaction_isolation = 'read committed';";

/// Durable means what the server's owner has set, but for this value, which means nothing.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'";

/// What makes all of the WAL durable that was written before it, whoever wrote it.
pub(super) const FLUSH: &str = "SELECT pg_logical_emit_message(true, 'playcounts', '') IS NULL";

/// Ends a transaction that has failed, or of which nothing is to stay.
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// Connects.
///
/// # Errors
/// As [`PgConnection::connect`].
pub(super) fn connect(config: &PgConfig) -> Result<PgConnection, PgError> {
    let mut connection = PgConnection::connect(config)?;
    connection.script(SETTINGS)?;
    connection.query(DURABLE, &[])?;
    Ok(connection)
}

const SESSION: &str = "SELECT pid::int8, (extract(epoch FROM backend_start) * 1e6)::int8
    FROM pg_stat_activity WHERE pid = pg_backend_pid()";

const END_SESSION: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = $1 AND (extract(epoch FROM backend_start) * 1e6)::int8 = $2 AND usename = current_user";

/// Sessions of before that are ended once there is a connection again; older ones are left to the server.
const OLD_MAX: usize = 16;

/// A session, as the server knows it: its process, and when that began, in µs since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerSession(i64, i64);

/// A connection that is made when it is needed, and again after it broke.
///
/// What the server still does for the one that broke is ended first: it may hold locks for seconds, and one that waits for a
/// synchronous standby does not notice for as long as that is away that nobody listens. Tries would use up all connections.
pub(super) struct Link {
    config: PgConfig,
    connection: Option<PgConnection>,
    session: Option<ServerSession>,
    /// To be ended.
    old: Vec<ServerSession>,
}

impl Link {
    /// Not connected.
    pub(super) fn new(config: PgConfig) -> Self {
        Self { config, connection: None, session: None, old: Vec::new() }
    }

    /// Whether there is a connection, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.connection.is_some()
    }

    /// The connection, made if there is none.
    ///
    /// # Errors
    /// As [`connect`].
    pub(super) fn get(&mut self) -> Result<&mut PgConnection, PgError> {
        let empty = match &mut self.connection {
            Some(connection) => return Ok(connection),
            empty => empty,
        };
        let mut connection = connect(&self.config)?;
        let rows = connection.query(SESSION, &[])?;
        let row = rows.first()?;
        self.session = Some(ServerSession(row.int(0)?, row.int(1)?));
        for ServerSession(pid, began) in self.old.drain(..) {
            connection.query(END_SESSION, &[Param::Int(pid), Param::Int(began)])?;
        }
        Ok(empty.insert(connection))
    }

    /// Takes the connection of another link, which has none then.
    pub(super) fn take_from(&mut self, other: &mut Self) {
        self.drop_connection();
        (self.connection, self.session) = (other.connection.take(), other.session.take());
    }

    /// What is to be ended goes to another link, which is to make the connection.
    pub(super) fn give_old(&mut self, other: &mut Vec<ServerSession>) {
        other.append(&mut self.old);
    }

    /// Sessions to be ended.
    pub(super) fn add_old(&mut self, mut old: Vec<ServerSession>) {
        self.old.append(&mut old);
        let more = self.old.len().saturating_sub(OLD_MAX);
        self.old.drain(..more);
    }

    /// The next use makes another one.
    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
        let old = self.session.take();
        self.add_old(old.into_iter().collect());
    }

    /// Does something on the connection. After an error there is none: what was begun is rolled back with it.
    ///
    /// # Errors
    /// Those of `act`, and as [`Link::get`].
    pub(super) fn run<T>(
        &mut self,
        act: impl FnOnce(&mut PgConnection) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let done = act(self.get()?);
        if done.is_err() {
            self.drop_connection();
        }
        done
    }
}

impl Link {
    /// As [`Link::run`], for what only reads: once more where a connection of before has broken meanwhile.
    ///
    /// # Errors
    /// As there.
    pub(super) fn read<T>(
        &mut self,
        mut act: impl FnMut(&mut PgConnection) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let was_up = self.is_up();
        match self.run(&mut act) {
            Err(Trouble::Database(error)) if was_up && error.kind() == PgErrorKind::Away => {
                self.run(act)
            }
            done => done,
        }
    }
}

/// Whether two transactions were only in each other's way.
pub(super) fn is_conflict(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Database(error) if error.kind() == PgErrorKind::Retry)
}

/// The answers of all groups, if none of them failed.
///
/// # Errors
/// The first.
pub(super) fn all(
    groups: Result<Vec<Result<Vec<PgRows>, PgError>>, PgError>,
) -> Result<Vec<Vec<PgRows>>, PgError> {
    groups?.into_iter().collect()
}
