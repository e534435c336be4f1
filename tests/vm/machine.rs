//! The test machines themselves.

use std::{fs, process::Command};

use crate::support::{Card, Container, container::PROGRAM};

#[test]
fn nothing_stays_of_a_machine() {
    let mut machine = Container::new();
    let card = Card::inside(&machine, &[]);
    machine.boot();
    let files = machine.disk().parent().unwrap().to_owned();
    let name = files.file_name().unwrap().to_str().unwrap().to_owned();
    // The card and the machine's processes are started with this name somewhere; or with its files.
    let traces = || {
        let processes = Command::new("ps").args(["-e", "-o", "args"]).output().unwrap();
        let processes = String::from_utf8_lossy(&processes.stdout).matches(&name).count();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap().matches(&name).count();
        let groups =
            Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().unwrap();
        (processes, mounts, groups.stdout.len(), files.exists())
    };
    let (processes, mounts, groups, exists) = traces();
    assert!(processes > 1 && mounts == 0 && groups > 0 && exists);
    // As if the test were killed: its end of the pipe is closed, and that is all.
    std::mem::forget(card);
    drop(machine);
    assert_eq!(traces(), (0, 0, 0, false));
}

#[test]
fn machines_share_nothing_but_the_root_that_none_changes() {
    let (mut one, mut other) = (Container::new(), Container::new());
    let cards = [Card::inside(&one, &[]), Card::inside(&other, &["--serial", "7"])];
    one.boot();
    other.boot();
    one.write("/etc/mark", 0o644, "one");
    one.write("/run/mark", 0o644, "one");
    assert!(!other.exists("/etc/mark") && !other.exists("/run/mark"));
    // Each has the same port for its card, in a network of its own.
    for (machine, card, serial) in [(&one, &cards[0], Card::SERIAL), (&other, &cards[1], "7")] {
        machine.systemctl(&["start", "pcscd.service"]).exits(0);
        card.tell("wait seen");
        let seen = machine.run(&[PROGRAM, "cards"]).exits(0).stdout;
        assert!(seen.contains(&format!("card {serial},")), "{seen}");
    }
    // What is written outlasts a reboot, and what is in RAM does not.
    one.reboot();
    assert!(one.exists("/etc/mark") && !one.exists("/run/mark"));
}

#[test]
fn polkit_sees_a_command_of_a_user_as_the_users() {
    let mut machine = Container::new();
    machine.user("alice", 2001);
    machine.boot();
    assert_eq!(machine.run_as("alice", &["id", "-un"]).exits(0).stdout, "alice\n");
    // Root may always, and a user only what a rule grants.
    machine.run(&[PROGRAM, "cards"]).exits(0);
    // pcscd closes the connection, which its library takes for a refusal, or for pcscd not being
    // there where it was still to be spoken to.
    let refused = machine.run_as("alice", &[PROGRAM, "cards"]);
    assert!(matches!(refused.code, Some(11 | 18)), "{refused}");
    machine.says("pcscd.service", &["(user: 2001) is NOT authorized for action: access_pcsc"]);
    let rule = "polkit.addRule(function(action, subject) { \
                if (subject.user == 'alice') return 'yes'; });";
    machine.write("/etc/polkit-1/rules.d/00-test.rules", 0o644, rule);
    machine.systemctl(&["restart", "polkit.service"]).exits(0);
    machine.run_as("alice", &[PROGRAM, "cards"]).exits(0);
}
