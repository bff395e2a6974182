//! What is told of videos besides their counts: titles, what is shown of them, and counts of an older program (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::Invalid;
use crate::model::title::{
    IMPORT_NAME_MAX, REASON_MAX, TITLE_MAX, TextKind, TextRefusal, URL_MAX, check_text, check_url,
};
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::model::video_id::VideoId;

/// The most titles that one message of a processor may carry.
pub const TITLES_MAX: usize = 20;

/// The most videos in one body of `POST /api/videos`, and counts in one of `POST /api/imports`. A body has 1 MiB, which
/// very long titles and addresses fill sooner.
pub const BATCH_MAX: usize = 1_000;

/// The highest correction, and its lowest below 0: as high as a count may be.
const CORRECTION_MAX: i64 = MAX_PLAYS as i64;

impl From<TextRefusal> for Invalid {
    fn from(refusal: TextRefusal) -> Self {
        Self::new(refusal.to_string())
    }
}

/// A video's title, as its plays say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoTitle {
    /// Which video.
    pub video_id: VideoId,
    /// Its title: plain text, without control characters.
    #[schemars(length(min = 1, max = TITLE_MAX))]
    pub title: String,
}

/// Refuses titles that a processor would not send.
///
/// # Errors
/// Too many, or one that is no title.
pub(super) fn check_titles(titles: &[VideoTitle]) -> Result<(), Invalid> {
    if titles.len() > TITLES_MAX {
        let reason = format!("a message has at most {TITLES_MAX} titles, not {}", titles.len());
        return Err(Invalid::new(reason));
    }
    for VideoTitle { video_id, title } in titles {
        check_text(TextKind::Title, title)
            .map_err(|refusal| Invalid::new(format!("video {video_id}: {refusal}")))?;
    }
    Ok(())
}

/// The body of `PUT /api/videos/{video_id}`: what people know the video by. What is null or absent is taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoTexts {
    /// Its title: plain text, without control characters.
    #[serde(default)]
    #[schemars(length(min = 1, max = TITLE_MAX))]
    pub title: Option<String>,
    /// Where it is: `http` or `https`.
    #[serde(default)]
    #[schemars(length(min = 1, max = URL_MAX), regex(pattern = r"^[hH][tT][tT][pP][sS]?://"))]
    pub url: Option<String>,
}

impl VideoTexts {
    /// Refuses what is no title, or no address.
    ///
    /// # Errors
    /// Why.
    pub fn check(&self) -> Result<(), Invalid> {
        Ok(check_texts(self.title.as_deref(), self.url.as_deref())?)
    }
}

fn check_texts(title: Option<&str>, url: Option<&str>) -> Result<(), TextRefusal> {
    title.map_or(Ok(()), |title| check_text(TextKind::Title, title))?;
    url.map_or(Ok(()), check_url)
}

/// One video of a [`VideosUpdate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TitledVideo {
    /// Which video.
    pub video_id: VideoId,
    /// Its title; null or absent: none.
    #[serde(default)]
    #[schemars(length(min = 1, max = TITLE_MAX))]
    pub title: Option<String>,
    /// Where it is; null or absent: nowhere.
    #[serde(default)]
    #[schemars(length(min = 1, max = URL_MAX), regex(pattern = r"^[hH][tT][tT][pP][sS]?://"))]
    pub url: Option<String>,
}

impl TitledVideo {
    /// What it is known by.
    pub fn texts(self) -> (VideoId, VideoTexts) {
        (self.video_id, VideoTexts { title: self.title, url: self.url })
    }
}

/// The body of `POST /api/videos`: what many videos are known by. A later one of the same video wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideosUpdate {
    /// The videos.
    #[schemars(length(min = 1, max = BATCH_MAX))]
    pub videos: Vec<TitledVideo>,
}

