//! What a client sends: commands, both ways, from any split of the byte stream (pure).
//!
//! ```text
//! NAME[ parameter]*\n                      every command
//! | size, i32 big-endian | body …          behind IDENTIFY, AUTH, PUB, MPUB and DPUB
//! | count | [ size | body … ]*             an MPUB's body
//! ```
//!
//! [`CommandDecoder`] is the broker's side. Its errors carry the very texts of nsqd 1.3.0, because clients
//! and their tests read them.

use crate::codec::error_code::ErrorCode;
use crate::codec::message::{MESSAGE_ID_LEN, MessageId};
use crate::codec::names::{ChannelName, TopicName};
use crate::codec::stream_buffer::StreamBuffer;

/// What a client sends first on every connection: version 2 of the protocol.
pub const MAGIC: &[u8; 4] = b"  V2";

/// The longest command line in bytes; nsqd's read buffer.
pub const MAX_LINE: usize = 16 << 10;

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

/// The bodies of an MPUB: as many as announced, none empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bodies<'a> {
    count: u32,
    /// `[ size | body … ]*`, checked when built.
    wire: &'a [u8],
}

impl<'a> Bodies<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none; not so in a decoded MPUB.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bodies in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.ranges().map({
            let wire = self.wire;
            move |range| &wire[range]
        })
    }

    /// Where in [`Bodies::wire`] each body lies, for a receiver that keeps the buffer instead of copies.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<'a> {
        let wire = self.wire;
        let mut at = 0;
        (0..self.count).map(move |_| {
            let size = wire[at..].first_chunk::<4>().expect("checked when built");
            let range = at + 4..at + 4 + u32::from_be_bytes(*size) as usize;
            at = range.end;
            range
        })
    }

    /// The bodies in as many parts as it takes for each to be an MPUB body of at most `max_body_size` bytes, count
    /// and sizes included, with at most `max_count` bodies. One body that is too large is a part of its own.
    pub(crate) fn parts(self, max_body_size: usize, max_count: usize) -> Vec<Bodies<'a>> {
        let mut parts = Vec::new();
        let (mut start, mut count) = (0, 0);
        for body in self.ranges() {
            if count > 0 && (count >= max_count || 4 + body.end - start > max_body_size) {
                let end = body.start - 4;
                parts.push(Bodies { count: count as u32, wire: &self.wire[start..end] });
                (start, count) = (end, 0);
            }
            count += 1;
        }
        parts.push(Bodies { count: count as u32, wire: &self.wire[start..] });
        parts
    }

    /// The sizes and bodies as they go over the wire, without the count in front.
    pub fn wire(&self) -> &'a [u8] {
        self.wire
    }

    /// Reads an MPUB's body. Unlike nsqd, which lets the inner lengths drive the reading, the body must hold
    /// exactly what its count and sizes say.
    ///
    /// # Errors
    /// [`CommandError`] with nsqd's text.
    pub fn decode(body: &'a [u8], limits: &CommandLimits) -> Result<Self, CommandError> {
        let bad_body = |text: String| CommandError::new(ErrorCode::BadBody, text);
        let bad_message = |text: String| CommandError::new(ErrorCode::BadMessage, text);
        let Some((count, wire)) = body.split_first_chunk::<4>() else {
            return Err(bad_body("MPUB failed to read message count".into()));
        };
        let count = i32::from_be_bytes(*count);
        // Four bytes of size and one of body, at least.
        if count <= 0 || count as usize > (limits.max_body_size.max(4) - 4) / 5 {
            return Err(bad_body(format!("MPUB invalid message count {count}")));
        }
        let mut rest = wire;
        for index in 0..count {
            let Some((size, behind)) = rest.split_first_chunk::<4>() else {
                return Err(bad_message(format!("MPUB failed to read message({index}) body size")));
            };
            let size = i32::from_be_bytes(*size);
            if size <= 0 {
                return Err(bad_message(format!("MPUB invalid message({index}) body size {size}")));
            }
            if size as usize > limits.max_msg_size {
                return Err(bad_message(format!(
                    "MPUB message too big {size} > {}",
                    limits.max_msg_size
                )));
            }
            rest = behind
                .get(size as usize..)
                .ok_or_else(|| bad_message("MPUB failed to read message body".into()))?;
        }
        if !rest.is_empty() {
            return Err(bad_body(format!(
                "MPUB body is {} bytes longer than its messages",
                rest.len()
            )));
        }
        Ok(Self { count: count as u32, wire })
    }
}

