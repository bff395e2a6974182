//! Connections to the shared ledger's database, as all that use it have them. Block the thread that asks; every wait has a
//! limit.

use super::trouble::Trouble;
use crate::postgres::{PgConfig, PgConnection, PgError, PgErrorKind, PgRows};

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

/// A connection that is made when it is needed, and again after it broke.
pub(super) struct Link {
    config: PgConfig,
    connection: Option<PgConnection>,
}

impl Link {
    /// Not connected.
    pub(super) fn new(config: PgConfig) -> Self {
        Self { config, connection: None }
    }

    /// Connected already.
    pub(super) fn with(config: PgConfig, connection: PgConnection) -> Self {
        Self { config, connection: Some(connection) }
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
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => Ok(empty.insert(connect(&self.config)?)),
        }
    }

    /// Uses this one from now on.
    pub(super) fn replace(&mut self, connection: PgConnection) {
        self.connection = Some(connection);
    }

    /// The next use makes another one.
    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
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
