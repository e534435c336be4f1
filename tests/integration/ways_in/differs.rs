//! Where a profile differs from the spec in what only an admin changes: it is reported, and left.

use serde_json::{Value, json};

use crate::support::{TestCard, published::traces, sealed::Sealed};

/// That boots with this on top of the spec say so and change nothing.
fn reported(sealed: &Sealed, extra: Value, says: &[&str]) {
    sealed.declare(json!({}));
    sealed.boot().exits(0);
    let (profile, before) = (sealed.profile(), traces(&sealed.machine.state));
    sealed.declare(extra);
    for _ in 0..2 {
        let output = sealed.boot().exits(0).says(&["warning: "]).says(says);
        assert_eq!(output.result(sealed.name), "verified");
        sealed.is_open();
    }
    assert_eq!((sealed.profile(), traces(&sealed.machine.state)), (profile, before));
}

#[test]
fn another_threshold() {
    let sealed = Sealed::new("ways-threshold", 2, 2, &[]);
    for threshold in [1, 3] {
        let command = format!("nixos-cryptkey reseal --key ways-threshold --threshold {threshold}");
        let declares =
            format!("takes 2 of its providers to open, and the spec declares {threshold}");
        reported(&sealed, json!({ "threshold": threshold }), &[&declares, &command]);
    }
    // The profile's counts.
    sealed.cards[0].remove();
    sealed.declare(json!({ "threshold": 1, "cardTimeoutSec": 0 }));
    sealed.boot().exits(11);
}

#[test]
fn a_card_that_is_not_listed_any_more() {
    let sealed = Sealed::new("ways-unlisted", 1, 2, &[]);
    let one = json!({ "cards": [sealed.listed(1)] });
    let log = sealed.cards[0].log().len();
    sealed.declare(one.clone());
    sealed.boot().exits(0);
    // It sees no PIN, and nobody tries it.
    assert!(!sealed.cards[0].log_since(log).iter().any(|apdu| apdu.verifies() || apdu.agrees()));
    let says = ["sealed to card 90210001, which `cards` does not list", "provider remove"];
    reported(&sealed, one.clone(), &says);
    sealed.cards[1].remove();
    sealed.declare(json!({ "cards": [sealed.listed(1)], "cardTimeoutSec": 0 }));
    let presented = sealed.cards[0].presented();
    sealed.boot().exits(11);
    assert_eq!(sealed.cards[0].presented(), presented);
}

/// Nor does an id, which only a new provider gets.
#[test]
fn another_id() {
    let sealed = Sealed::new("ways-id", 1, 1, &[]);
    let mut card = sealed.listed(0);
    card["id"] = "desk".into();
    sealed.declare(json!({ "cards": [card] }));
    let profile = sealed.profile();
    sealed.boot().exits(0);
    assert_eq!(sealed.profile(), profile);
}