/// Message bodies written one behind the other, as an MPUB wants them.
///
/// One buffer, no allocation for each body; [`BodiesBuf::clear`] keeps it for the next batch.
///
/// # Example
/// ```
/// let mut bodies = nsq_protocol::BodiesBuf::new();
/// bodies.push(b"one");
/// bodies.push_with(|out| out.extend_from_slice(b"two"));
/// assert_eq!(bodies.len(), 2);
/// assert_eq!(bodies.as_bodies().iter().collect::<Vec<_>>(), [b"one", b"two"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct BodiesBuf {
    count: u32,
    wire: Vec<u8>,
}

impl BodiesBuf {
    /// No body yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a copy of `body`. An empty body is left out: nsqd refuses it, and with it the whole MPUB.
    pub fn push(&mut self, body: &[u8]) {
        self.push_with(|out| out.extend_from_slice(body));
    }

    /// Appends what `write` appends to the buffer that it is given. Nothing appended is no body.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.wire.len();
        self.wire.extend_from_slice(&[0; 4]);
        write(&mut self.wire);
        let size = self.wire.len().saturating_sub(start + 4);
        if size == 0 {
            self.wire.truncate(start);
            return;
        }
        let size = u32::try_from(size).expect("a body in memory, far below 4 GiB");
        self.wire[start..start + 4].copy_from_slice(&size.to_be_bytes());
        self.count += 1;
    }

    /// The bodies, to put into a [`Command::Mpub`].
    pub fn as_bodies(&self) -> Bodies<'_> {
        Bodies { count: self.count, wire: &self.wire }
    }

    /// How many bodies.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the MPUB's body so far, sizes and count included: nsqd allows 5 MiB by default.
    pub fn body_size(&self) -> usize {
        4 + self.wire.len()
    }

    /// Forgets the bodies and keeps the buffer.
    pub fn clear(&mut self) {
        self.count = 0;
        self.wire.clear();
    }
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
                out.extend_from_slice(&size(4 + bodies.wire.len()));
                out.extend_from_slice(&bodies.count.to_be_bytes());
                out.extend_from_slice(bodies.wire);
            }
            _ => {}
        }
    }
}

/// How large a client's commands may be. The defaults are nsqd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// `--max-msg-size`, bytes of one message body (default 1 MiB).
    pub max_msg_size: usize,
    /// `--max-body-size`, bytes of the body of IDENTIFY, AUTH or MPUB (default 5 MiB).
    pub max_body_size: usize,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self { max_msg_size: 1 << 20, max_body_size: 5 << 20 }
    }
}

/// Why a client's bytes are no command. All of them are fatal: answer with the error frame and close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {text}")]
pub struct CommandError {
    /// The code of the error frame.
    pub code: ErrorCode,
    /// The text behind it, nsqd's own where nsqd has one.
    pub text: String,
}

impl CommandError {
    /// An error with that code and text.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Turns a client's byte stream, behind the magic, into commands.
///
/// At rest it costs what [`CommandDecoder::new`] is told; a larger body grows it, for that command only.
///
/// # Example
/// ```
/// use nsq_protocol::{Command, CommandDecoder, CommandLimits};
///
/// let mut decoder = CommandDecoder::new(4096, CommandLimits::default());
/// decoder.push(b"RDY 10\nNO");
/// assert_eq!(decoder.next_command()?, Some(Command::Rdy(10)));
/// assert_eq!(decoder.next_command()?, None); // more bytes, please
/// decoder.push(b"P\n");
/// assert_eq!(decoder.next_command()?, Some(Command::Nop));
/// # Ok::<(), nsq_protocol::CommandError>(())
/// ```
#[derive(Debug)]
pub struct CommandDecoder {
    buffer: StreamBuffer,
    /// Bytes that the command being read needs, as far as known.
    wanted: usize,
    /// Where in them the search for the line's end goes on.
    scanned: usize,
    limits: CommandLimits,
}

/// The smallest buffer of a [`CommandDecoder`], in bytes.
const MIN_BUFFER: usize = 4 << 10;

impl CommandDecoder {
    /// A decoder with a buffer of `at_rest` bytes (at least 4 KiB) while no larger command is being read.
    pub fn new(at_rest: usize, limits: CommandLimits) -> Self {
        Self { buffer: StreamBuffer::new(at_rest.max(MIN_BUFFER)), wanted: 1, scanned: 0, limits }
    }

