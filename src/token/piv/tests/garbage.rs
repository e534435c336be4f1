//! Cards that answer nonsense: any answer replaced by anything.

use p256::PublicKey;
use proptest::{collection::vec, prelude::*, sample::Index};
use virtual_card::Options;
use zeroize::Zeroizing;

use super::{
    super::{
        Fault, KeySource, ManagementKey, Pin, PinPolicy, Piv, SlotKey, SlotState, TouchPolicy,
        Wait, base_point,
    },
    support::{Bench, PIN, generated, imported, legacy, put, slot},
};
use crate::profile::{
    piv::{Peer, Scheme, SharedX},
    proof::Proof,
};
use crate::{chance::cases, token::same_key};

const LIMIT: Wait = Wait::ANSWER;

/// What becomes of an answer.
#[derive(Clone, Debug)]
enum Nonsense {
    Random(Vec<u8>),
    Truncated(Index),
    Extended(Vec<u8>),
    Status(u16),
    /// The right data with another status word.
    Relabeled(u16),
    Flipped(Index, u8),
    /// All points that it holds are another one, which is on the curve too.
    OtherPoint,
    Nothing,
}

fn nonsense() -> impl Strategy<Value = Nonsense> {
    let status = prop_oneof![
        prop::sample::select(vec![
            0x9000_u16, 0x6100, 0x6101, 0x61ff, 0x6c00, 0x6c20, 0x63c0, 0x63c3, 0x6300, 0x6400,
            0x6700, 0x6982, 0x6983, 0x6985, 0x6a80, 0x6a81, 0x6a82, 0x6a86, 0x6a88, 0x6d00, 0x6f00,
        ]),
        any::<u16>(),
    ];
    prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(Nonsense::Random),
        any::<Index>().prop_map(Nonsense::Truncated),
        vec(any::<u8>(), 1..300).prop_map(Nonsense::Extended),
        status.clone().prop_map(Nonsense::Status),
        status.prop_map(Nonsense::Relabeled),
        (any::<Index>(), 1_u8..).prop_map(|(index, flip)| Nonsense::Flipped(index, flip)),
        Just(Nonsense::OtherPoint),
        Just(Nonsense::Nothing),
    ]
}

impl Nonsense {
    fn apply(&self, mut answer: Vec<u8>) -> Vec<u8> {
        let at = |index: &Index, answer: &[u8]| index.index(answer.len().max(1));
        match self {
            Self::Random(bytes) => return bytes.clone(),
            Self::Truncated(index) => answer.truncate(at(index, &answer)),
            Self::Extended(more) => {
                let body = answer.len().saturating_sub(2);
                answer.splice(body..body, more.iter().copied());
            }
            Self::Status(word) => return word.to_be_bytes().to_vec(),
            Self::Relabeled(word) => {
                answer.truncate(answer.len().saturating_sub(2));
                answer.extend(word.to_be_bytes());
            }
            Self::Flipped(index, flip) => {
                let index = at(index, &answer);
                answer.iter_mut().skip(index).take(1).for_each(|byte| *byte ^= flip);
            }
            Self::OtherPoint => {
                let other = other_point().to_sec1_bytes();
                let points = (0..answer.len().saturating_sub(64)).filter(|&i| {
                    PublicKey::from_sec1_bytes(&answer[i..i + 65]).is_ok() && answer[i] == 4
                });
                for start in points.collect::<Vec<_>>() {
                    answer[start..start + 65].copy_from_slice(&other);
                }
            }
            Self::Nothing => answer.clear(),
        }
        answer
    }
}

/// A point that is no card's key.
fn other_point() -> PublicKey {
    *Peer::new(Scheme::HashToCurve, [1; 32]).unwrap().point()
}

/// Cards with a key in 9d, of each source of what is told of it.
fn benches() -> [Bench; 3] {
    let slot = slot("9d");
    let talking = Bench::with_state(legacy(imported(0x9d)), |state| {
        let other = Bench::new(generated(0x9d)).attestation(slot);
        let [high, low] = u16::try_from(other.len()).unwrap().to_be_bytes();
        put(state, "5fc10b", &[&[0x70, 0x82, high, low], &other[..]].concat());
    });
    [Bench::new(generated(0x9d)), Bench::new(legacy(imported(0x9d))), talking]
}

thread_local! {
    static BENCHES: [Bench; 3] = benches();
    static BLANK: Bench = Bench::new(Options::default());
}

