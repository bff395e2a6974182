//! Counts video plays from an NSQ queue and shows them live.

pub mod api;
pub mod broker;
pub mod data_dir;
pub mod http;
