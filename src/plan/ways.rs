//! The ways in: which of a profile's providers comes next, and what is done without those that fail.
//!
//! Cards come first. People are asked only where the cards that are there are not enough. A provider
//! that fails is not tried again in the run, and the others go on, as long as they are enough.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Goal, Known, Refusal, Sealed, Step};
use crate::{
    error::Class,
    profile::piv,
    spec::{Card, Key},
    token::{CardName, Enrolled, Facts, Wanted},
};

/// What a step is about, and what is done without if it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// These providers, by their places in the profile.
    Providers(Vec<usize>),
    /// Sealing the key to these cards of the spec's list, by their places there.
    Listed(Vec<usize>),
    /// All of it: nothing can be done without.
    Run,
}

impl Known {
    /// The cards that are looked for next.
    #[must_use]
    pub fn wanted(&self, key: &Key) -> Wanted {
        let named = |cards: Vec<(usize, &Card)>| {
            let named = |(at, card): (usize, &Card)| (at, card.name(), key.place(Some(card)));
            Wanted::Named(cards.into_iter().map(named).collect())
        };
        if self.profile.is_none() {
            let cards = key.cards.iter().enumerate();
            let left = cards.filter(|(place, _)| !self.settled.contains(place)).collect();
            return if key.cards.is_empty() { Wanted::Any(key.place(None)) } else { named(left) };
        }
        if self.is_as_open_as_wanted(key) {
            return named(self.to_join(key));
        }
        let doomed = self.doomed(key);
        let pins = |place| key.pin_for(self.card(key, Some(place)));
        let minds_copies = (1..key.cards.len()).any(|place| pins(place) != pins(0));
        let mut enrolled: Vec<_> = self
            .candidates(key)
            .map(|(place, params)| Enrolled {
                provider: place,
                card: params.card(),
                public_key: params.public_key,
                place: key.place_of(&params.card()),
                source: params.key_source,
                card_key: params.attestation.map(|trust| trust.card_key),
                reader: params.card_name.clone(),
                asks_name: doomed == Some(place),
                minds_copies,
            })
            .collect();
        // Whoever was asked for a PIN is not asked for that of another card before it was presented.
        enrolled.sort_by_key(|enrolled| !self.pins.may_have(&enrolled.card));
        Wanted::Enrolled(enrolled)
    }

    /// The providers whose card may be next.
    pub(super) fn candidates(&self, key: &Key) -> impl Iterator<Item = (usize, &piv::Params)> {
        let doomed = self.doomed(key);
        let sealed = self.profile.as_ref();
        // Before a key is destroyed, the others have to open the profile, if they can.
        let its_turn = |place| {
            self.open || sealed.is_some_and(|s| !s.opens_without(self.leave.asks(key), place))
        };
        let only = doomed.filter(|&place| its_turn(place));
        let providers = sealed.into_iter().flat_map(|sealed| &sealed.piv);
        providers.map(|(&place, provider)| (place, provider)).filter(
            move |&(place, _)| match only {
                Some(only) => place == only,
                None => doomed != Some(place) && self.is_to_be_opened(place),
            },
        )
    }

    /// Whether the provider at `place` is one that is still to be opened.
    fn is_to_be_opened(&self, place: usize) -> bool {
        let is_wanted = match self.goal.wanted() {
            // Nobody waits for the others, where these are enough.
            Some(wanted) if self.is_enough(wanted.len()) => wanted.contains(&place),
            Some(wanted) => !self.open || wanted.contains(&place),
            None => !self.open,
        };
        is_wanted && !self.opened.contains(&place) && !self.failed.contains(&place)
    }

    /// Whether so many providers open the profile.
    fn is_enough(&self, providers: usize) -> bool {
        self.profile.as_ref().is_some_and(|sealed| providers >= sealed.threshold)
    }

    /// The provider that a person is asked for next. That anybody may be asked is in [`Self::reach`].
    fn to_ask(&self) -> Option<usize> {
        let mut typed = self.profile.iter().flat_map(|sealed| &sealed.typed).copied();
        typed.find(|&place| self.is_to_be_opened(place))
    }

    /// Whether all is open that the run wants to be open, and no key is to be destroyed any more.
    pub(super) fn is_as_open_as_wanted(&self, key: &Key) -> bool {
        let has_all = self.goal.wanted().is_none_or(|wanted| wanted.is_subset(&self.opened));
        self.open && has_all && self.doomed(key).is_none()
    }

