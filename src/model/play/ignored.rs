//! Optional fields of bodies that could not be read: how many, and what stood there (pure).

use std::borrow::Cow;

use super::value::Unreadable;

/// The fields of a body that a play can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlayField {
    /// When it was put on the queue.
    EnqueuedAt,
    /// Who made it.
    Producer,
    /// Its number.
    Seq,
    /// Whether it was sent before.
    Resent,
}

impl PlayField {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::EnqueuedAt, Self::Producer, Self::Seq, Self::Resent];

    /// As it stands in a body.
    pub fn name(self) -> &'static str {
        match self {
            Self::EnqueuedAt => "enqueued_at",
            Self::Producer => "producer",
            Self::Seq => "seq",
            Self::Resent => "resent",
        }
    }
}

/// By field: values that could not be read. Each is as if it were absent, and its play counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredFields([IgnoredField; PlayField::ALL.len()]);

/// Values of one field that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredField {
    /// How many.
    pub count: u64,
    /// The first of them as JSON, cut to [`IgnoredFields::SAMPLE_MAX`] characters, then what is not printable escaped.
    pub sample: Option<String>,
}

impl IgnoredFields {
    /// Characters of a sample, before escaping.
    pub const SAMPLE_MAX: usize = 80;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|field| field.count == 0)
    }

    /// Of one field.
    pub fn of(&self, field: PlayField) -> &IgnoredField {
        &self.0[field as usize]
    }

    /// Counts a value.
    pub(super) fn add(&mut self, field: PlayField, raw: &[u8]) {
        let IgnoredField { count, sample } = &mut self.0[field as usize];
        *count += 1;
        sample.get_or_insert_with(|| sample_of(raw));
    }

    /// What an optional field says, as `read` has it of its JSON; one that cannot be read is counted.
    pub(super) fn read<T>(
        &mut self,
        field: PlayField,
        raw: Option<&[u8]>,
        read: fn(&[u8]) -> Result<Option<T>, Unreadable>,
    ) -> Option<T> {
        let raw = raw?;
        read(raw).unwrap_or_else(|Unreadable| {
            self.add(field, raw);
            None
        })
    }

    /// Adds those of other bodies. A sample that is there stays.
    pub fn merge(&mut self, more: Self) {
        for (sum, more) in self.0.iter_mut().zip(more.0) {
            sum.count = sum.count.saturating_add(more.count);
            sum.sample = sum.sample.take().or(more.sample);
        }
    }
}

/// What a person may see of it, wherever it is shown.
fn sample_of(raw: &[u8]) -> String {
    // Bytes for all characters, of 4 bytes at most, so that no cut one is among them.
    let text: Cow<'_, str> =
        String::from_utf8_lossy(&raw[..raw.len().min(5 * IgnoredFields::SAMPLE_MAX)]);
    let mut sample = String::new();
    for c in text.chars().take(IgnoredFields::SAMPLE_MAX) {
        match c {
            '"' | '\'' | '\\' => sample.push(c),
            _ => sample.extend(c.escape_debug()),
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_short_and_harmless() {
        for (raw, shown) in [
            (&b"\"web-1\""[..], "\"web-1\""),
            (b"\"\xff\x9b[31m\"", "\"\u{fffd}\u{fffd}[31m\""),
            ("\"gr\u{f6}\u{df}e\"".as_bytes(), "\"gr\u{f6}\u{df}e\""),
            ("\"\u{202e}\u{1b}\"".as_bytes(), "\"\\u{202e}\\u{1b}\""),
            (b"[\n]", "[\\n]"),
        ] {
            assert_eq!(sample_of(raw), shown);
        }
        assert_eq!(sample_of("\u{1f600}".repeat(1000).as_bytes()).chars().count(), 80);
    }

    #[test]
    fn the_first_sample_stands() {
        let of = |raws: &[&[u8]]| {
            let mut fields = IgnoredFields::default();
            raws.iter().for_each(|raw| fields.add(PlayField::Seq, raw));
            fields
        };
        let mut sum = of(&[]);
        sum.merge(of(&[b"3", b"1"]));
        sum.merge(of(&[b"2"]));
        assert_eq!(
            *sum.of(PlayField::Seq),
            IgnoredField { count: 3, sample: Some("3".to_owned()) }
        );
        assert!(!sum.is_empty() && of(&[]).is_empty());
    }
}
