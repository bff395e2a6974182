//! What the operating system gives: the time of day, signals.

pub mod clock;
pub mod signals;
