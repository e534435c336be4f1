//! What is known of a key and of the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use crate::{
    profile::{generating::Generating, piv},
    spec::{Card, Key, ManagementKeySource, Mode, PinSource, ProfileId},
    token::{CardName, Fingerprint, Pins},
};

/// How long a person may take at least to put another card in.
const SWAP: Duration = Duration::from_secs(60);

/// What is known of a key and of the machine. What is known of the card in hand is in its session's
/// [`crate::token::Facts`].
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each of which is so or not")]
pub struct Known {
    /// The profile, if there is one.
    pub profile: Option<Sealed>,
    /// Whether secrets of the key have been published since the machine booted, and stand: it had a
    /// profile then. Looked at only where there is none.
    pub stands: bool,
    /// Whether the state directory is on a RAM file system: a profile there is lost at power-off.
    pub state_is_in_ram: bool,
    /// What the run is for.
    pub goal: Goal,
    /// What it may do.
    pub leave: Leave,
    /// The profile's providers that opened their share in this run.
    pub opened: BTreeSet<usize>,
    /// Those that are not tried any more in this run: they are not there, or something failed.
    pub failed: BTreeSet<usize>,
    /// Whether nobody answered a question: then no other one is asked.
    pub unanswered: bool,
    /// The cards of the spec's list, by their places there, with which no session is begun any more
    /// to seal the key to them: what was to be done was done, or failed.
    pub settled: BTreeSet<usize>,
    /// What the run learned of PINs.
    pub pins: Pins,
    /// Whether the key is open: outputs can be derived.
    pub open: bool,
    /// The id of the opened key, which nobody can copy.
    pub proven_id: Option<String>,
    /// Whether a profile was made or replaced in this run.
    pub enrolled: bool,
    /// A record of a key that was about to be generated, in this run or in one that was killed.
    pub record: Option<Generating>,
    /// Whether the declared secrets are published.
    pub published: bool,
}

/// What a run is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// To publish the secrets; then to seal the key to the cards that the spec lists, that the profile
    /// does not know, and that are there.
    #[default]
    Publish,
    /// To open the key, with these providers among others.
    Open(BTreeSet<usize>),
    /// The same; and each of these is to be sealed to anew, under a fresh salt: nothing that was computed
    /// from the old profile opens a share then.
    Renew(BTreeSet<usize>),
    /// To open the key, and to seal it to this card.
    Join(Box<Card>),
}

impl Goal {
    /// The providers with which the key is to be opened, whatever else opens it.
    #[must_use]
    pub fn wanted(&self) -> Option<&BTreeSet<usize>> {
        match self {
            Self::Open(wanted) | Self::Renew(wanted) => Some(wanted),
            Self::Publish | Self::Join(_) => None,
        }
    }

    /// Whether the provider at `place` is to be sealed to anew.
    #[must_use]
    pub fn renews(&self, place: usize) -> bool {
        matches!(self, Self::Renew(wanted) if wanted.contains(&place))
    }
}

/// What the planner has to know of a profile.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its public id, as it says; of a profile without a recipient, the hash of its output salt.
    pub id: String,
    /// The hash of its output salt, which declared ids were before there was a recipient.
    pub salt_id: String,
    /// Whether it names a recipient, so that `id` is the key's if it opens.
    pub names_recipient: bool,
    /// Shares that open it.
    pub threshold: usize,
    /// The ids of its providers.
    pub ids: Vec<String>,
    /// Its PIV providers whose cards the spec lists, by index.
    pub piv: BTreeMap<usize, piv::Params>,
    /// The cards of its other PIV providers. They see no PIN of ours.
    pub unlisted: Vec<CardName>,
    /// Its providers that a person types, in the order in which they are asked for.
    pub typed: Vec<usize>,
    /// The types of its other providers, which nothing here can open.
    pub others: Vec<String>,
    /// Whether it is of version 1, which whoever reads it can take apart and make anew.
    pub is_version_1: bool,
}

/// Who runs it, which says what a run may do with a key besides what the spec declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runner {
    /// The key's unit.
    #[default]
    Unit,
    /// A person who wants to know what the unit would do, and waits for nothing.
    Onlooker,
    /// A person at a terminal, who is asked for what only a unit has, and may put another card in.
    /// Nothing is destroyed.
    Admin,
}

/// What a run may do with a key: what the spec declares, as far as that is about this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Who runs it.
    pub runner: Runner,
    /// Whether the profile comes from elsewhere: what the spec says of its place and its id is not
    /// about that one.
    pub elsewhere: bool,
    /// Whether somebody said that a card's key may have the declared policies, also where they want less of
    /// people than those that its profile remembers.
    pub accepts_policies: bool,
}

impl Leave {
    /// Whether a key may be destroyed, if the spec names it.
    #[must_use]
    pub fn overwrites(self, key: &Key) -> bool {
        key.mode == Mode::Overwrite && self.runner != Runner::Admin
    }

    /// The key that the spec has destroyed.
    pub(super) fn named(self, key: &Key) -> Option<Fingerprint> {
        let overwrite = key.overwrite.as_ref().filter(|_| self.overwrites(key));
        overwrite.and_then(|overwrite| overwrite.fingerprint)
    }

    /// Whether a person is asked for what opens a share without a card.
    #[must_use]
    pub fn asks(self, key: &Key) -> bool {
        key.ask || self.runner == Runner::Admin
    }

    /// How long a card is waited for.
    #[must_use]
    pub fn patience(self, key: &Key) -> Duration {
        match self.runner {
            Runner::Unit => key.card_timeout,
            Runner::Onlooker => Duration::ZERO,
            Runner::Admin => key.card_timeout.max(SWAP),
        }
    }

    /// The id that the profile has to have.
    #[must_use]
    pub fn profile_id(self, key: &Key) -> Option<&ProfileId> {
        key.profile_id.as_ref().filter(|_| !self.elsewhere)
    }

    /// Where the profile is, if the configuration ships it.
    #[must_use]
    pub fn shipped(self, key: &Key) -> Option<&Path> {
        key.profile.as_deref().filter(|_| !self.elsewhere)
    }
}

impl Known {
    /// Notes that a provider opened its share.
    pub fn share_opened(&mut self, place: usize) {
        self.opened.insert(place);
        let threshold = self.profile.as_ref().map_or(usize::MAX, |sealed| sealed.threshold);
        self.open |= self.opened.len() >= threshold;
    }

    /// The entry of a card: one of the spec's list, or behind these the one that is to join.
    #[must_use]
    pub fn card<'a>(&'a self, key: &'a Key, listed: Option<usize>) -> Option<&'a Card> {
        match (&self.goal, listed?) {
            (Goal::Join(card), place) if place == key.cards.len() => Some(card),
            (_, place) => key.cards.get(place),
        }
    }

    /// Where the PIN of a card comes from.
    #[must_use]
    pub fn pin_source(&self, key: &Key, listed: Option<usize>) -> Option<PinSource> {
        match (self.leave.runner, key.pin_for(self.card(key, listed))?) {
            (Runner::Admin, PinSource::Credential(_)) => Some(PinSource::Ask),
            (_, source) => Some(source.clone()),
        }
    }

    /// Where the management key of a card comes from.
    #[must_use]
    pub fn management_key<'a>(
        &'a self,
        key: &'a Key,
        listed: Option<usize>,
    ) -> Option<&'a ManagementKeySource> {
        key.management_key_for(self.card(key, listed))
    }
}
