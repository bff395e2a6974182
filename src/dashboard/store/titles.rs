//! What people know videos by, and which videos have a word in their title (pure).
//!
//! A title costs some 90 bytes besides its own and its address's: a number, which stands in place of the video in the sets
//! of its words; its place by id, 5 to 11 bytes; and two bytes for each of its words. A word costs some 80 bytes once,
//! however many titles have it, and two bytes to a bit for each of them;
//! one that every 32nd title has, a bit of each title besides.

mod word_uses;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::rank::Place;
use crate::model::video_id::VideoId;
use word_uses::WordUses;

/// Who has said a title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dashboard) enum TitleOrigin {
    /// A play: another one may say another.
    Play,
    /// Somebody who may write: plays do not change it.
    Hand,
}

/// What a video is known by; one of both at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dashboard) struct TitleRow {
    pub(in crate::dashboard) title: Option<Box<str>>,
    // In two boxes, since most videos have none: that takes 8 bytes, and would take 16 in one.
    pub(in crate::dashboard) url: Option<Box<Box<str>>>,
    pub(super) origin: TitleOrigin,
}

/// All titles.
#[derive(Debug, Default)]
pub(super) struct TitleIndex {
    // By id.
    numbers: HashTable<u32>,
    /// Seeded at random, because video ids come from strangers.
    hasher: RandomState,
    // Three columns by number, since a search puts thousands of ids in the order of their plays, and looks at no more.
    ids: Vec<VideoId>,
    // As the lists show them; 0 of a video that is in none.
    plays: Vec<i64>,
    // `None`: the number is free.
    rows: Vec<Option<TitleRow>>,
    free: Vec<u32>,
    words: BTreeMap<Box<str>, WordUses>,
    // Those whose videos are in lists.
    listed: RoaringBitmap,
}

/// Some of the titles, by their numbers: see [`TitleIndex::video`].
pub(super) type TitleNumbers = RoaringBitmap;

impl TitleIndex {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// What a video is known by.
    pub(super) fn get(&self, id: &VideoId) -> Option<&TitleRow> {
        self.rows[self.number(id)? as usize].as_ref()
    }

    /// The number of a video that has any.
    pub(super) fn number(&self, id: &VideoId) -> Option<u32> {
        let is_it = |number: &u32| self.ids[*number as usize] == *id;
        self.numbers.find(self.hasher.hash_one(id), is_it).copied()
    }

    /// The video of a number that [`TitleIndex::number`] or [`TitleIndex::find`] has given since the last change.
    pub(super) fn video(&self, number: u32) -> &VideoId {
        &self.ids[number as usize]
    }

    /// Some of those that are in lists, with their plays there: places by plays, in no order.
    pub(super) fn places(&self, some: &TitleNumbers) -> Vec<Place> {
        // First the numbers, then what lies there: so thousands of cache misses overlap, which takes half of the time.
        let numbers: Vec<u32> = some.iter().collect();
        let place = |number: &u32| (self.plays[*number as usize], self.ids[*number as usize]);
        numbers.iter().map(place).collect()
    }

    /// Whether a video is among some of them.
    pub(super) fn is_in(&self, some: &TitleNumbers, id: &VideoId) -> bool {
        self.number(id).is_some_and(|number| some.contains(number))
    }

    /// Sets what a video is known by, or takes it away; whether anything has changed. A new one is in no list before
    /// [`TitleIndex::set_listed`].
    pub(super) fn set(&mut self, id: VideoId, row: Option<TitleRow>) -> bool {
        let row = row.filter(|row| row.title.is_some() || row.url.is_some());
        let number = self.number(&id);
        let known = number.and_then(|number| self.rows[number as usize].as_ref());
        if known == row.as_ref() {
            return false;
        }
        let number = number.unwrap_or_else(|| self.new_number(id));
        let before = self.rows[number as usize].take();
        let old = before.as_ref().and_then(|row| row.title.as_deref());
        let new = row.as_ref().and_then(|row| row.title.as_deref());
        if old != new {
            for word in words(old.unwrap_or_default()) {
                self.remove_word(&word, number);
            }
            for word in words(new.unwrap_or_default()) {
                self.add_word(word, number);
            }
        }
        if row.is_none() {
            self.leave(&id, number);
        }
        self.rows[number as usize] = row;
        true
    }