    /// The cards of the spec's list to which the open key is still to be sealed. A profile of version 1
    /// never is, nor, at boot, a shipped one.
    #[must_use]
    pub fn to_join<'a>(&'a self, key: &'a Key) -> Vec<(usize, &'a Card)> {
        let sealed = self.profile.as_ref().filter(|sealed| !sealed.is_version_1);
        let Some(sealed) = sealed else { return Vec::new() };
        let left = |(at, _): &(usize, &Card)| !self.settled.contains(at);
        match &self.goal {
            Goal::Publish if self.leave.shipped(key).is_none() => {
                let cards = key.cards.iter().enumerate().filter(left);
                cards.filter(|(_, card)| !sealed.knows(key, card)).collect()
            }
            Goal::Join(card) => Some((key.cards.len(), &**card)).into_iter().filter(left).collect(),
            Goal::Publish | Goal::Open(_) | Goal::Renew(_) => Vec::new(),
        }
    }

    /// Whether the session is with one of those.
    pub(super) fn joins(&self, key: &Key, listed: Option<usize>) -> bool {
        self.is_as_open_as_wanted(key)
            && self.to_join(key).iter().any(|(at, _)| listed == Some(*at))
    }

    /// What comes next while there is no session.
    pub(super) fn next_way(&self, key: &Key) -> Result<Step, Refusal> {
        match self.wanted(key) {
            Wanted::Enrolled(enrolled) if enrolled.is_empty() => {
                self.to_ask().map(Step::AskShare).ok_or_else(|| self.out_of_reach(key))
            }
            _ => Ok(Step::FindCard),
        }
    }

    /// How many providers have opened their share, or may still do so in this run.
    pub(super) fn reach(&self, key: &Key) -> usize {
        let Some(sealed) = &self.profile else { return 0 };
        let may_ask = self.leave.asks(key) && !self.unanswered;
        let doomed = self.doomed(key);
        let cards = sealed.piv.keys().filter(|place| doomed != Some(**place));
        let typed = sealed.typed.iter().filter(|_| may_ask);
        let left = cards.chain(typed).filter(|place| !self.failed.contains(place));
        left.filter(|place| !self.opened.contains(place)).count() + self.opened.len()
    }

    /// The refusal of a profile whose providers can't meet its threshold.
    pub(super) fn out_of_reach(&self, key: &Key) -> Refusal {
        let Some(sealed) = &self.profile else { return Refusal::NotEnrolled };
        if !sealed.unlisted.is_empty() {
            return Refusal::Unlisted { cards: sealed.unlisted.clone() };
        }
        Refusal::OutOfReach {
            threshold: sealed.threshold,
            cards: sealed.piv.len(),
            typed: sealed.typed.len(),
            others: sealed.others.clone(),
            asks: self.leave.asks(key),
        }
    }

    /// What is given up if `step` fails, or if the planner refuses to go on with the session.
    #[must_use]
    pub fn at_stake(&self, key: &Key, session: Option<&Facts>, step: Option<Step>) -> Way {
        if self.profile.is_none() {
            return Way::Run;
        }
        if self.is_as_open_as_wanted(key) {
            let is_joining = self.goal == Goal::Publish && self.published;
            return match session.and_then(|session| session.listed) {
                Some(listed) if is_joining => Way::Listed(vec![listed]),
                None if is_joining => Way::Listed((0..key.cards.len()).collect()),
                _ => Way::Run,
            };
        }
        let places = match (session.map(|session| session.provider), step) {
            (Some(Some(place)), _) | (None, Some(Step::AskShare(place))) => vec![place],
            (None, Some(Step::FindCard)) => self.candidates(key).map(|(place, _)| place).collect(),
            _ => return Way::Run,
        };
        match self.doomed(key) {
            Some(doomed) if places.contains(&doomed) => Way::Run,
            _ => Way::Providers(places),
        }
    }

    /// Goes on without what failed. Returns false where the run can't get any further then.
    #[must_use]
    pub fn give_up(&mut self, key: &Key, way: Way) -> bool {
        match way {
            Way::Run => return false,
            Way::Listed(places) => {
                self.settled.extend(places);
                return true;
            }
            Way::Providers(places) => self.failed.extend(places),
        }
        let is_lost = |wanted: &BTreeSet<usize>| !wanted.is_disjoint(&self.failed);
        let threshold = self.profile.as_ref().map_or(0, |sealed| sealed.threshold);
        !self.goal.wanted().is_some_and(is_lost) && self.reach(key) >= threshold
    }
}

impl Sealed {
    /// How many of its providers the spec lets open it: the cards that it lists, and what people type if
    /// they are asked.
    #[must_use]
    pub fn usable(&self, asks: bool) -> usize {
        self.piv.len() + if asks { self.typed.len() } else { 0 }
    }

    /// Whether it is sealed to this card of the spec's list, or may be. A provider whose card is another
    /// one of the list is none that may.
    #[must_use]
    pub fn knows(&self, key: &Key, card: &Card) -> bool {
        let is_listed = |name: &CardName| key.cards.iter().any(|c| name.is_known_as(&c.name()));
        self.piv.values().map(piv::Params::card).any(|name| {
            name.is_known_as(&card.name()) || name.may_be(&card.name()) && !is_listed(&name)
        })
    }
}

/// The id that the spec gives a card is none that the profile has already: found out before a PIN is
/// spent, and a key made, for a card that could not be added then.
pub(super) fn check_id(
    key: &Key,
    known: &Known,
    sealed: &Sealed,
    session: &Facts,
) -> Result<(), Refusal> {
    let declared = known.card(key, session.listed).and_then(|card| card.id.as_deref());
    match declared.filter(|id| sealed.ids.iter().any(|used| used == id)) {
        Some(id) => Err(Refusal::IdInUse { id: id.into() }),
        None => Ok(()),
    }
}

/// The text of [`Refusal::OutOfReach`]. `typed` is how many there are, and whether they are asked for.
pub(super) fn out_of_reach_parts(
    threshold: usize,
    cards: usize,
    (typed, asks): (usize, bool),
    others: &[String],
    option: impl Fn(&str) -> String,
) -> (Class, &'static str, String, String) {
    let others = others.join(", ");
    let mut found = format!(
        "it takes {threshold} providers; there are: cards {cards}, passphrases and recovery codes {typed}"
    );
    if typed > 0 && !asks {
        let advice = format!("Set {} = true, so that somebody is asked for them.", option("ask"));
        return (Class::Spec, "opening its profile", found, advice);
    }
    if !others.is_empty() {
        // Writing to a string never fails.
        let _ = write!(found, ", of other types: {others}");
    }
    let advice = "It can't be opened here. Restore a profile that has more providers from a backup, or \
                  open it with a program that knows the other ones.";
    (Class::Profile, "opening its profile", found, advice.into())
}
