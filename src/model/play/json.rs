//! JSON, read in one go from the front to the end, for `decoder` (pure): tokens, the keys of an object, numbers, and values
//! that nobody asks for, which are checked and passed over.
//!
//! Each function takes the bytes that are left and gives those behind what it has read. `None` is what is wrong, or too
//! unusual to be worth code here; which of the two, `reference` says. What is taken here is exactly what serde_json takes:
//! in a string that is passed over it does not ask for UTF-8, nor for surrogates in pairs.

use super::words;

/// Objects and arrays in each other; what is deeper is left to `reference`. Each level is a call, on a worker's stack.
const MAX_DEPTH: u32 = 64;

/// What stands next in an object, and the bytes behind its first.
#[derive(Clone, Copy)]
pub(super) enum Member<'a> {
    /// A key, its opening quote read.
    Key(&'a [u8]),
    /// The closing brace.
    End(&'a [u8]),
}

/// The first byte that is no white space, and the bytes behind it.
#[inline(always)]
pub(super) fn token(rest: &[u8]) -> Option<(u8, &[u8])> {
    match rest {
        // Mostly there is none, or a space behind a colon or a comma.
        [byte, behind @ ..] | [b' ', byte, behind @ ..] if *byte > b' ' => Some((*byte, behind)),
        _ => spaced_token(rest),
    }
}

#[inline(never)]
fn spaced_token(mut rest: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let (&byte, behind) = rest.split_first()?;
        if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
            return Some((byte, behind));
        }
        rest = behind;
    }
}

/// Reads this token.
#[inline(always)]
pub(super) fn expect(rest: &[u8], wanted: u8) -> Option<&[u8]> {
    match rest {
        [byte, behind @ ..] if *byte == wanted => Some(behind),
        _ => token(rest).filter(|(byte, _)| *byte == wanted).map(|(_, behind)| behind),
    }
}

/// Reads on behind the opening brace of an object.
#[inline(always)]
pub(super) fn first_member(rest: &[u8]) -> Option<Member<'_>> {
    match token(rest)? {
        (b'"', key) => Some(Member::Key(key)),
        (b'}', behind) => Some(Member::End(behind)),
        _ => None,
    }
}

/// Reads on behind a value in an object.
#[inline(always)]
pub(super) fn next_member(rest: &[u8]) -> Option<Member<'_>> {
    if let Some(key) = rest.strip_prefix(b",\"") {
        return Some(Member::Key(key));
    }
    match token(rest)? {
        (b',', behind) => expect(behind, b'"').map(Member::Key),
        (b'}', behind) => Some(Member::End(behind)),
        _ => None,
    }
}

/// Passes over the value that stands next.
#[inline(always)]
pub(super) fn skip_value(rest: &[u8]) -> Option<&[u8]> {
    skip_value_at(rest, 0)
}

#[inline(always)]
fn skip_value_at(rest: &[u8], depth: u32) -> Option<&[u8]> {
    let (first, behind) = token(rest)?;
    match first {
        b'"' => skip_string(behind),
        b'-' | b'0'..=b'9' => skip_number(first, behind),
        b'{' => skip_object(behind, depth + 1),
        b'[' => skip_array(behind, depth + 1),
        b't' => behind.strip_prefix(b"rue"),
        b'f' => behind.strip_prefix(b"alse"),
        b'n' => behind.strip_prefix(b"ull"),
        _ => None,
    }
}

#[inline(never)]
fn skip_object(rest: &[u8], depth: u32) -> Option<&[u8]> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut member = first_member(rest)?;
    loop {
        match member {
            Member::Key(key) => {
                let value = expect(skip_string(key)?, b':')?;
                member = next_member(skip_value_at(value, depth)?)?;
            }
            Member::End(behind) => return Some(behind),
        }
    }
}

#[inline(never)]
fn skip_array(rest: &[u8], depth: u32) -> Option<&[u8]> {
    if depth > MAX_DEPTH {
        return None;
    }
    elements(rest, |_, rest| skip_value_at(rest, depth))
}

/// Reads the elements of an array whose opening bracket is read: `each` is given the index of each and the bytes from it on,
/// and gives those behind it.
#[inline(always)]
pub(super) fn elements<'a>(
    mut rest: &'a [u8],
    mut each: impl FnMut(usize, &'a [u8]) -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    if let (b']', behind) = token(rest)? {
        return Some(behind);
    }
    let mut index = 0;
    loop {
        match token(each(index, rest)?)? {
            (b',', behind) => rest = behind,
            (b']', behind) => return Some(behind),
            _ => return None,
        }
        index += 1;
    }
}

/// Passes over a string whose opening quote is read.
#[inline(always)]
pub(super) fn skip_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match skip_plain(rest) {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'u', a, b, c, d, behind @ ..]
                if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) =>
            {
                rest = behind;
            }
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', behind @ ..] => {
                rest = behind
            }
            _ => return None,
        }
    }
}

