//! What needs no card: an `apply` whose result would be what stands.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::enroll::on_both_cards;
use crate::support::{
    Machine, Nitrokey, Output, TestCard, Yubikey,
    machine::merge,
    published::{generations, traces},
    sealed::Sealed,
};

on_both_cards!(nothing_changes_and_no_card_is_asked);

fn nothing_changes_and_no_card_is_asked<C: TestCard>() {
    let mut machine = Machine::new(1);
    let card = C::new(&machine, 0);
    machine.vault(&card, json!({}));
    // A boot: nothing is published yet.
    let enrolled = machine.reload().exits(0).says(&["the card is asked: nothing is published"]);
    assert_eq!(enrolled.result("vault"), "enrolled");
    let (before, asked) = ([traces(&machine.runtime), traces(&machine.state)], card.log().len());
    let steady = machine.reload().exits(0);
    assert_eq!(steady.result("vault"), "notVerified", "{steady}");
    assert!(steady.unchanged("vault"), "{steady}");
    assert_eq!(
        steady.json()["keys"]["vault"]["profileId"],
        enrolled.json()["keys"]["vault"]["profileId"]
    );
    card.remove();
    machine.reload().exits(0);
    assert_eq!(card.log_since(asked), []);
    assert_eq!([traces(&machine.runtime), traces(&machine.state)], before);
    let plain = machine.reload_with(&[]).exits(0);
    assert_eq!(plain.stdout, "vault: unchanged, not verified (the card was not asked)\n");
    // Whoever wants the card to be asked says so, and so does the key's unit at its start.
    machine.pcscd.stop();
    machine.vault(&card, json!({ "cardTimeoutSec": 0 }));
    machine.apply().exits(11);
    machine.reload().exits(0);
    machine.run(&["scrub"]).exits(0);
    machine.reload().exits(11).says(&["the card is asked: nothing is published"]);
}

/// A machine whose card is away, and what stands.
struct Steady {
    machine: Machine,
    card: Yubikey,
}

impl Steady {
    fn new() -> Self {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let steady = Self { machine, card };
        steady.spec(json!({}));
        steady.machine.apply().exits(0);
        steady.card.remove();
        steady
    }

    fn spec(&self, extra: Value) {
        let mut all = json!({ "cardTimeoutSec": 0, "secrets": { "backup": secret(json!({})) } });
        merge(&mut all, extra);
        self.machine.vault(&self.card, all);
    }

    /// That nothing would change, and the card is not asked.
    #[track_caller]
    fn stands(&self, what: &str) {
        let output = self.machine.reload().exits(0);
        assert_eq!(output.result("vault"), "notVerified", "{what}: {output}");
    }

    /// That the card is asked, for this reason.
    #[track_caller]
    fn asks(&self, why: &str, code: i32) -> Output {
        self.machine.reload().exits(code).says(&[&format!("the card is asked: {why}")])
    }

    fn secret(&self) -> PathBuf {
        self.machine.runtime.join("vault/backup")
    }

    fn generation(&self) -> PathBuf {
        fs::canonicalize(self.machine.runtime.join("vault")).unwrap()
    }

    fn mark(&self) -> PathBuf {
        PathBuf::from(format!("{}.mark", self.generation().display()))
    }
}

/// The one secret; `extra` goes on top.
fn secret(extra: Value) -> Value {
    let mut secret = json!({ "use": "backups", "format": "hex", "owner": "daemon", "group": 0 });
    merge(&mut secret, extra);
    secret
}

#[test]
fn how_a_run_goes_is_no_reason_to_ask_the_card() {
    let steady = Steady::new();
    let id = steady.machine.reload().exits(0).json()["keys"]["vault"]["profileId"].clone();
    let same = [
        json!({ "softFail": true }),
        json!({ "cardTimeoutSec": 1, "touchTimeoutSec": 1, "ask": false, "askTimeoutSec": 1 }),
        json!({ "profileId": id }),
        // It is the same user.
        json!({ "secrets": { "backup": secret(json!({ "owner": 1 })) } }),
        // As by default.
        json!({ "pinPolicy": "once", "threshold": null, "mode": "use-existing" }),
    ];
    for extra in same {
        steady.spec(extra.clone());
        steady.stands(&extra.to_string());
    }
    // The profile comes with the configuration from now on.
    let shipped = steady.machine.ship("vault");
    steady.spec(json!({ "profile": shipped, "profileId": id }));
    steady.stands("shipped");
}

