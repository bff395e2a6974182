//! TLS of a server: what its options say, and its files read again.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::output::status;
use crate::http::{ServerTls, TlsFiles};
use crate::runtime::clock::unix_ms;
use crate::runtime::signals::ReloadWatch;

/// The files of `--tls-cert` and `--tls-key`; `None`: neither is given.
///
/// # Errors
/// One is given without the other.
pub(crate) fn files(cert: Option<String>, key: Option<String>) -> Result<Option<TlsFiles>> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert: cert.into(), key: key.into() })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("--tls-cert needs --tls-key, the file of its private key"),
        (None, Some(_)) => bail!("--tls-key needs --tls-cert, the file of its certificate"),
    }
}

/// Reads the certificate again at each SIGHUP, and says in a status line of `part` what came of it.
///
/// # Errors
/// The operating system's.
pub(crate) fn reload_on_hangup(
    part: &'static str,
    tls: Option<Arc<ServerTls>>,
) -> Result<ReloadWatch> {
    ReloadWatch::start(move || {
        let Some(tls) = &tls else {
            status(
                part,
                format_args!(
                    "SIGHUP reads a certificate again, and there is none: --tls-cert is not given"
                ),
            );
            return;
        };
        match tls.reload() {
            Ok(()) => {
                let until = tls.valid_until();
                status(
                    part,
                    format_args!("the certificate was read again; it is valid until {until}"),
                );
                let troubles = tls.troubles(unix_ms()).into_iter().chain(tls.warnings());
                troubles.for_each(|trouble| log::warn!("{trouble}"));
            }
            Err(why) => log::error!(
                "the certificate was read again and is not taken, the one of before is shown on: {why}"
            ),
        }
    })
}
