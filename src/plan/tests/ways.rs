//! The ways in: what is at stake where one fails, and which other cards get the key.

use super::{
    super::{Goal, Known, Next, Refusal, Step, Way, next},
    fixtures::{self, SEALED_SLOT, card, params, session, slot_key},
};
use crate::{
    spec::{self, Key},
    token::{Facts, KeySource, SlotState, Wanted},
};

fn listed(serial: u32) -> spec::Card {
    spec::Card { serial: card(serial).serial, ..spec::Card::default() }
}

/// A key that is open, and a second card that is listed and not enrolled.
fn open_with_another_card() -> (Key, Known) {
    let key = Key { cards: vec![listed(1), listed(2)], ..fixtures::key() };
    (key, Known { open: true, opened: [0].into(), ..fixtures::known(1, &[1]) })
}

#[test]
fn other_cards_are_at_stake_only_once_the_secrets_are_published() {
    let (key, known) = open_with_another_card();
    assert_eq!(known.at_stake(&key, None, Some(Step::Publish)), Way::Run);
    let known = Known { published: true, ..known };
    assert!(matches!(known.at_stake(&key, None, Some(Step::FindCard)), Way::Listed(_)));
}

#[test]
fn a_shipped_profile_gets_no_card_at_boot_and_one_from_a_command() {
    let (key, known) = open_with_another_card();
    let shipped = Key { profile: Some("/etc/vault.toml".into()), ..key.clone() };
    assert_eq!(known.to_join(&key).len(), 1);
    assert_eq!(known.to_join(&shipped).len(), 0);
    let asked = Known { goal: Goal::Join(Box::new(listed(3))), ..known };
    assert_eq!(asked.to_join(&shipped).len(), 1);
    // Behind the list, whether it is in it or not.
    assert_eq!(asked.card(&shipped, Some(2)), Some(&listed(3)));
}

#[test]
fn cards_that_are_not_there_are_given_up_together() {
    let (key, known) = open_with_another_card();
    let profile = Some(fixtures::sealed(1, &[1, 2]));
    let known = Known { open: false, opened: [].into(), profile, ..known };
    let way = known.at_stake(&key, None, Some(Step::FindCard));
    assert_eq!(way, Way::Providers(vec![0, 1]));
}

#[test]
fn an_id_that_is_in_use_is_refused_before_the_pin() {
    let (mut key, mut known) = open_with_another_card();
    key.cards[1].id = Some("card-1".parse().expect("a name"));
    known.published = true;
    known.profile.as_mut().expect("a profile").ids = vec!["card-1".into()];
    let slot = SlotState::Key(slot_key(1));
    let session = Facts { card: card(2), listed: Some(1), ..session(slot) };
    let refused = Refusal::IdInUse { id: "card-1".into() };
    assert_eq!(next(&key, &known, Some(&session)), Next::Refuse(refused));
}

#[test]
fn each_card_is_looked_for_in_its_own_slot() {
    let slot = "82".parse().expect("a slot");
    let other = spec::Card { slot: Some(slot), ..listed(2) };
    let key = Key { cards: vec![listed(1), other], ..fixtures::key() };
    let mut known = fixtures::known(1, &[1, 2]);
    // A profile that says otherwise is not opened.
    assert!(matches!(next(&key, &known, None), Next::Refuse(Refusal::OtherSlot { .. })));
    let provider = params(card(2), 1, true, None);
    let provider = crate::profile::piv::Params { slot, ..provider };
    assert_eq!(provider.key_source, Some(KeySource::Metadata));
    known.profile.as_mut().expect("a profile").piv.insert(1, provider);
    assert_eq!(next(&key, &known, None), Next::Step(Step::FindCard));
    let Wanted::Enrolled(enrolled) = known.wanted(&key) else { panic!("{known:?}") };
    let slots: Vec<_> = enrolled.iter().map(|enrolled| enrolled.place.slot).collect();
    assert_eq!(slots, [SEALED_SLOT, slot]);
    // A card that is to join gets its key there, too.
    let joining = Known { open: true, published: true, ..fixtures::known(1, &[1]) };
    let Wanted::Named(named) = joining.wanted(&key) else { panic!("{joining:?}") };
    assert_eq!(named[0].2.slot, slot);
}
