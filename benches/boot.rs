//! What a key's unit adds to the boot of a machine with a card that answers at once: containers of
//! `tests/vm`, with what the module yields for one key, for none, and for none but with a floor
//! program that only waits until pcscd shows the card. Run it with `make bench`; the argument is the
//! number of boots of each.
//!
//! Times are systemd's own. The machines take turns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

use std::{env, fs, time::Duration};

use pcsc::{Context, PNP_NOTIFICATION, ReaderState, Scope, State};
use serde_json::json;

use crate::support::{
    Card, Container,
    cryptkey::{self, UNIT},
};

#[allow(unused_imports)]
#[path = "../tests/vm/support/mod.rs"]
mod support;

/// The units log as they do without further ado.
const QUIET: &str = "security.cryptkey.verbosity = lib.mkForce 0;";
/// Ordered as a key's unit.
const FLOOR: &str = "[Unit]\nWants=pcscd.socket pcscd.service\nAfter=pcscd.socket dbus.service\n\
                     [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/bin/floor wait\n";

fn main() {
    let argument = env::args().nth(1).unwrap_or_default();
    if argument == "wait" {
        return wait_for_card();
    }
    let this = env::current_exe().unwrap();
    let floor = Container::new();
    floor.write("/usr/local/bin/floor", 0o755, fs::read(this).unwrap());
    floor.write("/etc/systemd/system/floor.service", 0o644, FLOOR);
    floor.wanted_by("floor.service", "multi-user.target");
    let mut machines = [Container::new(), floor, Container::new()];
    let keys = [cryptkey::evaluate(&json!({}), QUIET), cryptkey::vault(json!({}), QUIET)];
    let mut cards = Vec::new();
    for (machine, keys) in machines.iter_mut().zip([&keys[0], &keys[0], &keys[1]]) {
        machine.user("restic", 2001);
        cryptkey::install_all(machine, keys);
        cards.push(Card::inside(machine, &[]));
        // The key is enrolled, and what else a first boot does is done.
        machine.boot();
    }
    machines[2].says(UNIT, &["vault: enrolled"]);
    measure(&mut machines, argument.parse().unwrap_or(10));
}

fn measure(machines: &mut [Container; 3], boots: usize) {
    let [mut boot, mut unit] = [[const { Vec::new() }; 3], [const { Vec::new() }; 3]];
    for _ in 0..boots {
        for (machine, times) in machines.iter_mut().zip(&mut boot) {
            machine.reboot();
            times.push(since(machine, &[], "UserspaceTimestamp", "multi-user.target"));
        }
        let [_, floor, with] = &*machines;
        with.says(UNIT, &["vault: verified, added restic"]);
        let of = |machine, unit| since(machine, &[unit], "InactiveExitTimestamp", unit);
        unit[0].push(of(floor, "floor.service"));
        unit[1].push(of(with, UNIT));
        with.systemctl(&["restart", UNIT]).exits(0);
        unit[2].push(of(with, UNIT));
    }
    println!("boot of a container ({boots} of each, ms)");
    println!("  {:48}{:>8}{:>8}{:>8}", "", "median", "min", "max");
    let [without, floor, with] = boot;
    let without = report("to multi-user.target without a key", without);
    let floor = report("with a unit that waits until pcscd has the card", floor) - without;
    let with = report("with a key", with) - without;
    println!("  a key adds {with:.1}, of which {floor:.1} until pcscd has the card");
    let [floor, cold, warm] = unit;
    report("the unit that waits", floor);
    report("the key's unit", cold);
    report("the key's unit, while pcscd and polkitd run", warm);
}

/// From a timestamp of a unit (or of the machine) until a unit was active.
fn since(machine: &Container, unit: &[&str], from: &str, until: &str) -> Duration {
    let property = format!("--property={from}Monotonic");
    let show = [&["show", "--value", &property], unit].concat();
    let micros = |text: &str| text.trim().parse::<u64>().unwrap();
    let from = micros(&machine.systemctl(&show).exits(0).stdout);
    let until = micros(&machine.show(until, "ActiveEnterTimestampMonotonic"));
    Duration::from_micros(until - from)
}

/// Prints a line; the median, in milliseconds.
fn report(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort();
    let [min, median, max] =
        [0, times.len() / 2, times.len() - 1].map(|place| times[place].as_secs_f64() * 1000.0);
    println!("  {what:48}{median:>8.1}{min:>8.1}{max:>8.1}");
    median
}

/// Waits until a reader has a card.
fn wait_for_card() {
    let context = Context::establish(Scope::System).unwrap();
    let mut states = Vec::new();
    while !states.iter().any(|state: &ReaderState| state.event_state().contains(State::PRESENT)) {
        for state in &mut states {
            state.sync_current_state();
        }
        if states.len() < 2 {
            let readers = context.list_readers_owned().unwrap();
            let found = readers.into_iter().map(|name| ReaderState::new(name, State::UNAWARE));
            states = found.collect();
            states.push(ReaderState::new(PNP_NOTIFICATION(), State::UNAWARE));
        }
        context.get_status_change(None, &mut states).unwrap();
    }
}
