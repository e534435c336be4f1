//! Keys of one card that have specs of their own, as the units of the NixOS module do.

use serde_json::json;

use crate::support::{Machine, TestCard, Yubikey};

/// Two keys on one slot: the profile of the first is an orphan to the second, unless its spec says
/// that the first is declared elsewhere.
#[test]
fn a_profile_of_a_key_in_another_spec_is_no_orphan() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let key = machine.key(&card, json!({}));
    let apply = |name: &str, others: &[&str]| {
        let spec = machine.own_spec(name, key.clone(), others);
        machine.finish(machine.start_with(&spec))
    };
    apply("one", &["two"]).exits(0);
    let spent = card.presented();
    apply("two", &[]).exits(17).says(&["one.toml is sealed to slot 9d", "`otherKeys`"]);
    apply("two", &["three"]).exits(17);
    assert_eq!(card.presented(), spent);
    assert_eq!(apply("two", &["one"]).exits(0).result("two"), "enrolled");
    assert_eq!(card.generated(), 1);
    for name in ["one", "two"] {
        let expected = machine.expected(name, &[card.private_key("9d")], "backups");
        assert_eq!(machine.secret(name, "backup"), expected);
    }
    // Each is opened again, whatever the other does.
    assert_eq!(apply("one", &[]).exits(0).result("one"), "verified");
}
