//! What can go wrong between this process and one nsqd. No IO here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::command_error::CommandError;
use crate::codec::compression::decompress_error::DecompressError;
use crate::codec::error_code::ErrorCode;
use crate::codec::frame::DecodeError;
use crate::codec::names::NameError;
use crate::thread;

/// What can go wrong between this process and one nsqd.
///
/// `Display` prints its own layer only; the rest is in `source()`. Cheap to clone, because several waiting
/// callers can learn of the same lost connection.
///
/// # Example
/// ```
/// use nsq_protocol::{Consumer, ConsumerConfig, Error};
///
/// // Nothing listens on port 1.
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).nsqd("127.0.0.1:1");
/// match Consumer::start(config) {
///     Err(error @ Error::Connect { .. }) => assert!(error.is_temporary(), "it may be there later"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range, or contradicts another.
    #[error("{what}")]
    Config {
        /// Which setting, its value, and the range.
        what: String,
    },
    /// The address has no port, or its name has no IP address.
    #[error("cannot resolve {addr:?}: wanted is host:port, such as 127.0.0.1:4150")]
    Resolve {
        /// As configured.
        addr: String,
        /// The resolver's answer.
        source: Arc<io::Error>,
    },
    /// No IP address of that name took the connection in time.
    #[error("cannot connect to {addr}{}", connect_hint(source))]
    Connect {
        /// As configured.
        addr: String,
        /// Of the last IP address tried.
        source: Arc<io::Error>,
    },
    /// An nsqlookupd did not tell where the nsqds are.
    #[error("cannot ask nsqlookupd {lookupd}")]
    Lookup {
        /// As configured.
        lookupd: String,
        /// Why: it cannot be reached, is too slow, or its answer is none.
        source: Arc<io::Error>,
    },
    /// An nsqd that an nsqlookupd named cannot be reached.
    ///
    /// nsqd tells nsqlookupd where it is by its `--broadcast-address`, its host's name by default, which need not
    /// mean anything here: see [`crate::LookupConfig::broadcast_map`].
    #[error("nsqlookupd {lookupd} names an nsqd that does not work")]
    Discovered {
        /// As configured.
        lookupd: String,
        /// Names the nsqd's address.
        source: Box<Error>,
    },
    /// The socket failed.
    #[error("{doing} {addr} broke off")]
    Io {
        /// As configured.
        addr: String,
        /// What was under way: "reading from", "writing to".
        doing: &'static str,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The peer did not do its part in time: no answer, no heartbeat, or no room for our bytes.
    #[error("{doing} {addr} took longer than {limit:?}")]
    Timeout {
        /// As configured.
        addr: String,
        /// What was under way: "waiting for IDENTIFY's answer from".
        doing: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// The peer closed the connection.
    #[error("{addr} closed the connection")]
    Closed {
        /// As configured.
        addr: String,
    },
    /// nsqd answered a command with an error frame, such as `E_BAD_TOPIC`.
    #[error("{addr} refused {command}: {code} {detail}")]
    Refused {
        /// As configured.
        addr: String,
        /// The command's name on the wire; "a command" when the answer belongs to none in particular.
        command: &'static str,
        /// The first word of the error frame.
        code: ErrorCode,
        /// The text behind it, perhaps empty.
        detail: String,
    },
    /// The peer's bytes are not frames of the V2 protocol.
    #[error("cannot make sense of what {addr} sends")]
    Decode {
        /// As configured.
        addr: String,
        /// Why.
        source: DecodeError,
    },
    /// The frames are well formed but not what the protocol allows here.
    #[error("{addr} breaks the protocol: {what}")]
    Protocol {
        /// As configured.
        addr: String,
        /// What came, and what was allowed.
        what: String,
    },
    /// TLS failed: the handshake, a certificate, or a record behind it.
    #[error("TLS with {addr} failed{hint}")]
    Tls {
        /// As configured.
        addr: String,
        /// What to do about it, where that is known.
        hint: &'static str,
        /// What is wrong, in the TLS library's words.
        source: Arc<io::Error>,
    },
    /// TLS is configured and this nsqd offers none. Nothing but IDENTIFY was sent, and nothing will be.
    #[error(
        "{addr} offers no TLS, without which this client is told not to go on: start nsqd with --tls-cert \
         and --tls-key"
    )]
    TlsDeclined {
        /// As configured.
        addr: String,
    },
    /// nsqd wants AUTH and no secret is configured.
    #[error("{addr} wants AUTH: configure an auth_secret")]
    AuthRequired {
        /// As configured.
        addr: String,
    },
    /// The peer's bytes are not of the compression that was agreed.
    #[error("cannot decompress what {addr} sends")]
    Decompress {
        /// As configured.
        addr: String,
        /// Why.
        source: DecompressError,
    },
    /// The client was stopped while it worked on this.
    #[error("the client was stopped")]
    Stopped,
    /// A text is no topic or channel name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A publish did not succeed.
    #[error(transparent)]
    Publish(Box<PublishError>),
    /// Not every nsqd took a publish to all.
    #[error(transparent)]
    NotByAll(Box<NotByAll>),
    /// A call of nsqd's HTTP API did not work; the source is an `AdminError`.
    #[error("nsqd's HTTP API does not do it")]
    Admin {
        /// Why.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// No batch came in time.
    #[error("no batch came in time")]
    NoBatch,
    /// Bytes are not frames, or not a command: of the codec, without a connection.
    #[error("bytes that make no sense")]
    Codec {
        /// Why: a [`crate::DecodeError`], [`crate::CommandError`] or [`crate::DecompressError`].
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system refused another thread.
    #[error("cannot start the thread {name}")]
    Thread {
        /// The thread's name.
        name: String,
        /// Its error.
        source: Arc<io::Error>,
    },
}

fn connect_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            ": is nsqd running there? its TCP port is 4150 by default"
        }
        _ => "",
    }
}

