//! Who may ask, read and write: the tokens, who has signed in, and whether a foreign web page asks.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;
use uuid::Uuid;

use super::answer::{CallError, Status, quote};
use super::guesses::Guesses;
use super::tokens::{SignInSession, Token, tried};
use crate::http::{OwnNames, Request, foreign_origin};
use crate::runtime::clock::unix_ms;

/// Sessions that were signed out, and are remembered: a browser forgets them, too.
const SIGNED_OUT: usize = 10_000;

/// The rules of one dashboard.
pub(super) struct Guard {
    /// What `Authorization: Bearer` must carry on a write.
    write: Option<Token>,
    /// What it must carry on a read, unless somebody has signed in; absent: all may read.
    read: Option<Token>,
    /// What it answers to.
    names: OwnNames,
    /// How the addresses of its own pages begin: `http://` or `https://`.
    scheme: &'static str,
    guesses: Mutex<Guesses>,
    signed_out: Mutex<VecDeque<Uuid>>,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WhoReads {
    /// Whoever it is: all may.
    Anyone,
    /// A program with a token.
    Program,
    /// Somebody who has signed in.
    Person(SignInSession),
}

impl Guard {
    /// With a token for writes, and one for reads, of a dashboard whose addresses begin so.
    pub(super) fn new(
        write: Option<&str>,
        read: Option<&str>,
        names: OwnNames,
        scheme: &'static str,
    ) -> Self {
        Self {
            write: write.map(Token::new),
            read: read.map(Token::new),
            names,
            scheme,
            guesses: Mutex::default(),
            signed_out: Mutex::default(),
        }
    }

    /// Refuses what must not be answered at all.
    pub(super) fn check(&self, request: &Request) -> Result<(), CallError> {
        let Some(host) = self.names.foreign_host(request) else { return Ok(()) };
        let reason = format!(
            "the dashboard answers to localhost and to its addresses, not to {}; start it with --allowed-host for other names",
            quote(host)
        );
        Err(CallError::new(Status::Misdirected, reason))
    }

    /// Refuses everybody while there is no write token.
    pub(super) fn check_token_is_set(&self) -> Result<(), CallError> {
        if self.write.is_some() {
            return Ok(());
        }
        let reason =
            "what is done to the queue needs a write token; start the dashboard with --write-token";
        Err(CallError::new(Status::Forbidden, reason))
    }

    /// Refuses a write without the token or, where there is none, from a foreign page.
    pub(super) fn check_write(&self, request: &Request) -> Result<(), CallError> {
        if self.write.is_some() {
            let now = Instant::now();
            return match self.carries(request, &[&self.write], now)? {
                true => Ok(()),
                false => Err(CallError::no_token()),
            };
        }
        let Some(origin) = foreign_origin(request, self.scheme) else { return Ok(()) };
        Err(CallError::new(
            Status::Forbidden,
            format!("pages of {} may not write here", quote(origin)),
        ))
    }

    /// Who asks for something, which only who may read is told. Who may write may read.
    pub(super) fn reader(&self, request: &Request) -> Result<WhoReads, CallError> {
        if self.read.is_none() {
            return Ok(WhoReads::Anyone);
        }
        if let Some(session) = self.session(request) {
            return Ok(WhoReads::Person(session));
        }
        match self.carries(request, &[&self.read, &self.write], Instant::now())? {
            true => Ok(WhoReads::Program),
            false => Err(CallError::private()),
        }
    }

    /// The session that a request's cookie holds, unless it was signed out.
    pub(super) fn session(&self, request: &Request) -> Option<SignInSession> {
        let session = self.read.as_ref()?.session(request.header("cookie")?, seconds())?;
        (!self.signed_out.lock().contains(&session.id)).then_some(session)
    }

    /// A cookie for a session that goes on, where it is time for another.
    pub(super) fn renewed(&self, session: SignInSession) -> Option<String> {
        Some(self.read.as_ref()?.cookie(session.renewed(seconds())?))
    }

