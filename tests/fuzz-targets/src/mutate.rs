//! Mutations from a seed: the same seed, the same bytes.

/// A small generator (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Mutator(u64);

/// Numbers at the edges of what fields hold.
const EDGES: [u64; 9] =
    [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX, 0x8000_0000];

impl Mutator {
    /// One that begins at a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// Some bytes of a corpus, changed in a few places.
    ///
    /// # Panics
    /// When the corpus is empty.
    #[must_use]
    pub fn mutation(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let at = self.below(corpus.len());
        let mut bytes = corpus[at].clone();
        for _ in 0..=self.below(4) {
            let other = self.below(corpus.len());
            self.change(&mut bytes, &corpus[other]);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
            2 => bytes.truncate(at),
            3 => {
                let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                let len = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at.min(bytes.len()));
                bytes[at..at + len].copy_from_slice(&edge[..len]);
            }
            4 => {
                let end = at + self.below(bytes.len().saturating_sub(at) + 1);
                drop(bytes.drain(at.min(bytes.len())..end.min(bytes.len())));
            }
            5 => {
                let from = self.below(other.len());
                let len = self.below(other.len().saturating_sub(from) + 1);
                let piece = &other[from..from + len];
                let at = at.min(bytes.len());
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            _ => {
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