impl Error {
    /// What the system's refusal of the thread `name` becomes.
    pub(crate) fn thread(name: &str) -> impl FnOnce(io::Error) -> Self {
        move |refusal| {
            let source = Arc::new(thread::system_error(refusal));
            Error::Thread { name: name.to_owned(), source }
        }
    }

    /// How much the error tells a user who gave several addresses: the most telling one is returned.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Error::Config { .. } | Error::Thread { .. } => 4,
            Error::Refused { .. } | Error::AuthRequired { .. } => 3,
            Error::Tls { .. } | Error::TlsDeclined { .. } => 3,
            Error::Decompress { .. } => 2,
            Error::Decode { .. } | Error::Protocol { .. } => 2,
            Error::Stopped => 0,
            Error::Discovered { source, .. } => source.weight(),
            _ => 1,
        }
    }

    /// Whether trying again later may work without anybody changing a setting: the peer is away, slow, or not yet known by
    /// its name. What is refused, or makes no sense, is not: a wrong secret, a certificate, a port that speaks HTTP.
    pub fn is_temporary(&self) -> bool {
        match self {
            // A name may get its address later; what is no host:port stays none.
            Error::Resolve { source, .. } => source.kind() != io::ErrorKind::InvalidInput,
            Error::Connect { .. } | Error::Lookup { .. } => true,
            Error::Io { .. } | Error::Timeout { .. } | Error::Closed { .. } => true,
            Error::Discovered { source, .. } => source.is_temporary(),
            Error::Publish(error) => error.is_temporary(),
            Error::NotByAll(error) => error.failures.iter().all(|(_, error)| error.is_temporary()),
            Error::NoBatch => true,
            Error::Name(_) | Error::Admin { .. } | Error::Codec { .. } => false,
            // The channel has its maximum of consumers, or is going away.
            Error::Refused { code, .. } => *code == ErrorCode::SubFailed,
            Error::Config { .. } | Error::Thread { .. } | Error::Stopped => false,
            Error::Tls { .. } | Error::TlsDeclined { .. } | Error::AuthRequired { .. } => false,
            Error::Decode { .. } | Error::Protocol { .. } | Error::Decompress { .. } => false,
        }
    }

    /// Adds where the address comes from to an error about the address.
    pub(crate) fn found_through(self, lookupd: &str) -> Self {
        match self {
            Error::Resolve { .. } | Error::Connect { .. } => {
                Error::Discovered { lookupd: lookupd.to_owned(), source: Box::new(self) }
            }
            other => other,
        }
    }

    /// The error and its sources in one line, for logs and statistics.
    pub(crate) fn to_line(&self) -> String {
        chain(self)
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        Error::Publish(Box::new(error))
    }
}

