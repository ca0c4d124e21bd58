//! Which history objects there are: listed once per day and shard, then kept up to date by the
//! writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::TryStreamExt;
use muster_core::id::ShardId;

use super::Error;
use super::name::{Day, Name, root};
use crate::store::{Kind, Store};

/// Objects remembered; beyond it everything is forgotten and listed again.
const OBJECTS_MAX: usize = 200_000;

/// A history object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: Name,
    pub(super) size: u64,
}

/// What was listed.
#[derive(Debug, Default)]
pub(super) struct Listings {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Rises with each change, so that a listing that was under way meanwhile is not remembered.
    version: u64,
    days: Option<BTreeSet<Day>>,
    files: BTreeMap<(ShardId, Day), Arc<Vec<File>>>,
    count: usize,
}

impl Listings {
    /// Days from `earliest` on that have history of any shard, ascending.
    pub(super) async fn days(&self, store: &Store, earliest: Day) -> Result<Vec<Day>, Error> {
        let (version, known) = {
            let known = self.known();
            (known.version, known.days.clone())
        };
        let days = match known {
            Some(days) => days,
            None => {
                let listed = store.objects().list_with_delimiter(Some(&root())).await?;
                let days: BTreeSet<Day> =
                    listed.common_prefixes.iter().filter_map(Day::from_prefix).collect();
                let mut known = self.known();
                if known.version == version {
                    known.days = Some(days.clone());
                }
                days
            }
        };
        Ok(days.range(earliest..).copied().collect())
    }

    /// The objects of a shard and day, in no order.
    pub(super) async fn files(
        &self,
        store: &Store,
        shard: ShardId,
        day: Day,
    ) -> Result<Arc<Vec<File>>, Error> {
        let version = {
            let known = self.known();
            if let Some(files) = known.files.get(&(shard, day)) {
                return Ok(Arc::clone(files));
            }
            known.version
        };
        let files = Arc::new(list(store, shard, day).await?);
        let mut known = self.known();
        if known.version == version {
            known.remember(shard, day, Arc::clone(&files));
        }
        Ok(files)
    }

    /// An object was written.
    pub(super) fn written(&self, file: File) {
        let mut known = self.known();
        known.version += 1;
        if let Some(days) = &mut known.days {
            days.insert(file.name.day);
        }
        if let Some(files) = known.files.get_mut(&(file.name.shard, file.name.day))
            && !files.contains(&file)
        {
            Arc::make_mut(files).push(file);
            known.count += 1;
        }
    }

    pub(super) fn forget(&self, shard: ShardId) {
        let mut known = self.known();
        known.version += 1;
        known.days = None;
        known.files.retain(|(of, _), _| *of != shard);
        known.count = known.files.values().map(|files| files.len()).sum();
    }

    /// Days before that one are gone.
    pub(super) fn expired(&self, first_kept: Day) {
        let mut known = self.known();
        known.version += 1;
        if let Some(days) = &mut known.days {
            days.retain(|day| *day >= first_kept);
        }
        known.files.retain(|(_, day), _| *day >= first_kept);
        known.count = known.files.values().map(|files| files.len()).sum();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no code panics while it holds this lock")
    }
}

impl Known {
    fn remember(&mut self, shard: ShardId, day: Day, files: Arc<Vec<File>>) {
        if self.count + files.len() > OBJECTS_MAX {
            self.files.clear();
            self.count = 0;
        }
        self.count += files.len();
        self.files.insert((shard, day), files);
    }
}

async fn list(store: &Store, shard: ShardId, day: Day) -> Result<Vec<File>, Error> {
    let (prefix, offset) = (day.prefix(), day.offset(shard));
    let mut listed = store.objects().list_with_offset(Some(&prefix), &offset);
    let mut files = Vec::new();
    while let Some(object) = listed.try_next().await? {
        // Objects of other makers may lie there too; they are not ours to read.
        let Some(name) = Name::parse(&object.location) else { continue };
        if name.shard == shard {
            files.push(File { name, size: object.size });
        } else if name.shard > shard && store.kind() != Kind::File {
            // Listings are in the order of keys, except those of a directory.
            break;
        }
    }
    Ok(files)
}