    /// A number for a video that has none.
    fn new_number(&mut self, id: VideoId) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.ids.push(id);
            self.plays.push(0);
            self.rows.push(None);
            // More than 2^32 titles fit into no memory.
            (self.ids.len() - 1) as u32
        });
        self.ids[number as usize] = id;
        self.plays[number as usize] = 0;
        let Self { numbers, hasher, ids, .. } = self;
        let hash_of = |number: &u32| hasher.hash_one(ids[*number as usize]);
        numbers.insert_unique(hasher.hash_one(id), number, hash_of);
        number
    }

    fn leave(&mut self, id: &VideoId, number: u32) {
        if let Ok(found) =
            self.numbers.find_entry(self.hasher.hash_one(id), |known| *known == number)
        {
            found.remove();
        }
        self.listed.remove(number);
        self.free.push(number);
    }

    fn add_word(&mut self, word: String, number: u32) {
        let titles = self.ids.len();
        self.words.entry(word.into()).or_insert(WordUses::One(number)).add(number, titles);
    }

    fn remove_word(&mut self, word: &str, number: u32) {
        let titles = self.ids.len();
        let is_left = self.words.get_mut(word).is_some_and(|uses| uses.remove(number, titles));
        if !is_left {
            self.words.remove(word);
        }
    }

    /// A video is in lists from now on, with those plays, or is not.
    pub(super) fn set_listed(&mut self, id: &VideoId, plays: Option<i64>) {
        let Some(number) = self.number(id) else { return };
        if plays.is_some() {
            self.listed.insert(number);
        } else {
            self.listed.remove(number);
        }
        self.plays[number as usize] = plays.unwrap_or_default();
    }

    /// No video is in lists from now on.
    pub(super) fn unlist_all(&mut self) {
        self.listed.clear();
    }

    /// Those that have every word of `search`, of whose last one the start is enough, and whose videos are in lists. None
    /// where `search` has no word.
    pub(super) fn find(&self, search: &str) -> Cow<'_, TitleNumbers> {
        let none = || Cow::Owned(RoaringBitmap::new());
        let mut all = ordered_words(search);
        let Some(start) = all.pop() else { return none() };
        all.sort_unstable();
        all.dedup();
        let mut found: Option<Cow<'_, WordUses>> = None;
        for word in all {
            let Some(uses) = self.words.get(word.as_str()) else { return none() };
            found = Some(both(found, Cow::Borrowed(uses)));
        }
        // Many words may have the start: they are gathered only where the whole ones leave any.
        if found.as_ref().is_some_and(|found| found.is_empty()) {
            return none();
        }
        let found = match both(found, self.with_start(&start)) {
            Cow::Borrowed(uses) => uses.numbers(),
            Cow::Owned(uses) => Cow::Owned(uses.into_numbers()),
        };
        if self.listed.len() as usize == self.len() {
            return found;
        }
        Cow::Owned(found.as_ref() & &self.listed)
    }

    /// Those that have a word with that start.
    fn with_start(&self, start: &str) -> Cow<'_, WordUses> {
        let behind = self
            .words
            .range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        let mut all = behind.take_while(|(word, _)| word.starts_with(start)).map(|(_, uses)| uses);
        let none = WordUses::Many(RoaringBitmap::new());
        let Some(first) = all.next() else { return Cow::Owned(none) };
        let Some(second) = all.next() else { return Cow::Borrowed(first) };
        let (mut found, mut single) = (RoaringBitmap::new(), Vec::new());
        for uses in [first, second].into_iter().chain(all) {
            match uses {
                WordUses::One(number) => single.push(*number),
                more => found |= more.numbers().as_ref(),
            }
        }
        // In their order they go in at once.
        single.sort_unstable();
        found.extend(single);
        Cow::Owned(WordUses::Many(found))
    }

    /// At most `most` of them from that number on, in no order that means anything, and the number of the next; `None`: there
    /// are no more.
    pub(super) fn page(&self, from: u32, most: usize) -> (Vec<(VideoId, TitleRow)>, Option<u32>) {
        let rows = self.rows.iter().enumerate().skip(from as usize);
        let page: Vec<_> =
            rows.filter_map(|(number, row)| Some((number, row.as_ref()?))).take(most).collect();
        let next = page.last().filter(|_| page.len() == most).map(|(number, _)| *number as u32 + 1);
        (page.into_iter().map(|(number, row)| (self.ids[number], row.clone())).collect(), next)
    }
}

/// What of `more` is in `some`, too; `None`: in whatever.
fn both<'a>(some: Option<Cow<'_, WordUses>>, more: Cow<'a, WordUses>) -> Cow<'a, WordUses> {
    match some {
        None => more,
        Some(some) => Cow::Owned(some.both(&more)),
    }
}

/// The words of a text in their order, as they are compared: one form of each letter, in lower case. Where a script puts no
/// spaces between its words, each ideograph is one.
fn ordered_words(text: &str) -> Vec<String> {
    let folded: String = text.nfkc().collect::<String>().to_lowercase();
    let is_between = |character: char| character.is_ascii_punctuation() || character == '’';
    let parts = folded.unicode_words().flat_map(|word| word.split(is_between));
    parts.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The words of a title, each once.
fn words(title: &str) -> Vec<String> {
    let mut words = ordered_words(title);
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests;
