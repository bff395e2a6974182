//! What people know a video by: its title, and where it is (pure). The rules of both, and of the reason that somebody gives
//! for changing what is shown of a video.

use std::fmt;

/// The longest title, in characters.
pub const TITLE_MAX: usize = 300;

/// The longest address of a video, in bytes.
pub const URL_MAX: usize = 2_000;

/// The longest reason, in characters.
pub const REASON_MAX: usize = 300;

/// The longest name of an import, in characters.
pub const IMPORT_NAME_MAX: usize = 300;

/// Which text it is, as a refusal names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// A video's title.
    Title,
    /// Why somebody changes what is shown of a video.
    Reason,
    /// What an import is called, usually a file's name.
    ImportName,
}

impl TextKind {
    fn max(self) -> usize {
        match self {
            Self::Title => TITLE_MAX,
            Self::Reason => REASON_MAX,
            Self::ImportName => IMPORT_NAME_MAX,
        }
    }
}

impl fmt::Display for TextKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Title => "a title",
            Self::Reason => "a reason",
            Self::ImportName => "the name of an import",
        })
    }
}

/// Why a text is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextRefusal {
    /// It has nothing that can be seen.
    #[error("{0} has at least one character that can be seen")]
    Empty(TextKind),
    /// It is too long: so many characters.
    #[error("{0} has at most {max} characters, not {1}", max = .0.max())]
    TooLong(TextKind, usize),
    /// It has a control character, such as a line's end: which of its characters, the first is 1.
    #[error("{0} has no control characters; character {1} is one")]
    Control(TextKind, usize),
    /// The address is too long: so many bytes.
    #[error("a url has at most {URL_MAX} bytes, not {0}")]
    UrlTooLong(usize),
    /// The address is none that a page may link to.
    #[error(
        "a url starts with http:// or https://, names a host, and has no spaces and no control characters"
    )]
    NoUrl,
}

/// Goes on with a text of 1 character to as many as its kind may have, none of them a control character.
///
/// # Errors
/// [`TextRefusal`].
pub fn check_text(kind: TextKind, text: &str) -> Result<(), TextRefusal> {
    let len = text.chars().count();
    if len > kind.max() {
        return Err(TextRefusal::TooLong(kind, len));
    }
    if text.trim().is_empty() {
        return Err(TextRefusal::Empty(kind));
    }
    match text.chars().position(char::is_control) {
        Some(at) => Err(TextRefusal::Control(kind, at + 1)),
        None => Ok(()),
    }
}

/// Goes on with an address that a page may link to: `http` or `https`, a host, at most [`URL_MAX`] bytes.
///
/// # Errors
/// [`TextRefusal`].
pub fn check_url(url: &str) -> Result<(), TextRefusal> {
    if url.len() > URL_MAX {
        return Err(TextRefusal::UrlTooLong(url.len()));
    }
    let after = |scheme: &str| {
        url.get(..scheme.len())
            .filter(|start| start.eq_ignore_ascii_case(scheme))
            .map(|_| &url[scheme.len()..])
    };
    let rest = after("https://").or_else(|| after("http://")).ok_or(TextRefusal::NoUrl)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let is_odd =
        |character: char| character.is_control() || character.is_whitespace() || character == '\\';
    if host.is_empty() || host.starts_with(':') || url.contains(is_odd) {
        return Err(TextRefusal::NoUrl);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_of_one_line() {
        let check = |text: &str| check_text(TextKind::Title, text);
        for good in ["a", "<script>alert(1)</script>", "Ⅸ — été", &"é".repeat(TITLE_MAX), " a "]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let title = TextKind::Title;
        for (bad, why) in [
            (String::new(), TextRefusal::Empty(title)),
            (" \u{a0}".to_owned(), TextRefusal::Empty(title)),
            ("é".repeat(TITLE_MAX + 1), TextRefusal::TooLong(title, TITLE_MAX + 1)),
            ("x".repeat(10_000_000), TextRefusal::TooLong(title, 10_000_000)),
            ("ab\u{1b}[31m".to_owned(), TextRefusal::Control(title, 3)),
            ("a\nb".to_owned(), TextRefusal::Control(title, 2)),
            ("a\u{85}".to_owned(), TextRefusal::Control(title, 2)),
        ] {
            assert_eq!(check(&bad), Err(why));
        }
        let told = check_text(TextKind::Reason, &"x".repeat(301)).unwrap_err().to_string();
        assert_eq!(told, "a reason has at most 300 characters, not 301");
    }

    #[test]
    fn an_address_is_one_that_a_page_may_link_to() {
        for good in [
            "http://a",
            "HTTPS://example.org/v/1?x=1#y",
            "https://user@example.org:8443/é",
            "https://[::1]/",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "javascript:alert(1)",
            "data:text/html,x",
            "//example.org",
            "ftp://example.org",
            "http://",
            "https:///x",
            "https://:80/",
            "https://user@/",
            "https://a b",
            "https://a/\n",
            "https://a\\b",
            "httpé",
            " https://a",
        ] {
            assert_eq!(check_url(bad), Err(TextRefusal::NoUrl), "{bad}");
        }
        let long = format!("https://a/{}", "x".repeat(URL_MAX));
        assert_eq!(check_url(&long), Err(TextRefusal::UrlTooLong(URL_MAX + 10)));
    }
}
