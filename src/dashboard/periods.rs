//! What HTTP calls about time answer: a video's series, the most played of a period, the charts over a period, and the
//! exports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::guard::quote;
use super::routes::{Answer, App, bad, broken, number, unavailable, uncached};
use super::store::{
    BUCKETS_MAX, Column, Cursor, LIST_MAX, ListQuery, Period, Scale, Store, Top, VideoRow, now_ms,
};
use crate::http::{Download, Request, Response};
use crate::model::unix_time::UnixMs;
use crate::wire::MAX_PLAYS;

const DAY_MS: i64 = 86_400_000;

/// The period of a top list when the call does not say.
const TOP_DEFAULT_MS: i64 = 30 * 60_000;

/// The most rows of a top list, and how many there are when the call does not say.
const TOP_MAX: u32 = 100;
const TOP_DEFAULT: u32 = 20;

/// The most buckets that a top list is summed from: a day of minutes, or two months of hours.
const TOP_BUCKETS_MAX: i64 = 1_440;

/// How long a top list is good at least: a page asks every few seconds.
const TOP_FRESH: Duration = Duration::from_secs(2);

/// And how many times as long as it took to find: at most a tenth of a core goes into top lists.
const TOP_FRESH_FACTOR: u32 = 10;

/// How long a call waits for another one's top list, with one of the server's workers.
const TOP_WAIT: Duration = Duration::from_secs(2);

/// Top lists that are kept.
const TOPS: usize = 16;

/// Downloads at one time. Each has a connection's thread and a page of rows.
const DOWNLOADS: usize = 16;

/// A series: how long its buckets are, and (start, plays) of each.
type Series = (Scale, Vec<(UnixMs, i64)>);

type TopKey = (Scale, Period, usize);

/// The newest top lists.
#[derive(Default)]
pub(super) struct Tops {
    known: Mutex<Vec<(TopKey, Arc<Top>, Instant)>>,
    // One is found at a time.
    finding: Mutex<()>,
}

impl Tops {
    fn known(&self, key: &TopKey, now: Instant) -> Option<Arc<Top>> {
        let known = self.known.lock();
        let (_, top, _) = known.iter().find(|(other, _, until)| other == key && now < *until)?;
        Some(Arc::clone(top))
    }

    fn get(&self, store: &Store, key: TopKey) -> Result<Arc<Top>, Box<Response>> {
        if let Some(top) = self.known(&key, Instant::now()) {
            return Ok(top);
        }
        let busy = || unavailable("another top list is being found; ask again");
        let _finding = self.finding.try_lock_for(TOP_WAIT).ok_or_else(busy)?;
        let began = Instant::now();
        // Perhaps it was this one.
        if let Some(top) = self.known(&key, began) {
            return Ok(top);
        }
        let (scale, period, limit) = key;
        let top = Arc::new(store.top(scale, period, limit).map_err(|error| broken(&error))?);
        let until = Instant::now() + (began.elapsed() * TOP_FRESH_FACTOR).max(TOP_FRESH);
        let mut known = self.known.lock();
        known.retain(|(other, _, until)| *other != key && began < *until);
        if known.len() >= TOPS {
            known.remove(0);
        }
        known.push((key, Arc::clone(&top), until));
        Ok(top)
    }
}

/// Downloads in progress; dropping one ends it.
struct Downloading(Arc<AtomicUsize>);

impl Downloading {
    fn begin(running: &Arc<AtomicUsize>) -> Result<Self, Box<Response>> {
        let fits = |count: usize| (count < DOWNLOADS).then_some(count + 1);
        running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|_| unavailable("too many downloads at one time; try again"))?;
        Ok(Self(Arc::clone(running)))
    }
}

impl Drop for Downloading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    Json,
}

/// A row of an export.
trait Row: Serialize {
    const COLUMNS: &'static str;
    /// Numbers, ids and times alone, so nothing needs quotes, and nothing is taken for a formula.
    fn csv(&self) -> String;
}

