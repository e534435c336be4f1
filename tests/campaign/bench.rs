//! A machine on which the flows run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    flows::{Flow, OLD, Set, USES},
    support::{
        Client, Machine, Systemd, TestCard, Yubikey, machine::merge, published::tree, shared,
        terminal::add_code,
    },
};

/// The serial of the other card, where a flow has two.
const OTHER: &str = "90210002";

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
    /// The other one, where a flow has two.
    pub other: Option<Yubikey>,
    slot: usize,
    pin: &'static str,
    /// What the spec says of the key besides.
    pub extra: Value,
    /// By the text of the profile.
    known: HashMap<String, Value>,
    /// A profile with a recovery code.
    with_code: Option<String>,
    /// What damaged files were like.
    aside: Vec<(PathBuf, String)>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(TempDir::new().unwrap())
    }

    /// With the card whose state is in `dir`.
    pub fn with(dir: TempDir) -> Self {
        let machine = Machine::new(2);
        let card = Yubikey::again(&machine, 0, dir);
        Self {
            machine,
            card,
            other: None,
            slot: 0,
            pin: Yubikey::PIN,
            extra: json!({}),
            known: HashMap::new(),
            with_code: None,
            aside: Vec::new(),
        }
    }

    pub fn slot(&self) -> &'static str {
        SLOTS[self.slot]
    }

    /// Every card, the one whose key a run opens first at the front.
    pub fn cards(&self) -> impl Iterator<Item = &Yubikey> {
        self.other.iter().chain([&self.card])
    }

    /// How often a PIN was presented to any card.
    pub fn presented(&self) -> usize {
        self.cards().map(TestCard::presented).sum()
    }

    /// A machine that has never run anything, with an empty slot.
    pub fn start_over(&mut self) {
        if self.card.generated() > 0 {
            self.slot += 1;
        }
        if self.slot == SLOTS.len() {
            let systemd = self.machine.systemd.take();
            *self = Self::new();
            self.machine.systemd = systemd;
        }
        self.empty_disk();
    }

    /// A profile that a recovery code opens, too, the same each time, and nothing else.
    pub fn with_code(&mut self) {
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

    /// Has each secret read by a unit, which systemd is told of.
    pub fn with_readers(&mut self) {
        self.machine.systemd = Some(Systemd::new());
    }

    /// The secrets whose readers systemd was told of since this was asked last, as they are
    /// published.
    pub fn told(&self) -> BTreeSet<String> {
        let systemd = self.machine.systemd.as_ref();
        let orders = systemd.map(Systemd::told).unwrap_or_default();
        let units = orders.iter().flat_map(|order| order.split_whitespace());
        let secrets = units.filter_map(|unit| unit.strip_suffix(".service"));
        secrets.map(|secret| format!("vault/{secret}")).collect()
    }

    /// Nothing is remembered of earlier runs.
    pub fn empty_disk(&self) {
        // What stands of a lost profile keeps a new one from being made.
        self.empty_ram();
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
    pub fn declare(&self, set: Set) {
        self.declare_with(set, self.pin);
    }

    pub fn declare_with(&self, set: Set, pin: &str) {
        let has_readers = self.machine.systemd.is_some();
        let secret = |(name, usage): &(&str, &str)| {
            let mut secret = json!({ "use": usage, "format": "hex" });
            if has_readers {
                secret["restartUnits"] = json!([format!("{name}.service")]);
            }
            ((*name).to_owned(), secret)
        };
        let secrets: serde_json::Map<_, _> = set.iter().map(secret).collect();
        let pin = self.machine.secret_file("pin", pin);
        let mut key = json!({ "slot": self.slot(), "secrets": secrets, "pin": pin });
        merge(&mut key, self.extra.clone());
        self.machine.vault(&self.card, key);
    }

    /// Writes a spec that has the key in the slot destroyed.
    pub fn overwriting(&mut self, abandon: bool) {
        let fingerprint = self.card.fingerprint(self.slot());
        let overwrite = json!({ "fingerprint": fingerprint, "abandonProfile": abandon });
        let before = self.extra.clone();
        merge(&mut self.extra, json!({ "mode": "overwrite", "overwrite": overwrite }));
        self.declare(OLD);
        self.extra = before;
    }

    /// A machine with this set published from a profile that another card opens, too.
    pub fn shared(&mut self, set: Set) {
        self.empty_disk();
        if self.other.is_none() {
            // The card has a key.
            self.enrolled(set);
            self.empty_disk();
            let args = ["--serial", OTHER, "--slot-key", &format!("{}=generate", self.slot())];
            self.other = Some(Yubikey::with(&self.machine, 1, &args));
        }
        shared::save(&self.machine, &[&self.card, self.other.as_ref().unwrap()], self.slot());
        self.enrolled(set);
    }

    /// Damages a file, until it is mended.
    pub fn damage(&mut self, path: PathBuf, how: impl FnOnce(&str) -> String) {
        let text = fs::read_to_string(&path).unwrap();
        let damaged = how(&text);
        assert_ne!(damaged, text, "{}", path.display());
        fs::write(&path, damaged).unwrap();
        self.aside.push((path, text));
        self.card.tell("reload");
    }

    /// Gives the slot a key that is no secret, until it is mended.
    pub fn change_key(&mut self) {
        let slot = self.slot();
        self.damage(self.card.dir().join("card.json"), |text| {
            let secret = p256::SecretKey::from_slice(&[0x11; 32]).unwrap();
            let hex = base16ct::lower::encode_string;
            let public = hex(&secret.public_key().to_sec1_bytes());
            let keys = json!({ "private_key": hex(&secret.to_bytes()), "public_key": public });
            let mut memory: Value = serde_json::from_str(text).unwrap();
            merge(&mut memory["slots"][slot], keys);
            memory.to_string()
        });
    }

    /// Undoes all damage.
    pub fn mend(&mut self) {
        for (path, text) in self.aside.drain(..) {
            fs::write(path, text).unwrap();
        }
        self.card.tell("reload");
    }

    /// Gives the card another PIN (CHANGE REFERENCE DATA).
    pub fn change_pin(&mut self) {
        let new = if self.pin == Yubikey::PIN { "918273" } else { Yubikey::PIN };
        let hex = |pin: &str| base16ct::lower::encode_string(pin.as_bytes());
        let mut client = Client::connected(&self.machine, &self.card.reader(), "shared");
        client.select();
        let apdu = format!("0024008010{}ffff{}ffff", hex(self.pin), hex(new));
        assert_eq!(client.status(&apdu), "9000");
        self.pin = new;
    }

    /// A machine with this set published, and nothing left of earlier runs.
    pub fn enrolled(&mut self, set: Set) {
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

    /// All secrets of the profile, as `tests/expected.py` computes them from the card's private key.
    pub fn secrets(&mut self) -> &Value {
        let profile = self.profile().unwrap();
        let keys: Vec<_> = self.cards().map(|card| card.private_key(self.slot())).collect();
        let machine = &self.machine;
        self.known.entry(profile).or_insert_with(|| {
            let uses = USES.iter().flat_map(|usage| ["--use", usage]);
            let args: Vec<_> = uses.chain(["--everything"]).collect();
            let json = machine.expected_as("vault", &keys, &args);
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
        // Which readers a run looks at hangs on where it begins.
        lines.retain(|line| !line.contains("/.locks/card@"));
        lines.sort();
        lines
    }
}

/// The path without the digits of a generation or of a card's GUID, and without a date.
pub fn without_chance(path: &Path) -> String {
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
