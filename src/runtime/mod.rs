//! What the operating system gives: the time of day, signals, listening sockets and who accepts from them, and the service
//! manager that wants to hear how the process is; which of what a part depends on is there, and how long to wait for it.

pub mod accept;
pub(crate) mod backoff;
pub mod clock;
pub mod links;
pub mod listen;
pub(crate) mod log_level;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod priority;
pub mod signals;
pub(crate) mod watchdog;
