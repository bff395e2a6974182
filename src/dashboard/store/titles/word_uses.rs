//! Which titles have a word (pure).

use std::borrow::Cow;

use roaring::RoaringBitmap;

/// Fewer uses than so many are never many.
const DENSE_MIN: u64 = 2048;

/// A word is dense where one of so many titles has it, and no longer where one of twice as many has.
const DENSE_SHARE: u64 = 32;

/// Which titles have a word, by their numbers.
#[derive(Clone, Debug)]
pub(super) enum WordUses {
    /// The most words by far are in one.
    One(u32),
    Many(RoaringBitmap),
    /// So many that two such words are compared by bits: sorted numbers would take ten times as long.
    Dense(Box<DenseUses>),
}

/// The same numbers twice.
#[derive(Clone, Debug)]
pub(super) struct DenseUses {
    numbers: RoaringBitmap,
    // One for each title, the lowest bit of a byte first, as far as the highest number.
    bits: Vec<u8>,
}

fn has(bits: &[u8], number: u32) -> bool {
    bits.get(number as usize / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
}

fn set(bits: &mut Vec<u8>, number: u32) {
    let at = number as usize / 8;
    if bits.len() <= at {
        bits.resize(at + 1, 0);
    }
    bits[at] |= 1 << (number % 8);
}

impl DenseUses {
    fn new(numbers: RoaringBitmap) -> Self {
        let mut bits = Vec::with_capacity(numbers.max().unwrap_or_default() as usize / 8 + 1);
        numbers.iter().for_each(|number| set(&mut bits, number));
        Self { numbers, bits }
    }
}

impl WordUses {
    pub(super) fn numbers(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::One(number) => Cow::Owned(RoaringBitmap::from([*number])),
            Self::Many(numbers) => Cow::Borrowed(numbers),
            Self::Dense(uses) => Cow::Borrowed(&uses.numbers),
        }
    }

    /// The same, of uses that nobody else needs.
    pub(super) fn into_numbers(self) -> RoaringBitmap {
        match self {
            Self::One(number) => RoaringBitmap::from([number]),
            Self::Many(numbers) => numbers,
            Self::Dense(uses) => uses.numbers,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Many(numbers) if numbers.is_empty())
    }

    /// A title more has it, of `titles` in all.
    pub(super) fn add(&mut self, number: u32, titles: usize) {
        match self {
            Self::Dense(uses) => {
                uses.numbers.insert(number);
                set(&mut uses.bits, number);
            }
            Self::Many(numbers) => {
                numbers.insert(number);
                let uses = numbers.len();
                if uses >= DENSE_MIN && uses * DENSE_SHARE >= titles as u64 {
                    *self = Self::Dense(Box::new(DenseUses::new(std::mem::take(numbers))));
                }
            }
            Self::One(other) if *other != number => {
                *self = Self::Many(RoaringBitmap::from([*other, number]));
            }
            Self::One(_) => {}
        }
    }

    /// A title less has it, of `titles` in all; whether one is left.
    pub(super) fn remove(&mut self, number: u32, titles: usize) -> bool {
        match self {
            Self::Dense(uses) => {
                uses.numbers.remove(number);
                if let Some(byte) = uses.bits.get_mut(number as usize / 8) {
                    *byte &= !(1 << (number % 8));
                }
                let left = uses.numbers.len();
                if left < DENSE_MIN / 2 || left * DENSE_SHARE * 2 < titles as u64 {
                    *self = Self::Many(std::mem::take(&mut uses.numbers));
                }
                left > 0
            }
            Self::Many(numbers) => {
                numbers.remove(number);
                !numbers.is_empty()
            }
            Self::One(_) => false,
        }
    }

    /// The titles that have both.
    pub(super) fn both(&self, other: &Self) -> Self {
        Self::Many(match (self, other) {
            (Self::Dense(one), Self::Dense(other)) => {
                let bits: Vec<u8> =
                    one.bits.iter().zip(&other.bits).map(|(one, other)| one & other).collect();
                RoaringBitmap::from_lsb0_bytes(0, &bits)
            }
            (Self::Dense(dense), sparse) | (sparse, Self::Dense(dense)) => {
                let numbers = sparse.numbers();
                // One by one they are slow.
                if numbers.len() * 8 > dense.numbers.len() {
                    numbers.as_ref() & &dense.numbers
                } else {
                    let common = numbers.iter().filter(|number| has(&dense.bits, *number));
                    RoaringBitmap::from_sorted_iter(common).unwrap_or_default()
                }
            }
            (one, other) => one.numbers().as_ref() & other.numbers().as_ref(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Uses of every `step`th of `titles`, from `first` on, gathered one by one.
    fn uses(first: u32, step: usize, titles: u32) -> (WordUses, BTreeSet<u32>) {
        let mut uses = WordUses::One(first);
        let numbers: BTreeSet<u32> = (first..titles).step_by(step).collect();
        numbers.iter().for_each(|number| uses.add(*number, titles as usize));
        (uses, numbers)
    }

    #[test]
    fn a_word_is_dense_while_many_titles_have_it() {
        let (mut dense, numbers) = uses(1, 16, 65_536);
        assert!(matches!(dense, WordUses::Dense(_)));
        assert!(matches!(uses(1, 64, 65_536).0, WordUses::Many(_)));
        for number in &numbers {
            let left = dense.remove(*number, 65_536);
            assert_eq!(left, number != numbers.last().unwrap());
        }
        assert!(dense.is_empty() && matches!(dense, WordUses::Many(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_are_what_both_have(
            one in (0_u32..64, 1_usize..200),
            other in (0_u32..64, 1_usize..200),
            gone in proptest::collection::vec(0_u32..50_000, 0..50),
        ) {
            const TITLES: u32 = 50_000;
            let (mut one, mut numbers) = uses(one.0, one.1, TITLES);
            let (other, others) = uses(other.0, other.1, TITLES);
            for number in gone {
                if numbers.len() > 1 && numbers.remove(&number) {
                    one.remove(number, TITLES as usize);
                }
            }
            let want: Vec<u32> = numbers.intersection(&others).copied().collect();
            prop_assert_eq!(one.both(&other).numbers().iter().collect::<Vec<_>>(), &*want);
            prop_assert_eq!(other.both(&one).numbers().iter().collect::<Vec<_>>(), want);
            prop_assert_eq!(one.numbers().iter().collect::<Vec<_>>(), Vec::from_iter(numbers));
        }
    }
}
