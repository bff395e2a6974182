//! From a configuration to a connection: which host, how its socket is opened, with TLS or without. Runs on the thread
//! that calls; a name is resolved on a thread of `nsq-protocol`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::config::{PgConfig, PgHost, PgSslMode, PgTarget};
use super::connection::PgConnection;
use super::error::{PgError, PgErrorKind};
use super::startup::{PgClearText, log_in};
use super::tls::PgTls;
use super::wire::{Wire, WireLimit};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Whether one try to connect uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PgEncryption {
    No,
    IfOffered,
    Must,
}

impl PgConnection {
    /// Connects and logs in, at the first host of `config` that lets us and is what `target_session_attrs` wants.
    ///
    /// # Errors
    /// There is none, for the reason of each. It takes at most the connect_timeout for each address of each.
    pub fn connect(config: &PgConfig) -> Result<Self, PgError> {
        // First those that are wanted most.
        let targets: &[_] = match config.target {
            PgTarget::PreferStandby => &[PgTarget::Standby, PgTarget::Any],
            _ => std::slice::from_ref(&config.target),
        };
        let mut errors = Vec::new();
        for target in targets {
            errors.clear();
            for host in &config.hosts {
                let connected = connect_host(config, host).and_then(|wire| {
                    let mut connection = Self::new(wire, config.answer_timeout);
                    connection.is_wanted(*target).map(|()| connection)
                });
                match connected {
                    Ok(connection) => return Ok(connection),
                    // As in libpq: a login that is refused is not tried elsewhere.
                    Err(error) if error.sqlstate().is_some_and(|code| code.starts_with("28")) => {
                        return Err(error);
                    }
                    Err(error) => errors.push(error),
                }
            }
        }
        Err(PgError::of_all(&config.all_hosts(), errors))
    }

    /// Whether the server is what is wanted.
    fn is_wanted(&mut self, target: PgTarget) -> Result<(), PgError> {
        const SQL: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
                           pg_catalog.current_setting('transaction_read_only') <> 'off'";
        if target == PgTarget::Any {
            return Ok(());
        }
        let rows = self.query(SQL, &[])?;
        let (is_standby, is_read_only) = (rows.first()?.bool(0)?, rows.first()?.bool(1)?);
        let (is_wanted, name) = match target {
            PgTarget::ReadWrite => (!is_read_only, "read-write"),
            PgTarget::ReadOnly => (is_read_only, "read-only"),
            PgTarget::Primary => (!is_standby, "primary"),
            PgTarget::Standby | PgTarget::PreferStandby => (is_standby, "standby"),
            PgTarget::Any => (true, "any"),
        };
        if is_wanted {
            return Ok(());
        }
        let is = if is_standby { "a standby" } else { "a primary" };
        let writes = if is_read_only { "read-only" } else { "read-write" };
        let what = format!("it is {is}, {writes}, and target_session_attrs={name} wants another");
        Err(PgError::away(self.server(), what))
    }
}

