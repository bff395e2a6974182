//! Certificates and keys from files in PEM form, and what is said of a file that holds none.

use std::path::Path;

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a file, at least one, in its order.
///
/// # Errors
/// In one line: it cannot be read, holds none, or is not well-formed.
pub fn pem_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| unreadable(path, "no certificate", &error))?;
    if all.is_empty() {
        return Err(unreadable(path, "no certificate", &PemError::NoItemsFound));
    }
    Ok(all)
}

/// The private key of a file, which is not encrypted.
///
/// # Errors
/// As [`pem_certificates`].
pub fn pem_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| unreadable(path, "no unencrypted private key", &error))
}

fn unreadable(path: &Path, wanted: &str, error: &PemError) -> String {
    let path = path.display();
    match error {
        PemError::Io(error) => format!("cannot read {path}: {error}"),
        PemError::NoItemsFound => format!("{path} holds {wanted} in PEM form"),
        error => format!("{path} is not well-formed PEM: {error}"),
    }
}
