//! What a run tells of a key.

use super::Work;
use crate::{profile::Profile, publish::Outcome, secret::public::PublicHalves};

/// What was done for a key.
pub struct Report {
    /// The public id of the key; where it was not opened, as its profile states it.
    pub profile_id: String,
    /// What became of the key.
    pub done: Done,
    /// What publishing changed.
    pub outcome: Outcome,
    /// The public halves that no run kept before.
    pub new_public_halves: PublicHalves,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Its profile was written in this run.
    Enrolled,
    /// Its profile was opened.
    Verified,
    /// Nothing, and no card was asked: what stands is what would come of it.
    Skipped,
}

impl Work<'_> {
    /// The report of a run that ended well.
    pub(super) fn done(&mut self, done: Done) -> Report {
        let stated = || self.profile.as_ref().map(Profile::id).unwrap_or_default();
        let profile_id = self.known.proven_id.clone().unwrap_or_else(stated);
        let outcome = self.outcome.take().unwrap_or(Outcome::Unchanged);
        let new_public_halves = std::mem::take(&mut self.new_public_halves);
        Report { profile_id, done, outcome, new_public_halves }
    }
}
