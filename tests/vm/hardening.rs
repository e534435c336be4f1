//! What the units may do is little, and enough for all that they have to do.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Container,
    agent::Agent,
    cryptkey::{self, PIN, PROFILE, RELOAD, SECRET, UNIT},
};

/// A profile that a card or a recovery code opens, and what the code and the outputs are.
const SEALED: &str = include_str!("../vectors/profiles/piv-piv-recovery-any.toml");
const OPENED: &str = include_str!("../vectors/profiles/piv-piv-recovery-any.json");

/// The management key of a new card, as its owner would keep it.
const MANAGEMENT_KEY: &str = "010203040506070801020304050607080102030405060708\n";

#[test]
fn the_units_are_exposed_little() {
    let mut machine = Container::new();
    cryptkey::install(&machine, json!({}));
    machine.user("restic", 2001);
    let _card = Card::inside(&machine, &[]);
    machine.boot();
    for unit in [UNIT, RELOAD, "polkit-cryptkey.service"] {
        let all =
            machine.run(&["systemd-analyze", "security", "--threshold=15", "--no-pager", unit]);
        println!("{all}");
        all.exits(0);
    }
}

#[test]
fn a_management_key_in_a_home_is_found_and_nothing_else_is() {
    for home in ["/root", "/home/alice"] {
        let mut machine = Container::new();
        let file = format!("{home}/management-key");
        machine.write(&file, 0o600, MANAGEMENT_KEY);
        let restic = Consumer::of_file(&machine, "restic", 2001, SECRET);
        let secrets = json!({
            "restic": { "use": "backups", "format": "hex", "owner": "restic" },
            "far": { "owner": 3_000_000_000_u32, "group": 3_000_000_001_u32, "mode": "0440" },
        });
        cryptkey::install(
            &machine,
            json!({ "managementKey": { "file": file }, "secrets": secrets }),
        );
        cryptkey::required_by(&machine, &restic.unit());
        let card = Card::inside(&machine, &[]);
        machine.boot();
        machine.says(UNIT, &["generate a P-256 key in the slot", "vault: enrolled"]);
        assert_eq!(restic.read(&machine), cryptkey::expected(&machine, &card));
        let far = machine.mode_and_owner("/run/cryptkey/vault/far");
        assert_eq!(far, (0o440, 3_000_000_000));

        // The key was needed once.
        fs::remove_file(machine.path(&file)).unwrap();
        machine.systemctl(&["restart", UNIT]).exits(0);
        machine.says(UNIT, &["vault: scrubbed", "vault: verified, added far, restic"]);
        cryptkey::forget_marks(&machine);
        machine.systemctl(&["reload", UNIT]).exits(0);
        // Secrets of other owners can be compared.
        machine.says(RELOAD, &["vault: verified, unchanged"]);
    }
}

#[test]
fn a_touch_is_waited_for_while_shut_in() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    cryptkey::install(&machine, json!({ "touchPolicy": "always", "touchTimeoutSec": 600 }));
    let card = Card::inside(&machine, &["--touch-timeout-ms", "600000"]);
    machine.turn_on();
    card.tell("wait touch");
    machine.expect(UNIT, "activating");
    assert!(machine.show(UNIT, "StatusText").contains("touch"));

    // Meanwhile it can be seen that it is shut in: some directives do nothing, and only say so,
    // where the kernel does not support them.
    let pid = machine.show(UNIT, "MainPID");
    let status = machine.run(&["cat", &format!("/proc/{pid}/status")]).stdout;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    // CAP_CHOWN is 0, CAP_DAC_READ_SEARCH is 2.
    assert_eq!(field("CapEff:"), format!("{:016x}", 0b101));
    assert_eq!(field("CapBnd:"), field("CapEff:"));
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1", "2"));
    for namespace in ["net", "ipc", "mnt"] {
        let of = |pid: &str| machine.run(&["readlink", &format!("/proc/{pid}/ns/{namespace}")]);
        assert_ne!(of(&pid).exits(0).stdout, of("1").exits(0).stdout, "{namespace}");
    }
    let mounts = machine.run(&["cat", &format!("/proc/{pid}/mountinfo")]).stdout;
    assert_eq!(writable(&mounts), WRITABLE);
    card.tell("touch give");
    machine.booted();
    machine.expect(UNIT, "active");
}

