//! What the server does wrong on purpose: which requests, how, how often.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::request::{Operation, Target};

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is answered with this status and nothing is done.
    Refuse(u16),
    /// It is done, and answered with this status.
    RefuseAfter(u16),
    /// The connection is cut and nothing is done.
    Disconnect,
    /// It is done, and the connection is cut without an answer.
    LoseReply,
    /// It is begun so much later.
    Delay(Duration),
    /// It is done at once, and answered so much later.
    DelayReply(Duration),
    /// It is done at once, and not answered before [`Faults::clear`].
    HoldReply,
}

/// An effect and the requests that it falls on: all of them, until narrowed.
#[derive(Debug, Clone)]
pub struct Fault {
    effect: Effect,
    operation: Option<Operation>,
    key_prefix: String,
    skip: u64,
    times: u64,
    chance: f64,
}

impl Fault {
    /// An effect on every request.
    pub fn new(effect: Effect) -> Self {
        let key_prefix = String::new();
        Self { effect, operation: None, key_prefix, skip: 0, times: u64::MAX, chance: 1.0 }
    }

    /// Only on this operation.
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only on keys that begin so. Keys are those inside the bucket, the store URL's prefix
    /// included.
    pub fn under(mut self, key_prefix: &str) -> Self {
        key_prefix.clone_into(&mut self.key_prefix);
        self
    }

    /// Leaves alone the first so many requests that it would fall on.
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Is spent when it fell on so many requests.
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    /// Falls on each request with this probability, from 0 to 1.
    pub fn chance(mut self, probability: f64) -> Self {
        assert!((0.0..=1.0).contains(&probability), "{probability} is no probability");
        self.chance = probability;
        self
    }

    fn falls_on(&self, target: &Target) -> bool {
        self.times > 0
            && self.operation.is_none_or(|operation| operation == target.operation)
            && target.key.starts_with(&self.key_prefix)
    }
}

/// The faults of a server. Clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    random: u64,
    injected: u64,
    /// Tells of each [`Faults::clear`].
    clears: watch::Sender<()>,
}

impl Faults {
    /// Adds a fault to those that stand.
    pub fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Removes all faults, and lets go of the replies that they hold.
    pub fn clear(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.clears.send_replace(());
    }

    /// Comes to its end with the next [`Faults::clear`].
    pub(super) fn cleared(&self) -> impl Future<Output = ()> + use<> {
        let mut clears = self.state().clears.subscribe();
        async move {
            // The faults go with their server, and nobody waits for its replies then.
            let _ = clears.changed().await;
        }
    }

    /// Begins the random sequence behind [`Fault::chance`] anew. The seed is 0 until then.
    pub fn seed(&self, seed: u64) {
        self.state().random = seed;
    }

    /// How many effects fell on requests so far.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// What befalls a request, in the order in which the faults were added.
    pub(super) fn befalling(&self, target: &Target) -> Vec<Effect> {
        let state = &mut *self.state();
        let mut effects = Vec::new();
        for fault in state.faults.iter_mut().filter(|fault| fault.falls_on(target)) {
            if fault.chance < 1.0 && next_fraction(&mut state.random) >= fault.chance {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            state.injected += 1;
            effects.push(fault.effect);
        }
        effects
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under the lock, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next number in [0, 1) of the SplitMix64 sequence.
fn next_fraction(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // The upper 53 bits are as many as a double holds exactly.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Target {
        Target { operation: Operation::Put, key: key.to_owned() }
    }

    #[test]
    fn a_fault_falls_on_what_it_names_and_is_spent() {
        let faults = Faults::default();
        let fault = Fault::new(Effect::Refuse(500)).on(Operation::Put).under("a/");
        faults.add(fault.after(1).times(2));
        let get = Target { operation: Operation::Get, key: "a/1".to_owned() };
        assert_eq!(faults.befalling(&get), []);
        assert_eq!(faults.befalling(&put("b/1")), []);
        let seen = [0; 4].map(|_| faults.befalling(&put("a/1")).len());
        assert_eq!(seen, [0, 1, 1, 0]);
        assert_eq!(faults.injected(), 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let run = || {
            let faults = Faults::default();
            faults.seed(7);
            faults.add(Fault::new(Effect::LoseReply).chance(0.3));
            (0..1_000).map(|_| faults.befalling(&put("a")).len()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        let hits = run().iter().sum::<usize>();
        assert!((250..350).contains(&hits), "{hits} of 1000 at a chance of 0.3");
    }
}