impl From<NotByAll> for Error {
    fn from(error: NotByAll) -> Self {
        Error::NotByAll(Box::new(error))
    }
}

/// Without the bodies, which [`Unpublished`] gives back.
impl<B: std::fmt::Debug> From<Unpublished<B>> for Error {
    fn from(error: Unpublished<B>) -> Self {
        Error::Publish(error.error)
    }
}

macro_rules! from_codec {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Error::Codec { source: Arc::new(error) }
            }
        }
    )*};
}
from_codec!(DecodeError, CommandError, DecompressError);

/// An error and its sources in one line, as a log wants them: `to_string()` tells of an error's own layer alone.
///
/// # Example
/// ```
/// use nsq_protocol::{Admin, Error, chain};
///
/// fn ask() -> Result<(), Error> {
///     // Nothing listens on port 1.
///     Ok(Admin::new("127.0.0.1:1").ping()?)
/// }
/// let line = chain(&ask().unwrap_err());
/// assert!(line.contains("cannot reach http://127.0.0.1:1/ping: ") && line.contains("refused"), "{line}");
/// ```
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}

/// Why a publish did not succeed, and what that says about the messages.
///
/// # Example
/// ```
/// use nsq_protocol::{Producer, PublishError, TopicName};
///
/// fn publish(producer: &Producer, topic: &TopicName, body: &[u8]) -> Result<(), PublishError> {
///     match producer.publish(topic, body) {
///         // Stored once, more often, or not at all: harmless where the consumer drops repeats by a key.
///         Err(error) if error.is_unknown() => producer.publish(topic, body),
///         outcome => outcome,
///     }
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Checked here: nsqd would refuse it and close the connection. Nothing was sent.
    #[error("not published: {reason}")]
    Invalid {
        /// The value and the limit.
        reason: String,
    },
    /// nsqd said no, and it was the only attempt that reached one. Nothing is stored, except that
    /// `E_MPUB_FAILED` may leave the first messages of an MPUB behind.
    ///
    /// `E_PUB_FAILED`, `E_MPUB_FAILED`, `E_DPUB_FAILED` and `E_AUTH_FAILED` arrive here only after
    /// retries until the publish timeout; every other code at once.
    #[error("nsqd did not take the publish")]
    Refused {
        /// Always [`Error::Refused`].
        source: Error,
    },
    /// At least one attempt was handed to a connection that then broke, stalled or was closed. The messages
    /// may be stored, once or more often, or not at all.
    #[error("it is unknown whether the publish was stored, after {attempts} attempts")]
    Unknown {
        /// How often it was handed to a connection.
        attempts: u32,
        /// What happened to the last attempt.
        source: Error,
    },
    /// Of the bodies of [`crate::Producer::publish_many`], which did not fit one MPUB, the first ones are stored.
    /// How it went with the next ones, its source says; the others were not sent.
    #[error("only the first {stored} bodies are known to be stored")]
    Partial {
        /// How many bodies an nsqd has taken.
        stored: usize,
        /// How many behind them were tried, and failed.
        tried: usize,
        /// Why.
        source: Box<PublishError>,
    },
    /// No connection took it before the publish timeout. Nothing is stored.
    #[error("no nsqd took the publish within {waited:?}")]
    NotSent {
        /// How long was waited.
        waited: Duration,
        /// What stood in the way.
        source: Error,
    },
}

