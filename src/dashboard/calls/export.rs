//! `/api/export/…`: downloads of counts, lists and series, as CSV or JSON, made piece by piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::period::{FROM, SCALE, TO};
use super::{series, top};
use crate::dashboard::answer::{CallError, uncached};
use crate::dashboard::app::App;
use crate::dashboard::operation::{JSON, Operation, PLAIN, USUAL_OR_UNKNOWN, of, text};
use crate::dashboard::query::{Call, Location, NumberParam, VideoIdParam};
use crate::dashboard::store::{Column, Cursor, LIST_MAX, ListQuery, TopOrder, TopVideo, VideoRow};
use crate::http::{Download, Response};
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;

/// Downloads at one time. Each has a connection's thread and a page of rows.
const DOWNLOADS: usize = 16;

/// CSV, as the document names it.
const CSV: &str = "text/csv";

static LIMIT: NumberParam =
    NumberParam { name: "limit", about: "rows", range: (1, 100), default: Some(100) };

static VIDEO: VideoIdParam = VideoIdParam {
    name: "video",
    about: "the video; a UUID in any spelling",
    location: Location::Query,
};

const COUNTS: Operation =
    Operation { summary: "Every video, by id, as a download", success: "the rows", ..PLAIN };

pub(in super::super) const COUNTS_CSV: Operation =
    Operation { id: "exportCountsCsv", media: &[(CSV, text)], ..COUNTS };

pub(in super::super) const COUNTS_JSON: Operation =
    Operation { id: "exportCountsJson", media: &[(JSON, of::<Vec<VideoRow>>)], ..COUNTS };

pub(in super::super) const TITLES_CSV: Operation = Operation {
    id: "exportVideosCsv",
    summary: "What every video is known by: video_id, title, url, as a download",
    success: "the rows, in no order",
    media: &[(CSV, text)],
    ..PLAIN
};

const TOP: Operation = Operation {
    summary: "The most played videos of a period, as a download",
    parameters: &[&LIMIT, &FROM, &TO],
    success: "the rows",
    ..PLAIN
};

pub(in super::super) const TOP_CSV: Operation =
    Operation { id: "exportTopCsv", media: &[(CSV, text)], ..TOP };

pub(in super::super) const TOP_JSON: Operation =
    Operation { id: "exportTopJson", media: &[(JSON, of::<Vec<TopVideo>>)], ..TOP };

const SERIES: Operation = Operation {
    summary: "A video's plays, as a download",
    parameters: &[&VIDEO, &SCALE, &FROM, &TO],
    success: "the rows",
    refusals: USUAL_OR_UNKNOWN,
    ..PLAIN
};

pub(in super::super) const SERIES_CSV: Operation =
    Operation { id: "exportSeriesCsv", media: &[(CSV, text)], ..SERIES };

pub(in super::super) const SERIES_JSON: Operation =
    Operation { id: "exportSeriesJson", media: &[(JSON, of::<Vec<Bucket>>)], ..SERIES };

/// How rows are written.
#[derive(Clone, Copy)]
enum ExportFormat {
    Csv,
    Json,
}

type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;

pub(in super::super) fn counts_csv(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    Ok(download(call, ExportFormat::Csv, Box::new(all_counts(app, ExportFormat::Csv)?)))
}

pub(in super::super) fn counts_json(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    Ok(download(call, ExportFormat::Json, Box::new(all_counts(app, ExportFormat::Json)?)))
}

pub(in super::super) fn top_csv(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    top_rows(app, call, ExportFormat::Csv)
}

pub(in super::super) fn top_json(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    top_rows(app, call, ExportFormat::Json)
}

pub(in super::super) fn series_csv(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    series_rows(app, call, ExportFormat::Csv)
}

pub(in super::super) fn series_json(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    series_rows(app, call, ExportFormat::Json)
}

