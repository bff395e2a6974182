//! Which threads go first when there is more work than processors.

/// Linux gives such a thread a tenth of the time of one that answers somebody, and lets that one go first when it wakes.
const NICE: i32 = 10;

/// From now on the calling thread leaves the processors to those that answer somebody. For upkeep that nobody waits for.
pub(crate) fn yield_to_others() {
    // On Linux it is the thread's own. One that may not stays as it is, and is no worse for it.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("a thread keeps its priority: {error}");
    }
}
