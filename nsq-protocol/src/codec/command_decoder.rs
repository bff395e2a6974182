//! A client's bytes to commands, from any split of the stream: the broker's side (pure).
//!
//! The errors carry the very texts of nsqd 1.3.0, because clients and their tests read them. How a command lies on
//! the wire, [`crate::codec::command`] draws.

use crate::codec::bodies::{Bodies, BodiesWalk};
use crate::codec::command::Command;
use crate::codec::command_error::{CommandError, CommandLimits};
use crate::codec::error_code::ErrorCode;
use crate::codec::message::{MESSAGE_ID_LEN, MessageId};
use crate::codec::names::{ChannelName, TopicName};
use crate::codec::stream_buffer::StreamBuffer;

/// The longest command line in bytes; nsqd's read buffer.
pub const MAX_LINE: usize = 16 << 10;

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
    /// Bytes without which the command being read gets no further.
    wanted: usize,
    /// Where in them the search for the line's end goes on.
    scanned: usize,
    /// How far the messages of an MPUB have been read.
    walk: BodiesWalk,
    limits: CommandLimits,
}

/// The beginning of a command whose body may still be under way: what [`CommandDecoder::head`] tells.
///
/// # Example
/// ```
/// use nsq_protocol::{Command, CommandDecoder, CommandLimits};
///
/// let mut decoder = CommandDecoder::new(4096, CommandLimits::default());
/// decoder.push(b"PUB plays\n\0\0\x03\xe8only its first bytes");
/// assert_eq!(decoder.next_command()?, None);
/// let head = decoder.head().ok_or("its line has come")?;
/// assert_eq!(head.command, Command::Pub("plays".parse()?, b""));
/// assert_eq!(head.body_size, Some(1000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandHead {
    /// The command, its body empty where it has one.
    pub command: Command<'static>,
    /// What its body's size is said to be; `None` while that has not come, and where there is no body.
    pub body_size: Option<i32>,
}

/// The smallest buffer of a [`CommandDecoder`], in bytes.
const MIN_BUFFER: usize = 1 << 10;

impl CommandDecoder {
    /// A decoder with a buffer of `at_rest` bytes (at least 1 KiB) while no larger command is being read.
    pub fn new(at_rest: usize, limits: CommandLimits) -> Self {
        let buffer = StreamBuffer::new(at_rest.max(MIN_BUFFER));
        Self { buffer, wanted: 1, scanned: 0, walk: BodiesWalk::default(), limits }
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
    ///
    /// # Panics
    /// Where the space has fewer: what is read then would be bytes that never came.
    #[track_caller]
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
            Some(kind) => {
                let state = read_body(&pending[behind..], kind, &self.limits, &mut self.walk)?;
                match state {
                    BodyState::Whole(size) => behind + 4..behind + 4 + size,
                    BodyState::Needs(wanted) => {
                        self.scanned = newline;
                        self.wanted = behind + wanted;
                        return Ok(None);
                    }
                }
            }
        };
        (self.wanted, self.scanned) = (1, 0);
        let walk = std::mem::take(&mut self.walk);
        let body = &self.buffer.take(body.end)[body];
        Ok(Some(head.with(body, |body| walk.bodies(body))))
    }

    /// The command at the front of what was not yet taken, as far as its line tells it: a server that refuses it need not keep
    /// its body. `None` while the line is not whole, and where it is no command.
    pub fn head(&self) -> Option<CommandHead> {
        let (head, body) = self.begun()?;
        let size = body.first_chunk().filter(|_| head.body_kind().is_some());
        Some(CommandHead {
            command: head.with(b"", |_| Bodies::NONE),
            body_size: size.map(|size| i32::from_be_bytes(*size)),
        })
    }

    /// The command whose line has come, and all that has come behind it.
    fn begun(&self) -> Option<(Head, &[u8])> {
        let pending = self.buffer.pending();
        let newline = memchr(b'\n', pending).filter(|newline| *newline <= MAX_LINE)?;
        let line = &pending[..newline];
        let head = Head::parse(line.strip_suffix(b"\r").unwrap_or(line)).ok()?;
        Some((head, &pending[newline + 1..]))
    }

    /// The error that nsqd sends when the stream ends, or stalls, inside a command; `None` between commands.
    pub fn cut_short(&self) -> Option<CommandError> {
        let (head, rest) = self.begun()?;
        let kind = head.body_kind()?;
        let body = rest.get(4..);
        if let (Head::Mpub(_), Some(body)) = (&head, body) {
            return Bodies::decode(body, &self.limits).err();
        }
        let missing = if body.is_none() { "size" } else { "" };
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

/// The words of a command line behind its name, in their order.
struct Params<'a> {
    name: &'a [u8],
    rest: Option<&'a [u8]>,
}

