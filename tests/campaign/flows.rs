//! What the campaign disturbs: the flows, from where each begins to what must stand at its end.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{Machine, TestCard, Yubikey, published::tree};

/// What a flow is.
pub struct Flow {
    pub name: &'static str,
    /// Brings the machine to where it begins.
    pub prepare: fn(&mut Bench),
    /// The command.
    pub args: &'static [&'static str],
    /// How often the card makes a key, from where it begins to the end of the next run.
    pub generates: usize,
}


pub const ENROLL: Flow = Flow {
    name: "enroll",
    prepare: |bench| {
        bench.start_over();
        bench.declare(OLD);
    },
    args: &["apply"],
    generates: 1,
};

pub const VERIFY: Flow = Flow {
    name: "verify",
    prepare: |bench| bench.enrolled(OLD),
    args: &["apply"],
    generates: 0,
};

/// A boot.
pub const PUBLISH: Flow = Flow {
    name: "publish",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.empty_ram();
    },
    args: &["apply"],
    generates: 0,
};

pub const CHANGE: Flow = Flow {
    name: "publish over another set",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.declare(NEW);
    },
    args: &["apply"],
    generates: 0,
};

pub const SCRUB: Flow = Flow {
    name: "scrub",
    prepare: |bench| bench.enrolled(OLD),
    args: &["scrub"],
    generates: 0,
};

/// A set of secrets: name and use.
type Set = &'static [(&'static str, &'static str)];

/// A set, and one that keeps a secret, adds one, changes one and removes one.
const OLD: Set = &[("a", "one"), ("b", "two"), ("c", "three")];
const NEW: Set = &[("a", "one"), ("b", "five"), ("d", "four")];

/// Every use of a set.
pub const USES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// The slots whose keys are alike in all that counts here.
const SLOTS: [&str; 21] = [
    "9d", "82", "83", "84", "85", "86", "87", "88", "89", "8a", "8b", "8c", "8d", "8e", "8f", "90",
    "91", "92", "93", "94", "95",
];

/// Name and content of what is published.
pub type Published = BTreeMap<String, Vec<u8>>;

/// A machine on which a flow runs again and again. What has to begin with an empty slot takes
/// another slot each time, and another card once all are taken.
pub struct Bench {
    pub machine: Machine,
    pub card: Yubikey,
    slot: usize,
    /// By the text of the profile.
    known: HashMap<String, Value>,
}

impl Bench {
    pub fn new() -> Self {
        let machine = Machine::new(1);
        let card = Yubikey::new(&machine, 0);
        Self { machine, card, slot: SLOTS.len(), known: HashMap::new() }
    }

    pub fn slot(&self) -> &'static str {
        SLOTS[self.slot]
    }

    /// A machine that has never run anything, with an empty slot.
    pub fn start_over(&mut self) {
        self.slot += 1;
        if self.slot >= SLOTS.len() {
            if self.card.generated() > 0 {
                *self = Self::new();
            }
            self.slot = 0;
        }
        for path in tree(&self.machine.state).iter().skip(1) {
            fs::remove_file(path).unwrap();
        }
        self.empty_ram();
    }

    /// A boot.
    pub fn empty_ram(&self) {
        if self.machine.runtime.exists() {
            fs::remove_dir_all(&self.machine.runtime).unwrap();
        }
    }

    /// Writes the spec.
    fn declare(&self, set: Set) {
        let secret = |(name, usage): &(&str, &str)| {
            ((*name).to_owned(), json!({ "use": usage, "format": "hex" }))
        };
        let secrets: serde_json::Map<_, _> = set.iter().map(secret).collect();
        self.machine.vault(&self.card, json!({ "slot": self.slot(), "secrets": secrets }));
    }

    /// A machine with this set published, and nothing left of earlier runs.
    fn enrolled(&mut self, set: Set) {
        if self.slot >= SLOTS.len() {
            self.start_over();
        }
        self.declare(set);
        self.machine.run(&["apply"]).exits(0);
    }

    /// The command of a flow.
    pub fn command(&self, flow: &Flow) -> Command {
        self.machine.command(flow.args)
    }

    /// What is published.
    pub fn published(&self) -> Published {
        self.machine.published().into_iter().collect()
    }

    /// The profile, if there is one.
    pub fn profile(&self) -> Option<String> {
        fs::read_to_string(self.machine.profile("vault")).ok()
    }

    /// All secrets of the profile, as `tests/expected.py` computes them from the card's private key.
    pub fn secrets(&mut self) -> &Value {
        let profile = self.profile().unwrap();
        let (machine, card, slot) = (&self.machine, &self.card, self.slot());
        self.known.entry(profile).or_insert_with(|| {
            let uses = USES.iter().flat_map(|usage| ["--use", usage]);
            let args: Vec<_> = uses.chain(["--everything"]).collect();
            let json = machine.expected_as("vault", &[card.private_key(slot)], &args);
            serde_json::from_slice(&json).unwrap()
        })
    }

    /// What the spec declares, computed from the profile.
    pub fn expected(&mut self) -> Published {
        let spec = fs::read_to_string(self.machine.spec_file()).unwrap();
        let spec: Value = serde_json::from_str(&spec).unwrap();
        let outputs = &self.secrets()["outputs"];
        let declared = spec["keys"]["vault"]["secrets"].as_object().unwrap();
        let content = |secret: &Value| outputs[secret["use"].as_str().unwrap()].as_str().unwrap();
        let file = |(name, secret)| (format!("vault/{name}"), content(secret).into());
        declared.iter().map(file).collect()
    }

    /// Every path in the state directory and in RAM with its kind, owner and mode, and where links
    /// lead; what chance chose in names left out.
    pub fn shape(&self) -> Vec<String> {
        let paths = [tree(&self.machine.state), tree_if_there(&self.machine.runtime)].concat();
        let line = |path: &std::path::PathBuf| {
            let about = fs::symlink_metadata(path).unwrap();
            let target = fs::read_link(path).unwrap_or_default();
            let (name, target) = (without_chance(path), without_chance(&target));
            format!("{name} {:o} {}:{} {target}", about.mode(), about.uid(), about.gid())
        };
        let mut lines: Vec<_> = paths.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn tree_if_there(path: &Path) -> Vec<std::path::PathBuf> {
    if path.exists() { tree(path) } else { Vec::new() }
}

/// The path without the digits of a generation.
fn without_chance(path: &Path) -> String {
    let is_chance = |word: &str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let part = |name: &str| match name.rsplit_once('.') {
        Some((key, digits)) if is_chance(digits) => format!("{key}.*"),
        _ => name.to_owned(),
    };
    path.to_str().unwrap().split('/').map(part).collect::<Vec<_>>().join("/")
}
