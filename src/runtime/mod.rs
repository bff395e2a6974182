//! What the operating system gives: the time of day, signals, listening sockets and who accepts from them.

pub mod accept;
pub mod clock;
pub mod listen;
pub(crate) mod memory;
pub(crate) mod priority;
pub mod signals;
