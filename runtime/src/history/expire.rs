//! Letting go of what is kept by date: whole days.

use std::time::Duration;

use futures::TryStreamExt;
use muster_core::time::Timestamp;
use object_store::path::Path;

use super::name::{Day, TREE, Tree};
use super::{Error, History};
use crate::Clock;
use crate::collect::{Mode, Pace, delete_all};
use crate::store::Store;

const DAY_MILLIS: i64 = 86_400_000;

/// What is left.
pub(crate) struct Kept {
    /// The first day of which nothing was let go.
    pub(crate) first: Day,
    /// How long it takes until the oldest day that is left may go; none when none is left.
    pub(crate) next: Option<Duration>,
}

/// Lets go of days of history, of all shards; see [`expire_days`].
pub(super) async fn expire(
    history: &History,
    clock: &Clock,
    days: u32,
    per_second: u32,
    mode: Mode,
    deleted: impl FnMut(u64) + Send,
) -> Result<Option<Duration>, Error> {
    let kept = expire_days(&history.store, TREE, clock, days, per_second, mode, deleted).await?;
    if mode == Mode::Delete {
        history.listings.expired(kept.first);
    }
    Ok(kept.next)
}

/// Lets go of the days that were over `days` ago, the oldest first; each object and its bytes are
/// told to `deleted`.
pub(crate) async fn expire_days(
    store: &Store,
    tree: Tree,
    clock: &Clock,
    days: u32,
    per_second: u32,
    mode: Mode,
    mut deleted: impl FnMut(u64) + Send,
) -> Result<Kept, object_store::Error> {
    let now = clock.now();
    let first_kept = Day(Day::of(now).0 - i64::from(days));
    let objects = store.objects();
    let listed = objects.list_with_delimiter(Some(&Path::from(tree.root))).await?;
    let mut there: Vec<Day> = listed.common_prefixes.iter().filter_map(|p| tree.day(p)).collect();
    there.sort_unstable();
    let mut pace = Pace::new(clock, per_second);
    for day in there.iter().take_while(|day| **day < first_kept) {
        let objects: Vec<_> = objects.list(Some(&tree.prefix(*day))).try_collect().await?;
        for batch in objects.chunks(pace.size()) {
            pace.next().await;
            if mode == Mode::Delete {
                let keys = batch.iter().map(|object| object.location.clone()).collect();
                delete_all(store, keys).await?;
            }
            batch.iter().for_each(|object| deleted(object.size));
        }
    }
    let oldest = there.into_iter().find(|day| *day >= first_kept);
    let next = oldest.map(|day| {
        let goes_at = Timestamp((day.0 + i64::from(days) + 1) * DAY_MILLIS);
        goes_at.since(now)
    });
    Ok(Kept { first: first_kept, next })
}
