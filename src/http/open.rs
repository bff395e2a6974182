//! The connections that are open, and which of them wait for a request.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// One that a thread is at.
pub(super) struct OpenConnection {
    pub(super) socket: Arc<TcpStream>,
    /// Since when it has waited for a request; `None`: it is at one.
    idle_since: Mutex<Option<Instant>>,
}

/// All of a server.
#[derive(Default)]
pub(super) struct OpenConnections(Mutex<HashMap<u64, Arc<OpenConnection>>>);

impl OpenConnection {
    /// Notes that it waits for a request from now on, or is at one.
    pub(super) fn set_idle(&self, is_idle: bool) {
        *self.idle_since.lock() = is_idle.then(Instant::now);
    }
}

impl OpenConnections {
    /// Adds one, which waits for its first request.
    pub(super) fn add(&self, id: u64, socket: Arc<TcpStream>) -> Arc<OpenConnection> {
        let added =
            Arc::new(OpenConnection { socket, idle_since: Mutex::new(Some(Instant::now())) });
        self.0.lock().insert(id, Arc::clone(&added));
        added
    }

    /// Its thread has ended.
    pub(super) fn remove(&self, id: u64) {
        self.0.lock().remove(&id);
    }

    /// Ends the one that has waited the longest for a request; whether there was one.
    pub(super) fn end_idlest(&self) -> bool {
        let open = self.0.lock();
        let waiting = open.values().filter_map(|one| Some(((*one.idle_since.lock())?, one)));
        let Some((_, one)) = waiting.min_by_key(|(since, _)| *since) else { return false };
        *one.idle_since.lock() = None;
        // Its thread sees the end of it.
        let _ = one.socket.shutdown(Shutdown::Read);
        true
    }

    /// Shuts all of them down, one way or both.
    pub(super) fn shut(&self, how: Shutdown) {
        for one in self.0.lock().values() {
            let _ = one.socket.shutdown(how);
        }
    }
}
