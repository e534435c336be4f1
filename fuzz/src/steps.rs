//! What a run asks of a card, in its order, and what must hold whatever the card answers.

use cryptkey::{
    profile::{
        piv::{Peer, Scheme, SharedX},
        proof::Proof,
    },
    token::{
        Fault, KeySource, ManagementKey, Pin, PinPolicy, Piv, Slot, SlotState, TouchPolicy, Wait,
        base_point,
    },
};
use p256::PublicKey;

use crate::script::Sent;

const LIMIT: Wait = Wait::ANSWER;
/// The PIN that is presented.
pub const PIN: &[u8] = b"123456";

/// The slot that everything is about.
///
/// # Panics
/// Never: the slot has a number.
pub fn slot() -> Slot {
    "9d".parse().unwrap()
}

/// The salt of the point that the card is asked for.
pub const SALT: [u8; 32] = [2; 32];

/// Whatever it asks, a card gives a value or a fault that is its own.
///
/// # Panics
/// On another fault.
pub fn settled<T>(result: Result<T, Fault>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Fault::Status(_) | Fault::Garbage(_) | Fault::Absent) => None,
        Err(other) => panic!("{other:?} is no fault of the card"),
    }
}

/// An enrollment as far as a card sees it: the key that was proven, and the answer for [`SALT`].
///
/// # Panics
/// Where something does not hold.
pub fn enroll(piv: &mut Piv) -> Option<(PublicKey, SharedX)> {
    let slot = slot();
    settled(piv.name())?;
    let mut state = settled(piv.inspect(slot))?;
    settled(piv.pin_tries())?;
    settled(piv.verify_pin(&Pin::new(PIN).unwrap()))?;
    if state == SlotState::Unknown {
        state = settled(piv.probe(slot, LIMIT))?;
    }
    let public = match state {
        SlotState::Key(key) => key.public.ok()?,
        SlotState::Unknown => return None,
        SlotState::Empty => {
            let kept = settled(piv.protected_management_key())?;
            let key = kept.unwrap_or_else(ManagementKey::factory_default);
            if !settled(piv.authenticate(&key))? {
                return None;
            }
            settled(piv.generate(slot, PinPolicy::Once, TouchPolicy::Never))?
        }
    };
    let peer = Peer::new(Scheme::HashToCurve, SALT).unwrap();
    let x = settled(piv.key_agreement(slot, peer.point(), LIMIT))?;
    let proof = Proof::new(peer.point(), SharedX::new(&x)).unwrap();
    let answer = settled(piv.key_agreement(slot, proof.challenge(), LIMIT))?;
    Some((public, proof.accept(&SharedX::new(&answer), &public)?))
}

/// Everything else that is ever asked, in an order that the bytes choose.
///
/// # Panics
/// Where something does not hold.
pub fn ask(piv: &mut Piv, what: u8) {
    let slot = slot();
    match what % 12 {
        0 => drop(settled(piv.serial())),
        1 => drop(settled(piv.guid())),
        2 => drop(settled(piv.pin_tries())),
        3 => drop(settled(piv.management_metadata())),
        4 => drop(settled(piv.ask(slot, KeySource::Metadata))),
        5 => drop(settled(piv.ask(slot, KeySource::Attestation))),
        6 => drop(settled(piv.ask(slot, KeySource::Certificate))),
        7 => drop(settled(piv.probe(slot, LIMIT))),
        8 => drop(settled(piv.protected_management_key())),
        9 => drop(settled(piv.authenticate(&ManagementKey::factory_default()))),
        10 => drop(settled(piv.key_agreement(slot, &base_point(), LIMIT))),
        _ => drop(settled(piv.reset())),
    }
}

/// That no answer brought out a second PIN or a second key, or commands without end.
///
/// # Panics
/// Where it did.
pub fn is_careful(sent: &Sent) {
    let sent = sent.borrow();
    let pins = sent.iter().filter(|command| command[1] == 0x20 && command.len() > 6).count();
    assert!(pins <= 1, "the PIN was presented {pins} times");
    let keys = sent.iter().filter(|command| command[1] == 0x47).count();
    assert!(keys <= 1, "{keys} keys were generated");
    // Of 16 KiB at most, a byte each.
    assert!(sent.len() < 40 * 16 * 1024, "{} commands", sent.len());
}