impl<'a> Params<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let Some(blank) = memchr(b' ', rest) else { return self.rest.take() };
        self.rest = Some(&rest[blank + 1..]);
        Some(&rest[..blank])
    }

    /// The next word, or nsqd's error, in which `noun` differs from command to command.
    fn one(&mut self, noun: &str) -> Result<&'a [u8], CommandError> {
        self.next().ok_or_else(|| {
            let name = String::from_utf8_lossy(self.name);
            invalid(format!("{name} insufficient number of {noun}"))
        })
    }

    /// The next two words, likewise.
    fn two(&mut self, noun: &str) -> Result<(&'a [u8], &'a [u8]), CommandError> {
        Ok((self.one(noun)?, self.one(noun)?))
    }
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
        let mut params = Params { name: b"", rest: Some(line) };
        params.name = params.next().unwrap_or_default();
        let name = params.name;
        Ok(match name {
            // By far the most frequent ones first.
            b"FIN" => Self::Whole(Command::Fin(message_id(params.one("params")?)?)),
            b"PUB" => Self::Pub(topic("PUB", params.one("parameters")?)?),
            b"MPUB" => {
                let name = params.one("parameters")?;
                // nsqd 1.3.0 doubles the code here, and clients match the whole text.
                Self::Mpub(topic("MPUB", name).map_err(|error| CommandError {
                    text: format!("E_BAD_TOPIC {}", error.text),
                    ..error
                })?)
            }
            b"DPUB" => {
                let (name, delay) = params.two("parameters")?;
                Self::Dpub(topic("DPUB", name)?, number("DPUB", "timeout", delay)?)
            }
            b"RDY" => {
                let count = params.next().map_or(Ok(1), |count| number("RDY", "count", count))?;
                Self::Whole(Command::Rdy(count))
            }
            b"REQ" => {
                let (id, delay) = params.two("params")?;
                Self::Whole(Command::Req(message_id(id)?, number("REQ", "timeout", delay)?))
            }
            b"TOUCH" => Self::Whole(Command::Touch(message_id(params.one("params")?)?)),
            b"NOP" => Self::Whole(Command::Nop),
            b"CLS" => Self::Whole(Command::Cls),
            b"SUB" => {
                let (name, channel_name) = params.two("parameters")?;
                Self::Whole(Command::Sub(topic("SUB", name)?, channel(channel_name)?))
            }
            b"IDENTIFY" => Self::Identify,
            // nsqd takes exactly one word here; the secret is the body.
            b"AUTH" if params.next().is_some() => {
                return Err(invalid("AUTH invalid number of parameters".to_owned()));
            }
            b"AUTH" => Self::Auth,
            other => {
                return Err(invalid(format!("invalid command {}", String::from_utf8_lossy(other))));
            }
        })
    }

    /// The command with that body, where it has one.
    fn with<'a>(self, body: &'a [u8], bodies: impl FnOnce(&'a [u8]) -> Bodies<'a>) -> Command<'a> {
        match self {
            Self::Whole(command) => command,
            Self::Identify => Command::Identify(body),
            Self::Auth => Command::Auth(body),
            Self::Pub(topic) => Command::Pub(topic, body),
            Self::Mpub(topic) => Command::Mpub(topic, bodies(body)),
            Self::Dpub(topic, delay_ms) => Command::Dpub(topic, delay_ms, body),
        }
    }

    fn body_kind(&self) -> Option<&'static BodyKind> {
        const BODY: BodyKind =
            BodyKind { name: "", noun: "body", is_message: false, is_counted: false };
        const MESSAGE: BodyKind = BodyKind { noun: "message body", is_message: true, ..BODY };
        match self {
            Self::Whole(_) => None,
            Self::Identify => Some(&BodyKind { name: "IDENTIFY", ..BODY }),
            Self::Auth => Some(&BodyKind { name: "AUTH", ..BODY }),
            Self::Mpub(_) => Some(&BodyKind { name: "MPUB", is_counted: true, ..BODY }),
            Self::Pub(_) => Some(&BodyKind { name: "PUB", ..MESSAGE }),
            Self::Dpub(..) => Some(&BodyKind { name: "DPUB", ..MESSAGE }),
        }
    }
}

