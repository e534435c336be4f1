//! A machine and a card at the beginning of a flow, again and again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cryptkey::error::Class;
use serde_json::{Value, json};
use virtual_card::stack::Pcscd;

use super::Flow;
use crate::support::{Machine, Output, TestCard, Yubikey, cards::Apdu, machine::merge};

const FACTORY: &str = "010203040506070801020304050607080102030405060708";
const SLOT: &str = "9d";

/// A machine and a card at the beginning of a flow.
pub struct Bench {
    pub machine: Machine,
    /// None only while it is replaced.
    card: Option<Yubikey>,
    pub flow: &'static Flow,
    begin: State,
    /// The APDUs of a run that nobody disturbs, with the lengths of their answers.
    pub apdus: Vec<Sent>,
    /// What such a run publishes where the key was enrolled before: an enrollment draws it.
    end: Option<Published>,
}

/// An APDU of the undisturbed run.
pub struct Sent {
    pub ins: u8,
    /// The length of its answer's data.
    pub answer: usize,
}

type Published = BTreeMap<String, Vec<u8>>;

/// All that a run may change.
#[derive(PartialEq, Eq)]
struct State {
    card: String,
    profiles: BTreeMap<String, Vec<u8>>,
    published: Published,
}

impl Bench {
    /// `timeout` is the spec's `cardTimeoutSec`.
    pub fn new(flow: &'static Flow, timeout: u32) -> Self {
        let machine = Machine::new(1);
        let card = Yubikey::with(&machine, 0, flow.card);
        flow.touch(&card);
        if flow.protected {
            protect(&machine, &card);
        }
        if let Some(enrolled) = flow.enrolled {
            machine.vault(&card, enrolled());
            machine.apply().exits(0);
        }
        let mut key = json!({ "cardTimeoutSec": timeout });
        merge(&mut key, (flow.key)());
        if flow.attests {
            let roots = [card.root_file(&machine)];
            key["attestation"] = json!({ "policy": "required", "roots": roots });
        }
        machine.vault(&card, key);
        let begin = State::of(&machine, &card);
        let mut bench =
            Self { machine, card: Some(card), flow, begin, apdus: Vec::new(), end: None };
        bench.keep("begin");
        let log = bench.card().dir().join("apdu.log");
        empty(&log);
        bench.machine.apply().exits(0);
        bench.apdus = fs::read_to_string(log).unwrap().lines().map(Sent::parse).collect();
        bench.end = flow.enrolled.map(|_| bench.state().published);
        bench
    }

    pub fn card(&self) -> &Yubikey {
        self.card.as_ref().unwrap()
    }

    fn state(&self) -> State {
        State::of(&self.machine, self.card())
    }

    fn kept(&self, what: &str, part: &str) -> PathBuf {
        self.machine.dir().join(what).join(part)
    }

    /// Keeps a copy of the state directory and the published set.
    fn keep(&self, what: &str) {
        for (dir, part) in [(&self.machine.state, "state"), (&self.machine.runtime, "run")] {
            let to = self.kept(what, part);
            fs::create_dir_all(&to).unwrap();
            if dir.exists() {
                copy(dir, &to);
            }
        }
    }

