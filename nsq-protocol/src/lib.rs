//! A blocking client for [NSQ](https://nsq.io): the V2 wire protocol, a producer and a consumer on OS threads,
//! without an async runtime.
//!
//! NSQ is a message queue made of independent `nsqd` processes. A *producer* publishes messages to a *topic* of
//! one nsqd. A topic copies each message to all of its *channels*, and a channel gives each message to one of its
//! *consumers*, which answers it: FIN (done) or REQ (again, after a delay). What is not answered within the
//! msg-timeout is delivered again. So delivery is **at least once and unordered**; see [`Producer`] and [`Batch`]
//! for what that asks of you.
//!
//! # How it fits together
//! ```text
//!  your threads ─▶ Producer ─▶ a connection ─▶ nsqd ─▶ a connection ─▶ Consumer ─▶ Batch, Delivery ─▶ your threads
//!                              to one nsqd             to each nsqd     ▲ RDY: how many nsqd may send ahead
//!                                                                       └ nsqlookupd: which nsqd has the topic
//! ```
//!
//! | to | begin with | then |
//! |---|---|---|
//! | publish | [`ProducerConfig`], [`Producer`] | [`Receipt`] for many at a time, [`PublishError`] for what each ending means |
//! | consume with a function | [`ConsumerConfig`], [`Consumer::run`], [`Consumer::run_fallible`] | [`Delivery`], [`RunningConsumer`] |
//! | consume on threads of your own | [`Consumer::batches`] | [`Batch`], which many messages share |
//! | change what runs | [`Consumer::pause`], [`Consumer::set_max_in_flight`] | [`Consumer::connect_to_nsqd`] and its like |
//! | gather | [`Batches::recv_many`], [`Select`] | [`Gathered`] |
//! | watch | [`Consumer::stats`], [`Producer::stats`], [`ConsumerConfig::on_event`] | [`Admin`] for nsqd's own figures |
//! | speak the protocol, as a server or a test does | [`Command`], [`Frame`] | [`CommandDecoder`], [`FrameDecoder`] |
//!
//! # Publish
//! ```no_run
//! use nsq_protocol::{BodiesBuf, Producer, ProducerConfig, TopicName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::connect(ProducerConfig::new().nsqd("127.0.0.1:4150"))?;
//! let topic = TopicName::new("plays")?;
//! producer.publish(&topic, b"one")?;
//!
//! // Faster: many in one command, and the next one before the answer to the last.
//! let mut bodies = BodiesBuf::new();
//! bodies.push(b"two");
//! bodies.push(b"three");
//! let receipt = producer.submit_many(&topic, bodies)?;
//! let mut bodies = receipt.wait()?; // stored; the buffer can be used again
//! bodies.clear();
//! producer.close(std::time::Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Consume
//! ```no_run
//! use nsq_protocol::{ChannelName, Consumer, ConsumerConfig, TopicName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ConsumerConfig::new(TopicName::new("plays")?, ChannelName::new("count")?);
//! let consumer = Consumer::start(config.nsqd("127.0.0.1:4150").max_in_flight(2500))?;
//! // Another thread, or several, could do this; each batch goes to one of them.
//! for batch in consumer.batches().take(10) {
//!     for message in &batch {
//!         println!("{} bytes, delivery {}", message.body.len(), message.attempts);
//!     }
//!     batch.finish(); // or requeue(delay), or into_deliveries() to answer one by one
//! }
//! let stats = consumer.shutdown();
//! println!("{} messages", stats.connections[0].finished);
//! # Ok(())
//! # }
//! ```
//! [`Consumer::run`] does that on threads of its own.
//!
//! # Features
//! | feature | what it adds | without it |
//! |---|---|---|
//! | `tls` | [`TlsConfig`], and `https://` addresses | neither is there, and such an address is refused |
//! | `snappy`, `deflate` | [`Compression::Snappy`], [`Compression::Deflate`] | the variant is not there |
//! | `http` | nsqlookupd ([`LookupConfig`], [`ConsumerConfig::lookupd`]) and nsqd's HTTP API ([`Admin`]) | none of these |
//! | `tracing` | a span of that crate for each publish (`nsq.publish`, a child of the caller's) and for each handler of [`Consumer::run`] (`nsq.handle`) | none |
//!
//! All but `tracing` are on by default. The codec, [`Producer`] and [`Consumer`] are always there. An option that is given as text
//! ([`ConsumerConfig::set_option`]) and needs a feature which is off gets an error that names the feature; the types of errors
//! are the same in every build.
//!
//! # In scope
//! - The wire protocol, both ways, without IO: [`Command`], [`Frame`] and their decoders.
//! - A consumer of several nsqd and a producer that moves from one nsqd to the next. Both reconnect, bound
//!   everything they hold, answer heartbeats whatever the caller does, and find a dead peer after two heartbeats.
//! - TLS 1.2 and 1.3 with client certificates ([`TlsConfig`]), snappy and deflate ([`Compression`]), AUTH
//!   ([`AuthSecret`]). An nsqd that declines TLS is left; nothing of yours goes to it in clear.
//! - nsqlookupd, several ([`LookupConfig`]), and go-nsq's option names as text ([`ConsumerConfig::set_option`]).
//! - nsqd's HTTP API: [`Admin`]. This and nsqlookupd also over TLS, at `https://host:port`.
//!
//! # Out of scope
//! Async; a limit on attempts unless asked for ([`ConsumerConfig::max_attempts`]); exactly-once.
//!
//! # Threads
//! Two for each connection, `nsq-read-N` and `nsq-write-N`; one for each producer with nsqlookupds,
//! `nsq-lookup`; one for each consumer that keeps time, `nsq-flow`, and with
//! nsqlookupds two more, `nsq-lookup` and `nsq-dial`; those of [`Consumer::run`], `nsq-work-N`; and with
//! [`ConsumerConfig::on_give_up`] one more, `nsq-give-up`. Each is joined by the [`Consumer`] or [`Producer`] that it belongs to. A name that is no IP address is resolved on `nsq-resolve`,
//! which is left behind when the system's resolver hangs. A start whose threads the system refuses returns
//! [`Error::Thread`], and those that run end first.

