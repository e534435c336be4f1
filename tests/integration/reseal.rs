//! `reseal`, `rename`, `rotate`: what they change, what they keep, and what old copies open.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::support::{
    Machine, Running, TestCard, Yubikey, sealed::Sealed, terminal::Terminal, vectors::Vector,
};

/// A machine with the version 2 profile that any of two cards and a recovery code open, as the key `name`.
fn machine(name: &str) -> (Machine, Vector, Vec<Yubikey>) {
    let machine = Machine::new(2);
    let known = Vector::copy_to(machine.profile(name), "piv-piv-recovery-any");
    let cards = known.cards(&machine);
    known.spec(&machine, name, &cards[0], json!({}));
    (machine, known, cards)
}

fn field(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("{name}: {json}")).to_owned()
}

#[test]
fn a_threshold_goes_up_and_down_and_no_output_changes() {
    let (machine, known, mut cards) = machine("reseal-up");
    let text = known.text();
    // The name inside of the profile is another one, and that of another key.
    let other = Vector::copy_to(machine.profile("piv-piv-recovery-any"), "piv-only");
    let reseal = |threshold: &'static str, more: &[&'static str]| {
        let args = ["reseal", "--key", "reseal-up", "--threshold", threshold, "-vv"];
        machine.run(&[&args[..], more].concat())
    };
    for (threshold, without) in
        [("4", vec![]), ("2", vec!["--without", "card-1", "--without", "card-2"])]
    {
        reseal(threshold, &without).exits(10).says(&["are to open the key"]);
    }
    assert_eq!((known.text(), cards[0].presented()), (text.clone(), 0));

    let agent = known.code(&machine, "reseal-up");
    let done = reseal("2", &["--json"]).exits(0).json();
    drop(agent);
    assert_eq!(done["profile"]["threshold"], 2);
    assert_eq!(done["profile"]["providers"].as_array().unwrap().len(), 3);
    assert_eq!(fs::read_to_string(field(&done, "kept")).unwrap(), text);
    assert!(known.text().contains("threshold = 2"));
    assert_eq!(machine.apply().exits(0).result("reseal-up"), "verified");
    known.is_published(&machine, "reseal-up");

    // One is not enough any more; the old copy still is.
    let second = cards.pop().unwrap().retire();
    known.spec(&machine, "reseal-up", &cards[0], json!({ "ask": false }));
    machine.apply().exits(11).says(&["card 10000002"]);
    let backup = field(&done, "kept");
    let derive =
        ["derive", "--key", "reseal-up", "--use", "disk", "--format", "hex", "--profile", &backup];
    let derived = machine.command(&derive).output().unwrap();
    assert_eq!(derived.stdout, known.output("disk").as_bytes());

    // Down again; whoever reads what it says, reads what the old copies open.
    let second = Yubikey::again(&machine, 1, second);
    let done = reseal("1", &["--without", "recovery-1"]).exits(0);
    for says in [
        "reseal-up: resealed, any of card-1, card-2 opens it",
        "any 2 of card-1, card-2, recovery-1",
    ] {
        assert!(done.stdout.contains(says), "{says:?} is not in {done}");
    }
    drop(cards.pop().unwrap().retire());
    machine.apply().exits(0);
    known.is_published(&machine, "reseal-up");
    drop(second);
    assert!(other.text().contains("name = \"piv-only\""));
}

/// Two cards with one key would meet a threshold of two with one of them.
#[test]
fn cards_with_the_same_key_count_once() {
    let key = format!("9d={}", "11".repeat(32));
    let twins = Sealed::with("reseal-twins", 1, 2, &["recovery-1"], &["--slot-key", &key]);
    twins.cards[1].remove();
    let before = twins.profile();
    let reseal = |without| {
        let args = ["reseal", "--key", twins.name, "--threshold", "2", "--without", without];
        let _person = twins.person(&[&twins.code]);
        twins.machine.run(&args)
    };
    reseal("recovery-1").exits(10).says(&["card-1 and card-2", "--without card-2"]);
    assert_eq!((twins.profile(), twins.cards[0].presented()), (before, 0));
    reseal("card-2").exits(0);
}

