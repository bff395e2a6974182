//! A small HTTP/1.1 server for the dashboard and for the broker's HTTP endpoints; it knows nothing of either.
//!
//! `server` owns the listening socket and caps connections; `connection` reads one whole request with deadlines and
//! strict framing (`head`, `chunks`, `target`; pure), and hands event streams to `events`. `socket` is in clear or over
//! TLS, with the certificate of `server_tls`, which `certificate` reads (`pem`; pure) by the rules of `client_certificates`. Only vetted requests reach `pool`,
//! where tiny_http serves them on a private Unix socket with a fixed number of workers. `own_names` tells who asks for
//! another server, or comes from a page of one; handlers refuse them.
//!
//! Connections stay open, as HTTP/1.1 has it, but behind a download, an answer of the kind 5xx and what was not
//! understood. Where all are taken, the one that has waited the longest makes way (`open`).

mod certificate;
mod chunks;
mod client_certificates;
mod connection;
mod events;
mod handler;
mod head;
mod open;
mod own_names;
mod pem;
mod pool;
mod request;
mod response;
mod server;
mod server_tls;
mod socket;
mod socket_dir;
mod stream;
mod target;

pub use certificate::TlsFiles;
pub use client_certificates::{ClientCertificates, TlsRules};
pub use events::EventStream;
pub use handler::Handler;
pub use own_names::{OwnNames, foreign_origin};
#[cfg(test)]
pub(crate) use pool::ANSWER_WAIT;
pub use request::Request;
pub use response::{Download, Response};
pub use server::{Server, ServerConfig};
pub use server_tls::ServerTls;
