//! The certificate that a server shows, read again while it serves: connections keep what they began with.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConnection;

use super::certificate::{self, Certificate, TlsFiles};
use super::client_certificates::TlsRules;
use crate::model::unix_time::UnixMs;

/// How long before its end a certificate is warned of: those that are renewed by themselves have 30 days left then.
const SOON_MS: i64 = 14 * 24 * 3600 * 1000;

/// A server's certificate and key.
pub struct ServerTls {
    files: TlsFiles,
    rules: TlsRules,
    current: RwLock<Current>,
}

struct Current {
    certificate: Certificate,
    /// Why the files were not taken when they were last read.
    fault: Option<String>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// In one line: option, file and line of what is wrong, and what to do.
    pub fn load(files: TlsFiles) -> Result<Self, String> {
        Self::load_with(files, TlsRules::default())
    }

    /// Reads the files, for a server that demands something of its clients.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn load_with(files: TlsFiles, rules: TlsRules) -> Result<Self, String> {
        let certificate = certificate::load(&files, &rules)?;
        Ok(Self { files, rules, current: RwLock::new(Current { certificate, fault: None }) })
    }

    /// Reads the files again. New connections get what they hold; where they cannot be used, what was there before.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; the old certificate is shown on.
    pub fn reload(&self) -> Result<(), String> {
        let loaded = certificate::load(&self.files, &self.rules);
        let mut current = self.current.write();
        current.fault = loaded.as_ref().err().cloned();
        current.certificate = loaded?;
        Ok(())
    }

    /// Until when the certificate is valid that is shown.
    pub fn valid_until(&self) -> UnixMs {
        self.current.read().certificate.until
    }

    /// What is not right about the files themselves, though they can be used: lines for the log.
    pub fn warnings(&self) -> Vec<String> {
        self.current.read().certificate.warnings.clone()
    }

    /// What is wrong at `now`, though connections are taken: lines for an operator, the worst first.
    pub fn troubles(&self, now: UnixMs) -> Vec<String> {
        let current = self.current.read();
        let Certificate { from, until, .. } = &current.certificate;
        let cert = self.files.cert.display();
        let renew = "renew it, then send this process a SIGHUP";
        let dates = if now > *until {
            Some(format!(
                "the certificate of --tls-cert {cert} has expired, at {until}: browsers and processors refuse it; {renew}"
            ))
        } else if now < *from {
            Some(format!(
                "the certificate of --tls-cert {cert} is not valid before {from}: is the clock of this machine right?"
            ))
        } else if until.0 - now.0 < SOON_MS {
            Some(format!("the certificate of --tls-cert {cert} expires at {until}: {renew}"))
        } else {
            None
        };
        let fault = current.fault.as_ref().map(|fault| {
            format!("the files were read again and could not be used, so the certificate of before is shown on: {fault}")
        });
        dates.into_iter().chain(fault).collect()
    }

    /// A session for a new connection of HTTP.
    pub(super) fn session(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.current.read().certificate.http))
    }

    /// A session for a new connection of another protocol, whose clients name none in the handshake.
    ///
    /// # Errors
    /// What `rustls` says of the configuration.
    pub fn unnamed_session(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.current.read().certificate.unnamed))
    }
}
