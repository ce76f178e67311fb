//! Reproducible random numbers.

use std::hash::BuildHasher as _;
use std::hash::RandomState;

/// A generator of pseudo-random numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

/// A random seed of 32 bits, short enough to type.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

impl Random {
    /// A generator with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`. The bias of the modulo is negligible for small bounds.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index below `length`.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap())).unwrap()
    }

    /// True with probability 1 in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// An independent generator, for another thread.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
