//! The ways in: which providers open a key, who is asked, and what other cards get it.

use std::collections::BTreeSet;

use proptest::{prelude::*, strategy::ValueTree as _};

use super::{
    super::{Goal, Known, Next, Refusal, Sealing, Step, Way, next},
    generate::{open_to_many, world},
    world::{Answer, Content, End, Job, Moment, Trace, World},
};
use crate::{
    chance::{cases, runner},
    guard::History,
    spec::{self, Key, ManagementKeySource, Mode, PinSource},
    token::{CardName, Guid, Serial},
};

/// The cards that open the job's profile, and those of its typed providers that are answered: nothing
/// is wrong with any of these.
fn good(world: &World, job: &Job) -> (usize, usize) {
    let Some(profile) = &job.profile else { return (0, 0) };
    let cards = profile.enrolled.iter().filter(|(card, key)| {
        let card = &world.cards[*card];
        let is_listed =
            job.key.cards.is_empty() || job.key.cards.iter().any(|c| card.name.is(&c.name()));
        is_listed
            && card.inserted
            && card.content == Content::Key(*key)
            && card.pin_is_right
            && card.tries == 3
            && card.memory != super::run::rejected()
    });
    let typed = (0..profile.typed).map(|place| world.answers.get(place).unwrap_or(&Answer::None));
    let answered = typed.take_while(|answer| **answer != Answer::None);
    let right = answered.filter(|answer| **answer == Answer::Right).count();
    (cards.count(), if job.key.ask { right } else { 0 })
}

fn asks(moment: &Moment) -> bool {
    matches!(moment.step, Step::AskShare(_))
}

/// The providers by which the key was opened.
fn opened(trace: &Trace) -> BTreeSet<usize> {
    trace.moments.iter().flat_map(|moment| &moment.known.opened).copied().collect()
}

proptest! {
    #![proptest_config(cases!(1000))]

    /// As many good providers as it takes open the key, whatever is wrong with the others; fewer never
    /// do.
    #[test]
    fn enough_good_providers_open_it_and_fewer_do_not(world in open_to_many()) {
        let (cards, typed) = good(&world, &world.jobs[0]);
        let threshold = world.jobs[0].profile.as_ref().expect("a profile").threshold;
        let trace = world.run();
        let done = trace.ends[0] == End::Done;
        prop_assert_eq!(done, cards + typed >= threshold, "{:?}: {} and {} of {}", trace.ends, cards, typed, threshold);
        prop_assert!(!done || opened(&trace).len() == threshold);
    }

    /// Nobody is asked while there are cards that may do, or where it could not help.
    #[test]
    fn people_are_asked_only_where_the_cards_do_not_do(world in open_to_many()) {
        let (cards, _) = good(&world, &world.jobs[0]);
        let profile = world.jobs[0].profile.as_ref().expect("a profile");
        let trace = world.run();
        if trace.moments.iter().any(asks) {
            prop_assert!(world.jobs[0].key.ask);
            prop_assert!(cards < profile.threshold, "{:#?}", trace.moments);
            prop_assert!(cards + profile.typed >= profile.threshold, "{:#?}", trace.moments);
        }
    }

    /// In any world: after a question that nobody answered there is no other; and each provider is asked
    /// for once.
    #[test]
    fn who_does_not_answer_is_not_asked_again(world in world()) {
        let trace = world.run();
        for job in 0..world.jobs.len() {
            let asked: Vec<_> = trace.moments.iter().filter(|m| m.job == job).filter(|m| asks(m)).collect();
            let mut steps: Vec<_> = asked.iter().map(|moment| format!("{}", moment.step)).collect();
            steps.dedup();
            prop_assert_eq!(steps.len(), asked.len());
            prop_assert!(asked.iter().all(|moment| !moment.known.unanswered));
        }
    }

    /// A card that the spec lists and the profile does not know gets a share only once the secrets are
    /// published, and nothing else changes; what is wrong with such a card fails nothing.
    #[test]
    fn other_cards_get_the_key_once_it_is_published(world in world()) {
        let trace = world.run();
        for moment in &trace.moments {
            if moment.known.published {
                let key = &world.jobs[moment.job].key;
                prop_assert!(!key.cards.is_empty() && moment.known.open, "{moment:#?}");
            }
            if moment.step == Step::Enroll(Sealing::Added) {
                let (card, truth) = moment.card.as_ref().expect("a card");
                let profile = moment.on_disk.profile.as_ref().expect("a profile");
                let key = &world.jobs[moment.job].key;
                prop_assert!(moment.known.published);
                prop_assert!(key.cards.iter().any(|listed| truth.name.is(&listed.name())));
                prop_assert!(!profile.enrolled.iter().any(|(other, _)| other == card));
            }
        }
        for (job, end) in trace.ends.iter().enumerate() {
            let is_published = |m: &Moment| m.job == job && m.step == Step::Publish;
            let published = trace.moments.iter().any(is_published);
            prop_assert!(!published || matches!(end, End::Done | End::Killed), "{end:?}");
            let (before, after) = (&world.jobs[job].profile, &trace.jobs[job].profile);
            if let (Some(before), Some(after)) = (before, after)
                && world.jobs[job].key.overwrite.is_none()
            {
                prop_assert_eq!(before.threshold, after.threshold);
                prop_assert_eq!(&before.enrolled[..], &after.enrolled[..before.enrolled.len()]);
            }
        }
    }

    /// A new key is sealed to as many cards as have to come together, each of them once.
    #[test]
    fn a_new_key_is_sealed_to_as_many_cards_as_it_takes(world in world()) {
        let trace = world.run();
        for moment in trace.moments.iter().filter(|m| m.step == Step::Enroll(Sealing::New)) {
            let made = trace.jobs[moment.job].profile.as_ref();
            let Some(made) = made.filter(|_| !moment.vanished && trace.ends[moment.job] == End::Done)
            else { continue };
            let threshold = usize::from(world.jobs[moment.job].key.threshold.unwrap_or(1));
            let cards: BTreeSet<_> = made.enrolled.iter().map(|(card, _)| *card).collect();
            prop_assert_eq!(made.threshold, threshold);
            prop_assert!(cards.len() == made.enrolled.len() && cards.len() >= threshold);
        }
    }
}

