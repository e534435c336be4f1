//! What the cards and the disk really are, and a run of the planner through it: each step is carried
//! out as `apply` does it, and every card may vanish in the middle of it.

use std::sync::LazyLock;

use p256::{NonZeroScalar, PublicKey, U256, elliptic_curve::ops::Reduce};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::super::{Known, Next, Refusal, Sealed, Session, Step, next};
use crate::{
    card::{CardName, Guid, KeySource, PinPolicy, Serial, Slot, SlotKey, SlotState, TouchPolicy},
    profile::piv::{Params, Peer, Scheme, same_key},
    spec::{self, Enroll, Key, ManagementKeySource, Mode, PinSource},
};

pub type Policies = (PinPolicy, TouchPolicy);

/// The private keys 2 to 5's public ones.
static KEYS: LazyLock<[PublicKey; 4]> = LazyLock::new(|| {
    [1_u32, 2, 3, 4].map(|n| PublicKey::from_secret_scalar(&NonZeroScalar::reduce(&U256::from(n))))
});
static PEER: LazyLock<Peer> =
    LazyLock::new(|| Peer::new(Scheme::HashToCurve, [7; 32]).expect("a point"));

/// What is in the slot of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Empty,
    Key(usize),
    P384,
}

/// What a card says of its slot without the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// The truth, with or without the policies.
    Truth { policies: bool },
    /// A certificate of this key, which has nothing to do with the one in the slot.
    Certificate(usize),
    /// Nothing; and whether key agreements tell an empty slot.
    Nothing { probe_tells_empty: bool },
}

#[derive(Clone, Debug)]
pub struct Card {
    pub name: CardName,
    pub content: Content,
    pub tells: Tells,
    pub policies: Policies,
    /// Whether the PIN of the spec is this card's.
    pub pin_is_right: bool,
    pub tries: u8,
    pub factory_management_key: Option<bool>,
    /// Whether the spec or a person names it, or it is the wanted one for want of any name.
    pub inserted: bool,
}

/// One key of the spec, and what is on the disk for it.
#[derive(Clone, Debug)]
pub struct Job {
    pub key: Key,
    pub profile: Option<Profile>,
    pub orphan: bool,
}

#[derive(Clone, Debug)]
pub struct Profile {
    pub id_is_declared: bool,
    pub threshold: usize,
    /// By provider: the card that was enrolled, and the key that it had.
    pub enrolled: Vec<(usize, usize)>,
    pub knows_source: bool,
}

#[derive(Clone, Debug)]
pub struct World {
    pub cards: Vec<Card>,
    /// The keys of one run, one after the other: they share what became of PINs.
    pub jobs: Vec<Job>,
    /// The steps of the run, counted from 0, in which the card vanishes before it answers.
    pub vanishes: Vec<usize>,
    /// Whether such a card comes back.
    pub comes_back: bool,
}

/// One step that was asked for, with what was known before, and what was true.
#[derive(Clone, Debug)]
pub struct Moment {
    pub job: usize,
    pub step: Step,
    pub known: Known,
    /// The card in hand, as it is.
    pub card: Option<(usize, Card)>,
    /// Whether that card has accepted a PIN in this run before.
    pub accepted_before: bool,
    /// Whether the card vanished before it answered.
    pub vanished: bool,
    /// Where the step is one that `Step::assume` foretells: what was foretold, and what came.
    pub foretold: Option<(Next, Next)>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    Refused(Refusal),
    /// `apply` gave up by itself: no card, a rejected PIN, a wrong proof.
    Failed(&'static str),
    /// It went on for longer than anything sensible does.
    Endless,
}

pub struct Trace {
    pub moments: Vec<Moment>,
    pub ends: Vec<End>,
}

/// No job takes more steps.
const MOST_STEPS: usize = 200;

impl World {
    pub fn run(&self) -> Trace {
        let mut run = Run {
            world: self,
            cards: self.cards.clone(),
            accepted: vec![false; self.cards.len()],
            moments: Vec::new(),
        };
        let mut pins = Vec::new();
        let mut ends = Vec::new();
        for index in 0..self.jobs.len() {
            let mut known = Known {
                profile: self.sealed(index),
                pins: std::mem::take(&mut pins),
                ..Known::default()
            };
            ends.push(run.job(index, &mut known));
            pins = known.pins;
        }
        let moments = run.moments;
        Trace { moments, ends }
    }

