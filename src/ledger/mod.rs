//! What makes counts exact: the set of plays that are counted already. In memory; the durable ledger will keep it.

mod dedupe;
mod seq_set;

pub use dedupe::{Dedupe, MessageKey, Seen};
pub use seq_set::SeqSet;
