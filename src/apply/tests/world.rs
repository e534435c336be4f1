//! Worlds from chance: cards, keys of a spec, and what is on the disk for them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::LazyLock,
};

use p256::{
    NonZeroScalar, ProjectivePoint, PublicKey, U256,
    elliptic_curve::{ops::Reduce as _, point::AffineCoordinates as _},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use tempfile::TempDir;
use virtual_card::{
    Options,
    state::{self as card, Curve, Hex, State},
};
use zeroize::Zeroizing;

use super::readers::{Desk, Killed};
use crate::{
    apply::{Report, Run, apply},
    error::{Class, Error},
    profile::{
        Argon2Params, Profile, ProviderKind,
        piv::{Params, Peer, SharedX},
        seal::{NewProvider, seal},
        store::Store,
    },
    spec::{self, Enroll, Key, ManagementKeySource, Mode, Overwrite, PinSource, Spec},
    token::{
        CardName, Guid, KeySource, Pin, PinPolicy, Place, Serial, Slot, TouchPolicy, fingerprint,
        guard::PinGuard, plain_text,
    },
};

pub const PIN: &[u8] = b"123456";
const PASSPHRASE: &[u8] = b"four words in a row";

/// Private keys, and their public ones.
pub static KEYS: LazyLock<[(NonZeroScalar, PublicKey); 3]> = LazyLock::new(|| {
    [3_u32, 4, 5].map(|n| {
        let scalar = NonZeroScalar::reduce(&U256::from(n));
        (scalar, PublicKey::from_secret_scalar(&scalar))
    })
});
/// Making a card takes long.
static TEMPLATES: LazyLock<[State; 2]> = LazyLock::new(|| {
    [false, true].map(|legacy| State::new(&Options { legacy, ..Options::default() }).unwrap())
});

/// What is in both slots of a card that the specs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Empty,
    Key(usize),
    P384,
}

#[derive(Clone, Debug)]
pub struct CardFacts {
    pub content: Content,
    /// Whether it tells nothing of its slots, as old cards.
    pub is_mute: bool,
    pub policies: (PinPolicy, TouchPolicy),
    pub pin_is_right: bool,
    pub tries: u8,
    /// What the guard knows of the PIN: that it was accepted, or rejected.
    pub memory: Option<bool>,
    pub is_inserted: bool,
}

impl CardFacts {
    /// A card that is there, and of which nothing speaks against it.
    pub fn good(content: Content) -> Self {
        Self {
            content,
            is_mute: false,
            policies: Key::default().place(None).policies(),
            pin_is_right: true,
            tries: 3,
            memory: None,
            is_inserted: true,
        }
    }
}

/// A profile: which card was enrolled with which key.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub threshold: usize,
    pub enrolled: Vec<(usize, usize)>,
    pub typed: usize,
    pub is_declared: Option<bool>,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub key: Key,
    pub sealed: Option<Sealed>,
    /// The key that a profile is sealed to that no spec names.
    pub orphan: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub cards: Vec<CardFacts>,
    pub jobs: Vec<Job>,
    pub vanishes: Vec<(usize, bool)>,
    pub comes_back: bool,
    /// What a person types: the right thing, or nothing.
    pub answers: bool,
}

fn slot(name: &str) -> Slot {
    name.parse().unwrap()
}

pub fn serial(card: usize) -> CardName {
    CardName { serial: Serial::new(u32::try_from(card).unwrap() + 1), guid: None }
}

fn guid(card: usize) -> Guid {
    Guid::new([u8::try_from(card).unwrap() + 1; 16]).unwrap()
}

impl Job {
    /// What of a card it uses.
    pub fn place(&self, card: usize) -> Place {
        let own = self.key.cards.iter().find(|listed| listed.serial == serial(card).serial);
        self.key.place(own)
    }

    /// Whether the spec has this key destroyed.
    pub fn names(&self, public: &PublicKey) -> bool {
        let overwrite = self.key.overwrite.as_ref().filter(|_| self.key.mode == Mode::Overwrite);
        let named = overwrite.and_then(|overwrite| overwrite.fingerprint);
        named.is_some_and(|named| crate::token::is_named_by(public, named))
    }

