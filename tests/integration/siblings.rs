//! Keys of one card that have specs of their own, as the units of the NixOS module do.

use std::{
    env, fs, io,
    os::unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    path::PathBuf,
    process::Stdio,
    thread,
    time::Duration,
};

use cryptkey::token::{Fault, Pcsc, Readers};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::support::{Client, Machine, Nitrokey, Running, TestCard, Yubikey, agent::Agent};

const SLOTS: [&str; 5] = ["9a", "9d", "9e", "82", "95"];
const SAME: [&str; 5] = ["9d"; 5];
const WAITS: &str = "waiting for another run to be done with the card in reader";

fn name(index: usize) -> String {
    format!("key-{index}")
}

/// A spec for a key in each of these slots.
fn specs<C: TestCard>(
    machine: &Machine,
    card: &C,
    slots: [&str; 5],
    extra: &Value,
) -> Vec<PathBuf> {
    let spec = |(index, slot): (usize, &str)| {
        let mut key = machine.key(card, extra.clone());
        key["slot"] = json!(slot);
        let others: Vec<_> = (0..slots.len()).filter(|other| *other != index).map(name).collect();
        let others: Vec<_> = others.iter().map(|name| &**name).collect();
        machine.own_spec(&name(index), key, &others)
    };
    slots.into_iter().enumerate().map(spec).collect()
}

fn start(machine: &Machine, specs: &[PathBuf]) -> Vec<Running> {
    specs.iter().map(|spec| machine.start_with(spec)).collect()
}

/// Waits for all of them; what became of each must be this.
fn finish(machine: &Machine, runs: Vec<Running>, result: &str) {
    for (index, run) in runs.into_iter().enumerate() {
        let output = machine.finish(run).exits(0);
        assert_eq!(output.result(&name(index)), result, "{output}");
    }
}

fn secrets_are_right<C: TestCard>(machine: &Machine, card: &C, slots: [&str; 5]) {
    for (index, slot) in slots.into_iter().enumerate() {
        let expected = machine.expected(&name(index), &[card.private_key(slot)], "backups");
        assert_eq!(machine.secret(&name(index), "backup"), expected);
    }
}

/// Each of them takes about as long as `cardTimeoutSec` allows all to wait.
#[test]
fn runs_that_start_at_once_take_turns_at_a_slow_card() {
    let machine = Machine::new(1);
    let card = Yubikey::with(&machine, 0, &["--apdu-latency-ms", "80"]);
    let specs = specs(&machine, &card, SLOTS, &json!({ "cardTimeoutSec": 1 }));
    finish(&machine, start(&machine, &specs), "enrolled");
    assert_eq!(card.generated(), SLOTS.len());
    secrets_are_right(&machine, &card, SLOTS);
    let before = card.log().len();
    finish(&machine, start(&machine, &specs), "verified");
    // Nobody asked the card for anything more than if he were alone.
    assert!(card.log_since(before).len() <= SLOTS.len() * 5, "{:#?}", card.log_since(before));
    assert_eq!(card.tries(), 3);
}

/// All want a key in the one slot that is empty, of a card that tells little: the first makes it.
#[test]
fn runs_that_start_at_once_take_turns_at_a_nitrokey() {
    let machine = Machine::new(1);
    let card = Nitrokey::new(&machine, 0);
    let specs = specs(&machine, &card, SAME, &json!({ "cardTimeoutSec": 0 }));
    finish(&machine, start(&machine, &specs), "enrolled");
    assert_eq!(card.generated(), 1);
    secrets_are_right(&machine, &card, SAME);
    finish(&machine, start(&machine, &specs), "verified");
}

