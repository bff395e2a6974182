//! How large a client's commands may be, and why a client's bytes are no command (pure).

use crate::codec::error_code::ErrorCode;

/// How large a client's commands may be. The defaults are nsqd's.
///
/// # Example
/// ```
/// use nsq_protocol::{CommandDecoder, CommandLimits};
///
/// let limits = CommandLimits { max_msg_size: 4, ..CommandLimits::default() };
/// let mut decoder = CommandDecoder::new(4096, limits);
/// decoder.push(b"PUB plays\n\0\0\0\x05");
/// assert!(decoder.next_command().is_err(), "the fifth byte is not waited for");
/// ```
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
///
/// # Example
/// ```
/// use nsq_protocol::{CommandDecoder, CommandLimits, ErrorCode};
///
/// let mut decoder = CommandDecoder::new(4096, CommandLimits::default());
/// decoder.push(b"JUMP\n");
/// let error = decoder.next_command().unwrap_err();
/// assert_eq!(error.code, ErrorCode::Invalid);
/// assert!(error.to_string().starts_with("E_INVALID "));
/// ```
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
