//! `/api/counts`: the lists of videos, one video, and the counts that processors tell.

use std::sync::atomic::Ordering;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::actions;
use super::ledgers::{self, OF_A_LEDGER};
use super::written;
use crate::dashboard::answer::{CallError, CallResult, json, quote};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, USUAL, USUAL_OR_UNKNOWN, of};
use crate::dashboard::query::{Call, ChoiceParam, Location, NumberParam, TextParam, VideoIdParam};
use crate::dashboard::store::{
    Column, Cursor, LIST_MAX, ListQuery, Period, Scale, Search, ShownVideo, VideoRow,
};
use crate::model::title::TITLE_MAX;
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::model::video_id::VideoId;
use crate::runtime::clock::unix_ms;
use crate::wire::{Correction, CountsUpdate, Visibility, Written};

/// Minutes of history that one video is shown with.
const HISTORY_MINUTES: i64 = 60;

/// A column, and whether the highest come first.
type SortOrder = (Column, bool);

static SORT: ChoiceParam<SortOrder> = ChoiceParam {
    name: "sort",
    about: "a - before it: descending",
    values: &[
        ("-plays", (Column::Plays, true)),
        ("plays", (Column::Plays, false)),
        ("video_id", (Column::VideoId, false)),
        ("-video_id", (Column::VideoId, true)),
        ("updated_at", (Column::UpdatedAt, false)),
        ("-updated_at", (Column::UpdatedAt, true)),
        ("last_played_at", (Column::LastPlayedAt, false)),
        ("-last_played_at", (Column::LastPlayedAt, true)),
    ],
    allowed: "one of plays, video_id, updated_at, last_played_at, with a - before it for descending",
};

static LIMIT: NumberParam =
    NumberParam { name: "limit", about: "rows", range: (1, LIST_MAX as i64), default: Some(50) };

static OFFSET: NumberParam = NumberParam {
    name: "offset",
    about: "rows to leave out; a far page costs as much as a near one",
    range: (0, u32::MAX as i64),
    default: Some(0),
};

/// What [`Cursor`] is written as; an answer never has more than an i64 can hold.
const CURSOR: &str = r"^(plays|video_id|updated_at|last_played_at)\.(0|-?[1-9][0-9]{0,18})\.[^\x00-\x1f\x7f-\x9f]{1,128}$";

static AFTER: TextParam = TextParam {
    name: "after",
    about: "`next` of the page before, of the same sort",
    // A column's name, an i64 and an id, with two dots.
    max_length: 14 + 1 + 20 + 1 + VideoId::MAX_LEN,
    pattern: CURSOR,
};

static SEARCH: TextParam = TextParam {
    name: "search",
    about: "the start of a video id, or words of a title, of whose last one the start is enough",
    max_length: TITLE_MAX,
    pattern: "",
};

/// The video of the path.
pub(super) static VIDEO_ID: VideoIdParam = VideoIdParam {
    name: "video_id",
    about: "the video: a UUID in any spelling, or its text",
    location: Location::Path,
};

pub(in super::super) const LIST: Operation = Operation {
    id: "listCounts",
    summary: "Lists videos",
    parameters: &[&SORT, &LIMIT, &OFFSET, &AFTER, &SEARCH],
    success: "a page of videos",
    media: &[(JSON, of::<CountsPage>)],
    ..PLAIN
};

pub(in super::super) const UPDATE: Operation = Operation {
    id: "updateCounts",
    summary: "Takes a processor's whole counts of 1 to 20 videos",
    description: "Counts are absolute: a repeat or an old message changes nothing. Each video at most once. 409 where all \
                  counts together would be more than 2^53 - 1, where 10,000 processors are known and this is another, or where \
                  the processor has claimed another ledger.",
    body: Some(of::<CountsUpdate>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_LEDGER,
    ..PLAIN
};

pub(in super::super) const CLEAR: Operation = Operation {
    id: "clearCounts",
    summary: "Forgets every count, import and correction; titles stay, and which videos are not shown",
    success: "forgotten",
    media: &[(JSON, of::<Cleared>)],
    refusals: USUAL,
    ..PLAIN
};

pub(in super::super) const VIDEO: Operation = Operation {
    id: "getVideo",
    summary: "One video, with its history",
    parameters: &[&VIDEO_ID],
    success: "the video",
    media: &[(JSON, of::<VideoWithHistory>)],
    refusals: USUAL_OR_UNKNOWN,
    ..PLAIN
};

/// A page of videos.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Counts")]
pub(in super::super) struct CountsPage {
    /// Videos with a count, but those that are deleted.
    #[schemars(range(max = MAX_PLAYS))]
    total_videos: u64,
    /// The sum of their plays.
    total_plays: u64,
    /// Videos that the search finds.
    #[schemars(range(max = MAX_PLAYS))]
    matching: u64,
    /// Grows when any count changes.
    #[schemars(range(max = MAX_PLAYS))]
    revision: u64,
    /// `after` of the following page; null on the last.
    #[schemars(regex(pattern = CURSOR))]
    next: Option<String>,
    /// In the order asked for.
    #[schemars(length(max = LIST_MAX))]
    counts: Vec<VideoRow>,
}

/// One video, its place, and its last hour.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct VideoWithHistory {
    #[serde(flatten)]
    video: VideoRow,
    /// Its place by plays: 1 for the most; of one that is not shown the place that it would have.
    #[schemars(range(min = 1))]
    rank: u64,
    /// Whether it is in lists and in the sums.
    visibility: Visibility,
    /// What is added to its counts; null: nothing.
    correction: Option<Correction>,
    /// The count at the end of each minute in which it changed.
    #[schemars(length(max = HISTORY_MINUTES))]
    history: Vec<CountAt>,
}

