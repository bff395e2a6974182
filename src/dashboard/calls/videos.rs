//! `/api/videos/…`: titles, and what is shown of a video. Each change is a line in the action log.

use crate::dashboard::answer::{CallError, CallResult, Status, json};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::{Call, Location, VideoIdParam};
use crate::dashboard::store::CatalogWrite;
use crate::model::video_id::VideoId;
use crate::wire::{
    ChangedVideoList, CorrectionChange, VideoTexts, VideosUpdate, Visibility, VisibilityChange,
    Written,
};

use super::{actions, written};

/// The video of the path. One that has no plays yet may have a title.
static VIDEO_ID: VideoIdParam = VideoIdParam {
    name: "video_id",
    about: "the video: a UUID in any spelling, or its text, percent-encoded",
    location: Location::Path,
};

/// How a change of videos may be refused.
const OF_A_CHANGE: &[Status] =
    &[Status::BadRequest, Status::Conflict, Status::Damaged, Status::Unavailable];

/// How a change of one video that must have plays may be refused.
const OF_A_VIDEO: &[Status] =
    &[Status::BadRequest, Status::NotFound, Status::Conflict, Status::Damaged, Status::Unavailable];

pub(in super::super) const SET: Operation = Operation {
    id: "setVideo",
    summary: "Sets what people know a video by",
    description: "What is null or absent is taken away. It wins over what plays say. The video need not have plays yet. It is \
                  kept in the journal before the answer, then in the table `titles`, and a reset keeps it.",
    parameters: &[&VIDEO_ID],
    body: Some(of::<VideoTexts>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_CHANGE,
};

pub(in super::super) const SET_MANY: Operation = Operation {
    id: "setVideos",
    summary: "Sets what people know 1 to 1,000 videos by",
    description: "As for one; all of them or none.",
    body: Some(of::<VideosUpdate>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_CHANGE,
    ..PLAIN
};

pub(in super::super) const SHOW: Operation = Operation {
    id: "setVisibility",
    summary: "Shows a video, hides it, or deletes it",
    description: "Hidden: out of lists, search, top and exports, but in the sums. Deleted: out of the sums, too, and so for \
                  plays that come later. Its plays are counted beneath, so that `shown` undoes either. Needs a reason but for \
                  `shown`. It is kept in the journal before the answer, then in the table `changes`, and a reset keeps it.",
    parameters: &[&VIDEO_ID],
    body: Some(of::<VisibilityChange>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_VIDEO,
};

pub(in super::super) const CORRECT: Operation = Operation {
    id: "correctVideo",
    summary: "Adds to what is counted of a video, or takes away from it",
    description: "What is shown is what is counted and `plays`, never below 0. It is absolute: a repeat changes nothing, and 0 \
                  takes it away. The history and the rates stay as they are. It is kept in the journal before the answer, then \
                  in the table `changes`; a reset takes it away.",
    parameters: &[&VIDEO_ID],
    body: Some(of::<CorrectionChange>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_VIDEO,
};

pub(in super::super) const CHANGED: Operation = Operation {
    id: "getChangedVideos",
    summary: "Videos that are hidden, deleted or corrected",
    success: "all of them, by id",
    media: &[(JSON, of::<ChangedVideoList>)],
    ..PLAIN
};

/// Commits a change, and answers.
pub(super) fn commit(app: &App, write: CatalogWrite, accepted: usize) -> CallResult {
    let is_in_tops = matches!(write, CatalogWrite::Texts(_) | CatalogWrite::Visibility(..));
    let stored = app.store.change(write).map_err(CallError::not_stored)?;
    // They are of history, which neither corrections nor imports change.
    if is_in_tops {
        app.forget_sums();
    }
    app.notify_changed();
    written::answer(&Written { accepted, dashboard: stored })
}

/// As [`commit`], with a line in the action log.
pub(super) fn commit_logged(
    app: &App,
    call: Call<'_>,
    write: CatalogWrite,
    line: (&str, &str, &str),
) -> CallResult {
    let answer = commit(app, write, 1)?;
    let (action, target, outcome) = line;
    actions::log(app, actions::line(call.request, action, target, outcome))?;
    Ok(answer)
}

/// The video of the path, which has plays.
fn known(app: &App, call: Call<'_>) -> Result<VideoId, CallError> {
    let id = VIDEO_ID.read(call)?;
    match app.store.shown_video(id) {
        Some(_) => Ok(id),
        None => Err(CallError::no_video(id)),
    }
}

pub(in super::super) fn set(app: &App, call: Call<'_>) -> CallResult {
    let id = VIDEO_ID.read_new(call)?;
    let texts: VideoTexts = parse(&call.request.body)?;
    texts.check()?;
    let outcome = match (&texts.title, &texts.url) {
        (None, None) => "taken away".to_owned(),
        (title, url) => {
            [title.as_deref(), url.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
    };
    let write = CatalogWrite::Texts(vec![(id, texts)]);
    commit_logged(app, call, write, ("set title", &id.to_string(), &outcome))
}

pub(in super::super) fn set_many(app: &App, call: Call<'_>) -> CallResult {
    let update: VideosUpdate = parse(&call.request.body)?;
    update.check()?;
    let videos: Vec<_> = update.videos.into_iter().map(|video| video.texts()).collect();
    let accepted = videos.len();
    let answer = commit(app, CatalogWrite::Texts(videos), accepted)?;
    let target = format!("{accepted} videos");
    actions::log(app, actions::line(call.request, "set titles", &target, "done"))?;
    Ok(answer)
}

pub(in super::super) fn show(app: &App, call: Call<'_>) -> CallResult {
    let id = known(app, call)?;
    let change: VisibilityChange = parse(&call.request.body)?;
    change.check()?;
    let action = match change.visibility {
        Visibility::Shown => "show",
        Visibility::Hidden => "hide",
        Visibility::Deleted => "delete",
    };
    let reason = change.reason.clone().unwrap_or_else(|| "done".to_owned());
    let write = CatalogWrite::Visibility(id, change);
    commit_logged(app, call, write, (action, &id.to_string(), &reason))
}

pub(in super::super) fn correct(app: &App, call: Call<'_>) -> CallResult {
    let id = known(app, call)?;
    let change: CorrectionChange = parse(&call.request.body)?;
    change.check()?;
    let outcome = format!("{:+}: {}", change.plays, change.reason);
    let write = CatalogWrite::Correction(id, change);
    commit_logged(app, call, write, ("correct", &id.to_string(), &outcome))
}

pub(in super::super) fn changed(app: &App, _call: Call<'_>) -> CallResult {
    json(&ChangedVideoList { videos: app.store.changed_videos() })
}
