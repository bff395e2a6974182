//! The core's parts one by one; every part together in `history`.

mod history;

use std::time::{Duration, Instant};

use nsq_protocol::{BodiesBuf, ChannelName, MessageId, TopicName};

use super::batch::{MessageRun, NewBatch};
use super::client::Identity;
use super::ids::ClientId;
use super::in_flight::InFlightError;
use super::state::Core;
use crate::broker::config::BrokerConfig;
use crate::broker::stats::StatsFilter;
use crate::model::unix_time::UnixMs;

const TIMEOUT: Duration = Duration::from_secs(60);

fn core(change: impl FnOnce(&mut BrokerConfig)) -> Core {
    let mut config = BrokerConfig::default();
    change(&mut config);
    Core::new(config, UnixMs(0))
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn batch(count: usize) -> NewBatch {
    let mut bodies = BodiesBuf::new();
    (0..count).for_each(|index| bodies.push(format!("body {index}").as_bytes()));
    NewBatch::many(bodies.as_bodies())
}

/// A consumer of t:c.
fn consumer(core: &mut Core, id: ClientId, rdy: u32, now: Instant) {
    core.connect(id, "10.0.0.1:5".into(), UnixMs(0));
    core.subscribe(id, &topic("t"), &channel("c"), now).unwrap();
    core.set_ready(id, rdy);
}

fn publish(core: &mut Core, count: usize, now: Instant) {
    core.publish(None, &topic("t"), batch(count), Duration::ZERO, now, 5).unwrap();
}

/// What a pull gives: IDs and attempts.
fn pull(core: &mut Core, id: ClientId, now: Instant) -> Vec<(u64, u16)> {
    let mut runs = Vec::new();
    core.pull(id, now, usize::MAX, &mut runs);
    let messages = |run: &MessageRun| run.messages().map(|(id, _)| id).collect::<Vec<_>>();
    runs.iter().flat_map(|run| messages(run).into_iter().map(|id| (id, run.attempts))).collect()
}

fn finish(core: &mut Core, id: ClientId, message: u64) -> Result<(), InFlightError> {
    let mut done = Ok(());
    core.finish(id, 0, [MessageId::from_u64(message)].into_iter(), |_, why| done = Err(why));
    done
}

fn woken(core: &mut Core) -> Vec<ClientId> {
    core.take_effects().wake
}

#[test]
fn ids_grow_whatever_the_clock_does() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    consumer(&mut core, 1, 100, now);
    for timestamp_ns in [1_000, 1_000, 5, -7, i64::MAX - 10, 2_000] {
        core.publish(None, &topic("t"), batch(2), Duration::ZERO, now, timestamp_ns).unwrap();
    }
    let ids: Vec<u64> = pull(&mut core, 1, now).into_iter().map(|(id, _)| id).collect();
    let max = i64::MAX as u64 - 10;
    assert_eq!(
        ids,
        [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, max, max + 1, max + 2, max + 3]
    );
}

#[test]
fn a_publish_wakes_as_many_as_it_has_messages_and_nobody_twice() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    (1..=4).for_each(|id| consumer(&mut core, id, 5, now));
    woken(&mut core);
    publish(&mut core, 1, now);
    assert_eq!(woken(&mut core), [1]);
    publish(&mut core, 2, now);
    // Three wait now, but the first is already on its way.
    assert_eq!(woken(&mut core), [2, 3, 4]);
    publish(&mut core, 9, now);
    assert_eq!(woken(&mut core), [0; 0]);
    // Twelve messages, four ready consumers: each pull takes its share.
    assert_eq!(pull(&mut core, 1, now).len(), 3);
}

/// Its writer may wait for a client that does not read.
#[test]
fn who_has_not_come_again_gets_nothing_that_an_idle_one_could_have() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    (1..=2).for_each(|id| consumer(&mut core, id, 200, now));
    publish(&mut core, 1, now);
    assert_eq!(woken(&mut core), [1]);
    assert_eq!(pull(&mut core, 1, now).len(), 1);
    for _ in 0..3 {
        publish(&mut core, 1, now);
        assert_eq!(woken(&mut core), [2]);
        let got = pull(&mut core, 2, now);
        assert_eq!(got.len(), 1);
        finish(&mut core, 2, got[0].0).unwrap();
        assert_eq!(pull(&mut core, 2, now), []);
    }
    assert_eq!(pull(&mut core, 1, now), []);
    publish(&mut core, 2, now);
    assert_eq!(woken(&mut core), [2, 1]);
}

