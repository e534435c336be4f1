//! What the NixOS module yields for a key called `vault`, written by hand.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    Card, Container,
    container::{PROGRAM, tests_file},
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

/// Where its unit looks for the spec.
const SPEC: &str = "/nix/store/33333333333333333333333333333333-cryptkey-vault.json";
/// Where it looks for programs of systemd.
pub const SYSTEMD: &str = "/nix/store/22222222222222222222222222222222-systemd-257";

/// Installs the key, with the card's PIN and a factory management key; `key` goes on top of its
/// spec. Its secret `restic` is owned by the user `restic`, who must be there.
pub fn install(container: &Container, key: Value) {
    let key = spec(container, key);
    container.write(PIN, 0o600, format!("{}\n", Card::PIN));
    container.link(&format!("{SYSTEMD}/bin"), "/usr/bin");
    container.write(
        "/etc/tmpfiles.d/cryptkey.conf",
        0o644,
        "d /var/lib/cryptkey 0700 root root -\n",
    );
    for (name, text) in units(&key) {
        container.write(&format!("/etc/systemd/system/{name}"), 0o644, text);
    }
    container.required_by(UNIT, "cryptkey.target");
    container.wanted_by("cryptkey.target", "multi-user.target");
}

/// Writes the spec anew; what it says of the key.
pub fn spec(container: &Container, key: Value) -> Value {
    let mut vault = json!({
        "pin": { "credential": "pin" },
        "managementKey": { "factoryDefault": true },
        "secrets": { "restic": { "use": "backups", "format": "hex", "owner": "restic" } },
    });
    vault.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
    let spec = json!({ "version": 1, "keys": { "vault": vault } });
    container.write(SPEC, 0o444, spec.to_string());
    vault
}

/// The units by their names.
fn units(key: &Value) -> Vec<(&'static str, String)> {
    let pin = if key["pin"]["ask"] == true {
        "ReadWritePaths=/run/systemd/ask-password\n".into()
    } else {
        format!("LoadCredential=pin:{PIN}\n")
    };
    let management_key = key["managementKey"]["file"].as_str();
    let management_key =
        management_key.map_or(String::new(), |file| format!("BindReadOnlyPaths=-{file}\n"));
    let run = format!(
        "[Unit]\n\
         Wants=pcscd.socket\n\
         After=pcscd.socket dbus.service\n\
         RequiresMountsFor=/var/lib/cryptkey /run/cryptkey\n\
         [Service]\n\
         Type=oneshot\n\
         NotifyAccess=main\n\
         Environment=PATH={SYSTEMD}/bin\n\
         ExecStart={PROGRAM} apply -vv --spec {SPEC}\n\
         TimeoutStartSec=180\n\
         {pin}{management_key}{HARDENING}"
    );
    let key = format!(
        "{run}\
         RemainAfterExit=yes\n\
         ExecReload={SYSTEMD}/bin/systemctl start {RELOAD}\n\
         ExecStop={PROGRAM} scrub --spec {SPEC}\n\
         [Unit]\n\
         Before=cryptkey.target\n"
    );
    let mount = "[Mount]\nWhat=ramfs\nWhere=/run/cryptkey\nType=ramfs\n\
                 Options=mode=0751,nosuid,nodev,noexec\n";
    vec![
        (UNIT, key),
        (RELOAD, run),
        ("run-cryptkey.mount", mount.into()),
        ("cryptkey.target", "[Unit]\nDescription=Secrets from smart cards\n".into()),
    ]
}

/// The lines that shut a run in.
const HARDENING: &str = "\
AmbientCapabilities=
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_READ_SEARCH
DevicePolicy=closed
IPAddressDeny=any
KeyringMode=private
LimitMEMLOCK=infinity
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateIPC=yes
PrivateMounts=yes
PrivateNetwork=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=tmpfs
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
ReadWritePaths=/var/lib/cryptkey /run/cryptkey
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@aio @keyring @privileged @resources @setuid
SystemCallFilter=fchown
UMask=0077
";

/// What a service that is listed in the secret's `requiredBy` gets on top.
pub fn required_by(container: &Container, consumer: &str) {
    let text = format!("[Unit]\nRequires={UNIT}\nAfter={UNIT}\nConditionPathExists={SECRET}\n");
    container.write(&format!("/etc/systemd/system/{consumer}.d/cryptkey.conf"), 0o644, text);
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
