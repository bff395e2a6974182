//! Which call is where: one table of path, method, whether it writes, and handler. Runs on the server's worker threads.

use super::answer::{CallError, CallResult};
use super::app::App;
use super::assets;
use super::calls::{
    actions, confirmed, consumption, counts, document, export, health, ledgers, processors, queue,
    series, stats, top,
};
use super::operation::Operation;
use super::query::Call;
use crate::http::{Download, EventStream, Handler, Request, Response};

/// A path's parameter, where it has one.
pub(super) const VIDEO_ID: &str = "{video_id}";

/// What is done at a route.
#[derive(Clone, Copy)]
pub(super) enum Handling {
    /// Answers GET and HEAD.
    Read(fn(&App, Call<'_>) -> CallResult),
    /// Changes something: the guard is asked first.
    Write(fn(&App, Call<'_>) -> CallResult),
    /// Answers GET piece by piece, HEAD with its head.
    Download(fn(&App, Call<'_>) -> Result<Download, CallError>),
    /// Answers GET with events that do not end; HEAD is not allowed.
    Stream,
}

/// One row of the table.
pub(super) struct Route {
    /// `GET` stands for HEAD, too.
    pub(super) method: &'static str,
    /// May hold [`VIDEO_ID`] once.
    pub(super) path: &'static str,
    pub(super) handling: Handling,
    pub(super) operation: &'static Operation,
}

const fn get(
    path: &'static str,
    handler: fn(&App, Call<'_>) -> CallResult,
    operation: &'static Operation,
) -> Route {
    Route { method: "GET", path, handling: Handling::Read(handler), operation }
}

const fn download(
    path: &'static str,
    handler: fn(&App, Call<'_>) -> Result<Download, CallError>,
    operation: &'static Operation,
) -> Route {
    Route { method: "GET", path, handling: Handling::Download(handler), operation }
}

const fn write(
    method: &'static str,
    path: &'static str,
    handler: fn(&App, Call<'_>) -> CallResult,
    operation: &'static Operation,
) -> Route {
    Route { method, path, handling: Handling::Write(handler), operation }
}

const STREAM: Route =
    Route { method: "GET", path: "/events", handling: Handling::Stream, operation: &stats::EVENTS };

/// Every call but those for the page's files. The first row whose path fits is taken.
pub(super) static ROUTES: &[Route] = &[
    get("/api/counts", counts::list, &counts::LIST),
    write("POST", "/api/counts", counts::update, &counts::UPDATE),
    write("DELETE", "/api/counts", counts::clear, &counts::CLEAR),
    get("/api/counts/{video_id}/series", series::of_video, &series::OF_VIDEO),
    get("/api/counts/{video_id}", counts::video, &counts::VIDEO),
    get("/api/confirmed", confirmed::ask, &confirmed::ASK),
    write("POST", "/api/confirmed", confirmed::update, &confirmed::UPDATE),
    write("POST", "/api/ledgers", ledgers::claim, &ledgers::CLAIM),
    write("POST", "/api/consumption", consumption::report, &consumption::REPORT),
    get("/api/stats", stats::all, &stats::ALL),
    get("/api/series", series::charts, &series::CHARTS),
    get("/api/top", top::top, &top::TOP),
    download("/api/export/counts.csv", export::counts_csv, &export::COUNTS_CSV),
    download("/api/export/counts.json", export::counts_json, &export::COUNTS_JSON),
    download("/api/export/top.csv", export::top_csv, &export::TOP_CSV),
    download("/api/export/top.json", export::top_json, &export::TOP_JSON),
    download("/api/export/series.csv", export::series_csv, &export::SERIES_CSV),
    download("/api/export/series.json", export::series_json, &export::SERIES_JSON),
    get("/api/queue", queue::show, &queue::SHOW),
    write("POST", "/api/queue", queue::act, &queue::ACT),
    write("POST", "/api/queue/peek", queue::peek, &queue::PEEK),
    get("/api/processors", processors::list, &processors::LIST),
    get("/api/diagnosis", health::diagnosis, &health::DIAGNOSIS),
    get("/api/audit", actions::list, &actions::LIST),
    get("/api/openapi.json", document::get, &document::GET),
    STREAM,
    get("/metrics", stats::metrics, &stats::METRICS),
    get("/healthz", health::health, &health::HEALTH),
];

impl Route {
    /// What `path` has in the place of the route's parameter, empty where it has none; `None` if it does not fit.
    fn fit<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.path.split_once(VIDEO_ID) {
            None => (path == self.path).then_some(""),
            Some((before, behind)) => path.strip_prefix(before)?.strip_suffix(behind),
        }
    }
}

/// The routes at a path, all with the same parameter, and what the path has in its place.
fn at(path: &str) -> Option<(impl Iterator<Item = &'static Route>, &str)> {
    let (first, path_value) = ROUTES.iter().find_map(|route| Some((route, route.fit(path)?)))?;
    Some((ROUTES.iter().filter(|route| route.path == first.path), path_value))
}

/// The methods of those routes, as the header `Allow` lists them.
fn allowed(routes: impl Iterator<Item = &'static Route>) -> String {
    let methods = routes.map(|route| match route.method {
        "GET" => "GET, HEAD",
        method => method,
    });
    methods.collect::<Vec<_>>().join(", ")
}

fn answer(app: &App, request: &Request) -> CallResult {
    app.guard.check(request)?;
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    let method = if reads { "GET" } else { request.method.as_str() };
    let Some((mut routes, path_value)) = at(&request.path) else {
        let file = assets::answer(request);
        return match file {
            Some(file) if reads => Ok(file),
            Some(_) => Err(CallError::not_allowed(&request.method, "GET, HEAD".to_owned())),
            None => Err(CallError::nothing_at(&request.path)),
        };
    };
    let Some(route) = routes.find(|route| route.method == method) else {
        let allow = at(&request.path).map(|(routes, _)| allowed(routes)).unwrap_or_default();
        return Err(CallError::not_allowed(&request.method, allow));
    };
    let call = Call { request, path_value };
    match route.handling {
        Handling::Read(handler) => handler(app, call),
        Handling::Write(handler) => {
            app.check_write(request, route.path)?;
            handler(app, call)
        }
        // Reached by HEAD, and by what is refused: the server asks for a download first.
        Handling::Download(handler) => Ok(handler(app, call)?.head),
        // Reached by HEAD: the server asks for a stream first.
        Handling::Stream => Err(CallError::not_allowed(&request.method, "GET".to_owned())),
    }
}

/// What is done at the path of a GET, if its caller may ask at all.
fn vetted<'a>(app: &App, request: &'a Request) -> Option<(Handling, Call<'a>)> {
    let (mut routes, path_value) = at(&request.path)?;
    let route = routes.find(|route| route.method == "GET")?;
    app.guard.check(request).ok()?;
    Some((route.handling, Call { request, path_value }))
}

impl Handler for App {
    fn handle(&self, request: &Request) -> Response {
        let answer = answer(self, request).unwrap_or_else(Response::from);
        if answer.status >= 400 && !matches!(request.method.as_str(), "GET" | "HEAD") {
            self.count_refused();
        }
        answer
    }

    fn download(&self, request: &Request) -> Option<Download> {
        match vetted(self, request)? {
            // What is refused is answered by `handle`.
            (Handling::Download(handler), call) => handler(self, call).ok(),
            _ => None,
        }
    }

    fn stream(&self, request: &Request) -> Option<&EventStream> {
        matches!(vetted(self, request)?, (Handling::Stream, _)).then_some(&self.events)
    }
}