    /// The token that seals sessions, where what was typed opens the page; `None`: all may read.
    pub(super) fn opens(
        &self,
        typed: &str,
        request: &Request,
        now: Instant,
    ) -> Result<Option<&Token>, CallError> {
        let Some(read) = &self.read else { return Ok(None) };
        match self.is_token(typed, request, &[&self.read, &self.write], now)? {
            true => Ok(Some(read)),
            false => Err(CallError::private()),
        }
    }

    /// From now on that session opens nothing.
    pub(super) fn sign_out(&self, id: Uuid) {
        let mut signed_out = self.signed_out.lock();
        if signed_out.len() == SIGNED_OUT {
            signed_out.pop_front();
        }
        signed_out.push_back(id);
    }

    /// What takes the cookie from a browser; `None`: there are none.
    pub(super) fn no_cookie(&self) -> Option<String> {
        self.read.as_ref().map(Token::no_cookie)
    }

    /// Refuses what a form of another site has sent. A proxy that ends TLS makes `https://` of the page's address.
    pub(super) fn check_own_page(&self, request: &Request) -> Result<(), CallError> {
        // A browser's own word, over HTTPS and from this machine; no page can change it. A proxy may have put another Host.
        if request.header("sec-fetch-site") == Some("same-origin") {
            return Ok(());
        }
        match foreign_origin(request, "http://").and(foreign_origin(request, "https://")) {
            None => Ok(()),
            Some(origin) => {
                let reason = format!("pages of {} may not sign anybody in or out", quote(origin));
                Err(CallError::new(Status::Forbidden, reason))
            }
        }
    }

    /// Whether the browser is here over HTTPS, by ourselves or by a proxy.
    pub(super) fn is_secure(&self, request: &Request) -> bool {
        let of_proxy = request.header("origin").is_some_and(|from| from.starts_with("https://"));
        self.scheme == "https://" || of_proxy
    }

    /// Whether `Authorization: Bearer` carries one of those tokens.
    fn carries(
        &self,
        request: &Request,
        tokens: &[&Option<Token>],
        now: Instant,
    ) -> Result<bool, CallError> {
        let given = request.header("authorization").and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
        });
        given.map_or(Ok(false), |given| self.is_token(given, request, tokens, now))
    }

    /// Whether that is one of those tokens.
    fn is_token(
        &self,
        given: &str,
        request: &Request,
        tokens: &[&Option<Token>],
        now: Instant,
    ) -> Result<bool, CallError> {
        let tried = tried(given);
        let from = request.peer.map(|peer| peer.ip());
        if let Some(from) = from {
            let guesses = self.guesses.lock();
            guesses.check(from, &tried, now).map_err(CallError::too_many_guesses)?;
        }
        // All are compared, whichever it is.
        let known = tokens.iter().filter_map(|token| token.as_ref());
        let is_one = known.fold(false, |is_one, token| is_one | token.is(&tried));
        if let Some(from) = from.filter(|_| !is_one) {
            self.guesses.lock().was_wrong(from, tried, now);
        }
        Ok(is_one)
    }
}

