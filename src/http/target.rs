//! What the target of a request means: its path and its query, decoded (pure).
//!
//! Whatever two parsers could read in two ways is refused: encoded slashes and dots, half an escape, bytes that are
//! not UTF-8. Behind a path of text a part may hold any text, encoded: what could be read in two ways stays encoded there.

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

/// Path and query of an origin-form target, decoded. A part of a path that starts with one of `text_paths` may hold any text
/// without control characters; `%`, `/` and `\` stay encoded in it.
pub(super) fn parse(target: &str, text_paths: &[&str]) -> Result<PathAndQuery, Refusal> {
    if !target.starts_with('/') {
        return Err(bad("the target must be a path that starts with /"));
    }
    if !target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\' && byte != b'#') {
        return Err(bad("the target holds a character that must be encoded"));
    }
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    let path = match text_paths.iter().any(|start| raw_path.starts_with(start)) {
        true => path_of_text(raw_path)?,
        false => plain_path(raw_path)?,
    };
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

fn plain_path(raw: &str) -> Result<String, Refusal> {
    if raw.to_ascii_lowercase().contains("%2f") {
        return Err(bad("the path holds an encoded slash"));
    }
    let path = decoded(raw).ok_or(bad("the path is not encoded properly"))?;
    if path.chars().any(|character| character.is_control() || matches!(character, '\\' | '%')) {
        return Err(bad("the path holds a character that no path here has"));
    }
    if path.split('/').any(leads_elsewhere) {
        return Err(bad("the path leads elsewhere"));
    }
    Ok(path)
}

fn path_of_text(raw: &str) -> Result<String, Refusal> {
    let mut path = String::new();
    for (index, part) in raw.split('/').enumerate() {
        let part = decoded(part).ok_or(bad("the path is not encoded properly"))?;
        if part.chars().any(char::is_control) {
            return Err(bad("the path holds a control character"));
        }
        if leads_elsewhere(&part) {
            return Err(bad("the path leads elsewhere"));
        }
        if index > 0 {
            path.push('/');
        }
        for character in part.chars() {
            match character {
                '%' => path.push_str("%25"),
                '/' => path.push_str("%2F"),
                '\\' => path.push_str("%5C"),
                other => path.push(other),
            }
        }
    }
    Ok(path)
}

fn leads_elsewhere(part: &str) -> bool {
    matches!(part, "." | "..")
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
            assert_eq!(parse(target, &[]).map_err(|refusal| refusal.status), Err(400), "{target}");
            assert_eq!(
                parse(target, &["/videos/"]).map_err(|refusal| refusal.status),
                Err(400),
                "{target}"
            );
        }
    }

    #[test]
    fn behind_a_path_of_text_what_could_be_read_in_two_ways_stays_encoded() {
        let path = |target: &str| {
            parse(target, &["/videos/", "/counts/"])
                .map(|(path, _)| path)
                .map_err(|refusal| refusal.status)
        };
        for (target, want) in [
            ("/videos/a", "/videos/a"),
            ("/videos/a%2Fb/series", "/videos/a%2Fb/series"),
            ("/videos/a%2fb", "/videos/a%2Fb"),
            ("/videos/https%3A%2F%2Fa%2F%3Fx%3D1%23%25", "/videos/https:%2F%2Fa%2F?x=1#%25"),
            ("/videos/%5C%252e", "/videos/%5C%252e"),
            ("/videos/%C3%A9%20", "/videos/é "),
            ("/videos/...", "/videos/..."),
            ("/counts/", "/counts/"),
        ] {
            assert_eq!(path(target).as_deref(), Ok(want), "{target}");
        }
        for target in [
            "/videos/..",
            "/videos/%2e%2E/x",
            "/videos/../x",
            "/videos/.",
            "/videos/a%00",
            "/videos/a%0a",
            "/videos/%C2%85",
            "/videos/%c0%ae",
            "/videos/%2",
            "/videos/a\\b",
            "/video/a%2fb",
            "/videos%2Fa",
        ] {
            assert_eq!(path(target), Err(400), "{target}");
        }
    }

    #[track_caller]
    fn check(target: &str, want: &[(&str, &str)]) {
        let (_, query) = parse(target, &[]).unwrap();
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
        assert!(parse(&format!("/?{}", "a&".repeat(65)), &[]).is_err());
        // Neither half is UTF-8.
        assert!(parse("/?a=%c3&b=%a9", &[]).is_err());
    }
}
