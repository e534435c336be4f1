//! Chance that is the same from one seed.

use crate::extent::seed;

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    /// The chance of this name, from the campaign's seed.
    pub fn of(name: &str) -> Self {
        let sum = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
        Self(name.bytes().fold(seed(), sum))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
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
