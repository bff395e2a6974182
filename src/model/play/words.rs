//! Eight bytes of text at a time, in one u64, the first byte lowest (pure): where a string ends, digits, the hexadecimal of
//! a UUID. A mark is the top bit of a byte.

use uuid::Uuid;

const TOP_BITS: u64 = in_each(0x80);

const fn in_each(byte: u8) -> u64 {
    u64::MAX / 0xff * byte as u64
}

/// The place of the first byte that ends the plain part of a JSON string: a quote, a backslash, a control character.
#[inline]
pub(super) fn first_special(chars: u64) -> Option<usize> {
    // Exchanging bit 1 puts the quote right behind the control characters. What is subtracted borrows from the byte above
    // only where it marks one, so the first mark is right, and no other is asked for.
    let quotes_and_controls = (chars ^ in_each(0x02)).wrapping_sub(in_each(b' ' + 1));
    let backslashes = (chars ^ in_each(b'\\')).wrapping_sub(in_each(1));
    let marks = (quotes_and_controls | backslashes) & !chars & TOP_BITS;
    (marks != 0).then_some(marks.trailing_zeros() as usize / 8)
}

/// Whether all are ASCII.
#[inline]
pub(super) fn are_ascii(chars: u64) -> bool {
    chars & TOP_BITS == 0
}

/// The number that eight digits are; `None` if one of them is none.
#[inline]
pub(super) fn eight_digits(chars: u64) -> Option<u64> {
    let digits = chars ^ in_each(b'0');
    // What is over 9 reaches the top bit; what carries into the byte above has had it.
    if !are_ascii(digits | digits.wrapping_add(in_each(0x7f - 9))) {
        return None;
    }
    // Neighbours are joined: digits to pairs, these to fours, which stand in the upper halves of the products.
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    const OF_FOUR: u64 = 0x0000_00ff_0000_00ff;
    let first_and_third = (pairs & OF_FOUR).wrapping_mul(1_000_000 << 32 | 100);
    let second_and_fourth = (pairs >> 16 & OF_FOUR).wrapping_mul(10_000 << 32 | 1);
    Some(first_and_third.wrapping_add(second_and_fourth) >> 32)
}

/// Reads a UUID of digits and four hyphens, as almost everybody writes it, in half the time of [`Uuid::try_parse_ascii`].
#[inline]
pub(super) fn uuid(text: &[u8; 36]) -> Option<Uuid> {
    let four = |at: usize| {
        u64::from(u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]))
    };
    let hyphens = [text[8], text[13], text[18], text[23]] == *b"----";
    let (first, second) = (four(0) | four(4) << 32, four(9) | four(14) << 32);
    let (third, fourth) = (four(19) | four(24) << 32, four(28) | four(32) << 32);
    let hex = are_hex(first) & are_hex(second) & are_hex(third) & are_hex(fourth) & TOP_BITS;
    let valid = hex == TOP_BITS && are_ascii(first | second | third | fourth);
    (hyphens && valid).then(|| {
        let upper = four_bytes(first) << 32 | four_bytes(second);
        let lower = four_bytes(third) << 32 | four_bytes(fourth);
        Uuid::from_u64_pair(upper, lower)
    })
}

/// Marks the hexadecimal digits, if all are ASCII. Bits below the top ones say nothing.
#[inline]
fn are_hex(chars: u64) -> u64 {
    let within = |chars: u64, low: u8, high: u8| {
        let not_below = chars.wrapping_add(in_each(0x80 - low));
        let above = chars.wrapping_add(in_each(0x7f - high));
        not_below & !above
    };
    within(chars, b'0', b'9') | within(chars | in_each(0x20), b'a', b'f')
}

/// The 32-bit number that eight hexadecimal digits are.
#[inline]
fn four_bytes(chars: u64) -> u64 {
    let letters = chars >> 6 & in_each(1);
    let nibbles = (chars & in_each(0x0f)) + letters * 9;
    let bytes = (nibbles << 4 | nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    u64::from(((pairs | pairs >> 16) as u32).swap_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_at_every_place_is_special_or_not() {
        for byte in 0..=u8::MAX {
            let special = byte < b' ' || byte == b'"' || byte == b'\\';
            for place in 0..8 {
                for others in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut text = [others; 8];
                    text[place] = byte;
                    let found = first_special(u64::from_le_bytes(text));
                    assert_eq!(found, special.then_some(place), "{text:?}");
                    assert_eq!(are_ascii(u64::from_le_bytes(text)), text.is_ascii());
                }
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_uuid_is_taken_as_the_crate_takes_it() {
        for good in ["0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f11", "FFFFFFFF-ABCD-EF98-7654-321000000000"]
        {
            for place in 0..36 {
                for byte in 0..=u8::MAX {
                    let mut text: [u8; 36] = good.as_bytes().try_into().unwrap();
                    text[place] = byte;
                    let wanted = Uuid::try_parse_ascii(&text).ok();
                    assert_eq!(super::uuid(&text), wanted, "{:?}", text.escape_ascii());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_first_of_several_is_found(text in any::<[u8; 8]>()) {
            let first = text.iter().position(|b| *b < b' ' || *b == b'"' || *b == b'\\');
            prop_assert_eq!(first_special(u64::from_le_bytes(text)), first);
        }

        #[test]
        fn eight_digits_are_their_number(number in 0..100_000_000u64, place in 0usize..8, byte: u8) {
            let mut text: [u8; 8] = format!("{number:08}").into_bytes().try_into().unwrap();
            prop_assert_eq!(eight_digits(u64::from_le_bytes(text)), Some(number));
            text[place] = byte;
            let wanted = text.is_ascii().then(|| str::from_utf8(&text).unwrap());
            let wanted = wanted.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            prop_assert_eq!(
                eight_digits(u64::from_le_bytes(text)),
                wanted.map(|text| text.parse().unwrap())
            );
        }

        #[test]
        fn a_uuid_is_read_as_the_crate_reads_it(id: u128) {
            let id = Uuid::from_u128(id);
            for text in [id.to_string(), id.to_string().to_uppercase()] {
                prop_assert_eq!(super::uuid(text.as_bytes().first_chunk().unwrap()), Some(id));
            }
        }
    }
}
