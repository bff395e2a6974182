//! What each HTTP call of the dashboard answers. Runs on the server's worker threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::assets;
use super::guard::{Guard, quote};
use super::live::{Live, SERIES};
use super::metrics::{self, Counters, Format};
use super::nsqds::{ActionError, ActionRequest, Heartbeat, PeekRequest, Watch, WatchedQueue};
use super::periods::Tops;
use super::store::{
    Column, Cursor, LIST_MAX, ListQuery, LoggedAction, Period, Scale, Store, now_ms,
};
use crate::http::{Download, EventStream, Handler, Request, Response};
use crate::runtime::clock::unix_ms;
use crate::wire::{
    ConfirmedAnswer, ConfirmedUpdate, ConsumptionReport, CountsUpdate, MAX_PLAYS, ProducerConfirmed,
};

/// Rows of a list when the call does not say.
const LIMIT_DEFAULT: u32 = 50;

/// The longest reason that an answer gives, in characters: it may quote what was sent.
const REASON_MAX: usize = 300;

/// Everything that requests share.
pub(super) struct App {
    pub(super) store: Arc<Store>,
    pub(super) events: EventStream,
    pub(super) live: Mutex<Live>,
    pub(super) tops: Tops,
    pub(super) watch: Arc<Watch>,
    pub(super) downloads: Arc<AtomicUsize>,
    guard: Guard,
    configuration: Value,
    // Holds one token at most: "counts have changed".
    changed: Sender<()>,
    updates: AtomicU64,
    refused: AtomicU64,
}

pub(super) type Answer = Result<Response, Box<Response>>;

pub(super) fn bad(reason: impl AsRef<str>) -> Box<Response> {
    let reason: String = reason.as_ref().chars().take(REASON_MAX).collect();
    Box::new(Response::error(400, &reason))
}

pub(super) fn unavailable(reason: &str) -> Box<Response> {
    Box::new(Response::error(503, reason).with_header("Retry-After", "1"))
}

pub(super) fn broken(error: &anyhow::Error) -> Box<Response> {
    log::error!("a request could not be answered: {error:#}");
    unavailable(&format!("the counts cannot be read: {error:#}"))
}

