//! One connection to one nsqd: the socket, what lies on it, and the two threads that serve it.

pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod http_agent;
pub(crate) mod outbox;
pub(crate) mod resolve;
pub(crate) mod tls;
pub(crate) mod transport;
