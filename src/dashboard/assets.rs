//! The page's files, compiled in: no path from the network ever names a file (pure).

use crate::hash::fnv1a;
use crate::http::{Request, Response};

/// Scripts, styles and data from here alone, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $file:literal, $type:literal) => {
        Asset { path: $path, content_type: $type, bytes: include_bytes!(concat!("page/", $file)) }
    };
}

const ASSETS: [Asset; 13] = [
    asset!("/api/openapi.json", "../openapi.json", "application/json"),
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("/style.css", "style.css", "text/css; charset=utf-8"),
    asset!("/favicon.svg", "favicon.svg", "image/svg+xml"),
    asset!("/app.js", "app.js", "text/javascript; charset=utf-8"),
    asset!("/format.js", "format.js", "text/javascript; charset=utf-8"),
    asset!("/charts.js", "charts.js", "text/javascript; charset=utf-8"),
    asset!("/table.js", "table.js", "text/javascript; charset=utf-8"),
    asset!("/queue.js", "queue.js", "text/javascript; charset=utf-8"),
    asset!("/queue.css", "queue.css", "text/css; charset=utf-8"),
    asset!("/uplot/uPlot.iife.min.js", "uplot/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    asset!("/uplot/uPlot.min.css", "uplot/uPlot.min.css", "text/css; charset=utf-8"),
    asset!("/uplot/LICENSE", "uplot/LICENSE", "text/plain; charset=utf-8"),
];

/// The file at the request's path; 304 if the browser has it.
pub(super) fn answer(request: &Request) -> Option<Response> {
    let asset = ASSETS.iter().find(|asset| asset.path == request.path)?;
    // Tells two builds' files apart, which is all an ETag is for.
    let etag = format!("\"{:016x}\"", fnv1a(asset.bytes));
    let known = request.header("if-none-match").unwrap_or_default();
    let status = if known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag) {
        304
    } else {
        200
    };
    // The body of a 304 is not sent; it gives tiny_http the right length.
    let answer = Response::new(status, asset.content_type, asset.bytes)
        .with_header("ETag", etag)
        .with_header("Cache-Control", "no-cache")
        .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_file_is_not_sent_again() {
        let mut request = Request { path: "/".to_owned(), ..Request::default() };
        let first = answer(&request).unwrap();
        let (_, etag) = first.headers.iter().find(|(name, _)| *name == "ETag").unwrap().clone();
        assert_eq!(first.status, 200);
        for known in [etag.clone(), format!("\"other\", W/{etag}")] {
            request.headers = vec![("if-none-match".to_owned(), known)];
            assert_eq!(answer(&request).unwrap().status, 304);
        }
        request.path = "/Cargo.toml".to_owned();
        assert!(answer(&request).is_none());
    }

    #[test]
    fn the_page_holds_nothing_inline_and_names_only_its_own_files() {
        let page = ASSETS.iter().find(|asset| asset.path == "/").unwrap();
        let page = std::str::from_utf8(page.bytes).unwrap();
        for inline in
            ["style=", "<style", "<script>", "onclick=", "onload=", "onerror=", "javascript:"]
        {
            assert!(!page.contains(inline), "{inline}");
        }
        let named = page.split('"').filter(|part| part.starts_with('/') && part.contains('.'));
        for path in named {
            assert!(ASSETS.iter().any(|asset| asset.path == path), "{path} is not served");
        }
    }
}