    /// Changes the size of the buffer at rest: a connection that proves busy deserves a larger one.
    pub fn set_at_rest(&mut self, bytes: usize) {
        self.buffer.set_at_rest(bytes.max(MIN_BUFFER));
    }

    /// Where the next bytes of the stream belong: never empty. Tell [`CommandDecoder::advance`] how many came.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.space(self.wanted)
    }

    /// Says that `count` bytes were written to the front of [`CommandDecoder::space`].
    pub fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Adds bytes as the socket produced them; any split is fine.
    pub fn push(&mut self, bytes: &[u8]) {
        let wanted = self.wanted;
        self.buffer.push(bytes, |_| wanted);
    }

    /// Bytes read but not yet decoded.
    pub fn pending(&self) -> usize {
        self.buffer.pending().len()
    }

    /// Takes the next whole command. `Ok(None)` means "feed me more".
    ///
    /// # Errors
    /// [`CommandError`] when the bytes are no command: send it and drop the connection.
    pub fn next_command(&mut self) -> Result<Option<Command<'_>>, CommandError> {
        if self.pending() < self.wanted {
            return Ok(None);
        }
        if let Some(id) = self.buffer.pending().first_chunk().and_then(plain_fin) {
            (self.wanted, self.scanned) = (1, 0);
            self.buffer.take(FIN_LINE);
            return Ok(Some(Command::Fin(id)));
        }
        let pending = self.buffer.pending();
        let newline = memchr(b'\n', &pending[self.scanned..]).map(|at| at + self.scanned);
        // Also when its end came in the same read: how the stream is cut decides nothing.
        if newline.unwrap_or(pending.len()) > MAX_LINE {
            let text = format!("command line is over {MAX_LINE} bytes");
            return Err(CommandError::new(ErrorCode::Invalid, text));
        }
        let Some(newline) = newline else {
            self.scanned = pending.len();
            self.wanted = pending.len() + 1;
            return Ok(None);
        };
        let line = &pending[..newline];
        let head = Head::parse(line.strip_suffix(b"\r").unwrap_or(line))?;
        let behind = newline + 1;
        let body = match head.body_kind() {
            None => behind..behind,
            Some(kind) => match read_body(&pending[behind..], kind, &self.limits)? {
                BodyState::Whole(size) => behind + 4..behind + 4 + size,
                BodyState::Needs(bytes) => {
                    self.scanned = newline;
                    self.wanted = behind + bytes;
                    return Ok(None);
                }
            },
        };
        (self.wanted, self.scanned) = (1, 0);
        let body = &self.buffer.take(body.end)[body];
        Ok(Some(match head {
            Head::Whole(command) => command,
            Head::Identify => Command::Identify(body),
            Head::Auth => Command::Auth(body),
            Head::Pub(topic) => Command::Pub(topic, body),
            Head::Mpub(topic) => Command::Mpub(topic, Bodies::decode(body, &self.limits)?),
            Head::Dpub(topic, delay_ms) => Command::Dpub(topic, delay_ms, body),
        }))
    }

    /// The error that nsqd sends when the stream ends, or stalls, inside a command; `None` between commands.
    pub fn cut_short(&self) -> Option<CommandError> {
        let pending = self.buffer.pending();
        let newline = memchr(b'\n', pending)?;
        let line = &pending[..newline];
        let head = Head::parse(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
        let kind = head.body_kind()?;
        let missing = if pending.len() < newline + 5 { "size" } else { "" };
        Some(CommandError::new(
            kind.code(),
            format!("{} failed to read {} {missing}", kind.name, kind.noun).trim_end(),
        ))
    }
}

