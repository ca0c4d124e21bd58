//! Which connections wait for a request, so that at the limit one of them can give way: the one
//! that has waited longest. A connection whose request is under way keeps its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

/// The connections of a server that wait. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By the order in which they began to wait.
    since: BTreeMap<u64, CancellationToken>,
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    /// Its number while it waits.
    waits: Mutex<Option<u64>>,
    displaced: CancellationToken,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(super) struct Busy(Arc<Place>);

impl Places {
    /// The place of a new connection, which waits for its first request.
    pub(super) fn take(&self) -> Arc<Place> {
        let place = Place {
            places: self.clone(),
            waits: Mutex::new(None),
            displaced: CancellationToken::new(),
        };
        place.wait();
        Arc::new(place)
    }

    /// Has the connection that has waited longest give way; whether there was one.
    pub(super) fn displace(&self) -> bool {
        let longest = self.lock().since.pop_first();
        longest.is_some_and(|(_, displaced)| {
            displaced.cancel();
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl Place {
    /// A request has come. Its place is safe until that is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.leave();
        Busy(Arc::clone(self))
    }

    /// Comes to its end when the connection has to give way.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    fn wait(&self) {
        let mut waiting = self.places.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, self.displaced.clone());
        drop(waiting);
        *self.number() = Some(number);
    }

    fn leave(&self) {
        if let Some(number) = self.number().take() {
            self.places.lock().since.remove(&number);
        }
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.waits.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_gives_way_and_a_request_under_way_never_does() {
        let places = Places::default();
        let (first, second, third) = (places.take(), places.take(), places.take());
        let request = first.busy();
        drop(second.busy());
        assert!(places.displace());
        let displaced = |place: &Arc<Place>| place.displaced.is_cancelled();
        assert!(displaced(&third) && !displaced(&first) && !displaced(&second));
        assert!(places.displace());
        assert!(displaced(&second));
        assert!(!places.displace(), "the one that is left has a request under way");
        drop(request);
        assert!(places.displace());
        drop((first, second, third));
        assert!(!places.displace());
    }
}
