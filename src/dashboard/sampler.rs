//! The thread `dash-sampler`: once a second a point of the charts, and an event with each, and between them when counts
//! have changed.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select};
use nsq_protocol::thread::StopToken;

use super::app::App;
use super::calls::stats;
use super::findings;
use super::live::POINTS_MS;
use super::store::MinutePoint;
use super::webhook::Webhook;
use crate::model::unix_time::UnixMs;
use crate::runtime::clock::unix_ms;
use crate::runtime::watchdog::Work;

/// How often a point is recorded, with the queue's depth.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// The least time between two events: four a second look live, more would only cost.
const EVENT_EVERY: Duration = Duration::from_millis(250);

/// Takes up the charts where the last start has left them. Without them the page shows less, and counts all the same.
pub(super) fn remember(app: &App) {
    let now = unix_ms();
    match app.store.minutes(UnixMs(now.0.saturating_sub(POINTS_MS))) {
        Ok(minutes) => app.live.lock().remember(&minutes, now),
        Err(reason) => log::warn!("the charts begin anew: {reason:#}"),
    }
}

/// Runs until stopped; then the minute that is not over is kept.
pub(super) fn run(app: &App, webhook: Option<&Webhook>, changed: &Receiver<()>, stop: &StopToken) {
    // It takes every lock that a call takes.
    let work = Work::new("a point of the dashboard's charts");
    let mut next_point = Instant::now();
    loop {
        let now = Instant::now();
        let begun = work.begin();
        if now >= next_point {
            add_point(app);
            look_for_alarms(app, webhook);
            // A write that took long shifts the points; it does not make them come in a rush.
            next_point = (next_point + SAMPLE_EVERY).max(Instant::now());
        }
        stats::publish(app);
        drop(begun);
        let quiet_until = now + EVENT_EVERY;
        // First the pause, in which changes gather, then whichever comes first.
        if stop.wait_until(quiet_until.min(next_point)) {
            break;
        }
        select! {
            recv(stop.channel()) -> _ => break,
            recv(changed) -> _ => {}
            recv(after(next_point.saturating_duration_since(Instant::now()))) -> _ => {}
        }
    }
    let last = app.live.lock().last_minute(app.store.told());
    keep_minute(app, last);
}

fn add_point(app: &App) {
    if let Some(found) = app.watch.depth() {
        app.live.lock().set_queue(found);
    }
    let plays = app.store.told();
    let ended = app.live.lock().sample(unix_ms(), Instant::now(), plays);
    keep_minute(app, ended);
}

/// Looks what is wrong now, and tells what has begun and ended.
fn look_for_alarms(app: &App, webhook: Option<&Webhook>) {
    let now = Instant::now();
    let waiting = app.watch.depth().and_then(|depth| depth.queue);
    app.alarms.look_at_disk();
    app.alarms.remember(app.live.lock().consumptions(), waiting, now);
    let changes = app.alarms.observe(&findings::all(app), now, unix_ms());
    for alarm in &changes.begun {
        log::warn!("alarm {}: {} {}", alarm.name, alarm.text, alarm.way_out);
    }
    for alarm in &changes.ended {
        log::info!("alarm {} is over", alarm.name);
    }
    if let Some(webhook) = webhook {
        webhook.tell(changes);
    }
}

/// Keeps a minute of the charts. One that cannot be kept is missing from them; health tells why.
fn keep_minute(app: &App, ended: Option<MinutePoint>) {
    if let Some(point) = ended
        && let Err(reason) = app.store.add_point(point)
    {
        log::warn!("a minute of the charts is lost: {reason}");
    }
}
