//! The most played videos of a period, found in the history's tables.

use anyhow::Result;
use foldhash::{HashMap, HashMapExt};
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::Serialize;

use super::history::series;
use super::pending::Minutes;
use super::period::{Period, Scale};
use super::row::check_row;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;
use crate::wire::Visibility;

/// Parts of a [`TopVideo::spark`].
const SPARK: i64 = 24;

/// A video in [`Top`].
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct TopVideo {
    /// Which video.
    pub(crate) video_id: VideoId,
    /// Its title; `None`: none is known.
    pub(crate) title: Option<String>,
    /// Where it is; `None`: nobody said so.
    pub(crate) url: Option<String>,
    /// Its plays in the period.
    pub(crate) plays: i64,
    /// Of all plays in the period, 0 to 1.
    pub(crate) share: f64,
    /// Its plays in the period before; `None`: not all of that is known.
    pub(crate) before: Option<i64>,
    /// The plays of 24 equal parts of the period.
    pub(crate) spark: Vec<i64>,
}

/// The most played videos of a period.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Top {
    /// When the period's first bucket begins.
    pub(crate) from: UnixMs,
    /// When its last bucket ends.
    pub(crate) to: UnixMs,
    /// How long its buckets are.
    pub(crate) scale: Scale,
    /// When it was found.
    pub(crate) as_of: UnixMs,
    /// Since when all plays are known: they were recorded, and are still kept in buckets of that length.
    pub(crate) known_from: UnixMs,
    /// All plays in the period.
    pub(crate) total: i64,
    /// All plays in the period before; `None`: not all of that is known.
    pub(crate) total_before: Option<i64>,
    /// Videos that were played in the period; those that are deleted are in no figure.
    pub(crate) videos: usize,
    /// The most played first, of those that are shown.
    pub(crate) top: Vec<TopVideo>,
}

/// Which videos come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopOrder {
    /// Those with the most plays in the period.
    Plays,
    /// Those whose plays have changed most against the period before, up or down; none where that is not known.
    Change,
}

/// Which list is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopQuery<'a> {
    /// How long buckets are.
    pub(super) scale: Scale,
    /// In buckets of `scale`.
    pub(super) period: Period,
    /// Which come first.
    pub(super) order: TopOrder,
    /// The most videos.
    pub(super) limit: usize,
    /// Since when all plays by `scale` are known.
    pub(super) known_from: UnixMs,
    /// The present.
    pub(super) now: UnixMs,
    /// Videos that are not in lists.
    pub(super) unshown: &'a HashMap<VideoId, Visibility>,
}

/// A video's plays.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    // In the period, and in the one before it.
    plays: i64,
    before: i64,
}

/// The most played videos of a period; `pending` are (video, minute, plays) that the tables do not have.
///
/// Scans the period and the one before: about 0.3 s for a million rows.
pub(super) fn top(
    connection: &Connection,
    pending: &[(VideoId, i64, i64)],
    query: TopQuery<'_>,
) -> Result<Top> {
    let TopQuery { scale, period, order, limit, known_from, now, unshown } = query;
    let knows_before = scale.start(period.before().first) >= known_from;
    let mut sums = sums(connection, pending, scale, period)?;
    sums.retain(|id, _| unshown.get(id) != Some(&Visibility::Deleted));
    let total: i64 = sums.values().map(|sums| sums.plays).sum();
    let total_before: i64 = sums.values().map(|sums| sums.before).sum();
    let limit = if order == TopOrder::Change && !knows_before { 0 } else { limit };
    let (videos, ranked) = first_of(sums, order, limit, unshown);
    let mut own: HashMap<VideoId, Minutes> =
        ranked.iter().map(|(id, _)| (*id, Vec::new())).collect();
    for (id, minute, plays) in pending {
        if let Some(own) = own.get_mut(id) {
            own.push((*minute, *plays));
        }
    }
    let top = ranked
        .into_iter()
        .map(|(video_id, Sums { plays, before })| {
            let own = own.get(&video_id).map_or(&[][..], Vec::as_slice);
            let share = plays as f64 / total.max(1) as f64;
            let spark = spark(&series(connection, own, &video_id, scale, period)?, scale, period);
            let before = knows_before.then_some(before);
            Ok(TopVideo { video_id, title: None, url: None, plays, share, before, spark })
        })
        .collect::<Result<_>>()?;
    Ok(Top {
        from: scale.start(period.first),
        to: scale.start(period.last.saturating_add(1)),
        scale,
        as_of: now,
        known_from,
        total,
        total_before: knows_before.then_some(total_before),
        videos,
        top,
    })
}