/// Two cards and a spec that lists both; the profile knows the first one.
fn two_cards() -> World {
    let strategy = open_to_many();
    let mut world = strategy.new_tree(&mut runner("two cards")).expect("a world").current();
    world.cards.truncate(1);
    world.cards.push(world.cards[0].clone());
    for (index, card) in world.cards.iter_mut().enumerate() {
        card.name.serial = Serial::new(u32::try_from(index).expect("few") + 1);
        (card.inserted, card.pin_is_right, card.tries) = (true, true, 3);
        (card.content, card.memory) = (Content::Key(index), History::Proven);
    }
    let listed = |card: &super::world::Card| spec::Card {
        serial: card.name.serial,
        ..spec::Card::default()
    };
    let job = &mut world.jobs[0];
    job.key = Key { cards: world.cards.iter().map(listed).collect(), ..job.key.clone() };
    let profile = job.profile.as_mut().expect("a profile");
    (profile.threshold, profile.typed, profile.enrolled) = (1, 0, vec![(0, 0)]);
    world
}

#[test]
fn a_listed_card_joins_and_opens_the_key_alone_from_then_on() {
    let world = two_cards();
    let boots = world.boots(2);
    assert_eq!(boots[0].ends, [End::Done]);
    let enrolled = &boots[0].jobs[0].profile.as_ref().expect("a profile").enrolled;
    assert_eq!(enrolled, &[(0, 0), (1, 1)]);
    // The second boot does nothing about it.
    assert!(boots[1].moments.iter().all(|moment| !matches!(moment.step, Step::Enroll(_))));
    let mut alone = World { jobs: boots[1].jobs.clone(), cards: boots[1].cards.clone(), ..world };
    alone.cards[0].inserted = false;
    let trace = alone.run();
    assert_eq!(trace.ends, [End::Done]);
    assert_eq!(opened(&trace), [1].into());
}

#[test]
fn a_card_that_is_not_there_or_fails_is_no_failure() {
    let mut world = two_cards();
    world.cards[1].inserted = false;
    assert_eq!(world.run().ends, [End::Done]);
    world.cards[1].inserted = true;
    world.cards[1].pin_is_right = false;
    world.cards[1].memory = History::Unproven;
    let boots = world.boots(3);
    assert!(boots.iter().all(|boot| boot.ends == [End::Done]));
    // One try was spent on it, in the first boot.
    assert_eq!(boots[2].cards[1].tries, 2);
}

/// One card that the spec names twice, by its serial and by its GUID, which no reader of the spec can
/// tell.
fn named_twice() -> World {
    let mut world = two_cards();
    world.cards[0].name.guid = Guid::new([6; 16]);
    let guid = Guid::new([7; 16]);
    world.cards[1].name.guid = guid;
    world.jobs[0].key.cards.push(spec::Card { guid, ..spec::Card::default() });
    world
}

