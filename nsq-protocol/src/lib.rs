//! A blocking client for [NSQ](https://nsq.io): the V2 wire protocol, a producer and a consumer on OS
//! threads, without an async runtime.

mod admin;
mod command;
mod config;
mod connection;
mod consumer;
mod delivery;
mod error;
mod error_code;
mod frame;
mod identify;
mod message;
mod names;
mod producer;
mod queue;
mod rdy;
mod retry;
mod session;
#[doc(hidden)]
pub mod thread;
mod transport;

pub use admin::{
    Admin, AdminError, ChannelStats, ClientStats, NodeInfo, NodeStats, PubCount, StatsFilter,
    TopicStats,
};
pub use command::{
    Bodies, BodiesBuf, Command, CommandDecoder, CommandError, CommandLimits, MAGIC, MAX_LINE,
};
pub use config::{ConnectionConfig, ConsumerConfig, ProducerConfig};
pub use consumer::{
    Batches, ConnectionStats, Consumer, ConsumerStats, RecvTimeoutError, RunningConsumer,
    Unanswered,
};
pub use delivery::{Batch, Delivery};
pub use error::{Error, PublishError, Unpublished};
pub use error_code::ErrorCode;
pub use frame::{CLOSE_WAIT, DecodeError, Frame, FrameDecoder, HARD_MAX_FRAME, HEARTBEAT, OK};
pub use identify::{IdentifyRequest, IdentifyResponse};
pub use message::{MESSAGE_HEAD_LEN, MESSAGE_ID_LEN, MessageId, MessageRef};
pub use names::{ChannelName, MAX_NAME_LEN, NameError, TopicName};
pub use producer::{Producer, ProducerConnectionStats, ProducerStats, Receipt};
