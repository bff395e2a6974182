//! What a client sends: a command and its bytes (pure).
//!
//! ```text
//! NAME[ parameter]*\n                      every command
//! | size, i32 big-endian | body …          behind IDENTIFY, AUTH, PUB, MPUB and DPUB
//! | count | [ size | body … ]*             an MPUB's body
//! ```
//!
//! The other way, from the bytes to the command, is [`crate::codec::command_decoder`].

use std::time::Duration;

use crate::codec::bodies::Bodies;
use crate::codec::message::MessageId;
use crate::codec::names::{ChannelName, TopicName};

/// What a client sends first on every connection: version 2 of the protocol.
pub const MAGIC: &[u8; 4] = b"  V2";

/// One command, its body borrowed.
///
/// # Example
/// ```
/// use nsq_protocol::Command;
///
/// let mut wire = Vec::new();
/// Command::Pub("plays".parse()?, b"x").encode(&mut wire);
/// assert_eq!(wire, b"PUB plays\n\0\0\0\x01x");
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Tells nsqd who the client is, as JSON, and asks for features. Answer: `OK` or JSON.
    Identify(&'a [u8]),
    /// Gives the secret. Answer: JSON.
    Auth(&'a [u8]),
    /// Makes this connection a consumer. Answer: `OK`.
    Sub(TopicName, ChannelName),
    /// Publishes one message. Answer: `OK`.
    Pub(TopicName, &'a [u8]),
    /// Publishes several. Answer: `OK`.
    Mpub(TopicName, Bodies<'a>),
    /// Publishes one message, to be delivered after that many ms. Answer: `OK`.
    Dpub(TopicName, u64, &'a [u8]),
    /// How many messages may be in flight on this connection. No answer.
    Rdy(u64),
    /// The message is done. No answer.
    Fin(MessageId),
    /// Deliver the message again after that many ms. No answer.
    Req(MessageId, u64),
    /// Start the message's timeout again. No answer.
    Touch(MessageId),
    /// Send no more messages. Answer: `CLOSE_WAIT`.
    Cls,
    /// Does nothing; answers a heartbeat. No answer.
    Nop,
}

impl Command<'_> {
    /// The name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Identify(_) => "IDENTIFY",
            Command::Auth(_) => "AUTH",
            Command::Sub(..) => "SUB",
            Command::Pub(..) => "PUB",
            Command::Mpub(..) => "MPUB",
            Command::Dpub(..) => "DPUB",
            Command::Rdy(_) => "RDY",
            Command::Fin(_) => "FIN",
            Command::Req(..) => "REQ",
            Command::Touch(_) => "TOUCH",
            Command::Cls => "CLS",
            Command::Nop => "NOP",
        }
    }

    /// Appends the command as a client sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name().as_bytes());
        let param = |out: &mut Vec<u8>, text: &[u8]| {
            out.push(b' ');
            out.extend_from_slice(text);
        };
        match self {
            Command::Sub(topic, channel) => {
                param(out, topic.as_str().as_bytes());
                param(out, channel.as_str().as_bytes());
            }
            Command::Pub(topic, _) | Command::Mpub(topic, _) => {
                param(out, topic.as_str().as_bytes())
            }
            Command::Dpub(topic, delay_ms, _) => {
                param(out, topic.as_str().as_bytes());
                param(out, delay_ms.to_string().as_bytes());
            }
            Command::Rdy(count) => param(out, count.to_string().as_bytes()),
            Command::Fin(id) | Command::Touch(id) => param(out, &id.0),
            Command::Req(id, delay_ms) => {
                param(out, &id.0);
                param(out, delay_ms.to_string().as_bytes());
            }
            Command::Identify(_) | Command::Auth(_) | Command::Cls | Command::Nop => {}
        }
        out.push(b'\n');
        let size = |len: usize| {
            u32::try_from(len).expect("a body in memory, far below 4 GiB").to_be_bytes()
        };
        match self {
            Command::Identify(body)
            | Command::Auth(body)
            | Command::Pub(_, body)
            | Command::Dpub(_, _, body) => {
                out.extend_from_slice(&size(body.len()));
                out.extend_from_slice(body);
            }
            Command::Mpub(_, bodies) => {
                out.extend_from_slice(&size(bodies.body_size()));
                out.extend_from_slice(&bodies.count().to_be_bytes());
                out.extend_from_slice(bodies.wire());
            }
            _ => {}
        }
    }
}

/// More is past nsqd's clock, which would turn it into none: its nanoseconds since 1970 are an `int64`.
const MAX_DELAY_MS: u64 = 100 * 365 * 24 * 3600 * 1000;

/// A delay as DPUB and REQ have it: whole milliseconds, rounded down; 100 years at most.
pub(crate) fn delay_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).min(MAX_DELAY_MS)
}