    fn sealed(&self, index: usize) -> Option<Sealed> {
        let job = &self.jobs[index];
        job.profile.as_ref().map(|profile| Sealed {
            id: if profile.id_is_declared {
                DECLARED
            } else {
                "another"
            }
            .into(),
            threshold: profile.threshold,
            is_version_1: false,
            piv: profile
                .enrolled
                .iter()
                .enumerate()
                .map(|(i, &(card, key))| {
                    (i, params(self.cards[card].name, key, profile.knows_source))
                })
                .collect(),
            others: Vec::new(),
        })
    }
}

/// The slot that every profile is sealed to.
pub const SEALED_SLOT: Slot = Slot::KEY_MANAGEMENT;

/// What a profile says of a card that was enrolled with one of the keys.
pub fn params(card: CardName, key: usize, knows_source: bool) -> Params {
    Params {
        peer: PEER.clone(),
        public_key: KEYS[key],
        slot: SEALED_SLOT,
        serial: card.serial,
        guid: card.guid,
        card_name: "reader".into(),
        touch_policy: TouchPolicy::Never,
        pin_policy: None,
        key_source: knows_source.then_some(KeySource::Metadata),
    }
}

/// The id that specs of these tests declare, if they do.
pub const DECLARED: &str = "11111111111111111111111111111111";

struct Run<'a> {
    world: &'a World,
    cards: Vec<Card>,
    accepted: Vec<bool>,
    moments: Vec<Moment>,
}

/// What a step came to.
enum Outcome {
    Ok,
    Vanished,
    Failed(&'static str),
}

impl Run<'_> {
    fn job(&mut self, index: usize, known: &mut Known) -> End {
        let key = &self.world.jobs[index].key;
        let (mut in_hand, mut answered_for) = (None, Vec::new());
        let mut foretold: Option<Next> = None;
        for _ in 0..MOST_STEPS {
            let what = next(key, known);
            if let Some(foretold) = foretold.take()
                && let Some(last) = self.moments.last_mut()
            {
                last.foretold = Some((foretold, what.clone()));
            }
            let step = match what {
                Next::Step(step) => step,
                Next::Done => return End::Done,
                Next::Refuse(refusal) => return End::Refused(refusal),
            };
            let on_card = !matches!(step, Step::FindCard | Step::AskPin | Step::Publish);
            let vanished = on_card && self.world.vanishes.contains(&self.moments.len());
            let card = in_hand.filter(|_| known.session.is_some());
            self.moments.push(Moment {
                job: index,
                step,
                known: known.clone(),
                card: card.map(|card: usize| (card, self.cards[card].clone())),
                accepted_before: card.is_some_and(|card| self.accepted[card]),
                vanished,
                foretold: None,
            });
            let mut assumed = known.clone();
            let certain = step.assume(&mut assumed);
            let outcome = match (step, card) {
                (Step::FindCard, _) => self.find(index, known, &mut in_hand),
                (Step::Publish, _) => {
                    known.published = true;
                    Outcome::Ok
                }
                (_, None) => Outcome::Failed("a step without a card"),
                (Step::AskPin, Some(_)) => {
                    let asked = known.session.take().map(|session| session.card);
                    known.answered.extend(asked);
                    answered_for.extend(asked);
                    Outcome::Ok
                }
                (_, Some(card)) => {
                    let job = &self.world.jobs[index];
                    self.on_card(job, step, card, &answered_for, known, vanished)
                }
            };
            match outcome {
                Outcome::Ok if certain => foretold = Some(next(key, &assumed)),
                Outcome::Ok => {}
                Outcome::Vanished => {
                    known.session = None;
                    if let Some(card) = card {
                        self.cards[card].inserted &= self.world.comes_back;
                    }
                }
                Outcome::Failed(why) => return End::Failed(why),
            }
        }
        End::Endless
    }

    /// As `observe::find`.
    fn find(&self, index: usize, known: &mut Known, in_hand: &mut Option<usize>) -> Outcome {
        let job = &self.world.jobs[index];
        let mut inserted = (0..self.cards.len()).filter(|&card| self.cards[card].inserted);
        let found = match &known.profile {
            Some(sealed) => inserted.find_map(|card| {
                let (index, provider) = sealed
                    .piv
                    .iter()
                    .filter(|(index, _)| !known.opened.contains(*index))
                    .find(|(_, provider)| self.is(card, provider))?;
                let name = CardName {
                    serial: provider.serial,
                    guid: provider.guid,
                };
                Some((card, name, Some(*index)))
            }),
            None => inserted
                .next()
                .map(|card| (card, self.cards[card].name, None)),
        };
        let Some((card, name, provider)) = found else {
            return Outcome::Failed("no card");
        };
        let slot = provider.map(|_| match self.told(card) {
            // A certificate of another key is only a hint.
            SlotState::Key(SlotKey {
                source: KeySource::Certificate,
                ..
            }) => SlotState::Unknown,
            told => told,
        });
        *in_hand = Some(card);
        known.session = Some(Session {
            card: name,
            reader: format!("reader {card}"),
            provider,
            pin: job.key.pin.clone(),
            management_key: job.key.management_key.clone(),
            slot,
            probed: false,
            factory_management_key: None,
            orphan: None,
            tries: None,
            verified: false,
        });
        Outcome::Ok
    }

