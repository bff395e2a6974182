//! Authorization servers, asked over HTTP on the thread of the client. One that does not answer is followed by the next.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use form_urlencoded::Serializer;
use nsq_protocol::{TlsConfig, http_agent};
use ureq::http::Uri;

use super::permissions::Permissions;

/// The largest answer that is read, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// The most servers: each may be waited for.
const SERVERS_MAX: usize = 16;

/// Where authorization servers are, and how long each is waited for.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Each `host:port`, which is asked for `/auth` in clear, or a whole URL.
    pub addresses: Vec<String>,
    /// How long it may take to connect to one.
    pub connect_timeout: Duration,
    /// How long a request may take in all.
    pub request_timeout: Duration,
    /// Whom to trust where a URL begins with `https://`.
    pub tls: TlsConfig,
}

/// Servers that say what a client may do.
pub struct AuthServers {
    agent: ureq::Agent,
    servers: Vec<AuthServer>,
    is_stopped: AtomicBool,
}

struct AuthServer {
    url: String,
    /// Host and port: what the log may say of a URL.
    name: String,
}

impl AuthServer {
    fn new(address: &str) -> Option<Self> {
        let url = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}/auth"),
        };
        let uri: Uri = url.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().filter(|host| is_http && !host.is_empty())?;
        let name = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { url, name })
    }

    /// What is asked of it.
    fn question(&self, query: &str) -> String {
        let behind = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{behind}{query}", self.url)
    }
}

impl AuthServers {
    /// Those of a configuration; nothing is asked yet.
    ///
    /// # Errors
    /// There is none, there are too many, an address is none, or a file of authorities cannot be read.
    pub fn new(config: AuthConfig) -> Result<Self> {
        let AuthConfig { addresses, connect_timeout, request_timeout, tls } = config;
        ensure!(
            (1..=SERVERS_MAX).contains(&addresses.len()),
            "--auth-http-address: {} of them, and 1 to {SERVERS_MAX} can be",
            addresses.len()
        );
        let of = |address: &String| {
            AuthServer::new(address).with_context(|| {
                format!("--auth-http-address {address}: must be host:port, or a URL of HTTP")
            })
        };
        let servers = addresses.iter().map(of).collect::<Result<_>>()?;
        tls.check()?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(request_timeout))
            .timeout_connect(Some(connect_timeout))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("playcounts/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: http_agent(config, tls), servers, is_stopped: AtomicBool::new(false) })
    }

    /// Host and port of each.
    pub(in crate::broker) fn names(&self) -> Vec<&str> {
        self.servers.iter().map(|server| server.name.as_str()).collect()
    }

    /// From now on no further server is asked.
    pub(in crate::broker) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// What a client may do, by the first server that says it, from one of them on by chance.
    pub(super) fn ask(
        &self,
        remote_ip: IpAddr,
        is_encrypted: bool,
        common_name: &str,
        secret: &[u8],
    ) -> Result<Permissions, String> {
        let tls = if is_encrypted { "true" } else { "false" };
        let mut query = Serializer::new(String::new());
        query.append_pair("common_name", common_name);
        query.append_pair("remote_ip", &remote_ip.to_string());
        // As bytes: it need not be text.
        let secret: String = form_urlencoded::byte_serialize(secret).collect();
        let query = format!("{}&secret={secret}&tls={tls}", query.finish());
        let begin = rand::random_range(0..self.servers.len());
        let (before, from) = self.servers.split_at(begin);
        let mut why = Vec::new();
        for server in from.iter().chain(before) {
            if self.is_stopped.load(Ordering::Relaxed) {
                why.push("the broker stops".to_owned());
                break;
            }
            match self.ask_one(server, &query) {
                Ok(permissions) => return Ok(permissions),
                Err(error) => why.push(format!("{}: {error}", server.name)),
            }
        }
        Err(why.join("; "))
    }

    fn ask_one(&self, server: &AuthServer, query: &str) -> Result<Permissions, String> {
        let failed = |error: ureq::Error| {
            let error: io::Error = error.into_io();
            error.to_string()
        };
        let request = self.agent.get(server.question(query));
        let request = request.header("Accept", "application/vnd.nsq; version=1.0");
        let mut response = request.call().map_err(failed)?;
        let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        let body = body.map_err(failed)?;
        let status = response.status().as_u16();
        if status != 200 {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("answered {status} {text:.200?}"));
        }
        Permissions::read(&body, Instant::now())
    }
}

impl fmt::Debug for AuthServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
