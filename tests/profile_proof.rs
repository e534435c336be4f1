//! The proof at enrollment: a card that multiplies with one key passes, and nothing else does.
#![allow(clippy::unwrap_used)]

#[path = "support/cards.rs"]
#[allow(dead_code)]
mod cards;
#[path = "support/chance.rs"]
mod chance;

use cards::Card;
use chance::cases;
use cryptkey::{
    profile::{
        piv::{Peer, SharedX},
        proof::Proof,
    },
    token::{base_point, even_key, same_key},
};
use p256::{
    PublicKey,
    elliptic_curve::{point::AffineCoordinates as _, sec1::ToSec1Point as _},
};
use proptest::prelude::*;

fn negated(key: &PublicKey) -> PublicKey {
    (-key.to_projective()).to_affine().try_into().unwrap()
}

fn x_of(point: &PublicKey) -> SharedX {
    SharedX::new(&point.as_affine().x().into())
}

prop_compose! {
    fn any_card()(bytes: [u8; 32]) -> Card {
        Card::from_bytes(&bytes)
    }
}

/// Whether the proof of `x` for a peer accepts what `answer` says to the challenge, and then gives
/// `x` back.
fn accepts(
    peer: &Peer,
    x: &SharedX,
    key: &PublicKey,
    answer: impl Fn(&PublicKey) -> SharedX,
) -> bool {
    let proof = Proof::new(peer.point(), SharedX::new(x.as_bytes())).unwrap();
    let answer = answer(proof.challenge());
    let proven = proof.accept(&answer, key);
    proven.is_some_and(|proven| {
        assert_eq!(proven.as_bytes(), x.as_bytes());
        true
    })
}

proptest! {
    #![proptest_config(cases!(24))]

    #[test]
    fn a_right_card_passes(card in any_card()) {
        let peer = Peer::random().unwrap();
        let (x, key) = (card.agree(peer.point()), card.public_key());
        prop_assert!(accepts(&peer, &x, &key, |point| card.agree(point)));
        // The sign of a public key changes no answer of the card.
        prop_assert!(accepts(&peer, &x, &negated(&key), |point| card.agree(point)));
    }

    #[test]
    fn a_card_that_mixes_keys_does_not(card in any_card(), other in any_card()) {
        prop_assume!(!same_key(&card.public_key(), &other.public_key()));
        let peer = Peer::random().unwrap();
        for mix in 0..8 {
            let [x, answer, key] = [1, 2, 4].map(|bit| if mix & bit == 0 { &card } else { &other });
            let accepted = accepts(&peer, &x.agree(peer.point()), &key.public_key(), |point| {
                answer.agree(point)
            });
            prop_assert_eq!(accepted, mix == 0 || mix == 7);
        }
    }

    #[test]
    fn an_answer_to_another_point_does_not(card in any_card(), bytes: [u8; 32]) {
        let (peer, other) = (Peer::random().unwrap(), Peer::random().unwrap());
        let (x, key) = (card.agree(peer.point()), card.public_key());
        let key_x = x_of(&key);
        let peer_x = x_of(peer.point());
        let copy = |x: &SharedX| SharedX::new(x.as_bytes());
        let constants = [[0; 32], [0xff; 32], bytes].map(|bytes| SharedX::new(&bytes));

        // A wrong X: the answer to another point, what the card was given, a constant.
        for wrong in [&card.agree(other.point()), &key_x, &peer_x].into_iter().chain(&constants) {
            prop_assert!(!accepts(&peer, wrong, &key, |point| card.agree(point)));
            prop_assert!(!accepts(&peer, wrong, &key, |_| copy(wrong)));
            prop_assert!(!accepts(&peer, &x, &key, |_| copy(wrong)));
        }
        // A wrong answer: X once more, or the card's to another point or another challenge.
        prop_assert!(!accepts(&peer, &x, &key, |_| copy(&x)));
        prop_assert!(!accepts(&peer, &x, &key, |_| card.agree(other.point())));
        let earlier = Proof::new(peer.point(), copy(&x)).unwrap();
        prop_assert!(!accepts(&peer, &x, &key, |_| card.agree(earlier.challenge())));
        prop_assert!(!accepts(&peer, &x, &key, x_of));
        prop_assert!(!accepts(&peer, &x, &negated(peer.point()), |point| card.agree(point)));
    }

    /// A card with the private key of Q that answers with an X of its choice to the first point, and
    /// to the second with what would fit a second point of P + e·G.
    #[test]
    fn a_card_made_to_lie_does_not(card in any_card(), chosen in any_card()) {
        let peer = Peer::random().unwrap();
        let chosen = chosen.public_key().to_projective();
        let x = x_of(&chosen.to_affine().try_into().unwrap());
        let accepted = accepts(&peer, &x, &card.public_key(), |point| {
            let shift = point.to_projective() - peer.point().to_projective();
            let product = card.multiply(&shift.to_affine().try_into().unwrap());
            x_of(&(chosen + product).to_affine().try_into().unwrap())
        });
        prop_assert!(!accepted);
    }

    #[test]
    fn a_key_is_found_by_its_x(card in any_card()) {
        let key = even_key(card.agree(&base_point()).as_bytes()).unwrap();
        prop_assert!(same_key(&key, &card.public_key()));
        prop_assert!(same_key(&negated(&key), &card.public_key()));
        prop_assert!(!bool::from(key.as_affine().y_is_odd()));
    }
}

/// The constants of FIPS 186-4; about half of all numbers are no x-coordinate.
#[test]
fn points_are_those_of_p256() {
    let generator = base_point().to_sec1_point(true);
    assert_eq!(
        base16ct::lower::encode_string(generator.as_bytes()),
        "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    );
    let lifted = (0..64).filter(|n| even_key(&[*n; 32]).is_some()).count();
    assert!((16..48).contains(&lifted), "{lifted}");
    assert!(even_key(&[0xff; 32]).is_none());
}

#[test]
fn every_proof_asks_for_another_point() {
    let peer = Peer::random().unwrap();
    let points =
        [(); 4].map(|()| *Proof::new(peer.point(), SharedX::new(&[0; 32])).unwrap().challenge());
    for (i, point) in points.iter().enumerate() {
        assert!(!same_key(point, peer.point()));
        assert!(points[..i].iter().all(|other| !same_key(point, other)));
    }
}
