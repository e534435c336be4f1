//! A profile in the place of another one, and what is kept; and the record of a generation.
#![allow(clippy::unwrap_used)]

#[path = "support/killed.rs"]
mod killed;
#[path = "support/state.rs"]
#[allow(dead_code)]
mod state;
#[path = "support/vectors.rs"]
#[allow(dead_code)]
mod vectors;

use std::fs;

use cryptkey::{
    error::Class,
    profile::{
        Argon2Params, Profile, ProviderKind, change,
        generating::Generating,
        seal::{self, NewProvider, ProviderSecret},
        store::Store,
    },
    token::{CardName, Fingerprint, Guid, Serial},
};
use expect_test::expect;
use state::{State, mode, set_mode};

const V1: &str = include_str!("vectors/profiles/piv-piv-recovery.toml");

/// No test by itself: the run that [`killed::kill_at`] kills.
#[test]
fn the_run_to_be_killed() {
    killed::act_if_asked(|what, path| {
        let mut store = Store::open(path).unwrap();
        let text = fs::read_to_string(path.join("after")).unwrap();
        let after = Profile::parse(&text).unwrap();
        match what {
            "replace" => drop(store.replace(after.name(), &after).unwrap()),
            _ => drop(store.rename("vault", &after).unwrap()),
        }
    });
}

const SECRET: [u8; 32] = [7; 32];

fn provider(id: String) -> NewProvider {
    let kind = ProviderKind::Recovery(Argon2Params::random().unwrap());
    NewProvider { id, kind, secret: ProviderSecret::new(&SECRET) }
}

/// A new key.
fn profile(name: &str) -> Profile {
    seal::seal(name, 1, vec![provider("recovery-1".into())]).unwrap().0
}

/// The same key with one provider more.
fn changed(profile: &Profile) -> Profile {
    let new = provider(profile.unused_id("recovery"));
    change::added(profile, new, &[(0, &ProviderSecret::new(&SECRET))]).unwrap().0
}

fn renamed(profile: &Profile, name: &str) -> Profile {
    change::renamed(profile, name, &[(0, &ProviderSecret::new(&SECRET))]).unwrap().0
}

/// What is at dated names, oldest first.
fn kept(state: &State) -> Vec<String> {
    let names = state.names().into_iter().filter(|name| name.contains(".toml.2"));
    names.map(|name| fs::read_to_string(state.path.join(name)).unwrap()).collect()
}

#[test]
fn of_one_key_the_profile_before_the_last_change_is_kept() {
    let state = State::new();
    let mut last = profile("vault");
    // There has to be one.
    let error = state.open().replace(last.name(), &last).unwrap_err();
    assert_eq!((error.class, state.names()), (Class::Profile, Vec::new()));
    state.open().save(&last).unwrap();
    // What looks alike and is not ours, and what is of another name.
    let foreign = [
        "vault.toml.bak",
        "vault.toml.2026-01-01T00:00:00Z.mine",
        "vault.toml.2026-01-01",
        "vault.toml.2026-01-01T00:00:00Z.2.3",
        "vault2.toml.2026-01-01T00:00:00Z",
    ];
    for name in foreign {
        state.put(name, &last.to_toml(), 0o600);
    }
    // Ours, from an earlier change.
    state.put("vault.toml.2026-01-01T00:00:00Z", &last.to_toml(), 0o600);
    state.put("vault.toml.2026-01-01T00:00:00Z.12", &last.to_toml(), 0o600);
    for _ in 0..3 {
        let new = changed(&last);
        let kept = state.open().replace(new.name(), &new).unwrap().unwrap();
        assert_eq!(state.open().load("vault").unwrap().unwrap().profile, new);
        assert_eq!(fs::read_to_string(&kept).unwrap(), last.to_toml());
        assert_eq!((mode(&kept), mode(&state.path.join("vault.toml"))), (0o600, 0o600));
        let name = kept.file_name().unwrap().to_str().unwrap();
        let date = name.strip_prefix("vault.toml.").unwrap();
        assert!(date.len() >= 20 && date.as_bytes()[10] == b'T' && !date.contains("toml"));
        let mut expected = foreign.map(String::from).to_vec();
        expected.extend([name.to_owned(), "vault.toml".into()]);
        expected.sort();
        assert_eq!(state.names(), expected);
        last = new;
    }
    assert_eq!(state.open().profiles().unwrap().len(), 1);
}

