//! An answer as handlers make it, and its bytes on the wire where tiny_http does not write it (pure).

use serde::Serialize;

/// On every answer that does not set them itself, errors and broken requests included: nobody may guess another type
/// from what a stranger put in the text, run it, frame it, or load it into a page of another site.
const ALWAYS: [(&str, &str); 5] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// An answer too large to be held in memory.
pub struct Download {
    /// Its status and headers; no body.
    pub head: Response,
    /// The body. The next piece is made when the one before has gone out.
    pub pieces: Box<dyn Iterator<Item = Vec<u8>> + Send>,
}

/// One answer. `Content-Length`, `Date`, `Server` and `Connection` are the server's business.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// 200, 404 …
    pub status: u16,
    /// Sent as they are; a value with a control or non-ASCII character is dropped, name and all. One that is empty leaves out a
    /// header that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body; not sent in answer to HEAD.
    pub body: Vec<u8>,
}

impl Response {
    /// `body` with its type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Self { status, headers, body: body.into() }
    }

    /// `value` as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(status, "application/json; charset=utf-8", body),
            Err(error) => Self::text(500, format!("the answer cannot be written as JSON: {error}")),
        }
    }

    /// Plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.into())
    }

    /// `{"error":"…"}`.
    pub fn error(status: u16, reason: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": reason }))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The headers to send: those that are safe, as a value with a line break would start another header, and
    /// [`ALWAYS`].
    pub(super) fn safe_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let always: [(&'static str, &str); 5] = ALWAYS;
        let is_own = |name: &str| self.headers.iter().any(|(own, _)| *own == name);
        self.headers
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter(|(_, value)| value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')))
            .map(|(name, value)| (*name, value.as_str()))
            .chain(always.into_iter().filter(move |(name, _)| !is_own(name)))
    }

    /// The whole answer as it is sent; the connection closes behind it.
    pub(super) fn to_wire(&self) -> Vec<u8> {
        let end = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
        let mut wire = (self.head_to_wire() + &end).into_bytes();
        wire.extend_from_slice(&self.body);
        wire
    }

    /// The status line and the headers of this answer; what says how its body ends, and the empty line, follow.
    pub(super) fn head_to_wire(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            408 => "Request Timeout",
            413 => "Content Too Large",
            417 => "Expectation Failed",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "Error",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in self.safe_headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "Server: playcounts\r\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_would_start_another_is_dropped() {
        let response = Response::text(200, "x")
            .with_header("X-Bad", "a\r\nSet-Cookie: b")
            .with_header("X-Frame-Options", "")
            .with_header("X-Good", "a b");
        let names: Vec<_> = response.safe_headers().map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["Content-Type", "X-Good"]);
        assert!(!names.contains(&"X-Frame-Options"));
    }

    #[test]
    fn every_answer_is_guarded_once() {
        let own = Response::text(200, "x").with_header("Content-Security-Policy", "mine");
        for response in [own, Response::error(400, "x"), Response::default()] {
            for (name, _) in ALWAYS {
                let given = response.safe_headers().filter(|(known, _)| *known == name).count();
                assert_eq!(given, 1, "{name}");
            }
        }
    }

    #[test]
    fn an_error_is_an_object_whatever_it_quotes() {
        let response = Response::error(400, "bad \"id\"\n<img>");
        assert_eq!(response.body, br#"{"error":"bad \"id\"\n<img>"}"#);
    }
}
