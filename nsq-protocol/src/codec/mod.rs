//! The wire protocol: bytes to values and back, without IO (pure).
//!
//! What both sides of a connection speak, so that the client and a broker cannot drift apart. A decoder takes bytes cut
//! in any way, and checks every size before it makes room. Imports from nothing else in the crate.

pub(crate) mod auth;
pub(crate) mod bodies;
pub(crate) mod command;
pub(crate) mod command_decoder;
pub(crate) mod command_error;
pub(crate) mod compression;
pub(crate) mod error_code;
pub(crate) mod frame;
pub(crate) mod go_json;
pub(crate) mod identify;
pub(crate) mod message;
pub(crate) mod names;
mod skipping;
pub(crate) mod stream_buffer;