    pub fn is_sealed_to(&self, card: usize, public: &PublicKey) -> bool {
        let enrolled = self.sealed.iter().flat_map(|sealed| &sealed.enrolled);
        enrolled.into_iter().any(|(of, key)| *of == card && KEYS[*key].1 == *public)
    }
}

fn policies() -> impl Strategy<Value = (PinPolicy, TouchPolicy)> {
    let pin = vec![PinPolicy::Never, PinPolicy::Once, PinPolicy::Always];
    let touch = vec![TouchPolicy::Never, TouchPolicy::Cached];
    prop_oneof![4 => Just((PinPolicy::Once, TouchPolicy::Never)), 1 => (select(pin), select(touch))]
}

fn card_facts() -> impl Strategy<Value = CardFacts> {
    let content = prop_oneof![
        2 => Just(Content::Empty), 4 => (0_usize..2).prop_map(Content::Key), 1 => Just(Content::P384),
    ];
    let right = prop::bool::weighted(0.8);
    let tries = prop_oneof![1 => 1_u8..3, 4 => Just(3)];
    let memory = option::weighted(0.4, prop::bool::weighted(0.7));
    let (mute, inserted) = (prop::bool::weighted(0.2), prop::bool::weighted(0.9));
    (content, mute, policies(), right, tries, memory, inserted).prop_map(
        |(content, is_mute, policies, pin_is_right, tries, memory, is_inserted)| CardFacts {
            content,
            is_mute,
            policies,
            pin_is_right,
            tries,
            // What was accepted last time was right then.
            memory: memory.filter(|accepted| *accepted == pin_is_right),
            is_inserted,
        },
    )
}

fn job(cards: usize) -> impl Strategy<Value = Job> {
    let sealed = (1_usize..=2, vec((0..cards, 0_usize..2), 1..=cards.max(2)), 0_usize..=1);
    let sealed = (sealed, option::weighted(0.2, prop::bool::weighted(0.7)));
    let sealed = sealed.prop_map(|((threshold, mut enrolled, typed), is_declared)| {
        enrolled.sort_unstable();
        enrolled.dedup_by_key(|(card, _)| *card);
        let threshold = threshold.min(enrolled.len() + typed);
        Sealed { threshold, enrolled, typed, is_declared }
    });
    let management_key = select(vec![None, Some(ManagementKeySource::FactoryDefault)]);
    let overwrite = option::of((0_usize..2, any::<bool>()));
    let rare = || prop::bool::weighted(0.1);
    let flags = (rare(), rare(), any::<bool>(), prop::bool::weighted(0.2), rare());
    let listed = vec((0..cards, prop::bool::weighted(0.2)), 0..=cards);
    let orphan = option::weighted(0.1, 0_usize..2);
    (policies(), management_key, overwrite, flags, option::weighted(0.6, sealed), listed, orphan)
        .prop_map(
            |(
                (pin_policy, touch_policy),
                management_key,
                overwrite,
                flags,
                sealed,
                listed,
                orphan,
            )| {
                let (never, asks_pin, ask, other_slot, same_id) = flags;
                let mut key = Key {
                    pin_policy,
                    touch_policy,
                    management_key,
                    ask,
                    slot: slot(if other_slot { "82" } else { "9d" }),
                    pin: asks_pin.then_some(PinSource::Ask),
                    enroll: if never { Enroll::Never } else { Enroll::Auto },
                    mode: if overwrite.is_some() { Mode::Overwrite } else { Mode::UseExisting },
                    overwrite: overwrite.map(|(key, abandon_profile)| Overwrite {
                        fingerprint: Some(fingerprint(&KEYS[key].1)),
                        abandon_profile,
                    }),
                    card_timeout: std::time::Duration::ZERO,
                    ..Key::default()
                };
                for (card, own_slot) in listed {
                    let serial = serial(card).serial;
                    if key.cards.iter().all(|other| other.serial != serial) {
                        let is_first = key.cards.is_empty();
                        let id = (same_id && is_first).then(|| "card-1".parse().unwrap());
                        let slot = own_slot.then(|| slot("83"));
                        key.cards.push(spec::Card { serial, id, slot, ..spec::Card::default() });
                    }
                }
                Job { key, sealed, orphan }
            },
        )
}

