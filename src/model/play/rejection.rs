//! Why a body is no play (pure).

use std::fmt;

use serde::de::IgnoredAny;

/// Why a body is no play: one line of at most [`Rejection::MAX_LEN`] characters, which may quote the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(String);

/// Characters of a value that are shown.
const SHOWN_MAX: usize = 60;

impl Rejection {
    /// The longest reason, in characters.
    pub const MAX_LEN: usize = 200;

    pub(super) fn new(reason: impl fmt::Display) -> Self {
        let line = reason.to_string();
        Self(
            line.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(Self::MAX_LEN)
                .collect(),
        )
    }

    /// Of a body whose field cannot be read: which, what stands there as JSON, and why that is nothing.
    pub(super) fn of_value(field: &str, raw: &[u8], why: &dyn fmt::Display) -> Self {
        let start = &raw[..raw.len().min(4 * SHOWN_MAX)];
        let text = String::from_utf8_lossy(start);
        let mut chars = text.chars();
        let shown: String = chars.by_ref().take(SHOWN_MAX).collect();
        let is_cut = start.len() < raw.len() || chars.next().is_some();
        let dots = if is_cut { "…" } else { "" };
        Self::new(format_args!("{field} is {shown}{dots}: {why}"))
    }

    /// Of a body with more plays than one message may hold: so many.
    pub(super) fn too_many_plays(max: usize) -> Self {
        Self::new(format_args!("more than {max} plays in one message"))
    }

    /// Of an empty array.
    pub(super) fn no_plays() -> Self {
        Self::new("an array without a play")
    }

    /// Of a body that is no JSON, or so deep that it is not read: serde_json's word on it.
    #[cold]
    pub(super) fn of_json(body: &[u8]) -> Self {
        match serde_json::from_slice::<IgnoredAny>(body) {
            Err(error) => Self::new(error),
            Ok(IgnoredAny) => Self::new("its values lie too deep in each other"),
        }
    }

    /// The same, said of the element with that index of an array.
    pub(super) fn of_element(&self, index: usize) -> Self {
        Self::new(format_args!("element {index}: {self}"))
    }

    /// Of a body of `size` bytes that came cut, because that is more than `--max-msg-size`.
    pub fn too_large(size: usize) -> Self {
        Self::new(format_args!("{size} bytes are more than --max-msg-size allows"))
    }

    /// The reason.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
