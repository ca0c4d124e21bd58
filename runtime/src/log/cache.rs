//! Objects that were read, bounded in bytes; what was not used for longest goes first. Who asks for
//! an object while another fetches it waits for that fetch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::OnceCell;

/// What an entry costs besides its value.
const ENTRY_BYTES: usize = 256;

pub(super) struct Cache<K, V> {
    bytes_max: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Keys by their last use.
    uses: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
}

struct Entry<V> {
    cell: Arc<OnceCell<V>>,
    used: u64,
    bytes: usize,
}

impl<K: Ord + Copy, V: Clone> Cache<K, V> {
    pub(super) fn new(bytes_max: usize) -> Self {
        let inner = Inner { entries: BTreeMap::new(), uses: BTreeMap::new(), clock: 0, bytes: 0 };
        Self { bytes_max, inner: Mutex::new(inner) }
    }

    /// The value of a key: the one there is, or the one that `load` gives together with its size in
    /// bytes.
    pub(super) async fn get<E>(
        &self,
        key: K,
        load: impl Future<Output = Result<(V, usize), E>>,
    ) -> Result<V, E> {
        let cell = self.lock().touch(key);
        let mut loaded = None;
        let value = cell
            .get_or_try_init(|| async {
                let (value, bytes) = load.await?;
                loaded = Some(bytes);
                Ok(value)
            })
            .await?
            .clone();
        if let Some(bytes) = loaded {
            self.lock().charge(key, &cell, bytes, self.bytes_max);
        }
        Ok(value)
    }

    /// Puts a value in that is known already.
    pub(super) fn insert(&self, key: K, value: V, bytes: usize) {
        let mut inner = self.lock();
        let cell = inner.touch(key);
        // Objects never change: a value that is there already is the same.
        if cell.set(value).is_ok() {
            inner.charge(key, &cell, bytes, self.bytes_max);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

impl<K: Ord + Copy, V> Inner<K, V> {
    fn touch(&mut self, key: K) -> Arc<OnceCell<V>> {
        self.clock += 1;
        let used = self.clock;
        let bytes = &mut self.bytes;
        let entry = self.entries.entry(key).or_insert_with(|| {
            *bytes += ENTRY_BYTES;
            Entry { cell: Arc::new(OnceCell::new()), used, bytes: ENTRY_BYTES }
        });
        self.uses.remove(&entry.used);
        entry.used = used;
        self.uses.insert(used, key);
        Arc::clone(&entry.cell)
    }

    /// Notes the size of a value that has come, and makes room.
    fn charge(&mut self, key: K, cell: &Arc<OnceCell<V>>, bytes: usize, bytes_max: usize) {
        if let Some(entry) = self.entries.get_mut(&key)
            && Arc::ptr_eq(&entry.cell, cell)
        {
            entry.bytes += bytes;
            self.bytes += bytes;
        }
        while self.bytes > bytes_max
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            let entry = self.entries.remove(&oldest).expect("every use is of an entry");
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const EACH: usize = 1000;

    async fn get(cache: &Cache<u64, u64>, key: u64, loads: &AtomicUsize) -> u64 {
        let load = async {
            tokio::task::yield_now().await;
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>((key * 10, EACH))
        };
        cache.get(key, load).await.unwrap()
    }

    #[tokio::test]
    async fn one_load_serves_all_who_ask_at_once() {
        let (cache, loads) = (Cache::new(10_000), AtomicUsize::new(0));
        let values = futures::future::join_all((0..8).map(|_| get(&cache, 7, &loads))).await;
        assert_eq!(values, [70; 8]);
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_goes_first() {
        let (cache, loads) = (Cache::new(3 * (EACH + ENTRY_BYTES)), AtomicUsize::new(0));
        for key in [1, 2, 3, 1, 4] {
            get(&cache, key, &loads).await;
        }
        assert_eq!(loads.load(Ordering::Relaxed), 4);
        get(&cache, 1, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 4);
        get(&cache, 2, &loads).await;
        assert_eq!(loads.load(Ordering::Relaxed), 5);
        assert!(cache.lock().bytes <= cache.bytes_max);
    }

    #[tokio::test]
    async fn a_failed_load_is_tried_again_by_the_next() {
        let cache = Cache::<u64, u64>::new(10_000);
        assert_eq!(cache.get(1, async { Err("away") }).await, Err("away"));
        assert_eq!(cache.get(1, async { Ok::<_, &str>((5, 1)) }).await, Ok(5));
        cache.insert(2, 6, 1);
        assert_eq!(cache.get(2, async { Err("not asked") }).await, Ok(6));
    }
}
