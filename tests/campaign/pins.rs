//! What wrong PINs cost, over thousands of boots, each killed at any instant.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use cryptkey::kdf;
use serde_json::json;

use crate::{
    chance::Chance,
    extent::{amount, tell},
    support::{Machine, TestCard as _, Yubikey},
};

/// Most boots are over by then.
const LONGEST: usize = 8_000;

/// How boots ended.
#[derive(Default)]
struct Ends {
    killed: usize,
    rejected: usize,
    refused: usize,
}

/// Boots with the PIN that is in the file now; with a chance of one half it is killed within the first
/// milliseconds.
fn boot(machine: &Machine, chance: &mut Chance, ends: &mut Ends) {
    let mut command: Command = machine.command(&["apply"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if chance.below(2) == 0 {
        // No event is awaited: any instant is as good.
        thread::sleep(Duration::from_micros(chance.below(LONGEST) as u64));
        child.kill().unwrap();
    }
    match child.wait().unwrap().code() {
        None => ends.killed += 1,
        Some(15) => ends.rejected += 1,
        Some(14) => ends.refused += 1,
        code => panic!("exit code {code:?}"),
    }
}

/// What there was before the boots that are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A boot with the right PIN.
    GoodBoot,
    /// The same; then the card got another PIN, and the file did not.
    ChangedOnTheCard,
}

fn wrong(number: usize) -> String {
    format!("{:06}", 200_000 + number)
}

/// So many boots with different wrong PINs in turns; the tries that they cost, and how many of the PINs
/// the guard can tell apart: of 12 PINs two have one tag in one of 62 runs.
fn cost(what: &str, boots: usize, pins: usize, tries: u8, before: Before) -> (u64, u64) {
    let machine = Machine::new(1);
    let mut card = Yubikey::with(&machine, 0, &["--pin-tries", &tries.to_string()]);
    let file = machine.secret_file("vault.pin", Yubikey::PIN);
    machine.vault(&card, json!({ "pin": file }));
    if before != Before::Nothing {
        machine.apply().exits(0);
    }
    let pin = |number: usize| match before {
        Before::ChangedOnTheCard => Yubikey::PIN.to_owned(),
        _ => wrong(number % pins),
    };
    if before == Before::ChangedOnTheCard {
        card = card.with_pin(&machine, "704194");
    }
    let mut chance = Chance::of(what);
    let mut ends = Ends::default();
    for number in 0..boots {
        machine.secret_file("vault.pin", &pin(number));
        boot(&machine, &mut chance, &mut ends);
    }
    // The last one is left alone, so that whatever was under way is seen by somebody.
    machine.secret_file("vault.pin", &pin(0));
    let code = machine.apply().code;
    assert!(matches!(code, Some(14 | 15)), "{code:?}");
    let spent = u64::from(tries) - card.tries();
    let Ends { killed, rejected, refused } = ends;
    tell(&format!(
        "{what}: {boots} boots ({killed} killed, {rejected} told of a rejection, {refused} refused to \
         present), {pins} wrong PINs, a card with {tries} tries: {spent} spent"
    ));
    (spent, tags(&machine, pins))
}

/// How many tags that many wrong PINs have.
fn tags(machine: &Machine, pins: usize) -> u64 {
    let record = fs::read_to_string(machine.state.join("pin-guard")).unwrap();
    let record: toml::Table = record.parse().unwrap();
    let key = base16ct::lower::decode_vec(record["key"].as_str().unwrap()).unwrap();
    let tag = |number| {
        let padded: [u8; 8] =
            format!("{}\u{0}\u{0}", wrong(number)).into_bytes().try_into().unwrap();
        let [high, low] = kdf::pin_tag(
            &padded.map(|b| if b == 0 { 0xff } else { b }),
            &key[..].try_into().unwrap(),
        );
        [high & 0x0f, low]
    };
    let tags: BTreeSet<_> = (0..pins).map(tag).collect();
    tags.len().try_into().unwrap()
}

#[test]
fn one_wrong_pin_costs_one_try() {
    let boots = amount(300, 10_000);
    assert_eq!(cost("a wrong PIN file from the first boot on", boots, 1, 3, Before::Nothing).0, 1);
    assert_eq!(
        cost("a PIN file that went wrong after good boots", boots, 1, 3, Before::GoodBoot).0,
        1
    );
}

/// The one case that may cost one more: killed in that very instant.
#[test]
fn a_pin_that_was_changed_on_the_card_costs_two_tries_at_most() {
    let boots = amount(300, 10_000);
    let what = "the accepted PIN, changed on the card";
    let spent = cost(what, boots, 1, 15, Before::ChangedOnTheCard).0;
    assert!((1..=2).contains(&spent), "{spent}");
}

#[test]
fn twelve_wrong_pins_cost_twelve_tries() {
    let (spent, tags) = cost("wrong PINs in turns", amount(600, 12_000), 12, 15, Before::Nothing);
    assert_eq!(spent, tags);
    assert!(tags >= 10, "{tags}");
}

#[test]
fn a_card_is_never_locked() {
    assert_eq!(cost("ever another wrong PIN", amount(100, 3_000), 3_000, 3, Before::Nothing).0, 2);
}
