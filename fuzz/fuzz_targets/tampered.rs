//! A real card behind a wire that changes what it says: whatever that is, no key is proven that is
//! not the card's, and no answer taken for right that is not.
#![no_main]

use std::{cell::RefCell, os::unix::fs::symlink, rc::Rc};

use cryptkey::profile::piv::{Peer, Scheme};
use cryptkey::token::same_key;
use cryptkey_fuzz::{
    script::card,
    steps::{PIN, SALT, enroll, is_careful},
};
use libfuzzer_sys::fuzz_target;
use p256::{
    NonZeroScalar, ProjectivePoint, PublicKey, elliptic_curve::point::AffineCoordinates as _,
};
use virtual_card::{Card, KeySource, Options, SlotOption, state::PinPolicy};

/// A number that is no secret.
const SCALAR: [u8; 32] = *b"a private key that is not secret";

/// A card that tells its key, and one that doesn't.
fn make(legacy: bool) -> Rc<RefCell<Card>> {
    let dir = tempfile::tempdir().unwrap();
    // Millions of APDUs.
    symlink("/dev/null", dir.path().join("apdu.log")).unwrap();
    let key = KeySource::Import(SCALAR.to_vec());
    // A presented PIN is written to its memory, which is gone.
    let policy = Some(PinPolicy::Never);
    let slot = SlotOption { slot: 0x9d, key, pin_policy: policy, touch_policy: None };
    let options = Options { slots: vec![slot], legacy, ..Options::default() };
    let card = Card::open(dir.path(), options).unwrap();
    Rc::new(RefCell::new(card))
}

thread_local! {
    static CARDS: [Rc<RefCell<Card>>; 2] = [make(false), make(true)];
}

/// Changes an answer by what the fuzzer says.
fn tamper(answer: &mut Vec<u8>, how: &mut impl Iterator<Item = u8>) -> Option<()> {
    match how.next()? {
        0..=99 => {}
        100..=149 => {
            let at = usize::from(how.next()?) % answer.len().max(1);
            let with = how.next()?;
            answer.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
        }
        150..=169 => answer.truncate(usize::from(how.next()?)),
        170..=199 => {
            answer.truncate(answer.len().saturating_sub(2));
            answer.extend([how.next()?, how.next()?]);
        }
        200..=219 => {
            let (at, length) = (usize::from(how.next()?), usize::from(how.next()? % 40));
            let at = at.min(answer.len());
            let more: Vec<_> = how.take(length).collect();
            answer.splice(at..at, more);
        }
        220..=229 => {
            // Another point of the curve in the place of each.
            let other = Peer::new(Scheme::HashToCurve, [how.next()?; 32]).unwrap();
            let other = other.point().to_sec1_bytes();
            for at in 0..answer.len().saturating_sub(64) {
                if answer[at] == 4 && PublicKey::from_sec1_bytes(&answer[at..at + 65]).is_ok() {
                    answer[at..at + 65].copy_from_slice(&other);
                }
            }
        }
        _ => {
            let length = usize::from(how.next()?);
            *answer = how.take(length).collect();
        }
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let real = CARDS.with(|cards| Rc::clone(&cards[usize::from(which & 1)]));
    real.borrow_mut().reset();
    let wire = Rc::clone(&real);
    let mut how = Vec::from(rest).into_iter();
    let session = card(move |command| {
        // Nothing that the card would have to keep.
        let mut answer = match command[1] {
            0x20 if command.len() > 6 => {
                assert_eq!(&command[5..5 + PIN.len()], PIN);
                vec![0x90, 0x00]
            }
            0x47 => vec![0x69, 0x82],
            _ => wire.borrow_mut().transmit(command).ok()?,
        };
        if command[1] != 0xa4 {
            tamper(&mut answer, &mut how);
        }
        Some(answer)
    });
    let Some((mut piv, sent)) = session else { return };
    if let Some((public, x)) = enroll(&mut piv) {
        let scalar = NonZeroScalar::try_from(&SCALAR[..]).unwrap();
        assert!(same_key(&public, &PublicKey::from_secret_scalar(&scalar)));
        let peer = Peer::new(Scheme::HashToCurve, SALT).unwrap();
        let right = (ProjectivePoint::from(peer.point()) * *scalar).to_affine().x();
        assert_eq!(x.as_bytes()[..], right[..]);
    }
    is_careful(&sent);
});
