//! The producer.

pub(crate) mod pipeline;
pub(crate) mod publish;
