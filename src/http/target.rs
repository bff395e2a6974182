//! What the target of a request means: its path and its query, decoded (pure).
//!
//! Whatever two parsers could read in two ways is refused: encoded slashes and dots, half an escape, bytes that are
//! not UTF-8.

use percent_encoding::percent_decode_str;

/// The most pairs in a query; the longest API here takes 6.
const QUERY_MAX: usize = 64;

/// Why a request is answered without being handled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

pub(super) fn bad(reason: &'static str) -> Refusal {
    Refusal::new(400, reason)
}

/// A path, and the pairs of a query in their order.
pub(super) type PathAndQuery = (String, Vec<(String, String)>);

/// Path and query of an origin-form target, decoded.
pub(super) fn parse(target: &str) -> Result<PathAndQuery, Refusal> {
    if !target.starts_with('/') {
        return Err(bad("the target must be a path that starts with /"));
    }
    if !target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\' && byte != b'#') {
        return Err(bad("the target holds a character that must be encoded"));
    }
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    if raw_path.to_ascii_lowercase().contains("%2f") {
        return Err(bad("the path holds an encoded slash"));
    }
    let path = decoded(raw_path).ok_or(bad("the path is not encoded properly"))?;
    if path.chars().any(|character| character.is_control() || matches!(character, '\\' | '%')) {
        return Err(bad("the path holds a character that no path here has"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(bad("the path leads elsewhere"));
    }
    // form_urlencoded takes whatever comes; what it would mend is refused first.
    decoded(raw_query).ok_or(bad("the query is not encoded properly"))?;
    let mut pairs = form_urlencoded::parse(raw_query.as_bytes());
    let query =
        pairs.by_ref().take(QUERY_MAX).map(|(key, value)| (key.into(), value.into())).collect();
    if pairs.next().is_some() {
        return Err(bad("the query has more than 64 parts"));
    }
    Ok((path, query))
}

/// Undoes percent encoding; `None` for half an escape or bytes that are not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let mut escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    let is_whole = escapes.all(|(at, _)| is_hex(bytes.get(at + 1)) && is_hex(bytes.get(at + 2)));
    let text = percent_decode_str(text).decode_utf8().ok()?;
    is_whole.then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for target in [
            "/../etc/passwd",
            "/a/../b",
            "/.",
            "/%2e%2e/x",
            "/%2E./x",
            "/a%2fb",
            "/a%2Fb",
            "/%00",
            "/%0d%0a",
            "/%252e%252e",
            "/a%5cb",
            "/a\\b",
            "/%c0%ae",
            "/%",
            "/%4",
            "/%zz",
            "http://example.org/",
            "//%2e",
            "*",
            "a",
            "/a#b",
            "/?a=%",
            "/?a=%ff",
        ] {
            assert_eq!(parse(target).map_err(|refusal| refusal.status), Err(400), "{target}");
        }
    }

    #[track_caller]
    fn check(target: &str, want: &[(&str, &str)]) {
        let (_, query) = parse(target).unwrap();
        let query: Vec<_> = query.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(query, want, "{target}");
    }

    #[test]
    fn queries_are_decoded() {
        check("/", &[]);
        check("/?", &[]);
        check("/?&&", &[]);
        check("/?a", &[("a", "")]);
        check("/?a=b=c&a=%26+%2B", &[("a", "b=c"), ("a", "& +")]);
        check("/?%c3%a9=%C3%A9", &[("é", "é")]);
        check(&format!("/?{}", "a&".repeat(64)), &[("a", ""); 64]);
        assert!(parse(&format!("/?{}", "a&".repeat(65))).is_err());
        // Neither half is UTF-8.
        assert!(parse("/?a=%c3&b=%a9").is_err());
    }
}
