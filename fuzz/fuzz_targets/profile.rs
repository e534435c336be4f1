//! The profile: whatever is read is written as it is read, and opens only if it is what was sealed.
#![no_main]

use cryptkey::profile::{Profile, piv::SharedX, seal};
use libfuzzer_sys::fuzz_target;
use p256::{NonZeroScalar, ProjectivePoint, elliptic_curve::point::AffineCoordinates as _};
use serde::Deserialize;

#[derive(Deserialize)]
struct Opens {
    cards: Vec<Card>,
}

#[derive(Deserialize)]
struct Card {
    private_key: String,
}

/// A profile that was sealed, and the cards that open it.
struct Vector {
    profile: Profile,
    cards: Vec<NonZeroScalar>,
}

macro_rules! vectors {
    ($($name:literal),*) => {
        [$((
            include_str!(concat!("../../tests/vectors/profiles/", $name, ".toml")),
            include_str!(concat!("../../tests/vectors/profiles/", $name, ".json")),
        )),*]
    };
}

fn vectors() -> Vec<Vector> {
    vectors!["piv-only", "piv-piv-recovery-any", "piv-piv-recovery", "piv-recovery"]
        .into_iter()
        .map(|(text, opens)| {
            let opens: Opens = serde_json::from_str(opens).unwrap();
            let key = |card: Card| base16ct::lower::decode_vec(card.private_key).unwrap();
            let cards = opens
                .cards
                .into_iter()
                .map(|card| NonZeroScalar::try_from(&key(card)[..]).unwrap());
            Vector { profile: Profile::parse(text).unwrap(), cards: cards.collect() }
        })
        .collect()
}

thread_local! {
    static VECTORS: Vec<Vector> = vectors();
}

/// Whether the cards, each at each PIV provider, open the profile.
fn opens(profile: &Profile, cards: &[NonZeroScalar]) -> bool {
    let secrets: Vec<Vec<_>> = profile
        .piv_providers()
        .map(|(place, params)| {
            cards
                .iter()
                .map(move |card| {
                    let product = ProjectivePoint::from(params.peer_point()) * **card;
                    (place, params.secret(&SharedX::new(&product.to_affine().x().into())))
                })
                .collect()
        })
        .collect();
    // A threshold of one or two is all that the vectors have.
    let singles = secrets.iter().flatten().map(|(place, secret)| vec![(*place, secret)]);
    let pairs = secrets.iter().enumerate().flat_map(|(first, some)| {
        secrets[first + 1..].iter().flatten().flat_map(move |(place, secret)| {
            some.iter().map(move |(other, another)| vec![(*other, another), (*place, secret)])
        })
    });
    singles.chain(pairs).any(|given| seal::open(profile, &given).is_ok())
}

fuzz_target!(|text: &str| {
    let Ok(profile) = Profile::parse(text) else { return };
    let written = profile.to_toml();
    assert_eq!(Profile::parse(&written).as_ref(), Ok(&profile), "{written}");
    assert_eq!(Profile::parse(&written).unwrap().to_toml(), written);
    let _ = format!("{profile:?} {}", profile.id());
    // More would only take time.
    if profile.piv_providers().count() > 3 {
        return;
    }
    VECTORS.with(|vectors| {
        for vector in vectors {
            if opens(&profile, &vector.cards) {
                assert!(vector.profile == profile, "it opens after a change:\n{text}");
            }
        }
    });
});
