//! The rules that span several fields. What has a fault already is not judged again.

use std::{collections::BTreeSet, path::Path as FilePath};

use super::{
    fault::{Faults, Path, quoted},
    names::{NIX_STORE, Name},
    source::{ManagementKeySource, PinSource},
    types::{AttestationPolicy, Card, Key, Secret, Spec},
};
use crate::{
    secret::{Format, MAX_PASSWORD},
    token::{PinPolicy, Place},
};

/// Directories that other programs use. Ours is made private, and holds nothing else.
const SHARED: [&str; 19] = [
    "/", "/bin", "/boot", "/dev", "/dev/shm", "/etc", "/home", "/nix", "/opt", "/persist", "/proc",
    "/root", "/run", "/srv", "/tmp", "/usr", "/var", "/var/lib", "/var/tmp",
];

/// Directories that lose their contents with every boot.
const VOLATILE: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

/// Adds a fault for each of these required fields, which are not there.
pub(super) fn missing(fields: &[&str], faults: &mut Faults) {
    for field in fields {
        let at = Path::default().field(field);
        if !faults.touch(&at) {
            let allowed = match *field {
                "version" => "the number 1",
                _ => "an object of keys by name, which may be empty",
            };
            faults.add(at, format!("missing; allowed is {allowed}"));
        }
    }
}

/// Adds a fault for each rule that the spec breaks.
pub(super) fn validate(spec: &Spec, faults: &mut Faults) {
    directories(spec, faults);
    let keys = Path::default().field("keys");
    for (name, key) in &spec.keys {
        let at = keys.field(name);
        cards(key, &at, faults);
        ids(key, &at, faults);
        pins(key, &at, faults);
        roots(key, &at, faults);
        secrets(key, &at.field("secrets"), faults);
    }
    policies(spec, &keys, faults);
    other_keys(spec, faults);
}

/// Each key is declared once on the machine: here or in another spec.
fn other_keys(spec: &Spec, faults: &mut Faults) {
    let at = Path::default().field("otherKeys");
    for (index, name) in spec.other_keys.iter().enumerate() {
        let here = at.item(index);
        let key = spec.keys.contains_key(name).then(|| Path::default().field("keys").field(name));
        let mut before = (0..index).filter(|other| spec.other_keys[*other] == *name);
        let twin =
            key.or_else(|| before.find_map(|i| Some(at.item(i)).filter(|at| !faults.touch(at))));
        if let Some(twin) = twin
            && !faults.touch(&here)
        {
            let found = quoted(name);
            faults.add(here, format!("found {found}, which is at {twin} too; allowed is once"));
        }
    }
}

fn directories(spec: &Spec, faults: &mut Faults) {
    let [state, runtime] = ["stateDir", "runtimeDir"].map(|field| Path::default().field(field));
    for (at, dir) in [(&state, &spec.state_dir), (&runtime, &spec.runtime_dir)] {
        let found = quoted(&dir.to_string_lossy());
        let wrong = if SHARED.iter().any(|shared| dir == FilePath::new(shared)) {
            "which other programs use; allowed is a directory of its own"
        } else if dir.starts_with(NIX_STORE) {
            "which nobody can write to; allowed is a directory outside the Nix store"
        } else if at == &state && VOLATILE.iter().any(|volatile| dir.starts_with(volatile)) {
            "which is empty after each boot, and with a lost profile its secrets are lost; allowed \
             is a directory on a disk"
        } else {
            continue;
        };
        if !faults.touch(at) {
            faults.add(at.clone(), format!("found {found}, {wrong}"));
        }
    }
    let nested = spec.state_dir.starts_with(&spec.runtime_dir)
        || spec.runtime_dir.starts_with(&spec.state_dir);
    if nested && !faults.touch(&state) && !faults.touch(&runtime) {
        let [runtime_dir, state_dir] =
            [&spec.runtime_dir, &spec.state_dir].map(|dir| quoted(&dir.to_string_lossy()));
        faults.add(
            runtime,
            format!(
                "found {runtime_dir}, while stateDir is {state_dir}; allowed are two directories \
                 of which none is in the other: one on a disk for the profiles, one in RAM for \
                 the secrets"
            ),
        );
    }
}

