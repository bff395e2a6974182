//! The ledger that several processors share, in PostgreSQL.
//!
//! ```text
//! ledger ─▶ committer ─▶ transaction ── touched, new_messages ── segments, messages
//!        ─▶ upkeep ───▶ sweep, membership, holder
//!        ─▶ confirm          open ─▶ schema, membership, load
//! ```
//! One order of locks for all: the processor's own row, stripes ascending, messages by key. `segments`, `touched`,
//! `messages`, `new_messages` are pure; the others block the thread that asks, with a limit.

mod committer;
mod confirm;
mod dead;
mod holder;
mod import;
mod ledger;
mod ledger_report;
mod link;
mod load;
mod members;
mod membership;
mod messages;
mod new_messages;
mod open;
mod retry;
mod schema;
mod segments;
mod status;
mod sweep;
mod touched;
mod transaction;
mod trouble;
mod upkeep;

pub use import::{ImportConfig, Imported, import_files};
pub use ledger::PostgresLedger;
pub use messages::SHARED_WINDOW_HOURS;
pub use open::{BehindPolicy, PostgresLedgerConfig};
pub use retry::{SharedRetry, shared_dead_letters};
pub use schema::{SharedSchema, init_shared};
pub use status::{SharedProcessor, SharedStatus, SharedTable, shared_status};
pub use trouble::LedgerBehind;
pub use upkeep::{SharedUpkeep, SharedUpkept};
