//! A session with the card in hand: the one thing that owns the way to it, what is known of it, its PIN,
//! what is remembered of that PIN, and the turn. It ends when it is dropped, and the card is reset where
//! it learned anything.
//!
//! A method asks the card, notes in the facts what it learned, and decides nothing.

use std::path::PathBuf;

use p256::PublicKey;
use zeroize::Zeroizing;

use super::{
    CardName, Facts, Fault, KeySource, ManagementKey, Pin, PinTries, Piv, Roots, SlotKey,
    SlotState, Turn, Verdict, Wait,
    guard::{self, History, PinGuard},
    resets,
};
use crate::{error::Result as Outcome, system::state_dir::StateDir};

/// A session with a card.
pub struct Session {
    /// The card.
    piv: Piv,
    /// What is known of it.
    pub facts: Facts,
    /// What is remembered of its PINs.
    guard: Option<PinGuard>,
    /// The PIN that is to be presented to it, and where it came from.
    pin: Option<(Pin, String)>,
    /// Whether it accepted one in this session, or may have.
    knows_pin: bool,
    /// Where it is remembered whether the reader resets its card, and whether it does.
    resets: Option<(PathBuf, Option<bool>)>,
    /// Keeps other runs from it; the last to be dropped, once the session has ended.
    _turn: Turn,
}

impl Session {
    pub(super) fn new(piv: Piv, facts: Facts, turn: Turn) -> Self {
        let (knows_pin, resets) = (false, None);
        Self { piv, facts, guard: None, pin: None, knows_pin, resets, _turn: turn }
    }

    /// What the card says that it is known by.
    pub fn identify(&mut self) -> Result<CardName, Fault> {
        self.piv.name()
    }

    /// What is in the slot, as the card tells it without the PIN.
    pub fn inspect(&mut self) -> Result<SlotState, Fault> {
        self.piv.inspect(self.facts.place.slot)
    }

    /// What is in the slot, as key agreements tell it.
    pub fn probe(&mut self, wait: Wait) -> Result<SlotState, Fault> {
        let state = self.piv.probe(self.facts.place.slot, wait)?;
        self.facts.pin.is_fresh = false;
        self.facts.probed = true;
        Ok(state)
    }

    /// Notes what is in the slot. What was attested was not about this.
    pub fn learn(&mut self, state: SlotState) {
        self.facts.slot = Some(state);
        self.facts.attestation = None;
        self.facts.agrees = false;
    }

    /// Asks what the card attests of the slot, and who vouches for it.
    pub fn attest(&mut self, roots: &Roots) -> Result<(), Fault> {
        let told = self.piv.attestation(self.facts.place.slot, roots)?;
        // With PIN policy "always", the question took what the PIN had allowed.
        self.facts.pin.is_fresh = false;
        self.facts.attestation = Some(told);
        Ok(())
    }

    /// A key agreement of the slot's key.
    pub fn agree(&mut self, peer: &PublicKey, wait: Wait) -> Result<Zeroizing<[u8; 32]>, Fault> {
        let answer = self.piv.key_agreement(self.facts.place.slot, peer, wait);
        self.facts.pin.is_fresh = false;
        self.facts.agrees |= answer.is_ok();
        answer
    }

    /// Asks whether the management key is the maker's.
    pub fn learn_management_key(&mut self) -> Result<(), Fault> {
        let told = self.piv.management_metadata()?;
        self.facts.factory_management_key = told.map(|told| told.factory_default);
        Ok(())
    }

    /// The management key that the card keeps behind its PIN.
    pub fn protected_management_key(&mut self) -> Result<Option<ManagementKey>, Fault> {
        self.piv.protected_management_key()
    }

    /// Whether the card accepts the management key.
    pub fn authenticate(&mut self, key: &ManagementKey) -> Result<bool, Fault> {
        self.piv.authenticate(key)
    }

    /// Generates a key in the slot, with the policies of its place, which destroys the one in it.
    pub fn generate(&mut self) -> Result<PublicKey, Fault> {
        let place = self.facts.place;
        let public = self.piv.generate(place.slot, place.pin_policy, place.touch_policy)?;
        self.facts.pin.is_fresh = false;
        Ok(public)
    }

    /// Asks for the PIN's tries.
    pub fn tries(&mut self) -> Result<PinTries, Fault> {
        self.piv.pin_tries()
    }

    /// Resets the card, which forgets its PIN. The transaction is over for a moment, in which others may
    /// change the slot.
    pub fn reset(&mut self) -> Result<(), Fault> {
        self.facts.slot = None;
        self.piv.reset()
    }

    /// Has the card take back a PIN that it holds as verified though it was reset.
    pub fn take_pin_back(&mut self) -> Result<bool, Fault> {
        self.piv.take_pin_back()
    }

    /// Reads what is remembered of the card's PINs, which have so many tries left. Under the turn: nobody
    /// else learns anything of them meanwhile.
    ///
    /// # Errors
    /// As [`PinGuard::open`].
    pub fn open_guard(&mut self, state: &StateDir, card: CardName, tries: u8) -> Outcome<()> {
        self.guard = Some(PinGuard::open(state, card, tries)?);
        self.facts.pin.tries = Some(tries);
        self.resets = Some((state.path().into(), resets::known(state, &self.facts.reader)));
        Ok(())
    }

