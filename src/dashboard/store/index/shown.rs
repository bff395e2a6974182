//! What is shown of the counts: corrected, hidden or deleted where the catalog says so, each video in its place of every
//! order, and with its title (pure).

use super::{Entry, Index, SEVERAL};
use crate::dashboard::store::catalog::{Catalog, VideoChanges};
use crate::dashboard::store::list::VideoRow;
use crate::dashboard::store::rank::Ranking;
use crate::model::counts::Totals;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::wire::{ChangedVideo, VideoTexts, Visibility};

/// How a row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    plays: i64,
    updated_at: i64,
    last_played_at: i64,
    visibility: Visibility,
}

impl Shown {
    fn of(row: &Entry, changes: Option<&VideoChanges>) -> Self {
        let added = changes.map_or(0, VideoChanges::added);
        Self {
            plays: row.plays.saturating_add(added).max(0),
            updated_at: row.updated_at.0,
            last_played_at: row.last_played_at.0,
            visibility: changes.map_or(Visibility::Shown, VideoChanges::visibility),
        }
    }

    fn is_listed(&self) -> bool {
        self.visibility == Visibility::Shown
    }

    fn is_in_sums(&self) -> bool {
        self.visibility != Visibility::Deleted
    }
}

impl Index {
    fn shown(&self, id: &VideoId, row: &Entry) -> Shown {
        // Few are changed: the others are not looked up.
        let changes = if row.is_changed { self.catalog.changes(id) } else { None };
        let shown = Shown::of(row, changes);
        if self.is_taken_back(id, row) {
            return Shown { visibility: Visibility::Deleted, ..shown };
        }
        shown
    }

    /// Whether only imports that were taken back have told of a video.
    pub(super) fn is_taken_back(&self, id: &VideoId, row: &Entry) -> bool {
        if row.plays != 0 || self.taken_back.is_empty() {
            return false;
        }
        match self.several.get(id).filter(|_| row.processor == SEVERAL) {
            Some(several) => several.iter().all(|told| self.taken_back.contains(&told.processor)),
            None => self.taken_back.contains(&row.processor),
        }
    }

    /// How a row is shown, before it changes; `None` while none is.
    pub(super) fn shown_now(&self, id: &VideoId, row: Option<&Entry>) -> Option<Shown> {
        row.filter(|_| !self.is_loading).map(|row| self.shown(id, row))
    }

    /// Shows a row that has changed, in each order and in the sums.
    pub(super) fn show(&mut self, id: VideoId, before: Option<Shown>, row: &Entry) {
        if !self.is_loading {
            let new = self.shown(&id, row);
            self.reshow(id, before, Some(new));
        }
    }

    fn reshow(&mut self, id: VideoId, old: Option<Shown>, new: Option<Shown>) {
        if let Some(old) = old.filter(Shown::is_in_sums) {
            self.totals.videos -= 1;
            self.totals.plays = self.totals.plays.saturating_sub(old.plays.unsigned_abs());
        }
        if let Some(new) = new.filter(Shown::is_in_sums) {
            self.totals.videos += 1;
            self.totals.plays = self.totals.plays.saturating_add(new.plays.unsigned_abs());
        }
        let (old, new) = (old.filter(Shown::is_listed), new.filter(Shown::is_listed));
        let plays = |shown: Option<Shown>| shown.map(|shown| shown.plays);
        if plays(old) != plays(new) {
            self.catalog.titles_mut().set_listed(&id, plays(new));
        }
        let mut shift = |order: fn(&mut Self) -> &mut Ranking, value: fn(&Shown) -> i64| {
            let (from, to) = (old.as_ref().map(value), new.as_ref().map(value));
            if from != to {
                from.into_iter().for_each(|from| order(self).remove(&(from, id)));
                to.into_iter().for_each(|to| order(self).insert((to, id)));
            }
        };
        shift(|index| &mut index.by_id, |_| 0);
        shift(|index| &mut index.by_plays, |row| row.plays);
        shift(|index| &mut index.by_updated_at, |row| row.updated_at);
        shift(|index| &mut index.by_last_played_at, |row| row.last_played_at);
    }

    /// Makes every order and the sums anew.
    pub(super) fn show_all(&mut self) {
        let mut listed = Vec::with_capacity(self.videos.len());
        let mut totals = Totals::default();
        for (id, row) in &self.videos {
            let shown = self.shown(id, row);
            if shown.is_in_sums() {
                totals.videos += 1;
                totals.plays = totals.plays.saturating_add(shown.plays.unsigned_abs());
            }
            if shown.is_listed() {
                listed.push((*id, shown));
            }
        }
        let titles = self.catalog.titles_mut();
        titles.unlist_all();
        listed.iter().for_each(|(id, shown)| titles.set_listed(id, Some(shown.plays)));
        let order = |value: fn(&Shown) -> i64| {
            Ranking::of(listed.iter().map(|(id, row)| (value(row), *id)).collect())
        };
        (self.by_plays, self.by_id) = (order(|row| row.plays), order(|_| 0));
        self.by_updated_at = order(|row| row.updated_at);
        self.by_last_played_at = order(|row| row.last_played_at);
        self.totals = totals;
    }

