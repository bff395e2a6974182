//! One connection to one nsqd: the socket, what lies on it, and the two threads that serve it.
//!
//! ```text
//! resolve --> transport (with tls, and codec's compression) --> handshake --> connection, with its outbox
//! ```
//!
//! Beside it the HTTP client of nsqd's and nsqlookupd's APIs: http_agent, over http_tls.
//! What is configured of TLS is in tls_config, what its files hold in pem, what goes wrong with it in tls_fault.
//!
//! Knows nothing of consumers and producers. Imports from `codec` and the errors.

pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod http_agent;
pub(crate) mod http_tls;
pub(crate) mod outbox;
pub(crate) mod pem;
pub(crate) mod resolve;
pub(crate) mod tls;
pub(crate) mod tls_config;
pub(crate) mod tls_fault;
pub(crate) mod transport;
