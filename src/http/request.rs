//! A request as handlers see it (pure).

use std::net::SocketAddr;

/// One vetted request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// In upper case: `GET`.
    pub method: String,
    /// Decoded, starts with `/`, holds no `.` or `..` segment, no control character, `%` or backslash. Behind a path of text
    /// slashes, `%` and backslashes of a part stay encoded: `%2F`, `%25`, `%5C`.
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
