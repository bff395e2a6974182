//! What a server asks of whoever answers its requests.

use uuid::Uuid;

use super::events::EventStream;
use super::request::Request;
use super::response::{Download, Response};

/// What a server does with its requests. Called on the server's worker threads, many at a time.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. A panic becomes a 500.
    fn handle(&self, request: &Request) -> Response;

    /// Behind these starts of a path each part may hold any text without control characters, percent-encoded: see
    /// [`Request::path`]. None by default.
    fn text_paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// The stream that this request subscribes to, if it does and may. `None`: it goes to `handle`, which
    /// says why not. Called on the connection's own thread, which has a small stack and no body.
    fn stream(&self, _request: &Request) -> Option<&EventStream> {
        None
    }

    /// Whose stream that is, where [`EventStream::end_of`] shall end it; nobody's by default.
    fn stream_owner(&self, _request: &Request) -> Option<Uuid> {
        None
    }

    /// What this GET downloads piece by piece, if it does and may. `None`: it goes to `handle`. Called, and its
    /// pieces made, on the connection's own thread, which has a small stack.
    fn download(&self, _request: &Request) -> Option<Download> {
        None
    }

    /// Whether the answer to this may wait for somebody else: then only half the workers are there for such requests, so that the
    /// others are answered. False by default. Called on the connection's own thread, which has a small stack and no body.
    fn may_wait(&self, _request: &Request) -> bool {
        false
    }

    /// The answer to what never reaches `handle`: broken requests, too many connections.
    fn refuse(&self, status: u16, reason: &str) -> Response {
        Response::error(status, reason)
    }
}
