//! Which start of the machine this is.

use uuid::Uuid;

/// The present start of the machine, as the kernel names it; nil where that cannot be read, and then it is never to be
/// taken for the one of before: two that are not known are two.
pub fn boot_id() -> Uuid {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().parse().unwrap_or_default()
}
