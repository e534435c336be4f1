//! Rule 3 while secrets stand: a key whose profile is gone is not made anew.

use std::fs;

use serde_json::json;

use crate::support::{Machine, Running, TestCard, Yubikey};

/// A name, and a way in which a profile goes.
type Way = (&'static str, fn(&mut Machine, &Yubikey));

/// Whatever way the profile has gone, its secrets stand and no key is made.
#[test]
fn a_profile_that_is_gone_while_secrets_stand_is_no_new_key() {
    let says = ["there is none, and its secrets are published", "scrub --key vault"];
    let ways: [Way; 4] = [
        ("deleted", |machine, _| fs::remove_file(machine.profile("vault")).unwrap()),
        ("not mounted", |machine, _| fs::remove_dir_all(&machine.state).unwrap()),
        ("another stateDir", |machine, card| {
            machine.state = machine.dir().join("elsewhere");
            machine.vault(card, json!({}));
        }),
        ("shipped no more", |machine, card| {
            let shipped = machine.ship("vault");
            machine.vault(card, json!({ "profile": shipped }));
            machine.apply().exits(0);
            machine.vault(card, json!({}));
        }),
    ];
    for (what, goes) in ways {
        // A key without secrets has none that could change, but what is derived of it could.
        for secrets in [json!({ "backup": { "format": "hex" } }), json!({})] {
            let mut machine = Machine::new(1);
            let card = Yubikey::new(&machine, 0);
            machine.vault(&card, json!({ "secrets": secrets }));
            machine.apply().exits(0);
            assert_eq!(machine.published().is_empty(), secrets == json!({}));
            goes(&mut machine, &card);
            let (published, asked) = (machine.published(), card.log().len());
            for output in [machine.reload(), machine.apply()] {
                output.exits(17).says(&says);
            }
            machine.run(&["plan"]).exits(17);
            assert_eq!(card.log_since(asked), [], "{what}");
            assert_eq!(machine.published(), published, "{what}");
            assert!(!machine.profile("vault").exists(), "{what}");
            // As after a boot, or a stop of the unit.
            machine.run(&["scrub", "--key", "vault"]).exits(0);
            assert_eq!(machine.apply().exits(0).result("vault"), "enrolled", "{what}");
        }
    }
}

/// What is published of a key that never had a profile here is nothing: the first enrollment may come
/// after a boot that failed, and in a run that was killed before it published.
#[test]
fn a_first_enrollment_comes_whenever_the_card_does() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    card.remove();
    machine.vault(&card, json!({ "softFail": true, "cardTimeoutSec": 0 }));
    assert_eq!(machine.apply().exits(0).result("vault"), "skipped");
    card.insert();
    machine.vault(&card, json!({ "softFail": true }));
    let mut running = Running::start(machine.command(&["apply", "--json", "-vv"]));
    running.wait_for("publish the secrets");
    running.kill();
    machine.finish(running);
    let output = machine.reload().exits(0);
    assert_eq!(machine.published().len(), 1, "{output}");
    machine.reload().exits(0);
}
