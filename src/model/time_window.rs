//! Which times of a play are believed (pure): producers' clocks are wrong by seconds and by centuries, and one such time
//! would stand in a mean, or as the last play, for ever.

use std::time::Duration;

/// How far a play's time may lie from now, by our clock. What lies outside is no time to calculate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// Before now; [`TimeWindow::BACK`] by default.
    pub back: Duration,
    /// After now; [`TimeWindow::AHEAD`] by default.
    pub ahead: Duration,
}

/// How a time lies outside the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// Before it.
    Behind,
    /// After it.
    Ahead,
}

/// What is believed of a play's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayTimes {
    /// When it was played, in ns since the Unix epoch; never later than now.
    pub played_at_ns: u64,
    /// From when on it waited to be counted, in ns since the Unix epoch; `None` where no time in the window says so.
    pub waited_from_ns: Option<u64>,
    /// A time that lies outside the window, in ns since the Unix epoch, and how.
    pub skewed: Option<(u64, Skew)>,
}

impl Default for TimeWindow {
    fn default() -> Self {
        Self { back: Self::BACK, ahead: Self::AHEAD }
    }
}

impl TimeWindow {
    /// Longer than a queue is left alone.
    pub const BACK: Duration = Duration::from_secs(7 * 86_400);

    /// More than clocks that anybody looks after are apart.
    pub const AHEAD: Duration = Duration::from_secs(60);

    /// What is believed: the producer's time, unless it is missing, later than now or outside the window. Then it is the
    /// time at which nsqd took the message, and now where that is later.
    pub fn times(&self, enqueued_at_ns: Option<u64>, nsqd_ns: i64, now_ns: u64) -> PlayTimes {
        let Some(enqueued) = enqueued_at_ns else { return self.times_of_nsqd(nsqd_ns, now_ns) };
        match self.skew(enqueued, now_ns) {
            None if enqueued <= now_ns => {
                PlayTimes { played_at_ns: enqueued, waited_from_ns: Some(enqueued), skewed: None }
            }
            // A clock that is a little ahead: it cannot have waited for less than no time.
            None => self.times_of_nsqd(nsqd_ns, now_ns),
            Some(skew) => PlayTimes {
                waited_from_ns: None,
                skewed: Some((enqueued, skew)),
                ..self.times_of_nsqd(nsqd_ns, now_ns)
            },
        }
    }

    fn times_of_nsqd(&self, nsqd_ns: i64, now_ns: u64) -> PlayTimes {
        // Before the epoch is as far behind as it gets.
        let nsqd_ns = u64::try_from(nsqd_ns).unwrap_or(0);
        let skew = self.skew(nsqd_ns, now_ns);
        let played_at_ns = if nsqd_ns == 0 { now_ns } else { nsqd_ns.min(now_ns) };
        PlayTimes {
            played_at_ns,
            waited_from_ns: skew.is_none().then_some(played_at_ns),
            skewed: skew.map(|skew| (nsqd_ns, skew)),
        }
    }

    fn skew(&self, time_ns: u64, now_ns: u64) -> Option<Skew> {
        let ns = |duration: Duration| {
            let whole = duration.as_secs().saturating_mul(1_000_000_000);
            whole.saturating_add(duration.subsec_nanos().into())
        };
        if time_ns > now_ns.saturating_add(ns(self.ahead)) {
            Some(Skew::Ahead)
        } else if time_ns < now_ns.saturating_sub(ns(self.back)) {
            Some(Skew::Behind)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;

    /// Of a play with these times: when it was played, from when on it waited, what is skewed.
    #[track_caller]
    fn check(
        enqueued_at_ns: Option<u64>,
        nsqd_ns: u64,
        played: u64,
        waited: Option<u64>,
        skewed: Option<(u64, Skew)>,
    ) {
        let times = TimeWindow::default().times(enqueued_at_ns, nsqd_ns as i64, NOW);
        let want = PlayTimes { played_at_ns: played, waited_from_ns: waited, skewed };
        assert_eq!(times, want);
    }

    #[test]
    fn the_best_time_is_taken() {
        let (second, day) = (NOW - SECOND, NOW - DAY);
        // The producer's.
        check(Some(second), day, second, Some(second), None);
        check(Some(NOW), day, NOW, Some(NOW), None);
        check(Some(NOW - 7 * DAY), day, NOW - 7 * DAY, Some(NOW - 7 * DAY), None);
        // nsqd's, without one or where it is a little ahead.
        check(None, second, second, Some(second), None);
        check(Some(NOW + 1), second, second, Some(second), None);
        check(Some(NOW + 60 * SECOND), second, second, Some(second), None);
        // Now, where nsqd's is a little ahead as well.
        check(None, NOW + SECOND, NOW, Some(NOW), None);
        check(Some(NOW + SECOND), NOW + 2 * SECOND, NOW, Some(NOW), None);
    }

    #[test]
    fn what_lies_outside_the_window_is_not_calculated_with() {
        let second = NOW - SECOND;
        let ahead = NOW + 60 * SECOND + 1;
        check(Some(ahead), second, second, None, Some((ahead, Skew::Ahead)));
        check(Some(u64::MAX), second, second, None, Some((u64::MAX, Skew::Ahead)));
        let behind = NOW - 7 * DAY - 1;
        check(Some(behind), second, second, None, Some((behind, Skew::Behind)));
        check(Some(0), second, second, None, Some((0, Skew::Behind)));
        // nsqd's own. What lay there for long was played then.
        check(None, behind, behind, None, Some((behind, Skew::Behind)));
        check(None, ahead, NOW, None, Some((ahead, Skew::Ahead)));
        check(None, 0, NOW, None, Some((0, Skew::Behind)));
        check(None, i64::MIN as u64, NOW, None, Some((0, Skew::Behind)));
        check(Some(ahead), ahead + 1, NOW, None, Some((ahead, Skew::Ahead)));
    }

    #[test]
    fn a_window_is_as_wide_as_one_says() {
        let window = TimeWindow { back: Duration::from_secs(1), ahead: Duration::MAX };
        let skewed = |ns| window.times(Some(ns), NOW as i64, NOW).skewed.map(|(_, skew)| skew);
        assert_eq!(skewed(NOW - SECOND), None);
        assert_eq!(skewed(NOW - SECOND - 1), Some(Skew::Behind));
        assert_eq!(skewed(u64::MAX), None);
        // A clock before the epoch, as after a boot without one: nothing is later than that.
        let times = window.times(Some(NOW), NOW as i64, 0);
        assert_eq!(times.played_at_ns, 0);
    }
}
