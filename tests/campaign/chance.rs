//! Chance that is the same from one seed.

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::extent::seed;

/// Chance for one purpose.
pub struct Chance(SmallRng);

impl Chance {
    /// What the campaign's seed and this name make.
    pub fn of(name: &str) -> Self {
        let sum = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
        Self(SmallRng::seed_from_u64(name.bytes().fold(seed(), sum)))
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// So many of them, or all where there are no more.
    pub fn some<T>(&mut self, mut of: Vec<T>, amount: usize) -> Vec<T> {
        while of.len() > amount {
            let at = self.below(of.len());
            of.swap_remove(at);
        }
        of
    }
}
