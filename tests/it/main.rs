//! Integration tests: everything with a socket, one binary, one link.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test may wait for a process, and its threads end with it"
)]

mod alarms;
mod any_site;
mod attacks;
mod bench;
mod beside;
mod bounds;
mod broker_auth;
mod broker_compat;
mod broker_disk;
mod broker_hostile;
mod broker_kept;
mod broker_lookupd;
mod broker_names;
mod broker_options;
mod broker_support;
mod broker_tls;
mod broker_upgrades;
#[allow(dead_code, reason = "nsq-protocol's tests use the rest of it")]
#[path = "../../nsq-protocol/tests/it/certs.rs"]
mod certs;
mod check;
mod cli;
mod crash;
mod damage;
mod dashboard;
mod dashboard_support;
mod dashboards;
mod disk;
mod embed;
mod first_day;
mod foreign_pages;
mod gone;
mod health;
mod http;
mod https;
mod https_served;
mod ids;
mod kept_broker;
#[cfg(feature = "postgres")]
mod ledger_command;
mod ledger_support;
mod migration;
mod nginx;
mod notify;
#[path = "../../nsq-protocol/tests/it/nsqd.rs"]
mod nsqd;
#[path = "../../nsq-protocol/tests/it/nsqlookupd.rs"]
mod nsqlookupd;
mod options;
mod oversized;
mod owners;
mod packaging;
mod page;
mod page_accessibility;
mod page_alarm;
mod page_compare;
mod page_drill;
mod page_letters;
mod page_place;
mod page_queue;
mod page_ranges;
mod page_support;
mod page_theme;
mod page_times;
mod page_titles;
mod page_views;
mod page_windows;
mod pipeline;
mod plays;
#[path = "../chaos/ports.rs"]
mod ports;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_hostile;
#[cfg(feature = "postgres")]
mod postgres_hosts;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "postgres")]
mod postgres_tls;
mod private_files;
#[allow(dead_code, reason = "the client's tests spoil connections in more ways")]
#[path = "../../nsq-protocol/tests/it/proxy.rs"]
mod proxy;
mod queue;
mod raw_text;
mod read_only;
mod read_token;
mod readme;
mod refused_threads;
mod release;
mod replayed;
mod restore;
mod retry;
mod shape;
#[cfg(feature = "postgres")]
mod shared_failover;
#[cfg(feature = "postgres")]
mod shared_ledger;
#[cfg(feature = "postgres")]
mod shared_processes;
mod start_nsq;
mod stop;
#[cfg(feature = "postgres")]
mod stop_postgres;
mod streams;
mod support;
#[path = "../../nsq-protocol/tests/it/timing.rs"]
mod timing;
mod title_commands;
mod tls_client;
#[path = "../../nsq-protocol/tests/it/tls_proxy.rs"]
mod tls_proxy;
mod tokens;
mod unpacked;
mod videos;
mod webhook;