/// Bytes of a FIN as every client writes it.
const FIN_LINE: usize = 4 + MESSAGE_ID_LEN + 1;

/// The message of such a FIN. A busy consumer sends little else, and it needs no parsing.
fn plain_fin(line: &[u8; FIN_LINE]) -> Option<MessageId> {
    let id = line.strip_prefix(b"FIN ")?.strip_suffix(b"\n")?;
    // Without blanks and ends of lines, which would mean something.
    id.iter().all(u8::is_ascii_alphanumeric).then(|| id.try_into().ok().map(MessageId))?
}

/// A parsed command line.
enum Head {
    Whole(Command<'static>),
    Identify,
    Auth,
    Pub(TopicName),
    Mpub(TopicName),
    Dpub(TopicName, u64),
}

impl Head {
    fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let invalid = |text: String| CommandError::new(ErrorCode::Invalid, text);
        let mut words = line.split(|byte| *byte == b' ');
        let name = words.next().unwrap_or_default();
        let mut params = || words.next();
        let too_few = |noun: &str| {
            invalid(format!("{} insufficient number of {noun}", String::from_utf8_lossy(name)))
        };
        Ok(match name {
            // By far the most frequent ones first.
            b"FIN" => {
                Self::Whole(Command::Fin(message_id(params().ok_or_else(|| too_few("params"))?)?))
            }
            b"PUB" => Self::Pub(topic("PUB", params().ok_or_else(|| too_few("parameters"))?)?),
            b"MPUB" => {
                let name = params().ok_or_else(|| too_few("parameters"))?;
                // nsqd 1.3.0 doubles the code here, and clients match the whole text.
                Self::Mpub(topic("MPUB", name).map_err(|error| CommandError {
                    text: format!("E_BAD_TOPIC {}", error.text),
                    ..error
                })?)
            }
            b"DPUB" => {
                let (Some(name), Some(delay)) = (params(), params()) else {
                    return Err(too_few("parameters"));
                };
                let name = topic("DPUB", name)?;
                let delay = number(delay).ok_or_else(|| {
                    invalid(format!(
                        "DPUB could not parse timeout {}",
                        String::from_utf8_lossy(delay)
                    ))
                })?;
                Self::Dpub(name, delay)
            }
            b"RDY" => match params() {
                None => Self::Whole(Command::Rdy(1)),
                Some(count) => Self::Whole(Command::Rdy(number(count).ok_or_else(|| {
                    invalid(format!("RDY could not parse count {}", String::from_utf8_lossy(count)))
                })?)),
            },
            b"REQ" => {
                let (Some(id), Some(delay)) = (params(), params()) else {
                    return Err(too_few("params"));
                };
                let id = message_id(id)?;
                let delay = number(delay).ok_or_else(|| {
                    invalid(format!(
                        "REQ could not parse timeout {}",
                        String::from_utf8_lossy(delay)
                    ))
                })?;
                Self::Whole(Command::Req(id, delay))
            }
            b"TOUCH" => {
                Self::Whole(Command::Touch(message_id(params().ok_or_else(|| too_few("params"))?)?))
            }
            b"NOP" => Self::Whole(Command::Nop),
            b"CLS" => Self::Whole(Command::Cls),
            b"SUB" => {
                let (Some(topic_name), Some(channel)) = (params(), params()) else {
                    return Err(too_few("parameters"));
                };
                let topic_name = topic("SUB", topic_name)?;
                let channel =
                    std::str::from_utf8(channel).ok().and_then(|name| ChannelName::new(name).ok());
                let channel = channel.ok_or_else(|| {
                    let text = format!("SUB channel name {} is not valid", quoted(line, 2));
                    CommandError::new(ErrorCode::BadChannel, text)
                })?;
                Self::Whole(Command::Sub(topic_name, channel))
            }
            b"IDENTIFY" => Self::Identify,
            b"AUTH" => {
                // nsqd takes exactly one word here; the secret is the body.
                if params().is_some() {
                    return Err(invalid("AUTH invalid number of parameters".into()));
                }
                Self::Auth
            }
            other => {
                return Err(invalid(format!("invalid command {}", String::from_utf8_lossy(other))));
            }
        })
    }

