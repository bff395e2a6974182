//! The request and the answer as handlers see them; nothing of sockets or of tiny_http (pure).

use std::net::SocketAddr;

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

/// One vetted request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// In upper case: `GET`.
    pub method: String,
    /// Decoded, starts with `/`, holds no `.` or `..` segment, no control character, `%` or backslash.
    pub path: String,
    /// Decoded pairs in the order they came.
    pub query: Vec<(String, String)>,
    /// Names in lower case; values are printable ASCII.
    pub headers: Vec<(String, String)>,
    /// The whole body, at most the server's `max_body`.
    pub body: Vec<u8>,
    /// Who asks; absent in tests that build a request by hand.
    pub peer: Option<SocketAddr>,
}

impl Request {
    /// The first value of `name` in the query.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of the header `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

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
    /// Sent as they are; a value with a control or non-ASCII character is dropped, name and all.
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
            Err(error) => Self::text(500, format!("the answer is no JSON: {error}")),
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
            .filter(|(_, value)| value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')))
            .map(|(name, value)| (*name, value.as_str()))
            .chain(always.into_iter().filter(move |(name, _)| !is_own(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_would_start_another_is_dropped() {
        let response = Response::text(200, "x")
            .with_header("X-Bad", "a\r\nSet-Cookie: b")
            .with_header("X-Good", "a b");
        let names: Vec<_> = response.safe_headers().map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["Content-Type", "X-Good"]);
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
