//! What each call answers: free functions over the shared state, each beside what the OpenAPI document says of it. Run on
//! the server's worker threads.

pub(super) mod actions;
pub(super) mod confirmed;
pub(super) mod consumption;
pub(super) mod counts;
pub(super) mod document;
pub(super) mod export;
pub(super) mod health;
pub(super) mod imports;
pub(super) mod ledgers;
pub(super) mod letters;
pub(super) mod period;
pub(super) mod plays;
pub(super) mod processors;
pub(super) mod queue;
pub(super) mod series;
pub(super) mod settings;
pub(super) mod stats;
pub(super) mod top;
pub(super) mod videos;
pub(super) mod written;
