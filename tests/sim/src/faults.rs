//! What is broken at the moment. The nemesis sets it; network and store obey it, and count what
//! they did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_runtime::Random;

/// One process of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer(pub(crate) u16);

/// Chances of each fate of a message, of 1,000.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NetChances {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
}

/// Chances of each fate of a request to the store, of 1,000.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreChances {
    /// A put is refused (5xx) and writes nothing.
    pub(crate) refused: u64,
    /// A put writes, and its answer is an error.
    pub(crate) lost_answer: u64,
    /// A put's answer is an error, and it writes long after that.
    pub(crate) lands_late: u64,
    /// A put is not answered for long; it may write or not.
    pub(crate) hangs: u64,
    /// A put is answered with 409 and writes nothing.
    pub(crate) conflict: u64,
    /// A read fails.
    pub(crate) read_fails: u64,
    /// A read is not answered for long.
    pub(crate) read_hangs: u64,
    /// Whether what a process tries the store with when it starts goes well.
    pub(crate) spares_probes: bool,
}

#[derive(Debug, Default)]
struct State {
    net: NetChances,
    store: StoreChances,
    bus_is_away: bool,
    /// Cut off from the bus.
    off_bus: BTreeSet<Peer>,
    /// Cut off from the buckets of the bus.
    off_buckets: BTreeSet<Peer>,
    /// Cut off from the store.
    off_store: BTreeSet<Peer>,
    /// Pairs, the lower first, that do not hear each other.
    cut: BTreeSet<(Peer, Peer)>,
    counts: BTreeMap<&'static str, u64>,
}

/// The switchboard. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Faults {
    random: Random,
    state: Arc<Mutex<State>>,
}

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutFate {
    Lands,
    Refused,
    LostAnswer,
    LandsLate(Duration),
    Hangs { for_: Duration, lands: bool },
    Conflict,
}

/// What becomes of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFate {
    Answered,
    Fails,
    Hangs(Duration),
}

impl Faults {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn happens(&self, of_thousand: u64) -> bool {
        of_thousand > 0 && self.random.below(1000) < of_thousand
    }

    /// Counts a fault that was injected.
    pub(crate) fn count(&self, kind: &'static str) {
        *self.lock().counts.entry(kind).or_default() += 1;
    }

    /// How often each fault was injected.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    pub(crate) fn set_net(&self, chances: NetChances) {
        self.lock().net = chances;
    }

    pub(crate) fn set_store(&self, chances: StoreChances) {
        self.lock().store = chances;
    }

    pub(crate) fn set_bus_away(&self, is_away: bool) {
        self.lock().bus_is_away = is_away;
    }

    pub(crate) fn set_off_bus(&self, peer: Peer, is_off: bool) {
        let off = &mut self.lock().off_bus;
        if is_off {
            off.insert(peer)
        } else {
            off.remove(&peer)
        };
    }

    pub(crate) fn set_off_buckets(&self, peer: Peer, is_off: bool) {
        let off = &mut self.lock().off_buckets;
        if is_off {
            off.insert(peer)
        } else {
            off.remove(&peer)
        };
    }

    pub(crate) fn set_off_store(&self, peer: Peer, is_off: bool) {
        let off = &mut self.lock().off_store;
        if is_off {
            off.insert(peer)
        } else {
            off.remove(&peer)
        };
    }

    pub(crate) fn set_cut(&self, one: Peer, other: Peer, is_cut: bool) {
        let pair = (one.min(other), one.max(other));
        let cut = &mut self.lock().cut;
        if is_cut {
            cut.insert(pair)
        } else {
            cut.remove(&pair)
        };
    }

    /// Everything works again.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        let counts = std::mem::take(&mut state.counts);
        *state = State { counts, ..State::default() };
    }

    /// Whether the process can talk to the bus.
    pub(crate) fn has_bus(&self, peer: Peer) -> bool {
        let state = self.lock();
        !state.bus_is_away && !state.off_bus.contains(&peer)
    }

    /// Whether the process can read and write the buckets of the bus.
    pub(crate) fn has_buckets(&self, peer: Peer) -> bool {
        self.has_bus(peer) && !self.lock().off_buckets.contains(&peer)
    }

    /// Whether one process hears another.
    pub(crate) fn hears(&self, one: Peer, other: Peer) -> bool {
        !self.lock().cut.contains(&(one.min(other), one.max(other)))
    }

    /// How long a message is under way.
    pub(crate) fn delay(&self) -> Duration {
        let micros = Duration::from_micros(100 + self.random.below(2_000));
        micros + self.lateness().unwrap_or_default()
    }

    /// How much longer, if this one is late.
    pub(crate) fn lateness(&self) -> Option<Duration> {
        let late = self.lock().net.late;
        self.happens(late).then(|| {
            self.count("message late");
            let most = if self.random.below(4) == 0 { 8_000_000 } else { 2_000_000 };
            Duration::from_micros(self.random.below(most))
        })
    }

    /// How much later than a message its double is sent.
    pub(crate) fn lag(&self) -> Duration {
        let most = if self.random.below(2) == 0 { 4_000 } else { 1 };
        Duration::from_millis(self.random.below(most))
    }

    pub(crate) fn message_is_lost(&self) -> bool {
        let chance = self.lock().net.lost;
        let lost = self.happens(chance);
        if lost {
            self.count("message lost");
        }
        lost
    }

    pub(crate) fn message_is_doubled(&self) -> bool {
        let chance = self.lock().net.doubled;
        let doubled = self.happens(chance);
        if doubled {
            self.count("message doubled");
        }
        doubled
    }

    /// How long the store takes for half of a request.
    pub(crate) fn store_delay(&self) -> Duration {
        Duration::from_micros(500 + self.random.below(15_000))
    }

    fn long(&self) -> Duration {
        Duration::from_millis(1_000 + self.random.below(25_000))
    }

    pub(crate) fn put_fate(&self, peer: Peer, is_probe: bool) -> PutFate {
        let (mut chances, is_off) = {
            let state = self.lock();
            (state.store, state.off_store.contains(&peer))
        };
        if chances.spares_probes && is_probe {
            chances = StoreChances::default();
        }
        let (kind, fate) = if is_off {
            ("put without the store", PutFate::Hangs { for_: self.long(), lands: false })
        } else if self.happens(chances.refused) {
            ("put refused", PutFate::Refused)
        } else if self.happens(chances.lost_answer) {
            ("put landed, answer lost", PutFate::LostAnswer)
        } else if self.happens(chances.lands_late) {
            ("put failed and landed later", PutFate::LandsLate(self.long()))
        } else if self.happens(chances.hangs) {
            ("put hung", PutFate::Hangs { for_: self.long(), lands: self.random.below(2) == 0 })
        } else if self.happens(chances.conflict) {
            ("put answered with 409", PutFate::Conflict)
        } else {
            return PutFate::Lands;
        };
        self.count(kind);
        fate
    }

    pub(crate) fn read_fate(&self, peer: Peer) -> ReadFate {
        let (chances, is_off) = {
            let state = self.lock();
            (state.store, state.off_store.contains(&peer))
        };
        let (kind, fate) = if is_off {
            ("read without the store", ReadFate::Hangs(self.long()))
        } else if self.happens(chances.read_fails) {
            ("read failed", ReadFate::Fails)
        } else if self.happens(chances.read_hangs) {
            ("read hung", ReadFate::Hangs(self.long()))
        } else {
            return ReadFate::Answered;
        };
        self.count(kind);
        fate
    }
}
