//! What the service manager (systemd) is told of this process: that it serves, what it does now, that it lives, that it
//! stops. Any thread may tell. Where no service manager wants to hear it, which is anywhere but in a unit of
//! `Type=notify`, nothing is sent. What the commands are connected to, and the texts, are theirs.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::model::plain_text::PlainText;

/// The part serves from now on. Only the first word of it counts.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// What the part does now, in one line: `systemctl status` shows it.
pub(crate) fn status(text: &str) {
    tell(&[NotifyState::Status(&PlainText::Line(text).to_string())]);
}

/// The part stops in order. Only the first word of it counts.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// None of its work hangs.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// After how long without [`alive`] the service manager ends this process; `None`: it does not.
pub(super) fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

fn tell(news: &[NotifyState<'_>]) {
    // It is said again, or the service manager finds out by itself: no reason to stop.
    if let Err(error) = sd_notify::notify(news) {
        log::warn!("the service manager cannot be told {news:?}: {error}");
    }
}
