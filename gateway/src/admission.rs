//! Who may send a body at the moment: so many at once, and when all places are taken, one whose
//! body hardly comes gives way. So clients that send a byte now and then keep nobody out, and are
//! let be as long as there is room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_runtime::Clock;
use tokio_util::sync::CancellationToken;

use crate::limits::{BODY_BYTES_PER_SECOND_MIN, BODY_GRACE};

/// The places.
#[derive(Debug)]
pub(crate) struct Admission {
    places_max: usize,
    places: Arc<Mutex<Places>>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Pace>,
}

/// How fast a body comes.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    /// How long its client was waited for.
    waited: Duration,
    /// Since when it is waited for now.
    waits: Option<Duration>,
    displaced: CancellationToken,
}

/// A place; it is given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    places: Arc<Mutex<Places>>,
    clock: Clock,
    displaced: CancellationToken,
}

impl Admission {
    pub(crate) fn new(places_max: usize, clock: Clock) -> Self {
        Self { places_max, places: Arc::default(), clock }
    }

    /// A place, and whether another body gave way to it; none when there is none.
    pub(crate) fn admit(&self) -> Option<(Place, bool)> {
        let now = self.clock.monotonic();
        let mut places = lock(&self.places);
        let mut was_full = false;
        if places.taken.len() >= self.places_max {
            let slow = places.taken.iter().filter(|(_, pace)| pace.is_slow(now));
            // The one that brought least in the time that it had.
            let slowest = slow.min_by(|(_, a), (_, b)| a.rate(now).total_cmp(&b.rate(now)));
            let slowest = slowest.map(|(number, _)| *number)?;
            places.taken.remove(&slowest)?.displaced.cancel();
            was_full = true;
        }
        let number = places.next;
        places.next += 1;
        let displaced = CancellationToken::new();
        places.taken.insert(number, Pace { displaced: displaced.clone(), ..Pace::default() });
        let (places, clock) = (Arc::clone(&self.places), self.clock.clone());
        Some((Place { number, places, clock, displaced }, was_full))
    }
}

impl Pace {
    fn waited(&self, now: Duration) -> Duration {
        self.waited + self.waits.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Bytes a second of the time that its client was waited for.
    fn rate(&self, now: Duration) -> f64 {
        self.bytes as f64 / self.waited(now).as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn is_slow(&self, now: Duration) -> bool {
        self.waits.is_some()
            && self.waited(now) >= BODY_GRACE
            && self.rate(now) < BODY_BYTES_PER_SECOND_MIN
    }
}

impl Place {
    /// Its client is waited for from now on.
    pub(crate) fn waits(&self) {
        let now = self.clock.monotonic();
        if let Some(pace) = lock(&self.places).taken.get_mut(&self.number) {
            pace.waits.get_or_insert(now);
        }
    }

    /// So many bytes have come, and the client is not waited for any more.
    pub(crate) fn came(&self, bytes: usize) {
        let now = self.clock.monotonic();
        if let Some(pace) = lock(&self.places).taken.get_mut(&self.number) {
            pace.waited = pace.waited(now);
            pace.waits = None;
            pace.bytes += bytes as u64;
        }
    }

    /// Comes to its end when the body has to give way.
    pub(crate) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places).taken.remove(&self.number);
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().expect("nobody panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn displaced(place: &Place) -> bool {
        place.displaced.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_body_gives_way_when_all_places_are_taken() {
        let clock = Clock::system();
        let admission = Admission::new(3, clock.clone());
        let admit = || admission.admit().map(|(place, _)| place);
        let [slow, slower, fast] = [(); 3].map(|()| admit().unwrap());
        for place in [&slow, &slower, &fast] {
            place.waits();
        }
        assert!(admit().is_none(), "none has had its time yet");
        clock.sleep(BODY_GRACE).await;
        slow.came(10);
        slow.waits();
        fast.came(1 << 20);
        fast.waits();
        let (fourth, gave_way) = admission.admit().unwrap();
        assert!(gave_way && displaced(&slower) && !displaced(&slow) && !displaced(&fast));
        let fifth = admit().unwrap();
        assert!(displaced(&slow) && !displaced(&fast));
        assert!(admit().is_none(), "{fourth:?} {fifth:?}");
        drop(fast);
        assert!(admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_waited_for_keeps_its_place() {
        let clock = Clock::system();
        let admission = Admission::new(1, clock.clone());
        let (first, _) = admission.admit().unwrap();
        first.waits();
        clock.sleep(BODY_GRACE / 2).await;
        first.came(1);
        // A shard has to answer now, which is not the client's doing.
        clock.sleep(10 * BODY_GRACE).await;
        assert!(admission.admit().is_none());
        first.waits();
        assert!(admission.admit().is_none());
        clock.sleep(BODY_GRACE / 2).await;
        assert!(admission.admit().is_some() && displaced(&first));
    }
}
