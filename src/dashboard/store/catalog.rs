//! What is kept of videos besides what processors count: titles, what is changed of what is shown, and imports (pure).
//! Everything is set by its newest change, so that changes that are played again end where they ended before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use foldhash::HashMap;
use uuid::Uuid;

use super::titles::{TitleIndex, TitleOrigin, TitleRow};
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::wire::{Correction, VideoTexts, Visibility};

/// So many changed rows begin a checkpoint.
pub(super) const CHANGED_OVERDUE: usize = 100_000;

/// The most changed rows that wait for a checkpoint: about 60 MB.
pub(super) const CHANGED_MAX: usize = 2_000_000;

/// Whether a video is shown, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VisibilitySet {
    pub(super) visibility: Visibility,
    pub(super) reason: Option<String>,
    pub(super) at: UnixMs,
}

/// What is changed of one video.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VideoChanges {
    /// `None`: it was always shown.
    pub(super) visibility: Option<VisibilitySet>,
    pub(super) correction: Option<Correction>,
}

impl VideoChanges {
    /// Whether it is shown.
    pub(super) fn visibility(&self) -> Visibility {
        self.visibility.as_ref().map_or(Visibility::Shown, |set| set.visibility)
    }

    /// What is added to its counts.
    pub(super) fn added(&self) -> i64 {
        self.correction.as_ref().map_or(0, |correction| correction.plays)
    }

    fn is_default(&self) -> bool {
        self.visibility() == Visibility::Shown && self.correction.is_none()
    }
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// What its counts are kept under, as those of a processor are: another one when it is told again after it was taken
    /// back.
    pub(super) key: Uuid,
    pub(super) name: String,
    /// When it began.
    pub(super) at: UnixMs,
}

/// How many rows of the catalog there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dashboard) struct CatalogSums {
    pub(in crate::dashboard) titles: u64,
    pub(in crate::dashboard) hidden: u64,
    pub(in crate::dashboard) deleted: u64,
    pub(in crate::dashboard) corrected: u64,
    pub(in crate::dashboard) imports: u64,
}

/// Which row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CatalogKey {
    Title(VideoId),
    Changes(VideoId),
    Import(Uuid),
}

/// What a row of the tables is to be; `None`: it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CatalogRow {
    Title(VideoId, Option<TitleRow>),
    Changes(VideoId, Option<VideoChanges>),
    Import(Uuid, Option<Import>),
}

/// All of it, and what the tables do not have.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    titles: TitleIndex,
    changes: HashMap<VideoId, VideoChanges>,
    imports: BTreeMap<Uuid, Import>,
    // By what their counts are kept under: the number that stands for it in the counts.
    numbers: HashMap<Uuid, u32>,
    // The sum of what corrections add: what all counts together may be is bounded with it.
    added: u64,
    changed: BTreeSet<CatalogKey>,
    writing: BTreeSet<CatalogKey>,
}

impl Catalog {
    /// The titles.
    pub(super) fn titles(&self) -> &TitleIndex {
        &self.titles
    }

    /// The titles, for whoever lists videos.
    pub(super) fn titles_mut(&mut self) -> &mut TitleIndex {
        &mut self.titles
    }

    /// Whether [`Catalog::set_by_hand`] would change anything.
    pub(super) fn is_news_by_hand(&self, id: &VideoId, texts: &VideoTexts) -> bool {
        self.titles.get(id) != by_hand(texts).as_ref()
    }

    /// Sets what a video is known by, whatever its plays say; whether anything has changed.
    pub(super) fn set_by_hand(&mut self, id: VideoId, texts: &VideoTexts) -> bool {
        let has_changed = self.titles.set(id, by_hand(texts));
        if has_changed {
            self.changed.insert(CatalogKey::Title(id));
        }
        has_changed
    }

    /// Whether [`Catalog::set_by_play`] would change anything.
    pub(super) fn is_news_by_play(&self, id: &VideoId, title: &str) -> bool {
        self.titles.get(id).is_none_or(|row| {
            row.origin == TitleOrigin::Play && row.title.as_deref() != Some(title)
        })
    }

    /// Sets a title that a play says, unless one was set by hand; whether anything has changed.
    pub(super) fn set_by_play(&mut self, id: VideoId, title: &str) -> bool {
        let has_changed = self.is_news_by_play(&id, title);
        if has_changed {
            let row = TitleRow { title: Some(title.into()), url: None, origin: TitleOrigin::Play };
            self.titles.set(id, Some(row));
            self.changed.insert(CatalogKey::Title(id));
        }
        has_changed
    }

    /// What is changed of a video, if anything is.
    pub(super) fn changes(&self, id: &VideoId) -> Option<&VideoChanges> {
        self.changes.get(id)
    }

    /// Of how many videos something is changed.
    pub(super) fn changes_len(&self) -> usize {
        self.changes.len()
    }

