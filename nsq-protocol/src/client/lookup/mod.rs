//! nsqlookupd's HTTP API: which nsqds there are, and which have a topic. Without the feature `http`, without_http stands in the
//! place of http, and no nsqlookupd can be given.

pub(crate) mod config;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub(crate) mod nodes;
pub(crate) mod poll;
pub(crate) mod response;
#[cfg(not(feature = "http"))]
mod without_http;

#[cfg(not(feature = "http"))]
use without_http as http;
