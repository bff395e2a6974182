//! Named points at which a test build kills itself, as `kill -9` would, at exactly that place; and limits that it makes
//! smaller, so that they are met.
//!
//! `PLAYCOUNTS_FAILPOINT=name` aborts at the first pass, `name:3` at the third. Only builds with debug assertions
//! look; in a release build a point is nothing.

/// Passes the point `name`.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The point to die at, and how many passes are left.
    static CHOSEN: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let setting = std::env::var("PLAYCOUNTS_FAILPOINT").ok()?;
        let (name, pass) = setting.split_once(':').unwrap_or((&setting, "1"));
        Some((name.to_owned(), AtomicU64::new(pass.parse().ok()?)))
    });
    let Some((point, passes)) = chosen else { return };
    if point == name && passes.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
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
