//! What people know videos by, and which videos have a word in their title (pure).
//!
//! A title costs some 150 bytes besides its own and its address's: a number, which stands in place of the video in the sets
//! of its words; its place by id; and two bytes for each of its words. A word costs some 80 bytes once, however many titles
//! have it, and two bytes to a bit for each of them.

use std::collections::BTreeMap;

use foldhash::HashMap;
use roaring::RoaringBitmap;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::model::video_id::VideoId;

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
    pub(in crate::dashboard) url: Option<Box<str>>,
    pub(super) origin: TitleOrigin,
}

/// Which titles have a word.
#[derive(Debug)]
enum WordUses {
    /// The most words by far are in one.
    One(u32),
    Many(RoaringBitmap),
}

/// All titles.
#[derive(Debug, Default)]
pub(super) struct TitleIndex {
    numbers: HashMap<VideoId, u32>,
    // By number; `None`: the number is free.
    rows: Vec<Option<(VideoId, TitleRow)>>,
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
        self.row(*self.numbers.get(id)?).map(|(_, row)| row)
    }

    fn row(&self, number: u32) -> Option<&(VideoId, TitleRow)> {
        self.rows.get(number as usize)?.as_ref()
    }

    /// The number of a video that has any.
    pub(super) fn number(&self, id: &VideoId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The video of a number.
    pub(super) fn video(&self, number: u32) -> Option<&VideoId> {
        self.row(number).map(|(id, _)| id)
    }

    /// Whether a video is among some of them.
    pub(super) fn is_in(&self, some: &TitleNumbers, id: &VideoId) -> bool {
        self.numbers.get(id).is_some_and(|number| some.contains(*number))
    }

    /// Sets what a video is known by, or takes it away; whether anything has changed. A new one is in no list before
    /// [`TitleIndex::set_listed`].
    pub(super) fn set(&mut self, id: VideoId, row: Option<TitleRow>) -> bool {
        let row = row.filter(|row| row.title.is_some() || row.url.is_some());
        if self.get(&id) == row.as_ref() {
            return false;
        }
        let number = match (self.numbers.get(&id), &row) {
            (Some(number), _) => *number,
            (None, None) => return false,
            (None, Some(_)) => self.new_number(id),
        };
        let before = self.rows[number as usize].take();
        let title = |row: &Option<TitleRow>| row.as_ref().and_then(|row| row.title.clone());
        let (old, new) = (title(&before.map(|(_, row)| row)), title(&row));
        if old != new {
            for word in words(&old.unwrap_or_default()) {
                self.remove_word(&word, number);
            }
            for word in words(&new.unwrap_or_default()) {
                self.add_word(word, number);
            }
        }
        match row {
            Some(row) => self.rows[number as usize] = Some((id, row)),
            None => {
                self.numbers.remove(&id);
                self.listed.remove(number);
                self.free.push(number);
            }
        }
        true
    }

    fn new_number(&mut self, id: VideoId) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            // More than 2^32 titles fit into no memory.
            (self.rows.len() - 1) as u32
        });
        self.numbers.insert(id, number);
        number
    }

    fn add_word(&mut self, word: String, number: u32) {
        let uses = self.words.entry(word.into()).or_insert(WordUses::One(number));
        match uses {
            WordUses::Many(numbers) => {
                numbers.insert(number);
            }
            WordUses::One(other) if *other != number => {
                *uses = WordUses::Many(RoaringBitmap::from([*other, number]));
            }
            WordUses::One(_) => {}
        }
    }

    fn remove_word(&mut self, word: &str, number: u32) {
        let is_left = match self.words.get_mut(word) {
            Some(WordUses::Many(numbers)) => {
                numbers.remove(number);
                !numbers.is_empty()
            }
            _ => false,
        };
        if !is_left {
            self.words.remove(word);
        }
    }

    /// A video is in lists from now on, or is not.
    pub(super) fn set_listed(&mut self, id: &VideoId, is_listed: bool) {
        let Some(number) = self.numbers.get(id) else { return };
        if is_listed {
            self.listed.insert(*number);
        } else {
            self.listed.remove(*number);
        }
    }

    /// No video is in lists from now on.
    pub(super) fn unlist_all(&mut self) {
        self.listed.clear();
    }

    /// Those that have every word of `search`, of whose last one the start is enough, and whose videos are in lists. None
    /// where `search` has no word.
    pub(super) fn find(&self, search: &str) -> TitleNumbers {
        let mut all = ordered_words(search);
        let Some(start) = all.pop() else { return RoaringBitmap::new() };
        all.sort_unstable();
        all.dedup();
        let mut found = self.listed.clone();
        for word in all {
            match self.words.get(word.as_str()) {
                None => return RoaringBitmap::new(),
                Some(WordUses::Many(numbers)) => found &= numbers,
                Some(WordUses::One(number)) => {
                    let is_there = found.contains(*number);
                    found.clear();
                    if is_there {
                        found.insert(*number);
                    }
                }
            }
        }
        if !found.is_empty() {
            found &= self.with_start(&start);
        }
        found
    }

    /// Those that have a word with that start.
    fn with_start(&self, start: &str) -> RoaringBitmap {
        let (mut found, mut single) = (RoaringBitmap::new(), Vec::new());
        let behind = self
            .words
            .range::<str, _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        for (_, uses) in behind.take_while(|(word, _)| word.starts_with(start)) {
            match uses {
                WordUses::One(number) => single.push(*number),
                WordUses::Many(numbers) => found |= numbers,
            }
        }
        // In their order they go in at once.
        single.sort_unstable();
        found.extend(single);
        found
    }

    /// At most `most` of them from that number on, in no order that means anything, and the number of the next; `None`: there
    /// are no more.
    pub(super) fn page(&self, from: u32, most: usize) -> (Vec<(VideoId, TitleRow)>, Option<u32>) {
        let rows = self.rows.iter().enumerate().skip(from as usize);
        let page: Vec<_> =
            rows.filter_map(|(number, row)| Some((number, row.as_ref()?))).take(most).collect();
        let next = page.last().filter(|_| page.len() == most).map(|(number, _)| *number as u32 + 1);
        (page.into_iter().map(|(_, row)| row.clone()).collect(), next)
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