fn cards(key: &Key, at: &Path, faults: &mut Faults) {
    let at = at.field("cards");
    for (index, card) in key.cards.iter().enumerate() {
        let here = at.item(index);
        if card.serial.is_none() && card.guid.is_none() {
            if !faults.touch(&here) {
                faults.add(
                    here,
                    "names no card; allowed is a serial, or the guid where there is no serial or \
                     several cards have the same",
                );
            }
            continue;
        }
        let twin = key.cards[..index].iter().position(|other| same_card(other, card));
        if let Some(twin) = twin
            && !faults.touch(&here)
            && !faults.touch(&at.item(twin))
        {
            faults.add(here, format!("names the same card as {}; allowed is once", at.item(twin)));
        }
    }
}

/// Two providers of a profile have different ids.
fn ids(key: &Key, at: &Path, faults: &mut Faults) {
    let at = at.field("cards");
    for (index, card) in key.cards.iter().enumerate() {
        let Some(id) = &card.id else { continue };
        let here = at.item(index).field("id");
        let twin = key.cards[..index].iter().position(|other| other.id.as_ref() == Some(id));
        if let Some(twin) = twin
            && !faults.touch(&here)
            && !faults.touch(&at.item(twin).field("id"))
        {
            let found = quoted(id);
            faults.add(
                here,
                format!("found {found}, which is the id of {} too; allowed is once", at.item(twin)),
            );
        }
    }
}

/// Whether the entries name the same card: they share what they are named by, and nothing tells
/// them apart.
fn same_card(one: &Card, other: &Card) -> bool {
    fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<bool> {
        Some(one? == other?)
    }
    let (serial, guid) = (same(one.serial, other.serial), same(one.guid, other.guid));
    serial.or(guid) == Some(true) && guid != Some(false)
}

fn pins(key: &Key, at: &Path, faults: &mut Faults) {
    let cards = at.field("cards");
    if key.cards.is_empty() && !faults.touch(&cards) {
        pin(key, None, at, at, faults);
    }
    for (index, card) in key.cards.iter().enumerate() {
        pin(key, Some(card), &cards.item(index), at, faults);
    }
}

/// The rules for the PIN and the management key of one card, which come from its own entry or from
/// the key's.
fn pin(key: &Key, card: Option<&Card>, own: &Path, at: &Path, faults: &mut Faults) {
    let fields = [at.field("pinPolicy"), at.field("pin"), at.field("managementKey")];
    let own_fields = [own.field("pinPolicy"), own.field("pin"), own.field("managementKey")];
    if fields.iter().chain(&own_fields).any(|path| faults.touch(path)) {
        return;
    }
    let (pin, management_key) = (key.pin_for(card), key.management_key_for(card));
    let needed = match (key.place(card).pin_policy, management_key) {
        (PinPolicy::Never, Some(ManagementKeySource::Protected)) => {
            Some(("the PIN protects the management key".into(), ""))
        }
        (PinPolicy::Never, _) => None,
        (policy, _) => Some((
            format!("pinPolicy is {policy}"),
            "; or pinPolicy never, if the card's key has it",
        )),
    };
    if let (None, Some((reason, or))) = (pin, needed) {
        // If other cards have a PIN of their own, it is this card's that was forgotten.
        let others = key.cards.iter().any(|card| card.pin.is_some());
        let home = if others { own } else { at }.field("pin");
        let sources = r#"{"file": …}, {"credential": …} and {"ask": true}"#;
        faults.add(home, format!("missing, while {reason}; allowed are {sources}{or}"));
    }
    if let (Some(PinSource::File(pin)), Some(ManagementKeySource::File(file))) =
        (pin, management_key)
        && pin == file
    {
        let of_card = card.is_some_and(|card| card.management_key.is_some());
        faults.add(
            if of_card { own } else { at }.field("managementKey"),
            "found the same file as for the pin; allowed is a file of its own",
        );
    }
}

/// An attestation that nobody vouches for says nothing.
fn roots(key: &Key, at: &Path, faults: &mut Faults) {
    let here = at.field("attestation").field("roots");
    let policy = key.attestation.policy;
    if policy != AttestationPolicy::Off
        && key.attestation.roots.is_empty()
        && !faults.touch(&here)
        && !faults.touch(&at.field("attestation").field("policy"))
    {
        faults.add(
            here,
            "found no file, while attestations are wanted; allowed are files with the makers' root \
             certificates in PEM",
        );
    }
}