/// The time of day, in seconds since 1970.
pub(super) fn seconds() -> u64 {
    u64::try_from(unix_ms().0 / 1000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { method: "POST".to_owned(), path: "/".to_owned(), headers, ..Request::default() }
    }

    #[test]
    fn only_its_own_names_are_answered() {
        let names =
            OwnNames::new(vec!["192.0.2.7".parse().unwrap()], vec!["counts.example".to_owned()]);
        let guard = Guard::new(None, None, names, "http://");
        for host in [
            "localhost",
            "LocalHost:8000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8000",
            "[::1]",
            "192.0.2.7:8",
            "Counts.example:443",
        ] {
            assert!(guard.check(&request(&[("host", host)])).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8000",
            "192.0.2.8",
            "[::2]",
            "[::1",
            "",
            "127.0.0.1.nip.io",
        ] {
            let refused = guard.check(&request(&[("host", host)])).unwrap_err();
            assert_eq!(refused.status(), Status::Misdirected, "{host}");
        }
        assert!(guard.check(&request(&[])).is_ok());
        // A token changes nothing: reads need none.
        let names = OwnNames::new(vec![IpAddr::from([0, 0, 0, 0])], vec![]);
        let open = Guard::new(Some("t"), None, names, "http://");
        assert!(open.check(&request(&[("host", "192.0.2.9")])).is_ok());
        assert!(open.check(&request(&[("host", "counts.example")])).is_err());
    }

    #[test]
    fn foreign_pages_may_not_write() {
        let guard = Guard::new(None, None, OwnNames::default(), "http://");
        let check =
            |origin| guard.check_write(&request(&[("host", "localhost:8000"), ("origin", origin)]));
        assert!(check("http://localhost:8000").is_ok());
        for origin in
            ["null", "http://localhost:9000", "https://localhost:8000", "http://evil.example", ""]
        {
            assert_eq!(check(origin).unwrap_err().status(), Status::Forbidden, "{origin}");
        }
        assert!(guard.check_write(&request(&[("host", "localhost:8000")])).is_ok());
    }

    #[test]
    fn who_signs_in_comes_from_the_own_page_also_behind_a_proxy() {
        let guard = Guard::new(None, Some("read"), OwnNames::default(), "http://");
        let check = |origin, site: Option<&str>| {
            let site = site.map(|site| ("sec-fetch-site", site));
            let headers = [("host", "127.0.0.1:8000"), ("origin", origin)];
            guard.check_own_page(&request(&[&headers[..], site.as_slice()].concat()))
        };
        for origin in ["http://127.0.0.1:8000", "https://127.0.0.1:8000"] {
            assert!(check(origin, None).is_ok(), "{origin}");
        }
        let outside = "https://counts.example";
        assert!(check(outside, Some("same-origin")).is_ok());
        for site in [None, Some("same-site"), Some("cross-site"), Some("none"), Some("")] {
            assert_eq!(check(outside, site).unwrap_err().status(), Status::Forbidden, "{site:?}");
        }
    }

    #[test]
    fn writes_need_the_token_whole() {
        let guard = Guard::new(Some("secret"), None, OwnNames::default(), "http://");
        for given in ["Bearer secret", "bearer secret", "BEARER  secret"] {
            assert!(guard.check_write(&request(&[("authorization", given)])).is_ok(), "{given}");
        }
        for given in [
            "Bearer secre",
            "Bearer secrets",
            "Bearer Secret",
            "Basic secret",
            "secret",
            "Bearer",
            "",
        ] {
            let refused = guard.check_write(&request(&[("authorization", given)])).unwrap_err();
            assert_eq!(refused.status(), Status::Unauthorized, "{given}");
        }
        assert_eq!(guard.check_write(&request(&[])).unwrap_err().status(), Status::Unauthorized);
    }

    #[test]
    fn who_reads_a_private_dashboard_has_a_token_or_has_signed_in() {
        let guard = Guard::new(Some("write"), Some("read"), OwnNames::default(), "http://");
        let bearer =
            |token: &str| guard.reader(&request(&[("authorization", &format!("Bearer {token}"))]));
        assert_eq!(bearer("read").unwrap(), WhoReads::Program);
        assert_eq!(bearer("write").unwrap(), WhoReads::Program);
        assert_eq!(bearer("other").unwrap_err().status(), Status::Unauthorized);
        assert_eq!(guard.reader(&request(&[])).unwrap_err().status(), Status::Unauthorized);
        // It opens no writes.
        let write = guard.check_write(&request(&[("authorization", "Bearer read")]));
        assert_eq!(write.unwrap_err().status(), Status::Unauthorized);
        let sign_in = guard.opens("read", &request(&[]), Instant::now()).unwrap().unwrap();
        let session = SignInSession::begin(seconds(), false);
        let cookie = sign_in.cookie(session);
        let cookie = cookie.split(';').next().unwrap();
        let come = || guard.reader(&request(&[("cookie", cookie)]));
        assert_eq!(come().unwrap(), WhoReads::Person(session));
        assert!(guard.check_write(&request(&[("cookie", cookie)])).is_err());
        guard.sign_out(session.id);
        assert!(come().is_err());
        let open = Guard::new(Some("write"), None, OwnNames::default(), "http://");
        assert_eq!(open.reader(&request(&[])).unwrap(), WhoReads::Anyone);
    }
}