impl PublishError {
    /// As [`Error::is_temporary`].
    pub fn is_temporary(&self) -> bool {
        match self {
            PublishError::Invalid { .. } => false,
            PublishError::Partial { source, .. } => source.is_temporary(),
            PublishError::Refused { source }
            | PublishError::Unknown { source, .. }
            | PublishError::NotSent { source, .. } => source.is_temporary(),
        }
    }

    /// Whether a copy of the messages may be stored nevertheless.
    pub fn is_unknown(&self) -> bool {
        match self {
            PublishError::Unknown { .. } => true,
            PublishError::Partial { source, .. } => source.is_unknown(),
            _ => false,
        }
    }
}

/// A [`crate::Producer::publish_to_all`] that not every nsqd took.
///
/// # Example
/// ```
/// use nsq_protocol::{NotByAll, Producer, TopicName};
///
/// fn tell_all(producer: &Producer, topic: &TopicName) {
///     if let Err(NotByAll { failures, .. }) = producer.publish_to_all(topic, b"reload") {
///         failures.iter().for_each(|(nsqd, error)| println!("not at {nsqd}: {error}"));
///     }
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} of {nsqds} nsqds did not take the publish, {} first", failures.len(), failures.first().map_or("", |(addr, _)| addr))]
#[non_exhaustive]
pub struct NotByAll {
    /// How many there are.
    pub nsqds: usize,
    /// Those that did not take it, by address as configured, and why; at least one. It is stored by the others.
    pub failures: Vec<(String, PublishError)>,
}

/// A pipelined publish that did not succeed, with its bodies given back.
///
/// # Example
/// ```
/// use nsq_protocol::{Receipt, Unpublished};
///
/// /// The body, where it is not known to be stored.
/// fn left(receipt: Receipt<Vec<u8>>) -> Option<Vec<u8>> {
///     receipt.wait().err().map(|Unpublished { bodies, .. }| bodies)
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unpublished<B: std::fmt::Debug> {
    /// Why. Its text is this error's text, so it is not the source; what is behind it is.
    pub error: Box<PublishError>,
    /// What was to be published.
    pub bodies: B,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_prints_itself_and_a_line_prints_all() {
        let refused = Error::Connect {
            addr: "127.0.0.1:4150".into(),
            source: Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused)),
        };
        assert_eq!(
            refused.to_string(),
            "cannot connect to 127.0.0.1:4150: is nsqd running there? its TCP port is 4150 by default"
        );
        assert!(
            refused.to_line().ends_with("by default: connection refused"),
            "{}",
            refused.to_line()
        );
        let http = Error::Decode { addr: "h:1".into(), source: DecodeError::HttpPeer };
        assert!(http.to_line().contains("this is an HTTP port"), "{}", http.to_line());
    }

    #[test]
    fn what_is_away_may_come_and_what_is_refused_stays_so() {
        let addr = || "h:1".to_owned();
        let source = |kind| Arc::new(io::Error::from(kind));
        let resolve = |kind| Error::Resolve { addr: addr(), source: source(kind) };
        let refused =
            |code| Error::Refused { addr: addr(), command: "SUB", code, detail: String::new() };
        let connect = Error::Connect { addr: addr(), source: source(io::ErrorKind::TimedOut) };
        let found = |error| Error::Discovered { lookupd: addr(), source: Box::new(error) };
        for (error, temporary) in [
            (connect.clone(), true),
            (found(connect), true),
            (resolve(io::ErrorKind::Other), true),
            (resolve(io::ErrorKind::InvalidInput), false),
            (Error::Closed { addr: addr() }, true),
            (refused(ErrorCode::SubFailed), true),
            (refused(ErrorCode::BadTopic), false),
            (refused(ErrorCode::AuthFailed), false),
            (refused(ErrorCode::Unauthorized), false),
            (Error::TlsDeclined { addr: addr() }, false),
            (found(Error::AuthRequired { addr: addr() }), false),
            (Error::Decode { addr: addr(), source: DecodeError::HttpPeer }, false),
        ] {
            assert_eq!(error.is_temporary(), temporary, "{error:?}");
        }
    }
}
