//! A server's certificate and key, read from PEM files: what is wrong with them, by file and line, and how long they are valid.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::client_certificates::{ClientCertificates, TlsRules};
use super::pem::{self, PemSection};
use crate::model::unix_time::UnixMs;

/// The largest file, in bytes: a chain of certificates has a few thousand.
const FILE_MAX: u64 = 256 * 1024;

/// The largest of moments that fits a certificate: none is valid until then.
const FAR: u64 = 253_402_300_800;

/// Where a server's certificate and its key lie, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those of the authorities between it and the one that clients trust.
    pub cert: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

/// What the two files hold, ready to be used.
pub(super) struct Certificate {
    /// For HTTP.
    pub(super) http: Arc<ServerConfig>,
    /// For a protocol that has no name in TLS.
    pub(super) unnamed: Arc<ServerConfig>,
    /// From when on it is valid.
    pub(super) from: UnixMs,
    /// Until when.
    pub(super) until: UnixMs,
    /// What is not right, though it can be used: lines for the log.
    pub(super) warnings: Vec<String>,
}

/// Reads both files, and that of the rules.
///
/// # Errors
/// In one line: the option, the file, the line in it, what is wrong there, and what to do.
pub(super) fn load(files: &TlsFiles, rules: &TlsRules) -> Result<Certificate, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let cert_text = read("--tls-cert", &files.cert)?;
    let chain = chain(&files.cert, &cert_text)?;
    let key = key(&provider, files)?;
    let certificates: Vec<_> = chain.iter().map(|(_, certificate)| certificate.clone()).collect();
    check_pair(files, &chain, &key)?;
    let (from, until, is_authority) = validity(&provider, &certificates[0])
        .map_err(|why| format!("--tls-cert {}:{}: {why}", files.cert.display(), chain[0].0))?;
    let resolver = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
    let verifier = rules.verifier(&provider)?;
    let mut unnamed = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rules.versions())
        .map_err(|error| format!("TLS: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    if rules.clients == ClientCertificates::NotAsked {
        // A connection serves one request: with tickets the next one costs a fraction of the first.
        unnamed.ticketer =
            rustls::crypto::ring::Ticketer::new().map_err(|error| format!("TLS: {error}"))?;
    } else {
        // Who resumes a session is not asked for a certificate again, also when that has expired meanwhile.
        unnamed.session_storage = Arc::new(NoServerSessionStorage {});
        unnamed.send_tls13_tickets = 0;
    }
    let mut http = unnamed.clone();
    // What is spoken here, so that a client of HTTP/2 alone learns it in the handshake.
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut warnings = Vec::new();
    if is_authority {
        warnings.push(format!(
            "the certificate of {} is a certificate authority's own (CA:TRUE): processors and producers refuse it; sign one \
             for this server, or make it with basicConstraints=critical,CA:FALSE",
            files.cert.display()
        ));
    }
    if is_open_to_all(&files.key) {
        let key = files.key.display();
        warnings.push(format!(
            "everybody on this machine may use the key {key}; chmod 600 {key} fixes that"
        ));
    }
    Ok(Certificate { http: Arc::new(http), unnamed: Arc::new(unnamed), from, until, warnings })
}