/// Any world.
pub fn world() -> impl Strategy<Value = World> {
    vec(card_facts(), 1..=3).prop_flat_map(|cards| {
        let jobs = vec(job(cards.len()), 1..=2);
        let vanishes = vec((0_usize..25, any::<bool>()), 0..=2);
        (Just(cards), jobs, vanishes, any::<bool>(), any::<bool>()).prop_map(
            |(cards, jobs, vanishes, comes_back, answers)| World {
                cards,
                jobs,
                vanishes,
                comes_back,
                answers,
            },
        )
    })
}

/// A directory on a disk, as nothing is enrolled into RAM; none for a builder that has RAM alone.
pub fn disk() -> Option<TempDir> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    fs::create_dir_all(root).unwrap();
    let dir = tempfile::tempdir_in(root).unwrap();
    let in_ram = Store::open(&dir.path().join("state")).unwrap().is_in_ram();
    (!in_ram).then_some(dir)
}

/// A machine of this world.
pub struct Machine {
    pub desk: Desk,
    pub spec: Spec,
    pub answers: bool,
    _disk: TempDir,
    _ram: TempDir,
}

impl Machine {
    pub fn new(world: &World) -> Self {
        let ram = tempfile::tempdir_in("/dev/shm").unwrap();
        let disk = disk().unwrap();
        let [state_dir, runtime_dir] = [disk.path().join("state"), ram.path().join("run")];
        fs::create_dir(&state_dir).unwrap();
        fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o700)).unwrap();
        let pin = ram.path().join("pin");
        fs::write(&pin, PIN).unwrap();
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        let states: Vec<_> = (0..world.cards.len()).map(|at| world.state(at)).collect();
        let inserted: Vec<_> = world.cards.iter().map(|card| card.is_inserted).collect();
        let readers = Desk::new(ram.path(), &states, &inserted);
        let mut machine = Self {
            desk: readers,
            spec: Spec { state_dir, runtime_dir, ..Spec::default() },
            answers: world.answers,
            _disk: disk,
            _ram: ram,
        };
        machine.remember(world);
        for (number, job) in world.jobs.iter().enumerate() {
            let name = format!("key-{number}");
            let mut key = job.key.clone();
            key.pin.get_or_insert(PinSource::File(pin.clone()));
            if let Some(sealed) = &job.sealed {
                let id = machine.seal(&name, job, sealed);
                let declared =
                    sealed.is_declared.map(|right| if right { id } else { "1".repeat(32) });
                key.profile_id = declared.map(|id| serde_json::from_value(id.into()).unwrap());
            }
            if let Some(key) = job.orphan {
                let enrolled = vec![(0, key)];
                let sealed = Sealed { threshold: 1, enrolled, typed: 0, is_declared: None };
                machine.seal(&format!("old-{number}"), job, &sealed);
            }
            machine.spec.keys.insert(name.parse().unwrap(), key);
        }
        machine
    }

    /// Has the guard know what it is to know.
    fn remember(&self, world: &World) {
        let store = Store::open(&self.spec.state_dir).unwrap();
        for (at, card) in world.cards.iter().enumerate() {
            let Some(accepted) = card.memory else { continue };
            let name = if card.is_mute {
                CardName { serial: None, guid: Some(guid(at)) }
            } else {
                serial(at)
            };
            let (mut guard, pin) =
                (PinGuard::open(&store, name, card.tries).unwrap(), Pin::new(PIN).unwrap());
            if accepted {
                guard.accepted(&pin, card.tries, false).unwrap();
            } else {
                guard.rejected(&pin, card.tries, "before").unwrap();
            }
        }
    }

    /// Writes a profile; its id.
    fn seal(&self, name: &str, job: &Job, sealed: &Sealed) -> String {
        let piv = sealed.enrolled.iter().enumerate().map(|(at, &(card, key))| {
            let (peer, place) = (Peer::random().unwrap(), job.place(card));
            let point = ProjectivePoint::from(peer.point()) * *KEYS[key].0;
            let x = SharedX::new(&point.to_affine().x().into());
            let params = Params {
                peer,
                public_key: KEYS[key].1,
                slot: place.slot,
                serial: serial(card).serial,
                guid: Some(guid(card)),
                card_name: plain_text(&format!("Reader {card}")),
                touch_policy: place.touch_policy,
                pin_policy: Some(place.pin_policy),
                key_source: Some(KeySource::Metadata),
                attestation: None,
            };
            let (id, secret) = (format!("card-{}", at + 1), params.secret(&x));
            NewProvider { id, secret, kind: ProviderKind::Piv(Box::new(params)) }
        });
        let typed = (0..sealed.typed).map(|at| {
            // As little work as a file may ask for.
            let params = Argon2Params { salt: [7; 32], time: 2, memory_kib: 19_456, threads: 1 };
            let (id, secret) = (format!("passphrase-{at}"), params.secret(PASSPHRASE).unwrap());
            NewProvider { id, secret, kind: ProviderKind::Passphrase(params) }
        });
        let threshold = u8::try_from(sealed.threshold).unwrap();
        let (profile, _) = seal(name, threshold, piv.chain(typed).collect()).unwrap();
        Store::open(&self.spec.state_dir).unwrap().save(&profile).unwrap();
        profile.id()
    }

    pub fn profile(&self, job: usize) -> Option<Profile> {
        let store = Store::open(&self.spec.state_dir).unwrap();
        store.load(&format!("key-{job}")).unwrap().map(|loaded| loaded.profile)
    }

    pub fn file(&self, job: usize) -> PathBuf {
        self.spec.state_dir.join(format!("key-{job}.toml"))
    }

    /// Whether a record of a generation is there.
    pub fn is_generating(&self, job: usize) -> bool {
        Store::open(&self.spec.state_dir)
            .unwrap()
            .generating(&format!("key-{job}"))
            .unwrap()
            .is_some()
    }

    /// One boot: what became of each key; none where the run was killed.
    pub fn boot(&self) -> Option<Vec<Result<Report, Error>>> {
        let answers = self.answers;
        let person = move |prompt: &str, _: &str, _| match answers {
            true if prompt.contains("PIN of") => Ok(Zeroizing::new(PIN.to_vec())),
            true => Ok(Zeroizing::new(PASSPHRASE.to_vec())),
            false => Err(Error::new(Class::NoAnswer, "asking", "nobody answered", "Be there.")),
        };
        let mut run = Run::new(Box::new(self.desk.clone()), Box::new(person));
        run.always = true;
        let boot = AssertUnwindSafe(|| {
            let keys = self.spec.keys.iter();
            keys.map(|(name, key)| apply(&mut run, &self.spec, name, key)).collect()
        });
        match catch_unwind(boot) {
            Ok(results) => Some(results),
            Err(fault) if fault.is::<Killed>() => None,
            Err(fault) => std::panic::resume_unwind(fault),
        }
    }
}

