//! Titles of videos on their way from plays to the dashboards, where `--title-field` says where bodies have them: the newest of
//! a video goes with the next message that has its count. Shared by workers and publishers.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::model::dashboard_index::DashboardIndex;
use crate::model::play::read_title;
use crate::model::video_id::VideoId;
use crate::wire::VideoTitle;

/// Bytes of titles that wait for a dashboard, with what each costs beside its text: while one is away. What comes then is
/// not taken, and is taken when a later play brings it.
const WAITING_BYTES: usize = 16 << 20;

/// Bytes that a title costs beside its text: its entry in the map, at half its load.
const ENTRY_BYTES: usize = 112;

/// Videos whose title is known to have been taken, 8 bytes each: 2 MiB. Where two have one place their titles are sent more
/// often than they change.
const KNOWN: usize = 1 << 18;

/// What a batch's bodies have of titles.
#[derive(Debug, Default)]
pub(super) struct TitleNotes {
    text: String,
    /// Each title's video, and where it ends.
    ends: Vec<(VideoId, usize)>,
}

impl TitleNotes {
    /// Notes a title as it stands in a body, in JSON.
    pub(super) fn add(&mut self, video_id: VideoId, raw: &[u8]) {
        if read_title(raw, &mut self.text) {
            self.ends.push((video_id, self.text.len()));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets those behind the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().map_or(0, |(_, end)| *end));
    }

    fn iter(&self) -> impl Iterator<Item = (VideoId, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |(video_id, end)| {
            let title = &self.text[start..*end];
            start = *end;
            (*video_id, title)
        })
    }
}

/// All that wait.
pub(super) struct PlayTitles {
    /// A bit for each dashboard that is told.
    all: u8,
    inner: Mutex<TitlesState>,
}

#[derive(Default)]
struct TitlesState {
    waiting: HashMap<VideoId, WaitingTitle, RandomState>,
    /// What they cost.
    bytes: usize,
    /// By the hash of a video: that of it and its newest title. Empty until there is one.
    known: Vec<u64>,
    hasher: RandomState,
}

struct WaitingTitle {
    title: Box<str>,
    /// A bit for each dashboard that it waits for.
    untold: u8,
}

impl PlayTitles {
    /// None yet, for so many dashboards.
    pub(super) fn new(dashboards: usize) -> Self {
        let all = DashboardIndex::all(dashboards).fold(0, |all, dashboard| all | bit(dashboard));
        Self { all, inner: Mutex::default() }
    }

    /// Takes a batch's: of each video the newest.
    pub(super) fn add(&self, notes: &TitleNotes) {
        if notes.len() > 0 {
            let mut inner = self.inner.lock();
            notes.iter().for_each(|(video_id, title)| inner.add(video_id, title, self.all));
        }
    }

    /// What a message with these videos tells a dashboard.
    pub(super) fn of(
        &self,
        dashboard: DashboardIndex,
        videos: impl Iterator<Item = VideoId>,
    ) -> Vec<VideoTitle> {
        let inner = self.inner.lock();
        if inner.waiting.is_empty() {
            return Vec::new();
        }
        videos
            .filter_map(|video_id| {
                let waiting = inner.waiting.get(&video_id)?;
                let title = (waiting.untold & bit(dashboard) != 0).then(|| (*waiting.title).into());
                Some(VideoTitle { video_id, title: title? })
            })
            .collect()
    }

    /// A dashboard was told these.
    pub(super) fn told(&self, dashboard: DashboardIndex, titles: &[VideoTitle]) {
        if titles.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for VideoTitle { video_id, title } in titles {
            // Unless a newer one has come meanwhile.
            if let Some(waiting) = inner.waiting.get_mut(video_id)
                && *waiting.title == **title
            {
                waiting.untold &= !bit(dashboard);
                if waiting.untold == 0 {
                    inner.waiting.remove(video_id);
                    inner.bytes -= cost(title);
                }
            }
        }
    }

    /// A dashboard has another database, which knows of none: plays bring them again.
    pub(super) fn forget(&self) {
        self.inner.lock().known.fill(0);
    }
}