impl VideosUpdate {
    /// Refuses what is no title or no address, and names the video.
    ///
    /// # Errors
    /// Why; nothing of it is taken then.
    pub fn check(&self) -> Result<(), Invalid> {
        check_batch(self.videos.len(), "videos")?;
        for TitledVideo { video_id, title, url } in &self.videos {
            check_texts(title.as_deref(), url.as_deref())
                .map_err(|why| Invalid::new(format!("video {video_id}: {why}")))?;
        }
        Ok(())
    }
}

fn check_batch(len: usize, of: &str) -> Result<(), Invalid> {
    if (1..=BATCH_MAX).contains(&len) {
        return Ok(());
    }
    Err(Invalid::new(format!("a message has 1 to {BATCH_MAX} {of}, not {len}")))
}

/// Whether a video is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// In lists and in the sums.
    #[default]
    Shown,
    /// In the sums alone.
    Hidden,
    /// In neither, and so for plays that are still to come.
    Deleted,
}

/// The body of `PUT /api/videos/{video_id}/visibility`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisibilityChange {
    /// From now on.
    pub visibility: Visibility,
    /// Why; not needed to show a video again.
    #[serde(default)]
    #[schemars(length(min = 1, max = REASON_MAX))]
    pub reason: Option<String>,
}

impl VisibilityChange {
    /// Refuses a change without a reason, where one is needed, and a reason that is none.
    ///
    /// # Errors
    /// Why.
    pub fn check(&self) -> Result<(), Invalid> {
        match &self.reason {
            Some(reason) => Ok(check_text(TextKind::Reason, reason)?),
            None if self.visibility == Visibility::Shown => Ok(()),
            None => Err(Invalid::new("reason is missing: say why the video is not to be shown")),
        }
    }
}

/// The body of `PUT /api/videos/{video_id}/correction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionChange {
    /// What is added to what is counted, whatever was added before; 0: nothing. What is shown is never below 0.
    #[schemars(range(min = -CORRECTION_MAX, max = CORRECTION_MAX))]
    pub plays: i64,
    /// Why.
    #[schemars(length(min = 1, max = REASON_MAX))]
    pub reason: String,
}

impl CorrectionChange {
    /// Refuses a number that no count has, and a reason that is none.
    ///
    /// # Errors
    /// Why.
    pub fn check(&self) -> Result<(), Invalid> {
        if !(-CORRECTION_MAX..=CORRECTION_MAX).contains(&self.plays) {
            let reason = format!(
                "a correction goes from -{CORRECTION_MAX} to {CORRECTION_MAX}, not {}",
                self.plays
            );
            return Err(Invalid::new(reason));
        }
        Ok(check_text(TextKind::Reason, &self.reason)?)
    }
}

/// What is added to a video's counts, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Correction {
    /// Added to what is counted; not 0.
    pub plays: i64,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: UnixMs,
}

/// A video of which not all is shown as it was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedVideo {
    /// Which video.
    pub video_id: VideoId,
    /// Its title; null: none is known.
    pub title: Option<String>,
    /// Whether it is shown.
    pub visibility: Visibility,
    /// Why it is not shown, or shown again; null: nobody said so.
    pub reason: Option<String>,
    /// When that was decided; null: it never was.
    pub at: Option<UnixMs>,
    /// What is added to its counts; null: nothing.
    pub correction: Option<Correction>,
    /// What is counted of it, without the correction.
    pub counted: i64,
}

/// The answer to `GET /api/videos/changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedVideoList {
    /// In the order of their ids.
    pub videos: Vec<ChangedVideo>,
}

/// One count of an older program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedCount {
    /// Which video.
    pub video_id: VideoId,
    /// Its plays there.
    #[schemars(range(max = MAX_PLAYS))]
    pub plays: u64,
}

/// The body of `POST /api/imports`: counts of an older program, or a part of them. They are absolute: of each (import,
/// video) the highest that was told counts, so that a repeat changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportUpdate {
    /// Which import: the same id in each of its messages.
    pub import: Uuid,
    /// What it is called, usually a file's name.
    #[schemars(length(min = 1, max = IMPORT_NAME_MAX))]
    pub name: String,
    /// Each video at most once.
    #[schemars(length(min = 1, max = BATCH_MAX))]
    pub counts: Vec<ImportedCount>,
}

