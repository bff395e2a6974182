//! Counts video plays from an NSQ queue and shows them live.

pub mod api;
pub mod batch;
pub mod broker;
pub mod cli;
pub mod config;
pub mod counts;
pub mod dashboard;
pub mod data_dir;
pub mod http;
pub mod play;
