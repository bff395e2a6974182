//! Counts video plays from an NSQ queue and shows them live.

pub mod api;
pub mod batch;
pub mod cli;
pub mod config;
pub mod counts;
pub mod data_dir;
pub mod play;
