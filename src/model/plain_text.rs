//! Text that a stranger may have written, made harmless for a terminal (pure).
//!
//! What nsqd, nsqlookupd, a dashboard or a producer says is quoted in errors and logs. An escape sequence in it could
//! recolour, overwrite or forge what a terminal shows; a line break could forge a line of a log; an override of the
//! direction of writing could show a name backwards.

use std::fmt::{self, Display, Write};

/// What may stand in a text as it is, besides what every terminal shows harmlessly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainText<T> {
    /// One line: a line break is escaped, too.
    Line(T),
    /// Several lines, each of which is whole.
    Lines(T),
    /// JSON: escaped as JSON does it. Outside its strings there is nothing to escape.
    Json(T),
}

/// Whether a terminal, or who reads it, may be misled by that character: control characters of both sets, marks and
/// overrides of the direction of writing, separators of lines, and what has no width.
fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    Line,
    Lines,
    Json,
}

impl<T: Display> Display for PlainText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, escape) = match self {
            Self::Line(text) => (text, Escape::Line),
            Self::Lines(text) => (text, Escape::Lines),
            Self::Json(text) => (text, Escape::Json),
        };
        let is_long = f.alternate();
        let mut out = Escaping { out: f, escape };
        if is_long { write!(out, "{text:#}") } else { write!(out, "{text}") }
    }
}

/// Writes on what is harmless, and the rest as Rust escapes it: `\n`, `\u{1b}`.
struct Escaping<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    escape: Escape,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut harmless = 0;
        for (at, character) in text.char_indices().filter(|(_, character)| misleads(*character)) {
            if character == '\n' && self.escape != Escape::Line {
                continue;
            }
            self.out.write_str(&text[harmless..at])?;
            harmless = at + character.len_utf8();
            if self.escape == Escape::Json {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(self.out, "\\u{unit:04x}")?;
                }
            } else if matches!(character, '\n' | '\r' | '\t') {
                write!(self.out, "{}", character.escape_default())?;
            } else {
                write!(self.out, "{}", character.escape_unicode())?;
            }
        }
        self.out.write_str(&text[harmless..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(PlainText::Line(text).to_string(), want);
        // Nothing is left to escape.
        assert_eq!(PlainText::Line(want).to_string(), want);
    }

    #[test]
    fn what_misleads_is_escaped_and_the_rest_stays() {
        check("", "");
        check("nsqd \"ä\" \\ 日本 🎬 ́", "nsqd \"ä\" \\ 日本 🎬 ́");
        check("\u{1b}[31mRED\u{1b}[0m", r"\u{1b}[31mRED\u{1b}[0m");
        check("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}");
        check("a\nplaycounts: all is well\r\tb", r"a\nplaycounts: all is well\r\tb");
        // One character that some terminals take for the two of an escape sequence's start.
        check("\u{9b}31m\u{7f}\0", r"\u{9b}31m\u{7f}\u{0}");
        check("user\u{202e}nimda\u{2066}x\u{2069}", r"user\u{202e}nimda\u{2066}x\u{2069}");
        check("a\u{2028}b\u{feff}c\u{200b}", r"a\u{2028}b\u{feff}c\u{200b}");
    }

    #[test]
    fn lines_keep_their_breaks_and_nothing_else() {
        assert_eq!(PlainText::Lines("a\nb\r\u{1b}c\n").to_string(), "a\nb\\r\\u{1b}c\n");
    }

    #[test]
    fn an_alternate_form_stays_one() {
        let error = anyhow::anyhow!("inner\u{1b}").context("outer\n");
        assert_eq!(format!("{:#}", PlainText::Line(&error)), r"outer\n: inner\u{1b}");
        assert_eq!(format!("{}", PlainText::Line(&error)), r"outer\n");
    }

    proptest! {
        #[test]
        fn json_stays_the_same_value_and_holds_nothing_that_misleads(text in any::<String>(), bad in "[\u{1b}\u{80}-\u{9f}\u{202e}\u{feff}\u{e0001}\n]{0,5}") {
            let json = serde_json::to_string(&format!("{text}{bad}")).unwrap();
            let plain = PlainText::Json(&json).to_string();
            prop_assert!(!plain.contains(misleads));
            prop_assert_eq!(serde_json::from_str::<String>(&plain).unwrap(), format!("{text}{bad}"));
        }

        #[test]
        fn a_line_is_one_line_that_holds_nothing_that_misleads(text in any::<String>()) {
            prop_assert!(!PlainText::Line(&text).to_string().contains(misleads));
        }
    }
}
