//! JSON Pointers (RFC 6901): where in a body a field is (pure).

use std::fmt;
use std::str::FromStr;

/// Where a value is in a body of JSON, as RFC 6901 has it: `` is the whole body, `/event/video` a member of a member, `/0` an
/// array's first element. `~1` stands for a slash in a key, `~0` for a tilde.
///
/// A key that an object has twice points to nothing that is certain: a body with such a key on the way is none of this shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JsonPointer {
    /// The keys and indexes, unescaped, from the outside in.
    tokens: Vec<String>,
}

/// Why a text is no JSON Pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPointer {
    /// It begins with something else than a slash.
    #[error("a JSON Pointer begins with / at its character 1, as in /event/video")]
    NoSlash,
    /// A tilde that neither `0` nor `1` follows: which character, counted from 1.
    #[error("a ~ in a JSON Pointer is written ~0, and a / in a key ~1; see its character {0}")]
    Tilde(usize),
    /// It is too long: so many bytes.
    #[error("a JSON Pointer has at most {max} bytes, not {0}", max = JsonPointer::MAX_LEN)]
    TooLong(usize),
    /// It goes too deep: so many levels.
    #[error("a JSON Pointer goes at most {max} levels deep, not {0}", max = JsonPointer::MAX_LEVELS)]
    TooDeep(usize),
}

impl JsonPointer {
    /// The longest, in bytes: far more than anybody's keys have.
    pub const MAX_LEN: usize = 1024;

    /// The deepest, in keys and indexes: each level of a body that is looked into is a call, on a worker's stack.
    pub const MAX_LEVELS: usize = 32;

    /// The member of the outermost object that has this name.
    pub fn member(name: &str) -> Self {
        Self { tokens: vec![name.to_owned()] }
    }

    /// The keys and indexes, from the outside in.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(String::as_str)
    }
}

impl FromStr for JsonPointer {
    type Err = NoPointer;

    fn from_str(text: &str) -> Result<Self, NoPointer> {
        if text.len() > Self::MAX_LEN {
            return Err(NoPointer::TooLong(text.len()));
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(inner) = text.strip_prefix('/') else { return Err(NoPointer::NoSlash) };
        let mut chars = text.chars().enumerate();
        while let Some((at, c)) = chars.next() {
            if c == '~' && !matches!(chars.next(), Some((_, '0' | '1'))) {
                return Err(NoPointer::Tilde(at + 1));
            }
        }
        // In this order: ~01 is ~1.
        let tokens: Vec<_> =
            inner.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        match tokens.len() {
            levels if levels > Self::MAX_LEVELS => Err(NoPointer::TooDeep(levels)),
            _ => Ok(Self { tokens }),
        }
    }
}

/// As it was written; `{:#}` calls the empty one by a name.
impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() && self.tokens.is_empty() {
            return f.write_str("the top");
        }
        self.tokens
            .iter()
            .try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        for (text, tokens) in [
            ("", &[][..]),
            ("/foo", &["foo"]),
            ("/foo/0", &["foo", "0"]),
            ("/", &[""]),
            ("/a~1b", &["a/b"]),
            ("/c%d", &["c%d"]),
            ("/ ", &[" "]),
            ("/m~0n", &["m~n"]),
            ("/~01", &["~1"]),
            ("//x/", &["", "x", ""]),
            ("/größe", &["größe"]),
        ] {
            let pointer: JsonPointer = text.parse().unwrap();
            assert_eq!(pointer.tokens().collect::<Vec<_>>(), tokens);
            assert_eq!(pointer.to_string(), text);
        }
    }

    #[test]
    fn what_is_none_is_told_with_its_place() {
        for (text, why) in [
            ("event/video", NoPointer::NoSlash),
            ("$.event", NoPointer::NoSlash),
            ("#/event", NoPointer::NoSlash),
            ("/a~", NoPointer::Tilde(3)),
            ("/ü~2", NoPointer::Tilde(3)),
            ("/a~~0", NoPointer::Tilde(3)),
            (&"/a".repeat(33), NoPointer::TooDeep(33)),
            (&format!("/{}", "a".repeat(1024)), NoPointer::TooLong(1025)),
        ] {
            assert_eq!(text.parse::<JsonPointer>(), Err(why), "{text}");
        }
        assert!("/a".repeat(32).parse::<JsonPointer>().is_ok());
        assert!(NoPointer::Tilde(3).to_string().contains("character 3"));
    }
}
