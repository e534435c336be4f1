//! Where secrets and profiles are: mounts, and links to secrets.

use serde_json::json;

use crate::support::{
    Card, Container, Switched,
    cryptkey::{self, PROFILE, SECRET, UNIT},
    switch,
};

/// The file system of secrets and its options, as the kernel has them.
fn runtime_mount(machine: &Container) -> (String, Vec<String>) {
    let mounts = String::from_utf8(machine.read("/proc/1/mounts")).unwrap();
    let mut found = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = found.find(|fields| fields[1] == "/run/cryptkey").unwrap();
    (mount[2].into(), mount[3].split(',').map(str::to_owned).collect())
}

#[test]
fn secrets_are_in_ram_of_their_own() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let mut nixos = cryptkey::install(&machine, json!({}));
    let _card = Card::inside(&machine, &[]);
    machine.boot();
    let (kind, options) = runtime_mount(&machine);
    assert_eq!(kind, "ramfs");
    for option in ["rw", "nosuid", "nodev", "noexec", "mode=751"] {
        assert!(options.iter().any(|o| o == option), "{option}: {options:?}");
    }
    assert_eq!(machine.mode_and_owner("/run/cryptkey"), (0o751, 0));
    let secret = machine.read(SECRET);

    // Another kind takes the secrets along, and they come again.
    let tmpfs = |size: &str| {
        let kind = format!("{{ type = \"tmpfs\"; size = \"{size}\"; }}");
        cryptkey::vault(json!({}), &format!("security.cryptkey.runtimeFileSystem = {kind};"))
    };
    let done = switch(&machine, &mut nixos, tmpfs("1m"));
    assert_eq!(Switched::of(&done.failed), [""; 0]);
    let (kind, options) = runtime_mount(&machine);
    assert_eq!(kind, "tmpfs");
    for option in ["rw", "nosuid", "nodev", "noexec", "mode=751", "noswap", "size=1024k"] {
        assert!(options.iter().any(|o| o == option), "{option}: {options:?}");
    }
    machine.expect(UNIT, "active");
    assert_eq!(machine.read(SECRET), secret);

    // Another size does not.
    let done = switch(&machine, &mut nixos, tmpfs("2m"));
    assert_eq!(Switched::of(&done.reloaded), ["run-cryptkey.mount"]);
    assert_eq!(Switched::of(&done.failed), [""; 0]);
    assert!(runtime_mount(&machine).1.contains(&"size=2048k".to_owned()));
    assert_eq!(machine.read(SECRET), secret);
}

#[test]
fn nothing_is_enrolled_below_a_mount_that_is_not_there() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    // A drive that is not plugged in would do as well, after the time that systemd waits for it.
    machine.write("/drive", 0o600, "cannot be mounted");
    machine.write("/persist/below", 0o600, "");
    let persist = "security.cryptkey.stateDir = \"/persist/cryptkey\";
        systemd.mounts = [ {
            where = \"/persist\"; what = \"/drive\"; type = \"none\"; options = \"bind\";
        } ];";
    cryptkey::install_all(&machine, &cryptkey::vault(json!({}), persist));
    let card = Card::inside(&machine, &[]);
    machine.boot();
    machine.expect("persist.mount", "failed");
    machine.expect(UNIT, "inactive");
    assert_eq!(machine.show(UNIT, "InactiveExitTimestampMonotonic"), "0", "it was not tried");
    assert_eq!(card.log(), "", "it was not even spoken to");

    machine.run(&["rm", "/drive"]).exits(0);
    machine.run(&["mkdir", "/drive"]).exits(0);
    machine.systemctl(&["start", UNIT]).exits(0);
    machine.says(UNIT, &["vault: enrolled"]);
    assert!(machine.exists("/drive/cryptkey/vault.toml"));
    assert_eq!(machine.mode_and_owner("/drive/cryptkey"), (0o700, 0));
    machine.systemctl(&["stop", UNIT, "persist.mount"]).exits(0);
    assert!(!machine.exists("/persist/cryptkey/vault.toml"));
    assert!(!machine.exists(PROFILE));
}

#[test]
fn a_secret_has_a_link_elsewhere_where_nothing_stands() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let secrets = json!({
        "restic": { "use": "backups", "format": "hex", "owner": "restic",
                    "path": "/var/lib/restic/password" },
        "taken": { "path": "/var/lib/app/key" },
    });
    cryptkey::install(&machine, json!({ "secrets": secrets }));
    machine.write("/var/lib/app/key", 0o600, "somebody's own");
    let card = Card::inside(&machine, &[]);
    machine.boot();
    let expected = cryptkey::expected(&machine, &card);
    for _ in 0..2 {
        machine.expect(UNIT, "active");
        let read = machine.run(&[
            "setpriv",
            "--reuid=restic",
            "--clear-groups",
            "cat",
            "/var/lib/restic/password",
        ]);
        assert_eq!(read.exits(0).stdout.as_bytes(), expected);
        assert_eq!(machine.read("/var/lib/app/key"), b"somebody's own");
        machine.reboot();
    }
}
