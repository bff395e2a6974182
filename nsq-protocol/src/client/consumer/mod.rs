//! The consumer.

pub(crate) mod delivery;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod lifecycle;
pub(crate) mod queue;
pub(crate) mod session;
