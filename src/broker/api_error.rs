//! What nsqd's HTTP API calls an error: a status and a code (pure).

use std::borrow::Cow;

use nsq_protocol::ErrorCode;

use super::core::{LimitError, Missing};

/// Why a call to the HTTP API did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    NotFound,
    MethodNotAllowed,
    MissingArgTopic,
    MissingArgChannel,
    /// Where a publish names a topic that cannot be.
    InvalidTopic,
    /// The same, where a channel is meant.
    InvalidArgTopic,
    InvalidArgChannel,
    TopicNotFound,
    ChannelNotFound,
    InvalidDefer,
    MsgEmpty,
    MsgTooBig,
    BodyTooBig,
    /// A binary MPUB whose sizes do not add up.
    BadBodies(ErrorCode),
    /// `/config` of what is no option, or cannot be changed.
    InvalidOption,
    InvalidValue,
    /// A value that is empty or too large.
    NoValue,
    Internal,
    /// Asked for by a name that is not ours. nsqd has no such error, nor the next.
    ForeignHost(String),
    /// Sent by a page of another site.
    ForeignOrigin(String),
    /// So many others make topics, and wait for nsqlookupds.
    TooManyMake(usize),
    /// The broker has no room. nsqd has no such error; here its text says what to do.
    Limit(LimitError),
}

impl ApiError {
    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::MissingArgTopic
            | Self::MissingArgChannel
            | Self::InvalidTopic
            | Self::InvalidArgTopic
            | Self::InvalidArgChannel
            | Self::InvalidDefer
            | Self::InvalidOption
            | Self::InvalidValue
            | Self::MsgEmpty => 400,
            Self::ForeignOrigin(_) => 403,
            Self::ForeignHost(_) => 421,
            Self::NotFound | Self::TopicNotFound | Self::ChannelNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::MsgTooBig | Self::BodyTooBig | Self::NoValue | Self::BadBodies(_) => 413,
            Self::Internal => 500,
            Self::TooManyMake(_) | Self::Limit(_) => 503,
        }
    }

    /// nsqd's code, or the sentence of a limit.
    pub(super) fn text(&self) -> Cow<'_, str> {
        let code = match self {
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::MissingArgTopic => "MISSING_ARG_TOPIC",
            Self::MissingArgChannel => "MISSING_ARG_CHANNEL",
            Self::InvalidTopic => "INVALID_TOPIC",
            Self::InvalidArgTopic => "INVALID_ARG_TOPIC",
            Self::InvalidArgChannel => "INVALID_ARG_CHANNEL",
            Self::TopicNotFound => "TOPIC_NOT_FOUND",
            Self::ChannelNotFound => "CHANNEL_NOT_FOUND",
            Self::InvalidDefer => "INVALID_DEFER",
            Self::InvalidOption => "INVALID_OPTION",
            Self::InvalidValue | Self::NoValue => "INVALID_VALUE",
            Self::Internal => "INTERNAL_ERROR",
            Self::MsgEmpty => "MSG_EMPTY",
            Self::MsgTooBig => "MSG_TOO_BIG",
            Self::BodyTooBig => "BODY_TOO_BIG",
            Self::BadBodies(code) => code.as_str().strip_prefix("E_").unwrap_or(code.as_str()),
            Self::ForeignHost(host) => {
                return format!("the broker answers to localhost, its addresses and its --broadcast-address, not to {host:?}; start it with --allowed-host for other names").into();
            }
            Self::ForeignOrigin(origin) => {
                return format!("pages of {origin:?} may change nothing here").into();
            }
            Self::TooManyMake(others) => {
                return format!("{others} requests that make topics wait for nsqlookupds; try again, see what is wrong with those of --lookupd-tcp-address, or lower --http-client-request-timeout").into();
            }
            Self::Limit(limit) => return limit.to_string().into(),
        };
        code.into()
    }
}

impl From<Missing> for ApiError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Topic => Self::TopicNotFound,
            Missing::Channel => Self::ChannelNotFound,
        }
    }
}

impl From<LimitError> for ApiError {
    fn from(limit: LimitError) -> Self {
        Self::Limit(limit)
    }
}
