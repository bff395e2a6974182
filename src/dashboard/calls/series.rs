//! `/api/series` and `/api/counts/…/series`: the charts, and one video's plays over time.

use schemars::JsonSchema;
use serde::Serialize;

use super::counts::VIDEO_ID;
use super::period::{self, FROM, SCALE, TO};
use crate::dashboard::answer::{CallError, CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::live::{LiveSeries, Measure};
use crate::dashboard::operation::{JSON, Operation, PLAIN, USUAL_OR_UNKNOWN, of};
use crate::dashboard::query::{Call, ChoiceParam, ChoicesParam, MomentParam};
use crate::dashboard::store::{BUCKETS_MAX, Period, Points, Scale};
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::runtime::clock::unix_ms;

const DAY_MS: i64 = 86_400_000;

static NAME: ChoicesParam<Measure> = ChoicesParam(ChoiceParam {
    name: "name",
    about: "only these; repeatable",
    values: &Measure::ALL,
    allowed: "one of messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth",
});

static SINCE: MomentParam = MomentParam { name: "since", about: "only later points" };

pub(in super::super) const CHARTS: Operation = Operation {
    id: "getSeries",
    summary: "The charts: without from and to those of the last 30 minutes, a point a second; with them stored ones, up to 720 points of whole minutes",
    parameters: &[&NAME, &SINCE, &FROM, &TO],
    success: "a list of times, and one of values for each name",
    media: &[(JSON, of::<Charts>)],
    ..PLAIN
};

pub(in super::super) const OF_VIDEO: Operation = Operation {
    id: "getVideoSeries",
    summary: "A video's plays by minute, hour or day",
    parameters: &[&VIDEO_ID, &SCALE, &FROM, &TO],
    success: "only points with plays, of those that are kept",
    media: &[(JSON, of::<VideoSeries>)],
    refusals: USUAL_OR_UNKNOWN,
    ..PLAIN
};

/// Those of the present, or of a period.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(in super::super) enum Charts {
    /// Without `from` and `to`.
    Live(LiveSeries),
    /// With one of them.
    Stored(Points),
}

/// A video's plays over time, as columns.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct VideoSeries {
    scale: Scale,
    /// How long a point is.
    step_ms: i64,
    /// Since when all plays are known by this scale: they were recorded, of whichever video, and are still kept.
    kept_from: UnixMs,
    /// When each point begins.
    time: Vec<UnixMs>,
    /// The plays in each point.
    plays: Vec<i64>,
}

/// How long a series' buckets are, and (start, plays) of each.
pub(super) type Buckets = (Scale, Vec<(UnixMs, i64)>);

/// A video's plays in each bucket of the call's period.
pub(super) fn buckets(app: &App, call: Call<'_>, id: VideoId) -> Result<Buckets, CallError> {
    if app.store.shown_video(id).is_none() {
        return Err(CallError::no_video(id));
    }
    let scale = SCALE.read(call)?;
    let (from, to) = period::read(call, unix_ms(), i64::MAX)?;
    let kept = app.store.kept(scale).map_err(|error| CallError::unreadable(&error))?;
    let Some(period) = Period::of(scale, from, to).within(kept) else {
        return Ok((scale, Vec::new()));
    };
    if period.buckets() > BUCKETS_MAX {
        return Err(CallError::bad_request(format!(
            "a series spans at most {BUCKETS_MAX} points, not {}; ask for a shorter one, or a larger scale",
            period.buckets()
        )));
    }
    let series = app.store.series(id, scale, period);
    Ok((scale, series.map_err(|error| CallError::unreadable(&error))?))
}

pub(in super::super) fn of_video(app: &App, call: Call<'_>) -> CallResult {
    let id = VIDEO_ID.read(call)?;
    let (scale, series) = buckets(app, call, id)?;
    let (time, plays) = series.into_iter().unzip();
    let kept_from = app.store.known_from(scale).map_err(|error| CallError::unreadable(&error))?;
    json(&VideoSeries { scale, step_ms: scale.step_ms(), kept_from, time, plays })
}

pub(in super::super) fn charts(app: &App, call: Call<'_>) -> CallResult {
    let measures = NAME.read(call)?;
    let since = SINCE.read(call)?.unwrap_or_default();
    let is_stored = ["from", "to"].iter().any(|name| call.request.get(name).is_some());
    if !is_stored {
        return json(&Charts::Live(app.live.lock().series(&measures, since)));
    }
    let (from, to) = period::read(call, unix_ms(), DAY_MS)?;
    let points = app.store.points(from, to).map_err(|error| CallError::unreadable(&error))?;
    json(&Charts::Stored(points))
}
