//! Whatever is changed of a sealed profile, the key stays: any threshold of its providers opens it to the
//! same outputs, and no fewer do, and none that was taken out.
#![allow(clippy::unwrap_used)]

#[path = "support/attack.rs"]
mod attack;
#[path = "support/cards.rs"]
#[allow(dead_code)]
mod cards;
#[path = "support/chance.rs"]
mod chance;
#[path = "support/model.rs"]
mod model;
#[path = "support/shares.rs"]
mod shares;
#[path = "support/vectors.rs"]
#[allow(dead_code)]
mod vectors;

use std::collections::BTreeSet;

use cards::Card;
use chance::cases;
use cryptkey::{
    error::{Class, Error},
    profile::{
        Profile, Version,
        change::{added, renamed, replaced, reshared, without},
        seal::{self, NewProvider, Opened, ProviderSecret},
    },
};
use expect_test::expect;
use model::{Change, Model, Way, changes, outputs, secrets};
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases!(48))]

    #[test]
    fn any_changes_keep_the_key(
        (threshold, count) in (1..4u8).prop_flat_map(|threshold| (Just(threshold), threshold..6)),
        changes in prop::collection::vec((changes(), any::<u64>()), 1..7),
    ) {
        let mut model = Model::new(threshold, count.into());
        model.holds(0);
        for (change, seed) in changes {
            model.change(&change, seed);
            model.holds(seed);
        }
    }

    /// Also of a profile that cryptkey wrote, and of others that this program did not.
    #[test]
    fn an_import_and_any_changes_keep_the_key(
        number in 0..4usize,
        threshold in 1..3u8,
        changes in prop::collection::vec((changes(), any::<u64>()), 0..4),
    ) {
        let mut model = Model::imported(&vectors::profiles()[number], threshold);
        model.holds(0);
        prop_assert_eq!(attack::opened_without_a_card(&model.profile.to_toml()), Vec::<String>::new());
        for (change, seed) in changes {
            model.change(&change, seed);
            model.holds(seed);
        }
    }

    /// The same providers, another key: no output stays, and what opened the old one opens the new one.
    #[test]
    fn a_rotation_keeps_no_output(
        (threshold, count) in (1..4u8).prop_flat_map(|threshold| (Just(threshold), threshold..6)),
        label in "[a-z]{1,8}",
    ) {
        let mut model = Model::new(threshold, count.into());
        model.change(&Change::Added, 1);
        let (old, all) = (&model.profile, model.drawn(0));
        let opened = seal::open(old, &secrets(&model.ways, &all)).unwrap();
        let providers = old.providers().iter().zip(&model.ways);
        let providers = providers.map(|(provider, way)| provider.again(way.secret())).collect();
        let (new, rotated) = seal::seal(old.name(), old.threshold(), providers).unwrap();
        for length in [16, 32, 40] {
            let of = |key: &Opened| key.output(&label, length).unwrap();
            prop_assert_ne!(of(&opened), of(&rotated));
        }
        prop_assert_ne!(new.id(), old.id());
        for (old, new) in old.providers().iter().zip(new.providers()) {
            prop_assert_eq!((old.id(), old.kind()), (new.id(), new.kind()));
        }
        let rotated = Model { outputs: outputs(&rotated, [&*label]), id: new.id(), profile: new, ..model };
        rotated.holds(3);
    }
}

/// Only an import takes a version 1 file, whose points are its cards' for good.
#[test]
fn a_version_1_profile_is_imported_first() {
    let mut imported = 0;
    for vector in vectors::profiles() {
        let old = Profile::parse(vector.text).unwrap();
        if old.version() == Version::V2 {
            continue;
        }
        imported += 1;
        let mut given = vector.secrets(&old);
        given.extend(vector.recovered(&old));
        let given = vectors::by_reference(&given);
        let new = || Way::new().provider("a");
        for changed in [
            replaced(&old, 0, new(), &given),
            added(&old, new(), &given),
            without(&old, &BTreeSet::new(), &given),
            renamed(&old, "desk", &given),
        ] {
            let error = changed.unwrap_err();
            assert_eq!(error.class, Class::Profile);
            assert!(error.advice.contains("nixos-cryptkey import"), "{error}");
        }
        let (_, secret) = given[0];
        let error = reshared(&old, 1, vec![old.providers()[0].again(secret)], &given);
        assert_eq!(error.unwrap_err().class, Class::Internal);
    }
    assert_eq!(imported, 2);
}

