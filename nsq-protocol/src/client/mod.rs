//! What users start and call: the consumer, the producer, discovery, nsqd's HTTP API, and their settings.

pub(crate) mod admin;
pub(crate) mod clock;
pub(crate) mod consumer;
pub(crate) mod lookup;
pub(crate) mod options;
pub(crate) mod producer;
