//! Which titles that plays say are committed: those that are news, in the order in which a commit's jobs say them (pure).

use foldhash::HashMap;

use crate::dashboard::store::catalog::Catalog;
use crate::dashboard::store::catalog_change::CatalogChange;
use crate::model::video_id::VideoId;
use crate::wire::VideoTitle;

/// What the jobs of one commit say.
pub(super) struct ToldTitles<'a> {
    catalog: &'a Catalog,
    /// The most titles that there may be.
    most: usize,
    /// What those before have said that is news.
    told: HashMap<VideoId, &'a str>,
    /// How many of them are of videos that have no title yet.
    new: usize,
}

impl<'a> ToldTitles<'a> {
    /// Nothing is said yet.
    pub(super) fn new(catalog: &'a Catalog, most: usize) -> Self {
        Self { catalog, most, told: HashMap::default(), new: 0 }
    }

    /// What is news of the next job's titles, if any is. A new one that is too many is none: its plays count all the same.
    pub(super) fn news(&mut self, titles: &'a [VideoTitle]) -> Option<CatalogChange> {
        let news: Vec<_> = titles.iter().filter(|told| self.take(told)).cloned().collect();
        (!news.is_empty()).then_some(CatalogChange::Titles(news))
    }

    fn take(&mut self, VideoTitle { video_id, title }: &'a VideoTitle) -> bool {
        let titles = self.catalog.titles();
        let is_news = match self.told.get(video_id) {
            Some(before) => before != title,
            None if !self.catalog.is_news_by_play(video_id, title) => false,
            None if titles.get(video_id).is_some() => true,
            None => {
                let has_room = titles.len() + self.new < self.most;
                self.new += usize::from(has_room);
                has_room
            }
        };
        if is_news {
            self.told.insert(*video_id, title);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::VideoTexts;

    fn told(video: &str, title: &str) -> VideoTitle {
        VideoTitle { video_id: video.parse().unwrap(), title: title.to_owned() }
    }

    #[test]
    fn new_titles_end_at_the_limit_and_others_go_on() {
        let mut catalog = Catalog::default();
        catalog.set_by_play("a".parse().unwrap(), "one");
        let by_hand = VideoTexts { title: Some("hand".to_owned()), url: None };
        catalog.set_by_hand("b".parse().unwrap(), &by_hand);
        let mut titles = ToldTitles::new(&catalog, 3);
        for (told, news) in [
            (vec![told("a", "one"), told("b", "two")], None),
            (vec![told("c", "x"), told("d", "x"), told("a", "two")], Some(vec![0, 2])),
            // Those that are taken may change, and change back.
            (vec![told("c", "x"), told("c", "y"), told("a", "one")], Some(vec![1, 2])),
            (vec![told("d", "x")], None),
        ] {
            let want = news.map(|at: Vec<usize>| at.iter().map(|at| told[*at].clone()).collect());
            let told: &'static [_] = told.leak();
            assert_eq!(titles.news(told), want.map(CatalogChange::Titles), "{told:?}");
        }
    }
}
