//! Letting history go, by date: whole days, of all shards.

use std::time::Duration;

use futures::TryStreamExt;
use muster_core::time::Timestamp;

use super::name::{Day, root};
use super::{Error, History};
use crate::Clock;
use crate::collect::{Mode, Pace, delete_all};

const DAY_MILLIS: i64 = 86_400_000;

/// Lets go of the days that were over `days` ago, the oldest first; each object and its bytes are
/// told to `deleted`. Returns how long it takes until the oldest day that is left may go; `None`
/// when none is left.
pub(super) async fn expire(
    history: &History,
    clock: &Clock,
    days: u32,
    per_second: u32,
    mode: Mode,
    mut deleted: impl FnMut(u64) + Send,
) -> Result<Option<Duration>, Error> {
    let now = clock.now();
    let first_kept = Day(Day::of(now).0 - i64::from(days));
    let objects = history.store.objects();
    let listed = objects.list_with_delimiter(Some(&root())).await?;
    let mut there: Vec<Day> = listed.common_prefixes.iter().filter_map(Day::from_prefix).collect();
    there.sort_unstable();
    let mut pace = Pace::new(clock, per_second);
    for day in there.iter().take_while(|day| **day < first_kept) {
        let objects: Vec<_> = objects.list(Some(&day.prefix())).try_collect().await?;
        for batch in objects.chunks(pace.size()) {
            pace.next().await;
            if mode == Mode::Delete {
                let keys = batch.iter().map(|object| object.location.clone()).collect();
                delete_all(&history.store, keys).await?;
            }
            batch.iter().for_each(|object| deleted(object.size));
        }
    }
    if mode == Mode::Delete {
        history.listings.expired(first_kept);
    }
    let oldest = there.into_iter().find(|day| *day >= first_kept);
    Ok(oldest.map(|day| {
        let goes_at = Timestamp((day.0 + i64::from(days) + 1) * DAY_MILLIS);
        goes_at.since(now)
    }))
}