    /// Whether this is the provider's card: by its key, else by its name.
    fn is(&self, card: usize, provider: &Params) -> bool {
        let by_key = matches!(self.told(card), SlotState::Key(SlotKey { public: Ok(key), .. })
            if same_key(&key, &provider.public_key));
        let (serial, guid) = (provider.serial, provider.guid);
        by_key || self.cards[card].name.is(&CardName { serial, guid })
    }

    /// What the card says of its slot without the PIN.
    fn told(&self, card: usize) -> SlotState {
        let card = &self.cards[card];
        let key = |public, policies, source| {
            SlotState::Key(SlotKey {
                public,
                policies,
                source,
            })
        };
        match (card.tells, card.content) {
            (Tells::Nothing { .. }, _) => SlotState::Unknown,
            (Tells::Certificate(other), _) => key(Ok(KEYS[other]), None, KeySource::Certificate),
            (Tells::Truth { .. }, Content::Empty) => SlotState::Empty,
            (Tells::Truth { policies }, content) => {
                let public = match content {
                    Content::Key(own) => Ok(KEYS[own]),
                    _ => Err("P-384".into()),
                };
                key(
                    public,
                    policies.then_some(card.policies),
                    KeySource::Metadata,
                )
            }
        }
    }

    /// A step on the open session, as `apply` carries it out.
    fn on_card(
        &mut self,
        job: &Job,
        step: Step,
        card: usize,
        answered_for: &[CardName],
        known: &mut Known,
        vanished: bool,
    ) -> Outcome {
        let told = self.told(card);
        let truth = &mut self.cards[card];
        let Some(session) = &mut known.session else {
            return Outcome::Failed("a step without a session");
        };
        if step == Step::PresentPin {
            if session.pin == Some(PinSource::Ask) && !answered_for.contains(&session.card) {
                return Outcome::Failed("an answer for another card");
            }
            known.pin_goes_out();
            // The card has decided before it vanishes.
            truth.tries = if truth.pin_is_right {
                3
            } else {
                truth.tries.saturating_sub(1)
            };
            if vanished {
                return Outcome::Vanished;
            }
            if !truth.pin_is_right {
                let left = truth.tries;
                known.pin_came_back(Some(left));
                return Outcome::Failed("the PIN was rejected");
            }
            self.accepted[card] = true;
            known.pin_came_back(None);
            return Outcome::Ok;
        }
        if vanished {
            if step == Step::Generate && truth.content == Content::Empty {
                truth.content = Content::Key(3);
            }
            return Outcome::Vanished;
        }
        match step {
            Step::InspectSlot => {
                session.slot = Some(told);
                session.orphan = job.orphan.then(|| "/state/old.toml".into());
                session.factory_management_key = truth.factory_management_key;
            }
            Step::CountTries => session.tries = Some(truth.tries),
            Step::ProbeSlot => {
                session.probed = true;
                session.slot = Some(match (truth.content, truth.tells) {
                    (Content::Key(own), _) => SlotState::Key(SlotKey {
                        public: Ok(KEYS[own]),
                        policies: None,
                        source: KeySource::KeyAgreement,
                    }),
                    (
                        Content::Empty,
                        Tells::Nothing {
                            probe_tells_empty: true,
                        },
                    ) => SlotState::Empty,
                    _ => SlotState::Unknown,
                });
            }
            Step::Generate => {
                truth.content = Content::Key(3);
                truth.policies = (job.key.pin_policy, job.key.touch_policy);
                session.slot = Some(SlotState::Key(SlotKey {
                    public: Ok(KEYS[3]),
                    policies: Some(truth.policies),
                    source: KeySource::Metadata,
                }));
            }
            Step::Enroll => match (&session.slot, truth.content) {
                (
                    Some(SlotState::Key(SlotKey {
                        public: Ok(key), ..
                    })),
                    Content::Key(own),
                ) if same_key(key, &KEYS[own]) => {
                    known.open = true;
                }
                _ => return Outcome::Failed("the proof does not hold"),
            },
            Step::OpenShare(index) => {
                let Some(sealed) = &known.profile else {
                    return Outcome::Failed("no profile to open");
                };
                let sealed_to = &sealed.piv[&index].public_key;
                if !matches!(truth.content, Content::Key(own) if same_key(&KEYS[own], sealed_to)) {
                    return Outcome::Failed("the share does not open");
                }
                known.session = None;
                known.opened.insert(index);
                known.open = known.opened.len() >= sealed.threshold;
            }
            _ => return Outcome::Failed("not a step on a card"),
        }
        Outcome::Ok
    }
}

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
    (
        name(),
        content,
        tells,
        policies(),
        right,
        tries,
        factory,
        prop::bool::weighted(0.9),
    )
        .prop_map(
            |(
                name,
                content,
                tells,
                policies,
                pin_is_right,
                tries,
                factory_management_key,
                inserted,
            )| {
                Card {
                    name,
                    content,
                    tells,
                    policies,
                    pin_is_right,
                    tries,
                    factory_management_key,
                    inserted,
                }
            },
        )
}