impl App {
    pub(super) fn new(
        store: Arc<Store>,
        events: EventStream,
        guard: Guard,
        configuration: Value,
        watched: Option<WatchedQueue>,
        changed: Sender<()>,
    ) -> Self {
        Self {
            store,
            events,
            live: Mutex::default(),
            tops: Tops::default(),
            watch: Arc::new(Watch::new(watched)),
            downloads: Arc::default(),
            guard,
            configuration,
            changed,
            updates: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Sends the present to every page.
    pub(super) fn publish(&self) {
        let stats = self.stats();
        let point = json!(self.live.lock().last_point());
        self.events.publish("stats", &json!({ "stats": stats, "point": point }).to_string());
    }

    fn stats(&self) -> Value {
        let totals = self.store.totals();
        let revision = self.store.revision();
        let mut stats = self.live.lock().stats(Instant::now());
        stats.insert("time".to_owned(), now_ms().into());
        stats.insert("revision".to_owned(), revision.into());
        stats.insert("dashboard".to_owned(), self.store.id().to_string().into());
        stats.insert("total_videos".to_owned(), totals.videos.into());
        stats.insert("total_plays".to_owned(), totals.plays.into());
        Value::Object(stats)
    }

    fn route(&self, request: &Request) -> Answer {
        self.guard.check(request)?;
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let method = if reads { "GET" } else { request.method.as_str() };
        let (allow, answer): (_, fn(&Self, &Request) -> Answer) =
            match (request.path.as_str(), method) {
                ("/api/counts", "GET") => ("", Self::list),
                ("/api/counts", "POST") => ("", Self::take_counts),
                ("/api/counts", "DELETE") => ("", Self::clear),
                ("/api/counts", _) => ("GET, HEAD, POST, DELETE", Self::nothing),
                ("/api/confirmed", "GET") => ("", Self::confirmed),
                ("/api/confirmed", "POST") => ("", Self::take_confirmed),
                ("/api/confirmed", _) => ("GET, HEAD, POST", Self::nothing),
                ("/api/consumption", "POST") => ("", Self::take_consumption),
                ("/api/consumption", _) => ("POST", Self::nothing),
                (path, "GET") if is_series(path) => ("", Self::video_series),
                (path, "GET") if path.starts_with("/api/counts/") => ("", Self::video),
                ("/api/top", "GET") => ("", Self::top),
                ("/api/queue", "GET") => ("", Self::queue),
                ("/api/queue", "POST") => ("", Self::touch_queue),
                ("/api/queue", _) => ("GET, HEAD, POST", Self::nothing),
                ("/api/queue/peek", "POST") => ("", Self::peek),
                ("/api/queue/peek", _) => ("POST", Self::nothing),
                ("/api/processors", "GET") => ("", Self::processors),
                ("/api/diagnosis", "GET") => ("", Self::diagnosis),
                ("/api/audit", "GET") => ("", Self::audit),
                // Reached by HEAD, and by what is refused: the front asks for a download first.
                (path, "GET") if path.starts_with("/api/export/") => {
                    ("", |app, request| Ok(app.export(request)?.head))
                }
                ("/api/stats", "GET") => ("", Self::all_stats),
                ("/api/series", "GET") => ("", Self::series),
                ("/metrics", "GET") => ("", Self::metrics),
                ("/healthz", "GET") => ("", Self::health),
                // Reached only by HEAD: the front hands GET to the hub.
                ("/events", "GET") => ("GET", Self::nothing),
                (path, "GET") => match assets::answer(request) {
                    Some(file) => return Ok(file),
                    None => {
                        return Err(Box::new(Response::error(
                            404,
                            &format!("nothing is at {}", quote(path)),
                        )));
                    }
                },
                _ if self.is_known(request) => ("GET, HEAD", Self::nothing),
                (path, _) => {
                    return Err(Box::new(Response::error(
                        404,
                        &format!("nothing is at {}", quote(path)),
                    )));
                }
            };
        if !allow.is_empty() {
            let reason = format!("{} is not allowed here, but {allow}", quote(&request.method));
            return Err(Box::new(Response::error(405, &reason).with_header("Allow", allow)));
        }
        if !reads {
            self.guard.check_write(request)?;
        }
        answer(self, request)
    }

    fn is_known(&self, request: &Request) -> bool {
        let path = request.path.as_str();
        const READ_ONLY: [&str; 9] = [
            "/api/stats",
            "/api/series",
            "/api/top",
            "/api/processors",
            "/api/diagnosis",
            "/api/audit",
            "/events",
            "/metrics",
            "/healthz",
        ];
        READ_ONLY.contains(&path)
            || path.starts_with("/api/counts/")
            || path.starts_with("/api/export/")
            || assets::answer(request).is_some()
    }

    fn nothing(&self, _request: &Request) -> Answer {
        Ok(Response::default())
    }

    fn take_counts(&self, request: &Request) -> Answer {
        let mut update: CountsUpdate = parse(&request.body)?;
        parse::<Shape>(&request.body)?;
        update.check().map_err(|error| bad(error.to_string()))?;
        let accepted = update.counts.len();
        let (processor, version, consumption) =
            (update.processor, update.version, update.consumption.take());
        self.store.merge(update).map_err(|reason| unavailable(&reason))?;
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.live.lock().report(processor, Some(version), consumption, Instant::now());
        // Full: the sampler has yet to look, and will see this change too.
        let _ = self.changed.try_send(());
        Ok(self.written(accepted))
    }

    fn take_consumption(&self, request: &Request) -> Answer {
        let report: ConsumptionReport = parse(&request.body)?;
        report.check().map_err(|error| bad(error.to_string()))?;
        self.live.lock().report(report.processor, None, Some(report.consumption), Instant::now());
        Ok(self.written(1))
    }

    fn take_confirmed(&self, request: &Request) -> Answer {
        let update: ConfirmedUpdate = parse(&request.body)?;
        update.check().map_err(|error| bad(error.to_string()))?;
        let accepted = update.producers.len();
        self.store.confirm(update).map_err(|reason| unavailable(&reason))?;
        Ok(self.written(accepted))
    }

    /// The answer to a write that is committed.
    fn written(&self, accepted: usize) -> Response {
        Response::json(200, &json!({ "accepted": accepted, "dashboard": self.store.id() }))
    }

    fn confirmed(&self, request: &Request) -> Answer {
        let text = request.get("producer").unwrap_or_default();
        let producer = parse_id(text)
            .ok_or_else(|| bad(format!("producer must be a UUID, not {}", quote(text))))?;
        if let Some(text) = request.get("outbox") {
            let plays = text.parse().ok().filter(|plays| *plays <= MAX_PLAYS);
            let plays = plays.ok_or_else(|| {
                bad(format!("outbox must be a number of plays, not {}", quote(text)))
            })?;
            // A browser says whose page asks, and no page has an outbox.
            if request.header("sec-fetch-site").is_none() && request.header("origin").is_none() {
                self.live.lock().outbox(producer, plays, Instant::now());
            }
        }
        let confirmed = self.store.confirmed(&producer).map_err(|error| broken(&error))?;
        let processors = self.live.lock().alive(Instant::now());
        let answer =
            ConfirmedAnswer { told: ProducerConfirmed { producer, confirmed }, processors };
        Ok(uncached(Response::json(200, &json!(answer))))
    }

    fn queue(&self, _request: &Request) -> Answer {
        Ok(uncached(Response::json(200, &self.watch.show())))
    }

    /// Does something to a topic or channel. With a line before, so that nothing is done that could not be written down,
    /// and one behind it.
    fn touch_queue(&self, request: &Request) -> Answer {
        self.guard.check_token_is_set()?;
        let order: ActionRequest = parse(&request.body)?;
        let action = json!(order.action);
        let mut line =
            audit_line(request, action.as_str().unwrap_or_default(), &order.target(), "asked");
        self.store.log_action(line.clone()).map_err(|reason| unavailable(&reason))?;
        let done = self.watch.execute(&order);
        line.at = unix_ms();
        line.outcome = done.as_ref().map_or_else(ActionError::to_string, |()| "done".to_owned());
        self.log_audit(line)?;
        done.map_err(refused)?;
        Ok(Response::json(200, &json!({ "done": true })))
    }

    /// Shows messages that pass by. One line behind it: it changes nothing, and what could not be written down is not
    /// shown.
    fn peek(&self, request: &Request) -> Answer {
        let order: PeekRequest = parse(&request.body)?;
        let found = self.watch.peek(&order);
        let outcome = found.as_ref().map_or_else(ActionError::to_string, |_| "done".to_owned());
        self.log_audit(audit_line(request, "peek", &order.target(), &outcome))?;
        Ok(uncached(Response::json(200, &found.map_err(refused)?)))
    }

    /// Keeps a line, and logs it.
    fn log_audit(&self, line: LoggedAction) -> Result<(), Box<Response>> {
        let LoggedAction { peer, action, target, outcome, .. } = &line;
        log::info!("{peer} asked to {action} {}: {}", quote(target), quote(outcome));
        self.store.log_action(line).map_err(|reason| unavailable(&reason))
    }

    fn audit(&self, _request: &Request) -> Answer {
        let lines = self.store.actions().map_err(|error| broken(&error))?;
        Ok(uncached(Response::json(200, &json!({ "audit": lines }))))
    }

    fn processors(&self, _request: &Request) -> Answer {
        let (live, now) = (self.live.lock(), Instant::now());
        let told = json!({ "processors": live.processors(now), "producers": live.producers(now) });
        Ok(uncached(Response::json(200, &told)))
    }

    fn diagnosis(&self, _request: &Request) -> Answer {
        let heartbeats: Vec<Heartbeat> = self.live.lock().heartbeats(Instant::now());
        let health = self.store.health();
        let findings =
            self.watch.diagnose(&heartbeats, health.as_ref().err().map(|reason| &**reason));
        Ok(uncached(Response::json(200, &json!({ "findings": findings }))))
    }

    fn clear(&self, request: &Request) -> Answer {
        self.store.clear().map_err(|reason| unavailable(&reason))?;
        self.live.lock().clear();
        let _ = self.changed.try_send(());
        self.log_audit(audit_line(request, "reset", "counts", "done"))?;
        Ok(Response::json(200, &json!({ "cleared": true })))
    }

    fn list(&self, request: &Request) -> Answer {
        let query = parse_list(request)?;
        // Read before the rows: a page that shows newer rows than its revision asks once more, not never.
        let revision = self.store.revision();
        let page = self.store.list(&query);
        let totals = self.store.totals();
        let answer = json!({
            "total_videos": totals.videos,
            "total_plays": totals.plays,
            "matching": page.matching,
            "revision": revision,
            "next": page.next.map(|cursor| cursor.to_string()),
            "counts": page.rows,
        });
        Ok(uncached(Response::json(200, &answer)))
    }

    fn video(&self, request: &Request) -> Answer {
        let text = request.path.strip_prefix("/api/counts/").unwrap_or_default();
        let id =
            parse_id(text).ok_or_else(|| bad(format!("{} is no video id: a UUID", quote(text))))?;
        let Some((video, rank)) = self.store.video(id) else {
            return Err(Box::new(Response::error(404, &format!("video {id} has no plays"))));
        };
        let now = now_ms() / 60_000;
        let hour = Period { first: now - 59, last: now };
        let minutes = self.store.series(id, Scale::Minute, hour).map_err(|error| broken(&error))?;
        let mut answer = json!(video);
        answer["rank"] = rank.into();
        // The count at the end of each minute in which it changed.
        let mut plays = video.plays;
        let mut history: Vec<_> = minutes
            .iter()
            .rev()
            .map(|(at, more)| {
                let point = json!({ "at": at, "plays": plays });
                plays -= more;
                point
            })
            .collect();
        history.reverse();
        answer["history"] = history.into();
        Ok(uncached(Response::json(200, &answer)))
    }

    fn all_stats(&self, _request: &Request) -> Answer {
        let mut stats = self.stats();
        stats["configuration"] = self.configuration.clone();
        Ok(uncached(Response::json(200, &stats)))
    }

    fn series(&self, request: &Request) -> Answer {
        let names: Vec<_> = request
            .query
            .iter()
            .filter(|(key, _)| key == "name")
            .map(|(_, name)| name.as_str())
            .collect();
        if let Some(name) = names.iter().find(|name| !SERIES.contains(name)) {
            return Err(bad(format!(
                "name must be one of {}, not {}",
                SERIES.join(", "),
                quote(name)
            )));
        }
        let since = match request.get("since") {
            None => 0,
            Some(text) => text
                .parse()
                .ok()
                .filter(|since| (0..=MAX_PLAYS as i64).contains(since))
                .ok_or_else(|| {
                    bad(format!("since must be ms since the Unix epoch, not {}", quote(text)))
                })?,
        };
        if let Some(answer) = self.stored_series(request) {
            return answer;
        }
        let names = if names.is_empty() { SERIES.to_vec() } else { names };
        Ok(uncached(Response::json(200, &self.live.lock().series(&names, since))))
    }

    fn metrics(&self, request: &Request) -> Answer {
        let counters = Counters {
            updates: self.updates.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            streams: self.events.clients(),
        };
        let accepts = request.header("accept").unwrap_or_default();
        let format = Format::of(accepts);
        let text = metrics::render(format, self.store.totals(), &self.live.lock(), &counters);
        Ok(uncached(Response::new(200, format.content_type(), text)))
    }

    fn health(&self, _request: &Request) -> Answer {
        self.store.health().map_err(|reason| unavailable(&reason))?;
        if let Some(reason) = self.live.lock().failure(Instant::now()) {
            return Err(unavailable(&format!("a processor has stopped counting: {reason}")));
        }
        Ok(uncached(Response::json(200, &json!({ "status": "ok" }))))
    }
}

fn audit_line(request: &Request, action: &str, target: &str, outcome: &str) -> LoggedAction {
    LoggedAction {
        at: unix_ms(),
        peer: request.peer.map_or_else(String::new, |peer| peer.to_string()),
        action: action.to_owned(),
        target: target.chars().take(REASON_MAX).collect(),
        outcome: outcome.to_owned(),
    }
}

fn refused(error: ActionError) -> Box<Response> {
    match error {
        ActionError::Invalid(reason) => bad(reason),
        ActionError::NotFound(reason) => Box::new(Response::error(404, &reason)),
        ActionError::Conflict(reason) => Box::new(Response::error(409, &reason)),
        ActionError::Upstream(reason) => Box::new(Response::error(502, &reason)),
        ActionError::Busy(reason) => unavailable(&reason),
    }
}

impl Handler for App {
    fn handle(&self, request: &Request) -> Response {
        let answer = self.route(request).unwrap_or_else(|refused| *refused);
        if answer.status >= 400 && !matches!(request.method.as_str(), "GET" | "HEAD") {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn download(&self, request: &Request) -> Option<Download> {
        if !request.path.starts_with("/api/export/") || self.guard.check(request).is_err() {
            return None;
        }
        // What is refused is answered by `handle`.
        self.export(request).ok()
    }

    fn stream(&self, request: &Request) -> Option<&EventStream> {
        (request.path == "/events" && self.guard.check(request).is_ok()).then_some(&self.events)
    }
}

pub(super) fn uncached(response: Response) -> Response {
    response.with_header("Cache-Control", "no-store")
}

/// `/api/counts/<id>/series`.
fn is_series(path: &str) -> bool {
    path.starts_with("/api/counts/") && path.ends_with("/series")
}

/// Serde takes an array of a struct's fields for the struct; here every count must be an object.
#[derive(serde::Deserialize)]
struct Shape {
    #[serde(rename = "counts")]
    _counts: Vec<serde_json::Map<String, Value>>,
}

/// Reads a body that must be one JSON object.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    // serde would also take an array of the fields in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("the body must be one JSON object"));
    }
    serde_json::from_slice(body).or_else(|error| from_loose(body).ok_or(error)).map_err(|error| {
        // The text may quote what was sent: nothing of it may act on a terminal.
        let text: String =
            error.to_string().chars().filter(|character| !character.is_control()).collect();
        bad(format!("the body does not fit: {text}"))
    })
}

/// Reads a body that has whole numbers written as 3.0, which are integers to JSON Schema.
fn from_loose<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    fn whole(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(whole),
            Value::Object(fields) => fields.values_mut().for_each(whole),
            Value::Number(number) => {
                let whole = number.as_f64().filter(|float| {
                    number.is_f64()
                        && float.fract() == 0.0
                        && (0.0..=MAX_PLAYS as f64).contains(float)
                });
                if let Some(float) = whole {
                    *number = (float as u64).into();
                }
            }
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(body).ok()?;
    whole(&mut value);
    serde_json::from_value(value).ok()
}

/// A UUID as everybody writes it, in 36 characters; not in braces, as a URN or without hyphens.
pub(super) fn parse_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn parse_list(request: &Request) -> Result<ListQuery, Box<Response>> {
    let sort = request.get("sort").unwrap_or("-plays");
    let (descending, name) = sort.strip_prefix('-').map_or((false, sort), |name| (true, name));
    let Some((_, column)) = Column::ALL.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = Column::ALL.iter().map(|(name, _)| *name).collect();
        return Err(bad(format!(
            "sort must be one of {}, with a - before it for descending, not {}",
            names.join(", "),
            quote(sort)
        )));
    };
    let limit = number(request, "limit", LIMIT_DEFAULT, 1, LIST_MAX)?;
    let offset = number(request, "offset", 0, 0, u32::MAX)?;
    let range = match request.get("search").map(str::trim).unwrap_or_default() {
        "" => None,
        text => Some(prefix_range(text).ok_or_else(|| {
            bad(format!(
                "search takes the start of a video id, digits 0-9 a-f and dashes, not {}",
                quote(text)
            ))
        })?),
    };
    let after = match request.get("after") {
        None => None,
        Some(text) => {
            let cursor: Cursor = text.parse().map_err(|()| {
                bad(format!("after takes the next of the page before, not {}", quote(text)))
            })?;
            if cursor.column != *column {
                return Err(bad(format!("after is of a list with another sort than {sort}")));
            }
            Some(cursor)
        }
    };
    Ok(ListQuery { column: *column, descending, limit, offset, after, range })
}

pub(super) fn number(
    request: &Request,
    name: &str,
    default: u32,
    min: u32,
    max: u32,
) -> Result<u32, Box<Response>> {
    let Some(text) = request.get(name) else { return Ok(default) };
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) && !text.starts_with('+') => Ok(number),
        _ => Err(bad(format!("{name} must be a number from {min} to {max}, not {}", quote(text)))),
    }
}

