//! Worlds, and parts of them, from chance.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::run::rejected;
use super::world::{
    Answer, Attests, Card, Content, DECLARED, Job, KEYS, Policies, Profile, SEALED_SLOT, Tells,
    World, either_sign,
};
use crate::{
    guard::History,
    spec::{
        self, Attestation, AttestationPolicy, Enroll, Key, ManagementKeySource, Mode, Overwrite,
        PinSource,
    },
    token::{
        CardName, Guid, KeySource, PinPolicy, Serial, SlotKey, SlotState, TouchPolicy, fingerprint,
    },
};

fn policies() -> impl Strategy<Value = Policies> {
    let pin = vec![PinPolicy::Never, PinPolicy::Once, PinPolicy::Always];
    let touch = vec![TouchPolicy::Never, TouchPolicy::Cached];
    // Mostly what most specs say, so that cards and specs agree often enough.
    prop_oneof![
        3 => Just((PinPolicy::Once, TouchPolicy::Never)),
        1 => Just((PinPolicy::Never, TouchPolicy::Never)),
        1 => (select(pin), select(touch)),
    ]
}

pub fn name() -> impl Strategy<Value = CardName> {
    let serial = option::of(1_u32..4).prop_map(|n| n.and_then(Serial::new));
    let guid = option::of(1_u8..4).prop_map(|n| n.and_then(|n| Guid::new([n; 16])));
    (serial, guid).prop_map(|(serial, guid)| CardName { serial, guid })
}

fn card() -> impl Strategy<Value = Card> {
    let content = prop_oneof![
        2 => Just(Content::Empty),
        3 => (0_usize..2).prop_map(Content::Key),
        1 => Just(Content::P384),
    ];
    let tells = prop_oneof![
        4 => any::<bool>().prop_map(|policies| Tells::Truth { policies }),
        1 => (0_usize..2).prop_map(Tells::Certificate),
        2 => any::<bool>().prop_map(|probe_tells_empty| Tells::Nothing { probe_tells_empty }),
    ];
    let tries = prop_oneof![1 => 0_u8..3, 2 => Just(3)];
    let right = prop_oneof![1 => Just(false), 3 => Just(true)];
    let factory = any::<Option<bool>>();
    let inserted = prop::bool::weighted(0.9);
    let slot = (content, tells, attests());
    (name(), slot, policies(), right, tries, history(), factory, inserted).prop_map(
        |(
            name,
            (content, tells, attests),
            policies,
            pin_is_right,
            tries,
            memory,
            factory_management_key,
            inserted,
        )| {
            Card {
                name,
                content,
                tells,
                attests,
                policies,
                pin_is_right,
                tries,
                memory,
                factory_management_key,
                inserted,
            }
        },
    )
}

fn attests() -> impl Strategy<Value = Attests> {
    let others = vec![
        Attests::Nothing,
        Attests::Untrusted,
        Attests::Imported,
        Attests::OtherKey,
        Attests::OtherSerial,
    ];
    prop_oneof![3 => Just(Attests::Truth), 2 => select(others)]
}

/// What the PIN guard may know.
pub fn history() -> impl Strategy<Value = History> {
    prop_oneof![2 => Just(History::Proven), 3 => Just(History::Unproven), 1 => Just(rejected())]
}

pub fn management_key() -> impl Strategy<Value = Option<ManagementKeySource>> {
    option::of(select(vec![ManagementKeySource::Protected, ManagementKeySource::FactoryDefault]))
}

/// Anything that may be known of a slot.
pub fn slot() -> impl Strategy<Value = SlotState> {
    let public = prop_oneof![
        3 => (0_usize..2).prop_map(|key| Ok(KEYS[key])),
        1 => Just(Err("P-384".into())),
    ];
    let source = select(vec![KeySource::Metadata, KeySource::Metadata, KeySource::Certificate]);
    let key = (public, option::of(policies()), source).prop_map(|(public, policies, source)| {
        SlotState::Key(SlotKey { public, policies, source, is_generated: true })
    });
    prop_oneof![key, Just(SlotState::Empty), Just(SlotState::Unknown)]
}

