//! What a list of videos is asked for and answered with (pure). `index` finds the rows.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use super::search::Search;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::wire::ChangedVideo;

/// The most rows of one list.
pub(crate) const LIST_MAX: u32 = 500;

/// One video's row.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct VideoRow {
    /// Which video.
    pub(crate) video_id: VideoId,
    /// Its plays, over all processors and imports, with its correction.
    #[schemars(range(min = 0))]
    pub(crate) plays: i64,
    /// When its count changed last.
    pub(crate) updated_at: UnixMs,
    /// When it was played last; `None`: no play said so.
    pub(crate) last_played_at: Option<UnixMs>,
    /// Its title; `None`: none is known.
    pub(crate) title: Option<String>,
    /// Where it is; `None`: nobody said so.
    pub(crate) url: Option<String>,
}

/// A video as it is shown alone.
pub(crate) struct ShownVideo {
    pub(crate) row: VideoRow,
    /// Its place by plays, 1 for the most; of one that is not in lists the place that it would have.
    pub(crate) rank: u64,
    /// What is changed of it.
    pub(crate) changed: Option<ChangedVideo>,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Column {
    /// [`VideoRow::plays`].
    Plays,
    /// [`VideoRow::video_id`].
    VideoId,
    /// [`VideoRow::updated_at`].
    UpdatedAt,
    /// [`VideoRow::last_played_at`]; without one as if it were 0.
    LastPlayedAt,
}

impl Column {
    /// Each with the name that calls give it.
    pub(crate) const ALL: [(&str, Self); 4] = [
        ("plays", Self::Plays),
        ("video_id", Self::VideoId),
        ("updated_at", Self::UpdatedAt),
        ("last_played_at", Self::LastPlayedAt),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("plays", |(name, _)| name)
    }
}

/// A row's place in a list: what `next` of one page says and `after` asks the following one for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cursor {
    /// What the list is ordered by.
    pub(crate) column: Column,
    /// The row's value of it; 0 in a list by id.
    pub(crate) value: i64,
    /// Which video the row is of.
    pub(crate) video_id: VideoId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.column.name(), self.value, self.video_id)
    }
}

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(());
        let (column, value, video_id) = (part()?, part()?, part()?);
        let (_, column) = Column::ALL.iter().find(|(name, _)| *name == column).ok_or(())?;
        let cursor = Self {
            column: *column,
            value: value.parse().map_err(drop)?,
            video_id: VideoId::find(video_id).ok().flatten().ok_or(())?,
        };
        // `+5`, and a UUID in braces, are nothing that was ever given out.
        (cursor.to_string() == text).then_some(cursor).ok_or(())
    }
}

/// Which rows, in which order.
#[derive(Clone, Debug)]
pub(crate) struct ListQuery {
    /// What it is ordered by.
    pub(crate) column: Column,
    /// The highest first.
    pub(crate) descending: bool,
    /// The most rows; [`LIST_MAX`] at most.
    pub(crate) limit: u32,
    /// Rows left out first.
    pub(crate) offset: u32,
    /// Only rows behind this one.
    pub(crate) after: Option<Cursor>,
    /// Which videos; `None`: all.
    pub(crate) search: Option<Search>,
}

/// What a list is answered with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    /// In the order asked for.
    pub(crate) rows: Vec<VideoRow>,
    /// How many videos are wanted.
    pub(crate) matching: u64,
    /// Where the next page begins; `None` behind the last row.
    pub(crate) next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_was_given_out_and_nothing_else() {
        let cursor = Cursor { column: Column::Plays, value: -5, video_id: VideoId::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in [
            "",
            "plays",
            "plays.5",
            "plays.+5.00000000-0000-0000-0000-000000000007",
            "plays.5.{00000000-0000-0000-0000-000000000007}",
            "plays.5.00000000000000000000000000000007",
            "likes.5.00000000-0000-0000-0000-000000000007",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
