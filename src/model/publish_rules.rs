//! Which videos to publish now, and in which messages (pure: `now` is an argument).

use std::time::{Duration, Instant};

use crate::model::counts::ShardedCounts;
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{MAX_COUNTS, VideoCount};

/// The rules of publication to one dashboard, over the counts of a [`ShardedCounts`].
///
/// A batch carries 1 to [`MAX_COUNTS`] videos and only changed ones. A video below the map's `realtime_below` is
/// in the next batch; from there on it is in one batch an interval.
pub struct PublishRules {
    dashboard: DashboardIndex,
    interval: Duration,
    interval_ends: Instant,
}

impl PublishRules {
    /// Rules for that dashboard whose first interval starts `now`; `interval` is more than zero.
    pub fn new(dashboard: DashboardIndex, interval: Duration, now: Instant) -> Self {
        Self { dashboard, interval, interval_ends: now + interval }
    }

    /// The next batch to send; empty when nothing is due before [`PublishRules::interval_ends`] or the next change.
    pub fn next_batch(&mut self, counts: &ShardedCounts, now: Instant) -> Vec<VideoCount> {
        if now >= self.interval_ends {
            counts.release_waiting(self.dashboard);
            let next = self.interval_ends + self.interval;
            // Behind a long pause one interval follows, not all that were missed.
            self.interval_ends = if next > now { next } else { now + self.interval };
        }
        counts.take_due(self.dashboard, MAX_COUNTS)
    }

    /// How long an interval is.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// When the interval ends: the latest time to ask for a batch again.
    pub fn interval_ends(&self) -> Instant {
        self.interval_ends
    }

    /// Makes everything that changed due, as at the end of a run.
    pub fn flush(&mut self, counts: &ShardedCounts) {
        counts.release_waiting(self.dashboard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::video_id::VideoId;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const FIRST: DashboardIndex = DashboardIndex::FIRST;
    const INTERVAL: Duration = Duration::from_secs(30);

    #[derive(Clone, Debug)]
    enum Event {
        Plays {
            video: u128,
            plays: u64,
        },
        Wait(u64),
        /// The publisher comes by and sends all that is due, or all that changed; the dashboard takes it or not.
        Publish {
            flush: bool,
            delivered: bool,
        },
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0u128..60, 1u64..40).prop_map(|(video, plays)| Event::Plays { video, plays }),
            2 => (0u64..20_000).prop_map(Event::Wait),
            5 => (prop::bool::weighted(0.2), prop::bool::weighted(0.8))
                .prop_map(|(flush, delivered)| Event::Publish { flush, delivered }),
        ]
    }

    /// What an observer on both sides knows of one video.
    #[derive(Default)]
    struct Seen {
        plays: u64,
        at_dashboard: u64,
        /// The count last sent, delivered or not.
        sent: u64,
        failed: bool,
    }

    proptest! {
        #[test]
        fn the_rules_hold_over_any_history(events in proptest::collection::vec(any_event(), 1..150)) {
            let start = Instant::now();
            let mut now = start;
            let counts = ShardedCounts::new(100);
            let mut rules = PublishRules::new(FIRST, INTERVAL, now);
            let mut seen: HashMap<VideoId, Seen> = HashMap::new();
            for event in events.iter().chain([&Event::Publish { flush: true, delivered: true }]) {
                match event {
                    Event::Wait(ms) => now += Duration::from_millis(*ms),
                    Event::Plays { video, plays } => {
                        let id = VideoId::from_u128(*video);
                        counts.add(id, *plays, None);
                        seen.entry(id).or_default().plays += plays;
                    }
                    Event::Publish { flush, delivered } => {
                        if *flush {
                            rules.flush(&counts);
                        }
                        let interval_over = now >= rules.interval_ends();
                        let mut failed = Vec::new();
                        loop {
                            let batch = rules.next_batch(&counts, now);
                            if batch.is_empty() {
                                break;
                            }
                            prop_assert!(batch.len() <= MAX_COUNTS);
                            for count in &batch {
                                let video = seen.get_mut(&count.video_id).expect("only videos that were played");
                                prop_assert_eq!(count.plays, video.plays, "the newest count");
                                prop_assert!(count.plays > video.sent || video.failed, "only what changed");
                                let realtime = video.sent + 1 < 100;
                                prop_assert!(realtime || interval_over || *flush || video.failed, "too early");
                                video.sent = count.plays;
                                video.failed = !delivered;
                                if *delivered {
                                    video.at_dashboard = count.plays;
                                }
                            }
                            if !delivered {
                                failed.extend(batch);
                            }
                        }
                        // Behind the pause of a failure they are due again.
                        counts.put_back(FIRST, &failed);
                        prop_assert!(rules.interval_ends() > now, "an interval always lies ahead");
                        for video in seen.values().filter(|_| *delivered) {
                            let below = video.plays < 100;
                            if below || interval_over || *flush {
                                prop_assert_eq!(video.at_dashboard, video.plays, "too late");
                            }
                        }
                    }
                }
            }
            for video in seen.values() {
                prop_assert_eq!(video.at_dashboard, video.plays);
            }
            prop_assert_eq!(counts.unpublished(FIRST), 0);
        }
    }

    #[test]
    fn hundred_videos_make_five_messages() {
        let now = Instant::now();
        let counts = ShardedCounts::new(100);
        let mut rules = PublishRules::new(FIRST, INTERVAL, now);
        for n in 0..100 {
            counts.add(VideoId::from_u128(n), 1, None);
        }
        let sizes: Vec<_> = std::iter::from_fn(|| {
            let batch = rules.next_batch(&counts, now);
            (!batch.is_empty()).then_some(batch.len())
        })
        .collect();
        assert_eq!(sizes, [20; 5]);
    }

    #[test]
    fn from_a_hundred_on_the_interval_counts() {
        let now = Instant::now();
        let counts = ShardedCounts::new(100);
        let mut rules = PublishRules::new(FIRST, INTERVAL, now);
        let mut plays_sent = |now| rules.next_batch(&counts, now).first().map(|count| count.plays);
        let video = VideoId::from_u128(1);
        assert!(counts.add(video, 99, None));
        assert_eq!(plays_sent(now), Some(99));
        assert!(!counts.add(video, 1, None), "a hundred plays wait");
        assert_eq!(plays_sent(now + INTERVAL / 2), None);
        assert_eq!(plays_sent(now + INTERVAL), Some(100));
        assert_eq!(plays_sent(now + 3 * INTERVAL), None, "nothing changed");
        // A video that is first seen past a hundred shows at once: its counts below were due already.
        assert!(counts.add(VideoId::from_u128(2), 500, None));
    }
}
