//! Outputs for people and their commands.

use std::{
    fs,
    process::{Output, Stdio},
};

use serde_json::json;

use crate::support::{Machine, Running, TestCard, terminal::Terminal, vectors::Vector};

/// A machine with the first card of a vector, whose outputs are published, and the second one in a reader.
fn machine() -> (Machine, Vector, Vec<crate::support::Yubikey>) {
    let machine = Machine::new(2);
    let known = Vector::copy_to(machine.profile("vault"), "piv-piv-recovery-any");
    let cards = known.cards(&machine);
    known.spec(&machine, "vault", &cards[0], json!({}));
    (machine, known, cards)
}

/// Runs `derive` with these arguments, and what comes after `--`. What it prints is a secret, and nothing
/// else may print one.
fn derive(machine: &Machine, args: &[&str], command: &[&str]) -> Output {
    let mut program = machine.command(&[&["derive", "--key", "vault"], args].concat());
    if !command.is_empty() {
        program.arg("--").args(command);
    }
    let output = program.stdin(Stdio::null()).output().unwrap();
    machine.no_secret_in("standard error", &output.stderr);
    output
}

#[test]
fn what_is_derived_is_what_is_published() {
    let (machine, known, _cards) = machine();
    machine.apply().exits(0);
    known.is_published(&machine, "vault");
    let backups = known.output("backups");
    let raw = base16ct::lower::decode_vec(backups).unwrap();
    for (args, expected) in [
        (&["--use", "backups"][..], raw.clone()),
        (&["--use", "backups", "--format", "hex"], backups.into()),
        (&["--use", "backups", "--format", "hex", "--newline"], format!("{backups}\n").into()),
        (&["--use", "disk", "--format", "hex"], known.output("disk").into()),
    ] {
        let output = derive(&machine, args, &[]);
        assert_eq!((output.status.code(), output.stdout), (Some(0), expected), "{args:?}");
        // A command gets the same on its standard input.
        let output = derive(&machine, args, &["sh", "-c", "cat; exit 7"]);
        assert_eq!(output.status.code(), Some(7));
        let printed = derive(&machine, args, &["cat"]).stdout;
        assert_eq!(output.stdout, printed);
    }
    let output = derive(&machine, &["--use", "backups", "--length", "8"], &[]);
    assert_eq!(output.stdout, raw[..8]);
    assert_eq!(machine.profiles(), ["vault.toml"]);
}

#[test]
fn a_command_is_neither_waited_for_with_the_lock_nor_misunderstood() {
    let (machine, _known, _cards) = machine();
    let derive = |command: &[&str]| derive(&machine, &["--use", "x"], command).status.code();
    // One that reads nothing, one that a signal ends, one that is not there.
    assert_eq!(derive(&["true"]), Some(0));
    assert_eq!(derive(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(derive(&["/nonexistent/command"]), Some(10));
    // While it runs, another run for the key comes to its end.
    let spec = machine.spec_file();
    let program = env!("CARGO_BIN_EXE_nixos-cryptkey");
    let script = format!("{program} apply --spec {} >&2", spec.display());
    assert_eq!(derive(&["sh", "-c", &script]), Some(0));
    assert_eq!(machine.published().len(), 3);
    // A failure to open is no code of the command's.
    fs::write(machine.profile("vault"), "damaged").unwrap();
    assert_eq!(derive(&["true"]), Some(17));
}

#[test]
fn raw_bytes_do_not_go_to_a_terminal() {
    let (machine, known, cards) = machine();
    // `script` gives it a terminal as its standard output.
    let at_terminal = |format: &str| {
        let command =
            machine.command(&["derive", "--key", "vault", "--use", "disk", "--format", format]);
        let mut words = vec![command.get_program().to_str().unwrap().to_owned()];
        words.extend(command.get_args().map(|arg| arg.to_str().unwrap().to_owned()));
        let mut of_shell = machine.pcscd.command("sh");
        of_shell.args(["-c", &format!("{} >/dev/tty", words.join(" "))]);
        Terminal::start(&of_shell).running_to_its_end()
    };
    let (output, shown) = at_terminal("raw");
    assert_eq!(output.code, Some(10), "{output}");
    assert!(output.stderr.contains("garble"), "{output}");
    assert!(!shown.contains(known.output("disk")));
    assert_eq!(cards[0].presented() + cards[1].presented(), 0);
    let (output, shown) = at_terminal("hex");
    assert_eq!(output.code, Some(0), "{output}");
    assert!(shown.contains(known.output("disk")), "{shown}");
}

/// A backup of another key, which neither the spec's id nor the state directory knows.
#[test]
fn an_old_profile_is_opened_in_place_of_the_key_s_own() {
    let (machine, known, cards) = machine();
    let old = machine.dir().join("old.toml");
    fs::rename(machine.profile("vault"), &old).unwrap();
    known.spec(&machine, "vault", &cards[0], json!({ "cards": [{ "serial": "10000001" }] }));
    let id = machine.apply().exits(0).json()["keys"]["vault"]["profileId"].clone();
    let new = machine.secret("vault", "disk");
    known.spec(&machine, "vault", &cards[0], json!({ "profileId": id }));
    let args = ["--use", "disk", "--format", "hex"];
    assert_eq!(derive(&machine, &args, &[]).stdout, new);
    let with_old = [&args[..], &["--profile", old.to_str().unwrap()]].concat();
    assert_eq!(derive(&machine, &with_old, &[]).stdout, known.output("disk").as_bytes());
    // Nor does a damaged one of the key's own get in the way.
    fs::write(machine.profile("vault"), "damaged").unwrap();
    assert_eq!(derive(&machine, &with_old, &[]).stdout, known.output("disk").as_bytes());
    assert_eq!(derive(&machine, &args, &[]).status.code(), Some(17));
}

/// Of version 1, too, and with no more of the card than apply wants.
#[test]
fn a_profile_of_cryptkey_opens() {
    let machine = Machine::new(2);
    let known = Vector::copy_to(machine.profile("vault"), "piv-piv-recovery");
    let cards = known.cards(&machine);
    known.spec(&machine, "vault", &cards[0], json!({}));
    let output = derive(&machine, &["--use", "disk", "--format", "hex"], &[]);
    assert_eq!(output.stdout, known.output("disk").as_bytes());
    for card in &cards {
        assert_eq!(card.log().iter().filter(|apdu| apdu.agrees()).count(), 1);
    }
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    let (machine, _known, _cards) = machine();
    for args in [
        &["--use", "x", "--format", "octal"][..],
        &["--use", "x", "--length", "0"],
        &["--use", "x", "--length", "1025"],
        &[],
    ] {
        assert_eq!(derive(&machine, args, &[]).status.code(), Some(2), "{args:?}");
    }
    let bad = Running::start(machine.command(&["derive", "--key", "none", "--use", "x"]));
    bad.output().exits(10).says(&["the spec has none of that name"]);
}
