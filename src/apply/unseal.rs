//! Opening a key for an admin's command: the same steps, with another goal.

use std::path::PathBuf;

use super::{Run, SIBLING_LIMIT, Work};
use crate::{
    error::{Class, Error, Result},
    observe,
    plan::{Goal, Runner},
    profile::{
        Profile,
        seal::{NewProvider, Opened, ProviderSecret},
        store::Store,
    },
    spec::{Key, ProfileId, Spec},
    system::lock::{self, Guard},
    token::Turns,
};

/// A key that is open, with the secrets of the providers that opened it. No other run for the key
/// begins while there is one.
pub struct Unsealed<'a> {
    work: Work<'a>,
    _sibling: Guard,
}

/// Opens a key for what `goal` makes of its profile: its own, or one from elsewhere, with its file.
///
/// # Errors
/// As [`super::apply`], but that nothing is published; and whatever `goal` says.
#[inline(never)]
pub fn unseal<'a>(
    run: &'a mut Run,
    spec: &'a Spec,
    name: &'a str,
    key: &'a Key,
    elsewhere: Option<(PathBuf, Profile)>,
    goal: impl FnOnce(&Profile) -> Result<Goal>,
) -> Result<Unsealed<'a>> {
    let sibling = lock::lock(&spec.runtime_dir, name, SIBLING_LIMIT)?;
    let turns = Turns::among(&spec.runtime_dir, super::TURN_LIMIT);
    let mut work = Work::new(run, spec, name, key, turns, Runner::Admin, elsewhere)?;
    let profile = work.profile.as_ref().ok_or_else(|| observe::no_profile(name))?;
    work.known.goal = goal(profile)?;
    work.carry_out().map_err(|error| work.name_unopened(error))?;
    Ok(Unsealed { work, _sibling: sibling })
}

impl Work<'_> {
    /// The error of a run that did not open all that it was to open, with the providers that failed.
    fn name_unopened(&self, error: Error) -> Error {
        let (Some(wanted), Some(profile)) = (self.known.goal.wanted(), &self.profile) else {
            return error;
        };
        let failed = wanted.intersection(&self.known.failed);
        let failed: Vec<_> =
            failed.filter_map(|&at| Some(profile.providers().get(at)?.id())).collect();
        // A damaged file is no provider's fault.
        if failed.is_empty() || error.class == Class::Profile {
            return error;
        }
        let (what, without) = (failed.join(", "), failed.join(" --without "));
        Error {
            found: format!("{}. Not opened: {what}", error.found),
            advice: format!(
                "{} Or give up for good what can't be opened any more: `--without {without}`.",
                error.advice
            ),
            ..error
        }
    }
}

impl Unsealed<'_> {
    /// The profile, as it is by now: with goal [`Goal::Join`], sealed to the new cards too, which no
    /// file knows yet.
    ///
    /// # Errors
    /// `internal` where there is none, which is a fault of the program.
    pub fn profile(&self) -> Result<&Profile> {
        let none = || super::out_of_order(self.work.name).error();
        self.work.profile.as_ref().ok_or_else(none)
    }

    /// The secrets of the providers that opened, with their places in the profile.
    #[must_use]
    pub fn secrets(&self) -> Vec<(usize, &ProviderSecret)> {
        self.work.shares.iter().map(|(place, secret)| (*place, secret)).collect()
    }

    /// With goal [`Goal::Renew`], the providers to be sealed to anew, by their ids.
    pub fn renewed(&mut self) -> Vec<NewProvider> {
        std::mem::take(&mut self.work.prepared)
    }

    /// That the key is the declared one, of a profile from elsewhere.
    ///
    /// # Errors
    /// `profile` where it is another one.
    pub fn check_declared(&self, declared: &ProfileId) -> Result<()> {
        self.work.known.check_proven(declared).map_err(|refusal| refusal.error(self.work.name))
    }

    /// The id of the opened key.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.work.known.proven_id.as_deref()
    }

    /// The opened key.
    ///
    /// # Errors
    /// `internal` where it is not open, which is a fault of the program.
    pub fn opened(&self) -> Result<&Opened> {
        self.work.opened.as_ref().ok_or_else(|| super::out_of_order(self.work.name).error())
    }

    /// The state directory.
    pub fn store(&mut self) -> &mut Store {
        &mut self.work.store
    }
}
