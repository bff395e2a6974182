//! How numbers and nouns are written for people (pure).

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `1,234 messages`: of a noun whose plural has an s.
pub(crate) fn many(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(number)),
    }
}

/// The one for 1, the other for every other number: `is`, `are`.
pub(crate) fn of_number<'a>(number: u64, one: &'a str, other: &'a str) -> &'a str {
    if number == 1 { one } else { other }
}

/// `1 message is`, `1,234 messages are`.
pub(crate) fn many_are(number: u64, noun: &str) -> String {
    format!("{} {}", many(number, noun), of_number(number, "is", "are"))
}

/// A time of so many ms, as people say it: `8.3 s`, `31 min 38 s`, `3 d 4 h`. `duration` in the page's `format.js` has the same.
pub(crate) fn lasting(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let (seconds, tenths) = (ms / 1000, ms / 100 % 10);
    if seconds < 10 && tenths > 0 {
        return format!("{seconds}.{tenths} s");
    }
    let at = UNITS.iter().position(|(_, size)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (unit, size) = UNITS[at];
    let text = format!("{} {unit}", grouped(seconds / size));
    match UNITS.get(at + 1).map(|(unit, part)| (unit, seconds % size / part)) {
        Some((unit, rest @ 1..)) => format!("{text} {rest} {unit}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn one_is_not_many() {
        for (number, text) in [(0, "0 plays are"), (1, "1 play is"), (2_000, "2,000 plays are")] {
            assert_eq!(many_are(number, "play"), text);
        }
    }

    #[test]
    fn a_time_has_the_unit_that_fits_it() {
        for (ms, text) in [
            (0, "0 s"),
            (99, "0 s"),
            (8_300, "8.3 s"),
            (9_000, "9 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (1_898_000, "31 min 38 s"),
            (3_612_000, "1 h"),
            (3_672_000, "1 h 1 min"),
            (172_799_999, "1 d 23 h"),
            (172_800_000, "2 d"),
            (1_000 * 86_400_000, "1,000 d"),
        ] {
            assert_eq!(lasting(ms), text);
        }
    }
}
