//! The profiles of the vectors, with the cards that open them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use super::{Machine, Yubikey, agent::Agent};

/// A profile of the vectors, and what is known of it.
pub struct Vector {
    pub file: PathBuf,
    known: Value,
}

impl Vector {
    /// Puts the profile into a file of the machine, as its owner's alone.
    pub fn copy(machine: &Machine, name: &str) -> Self {
        Self::copy_to(machine.dir().join(format!("{name}.toml")), name)
    }

    /// The same into this file.
    pub fn copy_to(file: PathBuf, name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/profiles");
        fs::copy(dir.join(format!("{name}.toml")), &file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let known = fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
        Self { file, known: serde_json::from_str(&known).unwrap() }
    }

    /// The file, as an argument.
    pub fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    pub fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// Its card with this number, in the reader of that number.
    pub fn card(&self, machine: &Machine, index: usize) -> Yubikey {
        let card = &self.known["cards"][index];
        let text = |field: &str| card[field].as_str().unwrap();
        let key = format!("{}={}", text("slot"), text("private_key"));
        Yubikey::with(machine, index, &["--serial", text("serial"), "--slot-key", &key])
    }

    /// All of its cards.
    pub fn cards(&self, machine: &Machine) -> Vec<Yubikey> {
        let count = self.known["cards"].as_array().unwrap().len();
        (0..count).map(|index| self.card(machine, index)).collect()
    }

    /// Somebody who types its recovery code when it is asked for.
    pub fn code(&self, machine: &Machine, key: &str) -> Agent {
        let code = self.known["recovery"].as_str().unwrap();
        machine.keep_secret("the recovery code", code.as_bytes());
        Agent::answer(&format!("cryptkey:{key}"), code)
    }

    /// Gives a provider another type, as cryptkey could have written it: the integrity holds, which
    /// `tests/expected.py` computes.
    pub fn reseal_with_type(&self, place: usize, name: &str) {
        const SCRIPT: &str = "\
import sys, tomllib
sys.path.insert(0, 'tests')
import expected
file, place, name, *keys = sys.argv[1:]
text = open(file).read()
profile = tomllib.loads(text)
master = expected.open_profile(profile, [int(key, 16) for key in keys])
provider, before = profile['providers'][int(place)], profile['integrity']
text = text.replace('\"%s\"' % provider['type'], '\"%s\"' % name)
provider['type'] = name
open(file, 'w').write(text.replace(before, expected.integrity(profile, master)))
";
        let cards = self.known["cards"].as_array().unwrap().iter();
        let done = Command::new("/usr/bin/python3")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["-B", "-c", SCRIPT, self.path(), &place.to_string(), name])
            .args(cards.map(|card| card["private_key"].as_str().unwrap()))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    pub fn output(&self, usage: &str) -> &str {
        self.known["outputs"][usage].as_str().unwrap()
    }

    /// Writes a spec of one key, which publishes all of its outputs.
    pub fn spec(&self, machine: &Machine, name: &str, card: &Yubikey, extra: Value) {
        let outputs = self.known["outputs"].as_object().unwrap();
        let secrets: Map<_, _> = outputs
            .keys()
            .map(|usage| (usage.clone(), json!({ "use": usage, "format": "hex" })))
            .collect();
        let mut key = machine.key(card, json!({ "secrets": secrets, "cardTimeoutSec": 1 }));
        super::machine::merge(&mut key, extra);
        machine.spec(json!({ name: key }));
    }

    /// That all of its outputs are published, as they should be.
    #[track_caller]
    pub fn is_published(&self, machine: &Machine, key: &str) {
        for (usage, expected) in self.known["outputs"].as_object().unwrap() {
            let published = machine.secret(key, usage);
            assert_eq!(published, expected.as_str().unwrap().as_bytes(), "{usage}");
        }
    }
}
