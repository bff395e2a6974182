//! Sums over several nsqds.

use super::super::tests::stats;
use super::*;

#[test]
fn totals_are_sums_over_the_nsqds_that_have_it() {
    let first = stats(|topic| {
        (topic.depth, topic.backend_depth, topic.paused) = (5, 4, true);
        (topic.channels[0].depth, topic.channels[0].requeue_count) = (7, u64::MAX);
    });
    let second = stats(|topic| {
        topic.depth = 1;
        (topic.channels[0].depth, topic.channels[0].backend_depth) = (i64::MAX, 2);
        (topic.channels[0].requeue_count, topic.channels[0].timeout_count) = (3, 1);
        let mut other = topic.channels[0].clone();
        (other.channel_name, other.paused) = ("other".to_owned(), true);
        topic.channels.push(other);
    });
    let third = stats(|topic| topic.topic_name = "more".to_owned());
    let rate = Rate { rate_in: 2.0, rate_out: 1.0 };
    let place = ("plays".to_owned(), Some("processor".to_owned()));
    let (moving, still) = (Rates(BTreeMap::from([(place, rate)])), Rates::default());
    let told = [(&first, &moving), (&second, &moving), (&third, &still)];
    let totals = totals(told.into_iter());
    let names: Vec<_> = totals
        .iter()
        .map(|total| (&*total.topic_name, total.channel_name.as_deref(), total.nsqds))
        .collect();
    let wanted = [
        ("plays", None, 2),
        ("plays", Some("processor"), 2),
        ("plays", Some("other"), 1),
        ("more", None, 1),
        ("more", Some("processor"), 1),
    ];
    assert_eq!(names, wanted);
    let topic = &totals[0];
    assert_eq!((topic.depth, topic.backend_depth, topic.paused), (6, 4, 1));
    let channel = &totals[1];
    // What no nsqd would tell must not overflow.
    assert_eq!((channel.depth, channel.requeue_count), (i64::MAX, u64::MAX));
    assert_eq!((channel.backend_depth, channel.timeout_count, channel.client_count), (2, 1, 2));
    assert_eq!((channel.rate_in, channel.rate_out, channel.paused), (4.0, 2.0, 0));
}
