//! One connection to one nsqd: the socket, what lies on it, and the two threads that serve it.
//!
//! ```text
//! resolve --> transport (with layers: tls, and codec's compression) --> handshake --> connection, with its outbox
//! ```
//!
//! Beside it the HTTP client of nsqd's and nsqlookupd's APIs: http_agent, over http_tls.
//! What is configured of TLS is in tls_config, what its files hold in pem, what goes wrong with it in tls_fault.
//!
//! Without the feature `tls`, without_tls stands in the place of tls, tls_config and http_tls.
//!
//! Knows nothing of consumers and producers. Imports from `codec` and the errors.

pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod handshake;
#[cfg(feature = "http")]
#[cfg_attr(
    not(feature = "unstable-internals"),
    allow(unreachable_pub, reason = "exported with it")
)]
pub(crate) mod http_agent;
#[cfg(all(feature = "http", feature = "tls"))]
#[cfg_attr(
    not(feature = "unstable-internals"),
    allow(unreachable_pub, reason = "exported with it")
)]
pub(crate) mod http_tls;
#[cfg_attr(
    not(feature = "unstable-internals"),
    allow(unreachable_pub, dead_code, reason = "exported with it")
)]
pub(crate) mod layers;
pub(crate) mod outbox;
#[cfg(feature = "tls")]
#[cfg_attr(
    not(feature = "unstable-internals"),
    allow(unreachable_pub, reason = "exported with it")
)]
pub(crate) mod pem;
#[cfg_attr(
    not(feature = "unstable-internals"),
    allow(unreachable_pub, reason = "exported with it")
)]
pub(crate) mod resolve;
#[cfg(feature = "tls")]
#[cfg_attr(
    not(feature = "unstable-internals"),
    allow(unreachable_pub, reason = "exported with it")
)]
pub(crate) mod tls;
#[cfg(feature = "tls")]
pub(crate) mod tls_config;
pub(crate) mod tls_fault;
pub(crate) mod transport;
#[cfg(not(feature = "tls"))]
mod without_tls;

#[cfg(all(feature = "http", not(feature = "tls")))]
pub(crate) use without_tls::http_tls;
#[cfg(not(feature = "tls"))]
pub(crate) use without_tls::{tls, tls_config};
