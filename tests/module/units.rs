//! systemd accepts the units that configurations yield.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    configurations::{all, machine},
    nix::Machine,
};

/// `systemd-analyze verify` has nothing to say of them, among this machine's own units.
#[test]
fn systemd_accepts_the_units() {
    for name in all() {
        let machine = machine(&name);
        let root = installed(&machine);
        // These are Debian's here, if it has them.
        let is_debians = |unit: &str| unit.starts_with("pcscd.") || unit == "postgresql.service";
        let units = machine.units.keys().filter(|unit| !is_debians(unit));
        let units: Vec<_> = units.collect();
        assert_eq!(verify(root.path(), &units), "", "{name}");
    }
}

/// So the test above would notice.
#[test]
fn systemd_does_not_accept_a_typo() {
    let mut machine = (*machine("minimal")).clone();
    let unit = machine.units.get_mut("cryptkey-vault.service").unwrap();
    unit.text = unit.text.replace("ProtectClock", "ProtectClok");
    let root = installed(&machine);
    let said = verify(root.path(), &["cryptkey-vault.service"]);
    assert!(said.contains("Unknown key 'ProtectClok' in section [Service]"), "{said}");
}

/// A root with the units, and with the commands that they run.
fn installed(machine: &Machine) -> TempDir {
    let root = TempDir::new().unwrap();
    let packaged = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(packaged.parent().unwrap()).unwrap();
    let copied = Command::new("cp").args(["-a", "/lib/systemd/system"]).arg(packaged).status();
    assert!(copied.unwrap().success());
    machine.install(root.path(), |_| true);
    for unit in machine.units.values() {
        let commands = unit.text.lines().filter(|line| line.starts_with("Exec"));
        for (_, command) in commands.filter_map(|line| line.split_once('=')) {
            let Some(program) = command.trim_start_matches('+').split(' ').next() else { continue };
            if let Some(path) = program.strip_prefix('/') {
                executable(&root.path().join(path));
            }
        }
    }
    root
}

fn executable(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What systemd says of units; nothing if they are good.
fn verify(root: &Path, units: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg("--root").arg(root);
    let output = command.args(units).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}
