//! Where a server is and how to log in: a connection string, the PG* variables and the defaults, in that order. It reads
//! the file of passwords, and names files of certificates, which are read when a connection is made.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::passfile;
use super::settings::PgSettings;
use super::url;

/// For each address, where nothing else is said: no wait here is endless.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For each answer, where nothing else is said.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What sent bytes may stay without an acknowledgement, where nothing else is said.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where nothing else is said, a server that is gone is found 19 s after the last byte.
const KEEPALIVE: PgKeepalive =
    PgKeepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(3), count: 3 };

/// Hosts of one connection string.
const MAX_HOSTS: usize = 64;

/// Where Debian's server has its socket.
const SOCKET_DIR: &str = "/var/run/postgresql";

/// What is wrong with a connection string or a PG* variable, in one line; shows no value that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL's connection string: {what}")]
pub struct PgConfigError {
    what: String,
}

impl From<String> for PgConfigError {
    fn from(what: String) -> Self {
        Self { what }
    }
}

/// A password, which shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PgPassword(String);

impl From<String> for PgPassword {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl PgPassword {
    pub(super) fn text(&self) -> &str {
        &self.0
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
    /// A name, an IP address, or the directory of a socket; what its certificate must name.
    pub(super) name: String,
    /// Where to connect to instead of asking for the name.
    pub(super) address: Option<String>,
    pub(super) port: u16,
    pub(super) password: Option<PgPassword>,
}

impl PgHost {
    /// The path of its Unix-domain socket, if it has one. `@` begins an abstract name, as in libpq.
    pub(super) fn socket(&self) -> Option<String> {
        let is_socket = self.address.is_none() && self.name.starts_with(['/', '@']);
        is_socket.then(|| format!("{}/.s.PGSQL.{}", self.name, self.port))
    }

    /// `host:port` to connect to.
    pub(super) fn tcp(&self) -> String {
        host_port(self.address.as_ref().unwrap_or(&self.name), self.port)
    }
}

/// `host:port`, or the path of a socket.
impl fmt::Display for PgHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.socket().unwrap_or_else(|| host_port(&self.name, self.port)))
    }
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// How the system finds out that a server is gone while nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PgKeepalive {
    pub(super) idle: Duration,
    pub(super) interval: Duration,
    pub(super) count: u32,
}

/// Whether connections are encrypted, and how much of the server's certificate is believed. libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum PgSslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Which of several servers is wanted. libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PgTarget {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// The parameters that begin with `ssl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PgSsl {
    pub(super) mode: PgSslMode,
    /// PEM file of the authorities to trust; `system` are those that browsers trust.
    pub(super) root_cert: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    /// Nothing older than TLS 1.3.
    pub(super) from_13: bool,
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
    pub(super) ssl: PgSsl,
    pub(super) target: PgTarget,
}

/// `host:port,host2:port2/database`
impl fmt::Display for PgConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.all_hosts(), self.database)
    }
}

impl PgConfig {
    /// Reads `postgres://user:password@host:port,host2:port2/database?sslmode=…&target_session_attrs=…`, or
    /// `host=… dbname=…`, as libpq does. `env` looks up PGUSER, PGPASSWORD and the like for what is not in it, and HOME.
    ///
    /// `answer_timeout` (seconds, default 10) is a parameter of ours: how long each answer may take.
    ///
    /// # Errors
    /// Something in it is not understood, or not supported here: the error says what.
    pub fn parse(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, PgConfigError> {
        let all = PgSettings::new(url::parse(url)?, env)?;
        let user =
            all.get("user").or_else(own_name).ok_or_else(|| "no user is given".to_owned())?;
        let database = all.get("dbname").unwrap_or_else(|| user.clone());
        let application_name = all.get("application_name");
        let application_name = application_name.or_else(|| all.get("fallback_application_name"));
        let timeout = all.number("tcp_user_timeout", " of milliseconds")?;
        Ok(Self {
            hosts: hosts(&all, &user, &database)?,
            user,
            database,
            application_name: application_name.unwrap_or_else(|| "playcounts".to_owned()),
            options: all.get("options"),
            connect_timeout: all.seconds("connect_timeout", CONNECT_TIMEOUT)?,
            answer_timeout: all.seconds("answer_timeout", ANSWER_TIMEOUT)?,
            tcp_user_timeout: timeout
                .map_or(TCP_USER_TIMEOUT, |ms| Duration::from_millis(ms.into())),
            keepalive: keepalive(&all)?,
            ssl: ssl(&all)?,
            target: target(&all)?,
        })
    }

    /// The same, but that no answer may take longer than `limit`, nor a connection to be made.
    pub fn with_patience(mut self, limit: Duration) -> Self {
        self.connect_timeout = self.connect_timeout.min(limit);
        self.answer_timeout = self.answer_timeout.min(limit);
        self
    }

    /// Its hosts, divided by commas.
    pub(super) fn all_hosts(&self) -> String {
        self.hosts.iter().map(PgHost::to_string).collect::<Vec<_>>().join(",")
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

/// Each host with its port and its password.
fn hosts(all: &PgSettings<'_>, user: &str, database: &str) -> Result<Vec<PgHost>, String> {
    let (names, addresses, ports) = (all.list("host"), all.list("hostaddr"), all.list("port"));
    let count = names.len().max(addresses.len());
    if count > MAX_HOSTS {
        return Err(format!("more than {MAX_HOSTS} hosts"));
    }
    let fits = |list: &[String]| list.len() == 1 && (count == 1 || list[0].is_empty());
    for (key, list) in [("host", &names), ("hostaddr", &addresses)] {
        if list.len() != count && !fits(list) {
            return Err(format!("{key} has {} values, and there are {count} hosts", list.len()));
        }
    }
    if ports.len() != 1 && ports.len() != count {
        return Err(format!("port has {} values, and there are {count} hosts", ports.len()));
    }
    let file = all.get("passfile").map(PathBuf::from).or_else(|| home(all, ".pgpass"));
    let file = file.map(|path| passfile::read(&path)).unwrap_or_default();
    let said = all.get("password");
    let at =
        |list: &[String], index: usize| list.get(index).filter(|part| !part.is_empty()).cloned();
    (0..count)
        .map(|index| {
            let port = match at(&ports, if ports.len() == 1 { 0 } else { index }) {
                None => 5432,
                Some(port) => {
                    let port = port.parse().ok().filter(|port| *port > 0);
                    port.ok_or("port is a number from 1 to 65535, one for each host")?
                }
            };
            let address = at(&addresses, index);
            let name = at(&names, index).or_else(|| address.clone()).unwrap_or_else(default_host);
            // A socket at its usual place is localhost in the file.
            let in_file = if name == SOCKET_DIR { "localhost" } else { &name };
            let wanted = [in_file, &port.to_string(), database, user];
            let password = said.clone().or_else(|| passfile::find(&file, wanted)).map(PgPassword);
            Ok(PgHost { name, address, port, password })
        })
        .collect()
}

fn default_host() -> String {
    if Path::new(SOCKET_DIR).is_dir() { SOCKET_DIR.to_owned() } else { "localhost".to_owned() }
}

/// The name of the user that this process runs as.
fn own_name() -> Option<String> {
    let own = rustix::process::geteuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id == own).then(|| name.to_owned())
    })
}

