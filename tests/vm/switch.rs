//! `nixos-rebuild switch` touches what changed, and nothing else.

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Container, Switched,
    cryptkey::{self, PROFILE, RULE, SECRET, UNIT},
    switch,
};

const DOOR: &str = "cryptkey-door.service";
const WIFI: &str = "/run/cryptkey/door/wifi";

/// A key in a slot whose keys want no PIN.
fn door(secrets: Value) -> Value {
    json!({
        "slot": "9e", "pinPolicy": "never", "managementKey": { "factoryDefault": true },
        "secrets": secrets,
    })
}

/// When a unit last did anything.
fn last_change(machine: &Container, unit: &str) -> String {
    machine.show(unit, "StateChangeTimestampMonotonic")
}

#[test]
fn a_key_is_touched_by_its_own_changes_alone() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let porter = Consumer::declared(&machine, "porter", 2002);
    let consumers = restic.declaration(SECRET) + &porter.declaration(WIFI);
    let with = |keys: Value| {
        let restic = json!({ "use": "backups", "format": "hex", "owner": "restic",
                             "requiredBy": ["restic.service"] });
        let mut all =
            json!({ "vault": cryptkey::options(json!({ "secrets": { "restic": restic } })) });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        cryptkey::evaluate(&all, &consumers)
    };
    let wifi = json!({ "owner": "porter", "requiredBy": ["porter.service"] });
    let mut nixos = with(json!({ "door": door(json!({ "wifi": wifi })) }));
    cryptkey::install_all(&machine, &nixos);
    let card = Card::inside(&machine, &[]);
    machine.boot();
    let users = ["restic.service", "porter.service"];
    for unit in [UNIT, DOOR, "cryptkey.target", users[0], users[1]] {
        machine.expect(unit, "active");
    }
    let of =
        |units: &[&str]| units.iter().map(|unit| last_change(&machine, unit)).collect::<Vec<_>>();
    let (vault, used, expected) = (of(&[UNIT]), of(&users), cryptkey::expected(&machine, &card));
    assert_eq!(restic.read(&machine), expected);

    // Another key changes.
    let bell = json!({ "wifi": wifi, "bell": {} });
    let done = switch(&machine, &mut nixos, with(json!({ "door": door(bell.clone()) })));
    assert_eq!(done, Switched { reloaded: [DOOR.to_owned()].into(), ..Switched::default() });
    assert!(machine.exists("/run/cryptkey/door/bell"));

    // One comes, to a slot of its own.
    let attic = cryptkey::options(json!({ "slot": "82", "secrets": { "photos": {} } }));
    let keys = json!({ "door": door(bell.clone()), "attic": attic });
    assert_eq!(switch(&machine, &mut nixos, with(keys.clone())), Switched::default());
    machine.expect("cryptkey-attic.service", "active");
    machine.expect("cryptkey.target", "active");
    assert_eq!((of(&[UNIT]), of(&users)), (vault, used.clone()));

    // One comes to the slot of the first, who is told that there are two.
    let mut keys = keys;
    keys["loft"] = cryptkey::options(json!({ "secrets": { "photos": {} } }));
    let done = switch(&machine, &mut nixos, with(keys.clone()));
    assert_eq!(done, Switched { reloaded: [UNIT.to_owned()].into(), ..Switched::default() });
    machine.says("cryptkey-loft.service", &["loft: enrolled"]);
    machine.says(cryptkey::RELOAD, &["vault: unchanged, not verified (the card was not asked)"]);
    assert_eq!(of(&users), used);

    // One goes, and with it what needs its secrets, but not what it was made of.
    let vault = of(&[UNIT]);
    keys.as_object_mut().unwrap().remove("door");
    let done = switch(&machine, &mut nixos, with(keys));
    assert_eq!(Switched::of(&done.stopped), [DOOR]);
    assert_eq!(Switched::of(&done.restarted), ["porter.service"]);
    assert!(!machine.exists("/run/cryptkey/door"));
    assert!(machine.exists("/var/lib/cryptkey/door.toml"));
    machine.expect("cryptkey.target", "active");
    assert_eq!((of(&[UNIT]), of(&users[..1])), (vault, used[..1].to_vec()));
    assert_eq!(machine.read(SECRET), expected);
}

