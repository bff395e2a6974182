//! TLS: what the user configures, and one session's encryption without IO. The one file that knows `rustls`.
//!
//! A session is shared by the reader and the writer thread. Its lock is held to encrypt or decrypt in memory,
//! never over a socket call, so that a reader that waits for the peer cannot keep the writer waiting. Only the
//! writer takes encrypted bytes out, so their order on the wire is the order in which they were made; what the
//! reader makes the session say (an alert, a refused renegotiation) is left there and the writer woken.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::error::Error;

/// Encrypted bytes that are read at once and kept until they are decrypted: two records of TLS and some.
const INPUT: usize = 40 << 10;

/// What an emptied buffer of encrypted bytes keeps: one piece of [`crate::io::transport`] and its overhead.
const OUTPUT_AT_REST: usize = 128 << 10;

/// The oldest TLS version to accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (default). Older ones are broken and not offered.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The client's own certificate, for an nsqd with `--tls-client-auth-policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// PEM file: the certificate, and the intermediate ones behind it.
    pub cert_file: PathBuf,
    /// PEM file: its private key, as PKCS#8, PKCS#1 or SEC1; not encrypted.
    pub key_file: PathBuf,
}

/// How connections are encrypted, and whom they trust.
///
/// The files are read when a client starts, so that a fault in them is found there, and again for each
/// connection, so that renewed certificates need no restart.
///
/// **Self-signed certificates:** the certificate that nsqd presents must not be a CA's own (`CA:TRUE`), which is
/// what `openssl req -x509` makes unless told otherwise. Go's TLS takes that, this one does not. Sign a server
/// certificate with it, or make it with `-addext basicConstraints=critical,CA:FALSE`; then it can itself be given
/// as [`TlsConfig::root_ca_files`]. It must name the host or IP address as a subject alternative name, or
/// [`TlsConfig::server_name`] must say which name it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// PEM files of the certificate authorities to trust. None (default): those that browsers trust, as compiled
    /// in; with any, only these.
    pub root_ca_files: Vec<PathBuf>,
    /// What to present to nsqd (default nothing).
    pub client_certificate: Option<ClientCertificate>,
    /// The oldest version to accept (default TLS 1.2).
    pub min_version: TlsVersion,
    /// The name that nsqd's certificate must have; `None` (default): the host of its address.
    pub server_name: Option<String>,
    /// Only by its telling method.
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

    /// Presents a certificate to nsqd: see [`ClientCertificate`].
    pub fn client_certificate(
        mut self,
        cert_file: impl Into<PathBuf>,
        key_file: impl Into<PathBuf>,
    ) -> Self {
        let (cert_file, key_file) = (cert_file.into(), key_file.into());
        self.client_certificate = Some(ClientCertificate { cert_file, key_file });
        self
    }

    /// Sets the oldest version to accept.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// Sets the name that nsqd's certificate must have, whatever its address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Believes whatever certificate comes: **whoever sits between this client and nsqd can read and change
    /// everything**, an AUTH secret included. For tests. go-nsq calls this `tls_insecure_skip_verify`.
    pub fn dangerous_accept_any_certificate(mut self) -> Self {
        self.accept_any_certificate = true;
        self
    }

    /// Reads the files and checks what they hold.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.build().map(drop)
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
        let chain = certificates(cert_file)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| unreadable(key_file, "no unencrypted private key", &error))?;
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
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    config(format!("tls root CA file {}: {error}", path.display()))
                })?;
            }
        }
        Ok(roots)
    }

    /// A session to begin with the nsqd at `addr`, `host:port`.
    pub(crate) fn session(&self, addr: &str) -> Result<(TlsReader, TlsWriter), Error> {
        let host = match &self.server_name {
            Some(name) => name,
            None => addr.rsplit_once(':').map_or(addr, |(host, _)| host),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            config(format!("{host:?} can be in no certificate: set the TLS server name"))
        })?;
        let mut connection = ClientConnection::new(Arc::new(self.build()?), name)
            .map_err(|error| tls_error(addr, error))?;
        // The writer takes out at once what it puts in, a piece at a time.
        connection.set_buffer_limit(None);
        let session = Arc::new(Mutex::new(connection));
        let addr: Arc<str> = addr.into();
        let reader = TlsReader {
            addr: addr.clone(),
            session: session.clone(),
            input: vec![0; INPUT],
            start: 0,
            end: 0,
            flush: false,
        };
        Ok((reader, TlsWriter { addr, session, output: Vec::new() }))
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

fn unreadable(path: &Path, wanted: &str, error: &rustls_pki_types::pem::Error) -> Error {
    let path = path.display();
    config(match error {
        rustls_pki_types::pem::Error::Io(error) => format!("cannot read {path}: {error}"),
        rustls_pki_types::pem::Error::NoItemsFound => format!("{path} holds {wanted} in PEM form"),
        error => format!("{path} is not well-formed PEM: {error}"),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| unreadable(path, "no certificate", &error))?;
    if all.is_empty() {
        return Err(unreadable(
            path,
            "no certificate",
            &rustls_pki_types::pem::Error::NoItemsFound,
        ));
    }
    Ok(all)
}

fn tls_error(addr: &str, source: rustls::Error) -> Error {
    let hint = match &source {
        rustls::Error::InvalidCertificate(error) => certificate_hint(error),
        _ => "",
    };
    let source = Arc::new(io::Error::new(io::ErrorKind::InvalidData, source));
    Error::Tls { addr: addr.to_owned(), hint, source }
}

fn certificate_hint(error: &CertificateError) -> &'static str {
    match error {
        // The second: another authority of the same name signed it, such as the one before it was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ": give the certificate authority that signed its certificate as root CA file"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ": give the name that its certificate has as server name"
        }
        // rustls passes what it has no variant for on from webpki, which is not our dependency.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            ": its certificate is a certificate authority's own (CA:TRUE), which no server may use here; \
             sign one for the server, or make it with basicConstraints=critical,CA:FALSE"
        }
        _ => "",
    }
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

