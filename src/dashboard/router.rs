//! Which call is where: one table of path, method, whether it writes, and handler. Runs on the server's worker threads.

use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::answer::{CallError, CallResult, Status};
use super::app::App;
use super::assets;
use super::calls::{
    actions, confirmed, consumption, counts, document, export, health, imports, ledgers, letters,
    plays, processors, queue, series, settings, stats, top, videos,
};
use super::guard::WhoReads;
use super::gzip;
use super::operation::Operation;
use super::query::Call;
use super::sign_in;
use crate::http::{Download, EventStream, Handler, Request, Response};

/// A path's parameter, where it has one: a video's id or an import's. An id may hold what ends a part of a path elsewhere.
pub(super) const PARAMETERS: [&str; 2] = ["{video_id}", "{import}"];

/// Answers everybody, also where reading needs a token.
pub(super) const HEALTH: &str = "/healthz";

/// Behind these a path may hold any text, percent-encoded.
const TEXT_PATHS: &[&str] = &["/api/counts/", "/api/videos/"];

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
    /// May hold one of [`PARAMETERS`] once.
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
    get("/api/counts/{video_id}/plays", plays::of_video, &plays::OF_VIDEO),
    get("/api/counts/{video_id}", counts::video, &counts::VIDEO),
    write("POST", "/api/videos", videos::set_many, &videos::SET_MANY),
    download("/api/videos.csv", export::titles_csv, &export::TITLES_CSV),
    get("/api/videos/changed", videos::changed, &videos::CHANGED),
    write("PUT", "/api/videos/{video_id}/visibility", videos::show, &videos::SHOW),
    write("PUT", "/api/videos/{video_id}/correction", videos::correct, &videos::CORRECT),
    write("PUT", "/api/videos/{video_id}", videos::set, &videos::SET),
    get("/api/imports", imports::list, &imports::LIST),
    write("POST", "/api/imports", imports::take, &imports::TAKE),
    write("DELETE", "/api/imports/{import}", imports::take_back, &imports::TAKE_BACK),
    get("/api/settings", settings::get, &settings::GET),
    get("/api/confirmed", confirmed::ask, &confirmed::ASK),
    write("POST", "/api/confirmed", confirmed::update, &confirmed::UPDATE),
    write("POST", "/api/ledgers", ledgers::claim, &ledgers::CLAIM),
    write("POST", "/api/consumption", consumption::report, &consumption::REPORT),
    get("/api/dead-letters", letters::list, &letters::LIST),
    write("POST", "/api/dead-letters", letters::tell, &letters::TELL),
    get("/api/stats", stats::all, &stats::ALL),
    get("/api/series", series::charts, &series::CHARTS),
    get("/api/plays", plays::of_all, &plays::OF_ALL),
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
    get("/api/alarms", health::alarms, &health::ALARMS),
    get("/api/audit", actions::list, &actions::LIST),
    get("/api/openapi.json", document::get, &document::GET),
    STREAM,
    get("/metrics", stats::metrics, &stats::METRICS),
    get(HEALTH, health::health, &health::HEALTH),
];

impl Route {
    /// What `path` has in the place of the route's parameter, empty where it has none; `None` if it does not fit. A slash in a
    /// parameter is encoded.
    fn fit<'a>(&self, path: &'a str) -> Option<&'a str> {
        match PARAMETERS.iter().find_map(|name| self.path.split_once(name)) {
            None => (path == self.path).then_some(""),
            Some((before, behind)) => {
                let value = path.strip_prefix(before)?.strip_suffix(behind)?;
                (!value.contains('/')).then_some(value)
            }
        }
    }
}

/// The routes at a path, each with what the path has in the place of its parameter.
fn at(path: &str) -> impl Iterator<Item = (&'static Route, &str)> {
    ROUTES.iter().filter_map(move |route| Some((route, route.fit(path)?)))
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
    if let Some(answer) = sign_in::answer(app, request) {
        return answer;
    }
    let embed = app.embed.as_ref();
    if let Some(answer) = embed.and_then(|embed| embed.answer(&app.guard, request)) {
        return answer;
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    let method = if reads { "GET" } else { request.method.as_str() };
    let Some((route, path_value)) = at(&request.path).find(|(route, _)| route.method == method)
    else {
        return without_route(app, request, reads);
    };
    let path_value = percent_decode_str(path_value).decode_utf8_lossy();
    let call = Call { request, path_value: &path_value };
    match route.handling {
        Handling::Read(_) if route.path == HEALTH && app.guard.reader(request).is_err() => {
            health::in_short(app, call)
        }
        Handling::Read(handler) => {
            let reader = app.guard.reader(request)?;
            let answer = gzip::smaller(request, handler(app, call)?);
            Ok(stay_signed_in(app, reader, answer))
        }
        Handling::Write(handler) => {
            app.check_write(request, route.path)?;
            handler(app, call)
        }
        // Reached by HEAD, and by what is refused: the server asks for a download first.
        Handling::Download(handler) => {
            app.guard.reader(request)?;
            Ok(handler(app, call)?.head)
        }
        // Reached by HEAD: the server asks for a stream first.
        Handling::Stream => {
            app.guard.reader(request)?;
            Err(CallError::not_allowed(&request.method, "GET".to_owned()))
        }
    }
}

/// Who comes again before a session ends is not asked to sign in again.
fn stay_signed_in(app: &App, reader: WhoReads, answer: Response) -> Response {
    let WhoReads::Person(session) = reader else { return answer };
    match app.guard.renewed(session) {
        Some(cookie) => answer.with_header("Set-Cookie", cookie),
        None => answer,
    }
}

/// The answer to a request for which there is no route: a file of the page, or why not.
fn without_route(app: &App, request: &Request, reads: bool) -> CallResult {
    if at(&request.path).next().is_some() {
        let allow = allowed(at(&request.path).map(|(route, _)| route));
        return Err(CallError::not_allowed(&request.method, allow));
    }
    // The other files of the page are those of every dashboard.
    if request.path == "/" && reads {
        match app.guard.reader(request) {
            Err(error) if error.status() == Status::Unauthorized => {
                return Ok(sign_in::ask_to(request));
            }
            reader => drop(reader?),
        }
    }
    match assets::answer(request) {
        Some(file) if reads => Ok(file),
        Some(_) => Err(CallError::not_allowed(&request.method, "GET, HEAD".to_owned())),
        None => Err(CallError::nothing_at(&request.path)),
    }
}

/// What is done at the path of a GET, if its caller may ask at all.
fn vetted<'a>(app: &App, request: &'a Request) -> Option<(Handling, Call<'a>)> {
    // No download and no stream has a parameter that would have to be decoded.
    let (route, path_value) = at(&request.path).find(|(route, _)| route.method == "GET")?;
    app.guard.check(request).ok()?;
    app.guard.reader(request).ok()?;
    Some((route.handling, Call { request, path_value }))
}

impl Handler for App {
    fn text_paths(&self) -> &'static [&'static str] {
        TEXT_PATHS
    }

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

    fn stream_owner(&self, request: &Request) -> Option<Uuid> {
        self.guard.session(request).map(|session| session.id)
    }

    fn stream(&self, request: &Request) -> Option<&EventStream> {
        matches!(vetted(self, request)?, (Handling::Stream, _)).then_some(&self.events)
    }
}
