//! The slot's key: what is in the slot, and generating one there.

use std::fmt;

use base16ct::mixed;
use zeroize::Zeroizing;

use super::{Attempt, Failure, Work, out_of_order};
use crate::{
    error::{Class, Error},
    observe,
    profile::generating::Generating,
    spec::ManagementKeySource,
    system::{notify, secret_file::read_private},
    token::{
        Fault, Fingerprint, KeySource, ManagementKey, Session, Slot, SlotKey, SlotState,
        TouchPolicy, Wait, fingerprint, is_named_by, same_key,
    },
};

/// 32 bytes in hex, and a line ending.
const LONGEST_FILE: usize = 80;

/// What a run did to a slot.
pub(super) struct Generation {
    slot: Slot,
    destroys: Option<Fingerprint>,
    /// The new key; none where the card did not tell.
    made: Option<Fingerprint>,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, destroys, made } = self;
        match (made, destroys) {
            (Some(made), Some(old)) => {
                write!(
                    f,
                    "this run destroyed {old} in slot {slot}, for good, and {made} is there now"
                )
            }
            (Some(made), None) => {
                write!(f, "this run generated {made} in slot {slot}, which was empty")
            }
            (None, Some(old)) => write!(
                f,
                "this run had the card generate a key in slot {slot}, and {old} may be gone, for good"
            ),
            (None, None) => write!(
                f,
                "this run had the card generate a key in slot {slot}, which was empty and may hold one now"
            ),
        }
    }
}