/// All that are kept have to be there; what fails leaves the file as it was.
#[test]
fn all_providers_that_stay_are_opened() {
    let (machine, known, cards) = machine("reseal-lost");
    let text = known.text();
    let reseal = ["reseal", "--key", "reseal-lost", "--threshold", "1"];
    cards[1].remove();
    let mut running = Running::start(machine.command(&reseal));
    running.wait_for("Insert card 10000002");
    running.kill();
    running.output();
    assert_eq!(known.text(), text);

    // Nor does a code that nobody types.
    let agent = crate::support::agent::Agent::decline("cryptkey:reseal-lost");
    let without = [&reseal[..], &["--without", "card-2"]].concat();
    machine.run(&without).exits(13).says(&["Not opened: recovery-1"]);
    drop(agent);
    assert_eq!(known.text(), text);

    let only = [&without[..], &["--without", "recovery-1"]].concat();
    machine.run(&only).exits(0);
    assert!(!known.text().contains("10000002"));
    assert_eq!(machine.apply().exits(0).result("reseal-lost"), "verified");
    known.is_published(&machine, "reseal-lost");
}

#[test]
fn a_profile_of_version_1_is_to_be_imported() {
    let machine = Machine::new(1);
    let known = Vector::copy_to(machine.profile("vault"), "piv-recovery");
    let card = known.card(&machine, 0);
    known.spec(&machine, "vault", &card, json!({}));
    let text = known.text();
    for command in [
        &["reseal", "--key", "vault", "--threshold", "2"][..],
        &["rename", "--key", "vault", "--to", "safe"],
        &["rotate", "--key", "vault"],
        &["export", "--key", "vault"],
    ] {
        let output = machine.run(command).exits(17);
        assert_eq!(output.stdout, "");
        output.says(&["version 1", "nixos-cryptkey import FILE --key "]);
    }
    assert_eq!((known.text(), card.presented()), (text, 0));
}

#[test]
fn a_shipped_profile_is_changed_in_a_file_of_its_own() {
    let (machine, known, cards) = machine("vault");
    let reseal = ["reseal", "--key", "vault", "--threshold", "2", "--without", "recovery-1"];
    let new = machine.dir().join("new.toml");
    let args = [&reseal[..], &["--output", new.to_str().unwrap()]].concat();
    // A changed copy beside the key's own profile would be taken for what the machine has.
    machine.run(&args).exits(10).says(&["in the state directory", "Leave --output out"]);
    let shipped = machine.ship("vault");
    known.spec(
        &machine,
        "vault",
        &cards[0],
        json!({ "profile": shipped, "cards": [
        { "serial": "10000001" }, { "serial": "10000002" },
    ] }),
    );
    machine.run(&reseal).exits(10).says(&["comes with the configuration", "--output"]);
    machine.run(&args).exits(0);
    machine.run(&args).exits(10).says(&["it is there already"]);
    assert_eq!(machine.profiles(), [""; 0]);
    fs::remove_file(&shipped).unwrap();
    fs::rename(new, &shipped).unwrap();
    assert_eq!(machine.apply().exits(0).result("vault"), "verified");
    known.is_published(&machine, "vault");
}

#[test]
fn a_renamed_key_keeps_its_outputs() {
    let (machine, known, cards) = machine("old");
    let rename = ["rename", "--key", "old", "--to", "new"];
    machine.run(&["rename", "--key", "old", "--to", "no/name"]).exits(2);
    machine.run(&["rename", "--key", "old", "--to", "old"]).exits(17).says(&["that is its name"]);
    let text = known.text();
    let output = machine.run(&rename).exits(0);
    for says in ["new: renamed, it was old", "security.cryptkey.keys.new", "cryptkey-old"] {
        assert!(output.stdout.contains(says), "{says:?} is not in {output}");
    }
    assert_eq!(machine.profiles(), ["new.toml"]);
    let renamed = fs::read_to_string(machine.profile("new")).unwrap();
    let backups = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap().path());
    let backups: Vec<_> =
        backups.filter(|path| path.to_str().unwrap().contains("new.toml.")).collect();
    assert_eq!(backups.len(), 1);
    assert_eq!(fs::read_to_string(&backups[0]).unwrap(), text);
    known.spec(&machine, "new", &cards[0], json!({}));
    assert_eq!(machine.apply().exits(0).result("new"), "verified");
    known.is_published(&machine, "new");

    // Again, by the name that the spec has now: nothing is left to be done.
    machine.run(&rename).exits(0);
    assert_eq!(fs::read_to_string(machine.profile("new")).unwrap(), renamed);
    // A run that was killed before it could take the old one away.
    fs::copy(&backups[0], machine.profile("old")).unwrap();
    machine.run(&rename).exits(0);
    assert_eq!(machine.profiles(), ["new.toml"]);
    assert_eq!(fs::read_to_string(machine.profile("new")).unwrap(), renamed);
    // Back again.
    machine.run(&["rename", "--key", "new", "--to", "old"]).exits(0);
    // The vector's profile names no recipient; every change writes it.
    assert_eq!(known.text().lines().count(), text.lines().count() + 1);
    assert!(known.text().contains("name = \"old\"") && known.text().contains("recipient = \"age1"));
}

