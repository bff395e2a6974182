//! The page's files, compiled in and gzipped once: no path from the network ever names a file (pure).

use std::borrow::Cow;
use std::sync::LazyLock;

use flate2::Compression;

use super::gzip::{gzip, takes_gzip};
use crate::http::{Request, Response};
use crate::model::hash::fnv1a;

/// Scripts, styles, data and forms from here alone, nothing inline, in nobody's frame.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The type of a page.
pub(super) const HTML: &str = "text/html; charset=utf-8";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

/// A file in both of its forms, with what tells two builds of it apart.
pub(super) struct File {
    content_type: &'static str,
    bytes: Cow<'static, [u8]>,
    /// Empty: it goes out as it is.
    gzipped: Vec<u8>,
    /// A hash of the bytes.
    tag: u64,
}

impl File {
    pub(super) fn new(content_type: &'static str, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        let bytes = bytes.into();
        // If that failed, the file would go out as it is.
        let gzipped = gzip(&bytes, Compression::best()).unwrap_or_default();
        let tag = fnv1a(&bytes);
        Self { content_type, bytes, gzipped, tag }
    }

    /// The file in the form that the request takes; 304 if the browser has it.
    pub(super) fn answer(&self, request: &Request) -> Response {
        let gzipped = Some(&self.gzipped).filter(|bytes| !bytes.is_empty() && takes_gzip(request));
        // All that an ETag is for is to tell two builds' files apart, and the two forms of one.
        let form = if gzipped.is_some() { "-gzip" } else { "" };
        let etag = format!("\"{:016x}{form}\"", self.tag);
        let known = request.header("if-none-match").unwrap_or_default();
        let is_known = known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag);
        let status = if is_known { 304 } else { 200 };
        // The body of a 304 is not sent; it gives tiny_http the right length.
        let body = gzipped.map_or(&*self.bytes, |bytes| bytes);
        let answer = Response::new(status, self.content_type, body)
            .with_header("ETag", etag)
            .with_header("Vary", "Accept-Encoding")
            .with_header("Cache-Control", "no-cache")
            .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
        match gzipped {
            Some(_) => answer.with_header("Content-Encoding", "gzip"),
            None => answer,
        }
    }
}