/// What decrypting gave.
pub(crate) enum Decrypted {
    /// That many bytes, at least one.
    Bytes(usize),
    /// Nothing yet: more encrypted bytes are needed.
    Starved,
    /// The peer said that it sends no more.
    Closed,
}

/// The receiving side of a session.
pub(crate) struct TlsReader {
    addr: Arc<str>,
    session: Arc<Mutex<ClientConnection>>,
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What came made the session say something that the writer has yet to pass on.
    flush: bool,
}

impl TlsReader {
    /// Where the next encrypted bytes belong, once [`TlsReader::read`] is starved.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        // Starved means that the session took all there was.
        (self.start, self.end) = (0, 0);
        &mut self.input
    }

    /// Says that `count` bytes were written to the front of [`TlsReader::space`].
    pub(crate) fn advance(&mut self, count: usize) {
        self.end += count;
    }

    /// Decrypts what there is, into `out`, which is not empty. Takes no more of the input than fills it.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<Decrypted, Error> {
        let failed = |addr: &str, error| Error::Tls {
            addr: addr.to_owned(),
            hint: "",
            source: Arc::new(error),
        };
        let mut session = self.session.lock();
        loop {
            match session.reader().read(out) {
                Ok(0) => return Ok(Decrypted::Closed),
                Ok(count) => return Ok(Decrypted::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&self.addr, error)),
            }
            if self.start == self.end {
                return Ok(Decrypted::Starved);
            }
            let mut input = &self.input[self.start..self.end];
            // Without decrypted bytes waiting, which was just seen, the session always takes some.
            let count = session.read_tls(&mut input).map_err(|error| failed(&self.addr, error))?;
            self.start += count;
            session.process_new_packets().map_err(|error| tls_error(&self.addr, error))?;
            self.flush |= session.wants_write();
        }
    }

    /// During the handshake: as [`TlsReader::read`], but for handshake messages. True when it is complete.
    pub(crate) fn shake_hands(&mut self) -> Result<bool, Error> {
        let mut session = self.session.lock();
        while session.is_handshaking() && self.start < self.end && !session.wants_write() {
            let mut input = &self.input[self.start..self.end];
            let count = session.read_tls(&mut input).map_err(|error| Error::Tls {
                addr: self.addr.to_string(),
                hint: "",
                source: Arc::new(error),
            })?;
            if count == 0 {
                // It was closed, in order, in the middle of the handshake.
                return Err(Error::Closed { addr: self.addr.to_string() });
            }
            self.start += count;
            session.process_new_packets().map_err(|error| tls_error(&self.addr, error))?;
        }
        Ok(!session.is_handshaking())
    }

    /// Whether encrypted bytes are there that neither call has taken yet.
    pub(crate) fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// Whether the writer must be woken.
    pub(crate) fn wants_flush(&self) -> bool {
        self.flush
    }

    /// As [`TlsReader::wants_flush`], which is false from then on.
    pub(crate) fn take_flush(&mut self) -> bool {
        std::mem::take(&mut self.flush)
    }
}

/// The sending side of a session.
pub(crate) struct TlsWriter {
    addr: Arc<str>,
    session: Arc<Mutex<ClientConnection>>,
    output: Vec<u8>,
}

impl TlsWriter {
    /// Encrypts `bytes` behind whatever the session itself has to say; perhaps nothing.
    pub(crate) fn encrypt(&mut self, bytes: &[u8]) -> Result<&[u8], Error> {
        let failed =
            |source| Error::Tls { addr: self.addr.to_string(), hint: "", source: Arc::new(source) };
        self.output.clear();
        self.output.shrink_to(OUTPUT_AT_REST);
        let mut session = self.session.lock();
        session.writer().write_all(bytes).map_err(failed)?;
        while session.wants_write() {
            session.write_tls(&mut self.output).map_err(failed)?;
        }
        Ok(&self.output)
    }

    /// The last words: that no more will come.
    pub(crate) fn close(&mut self) -> Result<&[u8], Error> {
        self.session.lock().send_close_notify();
        self.encrypt(b"")
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
        let this = concat!(env!("CARGO_MANIFEST_DIR"), "/src/io/tls.rs");
        check(
            &TlsConfig::new().root_ca_file(this),
            "src/io/tls.rs holds no certificate in PEM form",
        );
        check(&TlsConfig::new().client_certificate(this, this), "holds no certificate in PEM form");
    }

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        let session = |addr| TlsConfig::new().session(addr).map(drop);
        for addr in ["127.0.0.1:4150", "[::1]:4150", "nsqd.example:4150"] {
            session(addr).unwrap();
        }
        let error = session("a b:4150").unwrap_err().to_string();
        assert_eq!(error, r#""a b" can be in no certificate: set the TLS server name"#);
    }
}
