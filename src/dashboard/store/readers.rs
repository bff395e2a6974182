//! Connections to read the database with, lent out one at a time. A query runs on its caller's thread.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::database::SCHEMA;

/// The connections that nobody has.
pub(super) struct Readers {
    idle: (Sender<Connection>, Receiver<Connection>),
}

impl Readers {
    /// Opens `count` connections.
    ///
    /// # Errors
    /// The database is not there, or cannot be read.
    pub(super) fn open(file: &Path, count: usize) -> Result<Self> {
        let idle = bounded(count);
        for _ in 0..count {
            let reader = SCHEMA.open_reader(file)?.context("the database is gone")?;
            idle.0.send(reader).expect("both ends are held here");
        }
        Ok(Self { idle })
    }

    /// Reads with one of them.
    ///
    /// # Errors
    /// None was free before `deadline`, or the query's.
    pub(super) fn read<T>(
        &self,
        deadline: Instant,
        query: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let connection = self.idle.1.recv_deadline(deadline).context("every reader is busy")?;
        let result = query(&connection);
        // Cannot be full: this is the connection taken above.
        let _ = self.idle.0.try_send(connection);
        result
    }

    /// Closes those that nobody has.
    pub(super) fn close(&self) {
        while self.idle.1.try_recv().is_ok() {}
    }
}
