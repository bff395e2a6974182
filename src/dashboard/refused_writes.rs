//! Which writes the dashboard has refused lately, because nobody who may write sent them: for its status line (pure).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::runtime::links::{LinkState, PartLink};

/// For how long after the newest one writes are being refused: who publishes tries again every few seconds.
const LASTS: Duration = Duration::from_secs(60);

/// What was refused.
#[derive(Debug, Default)]
pub(super) struct RefusedWrites {
    /// Why, of the first one since the last pause, and when the newest one came.
    newest: Option<(String, Instant)>,
    /// How often it began after a pause.
    times: u64,
}

impl RefusedWrites {
    /// Takes that `call`, `POST /api/counts`, was refused for that reason.
    pub(super) fn add(&mut self, call: &str, from: Option<IpAddr>, reason: &str, now: Instant) {
        if let Some((_, at)) = &mut self.newest
            && now.saturating_duration_since(*at) < LASTS
        {
            *at = now;
            return;
        }
        let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
        self.newest = Some((format!("{call}{from}: {reason}"), now));
        self.times += 1;
    }

    /// What a status line says of it; `None`: nothing was ever refused.
    pub(super) fn link(&self, now: Instant) -> Option<(PartLink, LinkState)> {
        let (reason, at) = self.newest.as_ref()?;
        let away = (now.saturating_duration_since(*at) < LASTS).then(|| reason.clone());
        Some((PartLink::Writers, LinkState { away, losses: self.times, is_news: false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_lasts_as_long_as_somebody_tries() {
        let mut refused = RefusedWrites::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(refused.link(began), None);
        let from = Some(IpAddr::from([192, 0, 2, 7]));
        for second in [0, 50, 100] {
            refused.add("POST /api/counts", from, "no token", at(second));
        }
        refused.add("POST /api/ledgers", None, "another", at(110));
        let state = |seconds| refused.link(at(seconds)).unwrap().1;
        let reason = "POST /api/counts from 192.0.2.7: no token";
        assert_eq!((state(169).away.as_deref(), state(169).losses), (Some(reason), 1));
        assert_eq!(state(170).away, None);
        refused.add("POST /api/ledgers", None, "another", at(200));
        let (link, state) = refused.link(at(201)).unwrap();
        assert_eq!(link, PartLink::Writers);
        assert_eq!((state.away.as_deref(), state.losses), (Some("POST /api/ledgers: another"), 2));
    }
}
