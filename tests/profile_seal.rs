//! What is sealed opens with enough of its cards, with nothing less, and not after a change.
#![allow(clippy::unwrap_used)]

#[path = "support/attack.rs"]
mod attack;
#[path = "support/cards.rs"]
#[allow(dead_code)]
mod cards;
#[path = "support/chance.rs"]
mod chance;

use cards::Card;
use chance::cases;
use cryptkey::{
    error::Class,
    profile::{
        Profile, ProviderKind, Version,
        piv::{Peer, Scheme},
        seal::{self, NewProvider, OpenError, Opened, ProviderSecret},
    },
};
use proptest::prelude::*;

fn cards(count: usize) -> Vec<Card> {
    (0..count).map(|_| Card::new()).collect()
}

fn enroll(cards: &[Card]) -> Vec<NewProvider> {
    let ids = (1..).map(|number| format!("card-{number}"));
    cards.iter().zip(ids).map(|(card, id)| card.enroll(&id)).collect()
}

/// The cards' secrets for a profile whose providers they are, in order.
fn secrets(cards: &[Card], profile: &Profile) -> Vec<ProviderSecret> {
    let providers = profile.piv_providers();
    providers
        .map(|(place, params)| params.secret(&cards[place].agree(params.peer_point())))
        .collect()
}

/// Opens with the cards at `places`.
fn open(cards: &[Card], profile: &Profile, places: &[usize]) -> Result<Opened, OpenError> {
    let secrets = secrets(cards, profile);
    let given: Vec<_> = places.iter().map(|&place| (place, &secrets[place])).collect();
    seal::open(profile, &given)
}

fn output(opened: &Opened) -> Vec<u8> {
    opened.output("backups", 40).unwrap().to_vec()
}

