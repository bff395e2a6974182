//! What happens to the connections of a consumer or a producer: logged, and told to who wants to know. Runs on the thread
//! that it happens on.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;

/// What happened to a connection, as [`crate::ConsumerConfig::on_event`] and [`crate::ProducerConfig::on_event`] are told
/// of it. As text it is a line for a log.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use nsq_protocol::{ConsumerConfig, Event};
///
/// let lost = Arc::new(AtomicU64::new(0));
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).on_event({
///     let lost = lost.clone();
///     move |event| match event {
///         Event::Lost { nsqd, error } => {
///             lost.fetch_add(1, Ordering::Relaxed);
///             eprintln!("{nsqd}: {error}");
///         }
///         other => eprintln!("{other}"),
///     }
/// });
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection stands. In the log: info when one stood before, debug for the first one.
    Connected {
        /// The nsqd, as configured or found.
        nsqd: String,
        /// One stood before.
        again: bool,
    },
    /// A connection that stood has ended, and not because it was to. While its nsqd is wanted, it is made again. Info.
    Lost {
        /// The nsqd, as configured or found.
        nsqd: String,
        /// Why.
        error: Error,
    },
    /// A connection could not be made; it is tried again. Debug.
    ConnectFailed {
        /// The nsqd, as configured or found.
        nsqd: String,
        /// Why.
        error: Error,
    },
    /// A message failed, so that a consumer asks for none for a while. Info.
    Backoff {
        /// Failures in a row.
        level: u32,
        /// How long.
        wait: Duration,
    },
    /// The message that was asked for behind a backoff was finished: all flow again. Info.
    Resumed,
    /// An nsqlookupd gives no proper answer; told once, until one comes. Info.
    LookupdFailed {
        /// As configured.
        lookupd: String,
        /// Why.
        error: Error,
    },
    /// An nsqlookupd that failed answers again. Info.
    LookupdAnswers {
        /// As configured.
        lookupd: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { nsqd, again: false } => write!(f, "nsqd {nsqd} is connected"),
            Self::Connected { nsqd, again: true } => write!(f, "nsqd {nsqd} is connected again"),
            Self::Lost { nsqd, error } => {
                write!(f, "the connection to nsqd {nsqd} is lost: {}", error.to_line())
            }
            Self::ConnectFailed { nsqd, error } => {
                write!(f, "nsqd {nsqd} cannot be connected to: {}", error.to_line())
            }
            Self::Backoff { level, wait } => write!(
                f,
                "a handler failed ({level} in a row): no message is asked for in the next {wait:?}"
            ),
            Self::Resumed => f.write_str("a message was finished again: all are asked for"),
            Self::LookupdFailed { lookupd, error } => {
                write!(f, "nsqlookupd {lookupd} does not answer: {}", error.to_line())
            }
            Self::LookupdAnswers { lookupd } => write!(f, "nsqlookupd {lookupd} answers again"),
        }
    }
}

impl Event {
    fn level(&self) -> log::Level {
        match self {
            Self::Connected { again: false, .. } | Self::ConnectFailed { .. } => log::Level::Debug,
            _ => log::Level::Info,
        }
    }
}

/// What a user has told.
type Handler = dyn Fn(&Event) + Send + Sync;

/// Where events go.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Handler>>);

impl Events {
    pub(crate) fn to(handler: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(handler)))
    }

    /// Never under a lock: the handler is a user's.
    pub(crate) fn tell(&self, event: Event) {
        log::log!(event.level(), "{event}");
        let Some(handler) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| handler(&event))).is_err() {
            log::error!("the event handler panicked over: {event}");
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", if self.0.is_some() { "to a handler" } else { "to the log" })
    }
}
