//! Named points at which a test build kills itself, as `kill -9` would, stops, or hangs, at exactly that place; and limits that
//! it makes smaller, so that they are met.
//!
//! `PLAYCOUNTS_FAILPOINT=name` aborts at the first pass, `name:3` at the third; with `PLAYCOUNTS_STOPPOINT` the process stops
//! there until it gets SIGCONT, and with `PLAYCOUNTS_HANGPOINT` the thread that comes there goes no further. Only builds with debug assertions look; in a release build a point is nothing.

/// Passes the point `name`.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// A point, and how many passes are left.
    type Point = OnceLock<Option<(String, AtomicU64)>>;
    /// The point to die at, that to stop at, and that to hang at.
    static CHOSEN: [Point; 3] = [const { OnceLock::new() }; 3];
    let is_reached = |point: &Point, variable: &str| {
        let chosen = point.get_or_init(|| {
            let setting = std::env::var(variable).ok()?;
            let (name, pass) = setting.split_once(':').unwrap_or((&setting, "1"));
            Some((name.to_owned(), AtomicU64::new(pass.parse().ok()?)))
        });
        let Some((point, passes)) = chosen else { return false };
        point == name && passes.fetch_sub(1, Ordering::Relaxed) == 1
    };
    if is_reached(&CHOSEN[0], "PLAYCOUNTS_FAILPOINT") {
        std::process::abort();
    }
    if is_reached(&CHOSEN[1], "PLAYCOUNTS_STOPPOINT") {
        // It is this process, and may be stopped.
        let _ = kill_process(getpid(), Signal::STOP);
        // Another thread may get the signal: it stops this one a moment later.
        let _ =
            crossbeam_channel::never::<()>().recv_timeout(std::time::Duration::from_millis(100));
    }
    if is_reached(&CHOSEN[2], "PLAYCOUNTS_HANGPOINT") {
        let _ = crossbeam_channel::never::<()>().recv();
    }
}

/// Passes the point `name`.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Whether a step that is named so is left out, to see that what it is for is lost without it: in a build with debug
/// assertions, where `PLAYCOUNTS_LEAVE_OUT` names it.
pub fn is_left_out(name: &str) -> bool {
    cfg!(debug_assertions) && std::env::var("PLAYCOUNTS_LEAVE_OUT").is_ok_and(|left| left == name)
}

/// A limit: in a build with debug assertions the environment's variable of that name, if it is a number; else `limit`.
pub fn limit(name: &str, limit: usize) -> usize {
    let chosen = cfg!(debug_assertions).then(|| std::env::var(name).ok()?.parse().ok());
    chosen.flatten().unwrap_or(limit)
}
