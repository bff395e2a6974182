//! A client of PostgreSQL: one connection, statements in groups, one round trip for many of them.
//!
//! It knows nothing of plays. `postgres-protocol` builds and takes apart the messages and does SCRAM; what is here is
//! the connection string, the socket with its deadlines, TLS, the order of answers, and errors that say the way out.
//! Everything runs on the thread that calls; a name is resolved on a thread of `nsq-protocol`, with a limit.
//!
//! ```text
//! url, config ─▶ connect ─▶ connection ── param, copy ─▶ wire ──▶ socket, or tls
//!                               rows ◀── answers ◀──┘
//! ```
//! `param`, `copy`, `rows`, `answers`, `url` and `settings` are pure; `passfile` reads the file of passwords.

mod answers;
mod config;
mod connect;
mod connection;
mod copy;
mod error;
mod param;
mod passfile;
mod rows;
mod settings;
mod startup;
mod tls;
mod url;
mod wire;

#[doc(hidden)]
pub use answers::fuzz_answers;
pub use config::{PgConfig, PgConfigError};
pub use connection::PgConnection;
pub use copy::{CopyRows, CopyValue};
pub use error::{PgError, PgErrorKind};
pub use param::Param;
pub use rows::{PgRow, PgRows};
#[doc(hidden)]
pub use startup::fuzz_login;
