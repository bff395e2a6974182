//! TLS: whom a connection trusts, and one session over a socket that does not block. The one file here that knows
//! `rustls`. Runs on the thread that calls.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use nsq_protocol::{pem_certificates, pem_private_key};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use socket2::Socket;

use super::config::{PgSsl, PgSslMode};
use super::error::PgError;

/// One encrypted connection.
pub(super) struct PgTls(Box<ClientConnection>);

impl PgTls {
    /// A session to begin with `name`, which is `server` in errors.
    ///
    /// # Errors
    /// A file of certificates cannot be used, or no certificate can have that name.
    pub(super) fn new(ssl: &PgSsl, name: &str, server: &str) -> Result<Self, PgError> {
        let refused = |what: String| PgError::refused(server, what);
        let config = client_config(ssl).map_err(refused)?;
        let no_name = |_| refused(format!("{name:?} can be in no certificate"));
        // A name that is not looked at need not be one.
        let name = match ServerName::try_from(name.to_owned()) {
            Err(_) if ssl.mode != PgSslMode::VerifyFull => ServerName::try_from("postgres"),
            name => name,
        };
        let session = ClientConnection::new(Arc::new(config), name.map_err(no_name)?);
        session
            .map(|session| Self(Box::new(session)))
            .map_err(|error| refused(format!("TLS: {error}")))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    /// Reads what there is and decrypts it into `input`: how many encrypted bytes came, 0 at the end. Fails with
    /// `WouldBlock`, or with what TLS does not take.
    pub(super) fn receive(
        &mut self,
        mut socket: &Socket,
        input: &mut BytesMut,
    ) -> io::Result<usize> {
        let count = self.0.read_tls(&mut socket)?;
        let state = match self.0.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert tells the server's log why; one that does not pass is no loss.
                let _ = self.0.write_tls(&mut socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, explained(error)));
            }
        };
        let (start, plain) = (input.len(), state.plaintext_bytes_to_read());
        input.resize(start + plain, 0);
        self.0.reader().read_exact(&mut input[start..])?;
        let is_end = state.peer_has_closed() && plain == 0;
        Ok(if is_end { 0 } else { count })
    }

    /// Encrypts `output` and sends what the system takes: how many encrypted bytes went.
    pub(super) fn send(&mut self, mut socket: &Socket, output: &mut BytesMut) -> io::Result<usize> {
        // Takes no more than its own buffer has room for.
        let taken = self.0.writer().write(output)?;
        output.advance(taken);
        if !self.0.wants_write() {
            return Ok(0);
        }
        self.0.write_tls(&mut socket)
    }
}

/// What rustls says, and what to do about it.
fn explained(error: rustls::Error) -> String {
    let hint = match &error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => ": give the certificate authority that signed its certificate as sslrootcert",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            ": connect to the name that its certificate has, with hostaddr for where that is, or use sslmode=verify-ca"
        }
        // rustls passes what it has no variant for on from webpki, which is not our dependency.
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            ": its certificate is a certificate authority's own (CA:TRUE), which no server may use here; sign one for \
             the server, or make it with basicConstraints=critical,CA:FALSE"
        }
        _ => "",
    };
    format!("TLS: {error}{hint}")
}

fn client_config(ssl: &PgSsl) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let both: &[_] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let versions = if ssl.from_13 { &both[..1] } else { both };
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let builder = builder.map_err(|error| format!("TLS: {error}"))?;
    let builder = match (ssl.mode, &ssl.root_cert) {
        (PgSslMode::VerifyFull, Some(path)) => {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
            builder.with_webpki_verifier(
                verifier.build().map_err(|error| format!("sslrootcert: {error}"))?,
            )
        }
        (mode, path) => {
            let roots =
                path.as_deref().filter(|_| mode == PgSslMode::VerifyCa).map(roots).transpose()?;
            let verifier = PgVerifier { provider, roots };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let Some((cert, key)) = &ssl.own else { return Ok(builder.with_no_client_auth()) };
    let (chain, own) = (pem_certificates(cert)?, pem_private_key(key)?);
    builder
        .with_client_auth_cert(chain, own)
        .map_err(|error| format!("sslcert with sslkey: {error}"))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if path == Path::new("system") {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    }
    for certificate in pem_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("sslrootcert {}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// Looks at who signed a certificate, but not at its name; or, without roots, at nothing. The server must own the key
/// of the certificate that it shows.
#[derive(Debug)]
struct PgVerifier {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for PgVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let certificate = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
