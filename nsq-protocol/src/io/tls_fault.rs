//! What is wrong with a TLS session, by what there is to do about it (pure).

#[cfg(feature = "tls")]
use rustls::{CertificateError, Error, InvalidMessage};

/// Why TLS with a peer failed, by what there is to do about it.
///
/// # Example
/// ```
/// use nsq_protocol::{AdminError, TlsFault};
///
/// fn is_ours_to_mend(error: &AdminError) -> bool {
///     matches!(error, AdminError::Tls { fault: TlsFault::Untrusted | TlsFault::WrongName, .. })
/// }
/// assert!(TlsFault::NotTls.hint().contains("speaks no TLS"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// Nobody who is trusted has signed the certificate: [`crate::TlsConfig::root_ca_file`].
    Untrusted,
    /// The certificate is for another name: [`crate::TlsConfig::server_name`], or the address by that name.
    WrongName,
    /// The certificate is a certificate authority's own, which no server may use here.
    AuthorityAsServer,
    /// What answers there speaks no TLS.
    NotTls,
    /// Anything else, such as a certificate that has expired.
    Other,
}

#[cfg(feature = "tls")]
impl TlsFault {
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // The second: another authority of the same name signed it, such as the one before it was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            // rustls passes what it has no variant for on from webpki, which is not our dependency.
            CertificateError::Other(other)
                if format!("{other:?}").contains("CaUsedAsEndEntity") =>
            {
                Self::AuthorityAsServer
            }
            _ => Self::Other,
        }
    }
}

impl TlsFault {
    /// What to do about it, as the end of a line; empty where that is not known.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Untrusted => {
                ": give the certificate authority that signed its certificate as root CA file"
            }
            Self::WrongName => ": give the name that its certificate has as server name",
            Self::AuthorityAsServer => {
                ": its certificate is a certificate authority's own (CA:TRUE), which no server may use here; \
                 sign one for the server, or make it with basicConstraints=critical,CA:FALSE"
            }
            Self::NotTls => ": it speaks no TLS there",
            Self::Other => "",
        }
    }
}