    /// Back to the beginning.
    pub fn restore(&self) {
        let card = self.card();
        assert_eq!(card.control("faults clear"), "ok");
        empty(&card.dir().join("apdu.log"));
        let now = self.state();
        if now.card != self.begin.card {
            fs::write(card.dir().join("card.json"), &self.begin.card).unwrap();
            card.tell("reload");
        }
        let parts = [
            (now.profiles != self.begin.profiles, &self.machine.state, "state"),
            (now.published != self.begin.published, &self.machine.runtime, "run"),
        ];
        for (_, dir, part) in parts.into_iter().filter(|(changed, ..)| *changed) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let is_dir = path.is_dir() && !path.is_symlink();
                if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
            }
            copy(&self.kept("begin", part), dir);
        }
    }

    /// Has a fault happen at the `nth` APDU.
    pub fn fault(&self, nth: usize, action: &str) {
        self.card().tell(&format!("fault nth {nth} {action}"));
    }

    /// Kills the card's process; [`Self::again`] starts it again.
    pub fn lose_card(&mut self) -> tempfile::TempDir {
        self.card.take().unwrap().kill()
    }

    /// The card comes back.
    pub fn again(&mut self, dir: tempfile::TempDir) {
        let card = Yubikey::at(&self.machine, 0, dir, &[self.flow.card, &["--absent"]].concat());
        self.flow.touch(&card);
        card.insert();
        self.card = Some(card);
    }

    /// What must hold after a run that something happened to, at the `nth` APDU.
    #[track_caller]
    pub fn judge(&self, nth: usize, output: &Output, classes: &[Class]) {
        let (log, after) = (self.card().log(), self.state());
        let code = output.code.unwrap_or_else(|| panic!("it was killed: {output}"));
        if code != 0 {
            let error = &output.json()["keys"]["vault"]["error"];
            let class = Class::ALL.into_iter().find(|class| error["class"] == class.name());
            let class = class.unwrap_or_else(|| panic!("no class: {output}"));
            assert!(classes.contains(&class), "an error of class {}: {output}", class.name());
            assert_eq!(i32::from(class.exit_code()), code, "{output}");
            for part in ["tried", "found", "advice"] {
                assert!(error[part].as_str().is_some_and(|text| text.len() > 5), "{output}");
            }
        }
        self.spent_nothing(&log, output);
        let key = after.key();
        if self.begin.key() != Value::Null {
            assert_eq!(key, self.begin.key(), "the key in the slot is another one: {output}");
        }
        let is_before = after.published == self.begin.published;
        if let Some(end) = &self.end {
            assert!(is_before && code != 0 || after.published == *end, "published: {output}");
        } else {
            assert_eq!(is_before, code != 0, "published: {output}");
        }
        if after == self.begin {
            return;
        }
        self.card().tell("faults clear");
        let again = self.next_run(nth, output);
        let last = self.state();
        if key != Value::Null {
            assert_eq!(last.key(), key, "a second key was generated: {output}{again}");
        }
        if let Some(end) = &self.end {
            assert_eq!(last.published, *end, "{output}{again}");
        } else if code == 0 {
            assert_eq!(last.published, after.published, "{output}{again}");
            assert_eq!(again.result("vault"), "verified", "{output}{again}");
        }
        // One that was answered for the card made no key.
        let is_at = |ins| self.apdus.get(nth - 1).is_some_and(|apdu| apdu.ins == ins);
        let generated = self.card().log().into_iter().filter(Apdu::generates);
        let generated = generated.filter(|apdu| apdu.status == "9000").count();
        assert!(generated <= 1 + usize::from(is_at(0x47)), "{output}{again}");
    }

    /// The PIN was right, so no try is spent; and one that was not accepted is not presented again.
    #[track_caller]
    fn spent_nothing(&self, log: &[Apdu], output: &Output) {
        assert_eq!(self.card().tries(), 3, "a try was spent: {output}");
        let refused = |apdu: &&Apdu| apdu.verifies() && apdu.status != "9000";
        assert!(log.iter().filter(refused).count() <= 1, "presented again: {log:?}{output}");
    }

    /// The next run, which nothing happens to. It may refuse only a PIN that the card, so it said,
    /// rejected; and when that is forgotten it must do.
    #[track_caller]
    fn next_run(&self, nth: usize, output: &Output) -> Output {
        let again = self.machine.apply();
        if again.code == Some(0) {
            return again;
        }
        let about_the_pin = self.apdus.get(nth - 1).is_some_and(|apdu| apdu.ins == 0x20);
        assert!(about_the_pin && again.code == Some(14), "the next run: {output}{again}");
        // It says itself how.
        let (_, card) = again.stderr.split_once("pin forget --card ").unwrap();
        let card = card.split('`').next().unwrap();
        self.machine.run(&["pin", "forget", "--card", card]).exits(0);
        let last = self.machine.apply();
        assert_eq!(last.code, Some(0), "after the PIN was forgotten: {output}{again}{last}");
        last
    }
}

impl Sent {
    /// `7 00 87 11 9d in=71 7c45… out=38 sw=9000`.
    fn parse(line: &str) -> Self {
        let words: Vec<_> = line.split(' ').collect();
        let answer = words.iter().find_map(|word| word.strip_prefix("out="));
        Self {
            ins: u8::from_str_radix(words[2], 16).unwrap(),
            answer: answer.map_or(0, |length| length.parse().unwrap()),
        }
    }
}

impl State {
    fn of(machine: &Machine, card: &Yubikey) -> Self {
        let files = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap());
        let profiles = files.map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap_or_default())
        });
        Self {
            card: fs::read_to_string(card.dir().join("card.json")).unwrap(),
            profiles: profiles.collect(),
            published: machine.published().into_iter().collect(),
        }
    }

    /// The private key in the slot; null where there is none.
    fn key(&self) -> Value {
        let card: Value = serde_json::from_str(&self.card).unwrap();
        card["slots"][SLOT]["private_key"].clone()
    }
}

fn empty(file: &Path) {
    fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
}

/// Copies what is in a directory into another one, with owners, modes and links.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

/// As `ykman piv access change-management-key --protect` makes it.
pub fn protect(machine: &Machine, card: &Yubikey) {
    let output = machine
        .pcscd
        .command("ykman")
        .args(["--reader", &Pcscd::reader_name(0), "piv", "access", "change-management-key"])
        .args(["--generate", "--protect", "--force", "--management-key", FACTORY])
        .args(["--pin", Yubikey::PIN])
        .output()
        .expect("apt-get install yubikey-manager");
    assert!(output.status.success(), "{output:?}");
    let memory = card.memory();
    let key = memory["management_key"]["key"].as_str().unwrap();
    machine.keep_secret("the management key", &base16ct::lower::decode_vec(key).unwrap());
}