macro_rules! asset {
    ($path:literal, $file:literal, $type:expr) => {
        Asset { path: $path, content_type: $type, bytes: include_bytes!(concat!("page/", $file)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! script {
    ($name:literal) => {
        Asset {
            path: concat!("/", $name),
            content_type: SCRIPT,
            bytes: include_bytes!(concat!("page/", $name)),
        }
    };
}

macro_rules! style {
    ($name:literal) => {
        Asset {
            path: concat!("/", $name),
            content_type: STYLE,
            bytes: include_bytes!(concat!("page/", $name)),
        }
    };
}

const ASSETS: &[Asset] = &[
    asset!("/", "index.html", HTML),
    asset!("/favicon.svg", "favicon.svg", "image/svg+xml"),
    asset!("/favicon-alarm.svg", "favicon-alarm.svg", "image/svg+xml"),
    style!("style.css"),
    style!("alarm.css"),
    style!("queue.css"),
    style!("sign-in.css"),
    style!("embed.css"),
    script!("embed.js"),
    script!("alarm.js"),
    script!("app.js"),
    script!("asked.js"),
    script!("bars.js"),
    script!("changed.js"),
    script!("charts.js"),
    script!("chosen.js"),
    script!("clock.js"),
    script!("compare.js"),
    script!("counter.js"),
    script!("favourites.js"),
    script!("format.js"),
    script!("keys.js"),
    script!("ledgers.js"),
    script!("letters.js"),
    script!("marks.js"),
    script!("movers.js"),
    script!("net.js"),
    script!("notify.js"),
    script!("overview.js"),
    script!("place.js"),
    script!("queue.js"),
    script!("queue_dialogs.js"),
    script!("queue_drill.js"),
    script!("queue_grid.js"),
    script!("queue_nsqd.js"),
    script!("queue_words.js"),
    script!("share.js"),
    script!("ranges.js"),
    script!("state.js"),
    script!("theme.js"),
    script!("titles.js"),
    script!("video.js"),
    script!("videos.js"),
    script!("worker.js"),
    script!("zonechoice.js"),
    script!("zones.js"),
    script!("uplot/uPlot.iife.min.js"),
    style!("uplot/uPlot.min.css"),
    asset!("/uplot/LICENSE", "uplot/LICENSE", "text/plain; charset=utf-8"),
];

/// [`ASSETS`] in their order, made ready once: 200 KB become 60.
static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    ASSETS.iter().map(|asset| File::new(asset.content_type, asset.bytes)).collect()
});

/// The file at the request's path; 304 if the browser has it.
pub(super) fn answer(request: &Request) -> Option<Response> {
    let index = ASSETS.iter().position(|asset| asset.path == request.path)?;
    Some(FILES[index].answer(request))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let mut request = Request { path: "/".to_owned(), ..Request::default() };
        let first = answer(&request).unwrap();
        let etag = header(&first, "ETag").unwrap().to_owned();
        assert_eq!(first.status, 200);
        for known in [etag.clone(), format!("\"other\", W/{etag}")] {
            request.headers = vec![("if-none-match".to_owned(), known)];
            assert_eq!(answer(&request).unwrap().status, 304);
        }
        // What is known as it is is not known gzipped.
        request.headers.push(("accept-encoding".to_owned(), "gzip".to_owned()));
        assert_eq!(answer(&request).unwrap().status, 200);
        request.path = "/Cargo.toml".to_owned();
        assert!(answer(&request).is_none());
    }

    #[test]
    fn who_takes_gzip_gets_it() {
        for (accepts, gzipped) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let request = Request {
                path: "/app.js".to_owned(),
                headers: vec![("accept-encoding".to_owned(), accepts.to_owned())],
                ..Request::default()
            };
            let answer = answer(&request).unwrap();
            assert_eq!(header(&answer, "Content-Encoding") == Some("gzip"), gzipped, "{accepts}");
            let plain = include_bytes!("page/app.js");
            if gzipped {
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut text).unwrap();
                assert_eq!(text, plain);
            } else {
                assert_eq!(answer.body, plain);
            }
        }
    }

    #[test]
    fn the_page_holds_nothing_inline_and_names_only_its_own_files() {
        let page = std::str::from_utf8(ASSETS[0].bytes).unwrap();
        for inline in
            ["style=", "<style", "<script>", "onclick=", "onload=", "onerror=", "javascript:"]
        {
            assert!(!page.contains(inline), "{inline}");
        }
        let attributes = page.split(" href=\"").skip(1).chain(page.split(" src=\"").skip(1));
        for value in attributes.filter_map(|rest| rest.split('"').next()) {
            // The page itself, what it may show, and places within it.
            let is_page = value.starts_with("./") || value.starts_with('#');
            let is_call =
                ["api/", "metrics", "healthz", "sign-"].iter().any(|call| value.starts_with(call));
            let path = format!("/{value}");
            let is_file = ASSETS.iter().any(|asset| asset.path == path);
            assert!(is_page || is_call || is_file, "{value} is not served");
        }
    }

    #[test]
    fn every_address_is_taken_from_where_the_page_lies() {
        let texts = ASSETS.iter().filter(|asset| !asset.path.starts_with("/uplot/"));
        for asset in texts {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for (at, _) in text.match_indices(['"', '\'', '`', '(']) {
                let rooted = &text[at + 1..];
                let is_rooted = ["/api/", "/events", "/metrics", "/healthz", "/?"]
                    .iter()
                    .any(|path| rooted.starts_with(path))
                    || ASSETS[1..].iter().any(|asset| rooted.starts_with(asset.path));
                let line = rooted.lines().next().unwrap_or_default();
                // `fetchJson` takes the slash off.
                assert!(!is_rooted || text[..at].ends_with("fetchJson("), "{}: {line}", asset.path);
            }
        }
    }
}