    /// The name by which the guard knows the card: by the card's own answer, and not by what a profile
    /// says of a card that held the same key.
    pub fn guarded_name(&mut self) -> Result<CardName, Fault> {
        let facts = &self.facts;
        let is_sure = match &facts.slot {
            Some(SlotState::Key(key)) => key.source.tells() && key.is_generated,
            Some(SlotState::Empty) => false,
            // It was found by the name that it goes by.
            Some(SlotState::Unknown) | None => facts.provider.is_some(),
        };
        let named = guard::name(facts.card, self.tells());
        if (facts.provider.is_none() || is_sure) && named != CardName::default() {
            return Ok(named);
        }
        self.own_guarded_name()
    }

    /// The same, by the card's own answer in any case.
    pub fn own_guarded_name(&mut self) -> Result<CardName, Fault> {
        let tells = self.tells();
        self.identify().map(|card| guard::name(card, tells))
    }

    /// Whether the card tells its keys.
    fn tells(&self) -> bool {
        match &self.facts.slot {
            Some(SlotState::Key(key)) => key.source.tells(),
            Some(SlotState::Empty) => true,
            Some(SlotState::Unknown) | None => false,
        }
    }

    /// Where the PIN came from that is to be presented.
    #[must_use]
    pub fn pin_origin(&self) -> &str {
        self.pin.as_ref().map_or("", |(_, origin)| origin)
    }

    /// Takes the PIN that is to be presented, and looks up what became of it before; none where the tries
    /// were not counted, or another PIN was accepted in this run.
    pub fn recall(&mut self, pin: Pin, origin: String, accepted: Option<&Pin>) -> Option<()> {
        let tries = self.facts.pin.tries?;
        self.facts.pin.history = Some(match accepted {
            Some(accepted) => accepted.is(&pin).then_some(History::Proven)?,
            None => self.guard.as_ref()?.recall(&pin, tries),
        });
        self.pin = Some((pin, origin));
        Some(())
    }

    /// Records that the PIN is about to be presented for `key`; none where there is none.
    ///
    /// # Errors
    /// As [`PinGuard::intend`].
    pub fn record(&mut self, key: &str) -> Option<Outcome<()>> {
        let (guard, (pin, _)) = (self.guard.as_mut()?, self.pin.as_ref()?);
        let recorded = guard.intend(pin, self.facts.pin.tries?, key);
        self.facts.pin.history = Some(History::Recorded);
        Some(recorded)
    }

    /// Whether nobody else can use the card, whatever becomes of this program.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.piv.is_alone()
    }

    /// Has the card carry out what others asked of it before this session had it.
    pub fn let_others_finish(&mut self) -> Result<(), Fault> {
        self.piv.let_others_finish()
    }

    /// Presents the PIN for `key`, and writes down what became of it; none where there is none. Where it
    /// can't be written, the card's counter tells the next run.
    pub fn present(&mut self, key: &str, is_typed: bool) -> Option<Result<(Verdict, Pin), Fault>> {
        let ((pin, _), tries) = (self.pin.clone()?, self.facts.pin.tries?);
        let verdict = self.piv.verify_pin(&pin);
        let written = self.guard.as_mut().map_or(Ok(()), |guard| match verdict {
            Ok(Verdict::Accepted) => guard.accepted(&pin, tries, is_typed),
            Ok(Verdict::Rejected(left)) => guard.rejected(&pin, left, key),
            // The card may have rejected it: the next run reads that from the counter.
            Err(_) => guard.intend(&pin, tries, key),
        });
        if let Err(error) = written {
            tracing::warn!("key {key}: {error}");
        }
        let is_accepted = verdict == Ok(Verdict::Accepted);
        self.knows_pin |=
            is_accepted || matches!(verdict, Err(Fault::TimedOut | Fault::Garbage(_)));
        (self.facts.pin.verified, self.facts.pin.is_fresh) = (is_accepted, is_accepted);
        Some(verdict.map(|verdict| (verdict, pin)))
    }

    /// Takes this for the key in the slot, of which the card tells nothing.
    pub fn assume_key(&mut self, public: PublicKey, is_generated: bool) {
        self.learn(SlotState::Key(SlotKey {
            public: Ok(public),
            policies: None,
            source: KeySource::KeyAgreement,
            is_generated,
        }));
    }
}

impl Drop for Session {
    /// Sees to it that the card forgets its PIN. Mostly the reset does that, with which the transport
    /// ends: whether it does in this reader is found out once.
    fn drop(&mut self) {
        let Some((state, resets)) = self.resets.take() else { return };
        if !self.knows_pin || resets == Some(true) || std::thread::panicking() {
            return;
        }
        let (card, reader) = (self.facts.card, &self.facts.reader);
        let is_forgotten = if resets.is_none() { self.piv.forgets_by_reset() } else { Ok(false) };
        if let (None, Ok(resets)) = (resets, &is_forgotten) {
            if let Err(error) = resets::remember(&state, reader, *resets) {
                tracing::debug!("{error}");
            }
            if !resets {
                tracing::warn!(
                    "reader {reader:?} does not reset its card. The PIN is taken back at the end of each run."
                );
            }
        }
        if matches!(is_forgotten, Ok(false)) {
            // Some readers do that at least, and then a management key is forgotten, too.
            self.piv.power_off_at_end();
        }
        match is_forgotten.and_then(|is| if is { Ok(true) } else { self.piv.take_pin_back() }) {
            // Also where the card went away, or was reset.
            Ok(true) | Err(Fault::Absent | Fault::Reset | Fault::Lost) => {}
            other => tracing::warn!(
                "{card} in reader {reader:?} may still hold its PIN as verified ({}). Take it out, or use \
                 another reader.",
                other.map_or_else(|fault| fault.to_string(), |_| "it says so".into())
            ),
        }
    }
}
