//! A NixOS machine with a key called `vault`: what the module yields for it, put into a machine.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Card, Container,
    container::{PROGRAM, tests_file},
    nix,
};

/// The unit of the key.
pub const UNIT: &str = "cryptkey-vault.service";
/// The unit that its reload starts.
pub const RELOAD: &str = "cryptkey-reload@vault.service";
/// Its profile.
pub const PROFILE: &str = "/var/lib/cryptkey/vault.toml";
/// Its published secret.
pub const SECRET: &str = "/run/cryptkey/vault/restic";
/// The file that its PIN credential is loaded from.
pub const PIN: &str = "/etc/cryptkey/vault.pin";
/// The polkit rule of those who may reach the card.
pub const RULE: &str = "/run/polkit-1/rules.d/05-nixos-cryptkey.rules";
/// Has the machine's own systemd be as patient as the tests are.
pub const PATIENT: (&str, &str) = (
    "/etc/systemd/system.conf.d/patient.conf",
    "[Manager]\nDefaultTimeoutStartSec=600\nDefaultTimeoutStopSec=600\nDefaultDeviceTimeoutSec=600\n",
);

/// Where units find the programs of systemd.
const SYSTEMD: &str = "/nix/store/z0031c189z34z10d9c202fa8d75f72d3-systemd/bin";

/// Installs the key, with the card's PIN and a factory management key; `key` goes on top of its
/// options. Its secret `restic` is owned by the user `restic`, who must be there.
pub fn install(container: &Container, key: Value) -> nix::Machine {
    let machine = vault(key, "");
    install_all(container, &machine);
    machine
}

/// Installs a machine that was evaluated, and the PIN.
pub fn install_all(container: &Container, machine: &nix::Machine) {
    put(container, machine);
    container.write(PIN, 0o600, format!("{}\n", Card::PIN));
    for (program, package) in [(PROGRAM, "nixos-cryptkey"), (SYSTEMD, "systemd")] {
        let path = program.split("/bin").next().unwrap();
        assert_eq!(nix::name_of(path), package);
        assert!(machine.packages().iter().all(|p| p == path || nix::name_of(p) != package));
    }
    container.link(SYSTEMD, "/usr/bin");
}

/// Puts all that NixOS has made for a machine into it.
pub fn put(container: &Container, machine: &nix::Machine) {
    for (name, node) in files(machine) {
        node.put(container, &name);
    }
}

/// Has the machine boot with other options of the key next, or reload them; nothing else changes.
pub fn configure(container: &Container, key: Value) {
    configure_all(container, &vault(key, ""));
}

/// The same for a machine that was evaluated.
pub fn configure_all(container: &Container, machine: &nix::Machine) {
    for (name, node) in files(machine) {
        if let Node::File(..) = node {
            node.put(container, &name);
        }
    }
}

/// What a service that is listed in the secret's `requiredBy` gets on top.
pub fn required_by(container: &Container, consumer: &str) {
    let secret = json!({ "requiredBy": [consumer], "owner": "restic" });
    let machine = vault(json!({ "secrets": { "restic": secret } }), "");
    let unit = &machine.units[consumer];
    let path = format!("/etc/systemd/system/{consumer}.d/cryptkey.conf");
    container.write(&path, 0o644, &unit.text);
}

/// A machine with the key; `key` goes on top of its options, and `more` is what else the
/// configuration says.
pub fn vault(key: Value, more: &str) -> nix::Machine {
    evaluate(&json!({ "vault": options(key) }), more)
}

/// The options of a key of the card, which is waited for until it is there; `key` goes on top.
pub fn options(key: Value) -> Value {
    let mut options = json!({
        "pin": { "file": PIN },
        "cardTimeoutSec": 600,
        "managementKey": { "factoryDefault": true },
        "secrets": { "restic": { "use": "backups", "format": "hex", "owner": "restic" } },
    });
    options.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
    options
}

/// Evaluates a machine with these keys; `more` is what else its configuration says.
pub fn evaluate(keys: &Value, more: &str) -> nix::Machine {
    let keys = keys.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    let configuration = format!(
        "{{ config, lib, pkgs, ... }}: {{
            imports = [ {{ {more} }} ];
            security.cryptkey = {{
                enable = lib.mkDefault true;
                verbosity = 2;
                keys = builtins.fromJSON \"{keys}\";
            }};
        }}"
    );
    let machine = nix::evaluate_expression(&configuration).unwrap();
    assert!(machine.assertions.is_empty(), "{:?}", machine.assertions);
    machine
}

/// A file or a symlink that NixOS makes.
#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    File(u32, Vec<u8>),
    Link(String),
}

impl Node {
    pub fn put(&self, container: &Container, path: &str) {
        match self {
            Self::File(mode, content) => container.write(path, *mode, content),
            Self::Link(target) => container.link(path, target),
        }
    }
}

/// What NixOS would put into a machine. Debian's own pcscd and polkit stay as they are.
pub fn files(machine: &nix::Machine) -> BTreeMap<String, Node> {
    let made = TempDir::new().unwrap();
    let is_debians = |unit: &str| unit.starts_with("pcscd.") || unit.starts_with("polkit.");
    machine.install(made.path(), |unit| !is_debians(unit));
    let node = |path: PathBuf| {
        let name = format!("/{}", path.strip_prefix(made.path()).unwrap().display());
        let kind = path.symlink_metadata().unwrap();
        let node = if kind.is_symlink() {
            Node::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
        } else {
            Node::File(kind.permissions().mode() & 0o777, fs::read(&path).unwrap())
        };
        (name, node)
    };
    files_below(made.path()).into_iter().map(node).collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let below = |entry: fs::DirEntry| {
        let is_dir = entry.file_type().unwrap().is_dir();
        if is_dir { files_below(&entry.path()) } else { vec![entry.path()] }
    };
    entries.flat_map(below).collect()
}

/// Has the next reload ask the card, whatever stands: nothing tells any more what that was made of.
pub fn forget_marks(container: &Container) {
    container.run(&["find", "/run/cryptkey/.generations", "-name", "*.mark", "-delete"]).exits(0);
}

/// The bytes of the secret, as `tests/expected.py` computes them from the card's private key.
#[track_caller]
pub fn expected(container: &Container, card: &Card) -> Vec<u8> {
    let output = Command::new("/usr/bin/python3")
        .arg(tests_file("expected.py"))
        .arg("--profile")
        .arg(container.path(PROFILE))
        .args(["--private-key", &card.private_key("9d"), "--use", "backups", "--format", "hex"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?} (apt-get install python3-cryptography)");
    output.stdout
}
