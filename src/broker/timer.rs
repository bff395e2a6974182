//! Keeps the deadlines and joins connections that have ended, on the thread `broker-timer`.

use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::hub::{Hub, TimerInbox};
use crate::runtime::watchdog::Work;

/// Messages timed out or delivered under one lock: a few hundred microseconds.
const TICK_MAX: usize = 2048;

/// How often the lock is taken though there is no deadline: so that one which nobody gives back is found by the watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Times messages out, delivers deferred ones, and joins connections that have ended, until the hub's stop.
pub(super) fn timer_loop(hub: &Hub, inbox: &TimerInbox) {
    // It takes the lock that every command takes.
    let work = Work::new("the deadlines of the broker's messages");
    loop {
        let begun = work.begin();
        let (again, next) = hub.with_core(|core| {
            let again = core.tick(Instant::now(), TICK_MAX);
            (again, core.next_deadline())
        });
        drop(begun);
        let alarm = match next {
            _ if again => crossbeam_channel::at(Instant::now()),
            next => {
                let look = Instant::now() + LOOK_EVERY;
                crossbeam_channel::at(next.map_or(look, |next| next.min(look)))
            }
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