impl Work<'_> {
    /// Asks what is in the slot, without the PIN.
    pub(super) fn inspect_slot(&mut self) -> Attempt {
        let state = self.with_card("looking at the slot", Session::inspect)?;
        self.learn_slot(state)
    }

    /// Finds out by key agreements what is in the slot.
    pub(super) fn probe_slot(&mut self) -> Attempt {
        let (tried, limit) = self.expect_touch("finding out what is in the slot")?;
        let state = self.session()?.probe(limit);
        let state = state.map_err(|fault| self.agreement_failure(fault, tried))?;
        self.learn_slot(state)
    }

    /// Notes what is in the slot, and what the planner has to know besides.
    pub(super) fn learn_slot(&mut self, state: SlotState) -> Attempt {
        let listed = self.session()?.facts.listed;
        let overwrites = self.known.leave.overwrites(self.key);
        let generates = state == SlotState::Empty || overwrites;
        if generates && self.known.management_key(self.key, listed).is_none() {
            self.with_card("asking for the management key", Session::learn_management_key)?;
        }
        if self.gets_a_key() {
            // One may be sealed to the key that was found, whatever name its card had then.
            let facts = &self.session()?.facts;
            let (card, slot) = (facts.card, facts.place.slot);
            let named = (self.name, overwrites);
            let others = observe::others(&self.store, self.spec, named, slot, card, &state)?;
            let facts = &mut self.session()?.facts;
            (facts.orphan, facts.dependent) = (others.orphan, others.dependent);
        }
        let is_as_before = |generation: &Generation| match &state {
            SlotState::Empty => generation.destroys.is_none(),
            SlotState::Key(SlotKey { public: Ok(found), .. }) => {
                generation.destroys.is_some_and(|old| is_named_by(found, old))
            }
            _ => false,
        };
        // It never came to that.
        self.generation.take_if(|generation| generation.made.is_none() && is_as_before(generation));
        self.session()?.learn(state);
        Ok(())
    }

    /// Whether the card is one that a profile is to be written for.
    pub(super) fn gets_a_key(&self) -> bool {
        let provider = self.session.as_ref().and_then(|session| session.facts.provider);
        provider.is_none() || provider == self.known.doomed(self.key)
    }

    /// Records that a key is about to be generated.
    pub(super) fn begin_record(&mut self, record: Generating) -> Attempt {
        // A later run finds the record by the card's name.
        self.check_name("recording that a key is about to be generated")?;
        self.store.begin_generating(self.name, &record)?;
        self.known.record = Some(record);
        Ok(())
    }

    /// Removes the record of a generation whose key has its profile.
    pub(super) fn end_record(&mut self) {
        // The profile comes first: a run that was killed may have left it unsynced.
        let ended = self.store.sync(self.name).and_then(|()| self.store.end_generating(self.name));
        if let Err(error) = ended {
            // It does no harm, and the next run tries again.
            tracing::warn!("key {}: {error}", self.name);
        }
        self.known.record = None;
    }

    /// Generates a key in the slot, which destroys the one in it, if there is one.
    pub(super) fn generate(&mut self, destroys: Option<Fingerprint>) -> Attempt {
        let management_key = self.management_key()?;
        self.see_to_others("the management key")?;
        let what = "authenticating with the management key";
        if !self.with_card(what, |session| session.authenticate(&management_key))? {
            let card = self.session()?.facts.card;
            return Err(Failure::Final(Error::new(
                Class::Spec,
                format!("key {}: {what} of {card}", self.name),
                "the card did not accept it",
                format!(
                    "Correct security.cryptkey.keys.{}.managementKey; `ykman piv info` says of which \
                     kind the card's is.",
                    self.name
                ),
            )));
        }
        if !self.slot_is_as_it_was()? {
            return Ok(());
        }
        let slot = self.session()?.facts.place.slot;
        if let Some(key) = destroys {
            tracing::warn!("key {}: destroying {key} in slot {slot}", self.name);
        }
        notify::status("generating a key on the card");
        self.generation = Some(Generation { slot, destroys, made: None });
        let public = match self.with_card("generating a key", Session::generate) {
            Err(Failure::Card(fault @ (Fault::Status(_) | Fault::Garbage(_)), tried)) => {
                return Err(self.not_generated(&fault, tried));
            }
            generated => generated?,
        };
        let made = fingerprint(&public);
        self.generation = Some(Generation { slot, destroys, made: Some(made) });
        tracing::info!("key {}: generated {made} in slot {slot}", self.name);
        // What the card itself says of the new key counts, its policies above all. Where it can't
        // tell, or shows an old certificate, the answer to the generation stands.
        let told = self.with_card("looking at the new key", Session::inspect)?;
        match told {
            SlotState::Key(SlotKey { public: Ok(found), source, .. })
                if source != KeySource::Certificate
                    && destroys.is_some_and(|old| is_named_by(&found, old)) =>
            {
                return Err(Failure::Final(Error::new(
                    Class::Card,
                    format!("key {}: looking at the new key", self.name),
                    "the card generated a key, and still shows the old one",
                    "Nothing was written. Take the card out, insert it again and start over.",
                )));
            }
            SlotState::Key(SlotKey { public: Ok(found), source, .. })
                if source != KeySource::Certificate || same_key(&found, &public) =>
            {
                self.session()?.learn(told);
            }
            _ => self.session()?.assume_key(public, true),
        }
        Ok(())
    }

    /// What it means that the card did not generate a key, and what is in the slot after that.
    fn not_generated(&mut self, fault: &Fault, tried: String) -> Failure {
        let mut error = fault.error(tried);
        let Some(session) = &mut self.session else { return error.into() };
        let (before, place) = (session.facts.slot.clone(), session.facts.place);
        let asks = session.facts.probed && place.touch_policy == TouchPolicy::Never;
        let again = session.inspect().and_then(|told| match told {
            SlotState::Unknown if asks => session.probe(Wait::ANSWER),
            told => Ok(told),
        });
        let slot = place.slot;
        let found = match (&before, &again) {
            (Some(SlotState::Empty), Ok(SlotState::Empty)) => {
                self.generation = None;
                format!("slot {slot} is still empty")
            }
            (Some(SlotState::Key(old)), Ok(SlotState::Key(now))) if is_same(old, now) => {
                self.generation = None;
                let still = format!("the key that was in slot {slot} is still there, unharmed");
                match (old.policies, now.policies) {
                    (Some(old), Some(now)) if old != now => format!(
                        "{still}, but the card changed its policies: PIN {} and touch {} before, PIN {} \
                         and touch {} now",
                        old.0, old.1, now.0, now.1
                    ),
                    _ => still,
                }
            }
            (_, Ok(SlotState::Unknown)) => format!("it does not tell what is in slot {slot} now"),
            (_, Ok(now)) => format!("in slot {slot} it shows now: {now}"),
            (_, Err(fault)) => format!("asked what is in slot {slot} now: {fault}"),
        };
        error.found = format!("{}; {found}", error.found);
        if place.touch_policy != TouchPolicy::Never && matches!(fault, Fault::Status(_)) {
            error.advice = format!(
                "The card may have no touch, which touchPolicy = \"{}\" wants. Set security.cryptkey.keys.{}.touchPolicy = \
                 \"never\", or take a card with touch.",
                place.touch_policy, self.name
            );
        }
        error.into()
    }

    /// Whether the card says of the slot what it said before. What is generated over is gone, so one
    /// answer is not enough; if this one differs, the planner decides again.
    fn slot_is_as_it_was(&mut self) -> Attempt<bool> {
        let again = self.with_card("looking at the slot again", Session::inspect)?;
        let facts = &self.session()?.facts;
        let was_probed = facts.probed && again == SlotState::Unknown;
        if was_probed || facts.slot.as_ref() == Some(&again) {
            return Ok(true);
        }
        let slot = facts.place.slot;
        tracing::warn!("key {}: of slot {slot} the card now says: {again}", self.name);
        self.learn_slot(again)?;
        Ok(false)
    }

    /// That the card, asked again, gives the name that it gave before.
    pub(super) fn check_name(&mut self, doing: &str) -> Attempt {
        let card = self.session()?.facts.card;
        let again = self.with_card("asking for its name again", Session::identify)?;
        if again == card {
            return Ok(());
        }
        let found = if again.serial.is_some() && again.serial == card.serial {
            "asked again, the card tells another GUID".to_owned()
        } else {
            format!("asked again, the card says that it is {again}")
        };
        Err(Failure::Final(Error::new(
            Class::Card,
            format!("key {}: {doing}, on {card}", self.name),
            found,
            "Nothing was written. Take the card out, insert it again and start over.",
        )))
    }

    fn management_key(&mut self) -> Attempt<ManagementKey> {
        let wrong = |tried: String, found: &str, advice: &str| {
            Failure::Final(Error::new(Class::Spec, tried, found, advice))
        };
        let listed = self.session()?.facts.listed;
        let source = self.known.management_key(self.key, listed).cloned();
        match source {
            Some(ManagementKeySource::File(path)) => {
                let text = read_private(&path, LONGEST_FILE, Class::Spec)?;
                let mut bytes = Zeroizing::new(vec![0; text.len() / 2]);
                mixed::decode(&text[..], &mut bytes)
                    .ok()
                    .map(drop)
                    .and_then(|()| ManagementKey::new(bytes))
                    .ok_or_else(|| {
                        wrong(
                            format!("key {}: reading management key {}", self.name, path.display()),
                            "it is not 32, 48 or 64 hex digits",
                            "Correct the file.",
                        )
                    })
            }
            Some(ManagementKeySource::Protected) => {
                let what = "reading the management key behind the PIN";
                let key = self.with_card(what, Session::protected_management_key)?;
                key.ok_or_else(|| {
                    wrong(
                        format!("key {}: {what}", self.name),
                        "the card keeps none",
                        "Make it so with `ykman piv access change-management-key --protect`, or name a \
                         file that holds the key.",
                    )
                })
            }
            Some(ManagementKeySource::FactoryDefault) => Ok(ManagementKey::factory_default()),
            None => Err(out_of_order(self.name)),
        }
    }
}

/// Whether both are the same key, as far as a key agreement can tell.
fn is_same(one: &SlotKey, other: &SlotKey) -> bool {
    matches!((&one.public, &other.public), (Ok(one), Ok(other)) if same_key(one, other))
}