/// What each format takes, and that no public half has the name of another secret.
fn secrets(key: &Key, at: &Path, faults: &mut Faults) {
    for (name, secret) in &key.secrets {
        let here = at.field(name);
        if faults.touch(&here.field("format")) {
            continue;
        }
        if secret.file.is_some() {
            derived_only(name, secret, &here, faults);
            continue;
        }
        let format = secret.format;
        let mut fault = |field: &str, message: String| {
            let here = here.field(field);
            if !faults.touch(&here) {
                faults.add(here, message);
            }
        };
        if !format.has_length() && secret.length != Secret::default().length {
            fault(
                "length",
                format!("found {}; format {format} has a length of its own", secret.length),
            );
        }
        if secret.algorithm.is_some() && format != Format::Pem {
            fault("algorithm", format!("found one, while format is {format}; allowed with pem"));
        }
        if format != Format::Password {
            let given =
                [("alphabet", secret.alphabet.is_some()), ("classes", !secret.classes.is_empty())];
            for (field, _) in given.into_iter().filter(|(_, given)| *given) {
                fault(field, format!("found one, while format is {format}; allowed with password"));
            }
        } else if secret.length > MAX_PASSWORD {
            fault(
                "length",
                format!("found {}; allowed for a password are 1 to {MAX_PASSWORD}", secret.length),
            );
        } else {
            let alphabet = secret.alphabet.clone().unwrap_or_default();
            let lacking = secret.classes.iter().find(|class| !alphabet.has(**class));
            let classes: BTreeSet<_> = secret.classes.iter().map(|class| class.name()).collect();
            if let Some(class) = lacking {
                let class = class.name();
                fault(
                    "classes",
                    format!(
                        "found {class}, of which the alphabet has no character; allowed are others, or another alphabet"
                    ),
                );
            } else if classes.len() > secret.length {
                fault(
                    "classes",
                    format!(
                        "found {}, for a password of {} characters; allowed is a longer password",
                        classes.len(),
                        secret.length
                    ),
                );
            }
        }
        let public = secret.public_file(name);
        if let Some((twin, _)) =
            key.secrets.iter().find(|(twin, _)| Some(&***twin) == public.as_deref())
        {
            let message = format!(
                "is the name of the file with the public half of {name}; allowed is another name"
            );
            let twin = at.field(twin);
            if !faults.touch(&twin) {
                faults.add(twin, message);
            }
        }
    }
}

/// What is in a file is published as it is.
fn derived_only(name: &Name, secret: &Secret, at: &Path, faults: &mut Faults) {
    let default = Secret::default();
    let given = [
        ("use", *secret.usage != **name),
        ("format", secret.format != default.format),
        ("algorithm", secret.algorithm.is_some()),
        ("alphabet", secret.alphabet.is_some()),
        ("classes", !secret.classes.is_empty()),
        ("length", secret.length != default.length),
        ("newline", secret.newline),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        let here = at.field(field);
        if !faults.touch(&here) {
            faults.add(here, "found one, while there is a file; a file is published as it is");
        }
    }
}

/// A key of a card has one PIN policy and one touch policy: entries that share it must agree.
fn policies(spec: &Spec, at: &Path, faults: &mut Faults) {
    let entries: Vec<(&Name, &Key)> = spec.keys.iter().collect();
    for (index, (name, key)) in entries.iter().enumerate() {
        for (other_name, other) in &entries[..index] {
            let places = shared(key, other);
            let both = [at.field(name), at.field(other_name)];
            for (field, told) in
                [("pinPolicy", pin_policy as fn(Place) -> String), ("touchPolicy", touch_policy)]
            {
                let judged = |faults: &Faults| {
                    both.iter().all(|key| {
                        ["cards", "slot", field].iter().all(|part| !faults.touch(&key.field(part)))
                    })
                };
                let differ = places.iter().find(|(one, twin)| told(*one) != told(*twin));
                if let Some((one, twin)) = differ
                    && judged(faults)
                {
                    faults.add(
                        both[0].field(field),
                        format!(
                            "found {}, while {} has {} for the same slot {} of the same card; allowed \
                             is one for both, or another slot",
                            told(*one),
                            both[1],
                            told(*twin),
                            one.slot
                        ),
                    );
                }
            }
        }
    }
}

fn pin_policy(place: Place) -> String {
    place.pin_policy.to_string()
}

fn touch_policy(place: Place) -> String {
    place.touch_policy.to_string()
}

/// What two keys use of the same slots of surely the same cards.
fn shared(one: &Key, other: &Key) -> Vec<(Place, Place)> {
    let mut places = Vec::new();
    if one.cards.is_empty() && other.cards.is_empty() {
        places.push((one.place(None), other.place(None)));
    }
    for card in &one.cards {
        let twins = other.cards.iter().filter(|twin| same_card(card, twin));
        places.extend(twins.map(|twin| (one.place(Some(card)), other.place(Some(twin)))));
    }
    places.retain(|(one, other)| one.slot == other.slot);
    places
}
