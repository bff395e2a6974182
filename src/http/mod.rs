//! A small HTTP/1.1 server for the dashboard and for the broker's HTTP endpoints; it knows nothing of either.
//!
//! `front` owns the listening socket: it caps connections, reads one whole request with deadlines and strict
//! framing (`head`, pure), and holds event streams (`events`). Only vetted requests reach `backend`, where
//! tiny_http serves them on a private Unix socket with a fixed number of workers. tiny_http 0.12 alone on a
//! network socket can be made to abort the process, loses connections under a burst and stops accepting after
//! one error; behind the front none of that is in reach.
//!
//! One request a connection: every answer says `Connection: close`, but to a POST that asks for
//! `Connection: keep-alive` and succeeds: a processor publishes up to thousands of times a second.

mod backend;
mod events;
mod front;
mod head;
mod message;

#[cfg(test)]
pub(crate) use backend::ANSWER_WAIT;
pub use events::EventStream;
pub use front::{Server, ServerConfig};
pub use message::{Download, Request, Response};

/// What a server does with its requests. Called on the server's worker threads, many at a time.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. A panic becomes a 500.
    fn handle(&self, request: &Request) -> Response;

    /// The stream that this request subscribes to, if it does and may. `None`: it goes to `handle`, which
    /// says why not. Called on the connection's own thread, which has a small stack and no body.
    fn stream(&self, _request: &Request) -> Option<&EventStream> {
        None
    }

    /// What this GET downloads piece by piece, if it does and may. `None`: it goes to `handle`. Called, and its
    /// pieces made, on the connection's own thread, which has a small stack.
    fn download(&self, _request: &Request) -> Option<Download> {
        None
    }

    /// The answer to what never reaches `handle`: broken requests, too many connections.
    fn refuse(&self, status: u16, reason: &str) -> Response {
        Response::error(status, reason)
    }
}
