//! The one source of randomness: seeded by the operating system, or by a number so that a run can
//! be repeated. Not for secrets.

use std::{
    fmt,
    fs::File,
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Gives random numbers (xoshiro256++). Cheap to clone; clones draw from the same sequence.
#[derive(Clone)]
pub struct Random {
    state: Arc<Mutex<[u64; 4]>>,
}

impl Random {
    /// A source that differs in every process: 256 bits of seed from the operating system.
    ///
    /// # Panics
    /// If the operating system gives no randomness; ids would not be unique.
    #[must_use]
    pub fn from_os() -> Self {
        let mut seed = [0_u8; 32];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut seed))
            .expect("the operating system must provide `/dev/urandom`");
        let mut state = [0_u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("a chunk has eight bytes"));
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A source that gives the same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut weyl = seed;
        let state = [(); 4].map(|()| split_mix(&mut weyl));
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A source of its own, seeded from this one: for a part that must not disturb the sequence.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::seeded(self.u64())
    }

    /// 64 random bits.
    #[must_use]
    pub fn u64(&self) -> u64 {
        next(&mut self.state.lock().expect("no code panics while it holds this lock"))
    }

    /// 128 random bits.
    #[must_use]
    pub fn u128(&self) -> u128 {
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        (u128::from(next(&mut state)) << 64) | u128::from(next(&mut state))
    }

    /// A number from 0 to `bound` - 1, each as likely to within `bound` / 2^64.
    ///
    /// # Panics
    /// If `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        let wide = u128::from(self.u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a 128-bit product has 64 bits")
    }

    /// A number in [0, 1).
    #[must_use]
    pub fn unit(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit the mantissa")]
        let numerator = (self.u64() >> 11) as f64;
        numerator / (1_u64 << 53) as f64
    }

    /// `duration` made shorter or longer by up to `fraction` of it (0.2 gives 80 % to 120 %).
    #[must_use]
    pub fn jitter(&self, duration: Duration, fraction: f64) -> Duration {
        let factor = 1.0 + fraction.clamp(0.0, 1.0) * (2.0 * self.unit() - 1.0);
        duration.mul_f64(factor)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

fn next(state: &mut [u64; 4]) -> u64 {
    let result = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
    let shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = state[3].rotate_left(45);
    result
}

fn split_mix(weyl: &mut u64) -> u64 {
    *weyl = weyl.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *weyl;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_clones_share_them() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!((a.u64(), a.u128()), (b.u64(), b.u128()));
        assert_ne!(a.clone().u64(), a.u64());
        assert_ne!(Random::from_os().u128(), Random::from_os().u128());
    }

    #[test]
    fn bounds_are_kept() {
        let random = Random::seeded(1);
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[usize::try_from(random.below(3)).unwrap()] = true;
            let jittered = random.jitter(Duration::from_secs(10), 0.2);
            assert!((Duration::from_secs(8)..=Duration::from_secs(12)).contains(&jittered));
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn the_generator_gives_the_published_numbers() {
        // First outputs of xoshiro256++ from the state 1, 2, 3, 4.
        let mut state = [1, 2, 3, 4];
        let first: Vec<u64> = (0..3).map(|_| next(&mut state)).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }
}