proptest! {
    #![proptest_config(cases!(24))]

    #[test]
    fn any_threshold_of_the_cards_opens_and_no_less(
        (threshold, count) in (1usize..4).prop_flat_map(|threshold| (Just(threshold), threshold..5)),
        order in Just([0usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let cards = cards(count);
        let places: Vec<usize> = order.into_iter().filter(|place| *place < count).collect();
        let (profile, opened) =
            seal::seal("vault", u8::try_from(threshold).unwrap(), enroll(&cards)).unwrap();
        let text = profile.to_toml();
        let read = Profile::parse(&text).unwrap();
        prop_assert_eq!(&read, &profile);
        prop_assert_eq!(read.version(), Version::V2);
        for given in threshold..=count {
            let again = open(&cards, &read, &places[..given]).unwrap();
            prop_assert_eq!(output(&again), output(&opened));
        }
        let error = open(&cards, &read, &places[..threshold - 1]).unwrap_err();
        let too_few = matches!(error, OpenError::TooFew { .. });
        prop_assert!(too_few);
        prop_assert_eq!(attack::opened_without_a_card(&text), Vec::<String>::new());
    }
}

#[test]
fn every_seal_is_another_key() {
    let card = Card::new();
    let make = || seal::seal("vault", 1, vec![card.enroll("card-1")]).unwrap();
    let ((first, opened), (second, other)) = (make(), make());
    assert_ne!(output(&opened), output(&other));
    assert_ne!(first.id(), second.id());
    assert_eq!(first.id().len(), 32);
}

#[test]
fn outputs_differ_by_use_and_are_bounded() {
    let (_, opened) = seal::seal("vault", 1, enroll(&cards(1))).unwrap();
    let of = |label, length| opened.output(label, length).map(|bytes| bytes.len());
    assert_ne!(opened.output("a", 32).unwrap(), opened.output("b", 32).unwrap());
    assert_eq!((of("a", 1), of("a", 8160)), (Ok(1), Ok(8160)));
    assert_eq!(of("a", 0).unwrap_err().class, Class::Spec);
    assert_eq!(of("a", 8161).unwrap_err().class, Class::Spec);
}

#[test]
fn another_card_is_told_from_a_damaged_file() {
    let right = cards(2);
    let (profile, _) = seal::seal("vault", 2, enroll(&right)).unwrap();
    let wrong = [right[0].clone(), Card::new()];
    let error = open(&wrong, &profile, &[0, 1]).unwrap_err();
    assert_eq!(error, OpenError::WrongSecret { provider: "card-2".into() });
    assert_eq!(error.clone().into_error("opening", false).class, Class::KeyChanged);
    // Where the card told the enrolled key, it is the file that was changed.
    assert_eq!(error.into_error("opening", true).class, Class::Profile);

    // Under a lower threshold each share opens, and the wrong key comes out.
    let lower = profile.to_toml().replace("threshold = 2", "threshold = 1");
    let error = open(&right, &Profile::parse(&lower).unwrap(), &[0]).unwrap_err();
    assert_eq!(error, OpenError::Integrity);
    assert_eq!(error.into_error("opening", false).class, Class::Profile);

    // A name that is only shown is covered as well.
    let renamed = profile.to_toml().replacen("Virtual PCD", "Virtual Pcd", 1);
    let error = open(&right, &Profile::parse(&renamed).unwrap(), &[0, 1]).unwrap_err();
    assert_eq!(error, OpenError::Integrity);

    let swapped = profile.to_toml().replace("share_index = \"1\"", "share_index = \"3\"");
    let error = open(&right, &Profile::parse(&swapped).unwrap(), &[0, 1]).unwrap_err();
    assert_eq!(error, OpenError::WrongIndex { provider: "card-1".into() });
}

#[test]
fn one_provider_given_twice_is_one() {
    let cards = cards(2);
    let (profile, _) = seal::seal("vault", 2, enroll(&cards)).unwrap();
    assert!(open(&cards, &profile, &[0, 0]).is_err());
    let secrets = secrets(&cards, &profile);
    assert!(seal::open(&profile, &[(0, &secrets[0]), (7, &secrets[1])]).is_err());
}

#[test]
fn what_the_format_does_not_allow_is_not_sealed() {
    let refused = |name: &str, threshold, class, change: &dyn Fn(&mut Vec<NewProvider>)| {
        let mut providers = enroll(&cards(2));
        change(&mut providers);
        let error = seal::seal(name, threshold, providers).map(|_| ()).unwrap_err();
        assert_eq!(error.class, class, "{error}");
    };
    let asked_for = |name: &str, threshold, change: &dyn Fn(&mut Vec<NewProvider>)| {
        refused(name, threshold, Class::Spec, change);
    };
    asked_for("vault", 0, &|_| {});
    asked_for("vault", 3, &|_| {});
    asked_for("", 1, &|_| {});
    asked_for("a\nb", 1, &|_| {});
    asked_for("vault", 1, &Vec::clear);
    asked_for("vault", 1, &|all| all[1].id = "card-1".into());
    asked_for("vault", 1, &|all| all[1].id = String::new());
    asked_for("vault", 1, &|all| all[1].id = "a\u{1b}".into());
    let faulty =
        |change: &dyn Fn(&mut Vec<NewProvider>)| refused("vault", 1, Class::Internal, change);
    faulty(&|all| all[1].kind = ProviderKind::Unknown("fido2".into()));
    let with_params = |change: fn(&mut cryptkey::profile::piv::Params)| {
        move |all: &mut Vec<NewProvider>| match &mut all[1].kind {
            ProviderKind::Piv(params) => change(params),
            _ => unreachable!(),
        }
    };
    faulty(&with_params(|params| params.card_name = "a\u{7}".into()));
    faulty(&with_params(|params| params.serial = None));
    faulty(&with_params(|params| params.pin_policy = None));
    faulty(&with_params(|params| params.peer = Peer::new(Scheme::SaltDerived, [1; 32]).unwrap()));
}