/// The indexes of shares are reused from the lowest on, and the order of the file is that of the changes.
#[test]
fn a_share_takes_the_lowest_unused_index() {
    let mut model = Model::new(2, 4);
    let indexes = |model: &Model| -> Vec<_> {
        model.profile.providers().iter().map(|provider| provider.share_index().unwrap()).collect()
    };
    model.change(&Change::Without(0b0101), 5);
    assert_eq!(indexes(&model), [2, 4]);
    for expected in [&[2, 4, 1][..], &[2, 4, 1, 3], &[2, 4, 1, 3, 5]] {
        model.change(&Change::Added, 6);
        assert_eq!(indexes(&model), expected);
    }
    assert_eq!(model.profile.unused_id("way"), "way-6");
    assert_eq!(model.profile.unused_id("card"), "card-1");
    model.holds(7);
}

/// A new card in the place of another: also together with cards that never heard of it.
#[test]
fn a_card_takes_the_place_of_another() {
    let (one, two, new) = (Card::new(), Card::new(), Card::new());
    let answer = |card: &Card, profile: &Profile, place: usize| {
        let (_, params) = profile.piv_providers().nth(place).unwrap();
        params.secret(&card.agree(params.peer_point()))
    };
    let cards = vec![one.enroll("card-1"), two.enroll("card-2")];
    let (old, opened) = seal::seal("vault", 1, cards).unwrap();
    let output = |opened: &Opened| outputs(opened, ["backups"]);
    // By another card, and by itself, while it is there.
    for by in [0, 1] {
        let secret = answer([&one, &two][by], &old, by);
        let (changed, same) = replaced(&old, 0, new.enroll(""), &[(by, &secret)]).unwrap();
        assert_eq!(output(&same), output(&opened));
        for (place, card) in [&new, &two].into_iter().enumerate() {
            let opened = seal::open(&changed, &[(place, &answer(card, &changed, place))]);
            assert_eq!(output(&opened.unwrap()), output(&same));
        }
        assert!(changed.check_share(0, &answer(&one, &changed, 0)).is_err());
        assert_eq!(attack::opened_without_a_card(&changed.to_toml()), [""; 0]);
    }
}

/// Every byte of a profile that every kind of change went over, with a card in it.
#[test]
fn a_changed_byte_never_opens_a_changed_profile() {
    let mut model = Model::new(1, 3);
    for (change, seed) in [
        (Change::Without(0b001), 1),
        (Change::Added, 2),
        (Change::Renamed, 3),
        (Change::Reshared(0b011, 1, 1), 4),
        (Change::Without(0b001), 5),
    ] {
        model.change(&change, seed);
    }
    let card = Card::new();
    let opening = secrets(&model.ways, &[0, 1]);
    let (profile, _) = added(&model.profile, card.enroll("card-1"), &opening).unwrap();
    assert_eq!((profile.threshold(), profile.providers().len()), (2, 3));
    let text = profile.to_toml();
    let opens = |read: &Profile| {
        let cards = read.piv_providers();
        let cards: Vec<_> =
            cards.map(|(_, params)| params.secret(&card.agree(params.peer_point()))).collect();
        let ways = model.ways.iter().map(Way::secret);
        let given: Vec<_> = ways.chain(&cards).enumerate().collect();
        [0, 1, 2].iter().any(|out| {
            let few: Vec<_> = given.iter().filter(|(place, _)| place != out).copied().collect();
            seal::open(read, &few).is_ok()
        })
    };
    assert!(opens(&profile));
    let harmless = |changed: Vec<u8>| {
        if let Ok(changed) = String::from_utf8(changed)
            && let Ok(read) = Profile::parse(&changed)
            && read != profile
        {
            assert!(!opens(&read), "{changed}");
        }
    };
    for at in 0..text.len() {
        // Another digit or letter, another case, nothing.
        for bits in [1, 0x20] {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= bits;
            harmless(changed);
        }
        let mut shorter = text.clone().into_bytes();
        shorter.remove(at);
        harmless(shorter);
    }
}

type Changed = Result<(Profile, Opened), Error>;
/// A change, by these secrets.
type Make<'a> = &'a dyn Fn(&[(usize, &ProviderSecret)]) -> Changed;