#![cfg_attr(docsrs, feature(doc_cfg))]

// Imports go one way, between the folders and between their files:
//
//     testing -> client -> io, flow -> codec        error -> codec        thread imports nothing
//
// codec   bytes to values and back (pure)
// flow    how many messages may flow, and when they stop (pure)
// io      one connection: socket, TLS, handshake, outbox, reader and writer
// client  consumer, producer, nsqlookupd, nsqd's HTTP API; each folder's mod.rs says what its files do
// testing helpers for the tests of users
mod client;
mod codec;
mod error;
mod flow;
mod io;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(not(feature = "unstable-internals"))]
#[allow(dead_code, unreachable_pub, reason = "others use all of it, where they may")]
mod thread;
#[cfg(feature = "unstable-internals")]
#[doc(hidden)]
pub mod thread;

#[cfg(feature = "http")]
pub use client::admin::api::{Admin, AdminError, StatsFilter};
#[cfg(feature = "http")]
pub use client::admin::stats::{
    ChannelStats, ClientStats, Latency, NodeInfo, NodeStats, Percentile, PubCount, TopicStats,
};
pub use client::consumer::batch::{Batch, Messages};
pub use client::consumer::batches::{Batches, RecvTimeoutError};
pub use client::consumer::config::ConsumerConfig;
pub use client::consumer::delivery::Delivery;
pub use client::consumer::discovery_stats::{LookupdStats, Unreachable};
pub use client::consumer::gathered::Gathered;
pub use client::consumer::give_up::{GiveUp, GiveUpCause, GivenUp};
pub use client::consumer::lifecycle::{Consumer, Unanswered};
pub use client::consumer::link_table::Departed;
pub use client::consumer::running::{RunningConsumer, Shutdown};
pub use client::consumer::select::Select;
pub use client::consumer::source::UnansweredMessage;
pub use client::consumer::stats::{ConnectionStats, ConsumerStats};
pub use client::event::Event;
#[cfg(feature = "http")]
pub use client::lookup::config::LookupConfig;
#[cfg(feature = "http")]
pub use client::lookup::nodes::NsqdNode;
pub use client::producer::config::ProducerConfig;
pub use client::producer::publish::Producer;
pub use client::producer::receipt::Receipt;
pub use client::producer::stats::{ProducerConnectionStats, ProducerStats};
pub use codec::auth::AuthSecret;
pub use codec::bodies::{Bodies, BodiesBuf};
pub use codec::command::{Command, MAGIC};
pub use codec::command_decoder::{CommandDecoder, CommandHead, MAX_LINE};
pub use codec::command_error::{CommandError, CommandLimits};
pub use codec::compression::Compression;
pub use codec::compression::decompress_error::DecompressError;
pub use codec::error_code::ErrorCode;
pub use codec::frame::{
    CLOSE_WAIT, DecodeError, Frame, FrameDecoder, HARD_MAX_FRAME, HEARTBEAT, OK,
};
pub use codec::identify::{IdentifyRequest, IdentifyResponse};
pub use codec::message::{MESSAGE_HEAD_LEN, MESSAGE_ID_LEN, MessageId, MessageRef};
pub use codec::names::{ChannelName, MAX_NAME_LEN, NameError, TopicName};
pub use error::{Error, NotByAll, PublishError, Unpublished, chain};
pub use flow::policy::{BackoffStats, Oversized, Pause, RdyMode};
pub use io::config::ConnectionConfig;
#[cfg(feature = "tls")]
pub use io::tls_config::{TlsConfig, TlsVersion};
pub use io::tls_fault::TlsFault;

// For the program in the same repository, and for the fuzz targets: no part of the API, and without a promise.
#[cfg(feature = "unstable-internals")]
#[doc(hidden)]
pub use {
    client::lookup::response::fuzz_lookup,
    codec::compression::{fuzz_deflate, fuzz_snappy},
    io::http_agent::http_agent,
    io::http_tls::tls_fault,
    io::layers::{Inbound, Outbound, start_compression, start_tls},
    io::pem::{pem_certificates, pem_private_key},
    io::resolve::resolve,
    io::tls::{TlsReader, TlsWriter, both_sides},
};

/// The README's example, compiled.
#[cfg(all(doctest, feature = "http", feature = "test-util"))]
#[doc = include_str!("../README.md")]
struct Readme;
