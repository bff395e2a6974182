//! Whether a request was meant for this server, and whether a page of another site sent it: what keeps a foreign web
//! page from using the browser of somebody on this machine (pure).

use std::net::IpAddr;

use super::request::Request;

/// The names that a server answers to.
#[derive(Clone, Debug, Default)]
pub struct OwnNames {
    /// The addresses it is bound to.
    bound: Vec<IpAddr>,
    /// More names that it is served under, by a proxy or DNS.
    allowed: Vec<String>,
}

impl OwnNames {
    /// Those addresses and names, and always localhost and every loopback address.
    pub fn new(bound: Vec<IpAddr>, allowed: Vec<String>) -> Self {
        Self { bound, allowed }
    }

    /// The name that a request asks for, where that is none of these: such a request must not be answered.
    ///
    /// A name that somebody points at this machine (DNS rebinding) would let their page read the answers, as a page of
    /// the same origin. A browser tells the name in Host, and no page can change that.
    pub fn foreign_host<'a>(&self, request: &'a Request) -> Option<&'a str> {
        // Absent from HTTP/1.0 only, which no browser speaks.
        request.header("host").filter(|host| !self.has(host))
    }

    fn has(&self, host: &str) -> bool {
        // The port says nothing: a tunnel may have another, and a foreign page cannot forge the name.
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        // Bound to every address it has some that it does not know; an address is no name that could be repointed.
        let is_bound =
            |ip: IpAddr| self.bound.iter().any(|bound| *bound == ip || bound.is_unspecified());
        name.eq_ignore_ascii_case("localhost")
            || self.allowed.iter().any(|allowed| name.eq_ignore_ascii_case(allowed))
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || is_bound(ip))
    }
}

/// The site whose page sent a request, where it is not this server's, whose pages have that `scheme`: such a request may
/// change nothing. Programs that are no browser name none.
pub fn foreign_origin<'a>(request: &'a Request, scheme: &str) -> Option<&'a str> {
    let origin = request.header("origin")?;
    let host = request.header("host").unwrap_or_default();
    let is_own = origin.strip_prefix(scheme).is_some_and(|from| from.eq_ignore_ascii_case(host));
    (!is_own).then_some(origin)
}
