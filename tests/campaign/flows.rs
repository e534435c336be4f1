//! What the campaign disturbs: the flows, from where each begins to what must stand at its end.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use base64ct::{Base64Unpadded, Encoding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{
    Client, Machine, TestCard, Yubikey, machine::merge, published::tree, terminal::add_code,
};

/// What a flow is.
pub struct Flow {
    pub name: &'static str,
    /// Brings the machine to where it begins.
    pub prepare: fn(&mut Bench),
    /// The command.
    pub args: &'static [&'static str],
    /// How often the card makes a key, from where it begins to the end of the next run.
    pub generates: usize,
    /// Whether another profile takes the place of the one that is there.
    pub replaces: bool,
    /// The exit codes of an undisturbed run, and of one after it.
    pub codes: [i32; 2],
    /// The PIN's tries at the end, of three.
    pub tries: u64,
}

/// What most flows are like.
const QUIET: Flow = Flow {
    name: "",
    prepare: |_| {},
    args: &["apply"],
    generates: 0,
    replaces: false,
    codes: [0, 0],
    tries: 3,
};

pub const ENROLL: Flow = Flow {
    name: "enroll",
    prepare: |bench| {
        bench.start_over();
        bench.declare(OLD);
    },
    generates: 1,
    ..QUIET
};

pub const VERIFY: Flow = Flow { name: "verify", prepare: |bench| bench.enrolled(OLD), ..QUIET };

/// A boot.
pub const PUBLISH: Flow = Flow {
    name: "publish",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.empty_ram();
    },
    ..QUIET
};

pub const CHANGE: Flow = Flow {
    name: "publish over another set",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.declare(NEW);
    },
    ..QUIET
};

pub const SCRUB: Flow =
    Flow { name: "scrub", prepare: |bench| bench.enrolled(OLD), args: &["scrub"], ..QUIET };

/// The card and the file have a new PIN: it is recorded before it is presented.
pub const NEW_PIN: Flow = Flow {
    name: "a new PIN",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.change_pin();
        bench.declare(OLD);
    },
    ..QUIET
};

pub const WRONG_PIN: Flow = Flow {
    name: "a wrong PIN",
    prepare: |bench| {
        bench.declare(OLD);
        bench.machine.run(&["pin", "forget", "--card", Yubikey::SERIAL]).exits(0);
        // The first gives the card its tries back.
        bench.enrolled(OLD);
        bench.enrolled(OLD);
        bench.declare_with(OLD, WRONG);
    },
    // Rejected, and from then on not presented.
    codes: [15, 14],
    tries: 2,
    ..QUIET
};

/// A boot at which a person types the PIN; the last flow of its bench.
pub const TYPED_PIN: Flow = Flow {
    name: "a PIN that a person types",
    prepare: |bench| {
        bench.enrolled(OLD);
        bench.empty_ram();
        bench.extra["pin"] = json!({ "ask": true });
        bench.declare(OLD);
    },
    ..QUIET
};

/// The key in the slot, which nothing hangs on, is destroyed for a new one.
pub const OVERWRITE: Flow = Flow {
    name: "overwrite",
    prepare: |bench| {
        bench.empty_disk();
        bench.enrolled(OLD);
        bench.empty_disk();
        bench.empty_ram();
        bench.overwriting(false);
    },
    generates: 1,
    ..QUIET
};

/// The same where the profile hangs on the key, and is given up.
pub const ABANDON: Flow = Flow {
    name: "overwrite that gives a profile up",
    prepare: |bench| {
        bench.empty_disk();
        bench.enrolled(OLD);
        bench.overwriting(true);
    },
    generates: 1,
    replaces: true,
    ..QUIET
};

/// A recovery code is taken out of the profile.
pub const REMOVE: Flow = Flow {
    name: "provider remove",
    prepare: |bench| {
        bench.with_code();
        bench.enrolled(OLD);
    },
    args: &["provider", "remove", "--key", "vault", "recovery-1"],
    replaces: true,
    // The second finds none of that id.
    codes: [0, 10],
    ..QUIET
};