#[test]
fn another_spec_is_a_reason() {
    let steady = Steady::new();
    let with = |extra: Value| json!({ "secrets": { "backup": secret(extra) } });
    let changed = "the spec of the key has changed";
    let others = [
        (with(json!({ "use": "other" })), changed, 11),
        (with(json!({ "format": "base64" })), changed, 11),
        (with(json!({ "length": 33 })), changed, 11),
        (with(json!({ "newline": true })), changed, 11),
        (with(json!({ "owner": 2 })), "backup is not as it was left", 11),
        (with(json!({ "group": 2 })), "backup is not as it was left", 11),
        (with(json!({ "mode": "0440" })), "backup is not as it was left", 11),
        (with(json!({ "owner": "nobody-of-that-name" })), "the owner or group of backup", 11),
        (json!({ "secrets": {} }), changed, 11),
        (json!({ "secrets": { "backup": secret(json!({})), "new": {} } }), changed, 11),
        (json!({ "secrets": { "renamed": secret(json!({})) } }), changed, 11),
        (json!({ "cards": [{ "serial": Yubikey::SERIAL }] }), changed, 11),
        (json!({ "cards": [{ "serial": "7" }] }), changed, 10),
        (json!({ "slot": "82" }), changed, 10),
        (json!({ "touchPolicy": "always" }), changed, 11),
        (json!({ "pinPolicy": "never" }), changed, 11),
        (json!({ "threshold": 1 }), changed, 11),
        (json!({ "minTries": 3 }), changed, 11),
        (json!({ "pin": { "ask": true } }), changed, 11),
        (json!({ "mode": "overwrite" }), changed, 11),
        (json!({ "managementKey": { "protected": true } }), changed, 11),
        (json!({ "enroll": "never" }), changed, 11),
        (json!({ "profileId": "0".repeat(32) }), "it can't be opened as things stand", 17),
    ];
    for (extra, why, code) in others {
        steady.spec(extra);
        steady.asks(why, code);
        steady.spec(json!({}));
        steady.stands(why);
    }
}

#[test]
fn whatever_its_owner_or_root_did_to_what_stands_is_a_reason() {
    let steady = Steady::new();
    let (secret, generation) = (steady.secret(), steady.generation());
    let content = fs::read(&secret).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let put = |content: &[u8]| {
        drop(fs::remove_file(&secret));
        fs::write(&secret, content).unwrap();
        mode(&secret, 0o400);
        chown(&secret, Some(1), Some(0)).unwrap();
    };
    let deviates = |what: &str, why: &str| {
        steady.asks(&format!("{why} is not as it was left"), 11);
        put(&content);
        steady.stands(what);
    };
    // As the owner can: the file is theirs.
    let mut other = content.clone();
    other[63] ^= 1;
    fs::write(&secret, &other).unwrap();
    deviates("another content", "backup");
    fs::write(&secret, &content[..63]).unwrap();
    deviates("less content", "backup");
    fs::write(&secret, [&content[..], b"\n"].concat()).unwrap();
    deviates("more content", "backup");
    mode(&secret, 0o440);
    deviates("another mode", "backup");
    chown(&secret, None, Some(1)).unwrap();
    deviates("another group", "backup");
    // As root can.
    chown(&secret, Some(0), None).unwrap();
    deviates("another owner", "backup");
    fs::remove_file(&secret).unwrap();
    deviates("no file", "backup");
    fs::remove_file(&secret).unwrap();
    symlink("/proc/self/stat", &secret).unwrap();
    deviates("a link", "backup");
    fs::write(generation.join("more"), "").unwrap();
    steady.asks("the published set is not as it was left", 11);
    fs::remove_file(generation.join("more")).unwrap();
    steady.stands("no other file");
    mode(&generation, 0o755);
    steady.asks("the published set is not as it was left", 11);
    mode(&generation, 0o751);
    steady.stands("closed again");

    // With the card it is made good, and stands again.
    fs::write(&secret, &other).unwrap();
    steady.card.insert();
    let output = steady.machine.reload().exits(0);
    assert_eq!(output.json()["keys"]["vault"]["published"]["changed"], json!(["backup"]));
    assert_eq!(fs::read(&secret).unwrap(), content);
    steady.stands("made good");
}

