//! Profiles from cryptkey, and from other machines.

use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
};

use serde_json::json;

use crate::support::{
    Machine, TestCard, Yubikey, agent::Agent, attack::opened_without_a_card, ram::Ram,
    terminal::Terminal, vectors::Vector,
};

fn read(machine: &Machine, key: &str) -> String {
    fs::read_to_string(machine.profile(key)).unwrap()
}

/// Every profile of cryptkey that there is a vector of: what comes out has another shape and the same
/// outputs, and opens no more without its cards.
#[test]
fn profiles_of_cryptkey_become_version_2_and_keep_their_outputs() {
    for (vector, key) in [("piv-piv-recovery", "import-all"), ("piv-recovery", "import-code")] {
        let machine = Machine::new(2);
        let known = Vector::copy(&machine, vector);
        let cards = known.cards(&machine);
        let old = known.text();
        assert_eq!(opened_without_a_card(&old).len(), cards.len());
        known.spec(&machine, key, &cards[0], json!({ "threshold": 2 }));
        let agent = known.code(&machine, key);
        let output = machine.run(&["import", known.path(), "--key", key, "-vv"]).exits(0);
        drop(agent);
        for says in [
            &format!("{key}: imported, "),
            &format!("Destroy {}", known.path()),
            "recovery-1",
            &format!("rotate --key {key}"),
            &format!("keys.{key}.profileId = \""),
        ] {
            assert!(output.stdout.contains(says), "{says:?} is not in {output}");
        }
        let new = read(&machine, key);
        assert!(
            new.starts_with(&format!("version = 2\nname = \"{key}\"\nthreshold = 2\n")),
            "{new}"
        );
        assert_eq!(opened_without_a_card(&new), [""; 0]);
        assert_eq!(known.text(), old);
        assert_eq!(machine.profiles(), [format!("{key}.toml")]);

        let _agent = (cards.len() < 2).then(|| known.code(&machine, key));
        assert_eq!(machine.apply().exits(0).result(key), "verified");
        known.is_published(&machine, key);
    }
}

