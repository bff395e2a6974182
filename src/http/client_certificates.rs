//! What a server asks of the certificates of its clients, and how old a TLS it speaks.

use std::path::PathBuf;
use std::sync::Arc;

use nsq_protocol::pem_certificates;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// What a server demands of those who connect to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsRules {
    /// Whose certificates; [`ClientCertificates::NotAsked`].
    pub clients: ClientCertificates,
    /// TLS 1.3 alone, not TLS 1.2; false.
    pub only_13: bool,
}

/// Which clients are taken by their certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// All: nobody is asked for one.
    #[default]
    NotAsked,
    /// Whoever has one, be it signed by itself, with its key. Clients are told apart by it, and not kept out.
    Any,
    /// Those with a certificate of an authority in that PEM file.
    Of(PathBuf),
}

impl TlsRules {
    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_12: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        static FROM_13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        if self.only_13 { &FROM_13 } else { &FROM_12 }
    }

    /// Reads the file of authorities, if there is one.
    ///
    /// # Errors
    /// In one line: the option, the file, and what is wrong with it.
    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let path = match &self.clients {
            ClientCertificates::NotAsked => return Ok(WebPkiClientVerifier::no_client_auth()),
            ClientCertificates::Any => return Ok(Arc::new(AnyCertificate(Arc::clone(provider)))),
            ClientCertificates::Of(path) => path,
        };
        let refused = |error: String| format!("--tls-root-ca-file {}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for certificate in
            pem_certificates(path).map_err(|error| format!("--tls-root-ca-file: {error}"))?
        {
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        builder.build().map_err(|error| refused(error.to_string()))
    }
}

/// Takes every certificate; the client must still own its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
