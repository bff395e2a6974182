//! The codes of nsqd's error frames (pure).

use std::fmt;

/// The first word of an error frame.
///
/// Only the first word is the code; free text may follow it. Source: nsqd 1.3.0, `protocol_v2.go`.
///
/// # Example
/// ```
/// use nsq_protocol::ErrorCode;
///
/// let (code, text) = ErrorCode::parse(b"E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight");
/// assert_eq!(code, ErrorCode::FinFailed);
/// assert!(!code.is_fatal());
/// assert_eq!(text, "FIN 0123456789abcdef failed ID not in flight");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `E_INVALID`: the command does not fit the state or its parameters do not parse.
    Invalid,
    /// `E_BAD_BODY`: a command's body (IDENTIFY, AUTH, MPUB) is too large or malformed.
    BadBody,
    /// `E_BAD_TOPIC`: no topic name.
    BadTopic,
    /// `E_BAD_CHANNEL`: no channel name.
    BadChannel,
    /// `E_BAD_MESSAGE`: a message body is empty, too large, or cut short.
    BadMessage,
    /// `E_BAD_PROTOCOL`: the first four bytes were not `  V2`.
    BadProtocol,
    /// `E_PUB_FAILED`: the message could not be stored.
    PubFailed,
    /// `E_MPUB_FAILED`: some of the messages could not be stored.
    MpubFailed,
    /// `E_DPUB_FAILED`: the deferred message could not be stored.
    DpubFailed,
    /// `E_SUB_FAILED`: the channel has its maximum of consumers, or is going away.
    SubFailed,
    /// `E_IDENTIFY_FAILED`: the negotiated upgrade failed.
    IdentifyFailed,
    /// `E_AUTH_FIRST`: the command needs AUTH before it.
    AuthFirst,
    /// `E_AUTH_DISABLED`: this nsqd has no AUTH.
    AuthDisabled,
    /// `E_AUTH_FAILED`: the auth server did not answer.
    AuthFailed,
    /// `E_AUTH_ERROR`: the answer to AUTH could not be made.
    AuthError,
    /// `E_UNAUTHORIZED`: the secret does not grant this.
    Unauthorized,
    /// `E_FIN_FAILED`: the message is not in flight on this connection (any more). Not fatal.
    FinFailed,
    /// `E_REQ_FAILED`: as [`ErrorCode::FinFailed`], for REQ. Not fatal.
    ReqFailed,
    /// `E_TOUCH_FAILED`: as [`ErrorCode::FinFailed`], for TOUCH. Not fatal.
    TouchFailed,
    /// A code that nsqd 1.3.0 does not have, cut to 64 characters.
    Other(String),
}

use ErrorCode::*;

const CODES: [(&str, ErrorCode); 19] = [
    ("E_INVALID", Invalid),
    ("E_BAD_BODY", BadBody),
    ("E_BAD_TOPIC", BadTopic),
    ("E_BAD_CHANNEL", BadChannel),
    ("E_BAD_MESSAGE", BadMessage),
    ("E_BAD_PROTOCOL", BadProtocol),
    ("E_PUB_FAILED", PubFailed),
    ("E_MPUB_FAILED", MpubFailed),
    ("E_DPUB_FAILED", DpubFailed),
    ("E_SUB_FAILED", SubFailed),
    ("E_IDENTIFY_FAILED", IdentifyFailed),
    ("E_AUTH_FIRST", AuthFirst),
    ("E_AUTH_DISABLED", AuthDisabled),
    ("E_AUTH_FAILED", AuthFailed),
    ("E_AUTH_ERROR", AuthError),
    ("E_UNAUTHORIZED", Unauthorized),
    ("E_FIN_FAILED", FinFailed),
    ("E_REQ_FAILED", ReqFailed),
    ("E_TOUCH_FAILED", TouchFailed),
];

impl ErrorCode {
    /// Splits an error frame's data into its code and the text behind it.
    pub fn parse(data: &[u8]) -> (Self, String) {
        let text = String::from_utf8_lossy(data);
        let (word, detail) = text.split_once(' ').unwrap_or((&text, ""));
        let code = CODES.iter().find(|(name, _)| *name == word);
        let code =
            code.map_or_else(|| Other(word.chars().take(64).collect()), |(_, code)| code.clone());
        (code, detail.to_owned())
    }

    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Other(word) => word,
            code => CODES.iter().find(|(_, known)| known == code).map_or("", |(name, _)| name),
        }
    }

    /// Whether nsqd closes the connection behind this error: all but the three about one message do.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, FinFailed | ReqFailed | TouchFailed)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_text() {
        for (name, code) in CODES {
            assert_eq!(ErrorCode::parse(name.as_bytes()), (code.clone(), String::new()));
            assert_eq!(code.as_str(), name);
        }
    }

    #[test]
    fn only_the_first_word_is_the_code() {
        let (code, detail) =
            ErrorCode::parse(b"E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight");
        assert_eq!(code, FinFailed);
        assert_eq!(detail, "FIN 0123456789abcdef failed ID not in flight");
        assert_eq!(ErrorCode::parse(b"E_NEW \xff").0, Other("E_NEW".into()));
        assert_eq!(ErrorCode::parse(b""), (Other(String::new()), String::new()));
    }

    #[test]
    fn three_codes_leave_the_connection_open() {
        let open: Vec<_> =
            CODES.into_iter().filter(|(_, code)| !code.is_fatal()).map(|(name, _)| name).collect();
        assert_eq!(open, ["E_FIN_FAILED", "E_REQ_FAILED", "E_TOUCH_FAILED"]);
    }
}