fn top_rows(app: &App, call: Call<'_>, format: ExportFormat) -> Result<Download, CallError> {
    let top = top::find(app, call, TopOrder::Plays, &LIMIT)?;
    let whole = piece(format, &top.top, true, true);
    Ok(download(call, format, Box::new(std::iter::once(whole))))
}

fn series_rows(app: &App, call: Call<'_>, format: ExportFormat) -> Result<Download, CallError> {
    let id = VIDEO.read(call)?;
    let (_, series) = series::buckets(app, call, id)?;
    let rows: Vec<_> = series.into_iter().map(|(time, plays)| Bucket { time, plays }).collect();
    let whole = piece(format, &rows, true, true);
    Ok(download(call, format, Box::new(std::iter::once(whole))))
}

/// A download under the last part of the call's path.
fn download(call: Call<'_>, format: ExportFormat, pieces: Pieces) -> Download {
    let name = call.request.path.rsplit('/').next().unwrap_or_default();
    let content_type = match format {
        ExportFormat::Csv => "text/csv; charset=utf-8; header=present",
        ExportFormat::Json => "application/json; charset=utf-8",
    };
    let head = uncached(Response::new(200, content_type, []))
        .with_header("Content-Disposition", format!("attachment; filename=\"{name}\""));
    Download { head, pieces }
}

/// Every video, by id; each piece is read when the one before has gone out. A video whose count changes
/// meanwhile is there once, as it was when its turn came.
fn all_counts(
    app: &App,
    format: ExportFormat,
) -> Result<impl Iterator<Item = Vec<u8>> + Send + 'static, CallError> {
    let downloading = Downloading::begin(&app.downloads)?;
    let store = Arc::clone(&app.store);
    // The next page's beginning; the outer `None`: that was the last.
    let mut next: Option<Option<Cursor>> = Some(None);
    Ok(std::iter::from_fn(move || {
        let _running = &downloading;
        let after = next.take()?;
        let page = store.list(&ListQuery {
            column: Column::VideoId,
            descending: false,
            limit: LIST_MAX,
            offset: 0,
            after,
            search: None,
        });
        next = page.next.map(Some);
        Some(piece(format, &page.rows, after.is_none(), next.is_none()))
    }))
}

/// Every video that is known by something; each piece is read when the one before has gone out.
pub(in super::super) fn titles_csv(app: &App, call: Call<'_>) -> Result<Download, CallError> {
    let downloading = Downloading::begin(&app.downloads)?;
    let store = Arc::clone(&app.store);
    let mut next: Option<Option<u32>> = Some(None);
    let pieces = std::iter::from_fn(move || {
        let _running = &downloading;
        let from = next.take()?;
        let (rows, more) = store.titles(from.unwrap_or_default(), LIST_MAX as usize);
        next = more.map(Some);
        let rows = rows.into_iter();
        let lines: Vec<_> = rows
            .map(|(video_id, row)| {
                let url = row.url.map(|url| *url);
                TitleLine { video_id, title: row.title, url }
            })
            .collect();
        Some(piece(ExportFormat::Csv, &lines, from.is_none(), next.is_none()))
    });
    Ok(download(call, ExportFormat::Csv, Box::new(pieces)))
}

/// One of the downloads in progress; dropping it ends it.
struct Downloading(Arc<AtomicUsize>);

impl Downloading {
    fn begin(running: &Arc<AtomicUsize>) -> Result<Self, CallError> {
        let fits = |count: usize| (count < DOWNLOADS).then_some(count + 1);
        running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|_| CallError::unavailable("too many downloads at one time; try again"))?;
        Ok(Self(Arc::clone(running)))
    }
}

impl Drop for Downloading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a video is known by.
#[derive(Serialize)]
struct TitleLine {
    video_id: VideoId,
    title: Option<Box<str>>,
    url: Option<Box<str>>,
}

/// Both texts as they are: `playcounts titles import` reads it.
impl ExportRow for TitleLine {
    const COLUMNS: &'static str = "video_id,title,url";
    fn csv(&self) -> String {
        let field = |text: &Option<Box<str>>| csv_field(text.as_deref().unwrap_or_default());
        format!("{},{},{}", id_field(&self.video_id), field(&self.title), field(&self.url))
    }
}

