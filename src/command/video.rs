//! `video`: hides, deletes or corrects videos of a dashboard, and lists those that are so. Runs on the main thread.

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::command::shared::csv::quoted;
use crate::command::shared::https;
use crate::command::shared::output::{OutputFormat, note, print, print_json};
use crate::command::shared::values::{self, Signed};
use crate::model::video::MAX_PLAYS;
use crate::model::video_id::VideoId;
use crate::model::words::{grouped, many, of_number};
use crate::wire::client::{DashboardClient, RefusedCall};
use crate::wire::{
    ChangedVideo, ChangedVideoList, Correction, CorrectionChange, Visibility, VisibilityChange,
};

/// hides, deletes or corrects videos of a dashboard, with a reason, or lists those that are so
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "video", help_triggers("-h", "--help", "help"))]
pub(super) struct VideoArgs {
    #[argh(subcommand)]
    /// what to do
    command: VideoCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum VideoCommand {
    Hide(HideArgs),
    Delete(DeleteArgs),
    Show(ShowArgs),
    Correct(CorrectArgs),
    List(ListArgs),
}

/// takes videos out of lists, searches and exports; their plays stay in the totals
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "hide", help_triggers("-h", "--help", "help"))]
struct HideArgs {
    /// the id of a video; one that begins with a dash stands behind --
    #[argh(positional)]
    id: Vec<String>,
    /// why, in up to 300 characters; it is kept with the video and in the log of actions
    #[argh(option)]
    reason: String,
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for writes; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
}

/// takes videos out of the totals, too, with the plays that are still to come; `video show` brings all of it back
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "delete", help_triggers("-h", "--help", "help"))]
struct DeleteArgs {
    /// the id of a video; one that begins with a dash stands behind --
    #[argh(positional)]
    id: Vec<String>,
    /// why, in up to 300 characters; it is kept with the video and in the log of actions
    #[argh(option)]
    reason: String,
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for writes; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
}

/// shows videos again that were hidden or deleted; a correction stays
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help", "help"))]
struct ShowArgs {
    /// the id of a video; one that begins with a dash stands behind --
    #[argh(positional)]
    id: Vec<String>,
    /// why, in up to 300 characters; it is kept with the video and in the log of actions [default: none]
    #[argh(option)]
    reason: Option<String>,
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for writes; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
}

/// adds plays to what is counted of a video, or takes some away: a repeat changes nothing
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "correct", help_triggers("-h", "--help", "help"))]
struct CorrectArgs {
    /// the id of a video; one that begins with a dash stands behind --
    #[argh(positional)]
    id: String,
    /// what is added to the counted plays from now on, whatever was added before: -500 takes 500 away, 0 ends the
    /// correction; what is shown is never below 0
    #[argh(option)]
    plays: Signed<MAX_PLAYS>,
    /// why, in up to 300 characters; it is kept with the video and in the log of actions
    #[argh(option)]
    reason: String,
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for writes; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
}

/// lists the videos that are hidden, deleted or corrected, with the reasons
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help", "help"))]
struct ListArgs {
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for reads, where it is private; others see it in ps, but not --read-token-file
    /// or PLAYCOUNTS_READ_TOKEN [default: none]
    #[argh(option)]
    read_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    read_token_file: Option<String>,
    /// print all of it as one JSON object
    #[argh(switch)]
    json: bool,
}

/// The call of videos.
const PATH: &str = "/api/videos";

/// What stands in a path as it is; all else is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Does it, and says what was done.
pub(super) fn run(args: VideoArgs) -> Result<()> {
    use https::writable_dashboard as at;
    match args.command {
        VideoCommand::Hide(HideArgs {
            id,
            reason,
            dashboard_url: url,
            dashboard_ca,
            write_token,
            write_token_file,
        }) => {
            let change = VisibilityChange { visibility: Visibility::Hidden, reason: Some(reason) };
            set_visibility(&at(url, dashboard_ca, write_token, write_token_file)?, &id, &change)
        }
        VideoCommand::Delete(DeleteArgs {
            id,
            reason,
            dashboard_url: url,
            dashboard_ca,
            write_token,
            write_token_file,
        }) => {
            let change = VisibilityChange { visibility: Visibility::Deleted, reason: Some(reason) };
            set_visibility(&at(url, dashboard_ca, write_token, write_token_file)?, &id, &change)
        }
        VideoCommand::Show(ShowArgs {
            id,
            reason,
            dashboard_url: url,
            dashboard_ca,
            write_token,
            write_token_file,
        }) => {
            let change = VisibilityChange { visibility: Visibility::Shown, reason };
            set_visibility(&at(url, dashboard_ca, write_token, write_token_file)?, &id, &change)
        }
        VideoCommand::Correct(args) => correct(args),
        VideoCommand::List(args) => {
            let (url, ca, format) =
                (args.dashboard_url, args.dashboard_ca, OutputFormat::from_switch(args.json));
            let (token, file) = (args.read_token, args.read_token_file);
            list(&https::readable_dashboard(url, ca, token, file)?, format)
        }
    }
}

