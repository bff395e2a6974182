//! A video's title as a body has it (pure).

/// The most of a title that is taken, in characters.
pub const PLAY_TITLE_MAX: usize = 300;

/// Appends a title that stands in a body as a string of JSON: at most [`PLAY_TITLE_MAX`] characters, with U+FFFD in place of
/// control characters and of what is no Unicode, and without white space around it. False, and nothing is appended: it
/// is no string, or there is nothing in it.
pub fn read_title(raw: &[u8], out: &mut String) -> bool {
    let Some(mut rest) = raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")) else {
        return false;
    };
    let start = out.len();
    let mut chars = 0;
    while chars < PLAY_TITLE_MAX
        && let Some((c, behind)) = next_char(rest)
    {
        rest = behind;
        let is_leading = out.len() == start && c.is_whitespace();
        if !is_leading {
            out.push(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
            chars += 1;
        }
    }
    let len = out[start..].trim_end().len();
    out.truncate(start + len);
    len > 0
}

/// The character that stands next in a string, and what is behind it.
fn next_char(rest: &[u8]) -> Option<(char, &[u8])> {
    match rest {
        [] => None,
        [b'\\', b'u', behind @ ..] => Some(unicode_escape(behind)),
        [b'\\', escape, behind @ ..] => {
            let c = match escape {
                b'n' => '\n',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                other => char::from(*other),
            };
            Some((c, behind))
        }
        [byte, behind @ ..] if byte.is_ascii() => Some((char::from(*byte), behind)),
        _ => {
            let chunk = &rest[..rest.len().min(4)];
            // A character that was cut off behind the fourth byte is another one.
            let chunk = chunk.utf8_chunks().next()?;
            match chunk.valid().chars().next() {
                Some(c) => Some((c, &rest[c.len_utf8()..])),
                None => Some((char::REPLACEMENT_CHARACTER, &rest[chunk.invalid().len()..])),
            }
        }
    }
}

/// What four hexadecimal digits say, with the second half of a surrogate pair.
fn unicode_escape(rest: &[u8]) -> (char, &[u8]) {
    const BAD: char = char::REPLACEMENT_CHARACTER;
    let Some((unit, behind)) = hex4(rest) else { return (BAD, rest) };
    if let Some(c) = char::from_u32(unit) {
        return (c, behind);
    }
    let low = behind.strip_prefix(b"\\u").and_then(hex4);
    match low {
        Some((low @ 0xdc00..=0xdfff, behind)) if unit < 0xdc00 => {
            let c = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            (c.unwrap_or(BAD), behind)
        }
        _ => (BAD, behind),
    }
}

fn hex4(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, behind) = rest.split_first_chunk::<4>()?;
    let unit = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, behind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn title(raw: &[u8]) -> Option<String> {
        let mut out = "before".to_owned();
        let is_there = read_title(raw, &mut out);
        let title = out.strip_prefix("before").unwrap().to_owned();
        assert_eq!(is_there, !title.is_empty());
        is_there.then_some(title)
    }

    #[test]
    fn a_title_is_short_and_harmless() {
        for (raw, want) in [
            (&br#""Cats & dogs""#[..], Some("Cats & dogs")),
            (br#""  a\tb\u0000 ""#, Some("a\u{fffd}b\u{fffd}")),
            (br#""<b>\"x\"<\/b>\\""#, Some("<b>\"x\"</b>\\")),
            (br#""\u00fc\ud83d\ude00""#, Some("\u{fc}\u{1f600}")),
            (br#""\ud83dx\udc00\ud83d\u0041""#, Some("\u{fffd}x\u{fffd}\u{fffd}A")),
            (b"\"M\xfcnchen \xf0\x9f\x98\"", Some("M\u{fffd}nchen \u{fffd}")),
            ("\"größe\"".as_bytes(), Some("größe")),
            (b"\"\"", None),
            (br#"" \n ""#, None),
            (b"7", None),
            (b"null", None),
            (b"[\"a\"]", None),
        ] {
            assert_eq!(title(raw).as_deref(), want, "{}", raw.escape_ascii());
        }
        let long = format!("\"{}\"", "\\u00fc".repeat(2_000_000));
        assert_eq!(title(long.as_bytes()), Some("ü".repeat(PLAY_TITLE_MAX)));
    }

    proptest! {
        /// Of good strings it says what serde_json says.
        #[test]
        fn a_string_is_read_as_serde_json_reads_it(text in ".{0,200}") {
            let raw = serde_json::to_string(&text).unwrap();
            let want: String = text
                .trim_start()
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            let want = want.trim_end();
            prop_assert_eq!(title(raw.as_bytes()).unwrap_or_default(), want);
        }

        #[test]
        fn any_bytes_are_read(inner in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = title(&[b"\"", inner.as_slice(), b"\""].concat());
        }
    }
}
