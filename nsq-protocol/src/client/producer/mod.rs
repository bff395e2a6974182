//! The producer: publishes to the first nsqd that works, answers to callers, moves on when it fails.
//!
//! ```text
//! callers --window--> outbox --writer--> nsqd --reader--> pending commands, in order --> the waiting callers
//! ```
//!
//! | file | what it does | its thread |
//! |---|---|---|
//! | `publish` | `Producer`: what a user calls | the caller's |
//! | `config` | what a producer can be told | |
//! | `receipt` | a publish that is waited for later | the caller's |
//! | `roster`, `finder` | which nsqds there are; asks nsqlookupds for them | any; `nsq-lookup` |
//! | `dispatcher` | which nsqd takes a publish, and the next attempt | the caller's |
//! | `endpoint` | one nsqd: connects, and connects again | the caller's |
//! | `pipeline` | one connection: the window of commands that wait for answers | the caller's, and `nsq-read-N` |
//! | `group` | publishes of several threads that go as one MPUB | the caller's, and `nsq-read-N` |
//! | `command` | what is published, and what nsqd would refuse of it | |
//! | `stats` | what is told of it | |

pub(super) mod command;
pub(crate) mod config;
mod dispatcher;
mod endpoint;
mod finder;
mod group;
mod pipeline;
pub(crate) mod publish;
pub(crate) mod receipt;
mod roster;
pub(crate) mod stats;
