//! Feature `tracing`: what a subscriber sees of publishes and handlers.

use std::fmt::{Debug, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nsq_protocol::{Consumer, Producer};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::lookup::wait_until;
use crate::nsqd::nsqd_or_skip;
use crate::script::{config, producer_config};

/// Notes each span as a line: its name and fields.
#[derive(Default)]
struct Spans {
    lines: Mutex<Vec<String>>,
    last: AtomicU64,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

/// Its own type: `Subscriber` is not for an `Arc` of another's.
struct Seen(Arc<Spans>);

impl Subscriber for Seen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("nsq_protocol")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(span.metadata().name().to_owned());
        span.record(&mut line);
        self.0.lines.lock().unwrap().push(line.0);
        Id::from_u64(self.0.last.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn publishes_and_handlers_are_spans() {
    let nsqd = nsqd_or_skip!();
    let spans = Arc::new(Spans::default());
    // Handlers run on other threads: for the whole program, in which other tests are, too.
    tracing::subscriber::set_global_default(Seen(spans.clone())).unwrap();
    let seen = |start: &str, holds: &str| {
        let lines = spans.lines.lock().unwrap();
        lines.iter().any(|line| line.starts_with(start) && line.contains(holds))
    };
    let topic = "spans".parse().unwrap();
    let producer = Producer::connect(producer_config().nsqd(nsqd.addr())).unwrap();
    producer.publish(&topic, b"body").unwrap();
    let published = "otel.kind=\"producer\" messaging.system=\"nsq\" messaging.destination.name=spans \
        messaging.batch.message_count=1";
    assert!(seen("nsq.publish ", published));
    let consumer = Consumer::start(config().nsqd(nsqd.addr()).topic(topic)).unwrap();
    let running = consumer.run(NonZeroUsize::MIN, |message| message.finish()).unwrap();
    wait_until("a handler", || seen("nsq.handle ", "messaging.destination.name=spans"));
    assert!(seen(
        "nsq.handle ",
        "messaging.message.body.size=4 nsq.attempts=1 nsq.nsqd=\"127.0.0.1:"
    ));
    running.shutdown();
}
