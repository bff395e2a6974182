//! How long things may take on a machine that is busy. The tests of playcounts include this file, too.

use std::time::Duration;

/// How long any step may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A wait that would be a fault: much longer than [`DEADLINE`], so that a test which ends before that has not waited for
/// it, however busy the machine is.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Checks that something takes less than `limit`, of which `measure` gives how long it took. It is measured up to three
/// times: a machine that is busy is slow once, and code that waits too long each time. No time may pass [`DEADLINE`].
#[track_caller]
pub(crate) fn check_takes_less(limit: Duration, mut measure: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    for _ in 0..3 {
        let time = measure();
        assert!(time < DEADLINE, "{time:?} is no matter of a busy machine");
        if time < limit {
            return;
        }
        took.push(time);
    }
    panic!("it took {took:?}, never less than {limit:?}");
}
