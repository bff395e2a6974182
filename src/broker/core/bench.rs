//! The core alone, timed; for the micro benches.

use std::time::{Duration, Instant};

use nsq_protocol::{ChannelName, MessageId, TopicName};

use super::batch::{MessageRun, NewBatch};
use super::state::Core;
use crate::broker::config::BrokerConfig;
use crate::model::unix_time::UnixMs;

/// See [`crate::broker::bench_core`].
pub(crate) fn bench(rounds: usize, size: usize) -> Duration {
    let now = Instant::now();
    let mut core = Core::new(BrokerConfig::default(), UnixMs(0));
    let (topic, channel) = (TopicName::new("t"), ChannelName::new("c"));
    let (topic, channel) = (topic.expect("a name"), channel.expect("a name"));
    let mut bodies = nsq_protocol::BodiesBuf::new();
    (0..size).for_each(|_| bodies.push(&[b'x'; 155]));
    core.connect(1, "127.0.0.1:1".into(), UnixMs(0));
    core.subscribe(1, &topic, &channel, now).expect("nothing is there yet");
    core.set_ready(1, 2500);
    let began = Instant::now();
    let mut runs = Vec::new();
    for _ in 0..rounds {
        let batch = NewBatch::many(bodies.as_bodies());
        core.publish(None, &topic, batch, Duration::ZERO, now, 0).expect("there is room");
        while core.pull(1, now, 64 << 10, &mut runs) {}
        let ids = runs.iter().flat_map(MessageRun::messages).map(|(id, _)| MessageId::from_u64(id));
        core.finish(1, 0, ids, |id, why| unreachable!("{id} was just pulled: {why}"));
        runs.clear();
        core.take_effects();
    }
    began.elapsed()
}