    fn body_kind(&self) -> Option<&'static BodyKind> {
        match self {
            Self::Whole(_) => None,
            Self::Identify => Some(&BodyKind { name: "IDENTIFY", noun: "body", is_message: false }),
            Self::Auth => Some(&BodyKind { name: "AUTH", noun: "body", is_message: false }),
            Self::Mpub(_) => Some(&BodyKind { name: "MPUB", noun: "body", is_message: false }),
            Self::Pub(_) => Some(&BodyKind { name: "PUB", noun: "message body", is_message: true }),
            Self::Dpub(..) => {
                Some(&BodyKind { name: "DPUB", noun: "message body", is_message: true })
            }
        }
    }
}

/// What differs between the bodies of commands: nsqd's limits, codes and texts.
struct BodyKind {
    name: &'static str,
    noun: &'static str,
    is_message: bool,
}

impl BodyKind {
    fn code(&self) -> ErrorCode {
        if self.is_message { ErrorCode::BadMessage } else { ErrorCode::BadBody }
    }
}

enum BodyState {
    /// The body is there: its size.
    Whole(usize),
    /// Bytes needed in all, the size field included.
    Needs(usize),
}

fn read_body(
    bytes: &[u8],
    kind: &BodyKind,
    limits: &CommandLimits,
) -> Result<BodyState, CommandError> {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Ok(BodyState::Needs(4)) };
    let size = i32::from_be_bytes(*size);
    let (max, too_big) = if kind.is_message {
        (limits.max_msg_size, "message too big")
    } else {
        (limits.max_body_size, "body too big")
    };
    if size > 0 && size as usize > max {
        return Err(CommandError::new(
            kind.code(),
            format!("{} {too_big} {size} > {max}", kind.name),
        ));
    }
    if size <= 0 {
        return Err(CommandError::new(
            kind.code(),
            format!("{} invalid {} size {size}", kind.name, kind.noun),
        ));
    }
    let size = size as usize;
    Ok(if rest.len() < size { BodyState::Needs(4 + size) } else { BodyState::Whole(size) })
}

fn topic(command: &str, name: &[u8]) -> Result<TopicName, CommandError> {
    std::str::from_utf8(name).ok().and_then(|name| TopicName::new(name).ok()).ok_or_else(|| {
        let text = format!("{command} topic name {:?} is not valid", String::from_utf8_lossy(name));
        CommandError::new(ErrorCode::BadTopic, text)
    })
}

fn quoted(line: &[u8], word: usize) -> String {
    let word = line.split(|byte| *byte == b' ').nth(word).unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(word))
}

fn message_id(bytes: &[u8]) -> Result<MessageId, CommandError> {
    let id = bytes
        .try_into()
        .map_err(|_| CommandError::new(ErrorCode::Invalid, "invalid message ID"))?;
    Ok(MessageId(id))
}

/// nsqd's integers: decimal digits only; none at all is 0. Too large a number is the largest here, where
/// nsqd would wrap.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

