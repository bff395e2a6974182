//! Who may ask and who may write: the write token, and whether a foreign web page asks (pure).

use super::answer::{CallError, Status, quote};
use crate::http::{OwnNames, Request, foreign_origin};

/// The rules of one dashboard.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// What `Authorization: Bearer` must carry on a write.
    pub(super) token: Option<String>,
    /// What it answers to.
    pub(super) names: OwnNames,
    /// How the addresses of its own pages begin: `http://` or `https://`.
    pub(super) scheme: &'static str,
}

impl Guard {
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
        if self.token.is_some() {
            return Ok(());
        }
        let reason =
            "what is done to the queue needs a write token; start the dashboard with --write-token";
        Err(CallError::new(Status::Forbidden, reason))
    }

    /// Refuses a write without the token or, where there is none, from a foreign page.
    pub(super) fn check_write(&self, request: &Request) -> Result<(), CallError> {
        if let Some(token) = &self.token {
            let given = request.header("authorization").and_then(|value| {
                let (scheme, given) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
            });
            if given.is_some_and(|given| equal(given.as_bytes(), token.as_bytes())) {
                return Ok(());
            }
            return Err(CallError::no_token());
        }
        let Some(origin) = foreign_origin(request, self.scheme) else { return Ok(()) };
        Err(CallError::new(
            Status::Forbidden,
            format!("pages of {} may not write here", quote(origin)),
        ))
    }
}

/// Compares without telling by its time how much was right.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && std::hint::black_box(left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
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
        let guard = Guard {
            token: None,
            names: OwnNames::new(
                vec!["192.0.2.7".parse().unwrap()],
                vec!["counts.example".to_owned()],
            ),
            scheme: "http://",
        };
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
        let open = Guard {
            token: Some("t".to_owned()),
            names: OwnNames::new(vec![IpAddr::from([0, 0, 0, 0])], vec![]),
            scheme: "http://",
        };
        assert!(open.check(&request(&[("host", "192.0.2.9")])).is_ok());
        assert!(open.check(&request(&[("host", "counts.example")])).is_err());
    }

    #[test]
    fn foreign_pages_may_not_write() {
        let guard = Guard { token: None, names: OwnNames::default(), scheme: "http://" };
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
    fn writes_need_the_token_whole() {
        let guard = Guard {
            token: Some("secret".to_owned()),
            names: OwnNames::default(),
            scheme: "http://",
        };
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
}
