//! Chance that is the same from one seed, for every property and for the campaign.
//!
//! Each draw has a stream of its own, made of the seed and of its name, and prints both. What fails is
//! run again with that `CRYPTKEY_SEED`, and becomes a case with a name.

// Nobody uses all of it.
#![allow(dead_code, unused_imports, unused_macros, clippy::expect_used)]

use std::env;

use proptest::test_runner::{Config, RngSeed, TestRunner};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};

/// A number from the environment.
fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    let read = |text: String| text.parse().ok().expect(variable);
    env::var(variable).map_or(default, read)
}

/// What chance starts from: `CRYPTKEY_SEED`, or always the same.
pub fn seed() -> u64 {
    number("CRYPTKEY_SEED", 20_261_121)
}

/// What the seed and this name make.
fn seed_of(name: &str) -> u64 {
    println!("{name} is drawn from CRYPTKEY_SEED={}", seed());
    let sum = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
    name.bytes().fold(seed(), sum)
}

/// How a property is drawn: so many cases, and `CRYPTKEY_CASES` times as many if that is set.
pub fn config(name: &str, cases: u32) -> Config {
    let times = number("CRYPTKEY_CASES", 1);
    Config {
        cases: cases * times,
        max_global_rejects: 1024 * times,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed_of(name)),
        ..Config::default()
    }
}

/// `#![proptest_config(cases!(400))]`: so many cases for each property of the block, each drawn from a
/// stream of its own.
macro_rules! cases {
    ($cases:expr) => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        $crate::chance::config(name.trim_end_matches("::here"), $cases)
    }};
}
pub(crate) use cases;

/// What draws values of a strategy, for who does not state a property.
pub fn runner(name: &str) -> TestRunner {
    TestRunner::new(config(name, 1))
}

/// Chance for one purpose.
pub struct Chance(SmallRng);

impl Chance {
    /// What the seed and this name make.
    pub fn of(name: &str) -> Self {
        Self(SmallRng::seed_from_u64(seed_of(name)))
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
