//! Where an nsqd listens: for clients and for HTTP (pure).

use anyhow::{Context, Result, bail};

/// The two addresses of one nsqd, each `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NsqdAddresses {
    /// For NSQ clients.
    pub(crate) tcp: String,
    /// Its HTTP API.
    pub(crate) http: String,
}

impl NsqdAddresses {
    /// Puts the nsqds' TCP and HTTP addresses together, in their order. Without HTTP addresses each nsqd has the same
    /// host and the next port, as nsqd's own defaults (4150, 4151) have it.
    ///
    /// # Errors
    /// When their numbers differ, or a TCP address whose next port is wanted has none.
    pub(crate) fn pair(tcp: Vec<String>, http: Vec<String>) -> Result<Vec<Self>> {
        if http.is_empty() {
            return tcp.into_iter().map(Self::with_next_port).collect();
        }
        if http.len() != tcp.len() {
            bail!(
                "{} --nsqd-http-address for {} --nsqd-tcp-address; give one for each",
                http.len(),
                tcp.len()
            );
        }
        Ok(tcp.into_iter().zip(http).map(|(tcp, http)| Self { tcp, http }).collect())
    }

    fn with_next_port(tcp: String) -> Result<Self> {
        let next = || {
            let (host, port) = tcp.rsplit_once(':')?;
            Some(format!("{host}:{}", port.parse::<u16>().ok()?.checked_add(1)?))
        };
        let http =
            next().with_context(|| format!("--nsqd-tcp-address {tcp:?} is not host:port"))?;
        Ok(Self { tcp, http })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tcp: &[&str], http: &[&str], want: Option<&[&str]>) {
        let list = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let got = NsqdAddresses::pair(list(tcp), list(http)).ok();
        let want = want.map(|https| {
            let both = list(tcp).into_iter().zip(list(https));
            both.map(|(tcp, http)| NsqdAddresses { tcp, http }).collect::<Vec<_>>()
        });
        assert_eq!(got, want);
    }

    #[test]
    fn the_http_port_is_the_next_one() {
        check(&["a:4150", "[::1]:9"], &[], Some(&["a:4151", "[::1]:10"]));
        check(&["a:4150"], &["b:1"], Some(&["b:1"]));
        check(&["a:4150"], &["b:1", "c:1"], None);
        check(&["a"], &[], None);
        check(&["a:65535"], &[], None);
    }
}
