//! AUTH: what an authorization server says that a client may do, as nsqd asks it and takes its answer.
//!
//! `permissions` reads an answer and applies it, `common_name` reads a client's certificate (both pure); `servers` asks, on the
//! thread `broker-read` of the client, where no lock is held.

mod common_name;
mod permissions;
mod servers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use nsq_protocol::{CommandError, ErrorCode};
use serde_json::json;

pub(crate) use permissions::AuthFacts;
pub use servers::{AuthConfig, AuthServers};

use common_name::common_name;
use permissions::Permissions;

/// Whom a client says that it is, and what that allows.
pub(super) struct ClientAuth {
    servers: Arc<AuthServers>,
    remote_ip: IpAddr,
    is_encrypted: bool,
    /// Of its certificate; empty without.
    common_name: String,
    secret: Vec<u8>,
    /// Those that it has, where there are any.
    permissions: Option<Permissions>,
}

/// The longest secret, in bytes: it goes into a URL.
const SECRET_MAX: usize = 16 << 10;

/// Whether a secret may have so many bytes.
pub(super) fn check_secret(size: usize) -> Result<(), CommandError> {
    let text = || format!("AUTH secret is over {SECRET_MAX} bytes");
    if size <= SECRET_MAX { Ok(()) } else { Err(CommandError::new(ErrorCode::BadBody, text())) }
}

impl ClientAuth {
    /// A client that has said nothing yet.
    pub(super) fn new(servers: Arc<AuthServers>, remote_ip: IpAddr) -> Self {
        Self {
            servers,
            // As nsqd has it where one socket takes both kinds.
            remote_ip: remote_ip.to_canonical(),
            is_encrypted: false,
            common_name: String::new(),
            secret: Vec::new(),
            permissions: None,
        }
    }

    /// It speaks TLS, with that certificate.
    pub(super) fn set_encrypted(&mut self, certificate: Option<&[u8]>) {
        self.is_encrypted = true;
        self.common_name = certificate.map(common_name).unwrap_or_default();
    }

    /// AUTH: asks what the secret allows; who the client is, and the answer to it.
    ///
    /// # Errors
    /// nsqd's; why a server did not answer is for the log alone.
    pub(super) fn authenticate(
        &mut self,
        secret: &[u8],
    ) -> Result<(AuthFacts, Vec<u8>), CommandError> {
        if self.permissions.is_some() {
            return Err(CommandError::new(ErrorCode::Invalid, "AUTH already set"));
        }
        check_secret(secret.len())?;
        self.secret = secret.to_vec();
        self.ask()?;
        let Some(permissions) = &self.permissions else {
            return Err(CommandError::new(ErrorCode::Unauthorized, "AUTH no authorizations found"));
        };
        let answer = json!({
            "identity": permissions.who.identity,
            "identity_url": permissions.who.identity_url,
            "permission_count": permissions.count(),
        });
        Ok((permissions.who.clone(), answer.to_string().into_bytes()))
    }

    /// Whether it has said who it is, and may do something.
    pub(super) fn is_known(&self) -> bool {
        self.permissions.is_some()
    }

    /// Whether a server may be asked for what comes next: what it allows is not known, or too old.
    pub(super) fn may_ask(&self) -> bool {
        self.permissions.as_ref().is_none_or(|all| all.expires <= Instant::now())
    }

    /// Whether a command may do that to a topic, and its channel where there is one; asks again where what is known is too old.
    ///
    /// # Errors
    /// nsqd's, where it may not.
    pub(super) fn check(
        &mut self,
        command: &str,
        topic: &str,
        channel: &str,
    ) -> Result<(), CommandError> {
        let Some(permissions) = &self.permissions else {
            let text = format!("AUTH required before {command}");
            return Err(CommandError::new(ErrorCode::AuthFirst, text));
        };
        if permissions.expires <= Instant::now() {
            self.ask()?;
        }
        if self.permissions.as_ref().is_some_and(|all| all.allow(topic, channel)) {
            return Ok(());
        }
        let text = format!("AUTH failed for {command} on {topic:?} {channel:?}");
        Err(CommandError::new(ErrorCode::Unauthorized, text))
    }

    fn ask(&mut self) -> Result<(), CommandError> {
        let ip = self.remote_ip;
        match self.servers.ask(ip, self.is_encrypted, &self.common_name, &self.secret) {
            Ok(permissions) => {
                self.permissions = Some(permissions).filter(|all| all.count() > 0);
                Ok(())
            }
            Err(why) => {
                log::warn!("broker: AUTH of {ip} failed: {why}");
                Err(CommandError::new(ErrorCode::AuthFailed, "AUTH failed"))
            }
        }
    }
}