impl TitlesState {
    fn add(&mut self, video_id: VideoId, title: &str, all: u8) {
        if self.known.is_empty() {
            self.known = vec![0; KNOWN];
        }
        let place = self.hasher.hash_one(video_id) as usize % KNOWN;
        let hash = self.hasher.hash_one((video_id, title));
        if self.known[place] == hash {
            return;
        }
        let before = self.waiting.get(&video_id).map_or(0, |waiting| cost(&waiting.title));
        let bytes = self.bytes - before + cost(title);
        if bytes <= WAITING_BYTES {
            self.known[place] = hash;
            self.bytes = bytes;
            self.waiting.insert(video_id, WaitingTitle { title: title.into(), untold: all });
        }
    }
}

fn cost(title: &str) -> usize {
    ENTRY_BYTES + title.len()
}

fn bit(dashboard: DashboardIndex) -> u8 {
    1 << dashboard.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(titles: &[(u128, &str)]) -> TitleNotes {
        let mut notes = TitleNotes::default();
        for (video, title) in titles {
            notes.add(VideoId::from_u128(*video), format!("\"{title}\"").as_bytes());
        }
        notes
    }

    fn of(titles: &PlayTitles, dashboard: DashboardIndex, videos: &[u128]) -> Vec<(u128, String)> {
        let ids = videos.iter().map(|video| VideoId::from_u128(*video));
        let found = titles.of(dashboard, ids);
        let number = |id: VideoId| id.guid().unwrap().as_u128();
        found.into_iter().map(|found| (number(found.video_id), found.title)).collect()
    }

    #[test]
    fn the_newest_title_is_told_each_dashboard_once() {
        let titles = PlayTitles::new(2);
        let [first, second] = [0, 1].map(|n| DashboardIndex::all(2).nth(n).unwrap());
        titles.add(&notes(&[(1, "a"), (2, "b"), (1, "c")]));
        let want = vec![(1, "c".to_owned()), (2, "b".to_owned())];
        assert_eq!(of(&titles, first, &[1, 2, 3]), want);
        let told = titles.of(first, [1, 2].map(VideoId::from_u128).into_iter());
        titles.told(first, &told);
        assert_eq!(of(&titles, first, &[1, 2]), []);
        assert_eq!(of(&titles, second, &[1, 2]), want);
        // The same again is nothing new; another one is.
        titles.add(&notes(&[(1, "c"), (2, "d")]));
        assert_eq!(of(&titles, first, &[1, 2]), [(2, "d".to_owned())]);
        // What was told is not the newest any more.
        titles.told(second, &told);
        assert_eq!(of(&titles, second, &[1, 2]), [(2, "d".to_owned())]);
        titles.forget();
        titles.add(&notes(&[(1, "c")]));
        assert_eq!(of(&titles, first, &[1]), [(1, "c".to_owned())]);
    }

    #[test]
    fn what_was_noted_of_a_body_is_forgotten_with_it() {
        let mut notes = notes(&[(1, "a")]);
        notes.add(VideoId::from_u128(2), b"7");
        assert_eq!(notes.len(), 1);
        notes.add(VideoId::from_u128(2), b"\"bb\"");
        notes.truncate(1);
        notes.add(VideoId::from_u128(3), b"\"c\"");
        let all: Vec<_> = notes.iter().map(|(_, title)| title).collect();
        assert_eq!(all, ["a", "c"]);
    }

    #[test]
    fn memory_is_bounded_and_what_had_no_room_comes_again() {
        let titles = PlayTitles::new(1);
        let long = "x".repeat(300);
        let all = |from: u128| -> Vec<_> {
            (from..from + 50_000).map(|video| (video, long.as_str())).collect()
        };
        titles.add(&notes(&all(0)));
        let waiting = titles.inner.lock().waiting.len();
        assert!((30_000..50_000).contains(&waiting), "{waiting}");
        assert!(titles.inner.lock().bytes <= WAITING_BYTES);
        let first = DashboardIndex::FIRST;
        let ids: Vec<_> = (0..50_000).map(VideoId::from_u128).collect();
        let told = titles.of(first, ids.iter().copied());
        titles.told(first, &told);
        assert_eq!(titles.inner.lock().bytes, 0);
        let last = [(49_999, long.as_str())];
        titles.add(&notes(&last));
        assert_eq!(of(&titles, first, &[49_999]).len(), 1);
    }
}
