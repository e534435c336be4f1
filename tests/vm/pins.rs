//! A PIN that is encrypted for the machine, and what becomes of a boot when it can't be decrypted.

use serde_json::{Value, json};

use crate::support::{
    Card, Consumer, Container, Switched,
    agent::Agent,
    code::with_code,
    cryptkey::{self, PIN, PROFILE, RELOAD, SECRET, UNIT},
    leak::Secrets,
    switch,
};

/// In a home, as any place will do.
const ENCRYPTED: &str = "/root/credentials/vault.pin";
const SOCKET: &str = "cryptkey-vault-pin.socket";
/// What the program says, and which units have the reason.
const COULD_NOT: &str = "systemd could not decrypt it";
const PIN_UNITS: &str = "cryptkey-*-pin*";
const SERVICE: &str = "cryptkey-vault-pin@.service";

/// The key, whose secret restic needs; and what else its configuration says.
fn with(more: Value) -> Value {
    let secret = json!({ "use": "backups", "format": "hex", "owner": "restic",
                         "requiredBy": ["restic.service"] });
    let pin = json!({ "credential": ENCRYPTED });
    let mut key = json!({ "pin": pin, "secrets": { "restic": secret } });
    key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key
}

/// A machine that is on, has its key enrolled, and has the PIN nowhere but encrypted.
fn enrolled() -> (Container, Consumer, Card) {
    let mut machine = Container::new();
    let restic = Consumer::declared(&machine, "restic", 2001);
    let made = cryptkey::vault(with(json!({})), &restic.declaration(SECRET));
    cryptkey::install_all(&machine, &made);
    std::fs::remove_file(machine.path(PIN)).unwrap();
    let card = Card::inside(&machine, &[]);
    machine.boot();
    // Before there is any.
    machine.says(UNIT, &["/cryptkey-vault.service/pin: it is empty", COULD_NOT]);
    machine.says(PIN_UNITS, &[ENCRYPTED, "No such file or directory"]);
    encrypt(&machine);
    machine.systemctl(&["start", &restic.unit()]).exits(0);
    machine.says(UNIT, &["vault: enrolled"]);
    (machine, restic, card)
}

/// With the key that the machine's disk has.
fn encrypt(machine: &Container) {
    let command = "mkdir -p -m 0700 ${1%/*}; \
                   printf %s \"$0\" | systemd-creds encrypt --with-key=host --name=pin - $1";
    machine.run(&["sh", "-ec", command, Card::PIN, ENCRYPTED]).exits(0);
}

/// As if it were encrypted for another machine.
fn break_it(machine: &Container) {
    let mut sealed = machine.read(ENCRYPTED);
    let middle = sealed.len() / 2;
    sealed[middle] = if sealed[middle] == b'A' { b'B' } else { b'A' };
    machine.write(ENCRYPTED, 0o600, sealed);
}

#[test]
fn without_another_way_in_the_unit_says_what_is_wrong() {
    let (mut machine, restic, card) = enrolled();
    let soft = cryptkey::vault(with(json!({ "softFail": true })), &restic.declaration(SECRET));
    cryptkey::configure_all(&machine, &soft);
    break_it(&machine);
    machine.reboot();
    machine.expect("multi-user.target", "active");
    machine.expect(UNIT, "failed");
    machine.expect(&restic.unit(), "inactive");
    assert_eq!(machine.show(UNIT, "ExecMainStatus"), "14");
    machine.says(UNIT, &[COULD_NOT, "`journalctl -b -u 'cryptkey-*-pin*'` says why"]);
    // What it says to look at has the reason.
    machine.says(PIN_UNITS, &["Decryption failed", "status=1/FAILURE"]);
    assert_eq!(card.tries(), 3);
    // Only the key's unit is what failed.
    let failed = machine.systemctl(&["--failed", "--plain", "--no-legend"]).stdout;
    assert!(failed.starts_with(UNIT) && failed.lines().count() == 1, "{failed}");

    encrypt(&machine);
    machine.systemctl(&["start", &restic.unit()]).exits(0);
    assert_eq!(restic.read(&machine), cryptkey::expected(&machine, &card));
}

#[test]
fn the_code_is_asked_for_where_the_pin_cant_be_decrypted() {
    let (mut machine, restic, card) = enrolled();
    let expected = cryptkey::expected(&machine, &card);
    let (profile, code) = with_code(&machine.read(PROFILE), &card.private_key("9d"));
    machine.write(PROFILE, 0o600, profile);
    break_it(&machine);
    machine.power_off();

    machine.turn_on();
    let person = Agent::answer_at(&machine.path("/"), "cryptkey:vault", &code);
    assert_eq!(person.question()["Message"], "Key vault, recovery code recovery-1:");
    machine.booted();
    for unit in [UNIT, "cryptkey.target", &restic.unit()] {
        machine.expect(unit, "active");
    }
    machine.says(UNIT, &[COULD_NOT, "Going on with what else opens the key"]);
    assert_eq!(restic.read(&machine), expected);

    // In a reload as well; and one after the PIN is encrypted again asks nothing.
    let person = Agent::answer_at(&machine.path("/"), "cryptkey:vault", &code);
    machine.systemctl(&["reload", UNIT]).exits(0);
    person.question();
    encrypt(&machine);
    let bystander = Agent::answer_at(&machine.path("/"), "cryptkey:vault", "nobody");
    machine.systemctl(&["reload", UNIT]).exits(0);
    assert!(bystander.asked().is_none());
    machine.says(RELOAD, &["vault: verified, unchanged"]);
    assert_eq!(card.tries(), 3);
}