/// What a unit may write to: its own temporary files, and what its work is.
const WRITABLE: [&str; 5] =
    ["/run/cryptkey", "/run/systemd/ask-password", "/tmp", "/var/lib/cryptkey", "/var/tmp"];

/// The mount points that can be written to, in a `mountinfo` (proc(5)), but for those of the kernel and
/// of the container's manager.
fn writable(mounts: &str) -> Vec<&str> {
    let mut writable = BTreeSet::new();
    for mount in mounts.lines() {
        let fields: Vec<_> = mount.split(' ').collect();
        let (at, options) = (fields[4], fields[5]);
        if ["/dev", "/proc", "/sys", "/run/host"].iter().any(|other| at.starts_with(other)) {
            continue;
        }
        // A later one hides the one before.
        if options.split(',').any(|option| option == "rw") {
            writable.insert(at);
        } else {
            writable.remove(at);
        }
    }
    writable.into_iter().collect()
}

#[test]
fn a_person_is_asked_and_answers() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    cryptkey::install(&machine, json!({ "pin": { "ask": true } }));
    fs::remove_file(machine.path(PIN)).unwrap();
    let card = Card::inside(&machine, &[]);
    machine.turn_on();
    let root = machine.path("/");
    let id = "cryptkey:vault";
    let agent = Agent::answer_at(&root, id, Card::PIN);
    let question = agent.question();
    assert!(question["Message"].contains("90210001"), "{question:?}");
    machine.booted();
    machine.expect(UNIT, "active");
    assert_eq!(machine.read(SECRET), cryptkey::expected(&machine, &card));
    // In a reload as well.
    let _again = Agent::answer_at(&root, id, Card::PIN);
    machine.systemctl(&["reload", UNIT]).exits(0);
}

/// No PIN is asked for, and the card is away: the recovery code opens the key.
#[test]
fn a_person_is_asked_for_the_recovery_code() {
    let opened: Value = serde_json::from_str(OPENED).unwrap();
    let code = opened["recovery"].as_str().unwrap();
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let key = json!({ "cardTimeoutSec": 1, "askTimeoutSec": 600, "softFail": true });
    cryptkey::install(&machine, key);
    machine.write(PROFILE, 0o600, SEALED);
    machine.turn_on();
    let root = machine.path("/");
    let id = "cryptkey:vault";
    let agent = Agent::answer_at(&root, id, code);
    let message = &agent.question()["Message"];
    assert!(message.starts_with("Key vault, recovery code"), "{message}");
    machine.booted();
    let secret = machine.read(SECRET);
    assert_eq!(String::from_utf8(secret).unwrap(), opened["outputs"]["backups"].as_str().unwrap());

    let _again = Agent::answer_at(&root, id, code);
    machine.systemctl(&["reload", UNIT]).exits(0);
    machine.says(RELOAD, &["vault: verified, unchanged"]);
}

/// Nobody answers: one question, and the boot goes on.
#[test]
fn nobody_is_asked_twice() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    cryptkey::install(
        &machine,
        json!({ "cardTimeoutSec": 0, "askTimeoutSec": 1, "softFail": true }),
    );
    machine.write(PROFILE, 0o600, SEALED);
    machine.boot();
    machine.expect(UNIT, "active");
    let journal = machine.journal(UNIT);
    assert_eq!(
        journal.matches("asking for recovery code recovery-1, for 1 s").count(),
        1,
        "{journal}"
    );
    assert!(journal.contains("vault: skipped") && !machine.exists(SECRET), "{journal}");
}

#[test]
fn memory_is_locked_where_the_machine_can_lift_the_limit() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    cryptkey::install(&machine, json!({}));
    let _card = Card::inside(&machine, &[]);
    machine.boot();
    assert_eq!(machine.show(UNIT, "LimitMEMLOCK"), "infinity");
    // CAP_SYS_RESOURCE, which some hosts keep even from root, lifts it.
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let can_lift = u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 24 != 0;
    let locked = machine.journal(UNIT).contains("memory: Locked");
    assert_eq!(locked, can_lift, "{}", machine.journal(UNIT));
}

