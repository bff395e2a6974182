//! How often is told how far the channels of a topic are (pure).

use std::time::Duration;

/// How often it is: what was finished since may be delivered again after a kill.
pub(super) const KEEP_EVERY: Duration = Duration::from_millis(100);

/// So many exceptions are told every [`KEEP_EVERY`]; of more, all are told less often.
const EXCEPTIONS_OFTEN: usize = 10_000;

/// The longest that nothing is told of a topic in which something has happened.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// How long nothing is told of a topic after so many exceptions were: each time all of them are collected, sorted and written,
/// while consumers wait. Of 262,144 that is 1.3 MB/s in the log, where it would be 26.
pub(super) fn tell_again_after(exceptions: usize) -> Duration {
    let times = u32::try_from(exceptions / EXCEPTIONS_OFTEN).unwrap_or(u32::MAX);
    KEEP_EVERY.saturating_mul(times).min(TELL_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_told_less_often() {
        for (exceptions, want_ms) in
            [(0, 0), (9_999, 0), (10_000, 100), (25_000, 200), (200_000, 2000), (usize::MAX, 2000)]
        {
            assert_eq!(tell_again_after(exceptions).as_millis(), want_ms, "{exceptions}");
        }
    }
}