/// The socket comes with the reload that needs it, and goes with the key's need of it.
#[test]
fn a_switch_to_an_encrypted_pin_and_back() {
    let mut machine = Container::new();
    machine.user("restic", 2001);
    let mut nixos = cryptkey::install(&machine, json!({}));
    let card = Card::inside(&machine, &[]);
    machine.boot();
    encrypt(&machine);
    std::fs::remove_file(machine.path(PIN)).unwrap();
    let encrypted = cryptkey::vault(json!({ "pin": { "credential": ENCRYPTED } }), "");
    let done = switch(&machine, &mut nixos, encrypted);
    assert_eq!(done, Switched { reloaded: [UNIT.to_owned()].into(), ..Switched::default() });
    // It is the same PIN, which the card accepted last.
    machine.says(RELOAD, &["vault: unchanged, not verified"]);
    machine.systemctl(&["restart", UNIT]).exits(0);
    machine.says(UNIT, &["present the PIN", "vault: verified"]);

    machine.write(PIN, 0o600, Card::PIN);
    std::fs::remove_file(machine.path(ENCRYPTED)).unwrap();
    let done = switch(&machine, &mut nixos, cryptkey::vault(json!({}), ""));
    assert_eq!(
        (Switched::of(&done.stopped), Switched::of(&done.reloaded)),
        (vec![SOCKET], vec![UNIT])
    );
    assert!(done.failed.is_empty() && card.tries() == 3, "{done:?}");
}

/// As a TPM that does not answer: the boot goes on.
#[test]
fn a_decryption_that_hangs_is_given_up() {
    let (mut machine, restic, card) = enrolled();
    let limit = machine.show("cryptkey-vault-pin@x.service", "TimeoutStartUSec");
    assert_eq!(limit, "1min");
    let hangs = "[Service]\nExecStart=\nExecStart=sleep infinity\nTimeoutStartSec=1\n";
    machine.write(&format!("/etc/systemd/system/{SERVICE}.d/hangs.conf"), 0o644, hangs);
    machine.reboot();
    machine.expect("multi-user.target", "active");
    machine.expect(UNIT, "failed");
    machine.expect(&restic.unit(), "inactive");
    machine.says(UNIT, &[COULD_NOT]);
    machine.says(PIN_UNITS, &["start operation timed out"]);
    assert_eq!(card.tries(), 3);
}

#[test]
fn nobody_but_root_gets_it_and_it_does_not_stay() {
    let (machine, _restic, card) = enrolled();
    machine.user("alice", 2002);
    assert_eq!(machine.mode_and_owner("/run/cryptkey-pin"), (0o700, 0));
    let listens = machine.show(SOCKET, "Listen");
    let path = listens.split(' ').next().unwrap();
    assert_eq!(machine.mode_and_owner(path), (0o600, 0));
    let load = format!("--property=LoadCredential=pin:{path}");
    let mine = ["systemd-run", "--quiet", "--pipe", "--wait", &load, "systemd-creds", "cat", "pin"];
    assert_eq!(machine.run(&mine).exits(0).stdout, Card::PIN, "root could ask the TPM, too");
    let connect = "IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"$!\\n\"";
    let connect = ["perl", "-MIO::Socket::UNIX", "-e", connect, path];
    machine.run(&connect).exits(0);
    let refused = machine.run_as("alice", &connect);
    assert!(refused.code != Some(0) && refused.stderr.contains("Permission denied"), "{refused}");

    // What gave it has none any more; the key's unit has it until it stops.
    let held = machine.run(&["ls", "/run/credentials"]).exits(0).stdout;
    let held: Vec<_> = held.lines().filter(|unit| unit.starts_with("cryptkey")).collect();
    assert_eq!(held, [UNIT]);
    let mut secrets = Secrets::default();
    secrets.add("the PIN", Card::PIN.as_bytes());
    assert_eq!(secrets.found_in(machine.whole_journal().as_bytes()), None);

    // It is shut in, too.
    let unit = SERVICE.replace('@', "@x");
    let exposed =
        machine.run(&["systemd-analyze", "security", "--threshold=15", "--no-pager", &unit]);
    println!("{exposed}");
    exposed.exits(0);

    // Other units of ours are root's, and do not see it.
    let shut_in =
        ["systemd-run", "--quiet", "--pipe", "--wait", "--property=TemporaryFileSystem=/run:ro"];
    // For them there is nothing there.
    machine.run(&[&shut_in[..], &connect].concat()).exits(2);
    for unit in [UNIT, RELOAD, SERVICE] {
        let text = machine.systemctl(&["cat", unit]).exits(0).stdout;
        assert!(text.contains("TemporaryFileSystem=/run:ro"), "{unit}");
    }

    // While the key's unit is down, there is nothing to connect to.
    machine.systemctl(&["stop", UNIT]).exits(0);
    assert!(!machine.exists(path));
    machine.systemctl(&["start", UNIT]).exits(0);
    machine.says(UNIT, &["vault: verified"]);
    assert_eq!(card.tries(), 3);
}
