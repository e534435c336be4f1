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

use super::{Flow, flow::Hangs};
use crate::{
    bench::without_chance,
    support::{Machine, Output, TestCard, Yubikey, cards::Apdu, machine::merge, shared},
};

const FACTORY: &str = "010203040506070801020304050607080102030405060708";
const SLOT: &str = "9d";

/// A machine and a card at the beginning of a flow.
pub struct Bench {
    pub machine: Machine,
    /// The one of the key in question, and the other one, if there is one.
    cards: Vec<Yubikey>,
    pub flow: &'static Flow,
    begin: State,
    /// The APDUs of a run that nobody disturbs, with the lengths of their answers.
    pub apdus: Vec<Sent>,
    /// What such a run publishes where the key was enrolled before: an enrollment draws it.
    end: Option<Published>,
    /// The files of the state directory after it.
    files: Vec<String>,
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
    cards: Vec<String>,
    profiles: BTreeMap<String, Vec<u8>>,
    published: Published,
}

impl Bench {
    /// `timeout` is the spec's `cardTimeoutSec`.
    pub fn new(flow: &'static Flow, timeout: u32) -> Self {
        let args = flow.cards();
        let machine = Machine::new(args.len());
        let cards: Vec<_> = args
            .iter()
            .enumerate()
            .map(|(reader, args)| Yubikey::with(&machine, reader, args))
            .collect();
        let card = &cards[0];
        flow.touch(card);
        if flow.protected {
            protect(&machine, card);
        }
        if let Some(enrolled) = flow.enrolled {
            machine.vault(card, enrolled());
            machine.apply().exits(0);
        }
        if let [card, other] = &cards[..] {
            shared::save(&machine, &[card, other], SLOT);
            machine.vault(card, json!({}));
            machine.apply().exits(0);
        }
        let mut key = json!({ "cardTimeoutSec": timeout });
        merge(&mut key, (flow.key)());
        if flow.attests {
            let roots = [card.root_file(&machine)];
            key["attestation"] = json!({ "policy": "required", "roots": roots });
        }
        if let Some(hangs) = flow.dooms {
            let abandon = hangs == Hangs::Profile;
            let fingerprint = card.fingerprint(SLOT);
            let overwrite = json!({ "fingerprint": fingerprint, "abandonProfile": abandon });
            merge(&mut key, json!({ "mode": "overwrite", "overwrite": overwrite }));
        }
        machine.vault(card, key);
        let begin = State::of(&machine, &cards);
        let (apdus, files) = (Vec::new(), Vec::new());
        let mut bench = Self { machine, cards, flow, begin, apdus, end: None, files };
        bench.keep("begin");
        let log = bench.card().dir().join("apdu.log");
        empty(&log);
        bench.machine.apply().exits(0);
        bench.apdus = fs::read_to_string(log).unwrap().lines().map(Sent::parse).collect();
        let end = bench.state();
        bench.files = end.files();
        bench.end = flow.keeps_secrets().then_some(end.published);
        bench
    }

    /// The card that something happens to.
    pub fn card(&self) -> &Yubikey {
        &self.cards[self.flow.faulted]
    }

    fn state(&self) -> State {
        State::of(&self.machine, &self.cards)
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
        let now = self.state();
        for (place, card) in self.cards.iter().enumerate() {
            assert_eq!(card.control("faults clear"), "ok");
            empty(&card.dir().join("apdu.log"));
            if now.cards[place] != self.begin.cards[place] {
                card.remember(&self.begin.cards[place]);
            }
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
        self.cards.remove(self.flow.faulted).kill()
    }

    /// The card comes back.
    pub fn again(&mut self, dir: tempfile::TempDir) {
        let place = self.flow.faulted;
        let args = [self.flow.cards()[place], &["--absent"]].concat();
        let card = Yubikey::at(&self.machine, place, dir, &args);
        self.flow.touch(&card);
        card.insert();
        self.cards.insert(place, card);
    }

    /// What must hold after a run that something happened to, at the `nth` APDU.
    #[track_caller]
    pub fn judge(&self, nth: usize, output: &Output, classes: &[Class]) {
        let after = self.state();
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
        self.spent_nothing(output);
        let (was, key, dooms) = (self.begin.key(0), after.key(0), self.flow.dooms.is_some());
        let is_free = key == was && (dooms || was == Value::Null);
        assert!(key == was || dooms || was == Value::Null, "another key in the slot: {output}");
        assert!(code != 0 || key != was || !dooms, "the key was not destroyed: {output}");
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
        assert!(is_free || last.key(0) == key, "a second key was generated: {output}{again}");
        assert!(!dooms || last.key(0) != was, "the key was not destroyed: {output}{again}");
        assert_eq!(last.key(1), self.begin.key(1), "the other card's key: {output}{again}");
        assert_eq!(last.files(), self.files, "{output}{again}");
        if let Some(end) = &self.end {
            assert_eq!(last.published, *end, "{output}{again}");
        } else if code == 0 {
            assert_eq!(last.published, after.published, "{output}{again}");
            assert_eq!(again.result("vault"), "verified", "{output}{again}");
        }
        // One that was answered for the card made no key.
        let is_at = |ins| self.apdus.get(nth - 1).is_some_and(|apdu| apdu.ins == ins);
        let log = self.cards[0].log().into_iter();
        let generated = log.filter(|apdu| apdu.generates() && apdu.status == "9000").count();
        assert!(generated <= 1 + usize::from(is_at(0x47)), "{output}{again}");
    }

    /// The PIN was right, so no try is spent; and one that was not accepted is not presented again.
    #[track_caller]
    fn spent_nothing(&self, output: &Output) {
        let refused = |apdu: &&Apdu| apdu.verifies() && apdu.status != "9000";
        for card in &self.cards {
            assert_eq!(card.tries(), 3, "a try was spent: {output}");
            let log = card.log();
            assert!(log.iter().filter(refused).count() <= 1, "presented again: {log:?}{output}");
        }
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
    fn of(machine: &Machine, cards: &[Yubikey]) -> Self {
        let files = fs::read_dir(&machine.state).unwrap().map(|entry| entry.unwrap());
        let profiles = files.map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap_or_default())
        });
        Self {
            cards: cards
                .iter()
                .map(|card| fs::read_to_string(card.dir().join("card.json")).unwrap())
                .collect(),
            profiles: profiles.collect(),
            published: machine.published().into_iter().collect(),
        }
    }

    /// The private key in the slot of a card; null where there is none.
    fn key(&self, card: usize) -> Value {
        let memory =
            self.cards.get(card).map(|memory| serde_json::from_str::<Value>(memory).unwrap());
        memory.map_or(Value::Null, |memory| memory["slots"][SLOT]["private_key"].clone())
    }

    /// The names in the state directory.
    fn files(&self) -> Vec<String> {
        self.profiles.keys().map(|name| without_chance(Path::new(name))).collect()
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