/// All of them wait for a person, and none has any time to wait for the card.
#[test]
fn runs_that_wait_for_each_others_touch_do_not_wait_for_the_card() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let extra = json!({ "touchPolicy": "always", "touchTimeoutSec": 600, "cardTimeoutSec": 0 });
    let specs = specs(&machine, &card, SLOTS, &extra);
    card.tell("touch give");
    finish(&machine, start(&machine, &specs), "enrolled");

    card.tell("touch wait");
    let mut first = machine.start_with(&specs[0]);
    first.wait_for("touch card 90210001 now");
    let mut runs = vec![first];
    runs.extend(start(&machine, &specs[1..]));
    for run in &mut runs[1..] {
        run.wait_for(WAITS);
    }
    for _ in SLOTS {
        card.tell("wait touch");
        card.tell("touch once");
        // Until the card has felt it.
        while card.control("state").contains(r#""touch":"once""#) {
            thread::yield_now();
        }
    }
    finish(&machine, runs, "verified");
    secrets_are_right(&machine, &card, SLOTS);
}

/// The one who asked PC/SC for the card, which another program holds, and the one who waits for its
/// turn after him: both get it.
#[test]
fn runs_take_turns_after_another_program_too() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let specs = specs(&machine, &card, SLOTS, &json!({ "cardTimeoutSec": 600 }));
    let mut other = Client::connected(&machine, &card.reader(), "shared");
    other.ask("begin");
    let mut runs = start(&machine, &specs);
    for run in &mut runs {
        run.wait_for("waiting for");
    }
    other.ask("disconnect leave");
    finish(&machine, runs, "enrolled");
    secrets_are_right(&machine, &card, SLOTS);
}

/// A transaction that was asked for and began when its time was up keeps nobody from the card. The
/// one who asks is this test in a process of its own, for its environment.
#[test]
fn a_transaction_that_nobody_waits_for_any_more_is_not_held() {
    if let Some(reader) = env::var_os("SIBLINGS_READER") {
        let mut pcsc = Pcsc::default();
        let opened = pcsc.open(reader.to_str().unwrap(), Duration::from_millis(100));
        assert_eq!(opened.err(), Some(Fault::Held));
        eprintln!("it was held");
        // Until the other one has no more use for it.
        io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({ "cardTimeoutSec": 1 }));
    let mut other = Client::connected(&machine, &card.reader(), "shared");
    other.ask("begin");
    let mut asker = machine.pcscd.command(env::current_exe().unwrap());
    let this = "siblings::a_transaction_that_nobody_waits_for_any_more_is_not_held";
    asker.args(["--exact", this, "--nocapture"]).env("SIBLINGS_READER", card.reader());
    let mut asker = Running::start_with(asker, Stdio::piped());
    asker.wait_for("it was held");
    other.ask("disconnect leave");
    // Whoever comes first, the asker has its chance while another program computes.
    for result in ["enrolled", "verified", "verified"] {
        assert_eq!(machine.apply().exits(0).result("vault"), result);
        let expected = machine.expected("vault", &[card.private_key("9d")], "backups");
        assert_eq!(machine.secret("vault", "backup"), expected);
    }
    asker.output().exits(0);
}

/// What waiting for a turn took is not missing when the card is waited for.
#[test]
fn the_time_for_the_card_begins_after_the_turn() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    // What is waited for the turn is more than that.
    machine.vault(&card, json!({ "cardTimeoutSec": 15 }));
    machine.apply().exits(0);
    let held = hold_turn(&machine, &card);
    let path = machine.dir().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let mut command = machine.command(&["apply", "--json", "-vv"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut running = Running::start(command);
    // After one second, and five more each.
    for _ in 0..4 {
        let mut buffer = [0; 4096];
        while !buffer.starts_with(b"EXTEND_TIMEOUT_USEC=15000000") {
            buffer.fill(0);
            systemd.recv(&mut buffer).unwrap();
        }
    }
    card.remove();
    drop(held);
    running.wait_for("waiting for card 90210001");
    card.insert();
    assert_eq!(machine.finish(running).exits(0).result("vault"), "verified");
}

/// Takes the turn at a card's reader, as another run does.
pub fn hold_turn(machine: &Machine, card: &Yubikey) -> Flock<fs::File> {
    let lock = machine.runtime.join(".locks").join(format!("card@{}", card.reader()));
    let lock = fs::File::options().append(true).create(true).mode(0o600).open(lock).unwrap();
    Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap()
}

/// While a person is asked, and while a card is away, others have theirs.
#[test]
fn who_waits_for_a_person_or_for_an_absent_card_keeps_nobody_waiting() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    let key = |extra| machine.key(&card, extra);
    let asks = machine.own_spec("siblings-ask", key(json!({ "pin": { "ask": true } })), &["two"]);
    let absent = json!({ "cards": [{ "serial": "90210009" }], "cardTimeoutSec": 600 });
    let absent = machine.own_spec("absent", key(absent), &[]);
    let two = json!({ "slot": "82", "cardTimeoutSec": 0 });
    let two = machine.own_spec("two", key(two), &["siblings-ask"]);
    let mut asks = machine.start_with(&asks);
    asks.wait_for("asking for the PIN");
    let mut absent = machine.start_with(&absent);
    absent.wait_for("waiting for card 90210009");
    assert_eq!(machine.finish(machine.start_with(&two)).exits(0).result("two"), "enrolled");
    let _agent = Agent::answer("cryptkey:siblings-ask", Yubikey::PIN);
    assert_eq!(machine.finish(asks).exits(0).result("siblings-ask"), "enrolled");
    absent.kill();
}

