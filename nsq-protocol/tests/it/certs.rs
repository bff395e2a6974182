//! Certificates for a test, made by the test, in a directory that goes with them.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

/// A key as `openssl genpkey -algorithm RSA` makes it, and the same as `openssl rsa -traditional` writes it:
/// ring makes no RSA keys. It protects nothing.
const RSA_PKCS8: &str = include_str!("data/rsa_pkcs8.pem");
const RSA_PKCS1: &str = include_str!("data/rsa_pkcs1.pem");

/// A certificate authority.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Issued {
    /// nsqd's arguments to present it.
    pub(crate) fn args(&self) -> [String; 3] {
        let (cert, key) = (self.cert.display(), self.key.display());
        // With a certificate nsqd opens a third port.
        let https = "--https-address=127.0.0.1:0".to_owned();
        [format!("--tls-cert={cert}"), format!("--tls-key={key}"), https]
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn save(&self, name: &str, cert: String, key: &str) -> Issued {
        let cert_file = self.dir.path().join(format!("{name}.pem"));
        let key_file = self.dir.path().join(format!("{name}.key"));
        std::fs::write(&cert_file, cert).unwrap();
        std::fs::write(&key_file, key).unwrap();
        Issued { cert: cert_file, key: key_file }
    }

    /// A certificate for that host name or IP address; `change` makes it special.
    pub(crate) fn issue(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a test's host");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        self.save(host, cert.pem(), &key.serialize_pem())
    }

    /// What a test's nsqd presents.
    pub(crate) fn issue_local(&self) -> Issued {
        self.issue("127.0.0.1", |_| {})
    }

    /// As [`Authority::issue_local`], no longer valid.
    pub(crate) fn issue_expired(&self) -> Issued {
        self.issue("127.0.0.1", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// For a client, with an RSA key in the format asked for.
    pub(crate) fn issue_rsa(&self, pkcs1: bool) -> Issued {
        let key = KeyPair::from_pem(RSA_PKCS8).unwrap();
        let params = CertificateParams::new(vec![]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        self.save("rsa", cert.pem(), if pkcs1 { RSA_PKCS1 } else { RSA_PKCS8 })
    }

    /// A certificate for 127.0.0.1 that signs itself, as CA or not.
    pub(crate) fn self_signed(&self, is_ca: bool) -> Issued {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        self.save("self", cert.pem(), &key.serialize_pem())
    }
}