/// A spec's key.
pub fn key() -> impl Strategy<Value = Key> {
    let pin = prop_oneof![
        1 => Just(None),
        4 => Just(Some(PinSource::File("/run/pin".into()))),
        2 => Just(Some(PinSource::Ask)),
    ];
    let rare = || prop::bool::weighted(0.1);
    let mode = (prop::bool::weighted(0.4), option::weighted(0.8, overwrite()));
    let attestation = prop_oneof![
        3 => Just(AttestationPolicy::Off),
        1 => Just(AttestationPolicy::IfAvailable),
        1 => Just(AttestationPolicy::Required),
    ];
    let threshold = option::weighted(0.2, 1_u8..3);
    let seldom = (rare(), rare(), rare(), rare(), threshold);
    (policies(), pin, management_key(), attestation, seldom, mode).prop_map(
        |(
            (pin_policy, touch_policy),
            pin,
            management_key,
            policy,
            (declared, never, other_slot, asks_nobody, threshold),
            (overwrites, overwrite),
        )| Key {
            slot: if other_slot { "82".parse().expect("a slot") } else { SEALED_SLOT },
            threshold,
            ask: !asks_nobody,
            pin_policy,
            touch_policy,
            pin,
            management_key,
            attestation: Attestation { policy, roots: Vec::new() },
            profile_id: declared.then(|| id(DECLARED)),
            enroll: if never { Enroll::Never } else { Enroll::Auto },
            mode: if overwrites { Mode::Overwrite } else { Mode::UseExisting },
            overwrite,
            ..Key::default()
        },
    )
}

/// Which key may be destroyed: by its fingerprint, or by that of its negative.
fn overwrite() -> impl Strategy<Value = Overwrite> {
    let named = (0_usize..2, 0_usize..2);
    (option::weighted(0.9, named), any::<bool>()).prop_map(|(named, abandon_profile)| Overwrite {
        fingerprint: named.map(|(key, sign)| fingerprint(&either_sign(&KEYS[key])[sign])),
        abandon_profile,
    })
}

/// A profile's id, read as the spec reads it.
fn id(text: &str) -> spec::ProfileId {
    serde_json::from_value(text.into()).expect("an id")
}

fn job(cards: usize) -> impl Strategy<Value = Job> {
    let providers = vec((0..cards, 0_usize..2), 1..=cards.max(2));
    let policies = option::of(policies());
    let typed = prop_oneof![3 => Just(0), 1 => 1_usize..=2];
    let profile = (any::<bool>(), 1_usize..=3, providers, any::<bool>(), policies, typed).prop_map(
        |(id_is_declared, threshold, mut enrolled, knows_source, policies, typed)| {
            enrolled.sort_unstable();
            enrolled.dedup_by_key(|(card, _)| *card);
            Profile { id_is_declared, threshold, enrolled, knows_source, policies, typed }
        },
    );
    let dependent = option::weighted(0.1, 0_usize..2);
    (key(), option::of(profile), prop::bool::weighted(0.1), dependent).prop_map(
        |(key, profile, orphan, dependent)| Job { key, profile, orphan, dependent, record: None },
    )
}

/// Has the spec list cards, each once, where they have a name.
fn list(key: &mut Key, listed: Vec<usize>, cards: &[Card]) {
    for card in listed.into_iter().map(|card| cards[card].name) {
        let is_twin = key.cards.iter().any(|other| other.name().may_be(&card));
        if card != CardName::default() && !is_twin {
            let CardName { serial, guid } = card;
            key.cards.push(spec::Card { serial, guid, ..spec::Card::default() });
        }
    }
}

/// Any world.
pub fn world() -> impl Strategy<Value = World> {
    vec(card(), 1..=3).prop_flat_map(|cards| {
        let jobs = vec(job(cards.len()), 1..=3);
        let vanishes = vec(0_usize..12, 0..=3);
        let answers = vec(select(vec![Answer::Right, Answer::Wrong, Answer::None]), 0..=2);
        let listed = vec(vec(0..cards.len(), 0..=3), 3);
        (Just(cards), jobs, vanishes, prop::bool::weighted(0.8), answers, listed).prop_map(
            |(cards, mut jobs, vanishes, comes_back, answers, listed)| {
                for (job, listed) in jobs.iter_mut().zip(listed) {
                    list(&mut job.key, listed, &cards);
                }
                let (answers_pins, killed) = (true, None);
                World { cards, jobs, vanishes, comes_back, answers, answers_pins, killed }
            },
        )
    })
}

