//! Whom HTTP APIs must prove to be over TLS, and what an error of one says to do (pure).

use nsq_protocol::{AdminError, TlsConfig, TlsFault};

/// Whom the HTTP APIs of nsqds and nsqlookupds must prove to be, where an address begins with `https://`. By default:
/// somebody with a certificate of an authority that browsers trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpTls {
    /// An nsqd.
    pub nsqd: TlsConfig,
    /// An nsqlookupd.
    pub lookupd: TlsConfig,
}

/// An nsqd's error, its cause, and the option that there is for it; one line.
pub(crate) fn explained(error: AdminError) -> anyhow::Error {
    let option = match &error {
        AdminError::TlsRequired { https: Some(_), .. } => "; --nsqd-http-address takes that",
        AdminError::Tls { fault: TlsFault::Untrusted, .. } => "; --nsqd-http-ca names it",
        _ => return error.into(),
    };
    anyhow::anyhow!("{:#}{option}", anyhow::Error::from(error))
}
