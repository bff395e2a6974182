//! AUTH: the secret, which shows itself to nsqd only, and nsqd's answer (pure).

use std::fmt;

use serde::Deserialize;

/// What a client proves itself with to an nsqd that has `--auth-http-address`.
///
/// It is sent only to an nsqd that asks for it, after every upgrade: with TLS configured, never in clear. It is in
/// no log, error or `Debug` text of this crate.
///
/// # Example
/// ```
/// use nsq_protocol::{AuthSecret, ConsumerConfig};
///
/// let secret = AuthSecret::new("s3cret");
/// assert_eq!(format!("{secret:?}"), "AuthSecret(..)");
/// let config = ConsumerConfig::new("plays".parse()?, "count".parse()?).auth_secret(secret);
/// # Ok::<(), nsq_protocol::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AuthSecret(String);

impl AuthSecret {
    /// The secret as the authentication server knows it; not empty.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for AuthSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthSecret(..)")
    }
}

impl From<&str> for AuthSecret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl From<String> for AuthSecret {
    fn from(secret: String) -> Self {
        Self::new(secret)
    }
}

/// nsqd's answer to AUTH.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthResponse {
    /// Who the authentication server says that we are.
    pub(crate) identity: String,
    /// How many rules it gave us.
    pub(crate) permission_count: i64,
}
