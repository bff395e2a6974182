//! What the parts say of themselves: how much is published, counted, shown and waiting, and how fast.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};
use ureq::Agent;

use crate::http::get;
use crate::name::{Kind, Name};
use crate::parts::{Cluster, TOPIC};

/// Sums of one moment; of a part that does not answer, nothing.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    at: Instant,
    /// Messages that each nsqd has taken since its start.
    published: Vec<Option<u64>>,
    /// Messages that wait at the nsqds, in flight or not.
    pub(crate) waiting: Option<u64>,
    /// Plays that each processor has counted, as the first dashboard that answers was told.
    counted: Option<u64>,
    /// Plays that each dashboard shows.
    pub(crate) shown: Vec<Option<u64>>,
    /// Transactions of the database since its start.
    commits: Option<u64>,
}

impl Figures {
    pub(crate) fn take(cluster: &Cluster, agent: &Agent, commits: Option<u64>) -> Self {
        let nsqds: Vec<Option<Queue>> =
            cluster.of_kind(Kind::Nsqd).map(|name| Queue::of(cluster, agent, name).ok()).collect();
        let dashboards: Vec<Name> = cluster.of_kind(Kind::Dashboard).collect();
        let counted = dashboards.iter().find_map(|name| counted(cluster, agent, *name).ok());
        Self {
            at: Instant::now(),
            published: nsqds.iter().map(|queue| Some(queue.as_ref()?.published)).collect(),
            waiting: nsqds.iter().map(|queue| Some(queue.as_ref()?.waiting)).sum(),
            counted,
            shown: dashboards.iter().map(|name| shown(cluster, agent, *name).ok()).collect(),
            commits,
        }
    }

    /// The names of what [`Rates`] shows.
    pub(crate) fn head(&self) -> String {
        let of = |index| format!("{:>12}", format!("dashboard-{index}"));
        let dashboards: String = (1..=self.shown.len()).map(of).collect();
        format!(
            "{:>12}{:>12}{dashboards}{:>12}{:>12}",
            "published", "counted", "waiting", "commits"
        )
    }
}

/// What an nsqd has of the plays.
struct Queue {
    published: u64,
    waiting: u64,
}

impl Queue {
    fn of(cluster: &Cluster, agent: &Agent, name: Name) -> Result<Self> {
        let at = cluster.place_of(name).http;
        let stats = get(agent, at, &format!("/stats?format=json&topic={TOPIC}"))?;
        let topic = &stats["topics"][0];
        let channel = &topic["channels"][0];
        let waits =
            ["depth", "in_flight_count", "deferred_count"].map(|what| channel[what].as_u64());
        let waiting: Option<u64> = waits.into_iter().chain([topic["depth"].as_u64()]).sum();
        let published = topic["message_count"].as_u64();
        Ok(Self {
            published: published.context("a topic")?,
            waiting: waiting.context("a channel")?,
        })
    }
}

fn counted(cluster: &Cluster, agent: &Agent, dashboard: Name) -> Result<u64> {
    let answer = get(agent, cluster.place_of(dashboard).listens, "/api/processors")?;
    let processors = answer["processors"].as_array().context("processors")?;
    Ok(processors.iter().filter_map(|of| of["counted"].as_u64()).sum())
}

/// Plays that a dashboard shows in all.
pub(crate) fn shown(cluster: &Cluster, agent: &Agent, dashboard: Name) -> Result<u64> {
    let answer = get(agent, cluster.place_of(dashboard).listens, "/api/counts?limit=1")?;
    answer["total_plays"].as_u64().context("total_plays")
}

/// What has changed from one moment to another, a second.
pub(crate) struct Rates<'a>(pub(crate) &'a Figures, pub(crate) &'a Figures);

impl fmt::Display for Rates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(before, now) = self;
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        // A part that was started again counts from 0.
        let rate = |before: Option<u64>, now: Option<u64>| match (before, now) {
            (Some(before), Some(now)) => {
                Some((now.saturating_sub(before) as f64 / seconds).round() as u64)
            }
            _ => None,
        };
        let mut show = |value: Option<u64>| match value {
            Some(value) => write!(f, "{value:>12}"),
            None => write!(f, "{:>12}", "-"),
        };
        let nsqds = before.published.iter().zip(&now.published);
        show(Some(nsqds.filter_map(|(before, now)| rate(*before, *now)).sum()))?;
        show(rate(before.counted, now.counted))?;
        for (before, now) in before.shown.iter().zip(&now.shown) {
            show(rate(*before, *now))?;
        }
        show(now.waiting)?;
        show(rate(before.commits, now.commits))
    }
}
