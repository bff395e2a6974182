//! TLS as the user configures it: whom to trust, what to present; and what becomes of it in `rustls`. Reads the files on
//! the thread that connects.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::Error;
use crate::io::pem::{pem_certificates, pem_private_key};

/// The oldest TLS version to accept.
///
/// # Example
/// ```
/// use nsq_protocol::{TlsConfig, TlsVersion};
///
/// let tls = TlsConfig::new().min_version(TlsVersion::Tls13);
/// assert!(tls.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (default). Older ones are broken and not offered.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The client's own certificate: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

/// How connections are encrypted, and whom they trust: those to nsqd, and those to HTTP APIs whose address begins with
/// `https://` ([`crate::Admin::with_tls`], [`crate::LookupConfig::tls`]).
///
/// The files are read when a client starts, so that a fault in them is found there, and again for each
/// connection, so that renewed certificates need no restart.
///
/// **Self-signed certificates:** the certificate that nsqd presents must not be a CA's own (`CA:TRUE`), which is
/// what `openssl req -x509` makes unless told otherwise. Go's TLS takes that, this one does not. Sign a server
/// certificate with it, or make it with `-addext basicConstraints=critical,CA:FALSE`; then it can itself be given
/// as [`TlsConfig::root_ca_file`]. It must name the host or IP address as a subject alternative name, or
/// [`TlsConfig::server_name`] must say which name it has.
///
/// # Example
/// ```
/// use nsq_protocol::{ConsumerConfig, Error, TlsConfig};
///
/// let tls = TlsConfig::new().root_ca_file("/etc/nsq/ca.pem").server_name("nsqd.internal");
/// // The file is not there.
/// assert!(matches!(tls.check(), Err(Error::Config { .. })));
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).nsqd("10.0.0.7:4150").tls(tls);
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    pub(crate) root_ca_files: Vec<PathBuf>,
    pub(crate) client_certificate: Option<ClientCertificate>,
    pub(crate) min_version: TlsVersion,
    pub(crate) server_name: Option<String>,
    accept_any_certificate: bool,
}

impl TlsConfig {
    /// TLS 1.2 or 1.3, with the certificate authorities that browsers trust.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in that PEM file, and those of other calls, and no others.
    pub fn root_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_ca_files.push(path.into());
        self
    }

    /// Trusts the certificate authorities in those PEM files and nobody else, whatever was set before,
    /// [`TlsConfig::dangerous_accept_any_certificate`] included; without any (default), those that browsers trust, as
    /// compiled in.
    pub fn root_ca_files(mut self, paths: impl IntoIterator<Item: Into<PathBuf>>) -> Self {
        self.root_ca_files = paths.into_iter().map(Into::into).collect();
        self.accept_any_certificate = false;
        self
    }

    /// Presents the client's own certificate, for an nsqd with `--tls-client-auth-policy` (default none). Both are PEM
    /// files: the certificate and the intermediate ones behind it; and its private key, as PKCS#8, PKCS#1 or SEC1, not
    /// encrypted.
    pub fn client_certificate(
        mut self,
        cert_file: impl Into<PathBuf>,
        key_file: impl Into<PathBuf>,
    ) -> Self {
        let (cert_file, key_file) = (cert_file.into(), key_file.into());
        self.client_certificate = Some(ClientCertificate { cert_file, key_file });
        self
    }

    /// The oldest version to accept (default TLS 1.2).
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// The name that nsqd's certificate must have, whatever its address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The name that nsqd's certificate must have is the host of its address (default), whatever was set before.
    pub fn server_name_of_address(mut self) -> Self {
        self.server_name = None;
        self
    }

    /// Believes whatever certificate comes: **whoever sits between this client and nsqd can read and change
    /// everything**, an AUTH secret included. For tests. go-nsq calls this `tls_insecure_skip_verify`.
    pub fn dangerous_accept_any_certificate(mut self) -> Self {
        self.accept_any_certificate = true;
        self
    }

    /// The files of certificate authorities to trust; none: those that browsers trust.
    pub fn get_root_ca_files(&self) -> &[PathBuf] {
        &self.root_ca_files
    }

    /// The name that a certificate must have; `None`: the host of the address.
    pub fn get_server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Reads the files and checks what they hold.
    ///
    /// # Errors
    /// [`Error::Config`] names the file that cannot be read, or what is wrong with it.
    pub fn check(&self) -> Result<(), Error> {
        self.build().map(drop)
    }

    /// A session to begin with `host`: a name or an IP address, an IPv6 one with or without brackets.
    ///
    /// # Errors
    /// [`Error::Config`] for a fault in the files, or a host that no certificate can name.
    pub(crate) fn connection(&self, host: &str) -> Result<ClientConnection, Error> {
        let host = self.server_name.as_deref().unwrap_or(host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            config(format!("{host:?} can be in no certificate: set the TLS server name"))
        })?;
        ClientConnection::new(Arc::new(self.build()?), name)
            .map_err(|error| config(format!("tls with {host}: {error}")))
    }

    fn build(&self) -> Result<ClientConfig, Error> {
        let provider = provider();
        let refused = |what: &str, error: rustls::Error| config(format!("{what}: {error}"));
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions())
            .map_err(|error| refused("tls min_version", error))?;
        let builder = if self.accept_any_certificate {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider);
            let verifier = verifier
                .build()
                .map_err(|error| config(format!("tls root certificate authorities: {error}")))?;
            builder.with_webpki_verifier(verifier)
        };
        let Some(ClientCertificate { cert_file, key_file }) = &self.client_certificate else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = pem_certificates(cert_file).map_err(config)?;
        let key = pem_private_key(key_file).map_err(config)?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            let (cert, key) = (cert_file.display(), key_file.display());
            refused(&format!("tls client certificate {cert} with key {key}"), error)
        })
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_12: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        static FROM_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self.min_version {
            TlsVersion::Tls12 => &FROM_12,
            TlsVersion::Tls13 => &FROM_13,
        }
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if self.root_ca_files.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in &self.root_ca_files {
            for certificate in pem_certificates(path).map_err(config)? {
                roots.add(certificate).map_err(|error| {
                    config(format!("tls root CA file {}: {error}", path.display()))
                })?;
            }
        }
        Ok(roots)
    }
}

/// The cryptography: the one place that names it. Never the process-wide default, which another crate may set
/// otherwise or twice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn config(what: String) -> Error {
    Error::Config { what }
}

/// Accepts every certificate; the peer must still own the key of the one that it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tls: &TlsConfig, want: &str) {
        let error = tls.check().unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn faults_in_the_files_name_the_file() {
        TlsConfig::new().check().unwrap();
        check(&TlsConfig::new().root_ca_file("/no/such.pem"), "cannot read /no/such.pem: No such");
        let this = concat!(env!("CARGO_MANIFEST_DIR"), "/src/io/tls_config.rs");
        check(
            &TlsConfig::new().root_ca_file(this),
            "src/io/tls_config.rs holds no certificate in PEM form",
        );
        check(&TlsConfig::new().client_certificate(this, this), "holds no certificate in PEM form");
    }
}