#[test]
fn a_message_is_not_lost_with_the_consumer_that_was_woken_for_it() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    (1..=3).for_each(|id| consumer(&mut core, id, 1, now));
    publish(&mut core, 1, now);
    assert_eq!(woken(&mut core), [1]);
    core.disconnect(1);
    assert_eq!(woken(&mut core), [2]);
    core.set_ready(2, 0);
    assert_eq!(woken(&mut core), [3]);
    assert_eq!(pull(&mut core, 3, now).len(), 1);
}

#[test]
fn memory_is_refused_with_the_figures_and_given_back() {
    let (mut core, now) = (core(|config| config.max_memory = 2000), Instant::now());
    let mut sent = 0;
    let refusal = loop {
        match core.publish(None, &topic("t"), batch(10), Duration::ZERO, now, 0) {
            Ok(()) => sent += 10,
            Err(refusal) => break refusal.to_string(),
        }
    };
    let used = core.used();
    assert_eq!(
        refusal,
        format!("memory limit: {used} of 2000 bytes are queued; consume or raise --max-memory")
    );
    assert!(used > 1500 && used <= 2000, "{used}");
    consumer(&mut core, 1, 1000, now);
    let got = pull(&mut core, 1, now);
    assert_eq!(got.len(), sent);
    // What is in flight still counts, more than before; but it is never refused.
    assert!(core.used() > used);
    got.iter().for_each(|(id, _)| finish(&mut core, 1, *id).unwrap());
    assert_eq!(core.used(), 0);
    publish(&mut core, 10, now);
}

#[test]
fn a_shared_batch_is_freed_with_its_last_message_on_its_last_channel() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    consumer(&mut core, 1, 10, now);
    core.create_channel(&topic("t"), &channel("other"), now).unwrap();
    publish(&mut core, 3, now);
    for (id, _) in pull(&mut core, 1, now) {
        finish(&mut core, 1, id).unwrap();
    }
    assert!(core.used() > 0);
    core.empty_channel(&topic("t"), &channel("other")).unwrap();
    // The garbage is what holds it now: it is dropped outside the lock.
    assert!(core.used() > 0);
    core.take_effects();
    assert_eq!(core.used(), 0);
}

#[test]
fn mem_queue_size_refuses_nobody() {
    let (mut core, now) = (core(|config| config.mem_queue_size = 5), Instant::now());
    publish(&mut core, 10, now);
    core.create_channel(&topic("t"), &channel("c"), now).unwrap();
    publish(&mut core, 10, now);
    assert_eq!(fill_of(&core, "c"), (20, 20, 0));
}

#[test]
fn there_are_only_so_many_topics_channels_and_consumers() {
    let limits = |config: &mut BrokerConfig| {
        (config.max_topics, config.max_channels, config.max_channel_consumers) = (2, 2, 1);
    };
    let (mut core, now) = (core(limits), Instant::now());
    consumer(&mut core, 1, 1, now);
    core.connect(2, String::new(), UnixMs(0));
    let mut sub = |topic_name, channel_name| {
        core.subscribe(2, &topic(topic_name), &channel(channel_name), now)
            .map_err(|why| why.to_string())
    };
    assert_eq!(sub("t", "c"), Err("failed consumers for t:c exceeds limit of 1".into()));
    assert_eq!(sub("u", "c"), Ok(()));
    assert_eq!(
        sub("u", "d"),
        Err("channel limit: there are 2; delete some or raise --max-channels".into())
    );
    assert_eq!(
        sub("v", "c"),
        Err("topic limit: there are 2; delete some or raise --max-topics".into())
    );
}

