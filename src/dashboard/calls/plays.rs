//! `/api/plays` and `/api/counts/…/plays`: plays between any moments, of all videos or of one.

use super::counts::VIDEO_ID;
use crate::dashboard::answer::{CallError, CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::operation::{JSON, Operation, PLAIN, USUAL_OR_UNKNOWN, of};
use crate::dashboard::query::{Call, MomentsParam};
use crate::dashboard::store::PlaysBetween;
use crate::model::video_id::VideoId;

/// The most moments: as many as fit into 8 KB, which is what a proxy lets a request's first line have.
static EDGES: MomentsParam = MomentsParam {
    name: "edges",
    about: "the moments between which plays are summed, rising, with a comma between two; seconds do not count",
    count: (2, 500),
};

const ABOUT: &str = "Bars by hour or day of any time zone: its days begin where the client says so. From each moment to the next, which is not \
    included. The longer ago, the longer the buckets that they are summed from: minutes, hours or days of UTC.";

pub(in super::super) const OF_ALL: Operation = Operation {
    id: "getPlays",
    summary: "Plays between moments, over all videos but those that are deleted",
    description: ABOUT,
    parameters: &[&EDGES],
    success: "the plays from each moment to the next; found again after some seconds",
    media: &[(JSON, of::<PlaysBetween>)],
    ..PLAIN
};

pub(in super::super) const OF_VIDEO: Operation = Operation {
    id: "getVideoPlays",
    summary: "A video's plays between moments",
    description: ABOUT,
    parameters: &[&VIDEO_ID, &EDGES],
    success: "the plays from each moment to the next",
    media: &[(JSON, of::<PlaysBetween>)],
    refusals: USUAL_OR_UNKNOWN,
    ..PLAIN
};

pub(in super::super) fn of_all(app: &App, call: Call<'_>) -> CallResult {
    let edges = EDGES.read(call)?;
    json(&*app.plays.get(edges, |edges| app.store.plays_between(None, edges))?)
}

pub(in super::super) fn of_video(app: &App, call: Call<'_>) -> CallResult {
    let id: VideoId = VIDEO_ID.read(call)?;
    if app.store.shown_video(id).is_none() {
        return Err(CallError::no_video(id));
    }
    let plays = app.store.plays_between(Some(id), &EDGES.read(call)?);
    json(&plays.map_err(|error| CallError::unreadable(&error))?)
}