    /// Every video of which something is changed.
    pub(super) fn all_changes(&self) -> impl Iterator<Item = (&VideoId, &VideoChanges)> {
        self.changes.iter()
    }

    /// Shows a video, or does not.
    pub(super) fn set_visibility(&mut self, id: VideoId, set: VisibilitySet) {
        self.change(id, |changes| changes.visibility = Some(set));
    }

    /// Adds to a video's counts from now on, or no more.
    pub(super) fn correct(&mut self, id: VideoId, correction: Correction) {
        self.change(id, |changes| {
            changes.correction = Some(correction).filter(|one| one.plays != 0)
        });
    }

    fn change(&mut self, id: VideoId, act: impl FnOnce(&mut VideoChanges)) {
        let mut changes = self.changes.remove(&id).unwrap_or_default();
        self.added -= positive(&changes);
        act(&mut changes);
        self.added += positive(&changes);
        if !changes.is_default() {
            self.changes.insert(id, changes);
        }
        self.changed.insert(CatalogKey::Changes(id));
    }

    /// What corrections add in all.
    pub(super) fn added(&self) -> u64 {
        self.added
    }

    /// One import.
    pub(super) fn import(&self, import: &Uuid) -> Option<&Import> {
        self.imports.get(import)
    }

    /// Every import.
    pub(super) fn imports(&self) -> impl Iterator<Item = (&Uuid, &Import)> {
        self.imports.iter()
    }

    /// The number that stands for what an import's counts are kept under; 0: it has none.
    pub(super) fn number(&self, key: &Uuid) -> u32 {
        self.numbers.get(key).copied().unwrap_or_default()
    }

    /// Notes that number.
    pub(super) fn set_number(&mut self, key: Uuid, number: u32) {
        self.numbers.insert(key, number);
    }

    /// Notes the numbers of imports that were loaded.
    pub(super) fn number_imports(&mut self, number: impl Fn(&Uuid) -> Option<u32>) {
        let keys = self.imports.values().map(|import| import.key);
        self.numbers = keys.filter_map(|key| Some((key, number(&key)?))).collect();
    }

    /// An import has begun.
    pub(super) fn add_import(&mut self, id: Uuid, import: Import) {
        if self.imports.get(&id) != Some(&import) {
            self.imports.insert(id, import);
            self.changed.insert(CatalogKey::Import(id));
        }
    }

    /// An import is taken back whose counts were kept under `key`.
    pub(super) fn remove_import(&mut self, id: &Uuid, key: &Uuid) {
        if self.imports.get(id).is_some_and(|import| import.key == *key) {
            self.imports.remove(id);
            self.numbers.remove(key);
            self.changed.insert(CatalogKey::Import(*id));
        }
    }

    /// What a reset leaves: titles, and which videos are not shown.
    pub(super) fn after_reset(mut self) -> Self {
        let corrected = self.changes.iter().filter(|(_, changes)| changes.correction.is_some());
        let corrected: Vec<_> = corrected.map(|(id, _)| *id).collect();
        for id in corrected {
            self.change(id, |changes| changes.correction = None);
        }
        for id in std::mem::take(&mut self.imports).into_keys() {
            self.changed.insert(CatalogKey::Import(id));
        }
        self.numbers.clear();
        self.titles.unlist_all();
        self
    }

    /// How much there is.
    pub(super) fn sums(&self) -> CatalogSums {
        let mut sums = CatalogSums {
            titles: self.titles.len() as u64,
            imports: self.imports.len() as u64,
            ..CatalogSums::default()
        };
        for changes in self.changes.values() {
            sums.hidden += u64::from(changes.visibility() == Visibility::Hidden);
            sums.deleted += u64::from(changes.visibility() == Visibility::Deleted);
            sums.corrected += u64::from(changes.correction.is_some());
        }
        sums
    }

    /// How many rows the tables do not have as they are.
    pub(super) fn waiting(&self) -> usize {
        self.changed.len() + self.writing.len()
    }

    /// Takes the first `most` changed rows behind `after`, in the order of their keys.
    pub(super) fn take_changed(
        &mut self,
        after: Option<CatalogKey>,
        most: usize,
    ) -> Vec<(CatalogKey, CatalogRow)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys: Vec<_> =
            self.changed.range((from, Bound::Unbounded)).take(most).copied().collect();
        for key in &keys {
            self.changed.remove(key);
            self.writing.insert(*key);
        }
        keys.into_iter().map(|key| (key, self.row(key))).collect()
    }

    fn row(&self, key: CatalogKey) -> CatalogRow {
        match key {
            CatalogKey::Title(id) => CatalogRow::Title(id, self.titles.get(&id).cloned()),
            CatalogKey::Changes(id) => CatalogRow::Changes(id, self.changes.get(&id).cloned()),
            CatalogKey::Import(id) => CatalogRow::Import(id, self.imports.get(&id).cloned()),
        }
    }

    /// The tables have what was taken.
    pub(super) fn written(&mut self) {
        self.writing.clear();
    }

    /// The tables do not have what was taken.
    pub(super) fn give_back(&mut self) {
        self.changed.append(&mut self.writing);
    }

    /// Takes in a row that the tables have.
    pub(super) fn load(&mut self, row: CatalogRow) {
        match row {
            CatalogRow::Title(id, row) => {
                self.titles.set(id, row);
            }
            CatalogRow::Changes(id, changes) => {
                let changes = changes.unwrap_or_default();
                self.added += positive(&changes);
                self.changes.insert(id, changes);
            }
            CatalogRow::Import(id, import) => {
                import.into_iter().for_each(|import| drop(self.imports.insert(id, import)));
            }
        }
    }
}