/// Every output changes, the old ones are still to be had, and only who opens all that stays can do it.
#[test]
fn a_rotated_key_has_other_outputs() {
    let (machine, known, cards) = machine("rotate-all");
    machine.apply().exits(0);
    let text = known.text();
    let id =
        machine.run(&["status", "--json"]).json()["keys"]["rotate-all"]["profile"]["id"].clone();
    let listed = json!([{ "serial": "10000001" }, { "serial": "10000002" }]);
    known.spec(&machine, "rotate-all", &cards[0], json!({ "profileId": id, "cards": listed }));
    let rotate = ["rotate", "--key", "rotate-all", "--without", "recovery-1"];

    // Nobody is there to type the name; another name; a card is not there.
    let mut nowhere = std::process::Command::new("setsid");
    let command = machine.command(&rotate);
    nowhere.arg("--wait").arg(command.get_program()).args(command.get_args());
    let envs = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = machine.finish(Running::start({
        nowhere.envs(envs);
        nowhere
    }));
    output.exits(13).says(&["there is no terminal"]);
    let at_terminal = |typed: &str| {
        let mut terminal = Terminal::start(&machine.command(&rotate));
        terminal.wait_for("Every secret of key rotate-all will change");
        terminal.wait_for("Type the name");
        terminal.type_line(typed);
        terminal.end(&machine).0
    };
    let presented = cards[0].presented();
    at_terminal("rotate").exits(21).says(&["another name was typed"]);
    assert_eq!(cards[0].presented(), presented);
    cards[1].remove();
    let mut terminal = Terminal::start(&machine.command(&rotate));
    terminal.wait_for("Type the name");
    terminal.type_line("rotate-all");
    terminal.running().wait_for("Insert card 10000002");
    assert_eq!(known.text(), text);
    // It goes on with the card.
    cards[1].insert();
    let done = terminal.end(&machine).0.exits(0);
    let new = known.text();
    assert!(new.contains("name = \"rotate-all\"\nthreshold = 1"));
    assert!(!new.contains("recovery") && new.contains("10000002"), "{new}");
    // Whoever had a card's answers of before has none of now.
    let salts = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.trim_start().starts_with("salt ="));
        lines.map(str::to_owned).collect()
    };
    assert_eq!((salts(&new).len(), salts(&text).len()), (2, 3));
    assert!(salts(&new).is_disjoint(&salts(&text)));
    machine.apply().exits(17).says(&["declares"]);
    let line = done.stdout.split_once("profileId = \"").unwrap().1;
    let id = &line[..32];
    known.spec(&machine, "rotate-all", &cards[0], json!({ "profileId": id }));
    machine.apply().exits(0);
    let old = done.stdout.split_once("--profile ").unwrap().1.split(' ').next().unwrap();
    assert_eq!(fs::read_to_string(old).unwrap(), text);
    for usage in ["default", "disk", "backups"] {
        assert_ne!(machine.secret("rotate-all", usage), known.output(usage).as_bytes());
        let args =
            ["derive", "--key", "rotate-all", "--use", usage, "--format", "hex", "--profile", old];
        let derived = machine.command(&args).output().unwrap();
        assert_eq!(derived.stdout, known.output(usage).as_bytes());
    }
}

#[test]
fn a_name_that_is_taken_is_not_given() {
    let (machine, known, cards) = machine("old");
    let other = Vector::copy_to(machine.profile("new"), "piv-only");
    let (text, taken) = (known.text(), other.text());
    machine
        .run(&["rename", "--key", "old", "--to", "new"])
        .exits(17)
        .says(&["new.toml, of another key"]);
    assert_eq!((known.text(), other.text()), (text, taken));
    assert_eq!(cards[0].presented(), 0);
    machine.run(&["rename", "--key", "none", "--to", "neither"]).exits(10).says(&["none"]);
}
