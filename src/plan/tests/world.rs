//! What the cards and the disk really are, and what a run of the planner through it left behind.

use std::sync::LazyLock;

use p256::{
    NonZeroScalar, PublicKey, U256,
    elliptic_curve::{ops::Reduce, sec1::ToSec1Point},
};

use super::{
    super::{Known, Next, Refusal, Sealed, Step},
    run::Run,
};
use crate::{
    guard::History,
    profile::{
        generating::Generating,
        piv::{Params, Peer, Scheme},
    },
    spec::{Key, Mode},
    token::{CardName, Fingerprint, KeySource, PinPolicy, Slot, TouchPolicy, Trust, fingerprint},
};

pub type Policies = (PinPolicy, TouchPolicy);

/// The private keys 2 to 5's public ones.
pub static KEYS: LazyLock<[PublicKey; 4]> = LazyLock::new(|| {
    [1_u32, 2, 3, 4].map(|n| PublicKey::from_secret_scalar(&NonZeroScalar::reduce(&U256::from(n))))
});
/// A key and its negative; the first has an even y.
pub fn either_sign(key: &PublicKey) -> [PublicKey; 2] {
    [2, 3].map(|sign| {
        let mut point = key.to_sec1_point(true).as_bytes().to_vec();
        point[0] = sign;
        PublicKey::from_sec1_bytes(&point).expect("a point")
    })
}

/// Each of [`KEYS`] or its negative: the one with an even y, as key agreements tell them.
pub static EVEN: LazyLock<[PublicKey; 4]> = LazyLock::new(|| KEYS.map(|key| either_sign(&key)[0]));
/// The fingerprints of each of [`KEYS`], and of its negative.
static FINGERPRINTS: LazyLock<[[Fingerprint; 2]; 4]> =
    LazyLock::new(|| KEYS.map(|key| either_sign(&key).map(|key| fingerprint(&key))));

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

/// What a card attests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attests {
    /// Nothing.
    Nothing,
    /// What nobody vouches for.
    Untrusted,
    /// The truth of keys that it made.
    Truth,
    /// Nothing of the key that it came with, which was imported; the truth of others.
    Imported,
    /// Another key than the one in the slot.
    OtherKey,
    /// Another card's serial.
    OtherSerial,
}

#[derive(Clone, Debug)]
pub struct Card {
    pub name: CardName,
    pub content: Content,
    pub tells: Tells,
    pub attests: Attests,
    pub policies: Policies,
    /// Whether the PIN of the spec is this card's.
    pub pin_is_right: bool,
    pub tries: u8,
    /// What the PIN guard knows of that PIN.
    pub memory: History,
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
    /// A key that the profile of a key that is no job is sealed to.
    pub dependent: Option<usize>,
    /// The record of a generation.
    pub record: Option<Generating>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub id_is_declared: bool,
    pub threshold: usize,
    /// By provider: the card that was enrolled, and the key that it had.
    pub enrolled: Vec<(usize, usize)>,
    pub knows_source: bool,
    /// The policies that its providers remember.
    pub policies: Option<Policies>,
    /// How many providers it has besides, which a person types.
    pub typed: usize,
}

/// What a person does who is asked for a passphrase or a recovery code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Right,
    /// Three times.
    Wrong,
    /// Nothing: nobody is there.
    None,
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
    /// By place behind the cards; those that are asked for beyond are not answered.
    pub answers: Vec<Answer>,
    /// Whether a person is there to type PINs.
    pub answers_pins: bool,
    /// The step after which the run is killed, counted from 0.
    pub killed: Option<usize>,
}

/// One step that was asked for, with what was known before, and what was true.
#[derive(Clone, Debug)]
pub struct Moment {
    pub job: usize,
    pub step: Step,
    pub known: Known,
    /// The job, as the disk has it.
    pub on_disk: Job,
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
    /// The run was killed.
    Killed,
    /// It went on for longer than anything sensible does.
    Endless,
}

pub struct Trace {
    pub moments: Vec<Moment>,
    pub ends: Vec<End>,
    /// The cards as the run left them.
    pub cards: Vec<Card>,
    /// The keys as the run left them on the disk.
    pub jobs: Vec<Job>,
}

