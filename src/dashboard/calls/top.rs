//! `/api/top`: the most played videos of a period.

use std::sync::Arc;

use super::period::{self, FROM, TO};
use crate::dashboard::answer::{CallError, CallResult, json};
use crate::dashboard::app::App;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::{Call, ChoiceParam, NumberParam};
use crate::dashboard::store::{Period, Top, TopOrder};
use crate::runtime::clock::unix_ms;

/// The period when the call does not say.
const LENGTH_MS: i64 = 30 * 60_000;

/// The most buckets that a list is summed from: a day of minutes, or two months of hours.
const BUCKETS_MAX: i64 = 1_440;

static LIMIT: NumberParam =
    NumberParam { name: "limit", about: "rows", range: (1, 100), default: Some(20) };

static ORDER: ChoiceParam<TopOrder> = ChoiceParam {
    name: "order",
    about: "which come first: the most plays, or the greatest change against the period before, up or down",
    values: &[("plays", TopOrder::Plays), ("change", TopOrder::Change)],
    allowed: "plays or change",
};

pub(in super::super) const TOP: Operation = Operation {
    id: "getTop",
    summary: "The most played videos of a period, or those that have changed most",
    parameters: &[&LIMIT, &FROM, &TO, &ORDER],
    success: "the last 30 minutes by default, in whole minutes, hours or days; found again after some seconds",
    media: &[(JSON, of::<Top>)],
    ..PLAIN
};

/// The list of the call's period, of as many rows as `limit` reads.
pub(super) fn find(
    app: &App,
    call: Call<'_>,
    order: TopOrder,
    limit: &NumberParam,
) -> Result<Arc<Top>, CallError> {
    let limit = limit.read_u32(call)?;
    let (from, to) = period::read(call, unix_ms(), LENGTH_MS)?;
    let scale = app.store.scale_for(from, to, BUCKETS_MAX);
    let key = (scale, Period::of(scale, from, to), order, limit as usize);
    app.tops
        .get(key, |(scale, period, order, limit)| app.store.top_in(*scale, *period, *order, *limit))
}

pub(in super::super) fn top(app: &App, call: Call<'_>) -> CallResult {
    json(&*find(app, call, ORDER.read(call)?, &LIMIT)?)
}