#[test]
fn a_renamed_key_is_told_what_to_do_and_stays_the_same() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let mut nixos = cryptkey::install(&machine, json!({}));
    let card = Card::inside(&machine, &[]);
    machine.boot();
    let expected = cryptkey::expected(&machine, &card);

    let safe = json!({ "safe": cryptkey::options(json!({})) });
    let done = switch(&machine, &mut nixos, cryptkey::evaluate(&safe, ""));
    assert_eq!(Switched::of(&done.stopped), [UNIT]);
    assert_eq!(Switched::of(&done.failed), ["cryptkey-safe.service"]);
    assert!(!machine.exists(SECRET) && machine.exists(PROFILE));
    let advice = "If the key was renamed, rename that file to safe.toml";
    machine.says("cryptkey-safe.service", &[PROFILE, advice]);
    machine.run(&["mv", PROFILE, "/var/lib/cryptkey/safe.toml"]).exits(0);
    machine.systemctl(&["start", "cryptkey-safe.service"]).exits(0);
    machine.says("cryptkey-safe.service", &["safe: verified"]);
    assert_eq!(machine.read("/run/cryptkey/safe/restic"), expected);
}

#[test]
fn without_the_module_nothing_is_left_but_profiles() {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let needed = json!({ "use": "backups", "format": "hex", "owner": "restic",
                         "requiredBy": ["restic.service"] });
    let with = cryptkey::vault(
        json!({ "secrets": { "restic": needed } }),
        &("security.cryptkey.pcsc.users = [ \"restic\" ];".to_owned()
            + &restic.declaration(SECRET)),
    );
    // pcscd and polkit are wanted by others.
    let without = cryptkey::vault(
        json!({}),
        "security.cryptkey.enable = false;
         services.pcscd.enable = true;
         security.polkit.enable = true;",
    );
    let mut nixos = with.clone();
    cryptkey::install_all(&machine, &nixos);
    let _card = Card::inside(&machine, &[]);
    machine.boot();
    let is_mounted = || machine.run(&["mountpoint", "--quiet", "/run/cryptkey"]).code == Some(0);
    let expected = restic.read(&machine);
    assert!(is_mounted() && machine.exists(RULE) && !expected.is_empty());

    let done = switch(&machine, &mut nixos, without);
    let stopped = [
        UNIT,
        "cryptkey.target",
        "polkit-cryptkey.service",
        "restic.service",
        "run-cryptkey.mount",
        "state-cryptkey.service",
    ];
    assert_eq!(Switched::of(&done.stopped), stopped);
    assert_eq!(done, Switched { stopped: done.stopped.clone(), ..Switched::default() });
    assert!(!is_mounted() && !machine.exists(RULE) && !machine.exists(SECRET));
    assert!(machine.exists(PROFILE));

    // And with it again.
    assert_eq!(switch(&machine, &mut nixos, with), Switched::default());
    machine.says(UNIT, &["vault: verified"]);
    assert_eq!(restic.read(&machine), expected);
    assert!(is_mounted() && machine.exists(RULE));
}

#[test]
fn a_key_that_failed_is_tried_again() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let mut nixos = cryptkey::install(&machine, json!({ "cardTimeoutSec": 0 }));
    let card = Card::outside(&machine, &[]);
    machine.boot();
    machine.expect(UNIT, "failed");
    machine.expect("cryptkey.target", "inactive");
    card.insert();
    card.tell("wait seen");
    let same = nixos.clone();
    assert_eq!(switch(&machine, &mut nixos, same), Switched::default());
    machine.expect(UNIT, "active");
    machine.expect("cryptkey.target", "active");
}