/// A world in which nothing is wrong: the first job must get to its end, whatever vanishes (if not
/// while a PIN is checked) and comes back.
pub fn good_world() -> impl Strategy<Value = World> {
    world().prop_map(|mut world| {
        let serial = |n: usize| Serial::new(u32::try_from(n).expect("few") + 1);
        world.jobs.truncate(1);
        world.comes_back = true;
        let job = &mut world.jobs[0];
        job.orphan = false;
        job.dependent = None;
        job.key.slot = SEALED_SLOT;
        job.key.enroll = Enroll::Auto;
        job.key.mode = Mode::UseExisting;
        // Those are of `ways`.
        job.key.cards.clear();
        job.key.threshold = None;
        let needs_management_key = [ManagementKeySource::FactoryDefault];
        job.key.management_key.get_or_insert(needs_management_key[0].clone());
        job.key.pin.get_or_insert(PinSource::File("/run/pin".into()));
        if let Some(profile) = &mut job.profile {
            profile.id_is_declared = true;
            profile.typed = 0;
            profile.threshold = profile.threshold.min(profile.enrolled.len());
            profile.policies = Some((job.key.pin_policy, job.key.touch_policy));
        } else {
            job.key.profile_id = None;
        }
        for (index, card) in world.cards.iter_mut().enumerate() {
            card.name.serial = serial(index);
            card.inserted = true;
            card.pin_is_right = true;
            card.tries = 3;
            card.attests = Attests::Truth;
            if card.memory == rejected() {
                card.memory = History::Unproven;
            }
            card.policies = (job.key.pin_policy, job.key.touch_policy);
            if card.content == Content::P384 {
                card.content = Content::Empty;
            }
            if let Tells::Nothing { probe_tells_empty } = &mut card.tells {
                *probe_tells_empty = true;
            }
            if matches!(card.tells, Tells::Certificate(_)) {
                card.tells = Tells::Truth { policies: false };
            }
        }
        for &mut (card, key) in job.profile.iter_mut().flat_map(|p| &mut p.enrolled) {
            world.cards[card].content = Content::Key(key);
        }
        world
    })
}

/// A world in which nothing speaks against overwriting the key of one card.
pub fn good_overwriting() -> impl Strategy<Value = World> {
    (good_world(), 0_usize..2).prop_map(|(mut world, sign)| {
        let job = &mut world.jobs[0];
        job.key.mode = Mode::Overwrite;
        job.key.management_key.get_or_insert(ManagementKeySource::FactoryDefault);
        job.key.profile_id = None;
        let (card, key) = match &mut job.profile {
            Some(profile) => {
                // Each card has a key of its own.
                let number = |(index, (card, _)): (usize, &mut (usize, usize))| (*card, index);
                profile.enrolled = profile.enrolled.iter_mut().enumerate().map(number).collect();
                profile.enrolled[0]
            }
            None => (0, 0),
        };
        let abandon_profile = true;
        let named = fingerprint(&either_sign(&KEYS[key])[sign]);
        job.key.overwrite = Some(Overwrite { fingerprint: Some(named), abandon_profile });
        // No other card has a copy.
        world.cards.iter_mut().for_each(|card| card.content = Content::Empty);
        for &(card, key) in job.profile.iter().flat_map(|p| &p.enrolled) {
            world.cards[card].content = Content::Key(key);
        }
        world.cards[card].content = Content::Key(key);
        world
    })
}

/// A world with one key whose profile has several cards and typed providers; of each any part is wrong
/// with a card, of those that a run meets: away, another key, a wrong PIN, too few tries.
pub fn open_to_many() -> impl Strategy<Value = World> {
    let wrong = vec(0_usize..12, 3);
    let answers = vec(select(vec![Answer::Right, Answer::Wrong, Answer::None]), 2);
    let profile = (1_usize..=3, 1_usize..=3, 0_usize..=2, any::<bool>());
    (good_world(), vec(card(), 3), wrong, answers, profile).prop_map(
        |(mut world, more, wrong, answers, (cards, threshold, typed, ask))| {
            let (template, job) = (world.cards[0].clone(), &mut world.jobs[0]);
            world.vanishes.clear();
            world.answers = answers;
            job.key.ask = ask;
            world.cards = more.into_iter().take(cards).collect();
            for (index, card) in world.cards.iter_mut().enumerate() {
                let serial = Serial::new(u32::try_from(index).expect("few") + 1);
                *card = Card {
                    name: CardName { serial, guid: None },
                    content: Content::Key(index),
                    ..template.clone()
                };
                match wrong[index] {
                    0 => card.inserted = false,
                    1 => card.content = Content::Empty,
                    2 => card.content = Content::Key(3),
                    3 => (card.pin_is_right, card.memory) = (false, History::Unproven),
                    4 => card.tries = 1,
                    5 => card.memory = rejected(),
                    _ => {}
                }
            }
            // What such a card is asked has to tell what is wrong with it.
            job.key.pin_policy = PinPolicy::Once;
            for card in &mut world.cards {
                card.tells = Tells::Truth { policies: true };
                card.policies = (job.key.pin_policy, job.key.touch_policy);
            }
            job.profile = Some(Profile {
                id_is_declared: true,
                threshold,
                enrolled: (0..cards).map(|card| (card, card)).collect(),
                knows_source: true,
                policies: None,
                typed,
            });
            world
        },
    )
}