/// Passes over what needs no second look in a string: up to its quote, a backslash, a control character.
#[inline(always)]
fn skip_plain(mut rest: &[u8]) -> &[u8] {
    while let Some((chars, behind)) = rest.split_first_chunk() {
        if let Some(place) = words::first_special(u64::from_le_bytes(*chars)) {
            return &rest[place..];
        }
        rest = behind;
    }
    skip_plain_end(rest)
}

#[inline(never)]
fn skip_plain_end(rest: &[u8]) -> &[u8] {
    let special = |byte: &u8| matches!(byte, ..b' ' | b'"' | b'\\');
    &rest[rest.iter().position(special).unwrap_or(rest.len())..]
}

/// The value that stands next, without the white space before it, and what is behind it.
#[inline]
pub(super) fn raw_value(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, behind_first) = token(rest)?;
    let behind = skip_value(rest)?;
    Some((between(rest, behind_first, behind), behind))
}

/// What stands between: a value of `rest` from its first byte on, by the bytes behind that and those behind all of it.
#[inline(always)]
pub(super) fn between<'a>(rest: &'a [u8], behind_first: &[u8], behind: &[u8]) -> &'a [u8] {
    &rest[rest.len() - behind_first.len() - 1..rest.len() - behind.len()]
}

/// Whether a value may end here: what reads on says whether it does.
#[inline(always)]
pub(super) fn is_end(rest: &[u8]) -> bool {
    matches!(rest.first(), Some(b',' | b'}' | b' ' | b'\n' | b'\t' | b'\r'))
}

/// A string without escapes, whose opening quote is read, and what is behind it. Whether it is UTF-8 is not asked.
#[inline]
pub(super) fn plain_string(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = skip_plain(rest);
    let (text, _) = rest.split_at(rest.len() - end.len());
    Some((text, end.strip_prefix(b"\"")?))
}

/// Passes over a key without escapes, whose opening quote is read, and its colon. It must be UTF-8: keys of the outermost
/// object are looked at, so serde_json asks for it.
#[inline(always)]
pub(super) fn skip_key(key: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut seen) = (key, 0);
    while let Some((chars, behind)) = rest.split_first_chunk() {
        let chars = u64::from_le_bytes(*chars);
        seen |= chars;
        if let Some(place) = words::first_special(chars) {
            if !words::are_ascii(seen) {
                break;
            }
            let end = &rest[place..];
            return end.strip_prefix(b"\":").or_else(|| expect(end.strip_prefix(b"\"")?, b':'));
        }
        rest = behind;
    }
    skip_odd_key(key)
}

/// The same for a key at the very end of the body, or beside what is not ASCII.
#[inline(never)]
fn skip_odd_key(key: &[u8]) -> Option<&[u8]> {
    let (text, behind) = plain_string(key)?;
    std::str::from_utf8(text).ok()?;
    expect(behind, b':')
}

/// Passes over a number of which `first` is read.
#[inline(always)]
fn skip_number(first: u8, mut rest: &[u8]) -> Option<&[u8]> {
    rest = match first {
        b'-' => match rest.split_first()? {
            (b'0', behind) => behind,
            _ => skip_digits(rest)?,
        },
        // A digit behind it is no end of a value, and refused by whoever reads on.
        b'0' => rest,
        _ => skip_more_digits(rest),
    };
    if let [b'.', behind @ ..] = rest {
        rest = skip_digits(behind)?;
    }
    if let [b'e' | b'E', b'+' | b'-', behind @ ..] | [b'e' | b'E', behind @ ..] = rest {
        rest = skip_digits(behind)?;
    }
    Some(rest)
}

#[inline(always)]
fn skip_digits(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'0'..=b'9', behind @ ..] => Some(skip_more_digits(behind)),
        _ => None,
    }
}

#[inline(always)]
fn skip_more_digits(mut rest: &[u8]) -> &[u8] {
    while let [b'0'..=b'9', behind @ ..] = rest {
        rest = behind;
    }
    rest
}

/// A whole number from 0 to u64's largest, and what is behind it. A fraction or an exponent is left there.
#[inline]
pub(super) fn number(rest: &[u8]) -> Option<(u64, &[u8])> {
    let (first, mut rest) = token(rest)?;
    let mut number = match first {
        b'0' => return Some((0, rest)),
        b'1'..=b'9' => u64::from(first - b'0'),
        _ => return None,
    };
    // Up to 17 digits in all: no overflow.
    while number < 1_000_000_000
        && let Some((chars, behind)) = rest.split_first_chunk()
        && let Some(eight) = words::eight_digits(u64::from_le_bytes(*chars))
    {
        number = number * 100_000_000 + eight;
        rest = behind;
    }
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = behind;
    }
    Some((number, rest))
}
