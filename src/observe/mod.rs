//! Asks the world without changing it: the profile, the card, what is in the slot.

mod find;
mod service;

pub use find::find;

use crate::{
    card::Piv,
    error::Result,
    plan::{Sealed, Session},
    profile::{Profile, Store},
    spec::{Key, Spec},
};

/// A session with a card: the card itself, and what the planner knows of it.
pub struct Held {
    /// The card.
    pub piv: Piv,
    /// What is known of it.
    pub facts: Session,
}
