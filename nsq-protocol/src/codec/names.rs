//! Topic and channel names: checked when built, stored inline (pure).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name in bytes, `#ephemeral` included.
pub const MAX_NAME_LEN: usize = 64;

const EPHEMERAL: &str = "#ephemeral";

/// Why a text is no topic or channel name.
///
/// # Example
/// ```
/// let error = nsq_protocol::TopicName::new("video plays").unwrap_err();
/// assert_eq!(error.name, "video plays");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not an NSQ name: 1 to {MAX_NAME_LEN} bytes of letters, digits, '.', '_' and '-', \
     and at most one '#ephemeral' behind them"
)]
pub struct NameError {
    /// The text, cut to 80 characters.
    pub name: String,
}

impl NameError {
    fn new(text: &str) -> Self {
        Self { name: text.chars().take(80).collect() }
    }
}

/// A checked name without an allocation: 65 bytes, copied like a number.
#[derive(Clone, Copy)]
struct Name {
    len: u8,
    bytes: [u8; MAX_NAME_LEN],
}

impl Name {
    fn parse(text: &str) -> Result<Self, NameError> {
        let stem = text.strip_suffix(EPHEMERAL).unwrap_or(text);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if stem.is_empty() || text.len() > MAX_NAME_LEN || !stem.bytes().all(legal) {
            return Err(NameError::new(text));
        }
        let mut bytes = [0; MAX_NAME_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len: text.len() as u8, bytes })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)])
            .expect("parse() let ASCII through only")
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 64 bytes of `[.a-zA-Z0-9_-]`, at the end perhaps `#ephemeral`. 65 bytes inline, no allocation.
        ///
        /// # Example
        /// ```
        #[doc = concat!("use nsq_protocol::", stringify!($name), ";")]
        ///
        #[doc = concat!("let name: ", stringify!($name), " = \"a.b_c-1#ephemeral\".parse()?;")]
        /// assert_eq!(name.as_str(), "a.b_c-1#ephemeral");
        #[doc = concat!("assert!(", stringify!($name), "::new(\"a/b\").is_err());")]
        /// # Ok::<(), nsq_protocol::NameError>(())
        /// ```
        #[derive(Clone, Copy)]
        pub struct $name(Name);

        impl $name {
            /// Checks and keeps `text`.
            ///
            /// # Errors
            /// [`NameError`] when nsqd would refuse it with `E_BAD_TOPIC` or `E_BAD_CHANNEL`.
            pub fn new(text: &str) -> Result<Self, NameError> {
                Name::parse(text).map(Self)
            }

            /// The name as it goes over the wire.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Whether the name ends in `#ephemeral`: never on disk, gone with its last user.
            pub fn is_ephemeral(&self) -> bool {
                self.as_str().ends_with(EPHEMERAL)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
    };
}

name_type! {
    /// The name of a stream of messages.
    TopicName
}

name_type! {
    /// The name of a topic's copy for one group of consumers.
    ChannelName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, legal: bool) {
        assert_eq!(
            TopicName::new(text).map(|name| name.to_string()).ok().as_deref(),
            legal.then_some(text)
        );
        assert_eq!(ChannelName::new(text).is_ok(), legal, "{text:?}");
    }

    #[test]
    fn a_name_is_made_of_text_and_read_as_text() {
        let name = TopicName::try_from("plays").unwrap();
        assert!(name == "plays" && name.as_ref() == "plays" && name == *"plays");
        assert_eq!(TopicName::try_from("a b".to_owned()).unwrap_err().name, "a b");
        assert_eq!(serde_json::to_string(&name).unwrap(), r#""plays""#);
        assert_eq!(serde_json::from_str::<TopicName>(r#""plays""#).unwrap(), name);
        let error = serde_json::from_str::<ChannelName>(r#""a b""#).unwrap_err().to_string();
        assert!(error.starts_with(r#""a b" is not an NSQ name"#), "{error}");
    }

    #[test]
    fn names() {
        check("plays", true);
        check("a.b_c-D9", true);
        check("plays#ephemeral", true);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
        check(&format!("{}#ephemeral", "x".repeat(54)), true);
        check(&format!("{}#ephemeral", "x".repeat(55)), false);
        check("", false);
        check("#ephemeral", false);
        check("a#ephemeral#ephemeral", false);
        check("a#other", false);
        check("..", true);
        check("a/b", false);
        check("a b", false);
        check("a\0", false);
        check("ä", false);
    }
}