/// The lowest and the highest UUID that start with `text`, dashes in their places or left out.
fn prefix_range(text: &str) -> Option<(Uuid, Uuid)> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let dashed = text.contains('-');
    let mut digits = String::new();
    for (index, character) in text.char_indices() {
        if dashed && DASHES.contains(&index) {
            (character == '-').then_some(())?;
        } else {
            character.is_ascii_hexdigit().then_some(())?;
            digits.push(character);
        }
    }
    let missing = 32usize.checked_sub(digits.len())?;
    let bound = |fill: &str| Uuid::try_parse(&format!("{digits}{}", fill.repeat(missing))).ok();
    Some((bound("0")?, bound("f")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let range =
            |text: &str| prefix_range(text).map(|(low, high)| (low.to_string(), high.to_string()));
        let want = ("3fa00000-0000-0000-0000-000000000000", "3fafffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(range("3Fa"), Some((want.0.to_owned(), want.1.to_owned())));
        let whole = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
        assert_eq!(range(whole), Some((whole.to_owned(), whole.to_owned())));
        assert_eq!(range(&whole.replace('-', "")), range(whole));
        assert!(range("3fa85f64-57").is_some() && range("3fa85f64-").is_some());
        for text in [
            "3f-a",
            "x",
            "3fa85f64--",
            "3fa85f645717-",
            "é",
            "%",
            "3fa85f64-5717-4562-b3fc-2c963f66afa6a",
        ] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
