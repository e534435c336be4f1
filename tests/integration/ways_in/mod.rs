//! More than one way in: several cards, codes and passphrases, and thresholds, at boot.

mod asked;
mod cards;
mod differs;
mod first;
mod joins;
