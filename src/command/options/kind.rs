//! What the value of an option is: how help names it, what completes it, what a file may hold for it (pure).

/// The kind of an option's value. What a value means is for the option's own type to say; a test holds both together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// On or off: takes no value on a command line, `true` or `false` elsewhere.
    Switch,
    /// A whole number from 1 to this one.
    Whole(u64),
    /// A whole number from 0 to this one.
    Limit(u64),
    /// A whole number from as much below 0 to this one.
    Signed(u64),
    /// A number from 0.001 to this one.
    Number(u64),
    /// `30`, `30s`, `500ms`, `1m30s`, `2d`.
    Duration,
    /// `host:port`, where the option says so with a scheme, too.
    Address,
    /// The URL of a dashboard.
    Url,
    /// The path of a file.
    File,
    /// The path of a directory.
    Directory,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A number above 0 and up to 1, or several with commas between them.
    Shares,
    /// Text, of which these are examples.
    Like(&'static [&'static str]),
    /// `name,value`.
    Pair,
    /// Any text.
    Text,
}

impl ValueKind {
    /// What stands for a value in help: `N`, `HOST:PORT`; nothing for a switch.
    pub(crate) fn placeholder(self) -> String {
        match self {
            Self::Switch => "",
            Self::Whole(_) | Self::Limit(_) | Self::Signed(_) | Self::Number(_) => "N",
            Self::Shares => "N,N",
            Self::Duration => "DURATION",
            Self::Address => "HOST:PORT",
            Self::Url => "URL",
            Self::File => "FILE",
            Self::Directory => "DIR",
            Self::OneOf(words) => return words.join("|"),
            Self::Pair => "NAME,VALUE",
            Self::Like(_) | Self::Text => "TEXT",
        }
        .to_owned()
    }

    /// What a value is, in a table of a document.
    pub(crate) fn described(self) -> String {
        match self {
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Whole(max) => format!("whole number from 1 to {max}"),
            Self::Limit(max) => format!("whole number from 0 to {max}"),
            Self::Signed(max) => format!("whole number from -{max} to {max}"),
            Self::Number(max) => format!("number from 0.001 to {max}"),
            Self::Shares => "number above 0 and up to 1, or several with commas".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Address => "`host:port`".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::File => "file".to_owned(),
            Self::Directory => "directory".to_owned(),
            Self::OneOf(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                words.join(", ")
            }
            Self::Like(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                format!("text, such as {}", words.join(", "))
            }
            Self::Pair => "`name,value`".to_owned(),
            Self::Text => "text".to_owned(),
        }
    }

    /// Whether an option without a value means `true`, as with nsqd's flags that are on or off.
    pub(crate) fn stands_alone(self) -> bool {
        matches!(self, Self::OneOf(words) if words.contains(&"true"))
    }

    /// Whether an empty value is as good as none, as with nsqd's flags that are text.
    pub(crate) fn may_be_empty(self) -> bool {
        self != Self::Switch && !self.is_number() && !self.stands_alone()
    }

    /// The words that complete a value.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::OneOf(words) | Self::Like(words) => words,
            _ => &[],
        }
    }

    /// Whether a file may hold a number for it, besides text.
    pub(crate) fn is_number(self) -> bool {
        matches!(
            self,
            Self::Whole(_)
                | Self::Limit(_)
                | Self::Signed(_)
                | Self::Number(_)
                | Self::Shares
                | Self::Duration
        )
    }
}

/// `true` or `false`, in whatever way Go's flags have them (pure).
pub(crate) fn go_bool(value: &str) -> Option<&'static str> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some("true"),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some("false"),
        _ => None,
    }
}

/// What of a value nobody else may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Nothing.
    Open,
    /// All of it.
    Secret,
    /// The password of a URL.
    Password,
    /// A `name,value` whose name is that of a secret.
    SecretPair,
}

impl Secrecy {
    /// Whether that value holds something that nobody else may see.
    pub(crate) fn hides(self, value: &str) -> bool {
        match self {
            Self::Open => false,
            Self::Secret => true,
            // Without a `:` in front of its `@` a URL has no password; `password=` may stand behind its `?`.
            Self::Password => {
                let login = value.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
                login.is_some_and(|(login, _)| login.contains(':')) || value.contains("password=")
            }
            Self::SecretPair => {
                value.split(['=', ',']).next().is_some_and(|name| name.contains("secret"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_secrets_are_hidden_and_nothing_else() {
        for (secrecy, value, want) in [
            (Secrecy::Open, "s3cret", false),
            (Secrecy::Secret, "s3cret", true),
            (Secrecy::Password, "files", false),
            (Secrecy::Password, "postgres://me@host:5432/plays", false),
            (Secrecy::Password, "postgres://me:s3cret@host/plays", true),
            (Secrecy::Password, "postgres://me:s3c@ret@host/plays", true),
            (Secrecy::Password, "postgres://host/plays?password=s3cret", true),
            (Secrecy::SecretPair, "auth_secret,s3cret", true),
            (Secrecy::SecretPair, "auth_secret=s3cret", true),
            (Secrecy::SecretPair, "client_id,secret", false),
        ] {
            assert_eq!(secrecy.hides(value), want, "{value}");
        }
    }
}
