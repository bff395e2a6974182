//! The consumer: receives a channel's messages from one or several nsqd.
//!
//! ```text
//!                        +--------- flow_control: shares max_in_flight, RDY and backoff <--------+
//!                        |  nsq-flow                                                             | answered
//!                        v                                                                       |
//! nsqd <--> connection <--> session <-- reader --> queue --> batches --> the user --> batch, delivery
//!           (crate::io)              nsq-read-N                          (running: nsq-work-N)
//!                                        ^
//!                                        | starts one for each nsqd that is found
//!                        nsq-dial: discovery, directory <-- nsq-lookup (crate::client::lookup)
//! ```
//!
//! | file | what it does | its thread |
//! |---|---|---|
//! | `lifecycle`, `threads` | `Consumer`: starts all threads, stops them in order | the caller's |
//! | `control` | what a user changes while it runs | the caller's |
//! | `fixed` | the links that a user gave, each with its thread | the caller's |
//! | `config` | what a consumer can be told | |
//! | `reader` | connects, again and again, and hands over what comes | `nsq-read-N` |
//! | `session`, `pacing` | one subscribed connection: RDY, what is in flight, what is touched | any |
//! | `link`, `link_table` | one nsqd over all its connections; all of them | any |
//! | `flow_control`, `waker` | what the connections share, and who keeps the time | any, and `nsq-flow` |
//! | `origin` | what an answer changes: session, link, flow | workers |
//! | `queue`, `batches` | where workers wait for messages | workers |
//! | `batch`, `delivery` | messages in their hands, and the answers | workers |
//! | `gathered`, `select` | messages of several batches; batches of several consumers | workers |
//! | `source` | a batch that is handed out message by message | workers |
//! | `open` | the batches that workers of our own share | `nsq-work-N` |
//! | `running`, `fallible` | workers of our own; handlers that return a result | `nsq-work-N` |
//! | `give_up`, `giving_up` | what is decided about messages that are given up, and where | `nsq-give-up` |
//! | `worker` | a thread that may hang in what a user wrote | |
//! | `discovery`, `directory` | nsqds that nsqlookupds name; whom to connect to (pure) | `nsq-dial` |
//! | `shared` | what all of them hold | |
//! | `counts`, `stats`, `discovery_stats` | what is counted, and what is told of it | any |
//!
//! Each file imports from those below it only:
//! `fallible -> running, control -> lifecycle -> threads -> discovery, fixed -> reader, batches, stats -> shared -> batch -> open, giving_up -> delivery ->
//! source -> origin -> flow_control -> link_table -> link -> session -> pacing`.

pub(crate) mod batch;
pub(crate) mod batches;
pub(crate) mod config;
mod control;
mod counts;
pub(crate) mod delivery;
mod directory;
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "no nsqlookupd can be given"))]
mod discovery;
pub(crate) mod discovery_stats;
pub(crate) mod fallible;
mod fixed;
mod flow_control;
pub(crate) mod gathered;
pub(crate) mod give_up;
mod giving_up;
pub(crate) mod lifecycle;
pub(crate) mod link;
pub(crate) mod link_table;
mod open;
pub(crate) mod origin;
mod pacing;
mod queue;
mod reader;
pub(crate) mod running;
pub(crate) mod select;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod source;
pub(crate) mod stats;
mod threads;
mod waker;
mod worker;