#[test]
fn a_mark_that_is_not_about_what_stands_is_none() {
    let steady = Steady::new();
    let (generation, mark) = (steady.generation(), steady.mark());
    let text = fs::read_to_string(&mark).unwrap();
    let about = fs::metadata(&mark).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (0, 0o600));
    let changed = [
        (String::new(), "what is published has no mark"),
        (text.replace("\"outputs\":1", "\"outputs\":2"), "this version of the program"),
        (text.replace("\"spec\":\"", "\"spec\":\"0"), "the spec of the key has changed"),
        (text.replace("\"profile\":\"", "\"profile\":\"0"), "the profile has changed"),
        (text.replace("\"backup\":\"", "\"backup\":\"0"), "backup is not as it was left"),
        (text.replace("\"backup\"", "\"other\""), "backup is not as it was left"),
        (text.replace('{', "{\"new\":1,"), "what is published has no mark"),
    ];
    for (changed, why) in changed {
        assert_ne!(changed, text);
        fs::write(&mark, changed).unwrap();
        steady.asks(why, 11);
        fs::write(&mark, &text).unwrap();
        steady.stands(why);
    }
    chown(&mark, Some(1), None).unwrap();
    steady.asks("what is published has no mark", 11);
    chown(&mark, Some(0), None).unwrap();
    steady.stands("root's again");

    // Another generation of the very same bytes has no mark, and that of the old one goes with it.
    let other = generation.with_file_name("vault.0123456789abcdef");
    let (other_mark, link) = (
        generation.with_file_name("vault.0123456789abcdef.mark"),
        steady.machine.runtime.join("vault"),
    );
    fs::rename(&generation, &other).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(".generations/vault.0123456789abcdef", &link).unwrap();
    steady.asks("what is published has no mark", 11);
    assert!(mark.exists());
    steady.card.insert();
    let verified = steady.machine.reload().exits(0);
    assert!(verified.result("vault") == "verified" && verified.unchanged("vault"), "{verified}");
    assert!(!mark.exists() && other_mark.exists());
    assert_eq!(fs::read_to_string(&other_mark).unwrap(), text);
    steady.stands("marked anew");
    steady.machine.run(&["scrub"]).exits(0);
    assert_eq!(generations(&steady.machine.runtime), 0);
}

#[test]
fn another_file_in_the_state_directory_is_a_reason() {
    let steady = Steady::new();
    let profile = steady.machine.profile("vault");
    let text = fs::read_to_string(&profile).unwrap();
    for (from, to) in [("card_name = \"", "card_name = \"other "), ("nonce = \"", "nonce = \"00")] {
        let mut other = text.replace(from, to);
        if from.starts_with("nonce") {
            // As long as it was.
            let at = text.find(from).unwrap() + from.len();
            other = format!("{}00{}", &text[..at], &text[at + 2..]);
        }
        fs::write(&profile, &other).unwrap();
        if other != text {
            steady.asks("the profile has changed", 11);
        }
        fs::write(&profile, &text).unwrap();
        steady.stands(from);
    }
    let record = steady.machine.state.join("vault.generating");
    fs::write(&record, "version = 1\nserial = \"90210001\"\nslot = \"9d\"\n").unwrap();
    fs::set_permissions(&record, Permissions::from_mode(0o600)).unwrap();
    steady.asks("a key is being generated, or is to be", 11);
    fs::remove_file(&record).unwrap();
    steady.stands("no record");
    // What can't be read says so, as ever.
    fs::write(&profile, &text[..text.len() / 2]).unwrap();
    steady.machine.reload().exits(17);
    fs::write(&profile, &text).unwrap();
    steady.stands("whole again");
}

