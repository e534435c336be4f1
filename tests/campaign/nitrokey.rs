//! The wrong answers of [`crate::cards`], from a card that nobody here wrote and that tells little.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::{
    cards::{CLASSES, STATUS_WORDS},
    chance::Chance,
    extent::{amount, tell},
    proxy::{Fault, Proxy},
    support::{Client, Machine, Nitrokey, Output, TestCard},
};

const READER: &str = "Yubico YubiKey CCID 0 00 00";

/// A machine with a card whose answers can be damaged.
struct Bench {
    machine: Machine,
    card: Nitrokey,
    proxy: Proxy,
}

impl Bench {
    fn new() -> Self {
        let machine = Machine::new(1);
        let proxy = Proxy::start(machine.pcscd.port(0));
        let card = Nitrokey::at_port(&machine, 0, TempDir::new().unwrap(), proxy.port());
        machine.vault(&card, json!({ "cardTimeoutSec": 20 }));
        Self { machine, card, proxy }
    }

    /// The lengths of the answers in a run that nobody disturbs.
    fn undisturbed(&self) -> Vec<usize> {
        self.proxy.take();
        self.machine.apply().exits(0);
        self.proxy.take()
    }

    /// The machine forgets the key; the card has it.
    fn forget(&self) {
        for entry in fs::read_dir(&self.machine.state).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        if self.machine.runtime.exists() {
            fs::remove_dir_all(&self.machine.runtime).unwrap();
        }
    }

    fn tries(&self) -> String {
        let mut client = Client::connected(&self.machine, READER, "shared");
        client.select();
        let status = client.status("0020008000");
        client.ask("disconnect reset");
        status
    }

    /// A run to which this happens, and the next one, to which nothing does.
    fn disturb(&self, nth: usize, fault: &Fault) -> Output {
        let what = format!("at APDU {nth} {fault:?}");
        let before = self.machine.published();
        self.proxy.take();
        self.proxy.fault(nth, fault.clone());
        let output = self.machine.apply();
        self.proxy.take();
        let code = output.code.unwrap();
        let named = CLASSES.iter().any(|class| i32::from(class.exit_code()) == code);
        assert!(code == 0 || named, "{what}: {output}");
        let after = self.machine.published();
        assert!(code == 0 || after == before, "{what}: {output}");
        let mut again = self.machine.apply();
        if again.code == Some(14) {
            let guids = ["pin", "forget", "--card", &self.machine.guid(0)];
            self.machine.run(&guids).exits(0);
            again = self.machine.apply();
        }
        assert_eq!(again.code, Some(0), "{what}: {output}{again}");
        assert!(code != 0 || self.machine.published() == after, "{what}: {output}{again}");
        output
    }
}

/// Of all that can be wrong with answers of these lengths (every status word, every length, flipped
/// bits), some.
fn faults(answers: &[usize], chance: &mut Chance) -> Vec<(usize, Fault)> {
    let mut all = Vec::new();
    for (index, &answer) in answers.iter().enumerate() {
        let words = STATUS_WORDS.iter().map(|word| Fault::Instead(word.to_be_bytes().to_vec()));
        let cuts = (1..answer).map(Fault::Cut);
        let flips: Vec<_> = (0..amount(4, 16))
            .map(|_| Fault::Flip(chance.below(answer), 1 << chance.below(8)))
            .collect();
        let faults = words.chain(cuts).chain(flips).chain([Fault::Forget]);
        all.extend(faults.map(|fault| (index + 1, fault)));
    }
    chance.some(all, amount(8, 500))
}

#[test]
fn wrong_answers_to_a_run_that_verifies() {
    let bench = Bench::new();
    bench.machine.apply().exits(0);
    let answers = bench.undisturbed();
    let (profile, published) =
        (fs::read(bench.machine.profile("vault")).unwrap(), bench.machine.published());
    let faults = faults(&answers, &mut Chance::of("Nitrokey, verify"));
    for (nth, fault) in &faults {
        bench.disturb(*nth, fault);
        assert_eq!(bench.machine.published(), published, "at APDU {nth} {fault:?}");
        assert_eq!(fs::read(bench.machine.profile("vault")).unwrap(), profile);
    }
    assert_eq!(bench.tries(), "63c3");
    tell(&format!("nitrokey: {} wrong answers to a run that verifies", faults.len()));
}

#[test]
fn wrong_answers_to_a_run_that_enrolls() {
    let bench = Bench::new();
    bench.machine.apply().exits(0);
    let key = bench.card.private_key("9d");
    bench.forget();
    let answers = bench.undisturbed();
    let faults = faults(&answers, &mut Chance::of("Nitrokey, enroll"));
    for (index, (nth, fault)) in faults.iter().enumerate() {
        bench.forget();
        bench.disturb(*nth, fault);
        // Once it is another one it stays another one.
        if index % 16 == 0 || index + 1 == faults.len() {
            assert_eq!(bench.card.private_key("9d"), key, "at APDU {nth} {fault:?}, or before");
        }
    }
    assert_eq!(bench.tries(), "63c3");
    tell(&format!(
        "nitrokey: {} wrong answers to a run that enrolls the key of a card",
        faults.len()
    ));
}
