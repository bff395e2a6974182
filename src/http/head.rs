//! Request heads: strict framing (pure).
//!
//! Whatever two parsers could read in two ways is refused: bare line feeds, folded or spaced header lines, a Content-Length
//! that is not one plain number, any Transfer-Encoding but `chunked` alone, and that beside a Content-Length.

use super::request::Request;
use super::target::{self, Refusal, bad};

/// The largest request head. nsqd's clients and browsers send well under 4 KiB.
pub(super) const HEAD_MAX: usize = 16 * 1024;

/// The most header lines; a browser sends about 20.
const HEADERS_MAX: usize = 64;

/// The longest method: `PROPPATCH` and friends fit.
const METHOD_MAX: usize = 16;

/// Carries the client's address to the pool; from the network it is never taken over.
pub(super) const PEER_HEADER: &str = "x-front-peer";

/// Headers that speak of one connection, or of framing, which is settled by then.
const NOT_FORWARDED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    PEER_HEADER,
];

/// A vetted head.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    /// Method, decoded target and headers; the body is not read yet.
    pub(super) request: Request,
    /// The target as it came: visible ASCII, decodes without error.
    pub(super) target: String,
    /// How its body ends.
    pub(super) body: BodyEnd,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// HTTP/1.1: an answer may come in chunks.
    pub(super) takes_chunks: bool,
    /// HTTP/1.1, and it does not say `Connection: close`: more may come.
    pub(super) keeps_alive: bool,
}

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BodyEnd {
    /// After so many bytes; 0 if the client gave no length.
    Length(u64),
    /// Behind its last chunk: see [`chunks`](super::chunks).
    LastChunk,
}

/// Finds the end of the head in `bytes`, of which the first `seen` are known not to hold it.
///
/// `Ok(None)` means "read more". Refuses early what cannot become a head, so that a TLS or NSQ client gets
/// its answer at once and not after the deadline.
pub(super) fn find_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    match bytes.first() {
        None => return Ok(None),
        Some(0x16) => return Err(bad("this port speaks plain HTTP, not TLS")),
        Some(first) if !first.is_ascii_uppercase() => return Err(bad("this port speaks HTTP/1.1")),
        Some(_) => {}
    }
    // Three bytes back: the terminator may be split over two reads.
    for index in seen.saturating_sub(3)..bytes.len().min(HEAD_MAX) {
        match bytes[index] {
            b'\n' if index == 0 || bytes[index - 1] != b'\r' => {
                return Err(bad("a line ends without a carriage return"));
            }
            b'\n' if bytes[..=index].ends_with(b"\r\n\r\n") => return Ok(Some(index + 1)),
            b'\r' if bytes.get(index + 1).is_some_and(|next| *next != b'\n') => {
                return Err(bad("a carriage return stands alone"));
            }
            0 => return Err(bad("the head holds a NUL byte")),
            _ => {}
        }
    }
    if bytes.len() >= HEAD_MAX {
        return Err(Refusal::new(431, "the request head is over the limit of 16 KiB"));
    }
    Ok(None)
}

/// Reads the head that [`find_end`] delimited. `text_paths`: see [`target::parse`].
pub(super) fn parse(bytes: &[u8], text_paths: &[&str]) -> Result<Head, Refusal> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "more than 64 header lines"));
        }
        Err(httparse::Error::Version) => {
            return Err(bad("only HTTP/1.0 and HTTP/1.1 are spoken here"));
        }
        _ => return Err(bad("the request head is malformed")),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(bad("the request head is malformed"));
    };
    if method.len() > METHOD_MAX || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(bad("the method is malformed"));
    }

    let mut framing = Framing::default();
    let mut headers = Vec::new();
    for line in parsed.headers.iter() {
        let name = line.name.to_ascii_lowercase();
        // Blanks of Unicode stay, and are refused: to others they are part of the value.
        let value = std::str::from_utf8(line.value)
            .map_err(|_| bad("a header value is not ASCII"))?
            .trim_matches([' ', '\t']);
        if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            return Err(bad("a header value is not printable ASCII"));
        }
        framing.take(&name, value)?;
        headers.push((name, value.to_owned()));
    }
    let is_1_1 = version == 1;
    if framing.hosts > 1 || (framing.hosts == 0 && is_1_1) {
        return Err(bad("one Host header is needed"));
    }
    let body = match (framing.is_chunked, framing.content_length) {
        (true, Some(_)) => return Err(bad("both a Content-Length and a Transfer-Encoding")),
        (true, None) if !is_1_1 => return Err(bad("HTTP/1.0 has no Transfer-Encoding")),
        (true, None) => BodyEnd::LastChunk,
        (false, length) => BodyEnd::Length(length.unwrap_or(0)),
    };
    let (path, query) = target::parse(target, text_paths)?;
    Ok(Head {
        request: Request { method: method.to_owned(), path, query, headers, ..Request::default() },
        target: target.to_owned(),
        body,
        expects_continue: framing.expects_continue && is_1_1,
        takes_chunks: is_1_1,
        keeps_alive: is_1_1 && !framing.closes,
    })
}

/// What the header lines say of framing and of the connection.
#[derive(Default)]
struct Framing {
    content_length: Option<u64>,
    is_chunked: bool,
    expects_continue: bool,
    closes: bool,
    hosts: u32,
}

