//! Numbers that follow from a seed.

use std::hash::BuildHasher as _;
use std::hash::RandomState;

/// A stream of numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

/// A seed that nobody chose.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

impl Random {
    /// The stream of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A place in something so long.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap())).unwrap()
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A stream of its own for somebody else.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