/// What a shell with exactly the unit's settings tries, as root. `out` is in the unit's own directory.
const BREAK_OUT: &str = r#"
exec >/run/cryptkey/tried 2>&1
try() { if "$@" </dev/null; then echo "OUT: $*"; fi; }
start() { try timeout 60 systemd-run "$@" touch /etc/started; }
start --quiet; start --quiet --user
for bus in unix:path=/run/dbus/system_bus_socket unix:path=/var/run/dbus/system_bus_socket \
    unix:path=/run/systemd/private unix:path=/proc/1/root/run/dbus/system_bus_socket \
    unix:abstract=/run/dbus/system_bus_socket; do
    DBUS_SYSTEM_BUS_ADDRESS=$bus start --quiet
    try timeout 60 busctl --address="$bus" list
done
for socket in $(cat /etc/sockets); do
    case $socket in
    # pcscd has the card; to the others it tells what becomes of it, and journald what it says.
    /run/pcscd/*|/run/systemd/notify|/run/systemd/private) ;;
    *) try test -e "$socket"; try test -e "/proc/1/root$socket" ;;
    esac
done
try timeout 60 varlinkctl call /run/systemd/userdb/io.systemd.DynamicUser io.systemd.Manager.Describe '{}'
try udevadm control --ping --timeout=1
for file in /etc/written /var/lib/written /var/log/written /run/written /run/systemd/system/written \
    /run/systemd/transient/written /dev/shm/written /dev/written /sys/fs/cgroup/written \
    /root/written /nix/written /usr/written /opt/written; do
    try touch "$file"
done
try sh -c 'echo 1 >/sys/fs/cgroup/cgroup.procs'
try sh -c 'echo x >/proc/sys/kernel/core_pattern'
try sh -c 'echo x >/proc/sysrq-trigger'
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    grep -qsx "$(cat /proc/self/cgroup)" "$process/cgroup" && continue
    try touch "$process/root/etc/written"
    try nsenter --target "$pid" --mount true
done
try mount -t tmpfs tmpfs /run
try mount -o remount,rw /
try unshare --mount true
try mknod /run/cryptkey/disk b 7 0
for hidden in /run/cryptkey-pin /run/user /nix/var /dev/pts /dev/shm; do
    try test -n "$(ls "$hidden")"
done
try perl -e 'exit(syscall(304, 3, 0, 0) < 0 && $!{EPERM})'
echo done
"#;

/// Whoever has taken over the program is root in the sandbox, with all that systemd lets root do.
#[test]
fn nothing_is_started_or_written_from_inside() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    cryptkey::install(
        &machine,
        json!({ "pin": { "ask": true }, "enroll": "never", "softFail": true }),
    );
    machine.write("/etc/break-out", 0o755, BREAK_OUT);
    machine.write("/nix/var/nix/daemon-socket/socket", 0o666, "");
    let shell = "[Service]\nExecStart=\nExecStart=/bin/sh /etc/break-out\n";
    for unit in [UNIT, RELOAD] {
        machine.write(&format!("/etc/systemd/system/{unit}.d/shell.conf"), 0o644, shell);
    }
    let _card = Card::inside(&machine, &[]);
    machine.write("/etc/sockets", 0o644, "");
    machine.boot();
    let list = "find /run /var /tmp /dev -xdev -type s -print 2>/dev/null; find /run /nix/var /dev -type s -o -type p; echo /nix/var/nix/daemon-socket/socket";
    let sockets = machine.run(&["sh", "-c", list]).stdout;
    println!("{sockets}");
    for known in ["/run/dbus/system_bus_socket", "/run/systemd/private", "/nix/var"] {
        assert!(sockets.contains(known), "{known}: {sockets}");
    }
    machine.write("/etc/sockets", 0o644, sockets);
    for tell in ["restart", "reload"] {
        fs::write(machine.path("/run/cryptkey/tried"), "").unwrap();
        machine.systemctl(&[tell, UNIT]).exits(0);
        let tried = String::from_utf8(machine.read("/run/cryptkey/tried")).unwrap();
        println!("{tried}");
        assert!(tried.ends_with("done\n"), "{tried}");
        let out: Vec<_> = tried.lines().filter(|line| line.starts_with("OUT")).collect();
        assert!(out.is_empty(), "{out:#?}");
    }
    let left = ["/etc/started", "/etc/written", "/dev/shm/written"];
    assert!(left.iter().all(|path| !machine.exists(path)));
}