/// The reader in which a key was enrolled is another run's now, and its card is in another one.
#[test]
fn a_card_in_another_reader_is_found_without_a_turn_at_the_usual_one() {
    let machine = Machine::new(2);
    let enrolled = Yubikey::new(&machine, 0);
    let moved = machine.own_spec("moved", machine.key(&enrolled, json!({})), &["touched"]);
    machine.finish(machine.start_with(&moved)).exits(0);
    let dir = enrolled.retire();
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let touched = json!({ "touchPolicy": "always", "cards": [{ "serial": "90210002" }] });
    let touched = machine.own_spec("touched", machine.key(&other, touched), &["moved"]);
    let mut running = machine.start_with(&touched);
    other.tell("wait touch");
    running.wait_for("touch card 90210002 now");
    let card = Yubikey::again(&machine, 1, dir);
    let key = machine.key(&card, json!({ "cardTimeoutSec": 0 }));
    let moved = machine.own_spec("moved", key, &["touched"]);
    assert_eq!(machine.finish(machine.start_with(&moved)).exits(0).result("moved"), "verified");
    other.tell("touch give");
    machine.finish(running).exits(0);
}

/// Whoever looks for the only card has to know what is in every reader, and so has its turn at all
/// of them.
#[test]
fn runs_that_look_for_the_only_card_do_not_get_into_each_others_way() {
    let machine = Machine::new(3);
    let other = Yubikey::with(&machine, 0, &["--serial", "90210002"]);
    let third = Yubikey::with(&machine, 2, &["--serial", "90210003"]);
    let card = Yubikey::new(&machine, 1);
    // Cards without PIV, for more looks than there will be.
    for _ in 0..100 {
        other.tell("fault ins a4 sw 6a82");
        third.tell("fault ins a4 sw 6a82");
    }
    let specs = specs(&machine, &card, SLOTS, &json!({ "cardTimeoutSec": 1 }));
    finish(&machine, start(&machine, &specs), "enrolled");
    secrets_are_right(&machine, &card, SLOTS);
}

/// Commands that change nothing take no turn.
#[test]
fn a_plan_waits_for_nobody_s_turn() {
    let machine = Machine::new(1);
    let card = Yubikey::new(&machine, 0);
    machine.vault(&card, json!({}));
    machine.run(&["plan"]).exits(0);
    machine.run(&["status"]).exits(0);
    machine.run(&["cards"]).exits(0);
    assert!(!machine.runtime.exists());
    machine.apply().exits(0);
    let held = hold_turn(&machine, &card);
    let plan = machine.run(&["plan"]).exits(0);
    assert!(plan.stdout.contains("key agreement"), "{plan}");
    let mut running = machine.start();
    running.wait_for(WAITS);
    drop(held);
    assert_eq!(machine.finish(running).exits(0).result("vault"), "verified");
}

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