pub fn management_key() -> impl Strategy<Value = Option<ManagementKeySource>> {
    option::of(select(vec![
        ManagementKeySource::Protected,
        ManagementKeySource::FactoryDefault,
    ]))
}

/// Anything that may be known of a slot.
pub fn slot() -> impl Strategy<Value = SlotState> {
    let public = prop_oneof![
        3 => (0_usize..2).prop_map(|key| Ok(KEYS[key])),
        1 => Just(Err("P-384".into())),
    ];
    let key = (public, option::of(policies())).prop_map(|(public, policies)| {
        SlotState::Key(SlotKey {
            public,
            policies,
            source: KeySource::Metadata,
        })
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
    (
        policies(),
        pin,
        management_key(),
        rare(),
        rare(),
        [rare(), rare()],
    )
        .prop_map(
            |(
                (pin_policy, touch_policy),
                pin,
                management_key,
                declared,
                never,
                [overwrite, other_slot],
            )| Key {
                slot: if other_slot {
                    "82".parse().expect("a slot")
                } else {
                    SEALED_SLOT
                },
                pin_policy,
                touch_policy,
                pin,
                management_key,
                profile_id: declared.then(|| id(DECLARED)),
                enroll: if never { Enroll::Never } else { Enroll::Auto },
                mode: if overwrite {
                    Mode::Overwrite
                } else {
                    Mode::UseExisting
                },
                ..Key::default()
            },
        )
}

/// A profile's id, read as the spec reads it.
fn id(text: &str) -> spec::ProfileId {
    serde_json::from_value(text.into()).expect("an id")
}

fn job(cards: usize) -> impl Strategy<Value = Job> {
    let providers = vec((0..cards, 0_usize..2), 1..=cards.max(2));
    let profile = (any::<bool>(), 1_usize..=2, providers, any::<bool>()).prop_map(
        |(id_is_declared, threshold, mut enrolled, knows_source)| {
            enrolled.sort_unstable();
            enrolled.dedup_by_key(|(card, _)| *card);
            Profile {
                id_is_declared,
                threshold,
                enrolled,
                knows_source,
            }
        },
    );
    (key(), option::of(profile), prop::bool::weighted(0.1)).prop_map(|(key, profile, orphan)| Job {
        key,
        profile,
        orphan,
    })
}

/// Any world.
pub fn world() -> impl Strategy<Value = World> {
    vec(card(), 1..=3).prop_flat_map(|cards| {
        let jobs = vec(job(cards.len()), 1..=3);
        let vanishes = vec(0_usize..12, 0..=3);
        (Just(cards), jobs, vanishes, prop::bool::weighted(0.8)).prop_map(
            |(cards, jobs, vanishes, comes_back)| World {
                cards,
                jobs,
                vanishes,
                comes_back,
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
        job.key.slot = SEALED_SLOT;
        job.key.enroll = Enroll::Auto;
        job.key.mode = Mode::UseExisting;
        let needs_management_key = [ManagementKeySource::FactoryDefault];
        job.key
            .management_key
            .get_or_insert(needs_management_key[0].clone());
        job.key
            .pin
            .get_or_insert(PinSource::File("/run/pin".into()));
        if let Some(profile) = &mut job.profile {
            profile.id_is_declared = true;
            profile.threshold = profile.threshold.min(profile.enrolled.len());
        } else {
            job.key.profile_id = None;
        }
        for (index, card) in world.cards.iter_mut().enumerate() {
            card.name.serial = serial(index);
            card.inserted = true;
            card.pin_is_right = true;
            card.tries = 3;
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