impl ImportUpdate {
    /// Refuses what no older program has counted.
    ///
    /// # Errors
    /// Why; nothing of it is taken then.
    pub fn check(&self) -> Result<(), Invalid> {
        check_text(TextKind::ImportName, &self.name)?;
        check_batch(self.counts.len(), "counts")?;
        let mut ids: Vec<VideoId> = self.counts.iter().map(|count| count.video_id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Invalid::new(format!("video {} is there twice", twice[0])));
        }
        match self.counts.iter().find(|count| count.plays > MAX_PLAYS) {
            Some(ImportedCount { video_id, plays }) => Err(Invalid::new(format!(
                "video {video_id}: {plays} plays are over the limit of {MAX_PLAYS}"
            ))),
            None => Ok(()),
        }
    }
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportRow {
    /// Which.
    pub import: Uuid,
    /// What it is called.
    pub name: String,
    /// When it began.
    pub at: UnixMs,
    /// How many videos it has counts of.
    pub videos: u64,
    /// The sum of those counts.
    pub plays: u64,
}

/// The answer to `GET /api/imports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imports {
    /// The newest first.
    pub imports: Vec<ImportRow>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> VideoId {
        VideoId::parse(text).unwrap()
    }

    #[test]
    fn the_refusal_names_the_video() {
        let video = |title: &str| TitledVideo {
            video_id: id("dQw4w9WgXcQ"),
            title: Some(title.to_owned()),
            url: None,
        };
        let check = |videos: Vec<_>| VideosUpdate { videos }.check().map_err(|why| why.to_string());
        assert_eq!(check(vec![video("a")]), Ok(()));
        assert_eq!(
            check(vec![video("a"), video("b\n")]),
            Err("video dQw4w9WgXcQ: a title has no control characters; character 2 is one".into())
        );
        assert_eq!(check(Vec::new()), Err("a message has 1 to 1000 videos, not 0".into()));
        let many = check(vec![video("a"); 1_001]);
        assert_eq!(many, Err("a message has 1 to 1000 videos, not 1001".into()));
        let url = VideoTexts { title: None, url: Some("javascript:alert(1)".to_owned()) };
        assert!(url.check().is_err());
        assert_eq!(VideoTexts::default().check(), Ok(()));
    }

    #[test]
    fn what_is_not_shown_has_a_reason() {
        let check = |visibility, reason: Option<&str>| {
            VisibilityChange { visibility, reason: reason.map(str::to_owned) }.check().is_ok()
        };
        assert!(check(Visibility::Shown, None) && check(Visibility::Hidden, Some("law")));
        assert!(!check(Visibility::Hidden, None) && !check(Visibility::Deleted, Some(" ")));
        assert!(!check(Visibility::Shown, Some("")));
        let check = |plays, reason: &str| {
            CorrectionChange { plays, reason: reason.to_owned() }.check().is_ok()
        };
        assert!(check(-500, "bots") && check(CORRECTION_MAX, "x") && check(0, "x"));
        assert!(!check(-500, "") && !check(-CORRECTION_MAX - 1, "x") && !check(i64::MIN, "x"));
    }

    #[test]
    fn an_import_has_each_video_once() {
        let count = |text: &str, plays| ImportedCount { video_id: id(text), plays };
        let check = |counts| {
            let name = "counts.csv".to_owned();
            ImportUpdate { import: Uuid::nil(), name, counts }
                .check()
                .map_err(|why| why.to_string())
        };
        assert_eq!(check(vec![count("b", 1), count("a", MAX_PLAYS)]), Ok(()));
        assert_eq!(
            check(vec![count("b", 1), count("a", 1), count("b", 2)]),
            Err("video b is there twice".into())
        );
        assert!(check(vec![count("a", MAX_PLAYS + 1)]).unwrap_err().starts_with("video a: "));
        assert!(check(Vec::new()).is_err() && check(vec![count("a", 1); 1_001]).is_err());
    }
}
