//! TLS of a broker: what nsqd's options of it mean here. None is taken that would have no effect.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};

use crate::broker::TlsRequired;
use crate::command::shared::tls::files;
use crate::http::{ClientCertificates, ServerTls, TlsRules};
use crate::runtime::clock::unix_ms;

/// `--tls-client-auth-policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuthPolicy {
    Require,
    RequireVerify,
}

impl FromStr for ClientAuthPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "require" => Ok(Self::Require),
            "require-verify" => Ok(Self::RequireVerify),
            // nsqd takes any other word, and asks nobody for a certificate then.
            _ => Err("must be require or require-verify".to_owned()),
        }
    }
}

/// `--tls-required`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TlsRequiredOption(pub(super) TlsRequired);

impl FromStr for TlsRequiredOption {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self(TlsRequired::Always)),
            "false" => Ok(Self(TlsRequired::No)),
            "tcp-https" => Ok(Self(TlsRequired::ExceptHttp)),
            _ => Err("must be true, false or tcp-https".to_owned()),
        }
    }
}

/// `--tls-min-version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMinVersion {
    Tls12,
    Tls13,
}

impl FromStr for TlsMinVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tls1.2" => Ok(Self::Tls12),
            "tls1.3" => Ok(Self::Tls13),
            _ => {
                Err("must be tls1.2 or tls1.3: older ones are broken, and not spoken here"
                    .to_owned())
            }
        }
    }
}

/// What is given of them.
#[derive(Debug)]
pub(super) struct TlsOptions {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) root_ca_file: Option<String>,
    pub(super) client_auth_policy: Option<ClientAuthPolicy>,
    pub(super) min_version: Option<TlsMinVersion>,
    /// Authorization servers are asked over TLS, by the same authorities.
    pub(super) asks_over_https: bool,
}

/// Whether clients must speak TLS: also where their certificates are asked for, as with nsqd.
pub(super) fn required(
    given: Option<TlsRequiredOption>,
    policy: Option<ClientAuthPolicy>,
) -> TlsRequired {
    match given.map_or(TlsRequired::No, |given| given.0) {
        TlsRequired::No if policy.is_some() => TlsRequired::Always,
        given => given,
    }
}

/// Reads the certificate, and says what is not right about it.
///
/// # Errors
/// An option that lacks another, or what is wrong with a file.
pub(super) fn certificate(options: TlsOptions) -> Result<Option<Arc<ServerTls>>> {
    let TlsOptions { cert, key, root_ca_file, client_auth_policy, min_version, asks_over_https } =
        options;
    if root_ca_file.is_some()
        && !asks_over_https
        && client_auth_policy != Some(ClientAuthPolicy::RequireVerify)
    {
        log::warn!(
            "--tls-root-ca-file has no effect: it is for --tls-client-auth-policy require-verify, and for an --auth-http-address of HTTPS"
        );
    }
    let Some(files) = files(cert, key)? else {
        if client_auth_policy.is_some() {
            bail!("--tls-client-auth-policy needs --tls-cert and --tls-key: it is about TLS");
        }
        return Ok(None);
    };
    let clients = match (client_auth_policy, root_ca_file) {
        (None, _) => ClientCertificates::NotAsked,
        (Some(ClientAuthPolicy::Require), _) => ClientCertificates::Any,
        (Some(ClientAuthPolicy::RequireVerify), Some(path)) => ClientCertificates::Of(path.into()),
        (Some(ClientAuthPolicy::RequireVerify), None) => bail!(
            "--tls-client-auth-policy require-verify needs --tls-root-ca-file, the authorities of your clients"
        ),
    };
    let only_13 = min_version == Some(TlsMinVersion::Tls13);
    let tls = ServerTls::load_with(files, TlsRules { clients, only_13 });
    let tls = tls.map_err(|error| anyhow!(error))?;
    for trouble in tls.troubles(unix_ms()).into_iter().chain(tls.warnings()) {
        log::warn!("{trouble}");
    }
    Ok(Some(Arc::new(tls)))
}