impl World {
    pub fn run(&self) -> Trace {
        let mut run = Run {
            world: self,
            cards: self.cards.clone(),
            jobs: self.jobs.clone(),
            accepted: vec![false; self.cards.len()],
            moments: Vec::new(),
            prepared: Vec::new(),
        };
        let mut pins = Vec::new();
        let mut ends = Vec::new();
        for index in 0..self.jobs.len() {
            let mut known = Known {
                profile: run.sealed(index),
                record: self.jobs[index].record,
                pins: std::mem::take(&mut pins),
                ..Known::default()
            };
            ends.push(run.job(index, &mut known));
            pins = known.pins;
            if ends.last() == Some(&End::Killed) {
                break;
            }
        }
        let Run { moments, cards, jobs, .. } = run;
        Trace { moments, ends, cards, jobs }
    }

    /// The same boot again and again, with the cards and the disk as the one before left them. Only the
    /// first is killed.
    pub fn boots(&self, boots: usize) -> Vec<Trace> {
        let mut world = self.clone();
        let boot = |_| {
            let trace = world.run();
            world.killed = None;
            world.jobs.clone_from(&trace.jobs);
            world.cards.clone_from(&trace.cards);
            world.cards.iter_mut().zip(&self.cards).for_each(|(c, was)| c.inserted = was.inserted);
            trace
        };
        (0..boots).map(boot).collect()
    }
}

impl Run<'_> {
    pub fn sealed(&self, index: usize) -> Option<Sealed> {
        let job = &self.jobs[index];
        let is_listed = |name: CardName| {
            let mut listed = job.key.cards.iter();
            job.key.cards.is_empty() || listed.any(|card| name.may_be(&card.name()))
        };
        job.profile.as_ref().map(|profile| {
            let enrolled = profile.enrolled.iter().enumerate();
            let (piv, unlisted): (Vec<_>, Vec<_>) =
                enrolled.partition(|(_, (card, _))| is_listed(self.cards[*card].name));
            let params = |&(card, key): &(usize, usize)| {
                params(self.cards[card].name, key, profile.knows_source, profile.policies)
            };
            Sealed {
                id: if profile.id_is_declared { DECLARED } else { "another" }.into(),
                threshold: profile.threshold,
                unlisted: unlisted.iter().map(|(_, (card, _))| self.cards[*card].name).collect(),
                is_version_1: false,
                piv: piv.into_iter().map(|(place, enrolled)| (place, params(enrolled))).collect(),
                ids: Vec::new(),
                typed: (0..profile.typed).map(|place| profile.enrolled.len() + place).collect(),
                others: Vec::new(),
            }
        })
    }
}

/// Whether the spec has this key destroyed.
pub fn names(key: &Key, public: usize) -> bool {
    let named = key.overwrite.as_ref().and_then(|overwrite| overwrite.fingerprint);
    let is_named = named.is_some_and(|named| FINGERPRINTS[public].contains(&named));
    key.mode == Mode::Overwrite && is_named
}

/// Who vouches for every card that anybody vouches for.
pub const TRUST: Trust = Trust { root: Fingerprint([1; 32]), card_key: Fingerprint([2; 32]) };

/// The slot that every profile is sealed to.
pub const SEALED_SLOT: Slot = Slot::KEY_MANAGEMENT;

/// What a profile says of a card that was enrolled with one of the keys.
pub fn params(
    card: CardName,
    key: usize,
    knows_source: bool,
    policies: Option<Policies>,
) -> Params {
    Params {
        peer: PEER.clone(),
        public_key: KEYS[key],
        slot: SEALED_SLOT,
        serial: card.serial,
        guid: card.guid,
        card_name: "reader".into(),
        touch_policy: policies.map_or(TouchPolicy::Never, |(_, touch)| touch),
        pin_policy: policies.map(|(pin, _)| pin),
        attestation: None,
        key_source: knows_source.then_some(KeySource::Metadata),
    }
}

/// The id that specs of these tests declare, if they do.
pub const DECLARED: &str = "11111111111111111111111111111111";