fn memchr(needle: u8, haystack: &[u8]) -> Option<usize> {
    haystack.iter().position(|byte| *byte == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: CommandLimits = CommandLimits { max_msg_size: 8, max_body_size: 64 };

    /// Decodes `wire` whole, then cut at every byte; a command must also encode to the same bytes again.
    #[track_caller]
    fn check(wire: &[u8], want: Result<Command<'_>, &str>) {
        for cut in 0..=wire.len() {
            let mut decoder = CommandDecoder::new(0, SMALL);
            let mut got = None;
            for part in [&wire[..cut], &wire[cut..]] {
                decoder.push(part);
                if let Some(result) = decoder.next_command().transpose() {
                    got = Some(match result {
                        Ok(command) => {
                            assert_eq!(Ok(command), want, "cut at byte {cut}");
                            Ok(())
                        }
                        Err(error) => Err(error.to_string()),
                    });
                    break;
                }
            }
            let want = want.as_ref().map(|_| ()).map_err(|text| text.to_string());
            assert_eq!(got, Some(want), "cut at byte {cut}");
        }
    }

    fn topic_name() -> TopicName {
        TopicName::new("t").unwrap()
    }

    #[test]
    fn commands() {
        let id = MessageId(*b"0123456789abcdef");
        check(b"NOP\n", Ok(Command::Nop));
        check(b"NOP\r\n", Ok(Command::Nop));
        check(b"CLS\n", Ok(Command::Cls));
        check(b"RDY\n", Ok(Command::Rdy(1)));
        check(b"RDY 0\n", Ok(Command::Rdy(0)));
        check(b"RDY 2500\n", Ok(Command::Rdy(2500)));
        check(b"FIN 0123456789abcdef\n", Ok(Command::Fin(id)));
        check(b"TOUCH 0123456789abcdef extra\n", Ok(Command::Touch(id)));
        check(b"REQ 0123456789abcdef 90\n", Ok(Command::Req(id, 90)));
        check(b"SUB t c x\n", Ok(Command::Sub(topic_name(), ChannelName::new("c").unwrap())));
        check(b"IDENTIFY\n\0\0\0\x02{}", Ok(Command::Identify(b"{}")));
        check(b"AUTH\n\0\0\0\x02hi", Ok(Command::Auth(b"hi")));
        check(b"PUB t\n\0\0\0\x02a\n", Ok(Command::Pub(topic_name(), b"a\n")));
        check(b"DPUB t 15\n\0\0\0\x01a", Ok(Command::Dpub(topic_name(), 15, b"a")));
        let mut bodies = BodiesBuf::new();
        bodies.push(b"ab");
        bodies.push(b"");
        bodies.push(b"c");
        assert_eq!((bodies.len(), bodies.body_size()), (2, 15));
        check(
            b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x02ab\0\0\0\x01c",
            Ok(Command::Mpub(topic_name(), bodies.as_bodies())),
        );
        assert_eq!(bodies.as_bodies().iter().collect::<Vec<_>>(), [&b"ab"[..], b"c"]);
    }

    #[test]
    fn errors_have_nsqds_texts() {
        check(b"\n", Err("E_INVALID invalid command "));
        check(b"nop\n", Err("E_INVALID invalid command nop"));
        check(b"GET / HTTP/1.1\r\n", Err("E_INVALID invalid command GET"));
        check(b"RDY -1\n", Err("E_INVALID RDY could not parse count -1"));
        check(b"FIN\n", Err("E_INVALID FIN insufficient number of params"));
        check(b"FIN 123\n", Err("E_INVALID invalid message ID"));
        check(b"REQ 0123456789abcdef\n", Err("E_INVALID REQ insufficient number of params"));
        check(b"REQ 0123456789abcdef x\n", Err("E_INVALID REQ could not parse timeout x"));
        check(b"SUB t\n", Err("E_INVALID SUB insufficient number of parameters"));
        check(b"SUB t! c\n", Err("E_BAD_TOPIC SUB topic name \"t!\" is not valid"));
        check(b"SUB t c!\n", Err("E_BAD_CHANNEL SUB channel name \"c!\" is not valid"));
        check(b"PUB\n", Err("E_INVALID PUB insufficient number of parameters"));
        check(b"PUB t!\n", Err("E_BAD_TOPIC PUB topic name \"t!\" is not valid"));
        check(b"MPUB t!\n", Err("E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \"t!\" is not valid"));
        check(b"PUB t\n\0\0\0\0", Err("E_BAD_MESSAGE PUB invalid message body size 0"));
        check(b"PUB t\n\xff\xff\xff\xff", Err("E_BAD_MESSAGE PUB invalid message body size -1"));
        check(b"PUB t\n\0\0\0\x09", Err("E_BAD_MESSAGE PUB message too big 9 > 8"));
        check(b"DPUB t x\n", Err("E_INVALID DPUB could not parse timeout x"));
        check(b"IDENTIFY\n\0\0\0\x41", Err("E_BAD_BODY IDENTIFY body too big 65 > 64"));
        check(b"IDENTIFY\n\0\0\0\0", Err("E_BAD_BODY IDENTIFY invalid body size 0"));
        check(b"AUTH x\n", Err("E_INVALID AUTH invalid number of parameters"));
        check(b"MPUB t\n\0\0\0\x02ab", Err("E_BAD_BODY MPUB failed to read message count"));
        check(b"MPUB t\n\0\0\0\x04\0\0\0\0", Err("E_BAD_BODY MPUB invalid message count 0"));
        check(b"MPUB t\n\0\0\0\x04\0\0\0\x0d", Err("E_BAD_BODY MPUB invalid message count 13"));
        check(
            b"MPUB t\n\0\0\0\x04\0\0\0\x01",
            Err("E_BAD_MESSAGE MPUB failed to read message(0) body size"),
        );
        check(
            b"MPUB t\n\0\0\0\x08\0\0\0\x01\0\0\0\0",
            Err("E_BAD_MESSAGE MPUB invalid message(0) body size 0"),
        );
        check(
            b"MPUB t\n\0\0\0\x08\0\0\0\x01\0\0\0\x09",
            Err("E_BAD_MESSAGE MPUB message too big 9 > 8"),
        );
        check(
            b"MPUB t\n\0\0\0\x09\0\0\0\x01\0\0\0\x02a",
            Err("E_BAD_MESSAGE MPUB failed to read message body"),
        );
        check(
            b"MPUB t\n\0\0\0\x0a\0\0\0\x01\0\0\0\x01ab",
            Err("E_BAD_BODY MPUB body is 1 bytes longer than its messages"),
        );
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut decoder = CommandDecoder::new(0, SMALL);
        decoder.push(&[b'x'; MAX_LINE]);
        assert_eq!(decoder.next_command(), Ok(None));
        decoder.push(b"y");
        assert_eq!(decoder.next_command().unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn a_stream_that_ends_inside_a_command_says_where() {
        for (wire, want) in [
            (&b"PUB t\n\0\0\0\x02a"[..], Some("E_BAD_MESSAGE PUB failed to read message body")),
            (b"PUB t\n\0\0", Some("E_BAD_MESSAGE PUB failed to read message body size")),
            (b"IDENTIFY\n\0\0", Some("E_BAD_BODY IDENTIFY failed to read body size")),
            (b"PU", None),
            (b"", None),
        ] {
            let mut decoder = CommandDecoder::new(0, SMALL);
            decoder.push(wire);
            assert_eq!(decoder.next_command(), Ok(None));
            assert_eq!(decoder.cut_short().map(|error| error.to_string()).as_deref(), want);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_gives_the_same_commands(
            publishes in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..40), 1..8),
            cuts in proptest::collection::vec(1usize..9000, 1..20),
        ) {
            let mut wire = Vec::new();
            let bufs: Vec<BodiesBuf> = publishes.iter().map(|bodies| {
                let mut buf = BodiesBuf::new();
                bodies.iter().for_each(|body| buf.push(body));
                buf
            }).collect();
            for buf in &bufs {
                Command::Mpub(topic_name(), buf.as_bodies()).encode(&mut wire);
                Command::Nop.encode(&mut wire);
            }
            let mut decoder = CommandDecoder::new(0, CommandLimits::default());
            let mut want = bufs.iter().flat_map(|buf| [Command::Mpub(topic_name(), buf.as_bodies()), Command::Nop]);
            let (mut rest, mut cuts) = (&wire[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = (*cuts.next().expect("cycles")).min(rest.len());
                decoder.push(&rest[..cut]);
                rest = &rest[cut..];
                while let Some(command) = decoder.next_command().expect("well formed") {
                    prop_assert_eq!(Some(command), want.next());
                }
            }
            prop_assert!(want.next().is_none());
            prop_assert_eq!(decoder.pending(), 0);
        }

        #[test]
        fn garbage_never_panics_nor_grows_past_the_limit(
            name in prop_oneof!["(IDENTIFY|AUTH|PUB t|MPUB t|DPUB t 1|FIN 0123456789abcdef|RDY [0-9x]{0,30})\n", "[A-Z ]{0,12}\n?"],
            wire in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            let mut decoder = CommandDecoder::new(0, SMALL);
            decoder.push(name.as_bytes());
            for part in wire.chunks(11) {
                decoder.push(part);
                loop {
                    match decoder.next_command() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(decoder.buffer.capacity() <= MAX_LINE + 3 * MIN_BUFFER);
            }
        }
    }
}
