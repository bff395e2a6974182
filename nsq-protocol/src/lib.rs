//! A blocking client for [NSQ](https://nsq.io): the V2 wire protocol, a producer and a consumer on OS
//! threads, without an async runtime.

#[doc(hidden)]
pub mod thread;
