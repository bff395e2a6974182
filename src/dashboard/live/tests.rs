//! Reports in, points and figures out.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::points::{Measure, POINTS, POINTS_MS};
use super::reports::{FRESH, Live, PROCESSORS, REASON_MAX};
use crate::dashboard::nsqds::Depth;
use crate::dashboard::store::MinutePoint;
use crate::model::time_buckets::{bucket_of, middle_us};
use crate::model::unix_time::UnixMs;
use crate::nsqd::depth::QueueDepth;
use crate::wire::{Consumption, ConsumptionHistogram, ConsumptionTimes};

fn told(per_second: f64, realtime_ms: f64, counted: u64, mean: f64) -> Option<Consumption> {
    Some(Consumption {
        counted,
        per_second,
        realtime_ms: Some(realtime_ms),
        since_start: Some(ConsumptionTimes { mean, ..ConsumptionTimes::default() }),
        ..Consumption::default()
    })
}

#[test]
fn a_point_weighs_the_fresh_reports_and_leaves_out_the_stale() {
    let mut live = Live::default();
    let start = Instant::now();
    live.report(Uuid::from_u128(1), Some(1), told(30.0, 10.0, 100, 4.0), start);
    live.report(Uuid::from_u128(2), None, told(10.0, 50.0, 300, 8.0), start);
    let queue = Some(QueueDepth { depth: 7, in_flight: 1, deferred: 0 });
    live.set_queue(Depth { queue, ..Depth::default() });
    live.sample(UnixMs(1_000), start, 0);
    // Counts alone do not make a rate fresh.
    live.report(Uuid::from_u128(2), Some(9), None, start + FRESH);
    live.set_queue(Depth { error: Some("nsqd is gone".to_owned()), ..Depth::default() });
    live.sample(UnixMs(2_000), start + FRESH, 0);
    assert_eq!(
        json!(live.series(&Measure::ALL.map(|(_, measure)| measure), UnixMs(0))),
        json!({
            "seconds_from": 1_000,
            "time": [1_000, 2_000],
            "messages_per_second": [40.0, 0.0],
            "realtime_ms": [20.0, null],
            "average_ms": [7.0, 7.0],
            "p50_ms": [null, null],
            "p99_ms": [null, null],
            "queue_depth": [7, null],
        })
    );
    assert_eq!(
        json!(live.series(&[Measure::QueueDepth], UnixMs(1_000))),
        json!({"seconds_from": 1_000, "time": [2_000], "queue_depth": [null]})
    );
    assert_eq!(json!(live.stats(start + FRESH))["queue_error"], "nsqd is gone");
}

#[test]
fn minutes_of_before_a_restart_come_first_and_go_after_half_an_hour() {
    let minute = |minute| MinutePoint {
        minute,
        messages_per_second: 7.5,
        queue_depth: Some(3),
        ..MinutePoint::default()
    };
    let mut live = Live::default();
    let now = UnixMs(60_000 * 100 + 5_000);
    // The one that goes on is told as of now, and one of the future is not believed.
    live.remember(&[minute(80), minute(99), minute(100), minute(101)], now);
    let times = |live: &Live| json!(live.series(&[Measure::QueueDepth], UnixMs(0)));
    assert_eq!(
        times(&live),
        json!({"seconds_from": null, "time": [4_830_000, 5_970_000, 6_005_000], "queue_depth": [3, 3, 3]})
    );
    let start = Instant::now();
    live.sample(UnixMs(now.0 + 1_000), start, 0);
    assert_eq!(
        times(&live),
        json!({
            "seconds_from": 6_006_000, "time": [4_830_000, 5_970_000, 6_005_000, 6_006_000],
            "queue_depth": [3, 3, 3, null],
        })
    );
    live.sample(UnixMs(4_830_000 + POINTS_MS), start, 0);
    assert_eq!(times(&live)["time"], json!([5_970_000, 6_005_000, 6_006_000, 6_630_000]));
}

#[test]
fn processors_points_and_texts_are_bounded() {
    let mut live = Live::default();
    let start = Instant::now();
    for id in 0..200u64 {
        let told =
            Consumption { last_rejection: Some("é".repeat(1_000)), ..Consumption::default() };
        live.report(
            Uuid::from_u128(u128::from(id)),
            None,
            Some(told),
            start + Duration::from_secs(id),
        );
    }
    assert_eq!(live.processors.len(), PROCESSORS);
    let newest = &live.processors[&Uuid::from_u128(199)];
    let text = newest.consumption.as_ref().unwrap().last_rejection.as_ref().unwrap();
    assert_eq!(text.chars().count(), REASON_MAX);
    for time in 0..3_000 {
        live.sample(UnixMs(time), start, 0);
    }
    assert_eq!(live.points.len(), POINTS);
    assert_eq!(live.last_point().unwrap().time, UnixMs(2_999));
}

#[test]
fn percentiles_are_those_of_the_second_and_of_the_minute() {
    let mut live = Live::default();
    let start = Instant::now();
    let tell = |live: &mut Live, fast: u64, slow: u64| {
        // The fast ones took 4 ms, the slow ones 139 s.
        let fine = [(bucket_of(4_000), fast), (bucket_of(139_000_000), slow)];
        let fine = fine.into_iter().filter(|(_, times)| *times > 0).collect();
        let histogram =
            ConsumptionHistogram { fine, count: fast + slow, ..ConsumptionHistogram::default() };
        let since_start = Some(ConsumptionTimes { p99: 1.0, ..ConsumptionTimes::default() });
        let histogram = Some(Box::new(histogram));
        let told = Consumption { since_start, histogram, ..Consumption::default() };
        live.report(Uuid::from_u128(1), None, Some(told), start);
    };
    tell(&mut live, 100, 0);
    assert_eq!(live.sample(UnixMs(0), start, 10), None);
    let point = |live: &Live| live.last_point().map(|point| (point.p50_ms, point.p99_ms)).unwrap();
    let middle = |us| Some(middle_us(bucket_of(us)) / 1000.0);
    let (fast, slow) = (middle(4_000), middle(139_000_000));
    assert!((slow.unwrap() - 139_000.0).abs() < 139_000.0 * 0.02);
    assert_eq!(point(&live), (fast, fast));
    tell(&mut live, 100, 100);
    live.sample(UnixMs(1_000), start, 20);
    assert_eq!(point(&live), (slow, slow));
    assert_eq!(live.p99_ms(), slow);
    live.sample(UnixMs(2_000), start, 25);
    assert_eq!(point(&live), (None, None));
    // It started again.
    tell(&mut live, 4, 0);
    live.sample(UnixMs(3_000), start, 30);
    assert_eq!(point(&live).0, fast);
    let since_start = Some(ConsumptionTimes { p99: 1.0, ..ConsumptionTimes::default() });
    let mean = Consumption { realtime_ms: Some(1.0), since_start, ..Consumption::default() };
    live.report(Uuid::from_u128(1), None, Some(mean), start);
    live.sample(UnixMs(4_000), start, 30);
    assert_eq!(point(&live), (fast, fast), "no new times: those before hold, like the mean");
    let minute = live.sample(UnixMs(60_000), start, 110).unwrap();
    assert_eq!((minute.minute, minute.plays), (0, 100));
    assert_eq!((minute.p50_ms, minute.p99_ms), (fast, slow));
    // One of an older version beside it: what that one says is exact.
    live.report(Uuid::from_u128(2), None, told(1.0, 1.0, 1, 1.0), start);
    assert_eq!(live.p99_ms(), Some(1.0));
    assert_eq!(live.last_minute(115).unwrap().plays, 5);
    assert_eq!(live.last_minute(115), None);
}
