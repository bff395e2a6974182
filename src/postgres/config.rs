//! Where a server is and how to log in: a connection string, the PG* variables and the defaults, in that order.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::url::{self, UrlParameters, name_of};

/// For each address, where nothing else is said: no wait here is endless.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For each answer, where nothing else is said.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What sent bytes may stay without an acknowledgement, where nothing else is said.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Hosts of one connection string.
const MAX_HOSTS: usize = 64;

/// What is wrong with a connection string or a PG* variable, in one line; shows no value that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection string: {what}")]
pub struct PgConfigError {
    what: String,
}

impl PgConfigError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// A password, which shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PgPassword(String);

impl PgPassword {
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for PgPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PgHost {
    /// A name, or an IP address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) password: Option<PgPassword>,
}

impl fmt::Display for PgHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How the system finds out that a server is gone while nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PgKeepalive {
    pub(super) idle: Duration,
    pub(super) interval: Duration,
    pub(super) count: u32,
}

/// Where a server is and how to log in. Debug and Display show no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgConfig {
    pub(super) hosts: Vec<PgHost>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) application_name: String,
    pub(super) options: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) answer_timeout: Duration,
    pub(super) tcp_user_timeout: Duration,
    pub(super) keepalive: Option<PgKeepalive>,
}

/// `host:port,host2:port2/database`
impl fmt::Display for PgConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index > 0 { "," } else { "" })?;
        }
        write!(f, "/{}", self.database)
    }
}

impl PgConfig {
    /// Reads `postgres://user:password@host:port,host2:port2/database?sslmode=…&target_session_attrs=…`, or
    /// `host=… dbname=…`, as libpq does. `env` looks up PGUSER, PGPASSWORD and the like for what is not in it.
    ///
    /// # Errors
    /// Something in it is not understood, or not supported here: the error says what.
    pub fn parse(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, PgConfigError> {
        let given = url::parse(url).map_err(PgConfigError::new)?;
        for (key, _) in &given {
            if !KEYS.iter().any(|(known, _)| known == key) {
                return Err(PgConfigError::new(format!("{} is unknown", name_of(key))));
            }
        }
        let all = PgSettings { given, env };
        let user = all.get("user").unwrap_or_else(|| "postgres".to_owned());
        let password = all.get("password").map(PgPassword);
        let hosts = all.get("host").unwrap_or_else(|| "localhost".to_owned());
        let ports = all.get("port").unwrap_or_else(|| "5432".to_owned());
        let ports: Vec<_> = ports.split(',').collect();
        let mut all_hosts = Vec::new();
        for (index, host) in hosts.split(',').enumerate() {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or_default();
            let port = if port.is_empty() { "5432" } else { port };
            let port = port.parse().ok().filter(|port| *port > 0);
            let port =
                port.ok_or_else(|| PgConfigError::new("port is a number from 1 to 65535"))?;
            all_hosts.push(PgHost { host: host.to_owned(), port, password: password.clone() });
        }
        if all_hosts.len() > MAX_HOSTS {
            return Err(PgConfigError::new(format!("more than {MAX_HOSTS} hosts")));
        }
        Ok(Self {
            hosts: all_hosts,
            database: all.get("dbname").unwrap_or_else(|| user.clone()),
            user,
            application_name: all
                .get("application_name")
                .unwrap_or_else(|| "playcounts".to_owned()),
            options: all.get("options"),
            connect_timeout: all.seconds("connect_timeout", CONNECT_TIMEOUT)?,
            answer_timeout: all.seconds("answer_timeout", ANSWER_TIMEOUT)?,
            tcp_user_timeout: TCP_USER_TIMEOUT,
            keepalive: Some(PgKeepalive {
                idle: Duration::from_secs(10),
                interval: Duration::from_secs(3),
                count: 3,
            }),
        })
    }

    /// What the first message says.
    pub(super) fn startup_parameters(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let mut all: Vec<(_, Cow<'_, str>)> = vec![
            ("user", (&*self.user).into()),
            ("database", (&*self.database).into()),
            ("application_name", (&*self.application_name).into()),
            ("client_encoding", "UTF8".into()),
        ];
        all.extend(self.options.iter().map(|options| ("options", (&**options).into())));
        all
    }
}

/// Parameters that are known, each with its variable.
const KEYS: [(&str, &str); 9] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("application_name", "PGAPPNAME"),
    ("options", "PGOPTIONS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("answer_timeout", ""),
];

struct PgSettings<'a> {
    given: UrlParameters,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl PgSettings<'_> {
    /// What is said of a parameter; an empty value says nothing.
    fn get(&self, key: &str) -> Option<String> {
        let given = self.given.iter().rev().find(|(given, _)| given == key);
        let given = given.map(|(_, value)| value.clone());
        let env = || {
            let (_, name) = KEYS.iter().find(|(known, _)| *known == key)?;
            (self.env)(name)
        };
        given.filter(|value| !value.is_empty()).or_else(env).filter(|value| !value.is_empty())
    }

    /// A parameter in whole seconds; 0 is the default, as in libpq, where that is endless.
    fn seconds(&self, key: &str, default: Duration) -> Result<Duration, PgConfigError> {
        let Some(text) = self.get(key) else { return Ok(default) };
        match text.trim().parse::<i32>() {
            Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds as u64)),
            Ok(_) => Ok(default),
            Err(_) => Err(PgConfigError::new(format!("{key} is a number of seconds"))),
        }
    }
}
