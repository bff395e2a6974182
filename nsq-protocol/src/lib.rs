//! A blocking client for [NSQ](https://nsq.io): the V2 wire protocol, a producer and a consumer on OS
//! threads, without an async runtime.

mod command;
mod error_code;
mod frame;
mod identify;
mod message;
mod names;
#[doc(hidden)]
pub mod thread;

pub use command::{
    Bodies, BodiesBuf, Command, CommandDecoder, CommandError, CommandLimits, MAGIC, MAX_LINE,
};
pub use error_code::ErrorCode;
pub use frame::{CLOSE_WAIT, DecodeError, Frame, FrameDecoder, HARD_MAX_FRAME, HEARTBEAT, OK};
pub use identify::{IdentifyRequest, IdentifyResponse};
pub use message::{MESSAGE_HEAD_LEN, MESSAGE_ID_LEN, MessageId, MessageRef};
pub use names::{ChannelName, MAX_NAME_LEN, NameError, TopicName};