impl Framing {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        match name {
            "transfer-encoding" => {
                if self.is_chunked || !value.eq_ignore_ascii_case("chunked") {
                    return Err(bad("only Transfer-Encoding: chunked is known, once"));
                }
                self.is_chunked = true;
            }
            "content-length" => {
                if self.content_length.is_some() {
                    return Err(bad("more than one Content-Length"));
                }
                // `parse` alone would take a sign.
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(bad("the Content-Length is not a number"));
                }
                // A number too large for u64 is over every limit.
                self.content_length = Some(value.parse().unwrap_or(u64::MAX));
            }
            "expect" if value.eq_ignore_ascii_case("100-continue") => self.expects_continue = true,
            "expect" => return Err(Refusal::new(417, "only Expect: 100-continue is known")),
            "host" => self.hosts += 1,
            "connection" => {
                let mut words = value.split(',').map(str::trim);
                self.closes |= words.any(|word| word.eq_ignore_ascii_case("close"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The request as the pool gets it: one plain framing, one connection, nothing hop-by-hop.
pub(super) fn serialise(head: &Head, body: &[u8]) -> Vec<u8> {
    let request = &head.request;
    let mut wire = format!("{} {} HTTP/1.1\r\n", request.method, head.target);
    for (name, value) in &request.headers {
        if !NOT_FORWARDED.contains(&name.as_str()) {
            wire.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(peer) = request.peer {
        wire.push_str(&format!("{PEER_HEADER}: {peer}\r\n"));
    }
    wire.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    let mut wire = wire.into_bytes();
    wire.extend_from_slice(body);
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(wire: &[u8], status: u16) {
        let mut got = None;
        // However the bytes are split, the outcome is the same.
        for step in [1, 7, wire.len()] {
            let mut seen = 0;
            let mut outcome = Ok(None);
            while seen < wire.len() && outcome == Ok(None) {
                let next = (seen + step).min(wire.len());
                outcome = find_end(&wire[..next], seen);
                seen = next;
            }
            let result = match outcome {
                Ok(Some(end)) => parse(&wire[..end], &[]).map(|head| head.target),
                Ok(None) => panic!("no end found: {}", wire.escape_ascii()),
                Err(refusal) => Err(refusal),
            };
            let refusal = result.expect_err("must be refused");
            assert_eq!(refusal.status, status, "{}: {}", wire.escape_ascii(), refusal.reason);
            got = Some(refusal);
        }
        assert!(got.is_some());
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        let bad = [
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: ",
            "Transfer-Encoding: xchunked",
            "transfer-encoding : chunked",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3\r\ncontent-length: 3",
            "Content-Length: 3, 3",
            "Content-Length: +3",
            "Content-Length: -3",
            "Content-Length: 0x3",
            "Content-Length: ",
            "Content-Length : 3",
            "X-A: b\n",
            "X-A: b\nContent-Length: 3",
            "X-A: b\r\n folded",
            "X-A: b\r\n\tfolded",
            "X-A: b\rc",
            "Transfer-Encoding: chunked\u{a0}",
            "Transfer-Encoding: \u{2003}chunked",
            "Transfer-Encoding: chunked\u{b}",
            "Transfer-Encoding: chunked\u{c}",
            "Content-Length: 5\u{85}",
            "Content-Length: \u{a0}5",
            "Content-Length: \u{c}5",
            "Connection: close\u{85}",
            "X-A: \u{e9}",
            "X-A: b\u{a0}",
            "X-A: \u{1}",
            "X-A: a\0b",
            "no colon",
            ": no name",
            "Host: b",
        ];
        for lines in bad {
            refused(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes(), 400);
        }
        refused(b"GET / HTTP/1.1\r\n\r\n", 400);
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
        refused(b"GET / HTTP/1.1\nHost: a\n\n", 400);
        refused(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417);
        let many = "X-A: b\r\n".repeat(65);
        refused(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(), 431);
        let long = "a".repeat(HEAD_MAX);
        refused(format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n").as_bytes(), 431);
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_bytes() {
        for wire in [&b"\x16\x03\x01\x02\x00\x01"[..], b"  V2", b"\r\nGET / HTTP/1.1", b"\0", b"{}"]
        {
            assert_eq!(find_end(wire, 0).map_err(|refusal| refusal.status), Err(400));
        }
        refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400);
        refused(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400);
        refused(b"GET /\r\n\r\n", 400);
        refused(b"Get / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    }

    #[test]
    fn a_good_head_is_decoded_and_forwarded_with_one_framing() {
        let wire = b"POST /a%20b?x=1&y=a+b%26&z HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive\r\n\
            X-Front-Peer: 9.9.9.9:9\r\nTE: trailers\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(find_end(wire, 0), Ok(Some(wire.len())));
        let mut head = parse(wire, &[]).unwrap();
        assert_eq!(head.request.path, "/a b");
        assert_eq!(head.request.get("y"), Some("a b&"));
        assert_eq!(head.request.get("z"), Some(""));
        assert_eq!((head.body, head.expects_continue), (BodyEnd::Length(3), true));
        head.request.peer = Some("127.0.0.1:5".parse().unwrap());
        assert_eq!(
            String::from_utf8(serialise(&head, b"abc")).unwrap(),
            "POST /a%20b?x=1&y=a+b%26&z HTTP/1.1\r\nhost: h:1\r\nx-front-peer: 127.0.0.1:5\r\n\
             content-length: 3\r\nconnection: close\r\n\r\nabc"
        );
    }

    #[test]
    fn a_length_past_every_integer_is_over_the_limit() {
        let wire =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", "9".repeat(40));
        assert_eq!(parse(wire.as_bytes(), &[]).unwrap().body, BodyEnd::Length(u64::MAX));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut wire = b"GET ".to_vec();
            wire.extend(&bytes);
            let _ = find_end(&bytes, 0);
            let _ = find_end(&wire, 0);
            let _ = parse(&wire, &["/a/"]);
            let _ = target::parse(&String::from_utf8_lossy(&bytes), &["/a/"]);
        }
    }
}