fn home(all: &PgSettings<'_>, file: &str) -> Option<PathBuf> {
    all.variable("HOME").map(|home| Path::new(&home).join(file))
}

fn keepalive(all: &PgSettings<'_>) -> Result<Option<PgKeepalive>, String> {
    if !all.word("keepalives", &[("1", true), ("0", false)], true)? {
        return Ok(None);
    }
    Ok(Some(PgKeepalive {
        idle: all.seconds("keepalives_idle", KEEPALIVE.idle)?,
        interval: all.seconds("keepalives_interval", KEEPALIVE.interval)?,
        count: all.number("keepalives_count", "")?.unwrap_or(KEEPALIVE.count),
    }))
}

fn ssl(all: &PgSettings<'_>) -> Result<PgSsl, String> {
    let words = [
        ("disable", PgSslMode::Disable),
        ("allow", PgSslMode::Allow),
        ("prefer", PgSslMode::Prefer),
        ("require", PgSslMode::Require),
        ("verify-ca", PgSslMode::VerifyCa),
        ("verify-full", PgSslMode::VerifyFull),
    ];
    let root_cert = all.get("sslrootcert").map(PathBuf::from);
    let is_system = root_cert.as_deref() == Some(Path::new("system"));
    let default = if is_system { PgSslMode::VerifyFull } else { PgSslMode::Prefer };
    let mut mode = all.word("sslmode", &words, default)?;
    let is_weak = matches!(mode, PgSslMode::Allow | PgSslMode::Prefer);
    if (is_weak && all.is_given("sslrootcert")) || (is_system && mode != PgSslMode::VerifyFull) {
        return Err(
            "sslrootcert proves nothing with this sslmode: say sslmode=verify-full".to_owned()
        );
    }
    let usual = || home(all, ".postgresql/root.crt").filter(|path| path.is_file());
    let root_cert = root_cert.or_else(usual).filter(|_| mode >= PgSslMode::Require);
    if mode == PgSslMode::Require && root_cert.is_some() {
        mode = PgSslMode::VerifyCa;
    }
    if mode > PgSslMode::Require && root_cert.is_none() {
        let way_out =
            "give sslrootcert=FILE, or sslrootcert=system for the authorities that browsers trust";
        return Err(format!("nobody is trusted to sign the server's certificate: {way_out}"));
    }
    let own = match (all.get("sslcert"), all.get("sslkey")) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => return Err("sslcert and sslkey go together".to_owned()),
    };
    let versions = [("TLSv1", false), ("TLSv1.1", false), ("TLSv1.2", false), ("TLSv1.3", true)];
    let from_13 = all.word("ssl_min_protocol_version", &versions, false)?;
    Ok(PgSsl { mode, root_cert, own, from_13 })
}

fn target(all: &PgSettings<'_>) -> Result<PgTarget, String> {
    let words = [
        ("any", PgTarget::Any),
        ("read-write", PgTarget::ReadWrite),
        ("read-only", PgTarget::ReadOnly),
        ("primary", PgTarget::Primary),
        ("standby", PgTarget::Standby),
        ("prefer-standby", PgTarget::PreferStandby),
    ];
    all.word("target_session_attrs", &words, PgTarget::Any)
}

#[cfg(test)]
mod tests;