#[test]
fn a_profile_of_another_key_is_kept_for_good() {
    let state = State::new();
    // Three keys, each with a change; each time they come another one takes the place.
    let keys: Vec<_> = (0..3).map(|_| profile("vault")).collect();
    state.open().save(&keys[0]).unwrap();
    let mut expected = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        if number > 0 {
            state.open().replace(key.name(), key).unwrap();
        }
        expected.push(key.to_toml());
        let [once, twice] = [changed(key), changed(&changed(key))];
        state.open().replace(once.name(), &once).unwrap();
        assert_eq!(sorted(kept(&state)), sorted(expected.clone()));
        // The one before goes, and no other.
        state.open().replace(twice.name(), &twice).unwrap();
        expected.pop();
        expected.push(once.to_toml());
        assert_eq!(sorted(kept(&state)), sorted(expected.clone()));
        expected.push(twice.to_toml());
    }
    // What can't be read may be anything.
    fs::write(state.path.join("vault.toml"), "damaged").unwrap();
    state.open().replace(keys[0].name(), &keys[0]).unwrap();
    assert!(kept(&state).contains(&"damaged".into()));
    state.open().replace(keys[0].name(), &changed(&keys[0])).unwrap();
    assert!(kept(&state).contains(&"damaged".into()));
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[test]
fn a_version_1_file_is_not_kept_unless_it_is_another_key() {
    let vector = vectors::profiles().into_iter().find(|v| v.name == "piv-piv-recovery").unwrap();
    let old = Profile::parse(V1).unwrap();
    let secrets = vector.secrets(&old);
    let secrets = vectors::by_reference(&secrets);
    let imported = change::reshared(&old, 1, vec![provider("recovery-1".into())], &secrets);
    let imported = imported.unwrap().0;
    // Also where others could read it.
    for open in [0o600, 0o644] {
        let state = State::new();
        set_mode(&state.put("piv-piv-recovery.toml", V1, 0o600), open);
        assert_eq!(state.open().replace(imported.name(), &imported).unwrap(), None);
        assert_eq!(state.names(), ["piv-piv-recovery.toml"]);
        assert_eq!(state.open().load(old.name()).unwrap().unwrap().profile, imported);
        assert_eq!(mode(&state.path.join("piv-piv-recovery.toml")), 0o600);

        set_mode(&state.put("piv-piv-recovery.toml", V1, 0o600), open);
        assert!(
            state
                .open()
                .replace("piv-piv-recovery", &profile("piv-piv-recovery"))
                .unwrap()
                .is_some()
        );
        assert_eq!(kept(&state), [V1]);
    }
}

/// Killed before or after any system call of it: one whole profile or the other is at its name, and the
/// old one is kept once, also when the next run has done it all over.
#[test]
fn killed_while_it_replaces_a_profile_it_loses_neither() {
    let older = profile("vault");
    let old = changed(&older);
    // Of the same key, and of another.
    for (new, before) in [(changed(&old), vec![]), (profile("vault"), vec![older.to_toml()])] {
        let mut replaced = 0;
        for stop in 1.. {
            let state = State::new();
            state.open().save(&older).unwrap();
            state.open().replace(old.name(), &old).unwrap();
            state.put("after", &new.to_toml(), 0o600);
            let killed = killed::kill_at("replace", &state.path, stop);
            let found = state.open().load("vault").unwrap().unwrap().profile;
            let once = |kept: &[String]| kept.iter().filter(|text| **text == old.to_toml()).count();
            if found == new {
                replaced += 1;
                assert_eq!(once(&kept(&state)), 1, "after stop {stop}");
                // The next change.
                let next = changed(&new);
                state.open().replace(next.name(), &next).unwrap();
                let is_same = old.id() == new.id();
                assert_eq!(once(&kept(&state)), usize::from(!is_same), "after stop {stop}");
            } else {
                assert_eq!(found, old, "after stop {stop}");
                state.open().replace(new.name(), &new).unwrap();
                let mut expected = before.clone();
                expected.push(old.to_toml());
                assert_eq!(sorted(kept(&state)), sorted(expected), "after stop {stop}");
                assert_eq!(state.open().load("vault").unwrap().unwrap().profile, new);
                assert_eq!(state.names().len(), 3 + before.len(), "after stop {stop}");
            }
            if !killed {
                assert!(stop > 60 && replaced > 5, "{stop} stops, {replaced} after the rename");
                break;
            }
        }
    }
}

