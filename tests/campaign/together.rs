//! Many at once: all keys of a machine, on one card and on several, some of them killed; several runs
//! of one key; another program that takes the card and lets go of it; wrong PINs everywhere.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    chance::Chance,
    extent::{amount, tell},
    support::{Client, Machine, Output, Running, TestCard, Yubikey},
};

const SLOTS: [&str; 6] = ["9a", "9d", "9e", "82", "83", "95"];
/// What is waited between two kills, at most: all runs together take a few times that.
const PAUSE_MS: usize = 60;

/// A key with a spec of its own, as a unit has it.
struct Unit {
    name: String,
    slot: &'static str,
    spec: PathBuf,
}

/// A unit for each of these slots, on the card with this serial. `extra` says what is special of
/// the key with a number.
fn units(
    machine: &Machine,
    card: &Yubikey,
    serial: &str,
    slots: &[&'static str],
    extra: impl Fn(usize) -> Value,
) -> Vec<Unit> {
    let name = |index: usize| format!("key-{index}");
    let unit = |(index, &slot): (usize, &&'static str)| {
        let mut key = machine.key(card, json!({ "slot": slot, "cardTimeoutSec": 600 }));
        key["cards"] = json!([{ "serial": serial }]);
        crate::support::machine::merge(&mut key, extra(index));
        let others: Vec<_> = (0..slots.len()).filter(|other| *other != index).map(name).collect();
        let others: Vec<_> = others.iter().map(|name| &**name).collect();
        let name = format!("{}-{serial}", name(index));
        let others: Vec<_> = others.iter().map(|other| format!("{other}-{serial}")).collect();
        let others: Vec<_> = others.iter().map(|other| &**other).collect();
        Unit { spec: machine.own_spec(&name, key, &others), name, slot }
    };
    slots.iter().enumerate().map(unit).collect()
}

fn start(machine: &Machine, units: &[Unit]) -> Vec<Running> {
    units.iter().map(|unit| machine.start_with(&unit.spec)).collect()
}

/// Waits for all, after chance has killed some of them; those that were killed are left out.
fn finish(machine: &Machine, mut runs: Vec<Running>, kill: Option<&mut Chance>) -> Vec<Output> {
    if let Some(chance) = kill {
        for _ in 0..chance.below(runs.len()) {
            thread::sleep(Duration::from_millis(chance.below(PAUSE_MS) as u64));
            let victim = chance.below(runs.len());
            runs[victim].kill();
        }
    }
    let outputs = runs.into_iter().map(|run| machine.finish(run));
    outputs.filter(|output| output.code.is_some()).collect()
}

/// After an undisturbed round every key is right, and no more was done to the card than was due.
fn all_is_well(machine: &Machine, card: &Yubikey, units: &[Unit]) {
    for output in finish(machine, start(machine, units), None) {
        output.exits(0);
    }
    for unit in units {
        let expected = machine.expected(&unit.name, &[card.private_key(unit.slot)], "backups");
        assert_eq!(machine.secret(&unit.name, "backup"), expected, "{}", unit.name);
    }
    assert_eq!(card.tries(), 3);
    let log = card.log();
    assert!(log.iter().all(|apdu| !apdu.verifies() || apdu.status == "9000"), "{log:#?}");
    let generated = log.iter().filter(|apdu| apdu.generates() && apdu.status == "9000").count();
    assert_eq!(generated, units.len(), "{log:#?}");
}

#[test]
fn all_keys_of_one_card_at_once_and_some_are_killed() {
    let mut chance = Chance::of("one card");
    let (rounds, mut runs, mut killed) = (amount(2, 40), 0, 0);
    for _ in 0..rounds {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let units = units(&machine, &card, Yubikey::SERIAL, &SLOTS, |_| json!({}));
        for _ in 0..3 {
            let outputs = finish(&machine, start(&machine, &units), Some(&mut chance));
            runs += units.len();
            killed += units.len() - outputs.len();
            for output in outputs {
                output.exits(0);
            }
        }
        all_is_well(&machine, &card, &units);
    }
    tell(&format!(
        "together: {runs} runs of six keys at once on one card, {killed} of them killed"
    ));
}

#[test]
fn all_keys_of_three_cards_at_once_and_some_are_killed() {
    let mut chance = Chance::of("three cards");
    let (rounds, mut runs, mut killed) = (amount(1, 20), 0, 0);
    for _ in 0..rounds {
        let machine = Machine::new(3);
        let serials = ["90210001", "90210002", "90210003"];
        let cards: Vec<_> = serials
            .iter()
            .enumerate()
            .map(|(reader, serial)| Yubikey::with(&machine, reader, &["--serial", serial]))
            .collect();
        let sets: Vec<_> = cards
            .iter()
            .zip(serials)
            .map(|(card, serial)| units(&machine, card, serial, &SLOTS[..2], |_| json!({})))
            .collect();
        for _ in 0..2 {
            let all = sets.iter().flat_map(|units| start(&machine, units)).collect();
            let outputs = finish(&machine, all, Some(&mut chance));
            runs += 6;
            killed += 6 - outputs.len();
            for output in outputs {
                output.exits(0);
            }
        }
        for (card, units) in cards.iter().zip(&sets) {
            all_is_well(&machine, card, units);
        }
    }
    tell(&format!("together: {runs} runs of six keys at once on three cards, {killed} killed"));
}

#[test]
fn several_runs_of_one_key_at_once_and_some_are_killed() {
    let mut chance = Chance::of("one key");
    let (rounds, mut runs, mut killed) = (amount(2, 40), 0, 0);
    for _ in 0..rounds {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let units = units(&machine, &card, Yubikey::SERIAL, &SLOTS[..1], |_| json!({}));
        for _ in 0..2 {
            let all = (0..3).flat_map(|_| start(&machine, &units)).collect();
            let outputs = finish(&machine, all, Some(&mut chance));
            runs += 3;
            killed += 3 - outputs.len();
            for output in outputs {
                output.exits(0);
            }
        }
        all_is_well(&machine, &card, &units);
    }
    tell(&format!("together: {runs} runs, three at once of one key, {killed} of them killed"));
}

/// Takes the card and lets go of it, in a transaction or for itself, until it is to stop; how often.
fn use_card(machine: &mut Client, reader: &str, chance: &mut Chance, stop: &AtomicBool) -> usize {
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        let exclusive = chance.below(3) == 0;
        let share = if exclusive { "exclusive" } else { "shared" };
        // What fails, because the run has the card, is tried again.
        let connected = machine.try_ask(&format!("connect {share} {reader}")).starts_with("ok");
        if connected && (exclusive || machine.try_ask("begin").starts_with("ok")) {
            times += 1;
            thread::sleep(Duration::from_millis(chance.below(120) as u64));
        }
        if connected {
            let end = ["leave", "reset"][chance.below(2)];
            machine.try_ask(&format!("disconnect {end}"));
        }
        thread::sleep(Duration::from_millis(chance.below(60) as u64));
    }
    times
}

