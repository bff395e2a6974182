//! How much is logged, changed while the process runs: what was asked for at its start, or one level for all modules.

use std::sync::atomic::{AtomicUsize, Ordering};

use log::LevelFilter;

/// The levels, as [`CHANGED`] counts them from 1 on.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::Off,
    LevelFilter::Error,
    LevelFilter::Warn,
    LevelFilter::Info,
    LevelFilter::Debug,
    LevelFilter::Trace,
];

/// The level that was set, from 1 on; 0: none was.
static CHANGED: AtomicUsize = AtomicUsize::new(0);

/// Logs this much from now on, of all modules.
pub(crate) fn set(level: LevelFilter) {
    let index = LEVELS.iter().position(|known| *known == level).unwrap_or_default();
    CHANGED.store(index + 1, Ordering::Relaxed);
    log::set_max_level(level);
}

/// What was set; `None`: what was asked for at the start holds.
pub(crate) fn changed() -> Option<LevelFilter> {
    let index = CHANGED.load(Ordering::Relaxed).checked_sub(1)?;
    LEVELS.get(index).copied()
}
