//! The refusals, word for word: of what would be destroyed, and of the ways in.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use expect_test::{Expect, expect};

use super::{
    super::{Hazard, Refusal},
    refusals::check,
};
use crate::{
    error::Class,
    token::{Fingerprint, Slot},
};

const SLOT: Slot = Slot::KEY_MANAGEMENT;

#[test]
fn about_what_would_be_destroyed() {
    let (found, declared) = (Fingerprint([2; 32]), Fingerprint([1; 32]));
    let check = |hazard, class, text: Expect| check(&Refusal::Overwrite(hazard), class, &text);
    check(
        Hazard::NotNamed { slot: SLOT, found, declared: None },
        Class::KeyChanged,
        expect![[r#"
        tried: key vault: checking the key that is to be overwritten
        found: slot 9d holds SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI, and the spec names no key that may be destroyed
        advice: Nothing was destroyed. To use that key, set security.cryptkey.keys.vault.mode = "use-existing". To destroy it, and all that only it opens, for good: `security.cryptkey.keys.vault.overwrite.fingerprint = "SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";`.
    "#]],
    );
    let declared = Some(declared);
    check(
        Hazard::NotNamed { slot: SLOT, found, declared },
        Class::KeyChanged,
        expect![[r#"
        tried: key vault: checking the key that is to be overwritten
        found: slot 9d holds SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI, and the key that the spec has destroyed is SHA256:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE
        advice: Nothing was destroyed. To use that key, set security.cryptkey.keys.vault.mode = "use-existing". To destroy it, and all that only it opens, for good: `security.cryptkey.keys.vault.overwrite.fingerprint = "SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";`.
    "#]],
    );
    let profile = "/var/lib/cryptkey/desk.toml".to_owned();
    check(
        Hazard::Dependent { profile, key: found },
        Class::Profile,
        expect![[r#"
        tried: key vault: checking the key that is to be overwritten
        found: /var/lib/cryptkey/desk.toml, the profile of another key, is sealed to SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI
        advice: Nothing was destroyed. Choose another slot with security.cryptkey.keys.vault.slot; or, only if every secret of that other key may be lost, move its profile out of the state directory.
    "#]],
    );
    check(
        Hazard::LastOpener { threshold: 2, others: 1 },
        Class::Profile,
        expect![[r#"
        tried: key vault: checking the key that is to be overwritten
        found: its profile is sealed to that key and takes 2 of its providers to open, of which this version can open 1 without it
        advice: Nothing was destroyed. If it has other cards, list them in security.cryptkey.keys.vault.cards. Only if every secret of this key may change, set security.cryptkey.keys.vault.overwrite.abandonProfile = true: the profile is kept under a dated name, and a new one is made.
    "#]],
    );
    let profile = "/nix/store/vault.toml".to_owned();
    check(
        Hazard::ShippedDoomed { profile },
        Class::Spec,
        expect![[r#"
        tried: key vault: checking the key that is to be overwritten
        found: /nix/store/vault.toml, which the configuration ships, is sealed to it
        advice: Nothing was destroyed. Such a profile is never replaced. Remove security.cryptkey.keys.vault.overwrite.fingerprint, or security.cryptkey.keys.vault.profile.
    "#]],
    );
    check(
        Hazard::AbandonForbidden { option: "profileId" },
        Class::Spec,
        expect![[r#"
        tried: key vault: giving its profile up for a new one
        found: profileId forbids a new one
        advice: Nothing was destroyed. Only if every secret of this key may change, remove security.cryptkey.keys.vault.profileId.
    "#]],
    );
    let missing = Refusal::NoManagementKey { factory_default: None, overwrites: true };
    super::refusals::check(
        &missing,
        Class::Spec,
        &expect![[r#"
        tried: key vault: enrolling
        found: generating a key takes the card's management key, of which the spec says nothing
        advice: Change it with `ykman piv access change-management-key --protect` and set security.cryptkey.keys.vault.managementKey to {"protected": true}; or name a file that holds it with {"file": …}; or allow the maker's with {"factoryDefault": true}.
    "#]],
    );
}

#[test]
fn about_the_ways_in() {
    check(
        &Refusal::OutOfReach { threshold: 2, cards: 1, typed: 1, others: Vec::new(), asks: false },
        Class::Spec,
        &expect![[r#"
            tried: key vault: opening its profile
            found: it takes 2 providers; there are: cards 1, passphrases and recovery codes 1
            advice: Set security.cryptkey.keys.vault.ask = true, so that somebody is asked for them.
        "#]],
    );
    check(
        &Refusal::TooFewCards { threshold: 2, listed: 1 },
        Class::Spec,
        &expect![[r#"
            tried: key vault: enrolling
            found: its threshold is 2; cards that the spec lists: 1
            advice: List as many cards in security.cryptkey.keys.vault.cards. Or set security.cryptkey.keys.vault.threshold to 1, add a recovery code or a passphrase with `nixos-cryptkey provider add`, and raise it with `nixos-cryptkey reseal`.
        "#]],
    );
    check(
        &Refusal::OneAtATime { threshold: 2 },
        Class::Spec,
        &expect![[r#"
        tried: key vault: enrolling
        found: its threshold is 2, and mode "overwrite" makes the key of one card only
        advice: Nothing was generated. Set security.cryptkey.keys.vault.threshold to 1 for the first run, and raise it with `nixos-cryptkey reseal` once the other cards have joined; or set security.cryptkey.keys.vault.mode to "use-existing".
    "#]],
    );
    check(
        &Refusal::IdInUse { id: "spare".into() },
        Class::Spec,
        &expect![[r#"
        tried: key vault: sealing it to one more card
        found: its profile has a provider spare already, for another card
        advice: Give the card another id in security.cryptkey.keys.vault.cards; or, if it takes that one's place, take that one out first: `nixos-cryptkey provider remove --key vault spare`.
    "#]],
    );
    check(
        &Refusal::Unanswered,
        Class::NoAnswer,
        &expect![[r#"
        tried: key vault: unlocking the card
        found: its PIN is to be typed, and nobody answered the question before
        advice: Start the unit again, and be there to answer.
    "#]],
    );
}