fn by_hand(texts: &VideoTexts) -> Option<TitleRow> {
    let title = texts.title.as_deref().map(Into::into);
    let url = texts.url.as_deref().map(|url| Box::new(url.into()));
    let is_any = title.is_some() || url.is_some();
    is_any.then_some(TitleRow { title, url, origin: TitleOrigin::Hand })
}

fn positive(changes: &VideoChanges) -> u64 {
    changes.added().max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> VideoId {
        VideoId::parse(text).unwrap()
    }

    fn texts(title: &str) -> VideoTexts {
        VideoTexts { title: Some(title.to_owned()), url: None }
    }

    fn title(catalog: &Catalog, id: &VideoId) -> Option<String> {
        catalog.titles.get(id)?.title.as_deref().map(str::to_owned)
    }

    #[test]
    fn what_is_set_by_hand_stays_whatever_plays_say() {
        let (mut catalog, a) = (Catalog::default(), id("a"));
        for (title_of_play, want) in [("one", "one"), ("two", "two")] {
            assert!(catalog.is_news_by_play(&a, title_of_play));
            assert!(catalog.set_by_play(a, title_of_play));
            assert!(!catalog.is_news_by_play(&a, title_of_play));
            assert_eq!(title(&catalog, &a).as_deref(), Some(want));
        }
        // The same text, but it stays now.
        assert!(catalog.is_news_by_hand(&a, &texts("two")));
        assert!(catalog.set_by_hand(a, &texts("two")) && !catalog.set_by_hand(a, &texts("two")));
        assert!(!catalog.is_news_by_hand(&a, &texts("two")));
        assert!(!catalog.is_news_by_play(&a, "three"));
        assert!(!catalog.set_by_play(a, "three"));
        assert_eq!(title(&catalog, &a).as_deref(), Some("two"));
        catalog.set_by_hand(a, &VideoTexts::default());
        assert_eq!((title(&catalog, &a), catalog.titles.len()), (None, 0));
        catalog.set_by_play(a, "three");
        assert_eq!(title(&catalog, &a).as_deref(), Some("three"));
    }

    #[test]
    fn a_reset_keeps_titles_and_what_is_not_shown() {
        let (mut catalog, a, b) = (Catalog::default(), id("a"), id("b"));
        let hidden = VisibilitySet {
            visibility: Visibility::Hidden,
            reason: Some("law".to_owned()),
            at: UnixMs(1),
        };
        let correction = |plays| Correction { plays, reason: "bots".to_owned(), at: UnixMs(2) };
        catalog.set_by_hand(a, &texts("one"));
        catalog.set_visibility(a, hidden.clone());
        catalog.correct(a, correction(5));
        catalog.correct(b, correction(-7));
        assert_eq!(catalog.added(), 5);
        catalog.correct(b, correction(3));
        assert_eq!(catalog.added(), 8);
        let import = Import { key: Uuid::from_u128(2), name: "x".to_owned(), at: UnixMs(3) };
        catalog.add_import(Uuid::from_u128(1), import);
        catalog.take_changed(None, usize::MAX);
        catalog.written();
        assert_eq!(catalog.waiting(), 0);
        let mut catalog = catalog.after_reset();
        let kept = VideoChanges { visibility: Some(hidden), correction: None };
        assert_eq!((catalog.changes(&a), catalog.changes(&b)), (Some(&kept), None));
        assert_eq!((title(&catalog, &a).as_deref(), catalog.added()), (Some("one"), 0));
        let taken: Vec<_> =
            catalog.take_changed(None, usize::MAX).into_iter().map(|(_, row)| row).collect();
        let want = [
            CatalogRow::Changes(a, Some(kept)),
            CatalogRow::Changes(b, None),
            CatalogRow::Import(Uuid::from_u128(1), None),
        ];
        assert_eq!(taken, want);
        catalog.give_back();
        assert_eq!(catalog.waiting(), 3);
        // What is shown again, and not corrected, needs no row.
        let shown = VisibilitySet { visibility: Visibility::Shown, reason: None, at: UnixMs(4) };
        catalog.set_visibility(a, shown);
        assert_eq!(catalog.changes(&a), None);
    }
}