impl World {
    /// A card as it is made.
    fn state(&self, at: usize) -> State {
        let facts = &self.cards[at];
        let mut state = TEMPLATES[usize::from(facts.is_mute)].clone();
        state.serial = serial(at).serial.unwrap().to_string().parse().unwrap();
        // The CHUID has it, too.
        let old = state.guid.0.clone();
        let new: [u8; 16] = [u8::try_from(at).unwrap() + 1; 16];
        for object in state.objects.values_mut() {
            if let Some(place) = object.0.windows(16).position(|window| window == old) {
                object.0[place..place + 16].copy_from_slice(&new);
            }
        }
        state.guid = Hex(new.to_vec());
        let wrong = |right: bool| if right { PIN } else { b"654321" };
        state.pin = card::Reference::new(wrong(facts.pin_is_right), 3);
        state.pin.tries = facts.tries;
        let pin = match facts.policies.0 {
            PinPolicy::Never => card::PinPolicy::Never,
            PinPolicy::Once => card::PinPolicy::Once,
            PinPolicy::Always => card::PinPolicy::Always,
        };
        let touch = match facts.policies.1 {
            TouchPolicy::Never => card::TouchPolicy::Never,
            TouchPolicy::Always => card::TouchPolicy::Always,
            TouchPolicy::Cached => card::TouchPolicy::Cached,
        };
        let key = match facts.content {
            Content::Empty => return state,
            Content::Key(key) => {
                card::Slot::import(Curve::P256, &KEYS[key].0.to_bytes(), pin, touch).unwrap()
            }
            Content::P384 => card::Slot::generate(Curve::P384, pin, touch),
        };
        for slot in ["9d", "82", "83"] {
            state.slots.insert(slot.into(), key.clone());
        }
        state
    }
}
