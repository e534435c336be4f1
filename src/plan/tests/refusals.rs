//! The refusals, word for word, each with its class.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use expect_test::{Expect, expect};

use super::super::{Mistrust, Refusal};
use crate::{
    error::Class,
    token::guard::Rejection,
    token::{CardName, Fingerprint, Guid, PinPolicy, Serial, Slot, TouchPolicy},
};

pub fn check(refusal: &Refusal, class: Class, text: &Expect) {
    let error = refusal.error("vault");
    assert_eq!(error.class, class, "{refusal:?}");
    text.assert_eq(&format!(
        "tried: {}\nfound: {}\nadvice: {}\n",
        error.tried, error.found, error.advice
    ));
}

const SLOT: Slot = Slot::KEY_MANAGEMENT;

#[test]
fn before_a_card_is_looked_for() {
    let id = || "0123456789abcdef0123456789abcdef".to_owned();
    check(
        &Refusal::ProfileLost { id: id() },
        Class::Profile,
        &expect![[r#"
            tried: key vault: looking for its profile
            found: profile 0123456789abcdef0123456789abcdef is declared and is not there
            advice: Restore the profile from a backup, or mount the state directory. Only if every secret of this key may change, remove security.cryptkey.keys.vault.profileId to enroll a new key.
        "#]],
    );
    check(
        &Refusal::ProfileGone,
        Class::Profile,
        &expect![[r#"
            tried: key vault: looking for its profile
            found: there is none, and its secrets are published: it had one in this boot
            advice: Nothing was changed. If stateDir, security.cryptkey.keys.vault.profile or the key's name was changed, change that back, or move the profile along. Otherwise mount the state directory, or restore the profile from a backup. Only if every secret of this key may change: `systemctl restart cryptkey-vault` makes a new key; without the module, `nixos-cryptkey scrub --key vault` and then `apply`.
        "#]],
    );
    let found = "fedcba9876543210fedcba9876543210".to_owned();
    check(
        &Refusal::OtherProfile { declared: id(), found },
        Class::Profile,
        &expect![[r#"
            tried: key vault: checking its profile
            found: the spec declares profile 0123456789abcdef0123456789abcdef, and this one is fedcba9876543210fedcba9876543210
            advice: Nothing was changed. Restore the declared profile. Only if this one is right, set security.cryptkey.keys.vault.profileId = "fedcba9876543210fedcba9876543210";.
        "#]],
    );
    let cards = vec![CardName { serial: Serial::new(12_345_678), guid: None }];
    check(
        &Refusal::Unlisted { cards },
        Class::Spec,
        &expect![[r#"
        tried: key vault: opening its profile
        found: it is sealed to card 12345678, which `cards` does not list
        advice: Add the card to security.cryptkey.keys.vault.cards, or restore the right profile.
    "#]],
    );
    check(
        &Refusal::Nameless,
        Class::Card,
        &expect![[r#"
        tried: key vault: enrolling
        found: the card has neither a serial nor a GUID, by which it could be known again
        advice: Write a CHUID to it (`ykman piv objects generate chuid`), and start over.
    "#]],
    );
    check(
        &Refusal::StateInRam,
        Class::Profile,
        &expect![[r#"
        tried: key vault: enrolling
        found: the state directory is on a RAM file system, where the profile would be lost at the next power-off, and every secret with it
        advice: Mount a persistent file system there, or set stateDir to a directory on one.
    "#]],
    );
    check(
        &Refusal::NotEnrolled,
        Class::Profile,
        &expect![[r#"
        tried: key vault: looking for its profile
        found: there is none, and enroll is "never"
        advice: Restore the profile from a backup, or set security.cryptkey.keys.vault.enroll to "auto" to make one.
    "#]],
    );
    let others = vec!["passphrase".into(), "recovery".into()];
    check(
        &Refusal::OutOfReach { threshold: 2, cards: 1, typed: 0, others, asks: true },
        Class::Profile,
        &expect![[r#"
            tried: key vault: opening its profile
            found: it takes 2 providers; there are: cards 1, passphrases and recovery codes 0, of other types: passphrase, recovery
            advice: It can't be opened here. Restore a profile that has more providers from a backup, or open it with a program that knows the other ones.
        "#]],
    );
    let sealed = "82".parse().expect("a slot");
    check(
        &Refusal::OtherSlot { card: CardName::default(), declared: SLOT, sealed },
        Class::Spec,
        &expect![[r#"
            tried: key vault: opening its profile
            found: the spec declares slot 9d of a card without serial and GUID, and the profile is sealed to 82
            advice: Set security.cryptkey.keys.vault.slot to "82"; or, where the cards differ, the slot of this card in security.cryptkey.keys.vault.cards.
        "#]],
    );
}

#[test]
fn about_the_slot() {
    let profile = "/var/lib/cryptkey/old.toml".to_owned();
    check(
        &Refusal::Orphan { profile, slot: SLOT },
        Class::Profile,
        &expect![[r#"
            tried: key vault: enrolling
            found: /var/lib/cryptkey/old.toml is sealed to slot 9d of this card, and the spec does not name it
            advice: If the key was renamed, rename that file to vault.toml; if it is not wanted any more, move it out of the state directory. If another spec declares the key, list it in `otherKeys`. Otherwise choose another slot.
        "#]],
    );
    let sealed = Fingerprint([1; 32]);
    let found = Ok(Fingerprint([2; 32]));
    check(
        &Refusal::KeyChanged { slot: SLOT, sealed, found },
        Class::KeyChanged,
        &expect![[r#"
            tried: key vault: checking the card before its PIN is spent
            found: slot 9d holds SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI, and the profile is sealed to SHA256:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE
            advice: Insert the card that was enrolled. If its key was replaced, the secrets are gone unless another provider opens the profile.
        "#]],
    );
    let found = Err("P-384".into());
    check(
        &Refusal::KeyChanged { slot: SLOT, sealed, found },
        Class::KeyChanged,
        &expect![[r#"
            tried: key vault: checking the card before its PIN is spent
            found: slot 9d holds a key of another kind (P-384), and the profile is sealed to SHA256:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE
            advice: Insert the card that was enrolled. If its key was replaced, the secrets are gone unless another provider opens the profile.
        "#]],
    );
    check(
        &Refusal::SlotEmptied { slot: SLOT },
        Class::KeyChanged,
        &expect![[r#"
            tried: key vault: checking the card before its PIN is spent
            found: slot 9d is empty, and the profile is sealed to a key in it
            advice: Insert the card that was enrolled. If it was reset, the secrets are gone unless another provider opens the profile.
        "#]],
    );
    let kind = "RSA 2048".into();
    check(
        &Refusal::OtherKind { slot: SLOT, kind },
        Class::KeyChanged,
        &expect![[r#"
            tried: key vault: enrolling
            found: slot 9d holds a key of another kind (RSA 2048), and a P-256 key is needed
            advice: Choose an empty slot with security.cryptkey.keys.vault.slot.
        "#]],
    );
}

#[test]
fn about_what_cannot_serve() {
    let declared = (PinPolicy::Once, TouchPolicy::Never);
    let found = (PinPolicy::Always, TouchPolicy::Cached);
    check(
        &Refusal::OtherPolicies { declared, found },
        Class::KeyChanged,
        &expect![[r#"
            tried: key vault: checking the policies of the card's key
            found: its key has PIN policy always and touch policy cached, and the spec declares once and never
            advice: Declare what the key has (security.cryptkey.keys.vault.pinPolicy = "always", security.cryptkey.keys.vault.touchPolicy = "cached"), or choose another slot: policies are fixed when a key is generated.
        "#]],
    );
    check(
        &Refusal::CannotTell,
        Class::Card,
        &expect![[r#"
        tried: key vault: enrolling
        found: the card does not tell whether the slot is empty, and it holds no usable P-256 key
        advice: Generate a P-256 key in the slot with the maker's tool, or choose another slot with security.cryptkey.keys.vault.slot. Nothing was generated, so that no key was destroyed.
    "#]],
    );
    let none = Refusal::NoManagementKey { factory_default: Some(false), overwrites: false };
    check(
        &none,
        Class::Spec,
        &expect![[r#"
        tried: key vault: enrolling
        found: the slot is empty, and generating a key takes the card's management key, of which the spec says nothing
        advice: Change it with `ykman piv access change-management-key --protect` and set security.cryptkey.keys.vault.managementKey to {"protected": true}; or name a file that holds it with {"file": …}; or allow the maker's with {"factoryDefault": true}.
    "#]],
    );
    let factory = Refusal::NoManagementKey { factory_default: Some(true), overwrites: false };
    check(
        &factory,
        Class::Spec,
        &expect![[r#"
        tried: key vault: enrolling
        found: the slot is empty, and generating a key takes the card's management key, which is still the one that every card is shipped with
        advice: Change it with `ykman piv access change-management-key --protect` and set security.cryptkey.keys.vault.managementKey to {"protected": true}; or name a file that holds it with {"file": …}; or allow the maker's with {"factoryDefault": true}.
    "#]],
    );
}

#[test]
fn about_another_card() {
    let name = |guid| CardName { serial: Serial::new(12_345_678), guid: Guid::new([guid; 16]) };
    let card = |keys| Refusal::OtherCard { sealed: name(1), found: name(2), keys };
    check(
        &card(None),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card before its PIN is spent
        found: card 12345678 is another card than the enrolled one that goes by this name: it is serial 12345678 with GUID 02020202020202020202020202020202, and the enrolled one serial 12345678 with GUID 01010101010101010101010101010101
        advice: Insert the card that was enrolled. If this is it, its PIV application was reset or set up anew, and the secrets are gone unless another provider opens the profile.
    "#]],
    );
    let key = |n| Fingerprint([n; 32]);
    check(
        &card(Some((key(1), Some(key(2))))),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card before its PIN is spent
        found: card 12345678 is another card than the enrolled one that goes by this name: its attestation key is SHA256:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI, and that of the enrolled one SHA256:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE
        advice: Insert the card that was enrolled. If this is it, its PIV application was reset or set up anew, and the secrets are gone unless another provider opens the profile.
    "#]],
    );
    check(
        &card(Some((key(1), None))),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card before its PIN is spent
        found: card 12345678 is another card than the enrolled one that goes by this name: it has no attestation key, and the enrolled one has SHA256:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE
        advice: Insert the card that was enrolled. If this is it, its PIV application was reset or set up anew, and the secrets are gone unless another provider opens the profile.
    "#]],
    );
    let sealed = (PinPolicy::Once, TouchPolicy::Never);
    let found = (PinPolicy::Always, TouchPolicy::Cached);
    let changed = Refusal::PoliciesChanged { slot: SLOT, sealed, found };
    check(
        &changed,
        Class::KeyChanged,
        &expect![[r#"
            tried: key vault: checking the card before its PIN is spent
            found: the key in slot 9d has PIN policy always and touch policy cached, and its profile remembers once and never
            advice: The key was imported again with others, the card changed them when it refused to generate a key, it is another card with a copy of the key, or the profile was tampered with. If you know that they are right, declare them in security.cryptkey.keys.vault, and then, with THRESHOLD as it is: `nixos-cryptkey reseal --key vault --threshold THRESHOLD --accept-policies`. Otherwise insert the card that was enrolled, or restore the profile.
        "#]],
    );
}

#[test]
fn about_the_attestation() {
    let refusal = |why| Refusal::Attestation { slot: SLOT, why };
    let why = "CN=Card: its issuer, CN=Root, is not among the roots".to_owned();
    check(
        &refusal(Mistrust::Unable),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card's attestation
        found: the card makes none: it has no attestation key
        advice: Use a card that can, or set security.cryptkey.keys.vault.attestation.policy to "if-available" to do without.
    "#]],
    );
    check(
        &refusal(Mistrust::Unattested),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card's attestation
        found: there is none of the key in slot 9d: the card did not make it itself
        advice: Choose an empty slot with security.cryptkey.keys.vault.slot, in which the card makes a key; or set security.cryptkey.keys.vault.attestation.policy to "if-available" to do without.
    "#]],
    );
    check(
        &refusal(Mistrust::Untrusted(why.clone())),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card's attestation
        found: CN=Card: its issuer, CN=Root, is not among the roots
        advice: If the card is genuine, security.cryptkey.keys.vault.attestation.roots lacks its maker's root, or what is between the two: Yubico's are at https://developers.yubico.com/PKI/. Otherwise do not trust this card. Nothing was written.
    "#]],
    );
    check(
        &refusal(Mistrust::Bad(why)),
        Class::KeyChanged,
        &expect![[r#"
        tried: key vault: checking the card's attestation
        found: CN=Card: its issuer, CN=Root, is not among the roots
        advice: Do not trust this card, unless security.cryptkey.keys.vault.attestation.roots lacks its maker's root or what is between the two: Yubico's are at https://developers.yubico.com/PKI/. No profile was written.
    "#]],
    );
}

#[test]
fn about_the_pin() {
    check(
        &Refusal::NoPin,
        Class::Spec,
        &expect![[r#"
        tried: key vault: unlocking the card
        found: its PIN is needed, and the spec names none
        advice: Set security.cryptkey.keys.vault.pin.
    "#]],
    );
    check(
        &Refusal::TooFewTries { left: 1, wanted: 2 },
        Class::PinRefused,
        &expect![[r#"
            tried: key vault: unlocking the card
            found: tries left for its PIN: 1; wanted are at least 2
            advice: Nothing was presented. Present the right PIN by hand (`ykman piv access verify-pin`), which restores the tries, or set a new one with the PUK (`ykman piv access unblock-pin`).
        "#]],
    );
    check(
        &Refusal::TooFewTries { left: 0, wanted: 2 },
        Class::PinRefused,
        &expect![[r#"
            tried: key vault: unlocking the card
            found: its PIN is blocked: it has no tries left
            advice: Nothing was presented. Unblock the PIN with the PUK (`ykman piv access unblock-pin`).
        "#]],
    );
    let rejection = Rejection {
        card: CardName { serial: Serial::new(12_345_678), guid: None },
        at: "2026-11-21T11:59:59Z".into(),
        key: "desk".into(),
        left: 2,
        told: true,
    };
    let untold = Rejection { told: false, ..rejection.clone() };
    check(
        &Refusal::PinRemembered(untold),
        Class::PinRefused,
        &expect![[r#"
        tried: key vault: unlocking the card
        found: this very PIN was presented to card 12345678 at 2026-11-21T11:59:59Z for key desk, in a run that did not live to hear the answer, and a try was gone; tries left then: 2
        advice: Nothing was presented. Correct the PIN that security.cryptkey.keys.vault.pin names. If it is right by now, or always was: `nixos-cryptkey pin forget --card 12345678`.
    "#]],
    );
    check(
        &Refusal::PinRemembered(rejection),
        Class::PinRefused,
        &expect![[r#"
            tried: key vault: unlocking the card
            found: card 12345678 rejected this very PIN at 2026-11-21T11:59:59Z, when key desk presented it; tries left then: 2
            advice: Nothing was presented. Correct the PIN that security.cryptkey.keys.vault.pin names. If it is right by now, or always was: `nixos-cryptkey pin forget --card 12345678`.
        "#]],
    );
    check(
        &Refusal::PinRejected { left: 2 },
        Class::PinWrong,
        &expect![[r#"
            tried: key vault: unlocking the card
            found: the card rejected the PIN in this run; tries left: 2
            advice: Correct the PIN that security.cryptkey.keys.vault.pin names.
        "#]],
    );
    check(
        &Refusal::PinUnresolved,
        Class::PinRefused,
        &expect![[r#"
            tried: key vault: unlocking the card
            found: the card went away while it checked the PIN, or gave no clear answer
            advice: It may have cost a try, so that it is not presented again in this run. Insert the card firmly and start over.
        "#]],
    );
}
