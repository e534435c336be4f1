//! Profiles that somebody else put in the place of the declared one: nothing is published, and the file
//! is left as it is. They are the last four of docs/security.md, "Who can write to the state directory".

use std::{fs, process::Command};

use cryptkey::profile::{Argon2Params, Profile, ProviderKind, seal};
use serde_json::json;

use crate::support::{Machine, TestCard, sealed::Sealed, shared::provider, vectors::Vector};

/// The key of a card whose owner imported it.
const KEY: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";

/// A key whose id is declared, and that id.
fn declared(name: &'static str, cards: usize, typed: &[&str]) -> (Sealed, String) {
    let own = Sealed::with(name, 1, cards, typed, &["--slot-key", &format!("9d={KEY}")]);
    let id = Profile::parse(&own.profile()).unwrap().id();
    own.declare(json!({ "profileId": id }));
    (own, id)
}

/// The profile of a key that they made.
fn theirs(provider: seal::NewProvider) -> String {
    seal::seal("vault", 1, vec![provider]).unwrap().0.to_toml()
}

/// Puts what they made in the place of the profile: it comes to nothing.
#[track_caller]
fn is_refused(machine: &Machine, name: &str, theirs: &str, id: &str) {
    let file = machine.profile(name);
    fs::write(&file, theirs).unwrap();
    machine.apply().exits(17).says(&[&format!("the spec declares profile {id}")]);
    assert_eq!(fs::read_to_string(file).unwrap(), theirs);
    assert!(!machine.runtime.join(name).exists());
}

#[test]
fn a_key_that_they_made_with_the_declared_card() {
    const AS_BEFORE: &str = "\
import sys, tomllib
sys.path.insert(0, 'tests')
import expected
own, theirs = map(tomllib.loads, sys.argv[1:3])
master = expected.open_profile(theirs, [int(sys.argv[3], 16)])
lines = [line for line in sys.argv[2].splitlines() if not line.startswith('recipient')]
text = '\\n'.join(lines).replace(theirs['output_salt'], own['output_salt'])
forged = tomllib.loads(text)
print(text.replace(forged['integrity'], expected.integrity(forged, master)))
";
    let (own, id) = declared("forged-card", 1, &[]);
    let text = own.profile();
    let made = theirs(provider("card-1", &own.cards[0], "9d"));
    is_refused(&own.machine, own.name, &made, &id);

    // With the salt of the declared one and no recipient: before there were any, it had the same id.
    let done = Command::new("/usr/bin/python3")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-B", "-c", AS_BEFORE, &text, &made, KEY])
        .output()
        .unwrap();
    let made = String::from_utf8(done.stdout).unwrap();
    let [old, new] = [&text, &made].map(|text| Profile::parse(text).unwrap());
    assert_eq!((new.recipient(), new.id()), (None, old.salt_id()));
    is_refused(&own.machine, own.name, &made, &id);
}

#[test]
fn a_key_for_a_card_of_theirs() {
    let (own, id) = declared("forged-theirs", 2, &[]);
    own.cards[0].remove();
    let made = theirs(provider("card-1", &own.cards[1], "9d"));
    is_refused(&own.machine, own.name, &made, &id);
}

#[test]
fn a_key_that_a_code_of_theirs_opens() {
    let (own, id) = declared("forged-code", 1, &["recovery-1"]);
    own.cards[0].remove();
    let params = Argon2Params { time: 2, memory_kib: 19456, threads: 1, salt: [3; 32] };
    let kind = ProviderKind::Recovery(params);
    let secret = kind.typed(own.code.as_bytes()).unwrap().unwrap();
    let made = theirs(seal::NewProvider { id: "recovery-1".into(), kind, secret });
    let _person = own.person(&[&own.code]);
    own.declare(json!({ "profileId": id, "ask": true }));
    is_refused(&own.machine, own.name, &made, &id);
}

#[test]
fn a_version_1_profile_of_theirs() {
    let machine = Machine::new(2);
    let known = Vector::copy_to(machine.profile("forged-old"), "piv-piv-recovery");
    let cards = known.cards(&machine);
    let id = "00112233445566778899aabbccddeeff";
    known.spec(&machine, "forged-old", &cards[0], json!({ "profileId": id, "ask": true }));
    let _person = known.code(&machine, "forged-old");
    is_refused(&machine, "forged-old", &known.text(), id);
    // Its own id pins it as well as any.
    let found = Profile::parse(&known.text()).unwrap();
    known.spec(&machine, "forged-old", &cards[0], json!({ "profileId": found.salt_id() }));
    machine.apply().exits(17);
}

/// What an earlier version printed is read as it was then, and says what to declare.
#[test]
fn an_id_of_old_is_taken_with_a_warning() {
    let (own, id) = declared("forged-not", 1, &[]);
    let text = own.profile();
    own.declare(json!({ "profileId": Profile::parse(&text).unwrap().salt_id() }));
    own.machine.apply().exits(0).says(&[&format!("profileId = \"{id}\";")]);
    assert_eq!(own.profile(), text);
    own.declare(json!({ "profileId": id }));
    assert!(!own.machine.apply().exits(0).stderr.contains("profileId"));
    own.is_open();
}