#[test]
fn touch_ends_at_max_msg_timeout() {
    let max = Duration::from_secs(100);
    let (mut core, start) = (core(|config| config.max_msg_timeout = max), Instant::now());
    consumer(&mut core, 1, 1, start);
    publish(&mut core, 1, start);
    let id = pull(&mut core, 1, start)[0].0;
    core.touch(1, MessageId::from_u64(id), start + Duration::from_secs(50)).unwrap();
    core.tick(start + Duration::from_secs(99), 10);
    assert_eq!(finish(&mut core, 1, id + 1), Err(InFlightError::NotInFlight));
    core.tick(start + max, 10);
    assert_eq!(finish(&mut core, 1, id), Err(InFlightError::NotInFlight));
    assert_eq!(pull(&mut core, 1, start + max), [(id, 2)]);
    core.disconnect(1);
    consumer(&mut core, 2, 1, start);
    assert_eq!(pull(&mut core, 2, start), [(id, 3)]);
}

/// A consumer's messages are in flight in runs of 64; a run of which a tick takes a part keeps its deadline.
#[test]
fn a_tick_handles_no_more_messages_than_it_may() {
    let (mut core, start) = (core(|_| ()), Instant::now());
    consumer(&mut core, 1, 1000, start);
    for _ in 0..3 {
        publish(&mut core, 64, start);
    }
    let ids: Vec<u64> = pull(&mut core, 1, start).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 192);
    finish(&mut core, 1, ids[10]).unwrap();
    let due = start + TIMEOUT;
    for (more, timed_out, in_flight) in [(true, 100, 91), (false, 191, 0)] {
        assert_eq!(core.tick(due, 100), more);
        let channel = core.stats(&StatsFilter::default()).topics.unwrap()[0].channels.remove(0);
        assert_eq!((channel.timeout_count, channel.in_flight_count), (timed_out, in_flight));
    }
    let again: Vec<(u64, u16)> = pull(&mut core, 1, due);
    let unfinished = ids.iter().filter(|id| **id != ids[10]).map(|id| (*id, 2));
    assert_eq!(again, unfinished.collect::<Vec<_>>());
    assert_eq!(core.next_deadline(), Some(due + TIMEOUT));
}

#[test]
fn attempts_wrap() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    consumer(&mut core, 1, 1, now);
    publish(&mut core, 1, now);
    for attempts in (1..=u16::MAX).chain([0, 1]) {
        let got = pull(&mut core, 1, now);
        assert_eq!(got[0].1, attempts);
        core.requeue(1, MessageId::from_u64(got[0].0), Duration::ZERO, now).unwrap();
    }
}

#[test]
fn a_delay_counts_from_the_publish_also_while_there_is_no_channel() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    let delay = Duration::from_secs(10);
    for _ in 0..2 {
        core.publish(None, &topic("t"), batch(1), delay, now, 0).unwrap();
    }
    assert_eq!(core.stats(&StatsFilter::default()).topics.unwrap()[0].depth, 2);
    consumer(&mut core, 1, 5, now + delay / 2);
    assert_eq!(pull(&mut core, 1, now + delay / 2), []);
    assert!(core.take_effects().sooner);
    assert_eq!(core.next_deadline(), Some(now + delay));
    assert!(!core.tick(now + delay, 10));
    assert_eq!(woken(&mut core), [1]);
    assert_eq!(pull(&mut core, 1, now + delay).len(), 2);
}

#[test]
fn a_sample_is_exact_and_the_rest_is_dropped() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    for (id, rate) in [(1, 1), (2, 50), (3, 99)] {
        core.connect(id, String::new(), UnixMs(0));
        core.identify(
            id,
            Identity { sample_rate: rate, msg_timeout: TIMEOUT, ..Default::default() },
        );
        core.subscribe(id, &topic("t"), &channel("c"), now).unwrap();
        core.set_ready(id, 65_535);
        publish(&mut core, 20_000, now);
        let mut got = 0;
        while let count @ 1.. = pull(&mut core, id, now).len() {
            got += count;
        }
        let want = 200 * usize::from(rate);
        assert!(got.abs_diff(want) < 300, "{got} of 20000 at {rate} %");
        core.disconnect(id);
        core.empty_channel(&topic("t"), &channel("c")).unwrap();
        core.take_effects();
        assert_eq!(core.used(), 0);
    }
}

