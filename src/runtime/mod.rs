//! What the operating system gives: signals.

pub mod signals;