#[test]
fn a_renamed_profile_leaves_one_file_of_its_old_name() {
    let state = State::new();
    let first = profile("vault");
    state.open().save(&first).unwrap();
    let old = changed(&first);
    state.open().replace(old.name(), &old).unwrap();
    state.open().save(&profile("taken")).unwrap();
    let before = state.names();

    // Nothing is renamed over another key, from what is not there or is another key, or to itself.
    let told = |from: &str, new: &Profile| state.told(&state.open().rename(from, new).unwrap_err());
    expect!["writing profile STATE/taken.toml: there is another profile of this name. Take another name, or move that profile away."].assert_eq(&told("vault", &renamed(&old, "taken")));
    expect!["writing profile STATE/desk.toml: STATE/absent.toml is not there, or holds another key. Name the key that is to get another name."].assert_eq(&told("absent", &renamed(&old, "desk")));
    expect!["writing profile STATE/desk.toml: STATE/taken.toml is not there, or holds another key. Name the key that is to get another name."].assert_eq(&told("taken", &renamed(&old, "desk")));
    expect!["writing profile STATE/vault.toml: STATE/vault.toml is not there, or holds another key. Name the key that is to get another name."].assert_eq(&told("vault", &old));
    let card = CardName { serial: Serial::new(7), guid: None };
    let record = Generating { card, slot: "82".parse().unwrap(), destroys: None };
    state.open().begin_generating("vault", &record).unwrap();
    expect!["writing profile STATE/desk.toml: a key is being generated for vault. Run `nixos-cryptkey apply` first, which ends that."].assert_eq(&told("vault", &renamed(&old, "desk")));
    state.open().end_generating("vault").unwrap();
    assert_eq!(
        state.open().rename("../vault", &renamed(&old, "desk")).unwrap_err().class,
        Class::Spec
    );
    assert_eq!(state.names(), before);

    let new = renamed(&old, "desk");
    let path = state.open().rename("vault", &new).unwrap().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), old.to_toml());
    let path = path.file_name().unwrap().to_str().unwrap();
    assert!(path.starts_with("desk.toml.2"), "{path}");
    assert_eq!(state.names(), ["desk.toml", path, "taken.toml"]);
    assert_eq!(state.open().load("desk").unwrap().unwrap().profile, new);
    // And back again.
    state.open().rename("desk", &old).unwrap();
    assert_eq!(kept(&state), [new.to_toml()]);
    assert_eq!(state.names().len(), 3);
}

/// Killed before or after any system call of it, and done again: the same files.
#[test]
fn killed_while_it_renames_a_profile_it_can_be_done_again() {
    let older = profile("vault");
    let old = changed(&older);
    let new = renamed(&old, "desk");
    let (mut both, mut done) = (0, 0);
    for stop in 1.. {
        let state = State::new();
        state.open().save(&older).unwrap();
        state.open().replace(old.name(), &old).unwrap();
        state.put("after", &new.to_toml(), 0o600);
        let killed = killed::kill_at("rename", &state.path, stop);
        let at = |name: &str| state.open().load(name).unwrap().map(|loaded| loaded.profile);
        match (at("vault"), at("desk")) {
            (None, found) => {
                assert_eq!(found.unwrap(), new, "after stop {stop}");
                done += 1;
            }
            (Some(found), desk) => {
                assert_eq!(found, old, "after stop {stop}");
                assert!(desk.as_ref().is_none_or(|desk| *desk == new), "after stop {stop}");
                both += u32::from(desk.is_some());
                state.open().rename("vault", &new).unwrap();
            }
        }
        let names = state.names();
        assert_eq!((names.len(), &*names[0], &*names[1]), (3, "after", "desk.toml"), "{names:?}");
        assert_eq!(kept(&state), [old.to_toml()], "after stop {stop}");
        assert_eq!(at("desk").unwrap(), new);
        if !killed {
            assert!(stop > 100 && both > 20 && done > 2, "{stop} stops, {both}, {done}");
            return;
        }
    }
}

/// The record of a generation, whole or not there at all.
#[test]
fn a_record_of_a_generation_is_read_back_and_removed() {
    let state = State::absent();
    let mut store = state.open();
    assert_eq!(store.generating("vault").unwrap(), None);
    let card = CardName { serial: Serial::new(7), guid: Guid::new([3; 16]) };
    let slot = "82".parse().unwrap();
    let one = Generating { card, slot, destroys: Some(Fingerprint([1; 32])) };
    let two = Generating { card: CardName { serial: None, ..card }, slot, destroys: None };
    for record in [one, two] {
        store.begin_generating("vault", &record).unwrap();
        assert_eq!(state.open().generating("vault").unwrap(), Some(record));
        assert_eq!(state.names(), ["vault.generating"]);
        assert!(state.open().profiles().unwrap().is_empty());
    }
    assert_eq!(store.generating("other").unwrap(), None);
    for _ in 0..2 {
        store.end_generating("vault").unwrap();
        assert_eq!(state.names(), [""; 0]);
    }
    for damaged in [
        "version = 1\nslot = \"82\"",
        "version = 2\nserial = \"7\"\nslot = \"82\"",
        "\u{1}",
        "version = 1\nserial = \"7\"\nslot = \"82\"\nmore = 1",
    ] {
        state.put("vault.generating", damaged, 0o600);
        assert_eq!(state.open().generating("vault").unwrap_err().class, Class::Profile);
    }
}
