//! Answers for those who take gzip (pure).

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use crate::dashboard::operation::JSON;
use crate::http::{Request, Response};

/// Less than this fits into one packet as it is.
const LEAST: usize = 1_200;

/// `bytes`, gzipped.
///
/// # Errors
/// None known: memory is written to.
pub(super) fn gzip(bytes: &[u8], level: Compression) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Whether the client takes gzip, by its Accept-Encoding.
pub(super) fn takes_gzip(request: &Request) -> bool {
    let accepts = request.header("accept-encoding").unwrap_or_default();
    accepts.split(',').any(|part| {
        let (name, quality) = part.split_once(';').unwrap_or((part, ""));
        let refused =
            quality.trim().strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0f32);
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// `answer`, gzipped if it is JSON, long enough to gain by it, and the client takes it. The fastest level: charts become a
/// quarter to a tenth, and a better one costs several times as long for little more.
pub(super) fn smaller(request: &Request, answer: Response) -> Response {
    let is_own = |name: &str| answer.headers.iter().any(|(known, _)| *known == name);
    let is_json = answer.headers.iter().any(|(_, value)| value.starts_with(JSON));
    let fits = answer.status == 200 && is_json && answer.body.len() >= LEAST;
    // What has an ETag has one for each of its forms.
    if !fits || is_own("Content-Encoding") || is_own("ETag") {
        return answer;
    }
    let answer = answer.with_header("Vary", "Accept-Encoding");
    if !takes_gzip(request) {
        return answer;
    }
    match gzip(&answer.body, Compression::fast()) {
        Ok(body) => Response { body, ..answer }.with_header("Content-Encoding", "gzip"),
        Err(_) => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn request(accepts: &str) -> Request {
        let headers = vec![("accept-encoding".to_owned(), accepts.to_owned())];
        Request { path: "/api/series".to_owned(), headers, ..Request::default() }
    }

    fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn long_json_is_gzipped_for_those_who_take_it() {
        let numbers: Vec<u32> = (0..2_000).collect();
        let long = Response::json(200, &numbers);
        for (accepts, is_gzipped) in [
            ("gzip, br", true),
            ("GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let answer = smaller(&request(accepts), long.clone());
            assert_eq!(header(&answer, "Vary"), Some("Accept-Encoding"), "{accepts}");
            assert_eq!(header(&answer, "Content-Encoding").is_some(), is_gzipped, "{accepts}");
            if is_gzipped {
                assert!(answer.body.len() < long.body.len(), "{}", answer.body.len());
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut text).unwrap();
                assert_eq!(text, long.body);
            } else {
                assert_eq!(answer.body, long.body);
            }
        }
    }

    #[test]
    fn what_is_short_refused_no_json_or_has_its_own_form_stays() {
        let text = "x".repeat(5_000);
        for answer in [
            Response::json(200, &"x"),
            Response::error(400, &text),
            Response::text(200, text.as_str()),
            Response::json(200, &text).with_header("ETag", "\"1\""),
            Response::json(200, &text).with_header("Content-Encoding", "br"),
        ] {
            assert_eq!(smaller(&request("gzip"), answer.clone()), answer);
        }
    }
}