/// A row of an export.
trait ExportRow: Serialize {
    /// The names of its columns in CSV.
    const COLUMNS: &'static str;
    /// It as a line of CSV.
    fn csv(&self) -> String;
}

impl ExportRow for VideoRow {
    const COLUMNS: &'static str = "video_id,plays,updated_at,last_played_at,title,url";
    fn csv(&self) -> String {
        let played = self.last_played_at.map_or(String::new(), |time| time.to_string());
        let (id, title, url) =
            (id_field(&self.video_id), shown_field(&self.title), shown_field(&self.url));
        format!("{id},{},{},{played},{title},{url}", self.plays, self.updated_at)
    }
}

impl ExportRow for TopVideo {
    const COLUMNS: &'static str = "video_id,plays,share,before,title,url";
    fn csv(&self) -> String {
        let before = self.before.map_or(String::new(), |before| before.to_string());
        let (id, title, url) =
            (id_field(&self.video_id), shown_field(&self.title), shown_field(&self.url));
        format!("{id},{},{:.6},{before},{title},{url}", self.plays, self.share)
    }
}

/// One bucket of a video's series.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct Bucket {
    /// When it begins.
    time: UnixMs,
    /// Its plays.
    plays: i64,
}

impl ExportRow for Bucket {
    const COLUMNS: &'static str = "time,plays";
    fn csv(&self) -> String {
        format!("{},{}", self.time, self.plays)
    }
}

/// A text as a field of CSV (RFC 4180): in quotes where it must be.
fn csv_field(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// A video's id as a field of CSV.
fn id_field(id: &VideoId) -> String {
    id.with_text(csv_field)
}

/// A stranger's text as a field of CSV that a spreadsheet shows: one that it would take for a formula has a `'` before it.
fn shown_field(text: &Option<String>) -> String {
    let text = text.as_deref().unwrap_or_default();
    match text.starts_with(['=', '+', '-', '@']) {
        true => csv_field(&format!("'{text}")),
        false => csv_field(text),
    }
}

/// A piece of an export: its rows, and what stands before and behind them.
fn piece<R: ExportRow>(format: ExportFormat, rows: &[R], first: bool, last: bool) -> Vec<u8> {
    let mut text = String::new();
    match format {
        ExportFormat::Csv => {
            if first {
                text.push_str(R::COLUMNS);
                text.push_str("\r\n");
            }
            for row in rows {
                text.push_str(&row.csv());
                text.push_str("\r\n");
            }
        }
        ExportFormat::Json => {
            let mut between = if first { "[\n" } else { ",\n" };
            for row in rows {
                text.push_str(between);
                text.push_str(&json!(row).to_string());
                between = ",\n";
            }
            if last {
                text.push_str(if first && rows.is_empty() { "[]\n" } else { "\n]\n" });
            }
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_document() {
        let row = |time| Bucket { time: UnixMs(time), plays: 5 };
        let whole = |format| {
            let pieces = [
                piece(format, &[row(0)], true, false),
                piece(format, &[row(60_000), row(1_700_000_000_123)], false, true),
            ];
            String::from_utf8(pieces.concat()).unwrap()
        };
        assert_eq!(
            whole(ExportFormat::Csv),
            "time,plays\r\n1970-01-01T00:00:00Z,5\r\n1970-01-01T00:01:00Z,5\r\n2023-11-14T22:13:20.123Z,5\r\n"
        );
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&whole(ExportFormat::Json)).unwrap();
        assert_eq!((rows.len(), &rows[1]), (3, &json!({"time": 60_000, "plays": 5})));
        for (format, want) in [(ExportFormat::Csv, "time,plays\r\n"), (ExportFormat::Json, "[]\n")]
        {
            assert_eq!(piece::<Bucket>(format, &[], true, true), want.as_bytes());
        }
    }
}