    /// Changes what is shown of a video.
    pub(in crate::dashboard::store) fn change(
        &mut self,
        id: VideoId,
        act: impl FnOnce(&mut Catalog),
    ) {
        let old = self.videos.get(&id).map(|row| self.shown(&id, row));
        act(&mut self.catalog);
        let is_changed = self.catalog.changes(&id).is_some();
        if let Some(row) = self.videos.get_mut(&id) {
            row.is_changed = is_changed;
        }
        if !self.is_loading {
            let new = self.videos.get(&id).map(|row| self.shown(&id, row));
            self.reshow(id, old, new);
        }
    }

    /// Sets what a video is known by, as somebody has said it; whether anything has changed.
    pub(in crate::dashboard::store) fn set_by_hand(
        &mut self,
        id: VideoId,
        texts: &VideoTexts,
    ) -> bool {
        let has_changed = self.catalog.set_by_hand(id, texts);
        if has_changed {
            self.list_title(&id);
        }
        has_changed
    }

    /// Sets a title that a play says, unless one was set by hand; whether anything has changed.
    pub(in crate::dashboard::store) fn set_by_play(&mut self, id: VideoId, title: &str) -> bool {
        let has_changed = self.catalog.set_by_play(id, title);
        if has_changed {
            self.list_title(&id);
        }
        has_changed
    }

    /// A title that is new is found if its video is in lists.
    fn list_title(&mut self, id: &VideoId) {
        let shown = self.videos.get(id).map(|row| self.shown(id, row)).filter(Shown::is_listed);
        self.catalog.titles_mut().set_listed(id, shown.map(|shown| shown.plays));
    }

    /// One video, without its title.
    pub(super) fn untitled(&self, id: &VideoId) -> Option<VideoRow> {
        let row = self.videos.get(id)?;
        Some(VideoRow {
            video_id: *id,
            plays: self.shown(id, row).plays,
            updated_at: row.updated_at,
            last_played_at: (row.last_played_at.0 > 0).then_some(row.last_played_at),
            title: None,
            url: None,
        })
    }

    /// One video, shown or not.
    pub(in crate::dashboard::store) fn video(&self, id: &VideoId) -> Option<VideoRow> {
        self.videos.get(id).filter(|row| !self.is_taken_back(id, row))?;
        let (title, url) = self.texts(id);
        Some(VideoRow { title, url, ..self.untitled(id)? })
    }

    /// A video's title and address.
    pub(in crate::dashboard::store) fn texts(
        &self,
        id: &VideoId,
    ) -> (Option<String>, Option<String>) {
        let Some(row) = self.catalog.titles().get(id) else { return (None, None) };
        let url = row.url.as_deref().map(|url| url.as_ref().to_owned());
        (row.title.as_deref().map(str::to_owned), url)
    }

    /// A video's place by plays: 1 for the most. Of one that is not in lists the place that it would have.
    pub(in crate::dashboard::store) fn rank(&self, video: &VideoRow) -> u64 {
        let place = (video.plays, video.video_id);
        let below = self.by_plays.rank(&place);
        let is_there = self.by_plays.upwards(below).next() == Some(&place);
        (self.by_plays.len() - below + usize::from(!is_there)) as u64
    }

    /// What is changed of a video; `None`: nothing.
    pub(in crate::dashboard::store) fn changed_video(&self, id: &VideoId) -> Option<ChangedVideo> {
        let VideoChanges { visibility, correction } = self.catalog.changes(id)?.clone();
        let (title, _) = self.texts(id);
        let set = visibility.as_ref();
        Some(ChangedVideo {
            video_id: *id,
            title,
            visibility: set.map_or(Visibility::Shown, |set| set.visibility),
            reason: set.and_then(|set| set.reason.clone()),
            at: set.map(|set| set.at),
            correction,
            counted: self.videos.get(id).map_or(0, |row| row.plays),
        })
    }

    /// Every video of which something is changed, in the order of their ids.
    pub(in crate::dashboard::store) fn changed_videos(&self) -> Vec<ChangedVideo> {
        let mut ids: Vec<_> = self.catalog.all_changes().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.iter().filter_map(|id| self.changed_video(id)).collect()
    }

    /// The value of a column in its order.
    pub(super) fn place_of(&self, id: &VideoId) -> Option<(i64, UnixMs, UnixMs)> {
        let row = self.videos.get(id)?;
        Some((self.shown(id, row).plays, row.updated_at, row.last_played_at))
    }
}