/// A session whose answer number `nth`, SELECT's apart, is nonsense.
fn session(bench: &Bench, nth: usize, nonsense: Nonsense) -> Piv {
    let mut number = 0;
    bench.tampered(move |command, answer| {
        number += 1;
        // "No such key" instead of metadata is not nonsense but a lie, and a well-formed one.
        let lie = command[1] == 0xf7
            && matches!(nonsense, Nonsense::Status(0x6a88) | Nonsense::Relabeled(0x6a88));
        if number == nth + 1 && !lie { nonsense.apply(answer) } else { answer }
    })
}

/// The result of anything at a card that talks nonsense: it is there, or a fault says what was wrong.
fn settled<T>(result: Result<T, Fault>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Fault::Status(_) | Fault::Garbage(_)) => None,
        Err(other) => panic!("{other:?} is no fault of the card"),
    }
}

proptest! {
    #![proptest_config(cases!(400))]

    /// Rule 7: a slot that holds a key is never taken for empty.
    #[test]
    fn garbage_is_never_an_empty_slot(which in 0_usize..3, nth in 0_usize..8, nonsense in nonsense()) {
        BENCHES.with(|benches| {
            let mut piv = session(&benches[which], nth, nonsense.clone());
            let state = settled(piv.inspect(slot("9d")));
            prop_assert!(state != Some(SlotState::Empty), "inspect: {nonsense:?}");
            let mut piv = session(&benches[which], nth, nonsense.clone());
            let _ = settled(piv.verify_pin(&Pin::new(PIN).unwrap()));
            let state = settled(piv.probe(slot("9d"), LIMIT));
            prop_assert!(state != Some(SlotState::Empty), "probe: {nonsense:?}");
            Ok(())
        })?;
    }

    /// What enrollment does: the key that the card shows, and the proof that it is its own.
    #[test]
    fn a_key_that_is_not_the_cards_is_never_proven(
        which in 0_usize..3,
        nth in 0_usize..10,
        nonsense in nonsense(),
    ) {
        BENCHES.with(|benches| {
            let (bench, slot) = (&benches[which], slot("9d"));
            let mut piv = session(bench, nth, nonsense);
            let enrolled = (|| {
                let told = match settled(piv.inspect(slot))? {
                    SlotState::Key(SlotKey { public, .. }) => Some(public.ok()?),
                    _ => None,
                };
                settled(piv.verify_pin(&Pin::new(PIN).unwrap()))?;
                let public = match told {
                    Some(public) => public,
                    None => match settled(piv.probe(slot, LIMIT))? {
                        SlotState::Key(SlotKey { public, .. }) => public.ok()?,
                        _ => return None,
                    },
                };
                let peer = Peer::new(Scheme::HashToCurve, [2; 32]).unwrap();
                let x = settled(piv.key_agreement(slot, peer.point(), LIMIT))?;
                let proof = Proof::new(peer.point(), SharedX::new(&x)).unwrap();
                let answer = settled(piv.key_agreement(slot, proof.challenge(), LIMIT))?;
                let x = proof.accept(&SharedX::new(&answer), &public)?;
                Some((public, *x.as_bytes(), bench.agreement(slot, peer.point())))
            })();
            if let Some((public, x, expected)) = enrolled {
                prop_assert!(same_key(&public, &bench.public_key(slot)));
                prop_assert_eq!(x, expected);
            }
            Ok(())
        })?;
    }

    /// Everything else that is asked of a card: no panic, no fault that is not the card's, and one
    /// presentation of a PIN.
    #[test]
    fn no_command_takes_garbage_badly(at in vec(0_usize..40, 0..6), nonsense in nonsense()) {
        BLANK.with(|bench| {
            let mut number = 0;
            let mut piv = bench.tampered(move |_, answer| {
                number += 1;
                if at.contains(&number) { nonsense.apply(answer) } else { answer }
            });
            settled(piv.serial());
            settled(piv.guid());
            settled(piv.pin_tries());
            settled(piv.management_metadata());
            for source in [
                KeySource::Metadata,
                KeySource::Attestation,
                KeySource::Certificate,
                KeySource::KeyAgreement,
            ] {
                settled(piv.ask(slot("82"), source));
            }
            settled(piv.verify_pin(&Pin::new(PIN).unwrap()));
            settled(piv.protected_management_key());
            settled(piv.authenticate(&ManagementKey::factory_default()));
            settled(piv.key_agreement(slot("82"), &base_point(), LIMIT).map(Zeroizing::new));
            settled(piv.generate(slot("83"), PinPolicy::Never, TouchPolicy::Never));
            let presented = bench.sent.borrow().iter().filter(|c| c[1] == 0x20 && c.len() > 5).count();
            prop_assert_eq!(presented, 1);
            prop_assert!(bench.count(0x47) <= 1);
            Ok(())
        })?;
    }
}