#[test]
fn a_pin_that_may_be_a_wrong_one_is_a_reason() {
    let steady = Steady::new();
    let machine = &steady.machine;
    let file = machine.dir().join(format!("{}.pin", Yubikey::NAME));
    let right = || machine.secret_file(&format!("{}.pin", Yubikey::NAME), Yubikey::PIN);
    let other = |pin: &str| {
        machine.secret_file(&format!("{}.pin", Yubikey::NAME), pin);
    };
    for (pin, why) in [
        ("583920", "card 90210001 did not accept this PIN last"),
        ("short", "the PIN of card 90210001 can't be read"),
    ] {
        other(pin);
        steady.asks(why, 11);
        right();
        steady.stands(why);
    }
    fs::remove_file(&file).unwrap();
    steady.asks("the PIN of card 90210001 can't be read", 11);
    right();
    // What the guard knows no more, or may not know.
    let guard = machine.state.join("pin-guard");
    let text = fs::read_to_string(&guard).unwrap();
    fs::remove_file(&guard).unwrap();
    steady.asks("no card accepted its PIN last", 11);
    for changed in [
        "version = 9".to_owned(),
        text.replace("[cards.accepted]", "[cards.intent]\nby = \"x\"\nat = 1"),
        format!("{text}\n[cards.intent]\ntag = \"0123\"\ntries = 3\nby = \"x\"\nat = 1\n"),
    ] {
        assert_ne!(changed, text);
        fs::write(&guard, &changed).unwrap();
        fs::set_permissions(&guard, Permissions::from_mode(0o600)).unwrap();
        steady.asks("card 90210001 did not accept this PIN last", 11);
    }
    fs::write(&guard, &text).unwrap();
    steady.stands("remembered again");

    // A wrong one is found at once, and what the card said then is not passed over.
    steady.card.insert();
    other("583920");
    machine.reload().exits(15);
    machine.reload().exits(14);
    right();
    let presented = steady.card.presented();
    assert_eq!(machine.reload().exits(0).result("vault"), "verified");
    assert_eq!(steady.card.presented(), presented + 1);
    steady.stands("accepted again");
}

/// What a card said against it is not passed over at the next switch.
#[test]
fn after_a_card_that_failed_the_next_run_asks_again() {
    let sealed = Sealed::new("steady-failed", 1, 2, &[]);
    sealed.machine.apply().exits(0);
    let reload = || sealed.machine.reload().exits(0);
    // The second card's PIN was never presented: it keeps nobody waiting.
    assert_eq!(reload().result(sealed.name), "notVerified");
    // With the first one it goes wrong; the second one opens the key, and all is said again.
    sealed.pin(0, "583920");
    assert_eq!(reload().says(&["the card rejected it"]).result(sealed.name), "verified");
    sealed.pin(0, Yubikey::PIN);
    assert_eq!(reload().result(sealed.name), "verified");
    assert_eq!(reload().result(sealed.name), "notVerified");
    // Its PIN is one that the card did not accept last.
    sealed.pin(1, "583920");
    let output = reload().says(&["card 90210002 did not accept this PIN last"]);
    assert_eq!(output.result(sealed.name), "verified");
    sealed.is_open();
}

/// It was opened by a person: that is what a switch should not ask for.
#[test]
fn a_key_that_a_person_opened_asks_nobody_at_a_switch() {
    let sealed = Sealed::new("steady-typed", 1, 1, &["recovery-1"]);
    sealed.machine.apply().exits(0);
    sealed.power_off();
    sealed.cards[0].remove();
    sealed.declare(json!({ "cardTimeoutSec": 0 }));
    let person = sealed.person(&[&sealed.code]);
    assert_eq!(sealed.machine.reload().exits(0).result(sealed.name), "verified");
    drop(person);
    let bystander = sealed.bystander();
    assert_eq!(sealed.machine.reload().exits(0).result(sealed.name), "notVerified");
    drop(bystander);
    sealed.is_open();
}