/// What differs between the bodies of commands: nsqd's limits, codes and texts.
struct BodyKind {
    name: &'static str,
    noun: &'static str,
    is_message: bool,
    /// Whether it holds a count and that many messages with their sizes.
    is_counted: bool,
}

impl BodyKind {
    fn code(&self) -> ErrorCode {
        if self.is_message { ErrorCode::BadMessage } else { ErrorCode::BadBody }
    }
}

enum BodyState {
    /// The body is there: its size.
    Whole(usize),
    /// It gets no further without so many bytes, the size field included.
    Needs(usize),
}

fn read_body(
    bytes: &[u8],
    kind: &BodyKind,
    limits: &CommandLimits,
    walk: &mut BodiesWalk,
) -> Result<BodyState, CommandError> {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(BodyState::Needs(4));
    };
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
    if kind.is_counted {
        // Not by its size, which some clients get wrong, and nsqd only compares with its limit.
        return Ok(match walk.go_on(rest, limits)? {
            None => BodyState::Whole(walk.end()),
            Some(wanted) => BodyState::Needs(4 + wanted),
        });
    }
    let whole = BodyState::Needs(4 + size);
    Ok(if rest.len() < size { whole } else { BodyState::Whole(size) })
}

fn topic(command: &str, name: &[u8]) -> Result<TopicName, CommandError> {
    std::str::from_utf8(name).ok().and_then(|name| TopicName::new(name).ok()).ok_or_else(|| {
        let text = format!("{command} topic name {:?} is not valid", String::from_utf8_lossy(name));
        CommandError::new(ErrorCode::BadTopic, text)
    })
}

fn channel(name: &[u8]) -> Result<ChannelName, CommandError> {
    std::str::from_utf8(name).ok().and_then(|name| ChannelName::new(name).ok()).ok_or_else(|| {
        let text = format!("SUB channel name {:?} is not valid", String::from_utf8_lossy(name));
        CommandError::new(ErrorCode::BadChannel, text)
    })
}

fn message_id(bytes: &[u8]) -> Result<MessageId, CommandError> {
    let id = bytes
        .try_into()
        .map_err(|_| CommandError::new(ErrorCode::Invalid, "invalid message ID"))?;
    Ok(MessageId(id))
}

/// nsqd's integers: decimal digits only; none at all is 0. Too large a number is the largest here, where
/// nsqd would wrap. `what` is nsqd's word for it in its error.
fn number(command: &str, what: &str, digits: &[u8]) -> Result<u64, CommandError> {
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    });
    number.ok_or_else(|| {
        let digits = String::from_utf8_lossy(digits);
        invalid(format!("{command} could not parse {what} {digits}"))
    })
}

fn invalid(text: String) -> CommandError {
    CommandError::new(ErrorCode::Invalid, text)
}

fn memchr(needle: u8, haystack: &[u8]) -> Option<usize> {
    haystack.iter().position(|byte| *byte == needle)
}

#[cfg(test)]
mod tests;
