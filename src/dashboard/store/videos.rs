//! What the store's callers ask of titles, of what is shown of videos, and of imports. Runs on their threads.

use foldhash::HashMap;
use uuid::Uuid;

use super::catalog::CatalogSums;
use super::job::{CatalogWrite, Job, Stored};
use super::list::ShownVideo;
use super::titles::TitleRow;
use super::top::{Top, TopOrder};
use super::{Period, Scale, Store};
use crate::model::counts::Totals;
use crate::model::video_id::VideoId;
use crate::wire::{ChangedVideo, ImportRow, Visibility};

/// Some of the videos that are known by something, and where the next ones begin.
pub(in crate::dashboard) type TitlesPage = (Vec<(VideoId, TitleRow)>, Option<u32>);

impl Store {
    /// Changes the catalog; returns after the commit.
    pub(in crate::dashboard) fn change(&self, write: CatalogWrite) -> Stored {
        self.commit(Job::Catalog(write))
    }

    /// One video.
    pub(in crate::dashboard) fn shown_video(&self, id: VideoId) -> Option<ShownVideo> {
        let index = self.state.index.read();
        let row = index.video(&id)?;
        let rank = index.rank(&row);
        Some(ShownVideo { row, rank, changed: index.changed_video(&id) })
    }

    /// Every video of which something is changed, in the order of their ids.
    pub(in crate::dashboard) fn changed_videos(&self) -> Vec<ChangedVideo> {
        self.state.index.read().changed_videos()
    }

    /// At most `most` of the videos that are known by something, from that place on, in no order that means anything.
    pub(in crate::dashboard) fn titles(&self, from: u32, most: usize) -> TitlesPage {
        self.state.index.read().catalog().titles().page(from, most)
    }

    /// Whether an import is known.
    pub(in crate::dashboard) fn has_import(&self, import: &Uuid) -> bool {
        self.state.index.read().catalog().import(import).is_some()
    }

    /// Every import, the newest first. Looks at every video.
    pub(in crate::dashboard) fn imports(&self) -> Vec<ImportRow> {
        let index = self.state.index.read();
        let imports: Vec<_> = index.catalog().imports().collect();
        let numbers: Vec<_> =
            imports.iter().map(|(_, import)| index.catalog().number(&import.key)).collect();
        let sums = index.sums_of(&numbers);
        let rows = imports.into_iter().zip(sums).map(|((id, import), sums)| ImportRow {
            import: *id,
            name: import.name.clone(),
            at: import.at,
            videos: sums.videos,
            plays: sums.plays,
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.at), row.import));
        rows
    }

    /// How much is in the catalog.
    pub(in crate::dashboard) fn catalog_sums(&self) -> CatalogSums {
        self.state.index.read().catalog().sums()
    }

    /// The sums over all videos but those that are deleted, and how many plays the ledgers of processors hold beyond what is
    /// published of them. `holdings`: what each ledger is said to hold; where less than is known, that.
    pub(in crate::dashboard) fn totals_and_unpublished(
        &self,
        holdings: &[(Uuid, u64)],
    ) -> (Totals, u64) {
        // Both of one moment: a publication moves plays from one to the other.
        let index = self.state.index.read();
        let ledgers = self.state.ledgers.read();
        let unpublished = holdings.iter().map(|(processor, holds)| {
            let key = ledgers.key(*processor);
            ledgers.held(&key).max(*holds).saturating_sub(index.plays_under(&key))
        });
        (index.totals(), unpublished.fold(0, u64::saturating_add))
    }

    /// Plays that processors have told: only its growth means anything.
    pub(in crate::dashboard) fn told(&self) -> u64 {
        self.state.index.read().told()
    }

    /// The most played videos of a period, with their titles.
    #[cfg(test)]
    pub(in crate::dashboard) fn top(
        &self,
        scale: Scale,
        period: Period,
        limit: usize,
    ) -> anyhow::Result<Top> {
        self.top_in(scale, period, TopOrder::Plays, limit)
    }

    /// The first videos of a period in that order, with their titles.
    pub(in crate::dashboard) fn top_in(
        &self,
        scale: Scale,
        period: Period,
        order: TopOrder,
        limit: usize,
    ) -> anyhow::Result<Top> {
        let unshown = self.unshown();
        let mut top = self.top_of_history(scale, period, (order, limit), &unshown)?;
        let index = self.state.index.read();
        for video in &mut top.top {
            (video.title, video.url) = index.texts(&video.video_id);
        }
        Ok(top)
    }

    /// The videos that are in no list.
    pub(super) fn unshown(&self) -> HashMap<VideoId, Visibility> {
        let index = self.state.index.read();
        let all = index.catalog().all_changes();
        all.map(|(id, changes)| (*id, changes.visibility()))
            .filter(|(_, visibility)| *visibility != Visibility::Shown)
            .collect()
    }
}
