//! The common name in a certificate's subject (pure).

use x509_parser::prelude::{FromDer, X509Certificate};

/// The last common name of the subject; empty where there is none, or the certificate cannot be read.
pub(super) fn common_name(certificate: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return String::new() };
    let last = certificate.subject().iter_common_name().last();
    last.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    #[test]
    fn the_last_common_name_is_found_and_whatever_is_cut_or_changed_is_no_panic() {
        let long = "n".repeat(200);
        for (names, want) in [
            (vec![(DnType::CommonName, "a client")], "a client"),
            (vec![(DnType::OrganizationName, "o"), (DnType::CommonName, &long)], &long),
            (vec![(DnType::CountryName, "NO")], ""),
            (vec![], ""),
        ] {
            let mut params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
            params.distinguished_name = DistinguishedName::new();
            for (kind, name) in names {
                params.distinguished_name.push(kind, name);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(common_name(certificate.der()), want);
            for at in 0..certificate.der().len() {
                common_name(&certificate.der()[..at]);
                let mut changed = certificate.der().to_vec();
                changed[at] ^= 0xff;
                common_name(&changed);
            }
        }
    }
}
