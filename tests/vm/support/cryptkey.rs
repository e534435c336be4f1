//! A NixOS machine with a key called `vault`: what the module yields for it, put into a machine.

use std::{
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

/// Installs the key, with the card's PIN and a factory management key; `key` goes on top of its
/// options. Its secret `restic` is owned by the user `restic`, who must be there.
pub fn install(container: &Container, key: Value) {
    let machine = evaluate(&vault(key), "");
    container.write(PIN, 0o600, format!("{}\n", Card::PIN));
    assert_eq!(PROGRAM, machine.package("nixos-cryptkey") + "/bin/nixos-cryptkey");
    container.link(&format!("{}/bin", machine.package("systemd")), "/usr/bin");
    put(container, &machine, true);
}

/// Has the machine, which is off, boot with other options next.
pub fn configure(container: &Container, key: Value) {
    put(container, &evaluate(&vault(key), ""), false);
}

/// The same while it is on, up to where NixOS would reload and restart what changed.
pub fn switch(container: &Container, key: Value) {
    configure(container, key);
    container.systemctl(&["daemon-reload"]).exits(0);
}

/// What a service that is listed in the secret's `requiredBy` gets on top.
pub fn required_by(container: &Container, consumer: &str) {
    let secret = json!({ "requiredBy": [consumer], "owner": "restic" });
    let machine = evaluate(&vault(json!({ "secrets": { "restic": secret } })), "");
    let unit = &machine.units[consumer];
    let path = format!("/etc/systemd/system/{consumer}.d/cryptkey.conf");
    container.write(&path, 0o644, &unit.text);
}

/// The options of the key.
fn vault(key: Value) -> Value {
    let mut vault = json!({
        "pin": { "file": PIN },
        "managementKey": { "factoryDefault": true },
        "secrets": { "restic": { "use": "backups", "format": "hex", "owner": "restic" } },
    });
    vault.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
    json!({ "vault": vault })
}

/// Evaluates a machine with these keys; `more` is what else its configuration says.
pub fn evaluate(keys: &Value, more: &str) -> nix::Machine {
    let keys = keys.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    let configuration = format!(
        "{{ config, lib, pkgs, ... }}: {{
            security.cryptkey = {{
                enable = true;
                verbosity = 2;
                keys = builtins.fromJSON \"{keys}\";
            }};
            {more}
        }}"
    );
    let machine = nix::evaluate_expression(&configuration).unwrap();
    assert!(machine.assertions.is_empty(), "{:?}", machine.assertions);
    machine
}

/// Puts what NixOS has made into a machine. Debian's own pcscd and polkit stay as they are.
pub fn put(container: &Container, machine: &nix::Machine, with_links: bool) {
    let staged = TempDir::new().unwrap();
    let is_debians = |unit: &str| unit.starts_with("pcscd.") || unit.starts_with("polkit.");
    machine.install(staged.path(), |unit| !is_debians(unit));
    for path in files_below(staged.path()) {
        let name = format!("/{}", path.strip_prefix(staged.path()).unwrap().display());
        let about = path.symlink_metadata().unwrap();
        if !about.is_symlink() {
            let mode = about.permissions().mode() & 0o777;
            container.write(&name, mode, fs::read(&path).unwrap());
        } else if with_links {
            container.link(&name, fs::read_link(&path).unwrap().to_str().unwrap());
        }
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let below = |entry: fs::DirEntry| {
        let is_dir = entry.file_type().unwrap().is_dir();
        if is_dir { files_below(&entry.path()) } else { vec![entry.path()] }
    };
    entries.flat_map(below).collect()
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