/// A count at the end of a minute.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct CountAt {
    /// When the minute began.
    at: UnixMs,
    /// All plays until its end.
    #[schemars(range(min = 0))]
    plays: i64,
}

/// All counts are gone.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct Cleared {
    /// Always true.
    #[schemars(extend("const" = true))]
    cleared: bool,
}

/// Serde takes an array of a struct's fields for the struct; here every count must be an object.
#[derive(serde::Deserialize)]
struct Shape {
    #[serde(rename = "counts")]
    _counts: Vec<serde_json::Map<String, Value>>,
}

pub(in super::super) fn list(app: &App, call: Call<'_>) -> CallResult {
    let query = read_query(call)?;
    // Read before the rows: a page that shows newer rows than its revision asks once more, not never.
    let revision = app.store.revision();
    let page = app.store.list(&query);
    let totals = app.store.totals();
    json(&CountsPage {
        total_videos: totals.videos,
        total_plays: totals.plays,
        matching: page.matching,
        revision,
        next: page.next.map(|cursor| cursor.to_string()),
        counts: page.rows,
    })
}

pub(in super::super) fn video(app: &App, call: Call<'_>) -> CallResult {
    let id = VIDEO_ID.read(call)?;
    let ShownVideo { row: video, rank, changed } =
        app.store.shown_video(id).ok_or_else(|| CallError::no_video(id))?;
    let last = unix_ms().0.div_euclid(Scale::Minute.step_ms());
    let period = Period { first: last - (HISTORY_MINUTES - 1), last };
    let minutes = app.store.series(id, Scale::Minute, period);
    let minutes = minutes.map_err(|error| CallError::unreadable(&error))?;
    let mut plays = video.plays;
    let mut history: Vec<_> = minutes
        .iter()
        .rev()
        .map(|(at, more)| {
            let point = CountAt { at: *at, plays };
            // Where a loss of a ledger was accepted the history has more than the count.
            plays = (plays - more).max(0);
            point
        })
        .collect();
    history.reverse();
    let visibility = changed.as_ref().map_or(Visibility::Shown, |changed| changed.visibility);
    let correction = changed.and_then(|changed| changed.correction);
    json(&VideoWithHistory { video, rank, visibility, correction, history })
}

pub(in super::super) fn update(app: &App, call: Call<'_>) -> CallResult {
    let mut update: CountsUpdate = parse(&call.request.body)?;
    parse::<Shape>(&call.request.body)?;
    update.check()?;
    ledgers::check(app, &update.processor, update.ledger.as_ref())?;
    let accepted = update.counts.len();
    let (processor, version, consumption) =
        (update.processor, update.version, update.consumption.take());
    let stored = app.store.merge(update).map_err(CallError::not_stored)?;
    app.updates.fetch_add(1, Ordering::Relaxed);
    app.live.lock().report(processor, Some(version), consumption, Instant::now());
    app.notify_changed();
    written::answer(&Written { accepted, dashboard: stored })
}

pub(in super::super) fn clear(app: &App, call: Call<'_>) -> CallResult {
    app.store.clear().map_err(CallError::not_stored)?;
    app.forget_sums();
    app.live.lock().clear();
    app.notify_changed();
    actions::log(app, actions::line(call.request, "reset", "counts", "done"))?;
    written::answer(&Cleared { cleared: true })
}

fn read_query(call: Call<'_>) -> Result<ListQuery, CallError> {
    let (column, descending) = SORT.read(call)?;
    let limit = LIMIT.read_u32(call)?;
    let offset = OFFSET.read_u32(call)?;
    let search = match SEARCH.read(call)?.map(str::trim).unwrap_or_default() {
        "" => None,
        text => Some(Search::new(text)),
    };
    let after = AFTER.read(call)?.map(|text| read_cursor(text, column, call)).transpose()?;
    Ok(ListQuery { column, descending, limit, offset, after, search })
}

/// A page's `next`, of a list by `column`.
fn read_cursor(text: &str, column: Column, call: Call<'_>) -> Result<Cursor, CallError> {
    let cursor: Cursor = text.parse().map_err(|()| {
        CallError::bad_request(format!(
            "after takes the next of the page before, not {}",
            quote(text)
        ))
    })?;
    if cursor.column != column {
        let sort = call.request.get(SORT.name).unwrap_or(SORT.values[0].0);
        let reason = format!("after is of a list with another sort than {sort}");
        return Err(CallError::bad_request(reason));
    }
    Ok(cursor)
}