/// The path of something about a video.
fn path(video: &VideoId, what: &str) -> String {
    video.with_text(|id| format!("{PATH}/{}/{what}", utf8_percent_encode(id, ENCODED)))
}

fn video_id(text: &str) -> Result<VideoId> {
    VideoId::parse(text).with_context(|| format!("{} is no video id", quoted(text)))
}

/// All ids are read before the first is changed; one that is refused spoils no other.
fn set_visibility(
    dashboard: &DashboardClient,
    ids: &[String],
    change: &VisibilityChange,
) -> Result<()> {
    change.check()?;
    let ids: Vec<VideoId> = ids.iter().map(|id| video_id(id)).collect::<Result<_>>()?;
    let mut refused = 0;
    for id in &ids {
        match dashboard.put(&path(id, "visibility"), change) {
            Ok(()) => print(format_args!("{id}: {}", visibility(change.visibility)))?,
            // The only one is told by how the command ends.
            Err(error) if ids.len() == 1 || !error.is::<RefusedCall>() => return Err(error),
            Err(error) => {
                refused += 1;
                note(format_args!("{id}: {error:#}"));
            }
        }
    }
    match refused {
        0 => Ok(()),
        _ => bail!("{refused} of {} were refused", many(ids.len() as u64, "video")),
    }
}

fn correct(args: CorrectArgs) -> Result<()> {
    let CorrectArgs { id, plays, reason, dashboard_url, .. } = args;
    let (ca, token, token_file) = (args.dashboard_ca, args.write_token, args.write_token_file);
    let dashboard = https::writable_dashboard(dashboard_url, ca, token, token_file)?;
    let change = CorrectionChange { plays: plays.0, reason };
    change.check()?;
    let id = video_id(&id)?;
    dashboard.put(&path(&id, "correction"), &change)?;
    match change.plays {
        0 => print(format_args!("{id}: not corrected any more")),
        plays => print(format_args!("{id}: {} to what is counted", signed(plays))),
    }
}

fn list(dashboard: &DashboardClient, format: OutputFormat) -> Result<()> {
    let changed: ChangedVideoList = dashboard
        .read(&format!("{PATH}/changed"))
        .map_err(|error| https::name_older_dashboard(error, "hides no videos"))?;
    if format == OutputFormat::Json {
        return print_json(&changed);
    }
    changed.videos.iter().try_for_each(|video| print(format_args!("{}", line(video))))?;
    match changed.videos.len() as u64 {
        0 => print(format_args!("no video is hidden, deleted or corrected")),
        count => {
            let are = of_number(count, "is", "are");
            print(format_args!("{} {are} hidden, deleted or corrected", many(count, "video")))
        }
    }
}

fn line(video: &ChangedVideo) -> String {
    let ChangedVideo { video_id, title, visibility: shown, reason, at, correction, counted } =
        video;
    let mut line = video_id.to_string();
    if let Some(title) = title {
        line += &format!(" {}", quoted(title));
    }
    if *shown != Visibility::Shown {
        line += &format!(": {}", visibility(*shown));
        line += &at.map(|at| format!(" since {at}")).unwrap_or_default();
        line += &reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    }
    if let Some(Correction { plays, reason, at }) = correction {
        let counted = grouped(u64::try_from(*counted).unwrap_or(0));
        line += &format!(": {} to {counted} counted, since {at} ({reason})", signed(*plays));
    }
    line
}

fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Shown => "shown",
        Visibility::Hidden => "hidden",
        Visibility::Deleted => "deleted",
    }
}

/// `+1,000`, `-500`, with the noun.
fn signed(plays: i64) -> String {
    let sign = if plays < 0 { '-' } else { '+' };
    format!("{sign}{}", many(plays.unsigned_abs(), "play"))
}