/// It is named and left out, where the others are enough.
#[test]
fn what_cannot_be_opened_is_left_out() {
    let machine = Machine::new(2);
    let known = Vector::copy(&machine, "piv-piv-recovery");
    let [first, second] = known.cards(&machine).try_into().ok().unwrap();
    known.spec(&machine, "import-less", &second, json!({}));
    let import = ["import", known.path(), "--key", "import-less"];

    // The first card does not take the PIN.
    let first = first.with_pin(&machine, "111222");
    let agent = known.code(&machine, "import-less");
    let output = machine.run(&import).exits(15);
    output.says(&["Not opened: card-1", "`--without card-1`", "card 10000001"]);
    assert_eq!(machine.profiles(), [""; 0]);
    assert!(agent.asked().is_none());
    let presented = second.presented();
    drop(first.retire());

    let args = |more: &[&'static str]| [&import[..], more].concat();
    machine.run(&args(&["--without", "card-7"])).exits(10).says(&["no provider card-7", "card-1"]);
    let few = ["--without", "card-1", "--without", "recovery-1"];
    machine.run(&args(&few)).exits(10).says(&["1 stay, and 2 are to open"]);
    assert_eq!(second.presented(), presented);

    machine.run(&args(&["--without", "card-1"])).exits(0);
    drop(agent);
    let new = read(&machine, "import-less");
    assert!(!new.contains("10000001"), "{new}");
    let _agent = known.code(&machine, "import-less");
    assert_eq!(machine.apply().exits(0).result("import-less"), "verified");
    known.is_published(&machine, "import-less");
}

/// A provider of a type that only cryptkey has goes by itself; the threshold may change on the way.
#[test]
fn a_provider_of_an_unknown_type_is_named() {
    let machine = Machine::new(2);
    let known = Vector::copy(&machine, "piv-piv-recovery");
    let cards = known.cards(&machine);
    let before = known.text();
    known.reseal_with_type(2, "fido2");
    assert_ne!(known.text(), before);
    known.spec(&machine, "vault", &cards[0], json!({}));
    let import = ["import", known.path(), "--key", "vault"];
    let output = machine.run(&[&import[..], &["--threshold", "3"]].concat()).exits(10);
    output.says(&["2 stay, and 3 are to open"]);
    let done = machine.run(&[&import[..], &["--threshold", "1"]].concat()).exits(0);
    assert!(done.stdout.contains("Left out: recovery-1 (fido2)"), "{done}");
    let new = read(&machine, "vault");
    assert!(new.contains("threshold = 1") && !new.contains("fido2"), "{new}");
    drop(cards);
    let _second = known.card(&machine, 1);
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    known.is_published(&machine, "vault");
}

/// A file that is not what was sealed is opened, and not believed.
#[test]
fn a_changed_file_is_refused() {
    let machine = Machine::new(2);
    let known = Vector::copy(&machine, "piv-piv-recovery");
    let cards = known.cards(&machine);
    fs::write(&known.file, known.text().replace("card_name = \"", "card_name = \"my ")).unwrap();
    known.spec(&machine, "vault", &cards[0], json!({}));
    let import = ["import", known.path(), "--key", "vault", "--without", "recovery-1"];
    machine.run(&import).exits(17).says(&["its integrity differs", known.path()]);
    assert_eq!(machine.profiles(), [""; 0]);
}

/// The file is where apply finds it already, and the spec pins it.
#[test]
fn the_key_s_own_file_is_replaced_and_not_kept() {
    let machine = Machine::new(2);
    let known = Vector::copy_to(machine.profile("vault"), "piv-piv-recovery");
    let cards = known.cards(&machine);
    known.spec(&machine, "vault", &cards[0], json!({ "cards": [{ "serial": "10000001" }] }));
    let import =
        ["import", known.path(), "--key", "vault", "--threshold", "1", "--without", "recovery-1"];
    // Before anything is opened.
    machine.run(&import).exits(10).says(&["card-2 is card 10000002", "--without card-2"]);
    let id = "0123456789abcdef0123456789abcdef";
    known.spec(&machine, "vault", &cards[0], json!({ "profileId": id }));
    let text = known.text();
    let refused = machine.run(&import).exits(17);
    let refused = refused.says(&[id, "the spec declares"]);
    assert_eq!(known.text(), text);

    // Only the opened key tells its id.
    let id = refused.stderr.split_once("this one is ").unwrap().1[..32].to_owned();
    known.spec(&machine, "vault", &cards[0], json!({ "profileId": id }));
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    let output = machine.run(&[&import[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(output["profile"]["id"], id.as_str());
    assert_eq!((&output["kept"], &output["removed"]), (&json!(null), &json!(["recovery-1"])));
    let names: Vec<_> =
        fs::read_dir(&machine.state).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        names.iter().all(|name| !name.to_str().unwrap().starts_with("vault.toml.")),
        "{names:?}"
    );
    assert_eq!(opened_without_a_card(&read(&machine, "vault")), [""; 0]);

    // Either of them is enough now.
    for card in cards {
        assert_eq!(machine.apply().exits(0).result("vault"), "verified");
        known.is_published(&machine, "vault");
        drop(card.retire());
    }
}

#[test]
fn a_key_that_has_another_profile_is_left_alone() {
    let machine = Machine::new(2);
    let known = Vector::copy(&machine, "piv-piv-recovery");
    let cards = known.cards(&machine);
    known.spec(&machine, "vault", &cards[0], json!({ "cards": [{ "serial": "10000001" }] }));
    machine.apply().exits(0);
    let before = read(&machine, "vault");
    let presented = cards[0].presented();
    let import = ["import", known.path(), "--key", "vault", "--without", "recovery-1"];
    machine.run(&import).exits(17).says(&["vault.toml with id", ".old"]);
    assert_eq!((read(&machine, "vault"), cards[0].presented()), (before, presented));
}

/// Others could read it: that is told, and no obstacle.
#[test]
fn an_exposed_file_asks_for_a_rotation() {
    let machine = Machine::new(2);
    let known = Vector::copy(&machine, "piv-piv-recovery");
    fs::set_permissions(&known.file, Permissions::from_mode(0o644)).unwrap();
    let cards = known.cards(&machine);
    known.spec(&machine, "vault", &cards[0], json!({}));
    let import = ["import", known.path(), "--key", "vault", "--without", "recovery-1"];
    machine.run(&import).exits(0).says(&["others may read it", "Rotate the key"]);
}

/// A new machine, with the exported profile and the backup card.
#[test]
fn an_exported_profile_gives_the_same_secrets_elsewhere() {
    let machine = Machine::new(2);
    let known = Vector::copy_to(machine.profile("import-moved"), "piv-piv-recovery-any");
    let cards = known.cards(&machine);
    known.spec(&machine, "import-moved", &cards[0], json!({}));
    let presented = cards[0].presented();
    let exported = machine.run(&["export", "--key", "import-moved"]).exits(0);
    assert_eq!(exported.stdout, known.text());
    assert_eq!(cards[0].presented(), presented);
    let copy = machine.dir().join("exported.toml");
    let copied = copy.to_str().unwrap();
    let export = ["export", "--key", "import-moved", "--output", copied];
    machine.run(&export).exits(0);
    assert_eq!(fs::read_to_string(&copy).unwrap(), exported.stdout);
    machine.run(&export).exits(18).says(&[copied]);
    drop(cards);

    // The key is called otherwise there, and the state directory is made.
    let mut other = Machine::new(2);
    other.state = other.dir().join("new");
    let backup = known.card(&other, 1);
    known.spec(&other, "import-here", &backup, json!({ "threshold": 1 }));
    let wrong = ["import", copied, "--key", "import-here", "--threshold", "2"];
    other.run(&wrong).exits(10).says(&["version 2", "reseal"]);
    other.run(&["import", copied, "--key", "import-here"]).exits(0);
    assert!(read(&other, "import-here").contains("name = \"import-here\""));
    assert_eq!(other.apply().exits(0).result("import-here"), "verified");
    known.is_published(&other, "import-here");

    // Once more: the same key, so it is replaced, and one is kept.
    let again = other.run(&["import", copied, "--key", "import-here", "--json"]).exits(0).json();
    assert!(fs::exists(again["kept"].as_str().unwrap()).unwrap(), "{again}");

    // It is opened first.
    let wrong = other.secret_file("wrong.pin", "999888");
    known.spec(
        &other,
        "import-lost",
        &backup,
        json!({
            "pin": wrong, "cards": [{ "serial": "10000002" }],
        }),
    );
    let _agent = Agent::decline("cryptkey:import-lost");
    other.run(&["import", copied, "--key", "import-lost"]).exits(15);
    assert!(!other.profile("import-lost").exists());
}

/// What comes with the configuration is no obstacle, but a file must be named for what is made of it.
#[test]
fn a_shipped_profile_is_not_touched() {
    let machine = Machine::new(2);
    let known = Vector::copy(&machine, "piv-piv-recovery");
    let cards = known.cards(&machine);
    let shipped = Vector::copy(&machine, "piv-only");
    known.spec(&machine, "vault", &cards[0], json!({ "profile": shipped.file }));
    let import = ["import", known.path(), "--key", "vault", "--without", "recovery-1"];
    machine.run(&import).exits(10).says(&["comes with the configuration", "--output"]);
    let new = machine.dir().join("new.toml");
    machine.run(&[&import[..], &["--output", new.to_str().unwrap()]].concat()).exits(0);
    assert!(fs::read_to_string(new).unwrap().contains("version = 2\nname = \"vault\""));
    assert_eq!(machine.profiles(), [""; 0]);
}

/// The old file is destroyed next: the new one has to be there for good.
#[test]
fn nothing_is_imported_to_ram() {
    let mut machine = Machine::new(2);
    let ram = Ram::tmpfs("size=64k,mode=700");
    machine.state = ram.path().to_owned();
    let known = Vector::copy(&machine, "piv-piv-recovery");
    let cards = known.cards(&machine);
    known.spec(&machine, "vault", &cards[0], json!({}));
    let import = ["import", known.path(), "--key", "vault", "--without", "recovery-1"];
    machine.run(&import).exits(17).says(&["RAM file system"]);
    assert_eq!(cards[0].presented() + cards[1].presented(), 0);
    assert_eq!(machine.profiles(), [""; 0]);
}

#[test]
fn what_is_no_profile_is_refused() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    let bad = machine.dir().join("bad.toml");
    fs::write(&bad, "version = 1\n").unwrap();
    DirBuilder::new().mode(0o700).create(machine.dir().join("dir")).unwrap();
    for name in ["missing.toml", "bad.toml", "dir"] {
        let file = machine.dir().join(name);
        machine.run(&["import", file.to_str().unwrap(), "--key", "vault"]).exits(17).says(&[name]);
    }
    machine.run(&["import", bad.to_str().unwrap(), "--key", "other"]).exits(10).says(&["vault"]);
    assert_eq!(card.log(), []);
}

/// Whoever reads it can guess: that is told, beside what is exported.
#[test]
fn an_exported_passphrase_is_warned_of() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let export = ["export", "--key", "vault"];
    assert_eq!(machine.run(&export).exits(0).stderr, "");
    let mut terminal =
        Terminal::start(&machine.command(&["provider", "add", "passphrase", "--key", "vault"]));
    for question in ["Passphrase passphrase-1 of key vault", "The same again"] {
        terminal.answer(question, "long enough for the test");
    }
    terminal.end(&machine).0.exits(0);
    let exported = machine.run(&export).exits(0).says(&["can guess at the passphrase"]);
    assert_eq!(exported.stdout, read(&machine, "vault"));
    let json = machine.run(&["export", "--key", "vault", "--json"]).exits(0).json();
    assert_eq!(json["profile"], exported.stdout);
}

/// Half a profile would be taken for one, and would keep the next try from its name.
#[test]
fn a_full_disk_keeps_no_half_of_an_export() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.apply().exits(0);
    let disk = Ram::tmpfs("size=8k");
    let rest = disk.path().join("rest");
    fs::write(&rest, [0; 8192]).unwrap();
    let file = disk.path().join("vault.toml");
    let export = ["export", "--key", "vault", "--output", file.to_str().unwrap()];
    machine.run(&export).exits(18).says(&["No space left on device"]);
    assert!(!file.exists());
    fs::remove_file(rest).unwrap();
    machine.run(&export).exits(0);
    assert_eq!(fs::read_to_string(file).unwrap(), read(&machine, "vault"));
}