/// What every change says of what does not open.
#[test]
fn what_does_not_open_is_not_changed() {
    let model = Model::new(2, 3);
    let (old, stranger) = (&model.profile, Way::new());
    let all: Vec<_> = model.ways.iter().map(Way::secret).collect();
    let good = [(0, all[0]), (1, all[1])];
    let new = |id: &str| Way::new().provider(id);
    let changes: [Make; 5] = [
        &|given| replaced(old, 2, new("a"), given),
        &|given| added(old, new("a"), given),
        &|given| without(old, &BTreeSet::from([2]), given),
        &|given| renamed(old, "desk", given),
        &|given| reshared(old, 1, vec![new("a")], given),
    ];
    for change in changes {
        assert!(change(&good).is_ok());
        for bad in [
            // Too few, one twice, one that is not there, another's; and one too many that is wrong.
            &good[..1],
            &[good[0], good[0]],
            &[good[0], (3, all[2])],
            &[good[0], (1, all[2])],
            &[good[0], good[1], (2, stranger.secret())],
            &[],
        ] {
            let error = change(bad).unwrap_err();
            assert_eq!(error.class, Class::Internal);
            assert!(error.advice.starts_with("The profile was left as it is."), "{error}");
        }
    }
    // There is no such place.
    for error in [
        replaced(old, 3, new("a"), &good).unwrap_err(),
        without(old, &BTreeSet::from([3]), &good).unwrap_err(),
    ] {
        assert_eq!(error.class, Class::Internal);
    }
}

#[test]
fn what_cannot_be_is_refused_with_advice() {
    let model = Model::new(2, 3);
    let old = &model.profile;
    let given = secrets(&model.ways, &[2, 0]);
    let new = |id: &str| Way::new().provider(id);
    let told = |changed: Changed| {
        let error = changed.unwrap_err();
        assert_eq!(error.class, Class::Spec);
        error.to_string()
    };
    expect!["adding a provider to profile vault: there is a provider way-1 already. The profile was left as it is. Give the new one another id, or remove the old one first."].assert_eq(&told(added(old, new("way-1"), &given)));
    expect!["adding a provider to profile vault: id: is empty or holds a control character. The profile was left as it is. Give it letters, digits and dashes."].assert_eq(&told(added(old, new("\u{1b}[2J"), &given)));
    expect!["renaming profile vault: name: is empty or holds a control character. The profile was left as it is. Give it letters, digits and dashes."].assert_eq(&told(renamed(old, "", &given)));
    expect!["removing providers of profile vault: it would leave 1 of which 2 are needed. The profile was left as it is. Add another provider first, or lower the threshold with `nixos-cryptkey reseal`."].assert_eq(&told(without(old, &BTreeSet::from([0, 2]), &given)));
    let twice = || vec![new("a"), new("a")];
    expect!["resealing profile vault: 2 providers, of which 3 are to open it. The profile was left as it is. Allowed are 1 to 255 providers, and a threshold of 1 to their number."].assert_eq(&told(reshared(old, 3, twice(), &given)));
    expect!["resealing profile vault: there is a provider a already. The profile was left as it is. Give the new one another id, or remove the old one first."].assert_eq(&told(reshared(old, 1, twice(), &given)));
    for (threshold, providers) in
        [(0, vec![new("a")]), (1, Vec::new()), (1, vec![new("")]), (1, vec![new("a\n")])]
    {
        told(reshared(old, threshold, providers, &given));
    }

    let many: Vec<NewProvider> = (0..255).map(|number| new(&format!("a-{number}"))).collect();
    let last = ProviderSecret::new(many[254].secret.as_bytes());
    let (full, _) = reshared(old, 1, many, &given).unwrap();
    let given = [(254, &last)];
    expect!["adding a provider to profile vault: it has 255 providers. The profile was left as it is. Remove one first: a profile has at most 255."].assert_eq(&told(added(&full, new("a"), &given)));
    let (fewer, _) = without(&full, &BTreeSet::from([100]), &given).unwrap();
    let (again, _) = added(&fewer, new("b"), &[(253, &last)]).unwrap();
    assert_eq!(again.providers()[254].share_index(), Some(101));
    let too_many = (0..256).map(|number| new(&format!("a-{number}"))).collect();
    told(reshared(&full, 1, too_many, &given));
}
