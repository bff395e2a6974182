//! From a configuration to a connection: which host, how its socket is opened. Runs on the thread that calls.

use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::config::{PgConfig, PgHost};
use super::error::PgError;
use super::startup::log_in;
use super::wire::Wire;

/// The first host that lets us in.
pub(super) fn connect(config: &PgConfig) -> Result<Wire, PgError> {
    let mut last = None;
    for host in &config.hosts {
        match connect_host(config, host) {
            Ok(wire) => return Ok(wire),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| PgError::refused("", "no host is given")))
}

fn connect_host(config: &PgConfig, host: &PgHost) -> Result<Wire, PgError> {
    let server: Arc<str> = host.to_string().into();
    let deadline = Instant::now() + config.connect_timeout;
    let away = |error: std::io::Error| PgError::away(&server, error.to_string());
    let mut last = None;
    for address in nsq_protocol::resolve(&server, config.connect_timeout).map_err(away)? {
        let socket = open(&address.into(), Domain::for_address(address), config, deadline);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                last = Some(away(error));
                continue;
            }
        };
        let mut wire = Wire::new(server.clone(), socket);
        log_in(
            &mut wire,
            config,
            host.password.as_ref().map(|password| password.bytes()),
            deadline,
        )?;
        return Ok(wire);
    }
    Err(last.unwrap_or_else(|| PgError::away(&server, "the name has no address")))
}

fn open(
    address: &SockAddr,
    domain: Domain,
    config: &PgConfig,
    deadline: Instant,
) -> std::io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = &config.keepalive {
            let keepalive = TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        socket.set_tcp_user_timeout(Some(config.tcp_user_timeout))?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    socket.connect_timeout(address, left)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