impl Row for VideoRow {
    const COLUMNS: &'static str = "video_id,plays,updated_at,last_played_at";
    fn csv(&self) -> String {
        let played = self.last_played_at.map_or(String::new(), |time| time.to_string());
        format!("{},{},{},{played}", self.video_id, self.plays, self.updated_at)
    }
}

impl Row for super::store::TopVideo {
    const COLUMNS: &'static str = "video_id,plays,share,before";
    fn csv(&self) -> String {
        let before = self.before.map_or(String::new(), |before| before.to_string());
        format!("{},{},{:.6},{before}", self.video_id, self.plays, self.share)
    }
}

/// One bucket of a video's series.
#[derive(Serialize)]
struct Bucket {
    time: UnixMs,
    plays: i64,
}

impl Row for Bucket {
    const COLUMNS: &'static str = "time,plays";
    fn csv(&self) -> String {
        format!("{},{}", self.time, self.plays)
    }
}

/// A piece of an export: its rows, and what stands before and behind them.
fn piece<R: Row>(format: Format, rows: &[R], first: bool, last: bool) -> Vec<u8> {
    let mut text = String::new();
    match format {
        Format::Csv => {
            if first {
                text.push_str(R::COLUMNS);
                text.push_str("\r\n");
            }
            for row in rows {
                text.push_str(&row.csv());
                text.push_str("\r\n");
            }
        }
        Format::Json => {
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

/// A time in ms since the Unix epoch.
fn time(request: &Request, name: &str) -> Result<Option<i64>, Box<Response>> {
    let Some(text) = request.get(name) else { return Ok(None) };
    let found = text.parse().ok().filter(|time| (0..=MAX_PLAYS as i64).contains(time));
    match found {
        Some(time) if !text.starts_with('+') => Ok(Some(time)),
        _ => Err(bad(format!("{name} must be ms since the Unix epoch, not {}", quote(text)))),
    }
}

/// `from` and `to`; without them the time up to now, `length` long.
fn span(request: &Request, length: i64) -> Result<(UnixMs, UnixMs), Box<Response>> {
    let to = time(request, "to")?.unwrap_or_else(now_ms);
    let from = time(request, "from")?.unwrap_or_else(|| (to.saturating_sub(length)).max(0));
    if from >= to {
        return Err(bad(format!("from must be before to: {from} is not before {to}")));
    }
    Ok((UnixMs(from), UnixMs(to)))
}

fn scale(request: &Request) -> Result<Option<Scale>, Box<Response>> {
    let Some(text) = request.get("scale") else { return Ok(None) };
    let known = Scale::ALL.iter().find(|(name, _)| *name == text);
    let (_, scale) = known
        .ok_or_else(|| bad(format!("scale must be minute, hour or day, not {}", quote(text))))?;
    Ok(Some(*scale))
}

fn video_id(text: &str) -> Result<Uuid, Box<Response>> {
    Uuid::try_parse(text).map_err(|_| bad(format!("{} is no video id: a UUID", quote(text))))
}

impl App {
    /// A video's plays in each bucket of the call's period.
    fn buckets(&self, request: &Request, id: Uuid) -> Result<Series, Box<Response>> {
        if self.store.video(id).is_none() {
            return Err(Box::new(Response::error(404, &format!("video {id} has no plays"))));
        }
        let scale = scale(request)?.unwrap_or(Scale::Hour);
        let (from, to) = span(request, i64::MAX)?;
        let kept = self.store.kept(scale).map_err(|error| broken(&error))?;
        let Some(period) = Period::of(scale, from, to).within(kept) else {
            return Ok((scale, Vec::new()));
        };
        if period.buckets() > BUCKETS_MAX {
            return Err(bad(format!(
                "a series spans at most {BUCKETS_MAX} points, not {}; ask for a shorter one, or a larger scale",
                period.buckets()
            )));
        }
        let series = self.store.series(id, scale, period).map_err(|error| broken(&error))?;
        Ok((scale, series))
    }

    pub(super) fn video_series(&self, request: &Request) -> Answer {
        let text = request.path.strip_prefix("/api/counts/").unwrap_or_default();
        let id = video_id(text.strip_suffix("/series").unwrap_or_default())?;
        let (scale, series) = self.buckets(request, id)?;
        let (time, plays): (Vec<UnixMs>, Vec<i64>) = series.into_iter().unzip();
        let answer = json!({
            "scale": scale,
            "step_ms": scale.step_ms(),
            "kept_from": self.store.kept_from(scale),
            "time": time,
            "plays": plays,
        });
        Ok(uncached(Response::json(200, &answer)))
    }

    fn find_top(&self, request: &Request, default: u32) -> Result<Arc<Top>, Box<Response>> {
        let limit = number(request, "limit", default, 1, TOP_MAX)?;
        let (from, to) = span(request, TOP_DEFAULT_MS)?;
        let scale = self.store.scale_for(from, to, TOP_BUCKETS_MAX);
        self.tops.get(&self.store, (scale, Period::of(scale, from, to), limit as usize))
    }

    pub(super) fn top(&self, request: &Request) -> Answer {
        let top = self.find_top(request, TOP_DEFAULT)?;
        Ok(uncached(Response::json(200, &*top)))
    }

    /// The charts over a period; `None`: the call asks for the live ones.
    pub(super) fn stored_series(&self, request: &Request) -> Option<Answer> {
        request.get("from").or(request.get("to"))?;
        Some(span(request, DAY_MS).and_then(|(from, to)| {
            let points = self.store.points(from, to).map_err(|error| broken(&error))?;
            Ok(uncached(Response::json(200, &points)))
        }))
    }

    /// What `/api/export/…` downloads.
    pub(super) fn export(&self, request: &Request) -> Result<Download, Box<Response>> {
        let name = request.path.strip_prefix("/api/export/").unwrap_or_default();
        let (what, format) = match name.rsplit_once('.') {
            Some((what, "csv")) => (what, Format::Csv),
            Some((what, "json")) => (what, Format::Json),
            _ => (name, Format::Json),
        };
        let pieces: Box<dyn Iterator<Item = Vec<u8>> + Send> = match what {
            "counts" => Box::new(self.all_counts(format)?),
            "top" => {
                let top = self.find_top(request, TOP_MAX)?;
                Box::new(std::iter::once(piece(format, &top.top, true, true)))
            }
            "series" => {
                let id = video_id(request.get("video").unwrap_or_default())?;
                let (_, series) = self.buckets(request, id)?;
                let rows: Vec<_> =
                    series.into_iter().map(|(time, plays)| Bucket { time, plays }).collect();
                Box::new(std::iter::once(piece(format, &rows, true, true)))
            }
            _ => {
                return Err(Box::new(Response::error(
                    404,
                    &format!("nothing is at {}", quote(&request.path)),
                )));
            }
        };
        let content_type = match format {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Json => "application/json; charset=utf-8",
        };
        let head = uncached(Response::new(200, content_type, []))
            .with_header("Content-Disposition", format!("attachment; filename=\"{name}\""));
        Ok(Download { head, pieces })
    }

    /// Every video, by id; each piece is read when the one before has gone out. A video whose count changes
    /// meanwhile is there once, as it was when its turn came.
    fn all_counts(
        &self,
        format: Format,
    ) -> Result<impl Iterator<Item = Vec<u8>> + Send + 'static, Box<Response>> {
        let downloading = Downloading::begin(&self.downloads)?;
        let store = Arc::clone(&self.store);
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
                range: None,
            });
            next = page.next.map(Some);
            Some(piece(format, &page.rows, after.is_none(), next.is_none()))
        }))
    }
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
            whole(Format::Csv),
            "time,plays\r\n1970-01-01T00:00:00Z,5\r\n1970-01-01T00:01:00Z,5\r\n2023-11-14T22:13:20.123Z,5\r\n"
        );
        let rows: Vec<serde_json::Value> = serde_json::from_str(&whole(Format::Json)).unwrap();
        assert_eq!((rows.len(), &rows[1]), (3, &json!({"time": 60_000, "plays": 5})));
        for (format, want) in [(Format::Csv, "time,plays\r\n"), (Format::Json, "[]\n")] {
            assert_eq!(piece::<Bucket>(format, &[], true, true), want.as_bytes());
        }
    }
}
