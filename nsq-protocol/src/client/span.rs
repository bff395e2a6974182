//! Spans for the crate `tracing`, with OpenTelemetry's names for messaging; without that feature there is nothing here.
//!
//! NSQ's messages have no headers: a context that is to go from a producer to a consumer is for their bodies to carry.

use tracing::Span;

use crate::client::consumer::delivery::Delivery;
use crate::client::producer::command::Publish;
use crate::codec::names::{ChannelName, TopicName};

/// Of a publish, until its answer; a child of the caller's.
pub(crate) fn of_publish(publish: &Publish<'_>) -> Span {
    tracing::info_span!(
        "nsq.publish",
        otel.kind = "producer",
        messaging.system = "nsq",
        messaging.destination.name = %publish.topic(),
        messaging.batch.message_count = publish.messages(),
    )
}

/// Of a handler at its message.
pub(crate) fn of_handler(topic: TopicName, channel: ChannelName, delivery: &Delivery) -> Span {
    tracing::info_span!(
        "nsq.handle",
        otel.kind = "consumer",
        messaging.system = "nsq",
        messaging.destination.name = %topic,
        messaging.consumer.group.name = %channel,
        messaging.message.id = %delivery.id(),
        messaging.message.body.size = delivery.body().len(),
        nsq.attempts = delivery.attempts(),
        nsq.nsqd = delivery.nsqd(),
    )
}