/// The plays of every video in the period and in the one before it.
fn sums(
    connection: &Connection,
    pending: &[(VideoId, i64, i64)],
    scale: Scale,
    period: Period,
) -> Result<HashMap<VideoId, Sums>> {
    let before = period.before();
    let mut sums: HashMap<VideoId, Sums> = HashMap::new();
    let mut add = |bucket: i64, id: VideoId, more: i64| {
        if period.contains(bucket) {
            sums.entry(id).or_default().plays += more;
        } else if before.contains(bucket) {
            sums.entry(id).or_default().before += more;
        }
    };
    let table = scale.table();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT bucket, video_id, plays, row_check = row_check(bucket, video_id, plays)
         FROM {table} WHERE bucket BETWEEN ?1 AND ?2"
    ))?;
    let mut rows = statement.query([before.first, period.last])?;
    while let Some(row) = rows.next()? {
        check_row(connection, table, row.get(3)?)?;
        add(row.get(0)?, row.get(1)?, row.get(2)?);
    }
    for (id, minute, more) in pending {
        add(scale.of_minute(*minute), *id, *more);
    }
    Ok(sums)
}

/// How many videos were played in the period, and the first `limit` of those that are shown; among equals by plays, then by
/// id.
fn first_of(
    mut sums: HashMap<VideoId, Sums>,
    order: TopOrder,
    limit: usize,
    unshown: &HashMap<VideoId, Visibility>,
) -> (usize, Vec<(VideoId, Sums)>) {
    let videos = sums.values().filter(|sums| sums.plays > 0).count();
    let rank = |sums: &Sums| match order {
        TopOrder::Plays => sums.plays,
        TopOrder::Change => (sums.plays - sums.before).abs(),
    };
    sums.retain(|id, sums| rank(sums) > 0 && !unshown.contains_key(id));
    let mut ranked: Vec<_> = sums.into_iter().collect();
    let highest_first = |(one, of_one): &(VideoId, Sums), (other, of_other): &(VideoId, Sums)| {
        let ranks = (rank(of_other), of_other.plays).cmp(&(rank(of_one), of_one.plays));
        ranks.then(other.cmp(one))
    };
    if ranked.len() > limit {
        ranked.select_nth_unstable_by(limit, highest_first);
        ranked.truncate(limit);
    }
    ranked.sort_unstable_by(highest_first);
    (videos, ranked)
}

/// The plays of [`SPARK`] equal parts of the period.
fn spark(series: &[(UnixMs, i64)], scale: Scale, period: Period) -> Vec<i64> {
    let mut spark = vec![0; SPARK as usize];
    for (time, plays) in series {
        let part = (scale.bucket(*time) - period.first) * SPARK / period.buckets();
        spark[part as usize] += plays;
    }
    spark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_has_its_own_first() {
        let id = |text: &str| VideoId::parse(text).unwrap();
        let sums = || -> HashMap<VideoId, Sums> {
            let all = [
                ("a", 50, 50),
                ("b", 40, 10),
                ("c", 0, 45),
                ("d", 9, 0),
                ("e", 0, 0),
                ("f", 1, 100),
            ];
            all.map(|(name, plays, before)| (id(name), Sums { plays, before }))
                .into_iter()
                .collect()
        };
        let unshown = [(id("f"), Visibility::Hidden)].into_iter().collect();
        for (order, limit, want) in [
            (TopOrder::Plays, 9, "a b d"),
            (TopOrder::Plays, 2, "a b"),
            (TopOrder::Change, 9, "c b d"),
            (TopOrder::Change, 1, "c"),
            (TopOrder::Change, 0, ""),
        ] {
            let (videos, ranked) = first_of(sums(), order, limit, &unshown);
            let names: Vec<_> = ranked.iter().map(|(id, _)| id.to_string()).collect();
            assert_eq!((videos, names.join(" ").as_str()), (4, want), "{order:?} {limit}");
        }
    }
}