fn connect_host(config: &PgConfig, host: &PgHost) -> Result<Wire, PgError> {
    let server: Arc<str> = host.to_string().into();
    if let Some(path) = host.socket() {
        let address =
            SockAddr::unix(path.strip_prefix('@').map_or(path.clone(), |name| format!("\0{name}")));
        let address = address.map_err(|error| PgError::refused(&server, error.to_string()))?;
        return try_address(config, host, &server, &address);
    }
    let limit = config.connect_timeout;
    let unknown =
        |error: io::Error| PgError::away(&server, format!("its name is not found: {error}"));
    let addresses = nsq_protocol::resolve(&host.tcp(), limit).map_err(unknown)?;
    let mut last = PgError::away(&server, "its name has no address");
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match try_address(config, host, &server, &address.into()) {
            Err(error) if error.kind() == PgErrorKind::Away => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Tries an address in the ways that the sslmode has, as libpq does.
fn try_address(
    config: &PgConfig,
    host: &PgHost,
    server: &Arc<str>,
    address: &SockAddr,
) -> Result<Wire, PgError> {
    let (first, second) = match config.ssl.mode {
        _ if address.is_unix() => (PgEncryption::No, None),
        PgSslMode::Disable => (PgEncryption::No, None),
        PgSslMode::Allow => (PgEncryption::No, Some(PgEncryption::Must)),
        PgSslMode::Prefer => (PgEncryption::IfOffered, Some(PgEncryption::No)),
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => {
            (PgEncryption::Must, None)
        }
    };
    let error = match try_once(config, host, server, address, first) {
        Err(error) if error.kind() == PgErrorKind::Refused => error,
        done => return done,
    };
    match second {
        // The server lets us in the other way only, or its TLS is none.
        Some(second) if matches!(error.sqlstate(), None | Some("28000")) => {
            try_once(config, host, server, address, second).map_err(|_| error)
        }
        _ => Err(error),
    }
}

fn try_once(
    config: &PgConfig,
    host: &PgHost,
    server: &Arc<str>,
    address: &SockAddr,
    encryption: PgEncryption,
) -> Result<Wire, PgError> {
    let deadline = Instant::now() + config.connect_timeout;
    let socket =
        open(address, config, deadline).map_err(|error| not_opened(server, config, &error))?;
    let mut wire = Wire::new(server.clone(), socket);
    let mut clear_text = if address.is_unix() { PgClearText::May } else { PgClearText::MayNot };
    if encryption != PgEncryption::No && encrypt(&mut wire, config, host, encryption, deadline)? {
        let is_verified = matches!(config.ssl.mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        clear_text = if is_verified { PgClearText::May } else { PgClearText::MayNot };
    }
    log_in(&mut wire, config, host.password.as_ref(), clear_text, deadline)?;
    Ok(wire)
}

/// Goes over to TLS, if the server does; whether it did.
fn encrypt(
    wire: &mut Wire,
    config: &PgConfig,
    host: &PgHost,
    encryption: PgEncryption,
    deadline: Instant,
) -> Result<bool, PgError> {
    let server = wire.server().clone();
    match wire.ask_for_tls(deadline)? {
        b'S' => {
            let tls = PgTls::new(&config.ssl, &host.name, &server)?;
            wire.start_tls(tls, deadline).map(|()| true)
        }
        b'N' if encryption == PgEncryption::IfOffered => Ok(false),
        b'N' => {
            let what =
                "it does no TLS, and sslmode asks for it: set ssl = on in its postgresql.conf";
            Err(PgError::refused(&server, what))
        }
        _ => {
            // Nothing but an error is due; in clear, so it is believed for its words only.
            let mut said = PgError::protocol(&server, "it answers what was not asked");
            wire.run(WireLimit::Until(deadline), |message, _, _| {
                if let postgres_protocol::message::backend::Message::ErrorResponse(body) = message {
                    said = PgError::of_server(&server, body.fields());
                }
                Err(said.clone())
            })
            .map(|()| false)
        }
    }
}

/// A connected socket that does not block.
fn open(address: &SockAddr, config: &PgConfig, deadline: Instant) -> io::Result<Socket> {
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    if address.domain() != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = &config.keepalive {
            let set =
                TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
            socket.set_tcp_keepalive(&set.with_retries(keepalive.count))?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(config.tcp_user_timeout))?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket.connect_timeout(address, left)?;
    // With nobody listening on a port of the ephemeral range, Linux can connect a socket to itself.
    let own = socket.local_addr()?.as_socket();
    if own.is_some() && own == socket.peer_addr()?.as_socket() {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn not_opened(server: &str, config: &PgConfig, error: &io::Error) -> PgError {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: is the server up, and listen_addresses set for this address?"
                .to_owned()
        }
        io::ErrorKind::NotFound => {
            "there is no such socket: is the server up, and this its port?".to_owned()
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let limit = config.connect_timeout.as_secs();
            format!(
                "no connection within {limit} s: is the machine up, and no firewall in between?"
            )
        }
        io::ErrorKind::PermissionDenied => {
            let what = format!("{error}: this user may not use the socket");
            return PgError::refused(server, what);
        }
        _ => format!("it cannot be reached: {error}"),
    };
    PgError::away(server, what)
}