/// A PIN that the card does not have.
pub const WRONG: &str = "583920";

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
    pin: &'static str,
    /// What the spec says of the key besides.
    pub extra: Value,
    /// By the text of the profile.
    known: HashMap<String, Value>,
    /// A profile with a recovery code.
    with_code: Option<String>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(TempDir::new().unwrap())
    }

    /// With the card whose state is in `dir`.
    pub fn with(dir: TempDir) -> Self {
        let machine = Machine::new(1);
        let card = Yubikey::again(&machine, 0, dir);
        Self {
            extra: json!({}),
            machine,
            card,
            slot: 0,
            pin: Yubikey::PIN,
            known: HashMap::new(),
            with_code: None,
        }
    }

    pub fn slot(&self) -> &'static str {
        SLOTS[self.slot]
    }

    /// A machine that has never run anything, with an empty slot.
    pub fn start_over(&mut self) {
        if self.card.generated() > 0 {
            self.slot += 1;
        }
        if self.slot == SLOTS.len() {
            *self = Self::new();
        }
        self.empty_disk();
        self.empty_ram();
    }

    /// A profile that a recovery code opens, too, the same each time, and nothing else.
    fn with_code(&mut self) {
        if self.with_code.is_none() {
            self.enrolled(OLD);
            add_code(&self.machine, "vault", &[]).1.exits(0);
            self.with_code = self.profile();
        }
        self.empty_disk();
        let text = self.with_code.as_ref().unwrap();
        let file = self.machine.profile("vault");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }

    /// Nothing is remembered of earlier runs.
    fn empty_disk(&self) {
        for file in fs::read_dir(&self.machine.state).into_iter().flatten() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    /// A boot.
    pub fn empty_ram(&self) {
        if self.machine.runtime.exists() {
            fs::remove_dir_all(&self.machine.runtime).unwrap();
        }
    }

    /// Writes the spec.
    fn declare(&self, set: Set) {
        self.declare_with(set, self.pin);
    }

    fn declare_with(&self, set: Set, pin: &str) {
        let secret = |(name, usage): &(&str, &str)| {
            ((*name).to_owned(), json!({ "use": usage, "format": "hex" }))
        };
        let secrets: serde_json::Map<_, _> = set.iter().map(secret).collect();
        let pin = self.machine.secret_file("pin", pin);
        let mut key = json!({ "slot": self.slot(), "secrets": secrets, "pin": pin });
        merge(&mut key, self.extra.clone());
        self.machine.vault(&self.card, key);
    }

    /// Writes a spec that has the key in the slot destroyed.
    fn overwriting(&mut self, abandon: bool) {
        /// A `SubjectPublicKeyInfo` up to its point of P-256 (RFC 5480).
        const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let memory = self.card.memory();
        let public = memory["slots"][self.slot()]["public_key"].as_str().unwrap();
        let spki = base16ct::lower::decode_vec(format!("{SPKI}{public}")).unwrap();
        let fingerprint = Base64Unpadded::encode_string(&Sha256::digest(spki));
        let overwrite =
            json!({ "fingerprint": format!("SHA256:{fingerprint}"), "abandonProfile": abandon });
        let before = self.extra.clone();
        merge(&mut self.extra, json!({ "mode": "overwrite", "overwrite": overwrite }));
        self.declare(OLD);
        self.extra = before;
    }

    /// Gives the card another PIN (CHANGE REFERENCE DATA).
    fn change_pin(&mut self) {
        let new = if self.pin == Yubikey::PIN { "918273" } else { Yubikey::PIN };
        let hex = |pin: &str| base16ct::lower::encode_string(pin.as_bytes());
        let mut client = Client::connected(&self.machine, &self.card.reader(), "shared");
        client.select();
        let apdu = format!("0024008010{}ffff{}ffff", hex(self.pin), hex(new));
        assert_eq!(client.status(&apdu), "9000");
        self.pin = new;
    }

    /// A machine with this set published, and nothing left of earlier runs.
    fn enrolled(&mut self, set: Set) {
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

    /// The profiles that others took the place of.
    pub fn kept(&self) -> Vec<String> {
        let files = tree(&self.machine.state).into_iter();
        let kept = files.filter(|file| without_chance(file).ends_with("vault.toml.*"));
        kept.map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    /// The profile, if there is one.
    pub fn profile(&self) -> Option<String> {
        fs::read_to_string(self.machine.profile("vault")).ok()
    }

    /// The public id of the profile, as hex.
    pub fn profile_id(&self) -> String {
        let status = self.machine.run(&["status", "--json"]).exits(0).json();
        status["keys"]["vault"]["profile"]["id"].as_str().unwrap().into()
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
        let below = |root: &Path| {
            let line = |path: &PathBuf| {
                let about = fs::symlink_metadata(path).unwrap();
                let name = without_chance(path.strip_prefix(root).unwrap());
                let target = without_chance(&fs::read_link(path).unwrap_or_default());
                let root = root.file_name().unwrap().display();
                let (mode, uid, gid) = (about.mode(), about.uid(), about.gid());
                format!("{root}/{name} {mode:o} {uid}:{gid} {target}")
            };
            let paths = if root.exists() { tree(root) } else { Vec::new() };
            paths.iter().map(line).collect::<Vec<_>>()
        };
        let mut lines = [below(&self.machine.state), below(&self.machine.runtime)].concat();
        lines.sort();
        lines
    }
}

/// The path without the digits of a generation or of a card's GUID, and without a date.
fn without_chance(path: &Path) -> String {
    let is_chance = |word: &str| {
        [16, 32].contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let part = |part: &str| {
        let word = part.trim_end_matches(['.', '-', '/']);
        if is_chance(word) { part.replace(word, "*") } else { part.to_owned() }
    };
    let path = path.to_str().unwrap();
    match path.split_once(".toml.2") {
        Some((undated, _)) => format!("{undated}.toml.*"),
        None => path.split_inclusive(['.', '-', '/']).map(part).collect(),
    }
}