#[test]
fn beside_another_program_that_takes_the_card_again_and_again() {
    let mut chance = Chance::of("another program");
    let (rounds, mut times) = (amount(1, 12), 0);
    for _ in 0..rounds {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let units = units(&machine, &card, Yubikey::SERIAL, &SLOTS[..3], |_| json!({}));
        let stop = AtomicBool::new(false);
        let mut other = Client::new(&machine);
        let reader = card.reader();
        thread::scope(|scope| {
            let other = scope.spawn(|| use_card(&mut other, &reader, &mut chance, &stop));
            for _ in 0..3 {
                let outputs = finish(&machine, start(&machine, &units), None);
                let failed = outputs.iter().find(|output| output.code != Some(0));
                if let Some(output) = failed {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{output}");
                }
            }
            stop.store(true, Ordering::Relaxed);
            times += other.join().unwrap();
        });
        all_is_well(&machine, &card, &units);
    }
    tell(&format!(
        "together: {} runs beside another program that took the card {times} times",
        rounds * 9
    ));
}

/// Each try that is spent is spent by one run, whichever it is and whoever is killed.
#[test]
fn one_wrong_pin_in_all_keys_costs_one_try() {
    let mut chance = Chance::of("one wrong PIN");
    let (rounds, mut runs, mut killed) = (amount(2, 40), 0, 0);
    for _ in 0..rounds {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let wrong = machine.secret_file("wrong.pin", "583920");
        let units_with = |pin: &Value| {
            units(&machine, &card, Yubikey::SERIAL, &SLOTS, |_| json!({ "pin": pin }))
        };
        let units = units_with(&wrong);
        for round in 0..4 {
            // The last one is whole, so that there is a presentation at all.
            let kill = (round < 3).then_some(&mut chance);
            let outputs = finish(&machine, start(&machine, &units), kill);
            runs += units.len();
            killed += units.len() - outputs.len();
            for output in outputs {
                assert!(matches!(output.code, Some(14 | 15)), "{output}");
            }
            assert!(card.tries() >= 2, "{:#?}", card.log());
        }
        assert_eq!((card.tries(), card.presented()), (2, 1));
        let right = machine.secret_file("right.pin", Yubikey::PIN);
        for output in finish(&machine, start(&machine, &units_with(&right)), None) {
            output.exits(0);
        }
    }
    tell(&format!(
        "together: {rounds} cards, {runs} runs of six keys at once with one wrong PIN, {killed} of \
         them killed: 1 try spent on each card"
    ));
}

#[test]
fn different_wrong_pins_leave_a_try() {
    let rounds = amount(1, 15);
    for _ in 0..rounds {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        let pin = |index| machine.secret_file(&format!("{index}.pin"), &format!("58392{index}"));
        let units =
            units(&machine, &card, Yubikey::SERIAL, &SLOTS, |index| json!({ "pin": pin(index) }));
        for _ in 0..2 {
            for output in finish(&machine, start(&machine, &units), None) {
                assert!(matches!(output.code, Some(14 | 15)), "{output}");
            }
        }
        assert_eq!((card.tries(), card.presented()), (1, 2), "{:#?}", card.log());
    }
    tell(&format!(
        "together: {rounds} cards with 3 tries, six wrong PINs at once, twice: 2 tries spent on each"
    ));
}
