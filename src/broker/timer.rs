//! Keeps the deadlines and joins connections that have ended, on the thread `broker-timer`.

use std::time::Instant;

use crossbeam_channel::{never, select};

use super::hub::{Hub, TimerInbox};

/// Messages timed out or delivered under one lock: a few hundred microseconds.
const TICK_MAX: usize = 2048;

/// Times messages out, delivers deferred ones, and joins connections that have ended, until the hub's stop.
pub(super) fn timer_loop(hub: &Hub, inbox: &TimerInbox) {
    loop {
        let (again, next) = hub.with_core(|core| {
            let again = core.tick(Instant::now(), TICK_MAX);
            (again, core.next_deadline())
        });
        let alarm = match next {
            _ if again => crossbeam_channel::at(Instant::now()),
            Some(next) => crossbeam_channel::at(next),
            None => never(),
        };
        select! {
            recv(hub.stop.channel()) -> _ => return,
            recv(inbox.sooner) -> _ => {}
            recv(inbox.ended) -> id => {
                let connection = id.ok().and_then(|id| hub.connections.lock().remove(&id));
                // Joins, at once: reporting was the last thing it did.
                drop(connection);
            }
            recv(alarm) -> _ => {}
        }
    }
}