fn read(option: &str, path: &Path) -> Result<String, String> {
    let refused = |why: String| format!("cannot read {option} {}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(refused(format!("it is over {FILE_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| {
        format!(
            "{option} {} is not in PEM form, which is text: openssl x509 -inform DER (or openssl pkey -inform DER) makes it",
            path.display()
        )
    })
}

/// The certificates of a file, each with the line that it begins in.
fn chain(path: &Path, text: &str) -> Result<Vec<(usize, CertificateDer<'static>)>, String> {
    let at = |line: usize, why: String| format!("--tls-cert {}:{line}: {why}", path.display());
    let sections = pem::sections(text).map_err(|fault| at(fault.line, fault.why))?;
    let mut chain = Vec::new();
    for section in sections.iter().filter(|section| section.label == "CERTIFICATE") {
        let certificate = CertificateDer::from_pem_slice(section.text.as_bytes())
            .map_err(|error| at(section.line, format!("not well-formed PEM: {error}")))?;
        ParsedCertificate::try_from(&certificate)
            .map_err(|error| at(section.line, format!("no certificate: {error}")))?;
        chain.push((section.line, certificate));
    }
    if chain.is_empty() {
        let has_key = sections.iter().any(|section| section.label.ends_with("PRIVATE KEY"));
        let hint = if has_key { ", but a private key: is it that of --tls-key?" } else { "" };
        return Err(format!("--tls-cert {} holds no certificate{hint}", path.display()));
    }
    Ok(chain)
}

/// The key of a file.
fn key(provider: &CryptoProvider, files: &TlsFiles) -> Result<Arc<dyn SigningKey>, String> {
    let path = files.key.display();
    let at = |line: usize, why: &str| format!("--tls-key {path}:{line}: {why}");
    let text = read("--tls-key", &files.key)?;
    let sections = pem::sections(&text).map_err(|fault| at(fault.line, &fault.why))?;
    let is_key = |section: &&PemSection<'_>| section.label.ends_with("PRIVATE KEY");
    let Some(section) = sections.iter().find(is_key) else {
        let has_certificate = sections.iter().any(|section| section.label == "CERTIFICATE");
        let hint =
            if has_certificate { ", but a certificate: is it that of --tls-cert?" } else { "" };
        return Err(format!("--tls-key {path} holds no private key{hint}"));
    };
    if section.is_encrypted() {
        let way_out = "the key is encrypted, and nobody is there to type its passphrase: openssl pkey -in OLD -out NEW \
                       writes it in clear";
        return Err(at(section.line, way_out));
    }
    let key = PrivateKeyDer::from_pem_slice(section.text.as_bytes())
        .map_err(|error| at(section.line, &format!("not well-formed PEM: {error}")))?;
    provider.key_provider.load_private_key(key).map_err(|error| {
        at(section.line, &format!("a key that cannot be used ({error}): RSA from 2048 bits, ECDSA P-256 or P-384, and Ed25519 can"))
    })
}

/// Refuses a key that is not the first certificate's.
fn check_pair(
    files: &TlsFiles,
    chain: &[(usize, CertificateDer<'static>)],
    key: &Arc<dyn SigningKey>,
) -> Result<(), String> {
    let fits = |certificate: &CertificateDer<'static>| {
        let pair = CertifiedKey::new(vec![certificate.clone()], key.clone());
        !matches!(pair.keys_match(), Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)))
    };
    if fits(&chain[0].1) {
        return Ok(());
    }
    let (cert, key) = (files.cert.display(), files.key.display());
    let first = chain[0].0;
    Err(match chain.iter().find(|(_, certificate)| fits(certificate)) {
        Some((line, _)) => format!(
            "--tls-cert {cert}:{line}: the certificate of the key {key} must come first; the one at line {first} does"
        ),
        None => format!(
            "--tls-key {key} does not belong to the certificate of --tls-cert {cert}:{first}: give the key that it was made with"
        ),
    })
}

/// From when until when a certificate is valid, and whether it is an authority's own.
///
/// A verifier looks at that first, and says when it would have been right: asked of two moments at which none is valid, it
/// tells both ends.
fn validity(
    provider: &CryptoProvider,
    certificate: &CertificateDer<'_>,
) -> Result<(UnixMs, UnixMs, bool), String> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| error.to_string())?;
    let nobody = RootCertStore::empty();
    let algorithms = provider.signature_verification_algorithms.all;
    let at = |seconds: u64| {
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let told =
            verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], now, algorithms);
        match told {
            Err(Error::InvalidCertificate(error)) => error,
            _ => CertificateError::UnknownIssuer,
        }
    };
    let ms =
        |time: UnixTime| UnixMs(i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 1000) * 1000);
    // The epoch itself is a moment at which some are valid from: then that is when.
    let (from, is_from_epoch) = match at(0) {
        CertificateError::NotValidYetContext { not_before, .. } => (not_before, false),
        _ => (UnixTime::since_unix_epoch(std::time::Duration::ZERO), true),
    };
    let until = match at(FAR) {
        CertificateError::ExpiredContext { not_after, .. } => not_after,
        _ if is_from_epoch => return Err("it does not say how long it is valid".to_owned()),
        // Valid up to the end of all calendars.
        _ => UnixTime::since_unix_epoch(std::time::Duration::from_secs(FAR)),
    };
    let is_authority = matches!(at(from.as_secs()), CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"));
    Ok((ms(from), ms(until), is_authority))
}

fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}