#[test]
fn a_card_that_is_named_twice_and_fails_ends_the_run() {
    let mut world = named_twice();
    world.cards[1].pin_is_right = false;
    world.cards[1].memory = History::Unproven;
    let trace = world.run();
    assert_eq!(trace.ends, [End::Done]);
    assert_eq!(trace.cards[1].tries, 2);
}

/// The names that the profile and the spec have for two cards have nothing in common.
#[test]
fn a_card_joins_beside_one_that_is_known_by_another_kind_of_name() {
    let mut world = two_cards();
    let guid = Guid::new([7; 16]);
    world.cards[0].name = CardName { serial: None, guid };
    world.jobs[0].key.cards[0] = spec::Card { guid, ..spec::Card::default() };
    let boots = world.boots(2);
    let enrolled = &boots[0].jobs[0].profile.as_ref().expect("a profile").enrolled;
    assert_eq!(enrolled, &[(0, 0), (1, 1)]);
    assert!(boots[1].moments.iter().all(|moment| !matches!(moment.step, Step::Enroll(_))));
}

/// One record is kept of a key that is being generated; two cards would need two, as the next run after
/// a kill would not know the first card's new key.
#[test]
fn a_new_key_for_two_cards_destroys_none() {
    let mut world = two_cards();
    let job = &mut world.jobs[0];
    (job.profile, job.key.threshold) = (None, Some(2));
    (job.key.mode, job.key.overwrite) = (Mode::Overwrite, None);
    job.key.management_key = Some(ManagementKeySource::FactoryDefault);
    world.cards.iter_mut().for_each(|card| card.content = Content::Empty);
    let trace = world.run();
    assert_eq!(trace.ends, [End::Refused(Refusal::OneAtATime { threshold: 2 })]);
    assert!(trace.moments.is_empty());
}

#[test]
fn nobody_is_asked_for_another_pin_after_a_question_that_was_not_answered() {
    let mut world = two_cards();
    world.jobs[0].profile.as_mut().expect("a profile").enrolled.push((1, 1));
    world.jobs[0].key.pin = Some(PinSource::Ask);
    world.cards.iter_mut().for_each(|card| card.memory = History::Unproven);
    world.answers_pins = false;
    let trace = world.run();
    let asked = trace.moments.iter().filter(|moment| moment.step == Step::AskPin).count();
    assert_eq!(asked, 1, "{:?}", trace.ends);
}

/// A world's key that is open, and a second card that is listed and not enrolled.
fn open_with_another_card() -> (Key, Known) {
    let world = two_cards();
    let known = Known { open: true, ..world.run().moments[0].known.clone() };
    (world.jobs[0].key.clone(), known)
}

#[test]
fn other_cards_are_at_stake_only_once_the_secrets_are_published() {
    let (key, known) = open_with_another_card();
    assert_eq!(known.at_stake(&key, Some(Step::Publish)), Way::Run);
    let known = Known { published: true, ..known };
    assert!(matches!(known.at_stake(&key, Some(Step::FindCard)), Way::Listed(_)));
}

#[test]
fn a_shipped_profile_gets_no_card_at_boot_and_one_from_a_command() {
    let (key, known) = open_with_another_card();
    let shipped = Key { profile: Some("/etc/vault.toml".into()), ..key.clone() };
    assert_eq!(known.to_join(&key).len(), 1);
    assert_eq!(known.to_join(&shipped).len(), 0);
    let asked = Known { goal: Goal::Join, ..known };
    assert_eq!(asked.to_join(&shipped).len(), 1);
}

#[test]
fn cards_that_are_not_there_are_given_up_together() {
    let (key, known) = open_with_another_card();
    let mut known = Known { open: false, ..known };
    let sealed = known.profile.as_mut().expect("a profile");
    let other = sealed.piv[&0].clone();
    sealed.piv.insert(1, other);
    assert_eq!(known.at_stake(&key, Some(Step::FindCard)), Way::Providers(vec![0, 1]));
}

#[test]
fn an_id_that_is_in_use_is_refused_before_the_pin() {
    let mut world = two_cards();
    world.jobs[0].key.cards[1].id = Some("card-1".parse().expect("a name"));
    let (key, mut known) = (world.jobs[0].key.clone(), world.run().moments[0].known.clone());
    (known.open, known.published) = (true, true);
    known.profile.as_mut().expect("a profile").ids = vec!["card-1".into()];
    let mut with_card = world.run().moments.into_iter().find_map(|moment| moment.known.session);
    let session = with_card.as_mut().expect("a session");
    (session.provider, session.listed) = (None, Some(1));
    known.session = with_card;
    let refused = Refusal::IdInUse { id: "card-1".into() };
    assert_eq!(next(&key, &known), Next::Refuse(refused));
}
