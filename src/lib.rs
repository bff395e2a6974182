//! Counts video plays from an NSQ queue and shows them live.

pub mod api;
pub mod app;
pub mod batch;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod config;
pub mod counts;
pub mod dashboard;
pub mod dashboard_client;
pub mod data_dir;
pub mod failpoint;
pub mod hash;
pub mod http;
pub mod ledger;
pub mod nsqd;
pub mod numbers;
pub mod play;
pub mod process;
pub mod produce;
pub mod queue;
pub mod report;
pub mod signals;
pub mod simulation;
pub mod sqlite;
pub mod verify;