/// Depth and drops of the channel `name` of `t`.
fn fill_of(core: &Core, name: &str) -> (usize, u64, u64) {
    let stats = core.stats(&StatsFilter { topic: "t", ..StatsFilter::default() });
    let channels = &stats.topics.unwrap()[0].channels;
    let channel = channels.iter().find(|channel| channel.channel_name == name).unwrap();
    (channel.depth, channel.message_count, channel.dropped_count)
}

#[test]
fn an_unread_ephemeral_channel_drops_what_is_too_much() {
    let (mut core, now) = (core(|_| ()), Instant::now());
    core.create_channel(&topic("t"), &channel("kept"), now).unwrap();
    core.create_channel(&topic("t"), &channel("x#ephemeral"), now).unwrap();
    (0..7).for_each(|_| publish(&mut core, 1500, now));
    // A part of the last batch still fits.
    assert_eq!(fill_of(&core, "x#ephemeral"), (10_000, 10_500, 500));
    assert_eq!(fill_of(&core, "kept"), (10_500, 10_500, 0));
    let later = Duration::from_secs(9);
    core.publish(None, &topic("t"), batch(1), later, now, 0).unwrap();
    assert_eq!(fill_of(&core, "x#ephemeral"), (10_000, 10_501, 501));
    // One that is made later gets as much of what waits in the topic.
    core.pause_topic(&topic("t")).unwrap();
    (0..7).for_each(|_| publish(&mut core, 1500, now));
    core.create_channel(&topic("t"), &channel("y#ephemeral"), now).unwrap();
    core.unpause_topic(&topic("t"), now).unwrap();
    assert_eq!(fill_of(&core, "y#ephemeral"), (10_000, 10_500, 500));
}

#[test]
fn mem_queue_size_is_an_ephemeral_channels_limit_too_and_refuses_nobody() {
    let (mut core, now) = (core(|config| config.mem_queue_size = 5), Instant::now());
    core.create_channel(&topic("t"), &channel("x#ephemeral"), now).unwrap();
    (0..3).for_each(|_| publish(&mut core, 2, now));
    assert_eq!(fill_of(&core, "x#ephemeral"), (5, 6, 1));
    let name = topic("u#ephemeral");
    for _ in 0..3 {
        core.publish(None, &name, batch(2), Duration::ZERO, now, 0).unwrap();
    }
    let stats = core.stats(&StatsFilter { topic: "u#ephemeral", ..StatsFilter::default() });
    let told = &stats.topics.unwrap()[0];
    assert_eq!((told.depth, told.message_count, told.dropped_count), (5, 6, 1));
}

/// Large bodies reach the memory's limit long before that of messages.
#[test]
fn what_waits_in_ephemeral_places_is_dropped_before_a_publish_is_refused() {
    let (mut core, now) = (core(|config| config.max_memory = 100_000), Instant::now());
    core.create_channel(&topic("t"), &channel("x#ephemeral"), now).unwrap();
    let send = |core: &mut Core, name: &str| {
        let batch = NewBatch::one(&[7; 10_000]);
        core.publish(None, &topic(name), batch, Duration::ZERO, now, 0)
    };
    (0..100).for_each(|_| send(&mut core, "t").unwrap());
    let (depth, sent, dropped) = fill_of(&core, "x#ephemeral");
    assert_eq!((sent, dropped), (100, 100 - depth as u64));
    (0..100).for_each(|_| send(&mut core, "u#ephemeral").unwrap());
    // A lasting topic fills up, and only that refuses.
    let kept = (0..100).take_while(|_| send(&mut core, "v").is_ok()).count();
    assert_eq!(kept, 9);
    assert_eq!(fill_of(&core, "x#ephemeral").0, 0);
    assert!(core.used() <= 100_000);
    consumer_of(&mut core, "v", now);
    let got = pull(&mut core, 9, now);
    got.iter().for_each(|(id, _)| finish(&mut core, 9, *id).unwrap());
    assert_eq!(core.used(), 0);
}

fn consumer_of(core: &mut Core, name: &str, now: Instant) {
    core.connect(9, "10.0.0.1:5".into(), UnixMs(0));
    core.subscribe(9, &topic(name), &channel("c"), now).unwrap();
    core.set_ready(9, 1000);
}
