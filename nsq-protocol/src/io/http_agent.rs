//! The HTTP client for nsqd's and nsqlookupd's APIs, over TLS where an address begins with `https://`. Its requests run on the threads that make them.
//!
//! `ureq`'s own resolver starts a thread for each name and panics when the system refuses it; ours is the one that the
//! TCP connections use, too.

use std::fmt;

use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, DefaultConnector, NextTimeout};

use crate::io::http_tls::TlsConnector;
use crate::io::resolve::resolve;
use crate::io::tls_config::TlsConfig;

/// More addresses of a name are not tried.
const MAX_ADDRESSES: usize = 16;

/// An HTTP client of that configuration that returns an error where a thread is refused; `tls` is for `https://`.
pub fn http_agent(config: ureq::config::Config, tls: TlsConfig) -> ureq::Agent {
    let connector = DefaultConnector::default().chain(TlsConnector(tls));
    ureq::Agent::with_parts(config, connector, BoundedResolver)
}

/// Resolves names as [`resolve`] does.
struct BoundedResolver;

impl Resolver for BoundedResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let no_host = || ureq::Error::BadUri(format!("{uri} names no host"));
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or_else(no_host)?;
        let addr = DefaultResolver::host_and_port(scheme, authority).ok_or_else(no_host)?;
        let mut found = self.empty();
        for ip in resolve(&addr, *timeout.after)?.into_iter().take(MAX_ADDRESSES) {
            found.push(ip);
        }
        if found.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(found) }
    }
}

impl fmt::Debug for BoundedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundedResolver")
    }
}
